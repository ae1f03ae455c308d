/*
 * The end of the pipeline: bytes of pages that are in flight go into stores, and frames are free.
 *
 *     FLIGHT -> its slot on the disk still has the bytes: STORED
 *            -> a store in memory takes it: STORED
 *            -> else it waits, still in flight, until its cluster is full -> written -> STORED
 *            -> nobody takes it: mapped again, and out of the policy's way
 *
 * A page in a cluster may be rescued by a fault at any time: what the disk reads then is of no use,
 * and its slot is free again. Its frame stays where it is, as whoever frees one needs the lock.
 */
#include "swap_internal.h"

#include "hyp/frame.h"
#include "hyp/store_disk.h"

/* Clusters that are written at once. */
#define WRITES 8

struct write {
	struct store_disk_io io;
	u32 pages[STORE_DISK_RUN_MAX];
};

struct swap_writes {
	u32 waiting[STORE_DISK_RUN_MAX]; /* pages of the next cluster */
	u32 waiting_count;
	u32 begun, ended; /* writes, of all times: those between are under way */
	struct write writes[WRITES];
};

struct swap_writes *swap_writes_create(void)
{
	return hyp_alloc(sizeof(struct swap_writes));
}

/* ---- One page -------------------------------------------------------------------------------- */

/* The record is taken, and no store takes the page. */
static void put_back(struct swap *swap, u32 page, hpa_t frame)
{
	while (swap_map_again(swap, page, frame) != OK) {
		cpu_relax();
	}
	atomic_add(&swap->totals.counters.pgputback, 1);
	reclaim_list_add(&swap->choice, RECLAIM_ASIDE, page);
	swap_release(&swap->pages[page], SWAP_RESIDENT);
}

/* The record is taken, and the slot has the bytes: the frame is free. */
static void finish(struct swap *swap, u32 page, hpa_t frame, u64 slot, u64 hash)
{
	struct swap_page *p = &swap->pages[page];

	p->checksum = store_checksum(hash);
	atomic_add(&swap->stored[store_kind_of(slot)], 1);
	atomic_add(&swap->totals.counters.pgsteal, 1);
	swap_release(p, swap_word_stored(slot));
	frame_put(frame);
	swap_uncharge(swap, 1);
}

static void count_out(struct swap *swap, u64 slot)
{
	atomic_add(&swap->totals.out[store_kind_of(slot)], 1);
}

/* Takes the record of a page in flight; none: a fault had it back. */
static hpa_t take_flight(struct swap_page *p, u64 *word)
{
	*word = load_acquire(&p->word);
	return swap_state(*word) == SWAP_FLIGHT && swap_take(p, *word) ? swap_frame(*word)
								       : hpa_none();
}

/* Does its slot on the disk have the very bytes still? */
static bool is_kept(const struct swap *swap, u32 page, u64 hash)
{
	u32 kept = swap->kept ? swap->kept[page] : 0;

	return kept != 0 && store_disk_holds(kept - 1, hash);
}

/* The record is taken. FULL: no store in memory takes the page. */
static enum status put_in_memory(struct swap *swap, u32 page, hpa_t frame)
{
	u64 hash = store_hash(hpa_ptr(frame)), slot;

	if (is_kept(swap, page, hash)) {
		slot = store_slot(STORE_disk, swap->kept[page] - 1);
		swap->kept[page] = 0;
		atomic_add(&swap->totals.counters.swpout_clean, 1);
		finish(swap, page, frame, slot, hash);
		return OK;
	}
	if (store_put(hpa_ptr(frame), &slot) != OK) {
		return FULL;
	}
	swap_drop_kept(swap, page);
	count_out(swap, slot);
	finish(swap, page, frame, slot, hash);
	return OK;
}

/* ---- Clusters -------------------------------------------------------------------------------- */

/* Its bytes are in the slot, if nobody has had it since. */
static bool settle(struct swap *swap, u32 page, u32 slot)
{
	struct swap_page *p = &swap->pages[page];
	u64 word, hash;
	hpa_t frame = take_flight(p, &word);

	if (hpa_is_none(frame)) {
		store_disk_free(slot);
		return false;
	}
	hash = store_hash(hpa_ptr(frame));
	store_disk_note(slot, hash);
	swap_drop_kept(swap, page);
	count_out(swap, store_slot(STORE_disk, slot));
	finish(swap, page, frame, store_slot(STORE_disk, slot), hash);
	return true;
}

/* The disk does not take it; a fault may have had it back. */
static void refuse(struct swap *swap, u32 page)
{
	u64 word;
	hpa_t frame = take_flight(&swap->pages[page], &word);

	if (!hpa_is_none(frame)) {
		put_back(swap, page, frame);
	}
}

/* Waits for the oldest write that is under way; how many frames it freed. */
static u64 end_write(struct swap *swap)
{
	struct write *w = &swap->writes->writes[swap->writes->ended++ % WRITES];
	bool ok = store_disk_wait(&w->io);
	u64 freed = 0;

	for (u32 i = 0; i < w->io.count; i++) {
		if (ok) {
			freed += settle(swap, w->pages[i], w->io.first + i);
		} else {
			refuse(swap, w->pages[i]);
		}
	}
	return freed;
}

static u64 end_writes(struct swap *swap, u32 left)
{
	u64 freed = 0;

	while (swap->writes->begun - swap->writes->ended > left) {
		freed += end_write(swap);
	}
	return freed;
}

/* Of the pages in `pages` those that are still in flight, to the front; how many. */
static u32 gather(struct swap *swap, u32 *pages, u32 count, void **frames)
{
	u32 kept = 0;

	for (u32 i = 0; i < count; i++) {
		u64 word = load_acquire(&swap->pages[pages[i]].word);

		if (swap_state(word) == SWAP_FLIGHT) {
			frames[kept] = hpa_ptr(swap_frame(word));
			pages[kept++] = pages[i];
		}
	}
	return kept;
}

/* Begins to write the first `count` pages, or as many as have slots side by side; how many. */
static u32 begin_write(struct swap *swap, const u32 *pages, u32 count, void *const *frames)
{
	struct swap_writes *writes = swap->writes;
	struct write *w = &writes->writes[writes->begun % WRITES];
	u32 first, taken;

	if (!store_disk_is_on() || store_disk_alloc(count, &first, &taken) != OK) {
		return 0;
	}
	for (u32 i = 0; i < taken; i++) {
		w->pages[i] = pages[i];
	}
	writes->begun++;
	store_disk_begin(&w->io, BLOCK_WRITE, first, taken, frames);
	return taken;
}

/* The pages that wait are on their way to the disk, or mapped again; frames that are free now. */
static u64 write_cluster(struct swap *swap)
{
	struct swap_writes *writes = swap->writes;
	void *frames[STORE_DISK_RUN_MAX];
	u32 count = gather(swap, writes->waiting, writes->waiting_count, frames), at = 0, begun = 1;
	u64 freed = 0;

	writes->waiting_count = 0;
	while (at < count && begun > 0) {
		freed += end_writes(swap, WRITES - 1);
		begun = begin_write(swap, &writes->waiting[at], count - at, &frames[at]);
		at += begun;
	}
	for (; at < count; at++) {
		refuse(swap, writes->waiting[at]);
	}
	return freed;
}

/* ---- All of them ----------------------------------------------------------------------------- */

/* The page's record is taken, and its frame known: into the next cluster, in flight again. */
static u64 put_on_disk(struct swap *swap, u32 page, u64 word)
{
	struct swap_writes *writes = swap->writes;

	swap_release(&swap->pages[page], word);
	writes->waiting[writes->waiting_count++] = page;
	return writes->waiting_count == STORE_DISK_RUN_MAX ? write_cluster(swap) : 0;
}

/* How many frames are free now. */
static u64 put_away(struct swap *swap, u32 page)
{
	u64 word;
	hpa_t frame = take_flight(&swap->pages[page], &word);

	if (hpa_is_none(frame)) {
		return 0;
	}
	if (put_in_memory(swap, page, frame) == OK) {
		return 1;
	}
	if (swap->writes && store_disk_is_on()) {
		return put_on_disk(swap, page, word);
	}
	put_back(swap, page, frame);
	return 0;
}

u64 swap_put_away(struct swap *swap)
{
	u64 freed = 0;

	for (u32 i = 0; i < swap->victim_count; i++) {
		freed += put_away(swap, swap->victims[i]);
	}
	swap->victim_count = 0;
	if (swap->writes) {
		freed += write_cluster(swap);
		freed += end_writes(swap, 0);
	}
	return freed;
}
