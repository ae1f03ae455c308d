/*
 * A virtual CPU: its run loop, its power state, its place in the scheduler.
 */
#ifndef HYP_VCPU_H
#define HYP_VCPU_H

#include "hyp/exit.h"
#include "hyp/vm.h"

#include <arch_vcpu.h>

enum vcpu_state {
	VCPU_OFF,      /* never started, or powered off by the guest */
	VCPU_RUNNABLE, /* wants a CPU */
	VCPU_RUNNING,  /* has one */
	VCPU_BLOCKED,  /* idle until an interrupt or its deadline */
};

struct vcpu {
	/* First: what entry and exit save, at offsets that the architecture asserts. */
	struct arch_vcpu arch;

	/* Constant once built. */
	struct vm *vm;
	u32 id; /* 0..vcpu_count-1 */

	/* Private to the CPU that runs it. */
	struct exit exit;
	u64 exits[EXIT_REASON_COUNT];
	u64 inside_ticks[EXIT_REASON_COUNT]; /* spent in Lamina for exits of this kind */
	/* A device that it alone sees, before all of the VM's; size 0: it has none. RAM goes first.
	 */
	struct mmio_region own_mmio;

	/* Written by anyone, taken by the vCPU before entry. */
	u32 requests; /* bits below, by atomic_or */

	/* Scheduler: guarded by the sched lock. */
	enum vcpu_state state;
	struct vcpu *next; /* in the list of runnable or of sleeping vCPUs */
	u64 vruntime;	   /* ns run, scaled by weight */
	u64 changed_at;	   /* ticks, when it last began to run or to wait */
	u64 wake_at;	   /* ticks, ~0 = none; while BLOCKED */
	struct cpu *cpu;   /* where it is loaded, or NULL; read without the lock for kicks */
	u64 stolen_ns;	   /* waited for a CPU */
	u64 run_ns;
};

#define VCPU_REQUEST_IRQ BIT(0)	   /* the interrupt controller has something to deliver */
#define VCPU_REQUEST_WAIT BIT(1)   /* as WFI: wait for an interrupt or the next timer */
#define VCPU_REQUEST_YIELD BIT(2)  /* the scheduler wants to choose again */
#define VCPU_REQUEST_STOP BIT(3)   /* leave the guest for good: VM ended, vCPU off */
#define VCPU_REQUEST_PAUSE BIT(4)  /* stays set while the operator pauses the VM */
#define VCPU_REQUEST_RELAX BIT(5)  /* it spins: whoever waits goes first */
#define VCPU_REQUEST_DEVICE BIT(6) /* a virtio device of the VM has something to do */

/* Why vcpu_run came back. */
enum vcpu_leave { LEAVE_NOT, LEAVE_YIELD, LEAVE_RELAX, LEAVE_BLOCK, LEAVE_PAUSE, LEAVE_STOP };

/* Runs `vcpu`, loaded on this CPU, until the scheduler should choose again. */
enum vcpu_leave vcpu_run(struct vcpu *vcpu);

/* Sets request bits and makes the vCPU notice: kicked where it runs, woken where it blocks. */
void vcpu_request(struct vcpu *vcpu, u32 bits);

/*
 * Power. vcpu_on: EXISTS when it is on already: exactly one of racing callers gets OK. The vCPU
 * starts at `entry` with `context` in its first argument register, otherwise reset. Guest's words
 * come here checked by nobody: `entry` may be any number; a wrong one faults in that guest.
 */
enum status vcpu_on(struct vcpu *vcpu, u64 entry, u64 context);
/* The caller's own vCPU goes off, and is not entered again until vcpu_on. */
void vcpu_off(struct vcpu *vcpu);
bool vcpu_is_on(const struct vcpu *vcpu);

#endif
