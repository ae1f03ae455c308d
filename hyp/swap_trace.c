/*
 * Which pages a guest used in the last round, as one JSON object behind "[trace] ", with the time
 * of the sample that it belongs to:
 *
 *     {"time_ns":n, "id":n, "runs":[[first, count], ...], "left_out":n}
 *
 * Pages are numbered from the start of RAM, holes not counted. One that was used often is there
 * once, and within a round the order is that of addresses: flags do not tell more. A console is
 * slow, so a round has a most of runs, and says how many pages are in none.
 */
#include "swap_internal.h"

#include "hyp/json.h"

#define RUNS_MAX 4096
/* What is looked at with the lock held: pages, and runs that are found. */
#define STEP_PAGES 32768
#define STEP_RUNS 64

struct run {
	u64 first, count;
};

static bool was_used(const struct swap *swap, u64 page)
{
	return swap_age_of(swap, page) == 0;
}

/* The first run in [page, end); a run of none at `end` if there is none. */
static struct run find_run(const struct swap *swap, u64 page, u64 end)
{
	struct run run = {0};

	while (page < end && !was_used(swap, page)) {
		page++;
	}
	run.first = page;
	while (page < end && was_used(swap, page)) {
		page++;
	}
	run.count = page - run.first;
	return run;
}

/* Returns how many runs there are from *page on, and moves *page behind what was looked at. */
static u32 take_runs(struct swap *swap, u64 *page, struct run *runs)
{
	u64 end = min_u64(*page + STEP_PAGES, swap->page_count);
	u32 count = 0;

	lock_take(&swap->lock);
	while (*page < end && count < STEP_RUNS && !swap->has_ended) {
		runs[count] = find_run(swap, *page, end);
		*page = runs[count].first + runs[count].count;
		count += runs[count].count > 0;
	}
	*page = swap->has_ended ? swap->page_count : *page;
	lock_drop(&swap->lock);
	return count;
}

static void put_run(struct json *json, struct run run)
{
	json_open(json, '[');
	json_value(json, run.first);
	json_value(json, run.count);
	json_close(json, ']');
}

/* Returns the pages that are left out. */
static u64 put_runs(struct json *json, struct swap *swap)
{
	u64 page = 0, left_out = 0, put = 0;

	while (page < swap->page_count) {
		struct run runs[STEP_RUNS];
		u32 count = take_runs(swap, &page, runs);

		for (u32 i = 0; i < count; i++) {
			if (put++ < RUNS_MAX) {
				put_run(json, runs[i]);
			} else {
				left_out += runs[i].count;
			}
		}
	}
	return left_out;
}

void swap_trace_print(struct swap *swap, u64 time_ns)
{
	struct json json = {.prefix = "[trace] "};
	u64 left_out;

	json_open(&json, '{');
	json_field(&json, "time_ns", time_ns);
	json_field(&json, "id", swap->vm->number);
	json_key(&json, "runs");
	json_open(&json, '[');
	left_out = put_runs(&json, swap);
	json_close(&json, ']');
	json_field(&json, "left_out", left_out);
	json_close(&json, '}');
	json_end(&json);
}
