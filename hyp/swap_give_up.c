/*
 * Pages that their guest gives up: records, charges and slots follow the table.
 *
 *     RESIDENT -> LEAVING          unmapped, the batch is open: faults come again
 *     SHARED   -> LEAVING          likewise; its frame may have other holders
 *     STORED   -> LEAVING_STORED   its slot is still there
 *     after the close              UNTOUCHED: uncharged, or its slot is free
 *
 * Of RESIDENT pages only those that the policy knows may leave: a page that became resident since
 * its newcomers were admitted hangs on their list, and stays. It was touched just now, so it is
 * hardly free. What a fault has (BUSY), and what is in flight, stays likewise.
 */
#include "swap_internal.h"

void swap_give_up_begin(struct swap_give_up *g, struct swap *swap)
{
	g->swap = swap;
	lock_take(&swap->lock);
	swap_admit_newcomers(swap);
	s2_batch_open(&g->batch, &swap->vm->s2);
}

/* ---- Taken, and unmapped --------------------------------------------------------------------- */

/* The word that a page has until the close; 0: it stays. */
static u64 leaving(const struct swap *swap, u64 page, u64 word)
{
	if (swap_state(word) == SWAP_STORED) {
		return word - SWAP_STORED + SWAP_LEAVING_STORED;
	}
	if (swap_state(word) == SWAP_SHARED) {
		return SWAP_LEAVING_SHARED;
	}
	return swap_state(word) == SWAP_RESIDENT && swap_is_known(&swap->choice, page)
		       ? SWAP_LEAVING
		       : 0;
}

static bool take_page(struct swap *swap, u64 page)
{
	u64 word = load_acquire(&swap->pages[page].word), next = leaving(swap, page, word);

	return next != 0 && cas_u64(&swap->pages[page].word, word, next);
}

static void put_back(struct swap *swap, u64 page)
{
	u64 word = load_relaxed(&swap->pages[page].word);

	if (word == SWAP_LEAVING) {
		word = SWAP_RESIDENT;
	} else if (word == SWAP_LEAVING_SHARED) {
		word = SWAP_SHARED;
	} else {
		word = word - SWAP_LEAVING_STORED + SWAP_STORED;
	}
	swap_release(&swap->pages[page], word);
}

/* Pages side by side that are all taken; what cannot be unmapped was not to leave. */
static void unmap_run(struct swap_give_up *g, u64 first, u64 count)
{
	struct swap *swap = g->swap;

	if (count > 0 &&
	    s2_unmap(&swap->vm->s2, swap_gpa(swap, first), count * PAGE_SIZE, &g->batch) != OK) {
		for (u64 page = first; page < first + count; page++) {
			put_back(swap, page);
		}
	}
}

static void take_pages(struct swap_give_up *g, u64 first, u64 end)
{
	u64 run = first;

	for (u64 page = first; page < end; page++) {
		if (!take_page(g->swap, page)) {
			unmap_run(g, run, page - run);
			run = page + 1;
		}
	}
	unmap_run(g, run, end - run);
}

/* A block of 2 MiB that the policy of blocks knows: all of it is RESIDENT, and stays so while we
 * have the lock. Those of its pages that stay are told apart from now on. */
static void take_of_block(struct swap_give_up *g, u64 block, u64 first, u64 end)
{
	struct swap *swap = g->swap;
	u64 start = block * SWAP_BLOCK_PAGES;

	if (s2_unmap(&swap->vm->s2, swap_gpa(swap, first), (end - first) * PAGE_SIZE, &g->batch) !=
	    OK) {
		return;
	}
	reclaim_forget(&swap->blocks, (u32)block);
	store_release(&swap->is_whole[block], 0);
	for (u64 page = start; page < start + SWAP_BLOCK_PAGES; page++) {
		if (page >= first && page < end) {
			swap_release(&swap->pages[page], SWAP_LEAVING);
		} else {
			swap->choice.policy->resident(&swap->choice, (u32)page);
		}
	}
}

void swap_give_up_take(struct swap_give_up *g, gpa_t at, u64 size)
{
	struct swap *swap = g->swap;
	u64 first = vm_ram_offset(&swap->vm->ram, at) / PAGE_SIZE, end = first + size / PAGE_SIZE;

	while (first < end && !swap->has_ended) {
		u64 block = first / SWAP_BLOCK_PAGES;
		u64 part = min_u64(end, (block + 1) * SWAP_BLOCK_PAGES);

		if (load_acquire(&swap->is_whole[block]) && swap_is_known(&swap->blocks, block)) {
			take_of_block(g, block, first, part);
		} else {
			take_pages(g, first, part);
		}
		first = part;
	}
}

/* ---- Settled --------------------------------------------------------------------------------- */

void swap_give_up_close(struct swap_give_up *g)
{
	s2_batch_close(&g->batch);
}

static void settle_page(struct swap *swap, u64 page)
{
	u64 word = load_relaxed(&swap->pages[page].word);

	if (word == SWAP_LEAVING) {
		swap_uncharge(swap, 1);
		swap_drop_kept(swap, page);
	} else if (word == SWAP_LEAVING_SHARED) {
		swap_count_sharing(-1);
	} else if (swap_state(word) == SWAP_LEAVING_STORED) {
		swap_discard_slot(swap, swap_slot(word));
	} else {
		return;
	}
	reclaim_forget(&swap->choice, (u32)page);
	swap_age_forget_page(swap, page);
	swap_release(&swap->pages[page], SWAP_UNTOUCHED);
}

void swap_give_up_settle(struct swap_give_up *g, gpa_t at, u64 size)
{
	struct swap *swap = g->swap;
	u64 first = vm_ram_offset(&swap->vm->ram, at) / PAGE_SIZE;

	for (u64 page = first; page < first + size / PAGE_SIZE && !swap->has_ended; page++) {
		settle_page(swap, page);
	}
}

void swap_give_up_end(struct swap_give_up *g)
{
	lock_drop(&g->swap->lock);
}
