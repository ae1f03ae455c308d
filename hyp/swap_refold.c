/*
 * Blocks of 2 MiB that were split to tell their pages apart, and are used as a whole after all,
 * become blocks again: fewer walks for the guest, fewer entries to look at.
 *
 * Only what still lies in the block's own frames, every page of it, can be folded: nothing is
 * copied for it. And only while there is room: who is short of memory wants pages told apart.
 */
#include "swap_internal.h"

#include <arch/s2.h>

/* Blocks that are looked at in a tick. They are closed together: one round of invalidation. */
#define REFOLD_LOOKED 16
/* Pages of a block that must have been accessed since they were last asked. */
#define REFOLD_WARM (SWAP_BLOCK_PAGES / 2)

/* With the lock. RESIDENT pages in the policy's lists stay so: reclaim alone changes them. */
static bool is_all_resident(const struct swap *swap, u64 first)
{
	u64 page = first;

	while (page < first + SWAP_BLOCK_PAGES &&
	       load_acquire(&swap->pages[page].word) == SWAP_RESIDENT &&
	       swap_is_known(&swap->choice, page)) {
		page++;
	}
	return page == first + SWAP_BLOCK_PAGES;
}

static bool is_warm(struct swap *swap, u64 first)
{
	struct s2_harvest harvest = {.clear = false};

	return s2_harvest(&swap->vm->s2, swap_gpa(swap, first), BLOCK_SIZE, &harvest) == OK &&
	       harvest.young_count >= REFOLD_WARM;
}

/* The pages are no longer the policy's, but their block is. */
static void became_whole(struct swap *swap, u32 block)
{
	u32 first = block * SWAP_BLOCK_PAGES;

	for (u32 page = first; page < first + SWAP_BLOCK_PAGES; page++) {
		reclaim_forget(&swap->choice, page);
	}
	store_release(&swap->is_whole[block], 1);
	swap->blocks.policy->resident(&swap->blocks, block);
	atomic_add(&swap->totals.counters.thp_collapse_page, 1);
}

static bool is_folded(struct swap *swap, u64 first)
{
	struct s2_leaf leaf = s2_query(&swap->vm->s2, swap_gpa(swap, first));

	return leaf.kind == S2_LEAF && leaf.level == 1;
}

/* Those that the batch may have folded. */
static void settle(struct swap *swap, const u32 *folded, u32 count)
{
	for (u32 i = 0; i < count; i++) {
		if (is_folded(swap, folded[i] * SWAP_BLOCK_PAGES)) {
			became_whole(swap, folded[i]);
		}
	}
}

static bool fold(struct swap *swap, u32 block, struct s2_batch *batch)
{
	u64 first = (u64)block * SWAP_BLOCK_PAGES;
	struct s2_collapsed report = {0};

	return !swap->is_whole[block] && is_all_resident(swap, first) && is_warm(swap, first) &&
	       s2_collapse(&swap->vm->s2, swap_gpa(swap, first), BLOCK_SIZE, 1, batch, &report) ==
		       OK &&
	       report.count[S2_FOLDED] > 0;
}

/* From where it stopped on, round and round. */
static void refold(struct swap *swap)
{
	u32 blocks = (u32)(swap->page_count / SWAP_BLOCK_PAGES), folded[REFOLD_LOOKED], count = 0;
	struct s2_batch batch;

	swap_admit_newcomers(swap);
	s2_batch_open(&batch, &swap->vm->s2);
	for (u32 i = 0; i < min_u64(REFOLD_LOOKED, blocks); i++) {
		u32 block = swap->refold_next++ % blocks;

		if (fold(swap, block, &batch)) {
			folded[count++] = block;
		}
	}
	s2_batch_close(&batch);
	settle(swap, folded, count);
}

void swap_refold(struct swap *swap)
{
	if (swap->vm->small_pages || !swap_is_roomy(swap) || !lock_try(&swap->lock)) {
		return;
	}
	if (!swap->has_ended) {
		refold(swap);
	}
	lock_drop(&swap->lock);
}
