/*
 * A page comes back from a store.
 *
 * From the disk it brings those along that lie behind it there and in the guest, as a cluster that
 * was written together is often wanted together: one read, one wait. They have not been accessed
 * when they come, so that it is seen whether they are; if most were, the next read brings twice as
 * many, else half. What comes back from the disk keeps its slot there while the disk is roomy: if
 * it is not changed, it need not be written again.
 */
#include "swap_internal.h"

#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/store_disk.h"
#include "hyp/vm_memory.h"

#include <arch/cpu.h>

/* A read that fails is tried again: a disk may know a way. */
#define READ_TRIES 3
#define WINDOW_MAX (STORE_DISK_RUN_MAX / 2)

/* ---- One page -------------------------------------------------------------------------------- */

static hpa_t charged_frame(struct swap *swap, u64 page)
{
	hpa_t frame;

	if (!swap_charge(swap, 1)) {
		return hpa_none();
	}
	frame = frame_alloc(ORDER_4K, FRAME_GUEST, swap->vm->number);
	if (hpa_is_none(frame)) {
		swap_uncharge(swap, 1);
	} else {
		frame_at(frame)->gfn = swap_gpa(swap, page).v >> PAGE_SHIFT;
	}
	return frame;
}

static void give_frame_back(struct swap *swap, hpa_t frame)
{
	frame_put(frame);
	swap_uncharge(swap, 1);
}

/* The record is taken. Are these the bytes that were stored? */
static bool is_good(struct swap *swap, u64 page, hpa_t frame)
{
	return store_checksum(store_hash(hpa_ptr(frame))) == swap->pages[page].checksum;
}

static void tell_damage(struct swap *swap, u64 page, u64 slot)
{
	vm_crash(swap->vm, "the page at guest-physical 0x%llx came back damaged from the %s store",
		 (unsigned long long)swap_gpa(swap, page).v, store_name(store_kind_of(slot)));
}

/* The record is taken, and its bytes are in the frame. OK: it is mapped, and the slot free. */
static enum status map_filled(struct swap *swap, u64 page, u64 slot, hpa_t frame)
{
	enum store_kind kind = store_kind_of(slot);
	enum status status;

	arch_publish_memory(hpa_ptr(frame), PAGE_SIZE);
	status = swap_map_again(swap, page, frame);
	if (status != OK) {
		return status;
	}
	if (kind == STORE_disk && store_disk_is_roomy()) {
		swap->kept[page] = (u32)slot + 1;
	} else {
		store_free(slot);
	}
	atomic_sub(&swap->stored[kind], 1);
	atomic_add(&swap->totals.in[kind], 1);
	atomic_add(&swap->totals.counters.workingset_refault, 1);
	swap_became_resident(swap, page);
	return OK;
}

/* ---- From memory ----------------------------------------------------------------------------- */

static enum status fill_and_map(struct swap *swap, u64 page, u64 slot, hpa_t frame)
{
	if (!store_get(slot, hpa_ptr(frame)) || !is_good(swap, page, frame)) {
		tell_damage(swap, page, slot);
		return AGAIN;
	}
	return map_filled(swap, page, slot, frame);
}

/* The record is taken. */
static enum status from_memory(struct swap *swap, u64 page, u64 word)
{
	hpa_t frame = charged_frame(swap, page);
	enum status status;

	if (hpa_is_none(frame)) {
		swap_release(&swap->pages[page], word);
		return NOMEM;
	}
	status = fill_and_map(swap, page, swap_slot(word), frame);
	if (status != OK) {
		give_frame_back(swap, frame);
		swap_release(&swap->pages[page], word);
	}
	return status;
}

/* ---- From the disk: how many ----------------------------------------------------------------- */

/* Of the pages that the last read brought along, how many have been accessed? */
static u32 count_hits(struct swap *swap, u64 first, u32 count)
{
	struct s2_harvest harvest = {.clear = false};

	s2_harvest(&swap->vm->s2, swap_gpa(swap, first), count * PAGE_SIZE, &harvest);
	return (u32)harvest.young_count;
}

/* Pages that a read for `page` may have, the first included. */
static u32 window_for(struct swap *swap, u64 page)
{
	struct swap_read_ahead *ra = &swap->read_ahead;
	u64 first = load_relaxed(&ra->first);
	u32 window = load_relaxed(&ra->window), count = atomic_swap(&ra->count, 0), hits;
	bool pays = page == first; /* none was brought along, and the next page is wanted */

	if (count > 0) {
		hits = count_hits(swap, first, count);
		atomic_add(&swap->totals.counters.swap_ra_hit, hits);
		pays = 2 * hits >= count;
	}
	window = pays ? (u32)min_u64(2ull * max_u64(window, 1), WINDOW_MAX)
		      : (u32)max_u64(window / 2, 1);
	store_relaxed(&ra->window, window);
	return window;
}

/* They count as accessed when they are, which the next read looks at. */
static void note_brought(struct swap *swap, u64 first, u32 count)
{
	struct s2_harvest harvest = {.clear = true};

	if (count > 0) {
		s2_harvest(&swap->vm->s2, swap_gpa(swap, first), count * PAGE_SIZE, &harvest);
		atomic_add(&swap->totals.counters.swap_ra, count);
	}
	store_relaxed(&swap->read_ahead.first, first);
	store_relaxed(&swap->read_ahead.count, count);
}

/* ---- From the disk --------------------------------------------------------------------------- */

/* Pages that are read together: records are taken, frames charged. */
struct cluster {
	struct swap *swap;
	u64 first;
	u32 count, first_slot;
	void *frames[STORE_DISK_RUN_MAX];
};

static u64 word_of(const struct cluster *c, u32 i)
{
	return swap_word_stored(store_slot(STORE_disk, c->first_slot + i));
}

/* Takes the page behind those that are there, if it lies behind them on the disk, too. */
static bool add_next(struct cluster *c)
{
	struct swap *swap = c->swap;
	u64 page = c->first + c->count;
	hpa_t frame;

	if (page == swap->page_count ||
	    swap_gpa(swap, page).v != swap_gpa(swap, c->first).v + c->count * PAGE_SIZE ||
	    !swap_take(&swap->pages[page], word_of(c, c->count))) {
		return false;
	}
	frame = charged_frame(swap, page);
	if (hpa_is_none(frame)) {
		swap_release(&swap->pages[page], word_of(c, c->count));
		return false;
	}
	c->frames[c->count++] = hpa_ptr(frame);
	return true;
}

static void drop_page(struct cluster *c, u32 i)
{
	give_frame_back(c->swap, ptr_hpa(c->frames[i]));
	swap_release(&c->swap->pages[c->first + i], word_of(c, i));
}

static void drop_behind(struct cluster *c, u32 left)
{
	while (c->count > left) {
		drop_page(c, --c->count);
	}
}

/* Those that were brought along are left where they are if something is wrong. */
static bool read(struct cluster *c)
{
	struct store_disk_io io;

	for (u32 tries = 0; tries < READ_TRIES; tries++) {
		store_disk_begin(&io, BLOCK_READ, c->first_slot, c->count, c->frames);
		if (store_disk_wait(&io)) {
			return true;
		}
		drop_behind(c, 1);
	}
	vm_crash(c->swap->vm,
		 "the page at guest-physical 0x%llx cannot be read back: the disk "
		 "fails in sector %llu",
		 (unsigned long long)swap_gpa(c->swap, c->first).v,
		 (unsigned long long)io.request.sector);
	return false;
}

static enum status map_one(struct cluster *c, u32 i)
{
	return map_filled(c->swap, c->first + i, store_slot(STORE_disk, c->first_slot + i),
			  ptr_hpa(c->frames[i]));
}

/* Up to the first that something is wrong with: what that is, its own fault will find. */
static void map_brought(struct cluster *c)
{
	u32 i = 1;

	while (i < c->count && is_good(c->swap, c->first + i, ptr_hpa(c->frames[i])) &&
	       map_one(c, i) == OK) {
		i++;
	}
	note_brought(c->swap, c->first + 1, i - 1);
	drop_behind(c, i);
}

static enum status read_and_map(struct cluster *c)
{
	enum status status = AGAIN;

	if (!read(c)) {
		drop_behind(c, 0);
		return AGAIN;
	}
	if (!is_good(c->swap, c->first, ptr_hpa(c->frames[0]))) {
		tell_damage(c->swap, c->first, store_slot(STORE_disk, c->first_slot));
	} else {
		status = map_one(c, 0);
	}
	if (status != OK) {
		drop_behind(c, 0);
		return status;
	}
	map_brought(c);
	return OK;
}

/* The record is taken. */
static enum status from_disk(struct swap *swap, u64 page, u64 word)
{
	struct cluster c = {.swap = swap, .first = page, .first_slot = (u32)swap_slot(word)};
	hpa_t frame = charged_frame(swap, page);
	u32 window;

	if (hpa_is_none(frame)) {
		swap_release(&swap->pages[page], word);
		return NOMEM;
	}
	c.frames[c.count++] = hpa_ptr(frame);
	window = window_for(swap, page);
	while (c.count < window && add_next(&c)) {
	}
	return read_and_map(&c);
}

/* ---- From wherever it is --------------------------------------------------------------------- */

enum status swap_bring_back(struct swap *swap, u64 page, u64 word)
{
	enum status status;

	if (!swap_take(&swap->pages[page], word)) {
		return AGAIN;
	}
	swap_stall_begin(swap);
	status = store_kind_of(swap_slot(word)) == STORE_disk ? from_disk(swap, page, word)
							      : from_memory(swap, page, word);
	swap_stall_end(swap);
	if (status == OK) {
		vm_memory_count_fault(swap->vm, ORDER_4K);
	}
	return status;
}
