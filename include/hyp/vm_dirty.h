/*
 * Which of a VM's RAM was written: s2's dirty logging (hyp/s2.h), and beside it the log that the
 * CPU keeps for itself, where it does (x86: page-modification logging, SDM volume 3C, 29.3.6).
 *
 *     vm_dirty_take     what the CPUs have logged: costs what was written; an early round of a
 *                       sender
 *     vm_dirty_get      what the tables say: costs a walk over all there is; the last round, which
 *                       must miss nothing
 *
 * Either is followed by s2_dirty_clear() and its close, as s2.h has it. Ranges lie in the VM's RAM,
 * page-aligned; bitmaps have a bit for each page from `at` on, and bits are added to what is there.
 */
#ifndef HYP_VM_DIRTY_H
#define HYP_VM_DIRTY_H

#include "hyp/vm.h"

/* From here on writes are logged. EXISTS: they were. NOMEM; DENIED as s2_dirty_start(). */
enum status vm_dirty_start(struct vm *vm);
void vm_dirty_stop(struct vm *vm);
/* Logging is on, and CPUs keep a log. */
bool vm_dirty_has_log(const struct vm *vm);
/* The VM's frames and tables go: so does what this needed. */
void vm_dirty_end(struct vm *vm);

/* INVALID: nothing is logged, or the range is no RAM. */
enum status vm_dirty_get(struct vm *vm, gpa_t at, u64 size, u64 *bitmap);

/*
 * Moves what CPUs have logged of the range into the bitmap: all that a vCPU wrote until its last
 * exit, but for pages that were mapped, or set by s2_dirty_set(), while logging was on: those the
 * tables alone tell of. INVALID also where CPUs keep no log: vm_dirty_get() is the only way then.
 */
enum status vm_dirty_take(struct vm *vm, gpa_t at, u64 size, u64 *bitmap);

/* For the architecture: a CPU has logged these guest-physical addresses. Any CPU. */
void vm_dirty_log(struct vm *vm, const u64 *addresses, u64 count);

#endif
