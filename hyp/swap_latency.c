#include "hyp/swap_latency.h"

#include "hyp/atomic.h"

const char *swap_source_name(enum swap_source source)
{
	switch (source) {
	case SWAP_FROM_FRESH:
		return "fresh";
	case SWAP_FROM_FLIGHT:
		return "rescued";
	case SWAP_FROM_SHARED:
		return "shared";
	default:
		return store_name((enum store_kind)(source - SWAP_FROM_STORES));
	}
}

static u32 bin_of(u64 ticks)
{
	u32 log2 = 63 - (u32)__builtin_clzll(ticks | 1);

	return (u32)min_u64(log2, SWAP_LATENCY_BINS - 1);
}

void swap_latency_note(struct swap_latency *latency, u64 ticks)
{
	atomic_add(&latency->ticks, ticks);
	atomic_add(&latency->bins[bin_of(ticks)], 1);
}

u64 swap_latency_count(const struct swap_latency *latency)
{
	u64 count = 0;

	for (u32 i = 0; i < SWAP_LATENCY_BINS; i++) {
		count += load_relaxed(&latency->bins[i]);
	}
	return count;
}
