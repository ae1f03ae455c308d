/*
 * An address of the host's is good for one walk: who moves a frame, or takes it away, clears its
 * entry, and then waits for all walks before the frame is anybody else's. So no such address is
 * kept, and each access finds the page anew.
 */
#include "hyp/vm_reach.h"

#include "hyp/s2_cursor.h"

static bool is_in_one_page(const struct vm *vm, gpa_t at, u64 size)
{
	return vm_memory_contains(vm, at, size) && size <= PAGE_SIZE - at.v % PAGE_SIZE;
}

/* Dirty logging hears of the write in the walk that it is made in (s2_dirty_fault()); and a frame
 * with other holders is not writable, so it is the guest's own. */
enum status vm_reach_present(struct vm *vm, gpa_t at, u64 size, vm_reach_fn fn, void *context)
{
	struct s2_leaf leaf;
	u64 outer;
	bool usable;

	if (!is_in_one_page(vm, at, size)) {
		return INVALID;
	}
	outer = s2_walk_begin(&vm->s2);
	usable = s2_dirty_fault(&vm->s2, at, true) != AGAIN;
	leaf = s2_query(&vm->s2, at);
	usable = usable && leaf.kind == S2_LEAF && (leaf.attr.perm & S2_WRITE);
	if (usable) {
		fn(context, hpa_ptr(leaf.hpa));
	}
	s2_walk_end(&vm->s2, outer);
	return usable ? OK : AGAIN;
}

enum status vm_reach(struct vm *vm, gpa_t at, u64 size, vm_reach_fn fn, void *context)
{
	struct exit fault = {.gpa = at, .access = ACCESS_WRITE};
	enum status status;

	while ((status = vm_reach_present(vm, at, size, fn, context)) == AGAIN) {
		status = vm_memory_fault(vm, &fault);
		if (status != OK && status != AGAIN) {
			return status;
		}
	}
	return status;
}
