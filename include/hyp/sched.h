/*
 * The scheduler: which vCPU runs where, for how long.
 *
 * One queue of runnable vCPUs, ordered by virtual run time (time run, divided by the VM's weight).
 * A CPU takes the one that has had least. The slice timer runs only while somebody waits; a vCPU
 * that has a CPU to itself is never interrupted, and its WFI is not even trapped.
 */
#ifndef HYP_SCHED_H
#define HYP_SCHED_H

#include "hyp/vcpu.h"

/* Every CPU ends its boot here: choose, load, run, for ever. */
noreturn_fn void sched_loop(void);

/* Makes a BLOCKED vCPU runnable and finds it a CPU; nothing otherwise. */
void sched_wake(struct vcpu *vcpu);

/*
 * The vCPU that is loaded here gives its turn to `to`, if that waits for a CPU; it leaves the guest
 * for that when it would enter it next. Who has had a slice less than `to` still goes first.
 * False: `to` does not wait, and nothing happens.
 */
bool sched_yield_to(struct vcpu *to);

/* Makes an OFF vCPU runnable. Returns false, and changes nothing, when it was not OFF. */
bool sched_start(struct vcpu *vcpu);

/* The hypervisor's timer fired on this CPU. */
void sched_tick(void);

/* Calls `fn` on CPU 0, about every `ms` milliseconds, outside any guest: not in a walk, with no
 * lock or batch. At boot; no more than eight of this and the next. */
void sched_every(u32 ms, void (*fn)(void));

/* The same on whichever CPU comes first, one at a time. */
void sched_every_somewhere(u32 ms, void (*fn)(void));

/* For tests: nothing is done from time to time any more. */
void sched_no_chores(void);

#endif
