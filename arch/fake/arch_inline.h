/* The laptop's answers: a thread is a CPU, time is a variable. */
#ifndef ARCH_INLINE_H
#define ARCH_INLINE_H

#include <sched.h>

#include "hyp/types.h"

struct cpu;

/* The CPU that this thread plays; set by fake_cpu_become(). */
extern __thread struct cpu *fake_this_cpu;

/* Ticks (1 tick = 1 ns); moves only when a test moves it. */
extern u64 fake_now;

/* May be set by a test before any space exists: both kinds of machine run the same core. */
extern bool fake_broadcasts;

static inline struct cpu *this_cpu(void)
{
	return fake_this_cpu;
}

static inline void cpu_relax(void)
{
	sched_yield();
}

static inline u64 arch_now(void)
{
	return __atomic_load_n(&fake_now, __ATOMIC_RELAXED);
}

static inline bool arch_s2_broadcasts(void)
{
	return fake_broadcasts;
}

#endif
