#include "hyp/swap_pressure.h"

/* What it has, in pages that are used, times 1000. */
static u64 taxed(const struct pressure_guest *g)
{
	u64 active = min_u64(g->active_permille, 1000), idle = 1000 - active;

	return g->current * (active + idle * PRESSURE_IDLE_COST);
}

/* Does `a` pay less for each page than `b`? Weights are below 2^16 and pages below 2^36, so nothing
 * overflows. */
static bool pays_less(const struct pressure_guest *a, const struct pressure_guest *b)
{
	return (taxed(a) >> 12) * b->weight > (taxed(b) >> 12) * a->weight;
}

u32 pressure_choose(const struct pressure_guest *guests, u32 count)
{
	u32 chosen = PRESSURE_NOBODY;

	for (u32 i = 0; i < count; i++) {
		const struct pressure_guest *g = &guests[i];

		if (!g->is_out && g->current > g->min &&
		    (chosen == PRESSURE_NOBODY || pays_less(g, &guests[chosen]))) {
			chosen = i;
		}
	}
	return chosen;
}
