/*
 * The hypervisor's timer, CNTHP_EL2, and the arithmetic of time.
 *
 * Ticks and nanoseconds are converted by one 64x64 -> 128 bit product and a shift. The factor has
 * as many bits as fit, so the relative error is under 2^-58: less than a tick in a century at 1
 * GHz.
 */
#include "arch/cpu.h"

#include "machine.h"
#include "sysreg.h"

#define NS_PER_SECOND 1000000000ull
#define NEVER (~0ull)

struct scale {
	u64 factor;
	u32 shift; /* 1..63 */
};

static u64 hz;
static struct scale to_ns, to_ticks;

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

u64 arch_timer_hz(void)
{
	return hz;
}

u64 arch_ticks_to_ns(u64 ticks)
{
	return apply(to_ns, ticks);
}

u64 arch_ns_to_ticks(u64 ns)
{
	return apply(to_ticks, ns);
}

void arch_timer_set(u64 deadline)
{
	this_cpu()->timer_deadline = deadline;
	if (deadline == NEVER) {
		write_sysreg(cnthp_ctl_el2, 0);
	} else {
		write_sysreg(cnthp_cval_el2, deadline);
		write_sysreg(cnthp_ctl_el2, CNT_CTL_ENABLE);
	}
	isb(); /* so that a poll right after it sees the line as it is now */
}

void timer_disarm(void)
{
	arch_timer_set(NEVER);
}

void timer_init(void)
{
	hz = machine.timer_hz != 0 ? machine.timer_hz : read_sysreg(cntfrq_el0);
	if (hz == 0) {
		boot_refuse("neither CNTFRQ_EL0 nor the device tree says the timer's frequency");
	}
	to_ns = make_scale(NS_PER_SECOND, hz);
	to_ticks = make_scale(hz, NS_PER_SECOND);
}

void timer_init_cpu(void)
{
	timer_disarm();
}
