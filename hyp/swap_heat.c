/*
 * Where in its RAM a guest used pages in the last round: a column of a heatmap, as one JSON object
 * behind "[heat] ", with the time of the sample that it belongs to:
 *
 *     {"time_ns":n, "id":n, "part_pages":n, "used":[n, ...]}
 *
 * A part is a block of 2 MiB; of large guests a share of RAM, so that a sample stays small.
 */
#include "swap_internal.h"

#include "hyp/json.h"

#define BLOCKS_MAX 512
#define SHARES 64

static u64 part_pages(const struct swap *swap)
{
	bool is_large = swap->page_count / SWAP_BLOCK_PAGES > BLOCKS_MAX;

	return is_large ? swap->page_count / SHARES : SWAP_BLOCK_PAGES;
}

static u64 used_in(struct swap *swap, u64 first, u64 count)
{
	u64 used = 0;

	lock_take(&swap->lock);
	for (u64 page = first; page < first + count && !swap->has_ended; page++) {
		used += swap_age_of(swap, page) == 0;
	}
	lock_drop(&swap->lock);
	return used;
}

void swap_heat_print(struct swap *swap, u64 time_ns)
{
	struct json json = {.prefix = "[heat] "};
	u64 part = part_pages(swap);

	json_open(&json, '{');
	json_field(&json, "time_ns", time_ns);
	json_field(&json, "id", swap->vm->number);
	json_field(&json, "part_pages", part);
	json_key(&json, "used");
	json_open(&json, '[');
	for (u64 page = 0; page < swap->page_count; page += part) {
		json_value(&json, used_in(swap, page, part));
	}
	json_close(&json, ']');
	json_close(&json, '}');
	json_end(&json);
}
