/* One word of guest RAM, changed as one: what other vCPUs write to it meanwhile is not lost. */
#include "hyp/vm.h"

#include "hyp/s2_cursor.h"
#include "hyp/s2_share.h"

static bool swap(void *word, unsigned size, u64 expected, u64 desired)
{
	return size == 8 ? cas_u64(word, expected, desired)
			 : cas_u32(word, (u32)expected, (u32)desired);
}

/* NOENT: the page is not there to be written. The frame stays while the walk does. */
static enum status swap_if_there(struct vm *vm, gpa_t at, unsigned size, u64 expected, u64 desired)
{
	u64 outer = s2_walk_begin(&vm->s2);
	bool is_open = s2_dirty_fault(&vm->s2, at, true) == AGAIN;
	struct s2_leaf leaf = s2_query(&vm->s2, at);
	enum status status = NOENT;

	if (!is_open && leaf.kind == S2_LEAF && (leaf.attr.perm & S2_WRITE)) {
		status = swap(hpa_ptr(leaf.hpa), size, expected, desired) ? OK : AGAIN;
	}
	s2_walk_end(&vm->s2, outer);
	return status;
}

enum status vm_memory_swap(struct vm *vm, gpa_t at, unsigned size, u64 expected, u64 desired)
{
	struct exit fault = {.gpa = at, .access = ACCESS_WRITE};

	if (!is_aligned(at.v, size) || !vm_memory_contains(vm, at, size)) {
		return INVALID;
	}
	for (;;) {
		enum status status = swap_if_there(vm, at, size, expected, desired);

		if (status != NOENT) {
			return status;
		}
		status = vm_memory_fault(vm, &fault);
		if (status != OK && status != AGAIN) {
			return status;
		}
	}
}
