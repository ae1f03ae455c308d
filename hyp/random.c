#include "hyp/random.h"

#include "hyp/atomic.h"

#include <arch_inline.h>

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
 */
static u64 mix(u64 value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

u64 random_weak(u64 seed)
{
	static u64 state;
	u64 value = atomic_add(&state, 0x9e3779b97f4a7c15ull);

	return mix(seed ^ mix(value ^ arch_now()));
}
