/*
 * Memory that a guest says it does not need: its frames go, and the next touch gets fresh bytes, as
 * the first one did. It may be said at any time of any of its RAM; it is the guest's own loss.
 */
#ifndef HYP_VM_MEMORY_GIVE_UP_H
#define HYP_VM_MEMORY_GIVE_UP_H

#include "hyp/vm.h"

/*
 * Gives up what of each range (in bytes, of any values, which may overlap) is whole pages inside of
 * RAM: all of them in one batch, so there is one round of invalidation. Returns how many bytes that
 * were.
 *
 * Best effort: what cannot go stays as it is. That is what is on loan from another space, a block
 * that would have to be cut where there is no memory for its table, and under overcommit what a
 * fault or reclaim has in its hands just now. Not in a walk, nor with a lock or a batch.
 */
u64 vm_memory_give_up(struct vm *vm, const struct vm_ram_range *ranges, u32 count);

/* So many bytes are one bounded piece of work: a caller with more calls again. */
#define VM_GIVE_UP_MAX MIB(256)

#endif
