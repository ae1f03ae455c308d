/*
 * Guest RAM: where its bytes come from at the first touch.
 *
 *     fault -> a 2 MiB block, else a 4 KiB page -> zero, or the image that lies there -> one leaf
 *
 * Nothing is populated before it is touched. Several vCPUs may fault on one place: each gets a
 * frame ready, one of them maps it, and the others give theirs back.
 *
 * RAM is the guest's to read, write and execute. Where Lamina has withheld a right, the access that
 * wants it gets it back.
 *
 * Frames that are out for a moment come back to their place (vm_memory_hold). A fault looks for
 * that inside the walk section that it maps in; whoever holds a range waits for all walks when it
 * closes its unmapping, so that a fault that saw no hold has mapped, or lost, before anything was
 * taken. A fault that gives back a right, or copies a page, closes batches and so cannot be in a
 * walk: those are counted, and waited for at once.
 */
#include "hyp/vm.h"

#include "hyp/s2_cursor.h"
#include "hyp/s2_share.h"
#include "hyp/swap.h"
#include "hyp/vm_memory.h"

#include <arch/cpu.h>

#include <string.h>

u64 vm_memory_current(const struct vm *vm)
{
	const struct s2_stats *s = &vm->s2.stats;

	return load_relaxed(&s->leaf_4k) * PAGE_SIZE + load_relaxed(&s->leaf_2m) * MIB(2) +
	       load_relaxed(&s->leaf_1g) * GIB(1);
}

/* ---- What a fresh page holds ----------------------------------------------------------------- */

struct span {
	u64 start, end; /* guest-physical */
};

static struct span overlap(const struct vm_image *image, u64 start, u64 end)
{
	struct span s = {
		max_u64(image->gpa.v, start),
		min_u64(image->gpa.v + image->size, end),
	};

	return s;
}

static bool is_covered_by_one(const struct vm *vm, u64 start, u64 end)
{
	for (u32 i = 0; i < vm->image_count; i++) {
		struct span s = overlap(&vm->images[i], start, end);

		if (s.start == start && s.end == end) {
			return true;
		}
	}
	return false;
}

/* Whole lines at once where both sides are aligned to them, the rest byte by byte. */
static void copy_bytes(u8 *to, const u8 *from, u64 size)
{
	u64 lines = is_aligned((u64)to | (u64)from, 64) ? align_down(size, 64) : 0;

	arch_copy(to, from, lines);
	memcpy(to + lines, from + lines, size - lines);
}

static void fill(const struct vm *vm, hpa_t frame, u64 start, u64 size)
{
	u8 *bytes = hpa_ptr(frame);

	if (start >= vm->images_end) {
		arch_zero(bytes, size);
		arch_publish_memory(bytes, size);
		return;
	}
	if (!is_covered_by_one(vm, start, start + size)) {
		arch_zero(bytes, size);
	}
	for (u32 i = 0; i < vm->image_count; i++) {
		const struct vm_image *image = &vm->images[i];
		struct span s = overlap(image, start, start + size);

		if (s.start < s.end) {
			copy_bytes(bytes + (s.start - start),
				   image->bytes + (s.start - image->gpa.v), s.end - s.start);
		}
	}
	arch_publish_memory(bytes, size);
}

/* ---- Faults -------------------------------------------------------------------------------- */

void vm_memory_hold(struct vm *vm, gpa_t at, u64 size)
{
	store_relaxed(&vm->held_start, at.v);
	store_release(&vm->held_end, at.v + size);
	fence_full();
	while (load_acquire(&vm->changing) > 0) {
		cpu_relax();
	}
}

void vm_memory_release(struct vm *vm)
{
	store_release(&vm->held_end, 0);
}

static bool is_held(const struct vm *vm, gpa_t at, unsigned level)
{
	u64 size = s2_span(vm->s2.format, level), start = align_down(at.v, size);

	return load_acquire(&vm->held_end) > start && load_relaxed(&vm->held_start) < start + size;
}

static enum status map_unless_held(struct vm *vm, gpa_t at, unsigned level, hpa_t frame)
{
	u64 outer = s2_walk_begin(&vm->s2);
	enum status status = AGAIN;

	if (!is_held(vm, at, level)) {
		status = s2_map_leaf(&vm->s2, at, level, frame, s2_ram(&vm->s2));
	}
	s2_walk_end(&vm->s2, outer);
	return status;
}

hpa_t vm_memory_fresh(const struct vm *vm, gpa_t at, unsigned order)
{
	hpa_t frame = frame_alloc(order, FRAME_GUEST, vm->number);

	if (!hpa_is_none(frame)) {
		frame_at(frame)->gfn = at.v >> PAGE_SHIFT;
		fill(vm, frame, at.v, order_bytes(order));
	}
	return frame;
}

static enum status map_fresh(struct vm *vm, gpa_t at, unsigned order, unsigned level)
{
	hpa_t frame = vm_memory_fresh(vm, at, order);
	enum status status;

	if (hpa_is_none(frame)) {
		return NOMEM;
	}
	status = map_unless_held(vm, at, level, frame);
	if (status != OK) {
		frame_put(frame);
	}
	return status;
}

static bool block_fits(const struct vm *vm, gpa_t block)
{
	return !vm->small_pages && vm_memory_contains(vm, block, BLOCK_SIZE);
}

/*
 * All rights to the leaf that `at` lies in. This is a range operation as the one that withheld them
 * was, with the space's lock and an invalidation: a CPU may use the old rights as long as its TLB
 * has them, so it would fault for ever. If there was no memory for it, the leaf has become a larger
 * one meanwhile: the next fault sees that.
 */
static enum status give_back(struct vm *vm, gpa_t at, unsigned level)
{
	u64 size = s2_span(vm->s2.format, level);
	struct s2_batch batch;

	s2_batch_open(&batch, &vm->s2);
	s2_protect(&vm->s2, gpa(align_down(at.v, size)), size, s2_ram(&vm->s2).perm, &batch);
	s2_batch_close(&batch);
	atomic_add(&vm->counters.permission_faults, 1);
	return AGAIN;
}

/* The guest writes to a page whose frame has other holders. */
static enum status copy_page(struct vm *vm, gpa_t at)
{
	hpa_t fresh = frame_alloc(ORDER_4K, FRAME_GUEST, vm->number);
	enum status status;

	if (!hpa_is_none(fresh)) { /* now: once it is mapped it may go again at any time */
		frame_at(fresh)->gfn = at.v >> PAGE_SHIFT;
	}
	status = s2_cow_fault(&vm->s2, at, fresh, 0);
	if (status != OK && !hpa_is_none(fresh)) {
		frame_put(fresh);
	}
	/* Whatever else it was, the next fault sees it. */
	return status == NOMEM ? NOMEM : AGAIN;
}

static enum status write_shared(struct vm *vm, gpa_t at)
{
	return vm->swap ? swap_fault_shared(vm, at) : copy_page(vm, at);
}

/* The leaf does not let the guest do what it tries. */
static enum status change_unless_held(struct vm *vm, const struct exit *exit, struct s2_leaf leaf)
{
	enum status status = AGAIN;

	atomic_add(&vm->changing, 1);
	if (!is_held(vm, exit->gpa, leaf.level)) {
		status = leaf.shared && (exit->access & ACCESS_WRITE)
				 ? write_shared(vm, exit->gpa)
				 : give_back(vm, exit->gpa, leaf.level);
	}
	atomic_sub(&vm->changing, 1);
	return status;
}

/* Something is there, or is about to be: OK or AGAIN. NOENT: nothing is. */
static enum status already_mapped(struct vm *vm, const struct exit *exit)
{
	struct s2_leaf leaf = s2_query(&vm->s2, exit->gpa);

	if (leaf.kind != S2_LEAF) {
		return leaf.kind == S2_TRANSIT ? AGAIN : NOENT;
	}
	if ((leaf.attr.perm & exit->access) == exit->access) {
		return OK; /* somebody was faster */
	}
	return change_unless_held(vm, exit, leaf);
}

void vm_memory_count_fault(struct vm *vm, unsigned order)
{
	u64 current = vm_memory_current(vm);

	atomic_add(&vm->counters.pgfault, 1);
	atomic_add(order == ORDER_4K ? &vm->counters.pages_4k : &vm->counters.pages_2m, 1);
	/* A peak that two CPUs raise at once may miss the smaller of the two: it is no sum. */
	if (current > load_relaxed(&vm->counters.memory_peak)) {
		store_relaxed(&vm->counters.memory_peak, current);
	}
}

static enum status fault_in(struct vm *vm, gpa_t at)
{
	unsigned order = ORDER_2M;
	enum status status = NOMEM;
	gpa_t block = gpa(align_down(at.v, BLOCK_SIZE));

	if (block_fits(vm, block)) {
		status = map_fresh(vm, block, order, 1);
	}
	/* No block, or a table is there already. */
	if (status == NOMEM || status == EXISTS) {
		order = ORDER_4K;
		status = map_fresh(vm, gpa(align_down(at.v, PAGE_SIZE)), order, 0);
	}
	if (status == OK) {
		vm_memory_count_fault(vm, order);
	}
	return status == EXISTS ? AGAIN : status;
}

/* A page for the place of level 0 that the walk, which is still on, has found empty. */
static enum status fill_page(struct vm *vm, gpa_t at, u64 *place)
{
	enum status status;
	hpa_t frame;

	if (is_held(vm, at, 0)) {
		return AGAIN;
	}
	frame = vm_memory_fresh(vm, at, ORDER_4K);
	if (hpa_is_none(frame)) {
		return NOMEM;
	}
	status = s2_page_put(&vm->s2, place, at, frame, s2_ram(&vm->s2));
	if (unlikely(status != OK)) {
		frame_put(frame);
	}
	return status;
}

/*
 * The usual fault: nothing is there. If the table of pages is, no block fits, and the walk that has
 * found the place goes on until a page is in it: so there is no second walk, and no frame is got
 * ready for what another CPU has mapped. Closes wait for no longer than one page takes to be
 * filled. NOENT: something is there, or was.
 */
static enum status fill_empty(struct vm *vm, gpa_t at)
{
	u64 outer = s2_walk_begin(&vm->s2), *place;
	enum status status = NOENT;
	unsigned level;
	bool found = s2_find_empty(&vm->s2, at, &level, &place);

	if (found && level == 0) {
		status = fill_page(vm, gpa(align_down(at.v, PAGE_SIZE)), place);
	}
	s2_walk_end(&vm->s2, outer);
	if (status == OK) {
		vm_memory_count_fault(vm, ORDER_4K);
	}
	return found && level > 0 ? fault_in(vm, at) : status;
}

enum status vm_memory_fault(struct vm *vm, const struct exit *exit)
{
	enum status status;

	if (exit->accessed) {
		atomic_add(&vm->counters.access_flag_faults, 1);
		return s2_mark_accessed(&vm->s2, exit->gpa) == NOENT ? AGAIN : OK;
	}
	status = vm->swap ? NOENT : fill_empty(vm, exit->gpa);
	if (status != NOENT) {
		return status;
	}
	status = s2_dirty_fault(&vm->s2, exit->gpa, exit->access & ACCESS_WRITE);
	if (status != NOENT) {
		return status;
	}
	status = already_mapped(vm, exit);
	if (status != NOENT) {
		return status;
	}
	return vm->swap ? swap_fault(vm, exit->gpa) : fault_in(vm, exit->gpa);
}

/* ---- Lamina's own access -------------------------------------------------------------------- */

typedef void (*page_fn)(void *context, u8 *bytes, u64 size, u64 done);

/* Calls `fn` for each piece of guest RAM that lies in one leaf, faulted in and held while it runs.
 */
static enum status for_each_piece(struct vm *vm, gpa_t at, u64 size, u8 access, page_fn fn,
				  void *context)
{
	u64 done = 0;

	if (!vm_memory_contains(vm, at, size)) {
		return INVALID;
	}
	while (done < size) {
		gpa_t here = gpa_add(at, done);
		u64 piece = min_u64(size - done, PAGE_SIZE - (here.v & (PAGE_SIZE - 1)));
		u64 outer = s2_walk_begin(&vm->s2);
		bool is_open =
			(access & ACCESS_WRITE) && s2_dirty_fault(&vm->s2, here, true) == AGAIN;
		struct s2_leaf leaf = s2_query(&vm->s2, here);
		bool usable = !is_open && leaf.kind == S2_LEAF && (leaf.attr.perm & access);

		if (usable) {
			fn(context, hpa_ptr(leaf.hpa), piece, done);
			done += piece;
		}
		s2_walk_end(&vm->s2, outer);
		if (!usable) {
			struct exit fault = {.gpa = here, .access = access};
			enum status status = vm_memory_fault(vm, &fault);

			if (status != OK && status != AGAIN) {
				return status;
			}
		}
	}
	return OK;
}

static void copy_out(void *context, u8 *bytes, u64 size, u64 done)
{
	memcpy((u8 *)context + done, bytes, size);
}

static void copy_in(void *context, u8 *bytes, u64 size, u64 done)
{
	memcpy(bytes, (const u8 *)context + done, size);
}

enum status vm_memory_read(struct vm *vm, gpa_t from, void *to, u64 size)
{
	return for_each_piece(vm, from, size, ACCESS_READ, copy_out, to);
}

enum status vm_memory_write(struct vm *vm, gpa_t to, const void *from, u64 size)
{
	return for_each_piece(vm, to, size, ACCESS_WRITE, copy_in, (void *)(uintptr_t)from);
}
