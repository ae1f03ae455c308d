/*
 * All CPUs at once, and what CPUs wait for each other with. A CPU that waits costs its host little:
 * releasing stores are followed by a signal.
 */
#include "lib.h"

void cpu_run_all(cpu_fn fn)
{
	u32 me = cpu_number();

	for (u32 i = 0; i < machine.cpu_count; i++) {
		if (i != me) {
			int r = cpu_start(i, fn);

			if (r != 0) {
				check("cpu_on", false, "CPU %u: %d", i, r);
				guest_end();
			}
		}
	}
	fn(me);
	for (u32 i = 0; i < machine.cpu_count; i++) {
		if (i != me) {
			cpu_wait_off(i);
		}
	}
}

void spin_lock(struct spinlock *l)
{
	u32 ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);

	while (__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) != ticket) {
		cpu_wait();
	}
}

void spin_unlock(struct spinlock *l)
{
	__atomic_store_n(&l->owner, l->owner + 1, __ATOMIC_RELEASE);
	cpu_signal();
}

void barrier_wait(struct barrier *b, u32 count)
{
	u32 round = __atomic_load_n(&b->round, __ATOMIC_ACQUIRE);

	if (__atomic_add_fetch(&b->waiting, 1, __ATOMIC_ACQ_REL) == count) {
		__atomic_store_n(&b->waiting, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&b->round, round + 1, __ATOMIC_RELEASE);
		cpu_signal();
		return;
	}
	while (__atomic_load_n(&b->round, __ATOMIC_ACQUIRE) == round) {
		cpu_wait();
	}
}
