/*
 * A page gets its frame: for the first time, or again.
 *
 * A fault takes the page's record first, so it alone brings the page, and gives it back in the
 * state that came of it. What cannot be had (a frame, room for a charge) leaves the record as it
 * was; then room is made, with nothing held, and the guest tries again.
 */
#include "swap_internal.h"

#include "hyp/log.h"
#include "hyp/vm_memory.h"

#include <arch/cpu.h>

/* ---- For the first time ---------------------------------------------------------------------- */

/* A charged frame of 2^order pages with what belongs at `at`, mapped. */
static enum status map_fresh(struct swap *swap, gpa_t at, unsigned order)
{
	struct vm *vm = swap->vm;
	hpa_t frame = vm_memory_fresh(vm, at, order);
	enum status status;

	if (hpa_is_none(frame)) {
		return NOMEM;
	}
	status = s2_map_leaf(&vm->s2, at, order == ORDER_2M ? 1 : 0, frame, s2_ram(&vm->s2));
	if (status != OK) {
		frame_put(frame);
	}
	return status;
}

static enum status charge_and_map(struct swap *swap, u64 page, unsigned order)
{
	enum status status = NOMEM;

	if (swap_charge(swap, 1ull << order)) {
		status = map_fresh(swap, swap_gpa(swap, page), order);
		if (status != OK) {
			swap_uncharge(swap, 1ull << order);
		}
	}
	return status;
}

static enum status bring_fresh(struct swap *swap, u64 page)
{
	enum status status;

	if (!swap_take(&swap->pages[page], SWAP_UNTOUCHED)) {
		return AGAIN;
	}
	status = charge_and_map(swap, page, ORDER_4K);
	if (status == OK) {
		swap_became_resident(swap, page);
		vm_memory_count_fault(swap->vm, ORDER_4K);
	} else {
		swap_release(&swap->pages[page], SWAP_UNTOUCHED);
	}
	return status == EXISTS ? AGAIN : status;
}

/* ---- A block of 2 MiB ------------------------------------------------------------------------ */

static void release_block(struct swap *swap, u64 first, u64 count, enum swap_state state)
{
	for (u64 i = 0; i < count; i++) {
		swap_release(&swap->pages[first + i], state);
	}
}

static bool take_block(struct swap *swap, u64 first)
{
	for (u64 i = 0; i < SWAP_BLOCK_PAGES; i++) {
		if (!swap_take(&swap->pages[first + i], SWAP_UNTOUCHED)) {
			release_block(swap, first, i, SWAP_UNTOUCHED);
			return false;
		}
	}
	return true;
}

/* All of the block that `page` is in, if nothing of it was touched. NOENT: it goes page by page. */
static enum status bring_block(struct swap *swap, u64 page)
{
	u64 first = align_down(page, SWAP_BLOCK_PAGES);

	if (swap->vm->small_pages || !swap_is_roomy(swap) || !take_block(swap, first)) {
		return NOENT;
	}
	if (charge_and_map(swap, first, ORDER_2M) != OK) {
		release_block(swap, first, SWAP_BLOCK_PAGES, SWAP_UNTOUCHED);
		return NOENT;
	}
	store_release(&swap->is_whole[first / SWAP_BLOCK_PAGES], 1);
	release_block(swap, first + 1, SWAP_BLOCK_PAGES - 1, SWAP_RESIDENT);
	swap_became_resident(swap, first); /* and speaks for all of them */
	vm_memory_count_fault(swap->vm, ORDER_2M);
	return OK;
}

/* ---- Again: from its frame, see swap_bring_back.c for the rest ---------------------------------
 */

enum status swap_map_again(struct swap *swap, u64 page, hpa_t frame)
{
	struct s2 *s2 = &swap->vm->s2;
	enum status status =
		s2_fill_stored(s2, swap_gpa(swap, page), 0, SWAP_PAYLOAD, frame, s2_ram(s2));

	check(status == OK || status == AGAIN);
	return status;
}

/* Its frame is not stored yet, so that is what it gets: before the batch is closed, too (I9). */
static enum status rescue(struct swap *swap, u64 page, u64 word)
{
	struct swap_page *p = &swap->pages[page];
	enum status status;

	if (!swap_take(p, word)) {
		return AGAIN;
	}
	status = swap_map_again(swap, page, swap_frame(word));
	if (status == OK) {
		swap_became_resident(swap, page);
		atomic_add(&swap->totals.counters.pgrescued, 1);
	} else {
		swap_release(p, word);
	}
	return status;
}

/* ---- From wherever it is --------------------------------------------------------------------- */

/* Where a page is whose record says `word`, and which a fault can bring. */
static enum swap_source source_of(u64 word)
{
	switch (swap_state(word)) {
	case SWAP_FLIGHT:
		return SWAP_FROM_FLIGHT;
	case SWAP_STORED:
		return (enum swap_source)(SWAP_FROM_STORES + store_kind_of(swap_slot(word)));
	default:
		return SWAP_FROM_FRESH;
	}
}

static enum status bring(struct swap *swap, u64 page, u64 word)
{
	enum status status;

	switch (swap_state(word)) {
	case SWAP_UNTOUCHED:
		status = bring_block(swap, page);
		return status == NOENT ? bring_fresh(swap, page) : status;
	case SWAP_FLIGHT:
		return rescue(swap, page, word);
	case SWAP_STORED:
		return swap_bring_back(swap, page, word);
	default:
		return AGAIN; /* somebody was faster, or has it now */
	}
}

/* ---- What it took ---------------------------------------------------------------------------- */

static void note(struct swap *swap, enum swap_source source, u64 since)
{
	swap_latency_note(&swap->totals.latency[source], arch_now() - since);
}

/* The record that was taken, if any was, said what is read here. */
static enum status bring_noted(struct swap *swap, u64 page)
{
	u64 since = arch_now(), word = load_acquire(&swap->pages[page].word);
	enum status status = bring(swap, page, word);

	if (status == OK) {
		note(swap, source_of(word), since);
	}
	return status;
}

static enum status unshare_noted(struct swap *swap, u64 page)
{
	u64 since = arch_now();
	enum status status = swap_unshare(swap, page);

	if (status == OK) {
		note(swap, SWAP_FROM_SHARED, since);
	}
	return status;
}

/* ---- The fault ------------------------------------------------------------------------------- */

/* Who looks at all records waits for us, or we for him. */
static bool begin_fault(struct swap *swap)
{
	atomic_add(&swap->faulting, 1);
	if (unlikely(load_acquire(&swap->is_counted))) {
		atomic_sub(&swap->faulting, 1);
		return false;
	}
	return true;
}

static enum status wait_for_room(struct swap *swap)
{
	u64 since = arch_now();
	enum status status;

	swap_stall_begin(swap);
	status = swap_make_room(swap);
	swap_stall_end(swap);
	swap_latency_note(&swap->room, arch_now() - since);
	return status;
}

static enum status fault(struct vm *vm, gpa_t at,
			 enum status (*answer)(struct swap *swap, u64 page))
{
	struct swap *swap = vm->swap;
	enum status status;

	if (!begin_fault(swap)) {
		return AGAIN;
	}
	status = answer(swap, vm_ram_offset(&vm->ram, at) / PAGE_SIZE);
	if (status == NOMEM) {
		atomic_add(&swap->totals.counters.direct_reclaim, 1);
	}
	atomic_sub(&swap->faulting, 1);
	return status == NOMEM ? wait_for_room(swap) : status;
}

enum status swap_fault(struct vm *vm, gpa_t at)
{
	return fault(vm, at, bring_noted);
}

enum status swap_fault_shared(struct vm *vm, gpa_t at)
{
	return fault(vm, at, unshare_noted);
}
