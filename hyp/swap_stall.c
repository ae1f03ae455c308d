/*
 * Stall time without a lock: who begins a stretch notes when, and who ends it read that while it
 * was still waiting itself, so the note is of that very stretch.
 */
#include "swap_internal.h"

#include <arch/cpu.h>

void swap_stall_begin(struct swap *swap)
{
	struct swap_stall *s = &swap->stall;
	u32 waiting = atomic_add(&s->waiting, 1);
	u64 now = arch_now();

	if (waiting == 1) {
		store_relaxed(&s->some_since, now);
	}
	if (waiting == load_relaxed(&swap->vm->vcpus_on)) {
		store_relaxed(&s->full_since, now);
	}
}

void swap_stall_end(struct swap *swap)
{
	struct swap_stall *s = &swap->stall;
	u64 some_since = load_relaxed(&s->some_since), full_since = load_relaxed(&s->full_since);
	u32 waiting = atomic_sub(&s->waiting, 1);
	u64 now = arch_now();

	if (waiting == 0) {
		atomic_add(&s->some, now - some_since);
	}
	if (waiting + 1 == load_relaxed(&swap->vm->vcpus_on)) {
		atomic_add(&s->full, now - full_since);
	}
}
