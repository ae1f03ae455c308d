/*
 * A device's interrupt line. Its level follows from the device's state, which the device's lock
 * guards; but whoever takes the line's level (arch_vm_set_irq) may have a lock that comes before
 * the device's in the lock order. So it is told with the device's lock dropped.
 */
#ifndef HYP_DEV_LINE_H
#define HYP_DEV_LINE_H

#include "hyp/lock.h"
#include "hyp/types.h"

struct vm;

struct dev_line {
	/* Constant once the device is made; all else is 0 then: the line is low. */
	struct vm *vm;
	u32 irq; /* as arch_vm_set_irq numbers them */

	/* Guarded by the device's lock. */
	bool level; /* what the device's state says */
	bool told;  /* what was told last */
	bool busy;  /* some CPU is telling */
};

/*
 * Called with the device's lock held, drops it: the line is to be `level`. One CPU at a time tells,
 * and looks again afterwards; so once nobody is in here, the last level told is the true one. A
 * level that lasted for less than a telling may never be told.
 */
void dev_line_drop(struct dev_line *line, struct lock *lock, bool level);

#endif
