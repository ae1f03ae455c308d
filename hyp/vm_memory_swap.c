/* One word of guest RAM, changed as one: what other vCPUs write to it meanwhile is not lost. */
#include "hyp/vm_reach.h"

struct swap {
	unsigned size;
	u64 expected, desired;
	bool done;
};

static void swap_word(void *context, void *word)
{
	struct swap *s = context;

	s->done = s->size == 8 ? cas_u64(word, s->expected, s->desired)
			       : cas_u32(word, (u32)s->expected, (u32)s->desired);
}

enum status vm_memory_swap(struct vm *vm, gpa_t at, unsigned size, u64 expected, u64 desired)
{
	struct swap s = {.size = size, .expected = expected, .desired = desired};
	enum status status =
		is_aligned(at.v, size) ? vm_reach(vm, at, size, swap_word, &s) : INVALID;

	return status == OK && !s.done ? AGAIN : status;
}
