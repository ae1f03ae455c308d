/*
 * The pipeline: pages of one guest lose their frames.
 *
 *     newcomers -> the policy's lists
 *     blocks of 2 MiB that were not accessed -> split; all of their pages go
 *     candidates of the policy -> accessed? -> those that it lets go
 *     all that go -> unmapped, one batch -> its close: one round of invalidation
 *     their bytes -> a store; their frames are free
 *
 * Until a page's bytes are stored a fault may have it back from its frame. One CPU at a time does
 * this for a guest; all of it is bounded by the number of pages that are asked for.
 */
#include "swap_internal.h"

#include "hyp/log.h"

/* Blocks that a run may look at, and split: with one round of invalidation for all of them. */
#define BLOCKS_LOOKED 32
#define BLOCKS_SPLIT 4
/* Candidates for each page that is to go, before a run is content with what it has. */
#define SCAN_FACTOR 8

/* ---- Newcomers ------------------------------------------------------------------------------- */

/* The list that faults have pushed on, the oldest first now. */
static u32 take_newcomers(struct swap *swap)
{
	u32 next = atomic_swap(&swap->newcomers, 0), first = 0;

	while (next) {
		struct swap_page *p = &swap->pages[next - 1];
		u32 before = p->newcomer;

		p->newcomer = first;
		first = next;
		next = before;
	}
	return first;
}

static void admit(struct swap *swap, u32 page)
{
	swap->choice.policy->resident(&swap->choice, page);
}

void swap_admit_newcomers(struct swap *swap)
{
	for (u32 next = take_newcomers(swap); next;) {
		u32 page = next - 1, block = page / SWAP_BLOCK_PAGES;

		next = swap->pages[page].newcomer;
		if (load_acquire(&swap->is_whole[block])) {
			swap->blocks.policy->resident(&swap->blocks, block);
		} else {
			admit(swap, page);
		}
	}
}

/* ---- Which: blocks of 2 MiB ------------------------------------------------------------------ */

void swap_add_victim(struct swap *swap, u32 page)
{
	swap->victims[swap->victim_count++] = page;
}

/* False: there was no memory for the table; the block stays one. */
static bool split(struct swap *swap, u32 block, struct s2_batch *batch)
{
	gpa_t at = swap_gpa(swap, (u64)block * SWAP_BLOCK_PAGES);

	if (s2_split(&swap->vm->s2, at, 0, batch) != OK) {
		swap->blocks.policy->resident(&swap->blocks, block);
		return false;
	}
	store_release(&swap->is_whole[block], 0);
	atomic_add(&swap->totals.counters.thp_split_page, 1);
	return true;
}

/* The pages of a block that was not accessed go, all of them; those of another are told apart from
 * now on. */
static void take_parts(struct swap *swap, u32 block, bool is_cold)
{
	u32 first = block * SWAP_BLOCK_PAGES;

	for (u32 page = first; page < first + SWAP_BLOCK_PAGES; page++) {
		if (is_cold && swap->victim_count < SWAP_RUN_MAX) {
			reclaim_let_go(&swap->choice, page);
			swap_add_victim(swap, page);
		} else {
			admit(swap, page);
		}
	}
}

bool swap_split_block(struct swap *swap, u32 block)
{
	struct s2_batch batch;
	bool is_split;

	if (!swap_is_known(&swap->blocks, block)) {
		return false;
	}
	reclaim_forget(&swap->blocks, block);
	s2_batch_open(&batch, &swap->vm->s2);
	is_split = split(swap, block, &batch);
	s2_batch_close(&batch);
	if (is_split) {
		take_parts(swap, block, false);
	}
	return is_split;
}

/* Pages that the policy has to choose among. */
static u64 known_pages(const struct reclaim *choice)
{
	u64 count = 0;

	for (u32 i = 0; i < RECLAIM_ASIDE; i++) {
		count += choice->lists[i].count;
	}
	return count;
}

/* Of a bounded number of blocks a few that were not accessed, split. How many. */
static u32 split_cold(struct swap *swap, u64 wanted, struct s2_batch *batch, u32 *cold)
{
	struct reclaim *blocks = &swap->blocks;
	u32 count = 0;

	for (u32 i = 0;
	     i < BLOCKS_LOOKED && count < BLOCKS_SPLIT && count * SWAP_BLOCK_PAGES < wanted; i++) {
		u32 block = blocks->policy->candidate(blocks);
		bool accessed;

		if (block == RECLAIM_NONE) {
			break;
		}
		accessed = swap_age_ask(swap, (u64)block * SWAP_BLOCK_PAGES, SWAP_BLOCK_PAGES, 1);
		if (blocks->policy->judge(blocks, block, accessed) && split(swap, block, batch)) {
			cold[count++] = block;
		}
	}
	return count;
}

/* The next block, whatever it is used for; or RECLAIM_NONE. */
static u32 split_next(struct swap *swap, struct s2_batch *batch)
{
	u32 block = swap->blocks.policy->candidate(&swap->blocks);

	return block != RECLAIM_NONE && split(swap, block, batch) ? block : RECLAIM_NONE;
}

/*
 * The pages of a few blocks that were not accessed go. If all were, and few pages are known one by
 * one, a block is split all the same: it may have been accessed for the sake of a few pages.
 */
static void choose_blocks(struct swap *swap, u64 wanted)
{
	u32 cold[BLOCKS_SPLIT], count, warm = RECLAIM_NONE;
	struct s2_batch batch;

	s2_batch_open(&batch, &swap->vm->s2);
	count = split_cold(swap, wanted, &batch, cold);
	if (count == 0 && known_pages(&swap->choice) < 2 * wanted) {
		warm = split_next(swap, &batch);
	}
	s2_batch_close(&batch);
	for (u32 i = 0; i < count; i++) {
		take_parts(swap, cold[i], true);
	}
	if (warm != RECLAIM_NONE) {
		take_parts(swap, warm, false);
	}
}

/* ---- Which: pages ---------------------------------------------------------------------------- */

/* What comes now counts a quarter. */
static void note_activity(struct swap *swap, u64 active, u64 scanned)
{
	u64 before = load_relaxed(&swap->active_permille);

	if (scanned > 0) {
		store_relaxed(&swap->active_permille, (3 * before + 1000 * active / scanned) / 4);
	}
}

static void choose_pages(struct swap *swap, u64 wanted)
{
	struct reclaim *choice = &swap->choice;
	u64 scanned = 0, active = 0;

	choice->frames = (u32)max_u64(load_relaxed(&swap->charged), 1);
	while (swap->victim_count < wanted && scanned < wanted * SCAN_FACTOR) {
		u32 page = choice->policy->candidate(choice);
		bool accessed;

		if (page == RECLAIM_NONE) {
			break;
		}
		accessed = swap_age_ask(swap, page, 1, 0);
		scanned++;
		active += accessed;
		if (choice->policy->judge(choice, page, accessed)) {
			swap_add_victim(swap, page);
		}
	}
	atomic_add(&swap->totals.counters.pgscan, scanned);
	note_activity(swap, active, scanned);
}

/* Pages that no store took are out of the policy's way. They may be others by now, or there may be
 * room: where there is little else, some are tried again. */
static void choose_refused(struct swap *swap, u64 wanted)
{
	u64 most = swap->victim_count < wanted / 8 ? wanted / 8 : 0;

	for (u64 i = swap->victim_count; i < most; i++) {
		u32 page = reclaim_list_take(&swap->choice, RECLAIM_ASIDE);

		if (page == RECLAIM_NONE) {
			return;
		}
		swap_add_victim(swap, page);
	}
}

/* ---- Unmapped, all in one batch ----------------------------------------------------------------
 */

/* False: it stays, as somebody else changes it, or its writes are logged. */
static bool unmap(struct swap *swap, u32 page, struct s2_batch *batch)
{
	struct s2_leaf leaf;

	if (s2_store(&swap->vm->s2, swap_gpa(swap, page), SWAP_PAYLOAD, batch, &leaf) != OK) {
		admit(swap, page);
		return false;
	}
	swap_release(&swap->pages[page], swap_word_flight(leaf.hpa));
	return true;
}

static void unmap_victims(struct swap *swap)
{
	struct s2_batch batch;
	u32 count = 0;

	s2_batch_open(&batch, &swap->vm->s2);
	for (u32 i = 0; i < swap->victim_count; i++) {
		if (unmap(swap, swap->victims[i], &batch)) {
			swap->victims[count++] = swap->victims[i];
		}
	}
	s2_batch_close(&batch);
	swap->victim_count = count;
}

u64 swap_take_away(struct swap *swap)
{
	unmap_victims(swap);
	return swap_put_away(swap);
}

/* ---- The run -----------------------------------------------------------------------------------
 */

static u64 run(struct swap *swap, u64 wanted)
{
	u64 freed;

	swap_admit_newcomers(swap);
	choose_blocks(swap, wanted);
	choose_pages(swap, wanted);
	choose_refused(swap, wanted);
	if (swap->victim_count == 0) {
		return 0;
	}
	freed = swap_take_away(swap);
	atomic_add(&swap->totals.counters.swap_runs, 1);
	return freed;
}

enum status swap_out(struct swap *swap, u64 pages, u64 *freed)
{
	*freed = 0;
	if (!lock_try(&swap->lock)) {
		return AGAIN;
	}
	*freed = swap->has_ended ? 0 : run(swap, min_u64(pages, SWAP_RUN_MAX));
	lock_drop(&swap->lock);
	return OK;
}
