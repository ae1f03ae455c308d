/*
 * Physical CPUs: one block each, who is online, and the kick.
 *
 * CPUs are numbered 0..cpu_count-1 in boot order; 0 is the one that booted. Lamina runs with
 * interrupts masked: an interrupt is taken only out of a guest, or polled by an idle CPU.
 */
#ifndef HYP_CPU_H
#define HYP_CPU_H

#include "hyp/types.h"

#include <arch_cpu.h>
#include <arch_inline.h>

#define CPU_MAX 16

struct vcpu;

struct cpu {
	/* Read by the assembly of the architecture, at offsets it asserts. */
	struct cpu *self;
	struct vcpu *current; /* the vCPU whose registers are loaded here, or NULL */

	/* Set once before the CPU is online. */
	u32 id;
	u64 hw_id; /* what the firmware calls it: MPIDR affinity, APIC id */

	/* Private to this CPU. */
	struct arch_cpu arch;
	u32 exceptions;	    /* of Lamina's own, taken here: see own_trap_begin() */
	u64 timer_deadline; /* what the hypervisor's timer is set to; ~0 = off */

	/* Read by others. */
	bool online;
	bool stopped;	/* parked for good: see cpu_stop_others() */
	bool idle;	/* waits for work; who calls it clears this, and kicks */
	bool contended; /* somebody waited when it chose: slice timer on, WFI trapped */
} __attribute__((aligned(64)));

extern struct cpu cpus[CPU_MAX];
extern u32 cpu_count; /* CPUs that came online at boot; constant afterwards */

/* The CPU that runs this. this_cpu() is answered by <arch_inline.h>. */
static inline u32 this_cpu_id(void)
{
	return this_cpu()->id;
}

/*
 * Makes `cpu` leave its guest or its idle wait soon, at least once after this call began. Returns
 * at once; does nothing when `cpu` is the caller.
 */
void cpu_kick(struct cpu *cpu);

/* Kicks sent so far, machine-wide. */
extern u64 cpu_kicks_sent;

/* Fills cpus[id] for the CPU that the firmware calls `hw_id`; before it runs any C but this. */
void cpu_init(struct cpu *cpu, u32 id, u64 hw_id);

/*
 * Starts all other CPUs that the machine has; each runs cpu_main(). Returns when all are online or
 * refused (which is logged) and cpu_count is final. Once, on CPU 0.
 */
void cpu_start_others(void);

/* Stops all other CPUs, as far as they answer, and waits for that, not for long. For panic. */
void cpu_stop_others(void);
/* The caller was asked to stop. */
noreturn_fn void cpu_park(void);

#endif
