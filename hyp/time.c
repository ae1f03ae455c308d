/*
 * The arithmetic of time: one 64x64 -> 128 bit product and a shift. The factor has as many bits as
 * fit.
 */
#include "hyp/time.h"

#define NS_PER_SECOND 1000000000ull

struct scale {
	u64 factor;
	u32 shift; /* 1..63 */
};

static u64 hz = NS_PER_SECOND;
static struct scale to_ns = {BIT(62), 62}, to_ticks = {BIT(62), 62};

/* x * numerator / denominator */
static struct scale make_scale(u64 numerator, u64 denominator)
{
	struct scale scale = {.shift = 63};
	u64 whole = numerator / denominator;

	while (scale.shift > 1 && whole >= BIT(63 - scale.shift)) {
		scale.shift--;
	}
	scale.factor = whole << scale.shift;
	for (u64 rest = numerator % denominator, bit = scale.shift; bit-- > 0;) {
		rest *= 2; /* long division, a bit at a time: 128-bit division is not in the image
			    */
		if (rest >= denominator) {
			rest -= denominator;
			scale.factor |= BIT(bit);
		}
	}
	return scale;
}

static u64 apply(struct scale scale, u64 value)
{
	return (u64)((unsigned __int128)value * scale.factor >> scale.shift);
}

void time_set_hz(u64 ticks_per_second)
{
	hz = ticks_per_second;
	to_ns = make_scale(NS_PER_SECOND, hz);
	to_ticks = make_scale(hz, NS_PER_SECOND);
}

u64 time_hz(void)
{
	return hz;
}

u64 ticks_to_ns(u64 ticks)
{
	return apply(to_ns, ticks);
}

u64 ns_to_ticks(u64 ns)
{
	return apply(to_ticks, ns);
}
