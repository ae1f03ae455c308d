#include "hyp/swap_age.h"

#include "swap_internal.h"

#include "hyp/bitmap.h"

#include <arch/cpu.h>

#include <string.h>

/* Pages of a step: 128 MiB. */
#define STEP_PAGES 32768

bool swap_age_init(struct swap *swap)
{
	struct swap_age *a = &swap->age;

	a->used = hyp_alloc(swap->page_count * sizeof(*a->used));
	a->for_policy = hyp_alloc(bitmap_bytes(swap->page_count));
	a->for_round = hyp_alloc(bitmap_bytes(swap->page_count));
	a->young = hyp_alloc(bitmap_bytes(STEP_PAGES));
	if (!a->used || !a->for_policy || !a->for_round || !a->young) {
		return false;
	}
	swap_age_forget(swap);
	return true;
}

void swap_age_free(struct swap *swap)
{
	void *tables[] = {swap->age.used, swap->age.for_policy, swap->age.for_round,
			  swap->age.young};

	for (u32 i = 0; i < ARRAY_COUNT(tables); i++) {
		hyp_free(tables[i]);
	}
}

void swap_age_forget(struct swap *swap)
{
	struct swap_age *a = &swap->age;

	memset(a->used, 0, swap->page_count * sizeof(*a->used));
	memset(a->for_policy, 0, bitmap_bytes(swap->page_count));
	memset(a->for_round, 0, bitmap_bytes(swap->page_count));
	memset(a->found, 0, sizeof(a->found));
}

/* ---- The policy's question ------------------------------------------------------------------- */

/* What the flags say, which are clear then. Where they do not tell, it counts as used. */
static bool ask_flags(struct swap *swap, u64 page, u64 count, unsigned level)
{
	struct s2_harvest harvest = {.clear = true, .finest = (u8)level};
	enum status status =
		s2_harvest(&swap->vm->s2, swap_gpa(swap, page), count * PAGE_SIZE, &harvest);

	return status != OK || harvest.young_count > 0;
}

bool swap_age_ask(struct swap *swap, u64 page, u64 count, unsigned level)
{
	struct swap_age *a = &swap->age;
	bool was_told = bitmap_any_set(a->for_policy, page, page + count);

	bitmap_clear_range(a->for_policy, page, page + count);
	if (!ask_flags(swap, page, count, level)) {
		return was_told;
	}
	bitmap_set_range(a->for_round, page, page + count);
	return true;
}

/* ---- A round --------------------------------------------------------------------------------- */

/* The first page of a block that is mapped as one speaks for all of it. */
static void spread_blocks(struct swap *swap, u64 first, u64 count)
{
	u64 *young = swap->age.young;

	for (u64 page = 0; page < count; page += SWAP_BLOCK_PAGES) {
		if (swap->is_whole[(first + page) / SWAP_BLOCK_PAGES] && bitmap_has(young, page)) {
			bitmap_set_range(young, page, page + SWAP_BLOCK_PAGES);
		}
	}
}

u64 swap_age_pages(const struct swap_age *age, u32 rounds_ago)
{
	return rounds_ago < age->rounds ? age->found[(age->rounds - rounds_ago) % SWAP_AGES] : 0;
}

u64 swap_age_of(const struct swap *swap, u64 page)
{
	u32 used = load_relaxed(&swap->age.used[page]);

	return used ? load_relaxed(&swap->age.rounds) - used : ~0ull;
}

/* It is no longer counted where it was. */
static void uncount(struct swap_age *a, u64 page)
{
	u32 used = a->used[page];

	if (used != 0 && a->rounds - used < SWAP_AGES) {
		a->found[used % SWAP_AGES]--;
	}
}

void swap_age_forget_page(struct swap *swap, u64 page)
{
	uncount(&swap->age, page);
	swap->age.used[page] = 0;
	bitmap_clear(swap->age.for_policy, page);
	bitmap_clear(swap->age.for_round, page);
}

/* Of 64 pages from `page` on those whose bits are set. */
static void note_used(struct swap_age *a, u64 page, u64 bits)
{
	for (; bits; bits &= bits - 1) {
		u64 one = page + (u64)__builtin_ctzll(bits);

		uncount(a, one);
		a->used[one] = a->rounds;
		a->found[a->rounds % SWAP_AGES]++;
	}
}

/* A multiple of blocks, in one piece of RAM. */
static void age_step(struct swap *swap, u64 first, u64 count)
{
	struct swap_age *a = &swap->age;
	struct s2_harvest harvest = {.clear = true, .bitmap = a->young};

	memset(a->young, 0, bitmap_bytes(count));
	s2_harvest(&swap->vm->s2, swap_gpa(swap, first), count * PAGE_SIZE, &harvest);
	spread_blocks(swap, first, count);
	for (u64 page = 0; page < count; page += 64) {
		u64 word = (first + page) / 64, young = a->young[page / 64];

		note_used(a, first + page, young | a->for_round[word]);
		a->for_policy[word] |= young;
		a->for_round[word] = 0;
	}
}

static void begin_round(struct swap *swap)
{
	struct swap_age *a = &swap->age;

	lock_take(&swap->lock);
	a->rounds++;
	a->found[a->rounds % SWAP_AGES] = 0; /* who was found there is too old to be counted */
	lock_drop(&swap->lock);
}

void swap_age_round(struct swap *swap)
{
	const struct vm_ram *ram = &swap->vm->ram;
	u64 since = arch_now(), count;

	begin_round(swap);
	for (u64 page = 0; page < swap->page_count; page += count) {
		u64 left = vm_ram_piece(ram, page * PAGE_SIZE).size / PAGE_SIZE;

		count = min_u64(left, STEP_PAGES);
		lock_take(&swap->lock);
		if (!swap->has_ended) {
			age_step(swap, page, count);
		}
		lock_drop(&swap->lock);
	}
	swap->age.ticks += arch_now() - since;
}
