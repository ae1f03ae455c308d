/*
 * Pages by hash, in a table of fixed size: sets of a few, by the hash's low bits.
 *
 * Nobody takes a page out when it changes or goes: who finds one asks its record, and one that is
 * met no more gives way to others. So a table serves both pages that are shared, and those that
 * wait for another of their kind.
 */
#include "ksm_internal.h"

#include "hyp/addr.h"
#include "hyp/frame.h"

static struct {
	struct ksm_set *sets;
	u64 mask;
} table;

enum status ksm_table_init(u64 pages)
{
	u64 sets = 1;

	while (sets * KSM_WAYS < pages &&
	       2 * sets * sizeof(*table.sets) <= order_bytes(ORDER_MAX)) {
		sets *= 2;
	}
	table.sets = hyp_alloc(sets * sizeof(*table.sets));
	table.mask = sets - 1;
	return table.sets ? OK : NOMEM;
}

void ksm_table_fini(void)
{
	hyp_free(table.sets);
	table.sets = NULL;
}

struct ksm_set *ksm_set_of(u32 hash)
{
	return &table.sets[hash & table.mask];
}

static bool is_older(const struct ksm_candidate *a, const struct ksm_candidate *b, u16 now)
{
	return (u16)(now - a->seen) > (u16)(now - b->seen);
}

void ksm_remember(struct ksm_candidate candidate)
{
	struct ksm_candidate *ways = ksm_set_of(candidate.hash)->ways, *to = &ways[0];

	for (u32 i = 0; i < KSM_WAYS && to->guest != 0; i++) {
		if (ways[i].guest == 0 || is_older(&ways[i], to, candidate.seen)) {
			to = &ways[i];
		}
	}
	*to = candidate;
}
