/* Answers that must be inline: who am I, what time is it, how do I wait. */
#ifndef ARCH_INLINE_H
#define ARCH_INLINE_H

#include "hyp/types.h"

struct cpu;

/* TPIDR_EL2 holds this CPU's block from its first C function on; a stack never moves to another
 * CPU. */
static inline struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	__asm__("mrs %0, tpidr_el2" : "=r"(cpu));
	return cpu;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("yield" ::: "memory");
}

/* Ticks of the system counter. */
static inline u64 arch_now(void)
{
	u64 ticks;

	__asm__ volatile("mrs %0, cntpct_el0" : "=r"(ticks));
	return ticks;
}

/* TLBI ...IS reaches every CPU of the inner-shareable domain. */
static inline bool arch_s2_broadcasts(void)
{
	return true;
}

#endif
