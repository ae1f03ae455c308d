/*
 * Spinlocks, fair by ticket, and the one place where the lock order is said.
 *
 * LOCK ORDER, outermost first; take no lock while you hold one further right:
 *
 *     operator < vm < view < swap < s2 < rmap < vgic < device < log < sched
 *         < ident < pool < frame < console
 *
 * Of two locks of a kind the second is only tried (lock_try).
 *
 * The hypervisor runs with interrupts masked, so no lock needs an interrupt-safe form. Nothing
 * unbounded runs under a lock (I7), and a stage-2 fault takes none that is VM-wide (I8).
 */
#ifndef HYP_LOCK_H
#define HYP_LOCK_H

#include "hyp/atomic.h"

#include <arch_inline.h>

struct lock {
	u32 next;    /* ticket that the next comer draws */
	u32 serving; /* ticket that may go in */
};

/* Until `ticket` may go in. */
void lock_wait(struct lock *l, u32 ticket);

static inline void lock_take(struct lock *l)
{
	u32 ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);

	if (unlikely(load_acquire(&l->serving) != ticket)) {
		lock_wait(l, ticket);
	}
}

static inline bool lock_try(struct lock *l)
{
	u32 serving = load_acquire(&l->serving); /* lock_drop released it there */

	return __atomic_compare_exchange_n(&l->next, &serving, serving + 1, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static inline void lock_drop(struct lock *l)
{
	store_release(&l->serving, load_relaxed(&l->serving) + 1);
}

#endif
