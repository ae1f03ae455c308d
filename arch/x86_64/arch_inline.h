/* Answers that must be inline: who am I, what time is it, how do I wait. */
#ifndef ARCH_INLINE_H
#define ARCH_INLINE_H

#include "hyp/types.h"

#include "cpureg.h"

struct cpu;

/* GS points to this CPU's block, whose first member points to itself; a stack never moves to
 * another CPU. */
static inline struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	__asm__("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* Ticks of the time-stamp counter. */
static inline u64 arch_now(void)
{
	return read_tsc();
}

/* INVEPT acts on the CPU that executes it. */
static inline bool arch_s2_broadcasts(void)
{
	return false;
}

#endif
