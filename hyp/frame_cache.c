/*
 * Each CPU's cache of single frames: a stack, filled from the buddy and emptied to it by halves, so
 * that the buddy's lock is taken once for many frames. Hits are inline in frame_internal.h.
 *
 * There is no cache of larger blocks. A 2 MiB block costs thousands of instructions to fill, beside
 * which the lock is nothing; and every block that lies in a cache is one that its buddy cannot
 * merge with.
 */
#include "frame_internal.h"

bool frame_cache_refill(struct frame_cpu *cpu)
{
	cpu->cached = frame_buddy_take_singles(cpu->numbers, FRAME_CACHE_BATCH);
	return cpu->cached > 0;
}

/* The bottom half goes: it lay there longest, and its neighbours are the likeliest to be free too.
 */
void frame_cache_spill(struct frame_cpu *cpu)
{
	u32 kept = cpu->cached - FRAME_CACHE_BATCH;

	frame_buddy_give_singles(cpu->numbers, FRAME_CACHE_BATCH);
	__builtin_memmove(cpu->numbers, cpu->numbers + FRAME_CACHE_BATCH, kept * sizeof(u32));
	cpu->cached = kept;
}

void frame_drain_cache(void)
{
	struct frame_cpu *cpu = frame_this_cpu();

	frame_buddy_give_singles(cpu->numbers, cpu->cached);
	cpu->cached = 0;
}
