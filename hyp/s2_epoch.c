/*
 * The epoch: how a translation dies, and how a table is freed. One mechanism for both.
 *
 *   closer (any CPU)                         a CPU in the guest, or walking in software
 *   ------------------------------------     ------------------------------------------------
 *   clears entries, notes them               uses the old translation; stands in the old table
 *   close:
 *     machine broadcasts invalidations:
 *       invalidate ranges, one tail, wait    - hardware has seen it when the wait ends
 *     it does not:
 *       flush_generation += 1, fence         entering: in_guest = generation, fence, compare:
 *       kick CPUs with in_guest older          behind -> flush itself, say so, compare again
 *       wait until each has left,            leaving: in_guest = 0    (that is the answer:
 *         or entered with the new one          a CPU that is behind flushes before it enters)
 *     generation += 1, fence                 walk begin: walking = generation, fence, walk
 *     wait while walking is older            walk end:   walking = 0
 *   frames and tables are free
 *
 * A CPU that is neither in the guest nor walking costs nothing: no interrupt, no wait. The fences
 * pair up: either the closer sees in_guest (walking), or the CPU sees the new generation (the
 * cleared entry).
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

#include <arch/s2.h>

u64 s2_walk_begin(struct s2 *s2)
{
	u64 *walking = &s2->cpu[this_cpu_id()].walking;
	u64 outer = load_relaxed(walking);

	if (outer == 0) {
		store_relaxed(walking, load_relaxed(&s2->generation));
		fence_full();
	}
	return outer;
}

void s2_walk_end(struct s2 *s2, u64 outer)
{
	store_release(&s2->cpu[this_cpu_id()].walking, outer);
}

/* Another CPU's word: 0, or the generation it is in. Waits until it is in none older than this. */
static void wait_until_past(const u64 *word, u64 generation)
{
	for (;;) {
		u64 since = load_acquire(word);

		if (since == 0 || since >= generation) {
			return;
		}
		cpu_relax();
	}
}

void s2_epoch_wait_walks(struct s2 *s2)
{
	u64 now = atomic_add(&s2->generation, 1);

	check(s2->cpu[this_cpu_id()].walking == 0);
	for (u32 i = 0; i < cpu_count; i++) {
		wait_until_past(&s2->cpu[i].walking, now);
	}
}

static void flush_ranges(const struct s2_batch *batch)
{
	struct s2 *s2 = batch->s2;

	for (u32 i = 0; i < batch->range_count; i++) {
		arch_s2_flush_range(s2, gpa(batch->ranges[i].start),
				    batch->ranges[i].end - batch->ranges[i].start,
				    batch->ranges[i].level);
	}
	arch_s2_flush_tail(s2);
	atomic_add(&s2->stats.flush_ranges, batch->range_count);
}

/* Cost model: beyond this many pages, refilling the TLB costs less than walking the ranges. */
static bool is_cheaper_whole(const struct s2_batch *batch)
{
	u64 pages = 0;

	for (u32 i = 0; i < batch->range_count; i++) {
		pages += (batch->ranges[i].end - batch->ranges[i].start) >> PAGE_SHIFT;
	}
	return batch->everything || pages > ARCH_S2_RANGE_PAGES_MAX;
}

static void flush_by_broadcast(const struct s2_batch *batch)
{
	if (is_cheaper_whole(batch)) {
		arch_s2_flush_space(batch->s2);
		atomic_add(&batch->s2->stats.flush_whole, 1);
	} else {
		flush_ranges(batch);
	}
}

static void kick_if_in_guest(struct s2 *s2, u32 cpu, u64 generation)
{
	u64 entered = load_once(&s2->cpu[cpu].in_guest);

	if (entered != 0 && entered < generation) {
		cpu_kick(&cpus[cpu]);
		atomic_add(&s2->stats.kicks, 1);
	} else {
		atomic_add(&s2->stats.kicks_avoided, 1);
	}
}

static void flush_by_generation(struct s2 *s2)
{
	u64 generation = atomic_add(&s2->flush_generation, 1);

	atomic_add(&s2->stats.flush_whole, 1);
	for (u32 i = 0; i < cpu_count; i++) {
		kick_if_in_guest(s2, i, generation);
	}
	for (u32 i = 0; i < cpu_count; i++) {
		wait_until_past(&s2->cpu[i].in_guest, generation);
	}
}

void s2_epoch_flush(struct s2_batch *batch)
{
	fence_full();
	if (arch_s2_broadcasts()) {
		flush_by_broadcast(batch);
	} else {
		flush_by_generation(batch->s2);
	}
}

/* This CPU is behind: it flushes itself, and again if a closer came meanwhile. */
void s2_entering_slow(struct s2 *s2)
{
	struct s2_cpu *me = &s2->cpu[this_cpu_id()];
	u64 generation;

	while (me->flushed < (generation = load_once(&s2->flush_generation))) {
		arch_s2_flush_local(s2);
		me->flushed = generation;
		if (!arch_s2_broadcasts()) {
			store_relaxed(&me->in_guest, generation);
			fence_full();
		}
		atomic_add(&s2->stats.flush_at_entry, 1);
	}
}
