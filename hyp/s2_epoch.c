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
 *
 * Spaces that depend on this one (hyp/s2_view.h), whose CPUs use its tables or what was derived
 * from its leaves, go through each step along with it: all are asked before the first is waited
 * for.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

#include <arch/s2.h>

/* Another CPU's word: 0, or the generation it is in. Waits until it is in none older than this. */
static void wait_until_past(const u64 *word, u64 generation)
{
	u64 since;

	while ((since = load_acquire(word)) != 0 && since < generation) {
		cpu_relax();
	}
}

u32 s2_all_spaces(struct s2 *s2, struct s2 *spaces[S2_SPACES_MAX])
{
	u32 count = 1;

	spaces[0] = s2;
	if (likely(load_relaxed(&s2->dependent_count) == 0)) {
		return 1;
	}
	for (u32 i = 0; i < S2_DEPENDENTS_MAX; i++) {
		struct s2 *space = load_acquire(&s2->dependents[i].space);

		if (space) {
			spaces[count++] = space;
		}
	}
	return count;
}

void s2_epoch_wait_own_walks(struct s2 *s2)
{
	u64 now = atomic_add(&s2->generation, 1);

	check(s2->cpu[this_cpu_id()].walking == 0);
	for (u32 cpu = 0; cpu < cpu_count; cpu++) {
		wait_until_past(&s2->cpu[cpu].walking, now);
	}
}

void s2_epoch_wait_walks(struct s2 *s2)
{
	struct s2 *spaces[S2_SPACES_MAX];
	u32 count = s2_all_spaces(s2, spaces);

	for (u32 i = 0; i < count; i++) {
		s2_epoch_wait_own_walks(spaces[i]);
	}
}

void s2_epoch_owe(struct s2 *s2)
{
	struct s2 *spaces[S2_SPACES_MAX];
	u64 outer = s2_walk_begin(s2); /* so long no dependent goes */
	u32 count = s2_all_spaces(s2, spaces);

	for (u32 i = 0; i < count; i++) {
		atomic_add(&spaces[i]->flush_generation, 1);
	}
	s2_walk_end(s2, outer);
}

/*
 * Another batch that is open may have split the leaf that our entries were parts of: until it is
 * closed CPUs remember the whole, and an invalidation that names the level of the parts may spare
 * that (DDI 0487, TTL). A batch says that it is closed after its invalidation.
 */
static bool is_alone(const struct s2_batch *batch)
{
	for (unsigned i = 0; i < S2_OPEN_MAX; i++) {
		u64 generation = load_acquire(&batch->s2->open[i]);

		if (generation != 0 && generation != batch->generation) {
			return false;
		}
	}
	return true;
}

/* A dependent's leaves may be of other levels. */
static void flush_ranges(const struct s2_batch *batch, struct s2 *s2)
{
	bool names_levels = s2 == batch->s2 && is_alone(batch);

	for (u32 i = 0; i < batch->range_count; i++) {
		const struct s2_batch_range *range = &batch->ranges[i];

		arch_s2_flush_range(s2, gpa(range->start), range->end - range->start,
				    names_levels ? range->level : S2_LEVELS_MAX);
	}
	arch_s2_flush_tail(s2);
	atomic_add(&s2->stats.flush_ranges, batch->range_count);
	atomic_add(&s2->stats.flush_saved, batch->entries - batch->range_count);
}

/* The cost model of s2.h. */
static bool is_cheaper_whole(const struct s2_batch *batch)
{
	u64 cost = 0;

	for (u32 i = 0; i < batch->range_count; i++) {
		const struct s2_batch_range *range = &batch->ranges[i];

		cost += arch_s2_flush_cost(batch->s2, range->end - range->start, range->level);
	}
	return batch->everything || cost > S2_FLUSH_WHOLE_COST;
}

static void count_whole(const struct s2_batch *batch, struct s2 *s2)
{
	atomic_add(&s2->stats.flush_whole, 1);
	atomic_add(&s2->stats.flush_saved, batch->entries - 1);
}

/* Returns what CPUs have to enter with before nothing old is left. */
static u64 ask_to_leave(const struct s2_batch *batch, struct s2 *s2)
{
	u64 generation = atomic_add(&s2->flush_generation, 1);

	count_whole(batch, s2);
	for (u32 cpu = 0; cpu < cpu_count; cpu++) {
		u64 entered = load_once(&s2->cpu[cpu].in_guest);
		bool is_behind = entered != 0 && entered < generation;

		if (is_behind) {
			cpu_kick(&cpus[cpu]);
		}
		atomic_add(is_behind ? &s2->stats.kicks : &s2->stats.kicks_avoided, 1);
	}
	return generation;
}

static void flush_by_generation(const struct s2_batch *batch, struct s2 *const *spaces, u32 count)
{
	u64 generations[S2_SPACES_MAX];

	for (u32 i = 0; i < count; i++) {
		generations[i] = ask_to_leave(batch, spaces[i]);
	}
	for (u32 i = 0; i < count; i++) {
		for (u32 cpu = 0; cpu < cpu_count; cpu++) {
			wait_until_past(&spaces[i]->cpu[cpu].in_guest, generations[i]);
		}
	}
}

void s2_epoch_flush(struct s2_batch *batch)
{
	struct s2 *spaces[S2_SPACES_MAX];
	u32 count = s2_all_spaces(batch->s2, spaces);
	bool whole;

	if (!arch_s2_broadcasts()) {
		flush_by_generation(batch, spaces, count);
		return;
	}
	whole = is_cheaper_whole(batch);
	for (u32 i = 0; i < count; i++) {
		if (whole) {
			arch_s2_flush_space(spaces[i]);
			count_whole(batch, spaces[i]);
		} else {
			flush_ranges(batch, spaces[i]);
		}
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
