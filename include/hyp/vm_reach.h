/*
 * Guest RAM reached where it lies: for what a guest shares with Lamina word by word, while its CPUs
 * run. What is only copied goes by vm_memory_read() and vm_memory_write().
 */
#ifndef HYP_VM_REACH_H
#define HYP_VM_REACH_H

#include "hyp/vm.h"

/*
 * Called at most once, on the caller's CPU, with the bytes as they lie in the host's memory: for as
 * long as it runs, and no longer. It is short, takes no lock, and expects any other CPU of the
 * guest at the same bytes.
 */
typedef void (*vm_reach_fn)(void *context, void *bytes);

/*
 * Calls `fn` with [at, at + size), which lies in one page, to read and to write. Without a fault,
 * so where it matters little, or an answer must be had at once: AGAIN if that page is not there
 * now, or may not be written now. INVALID outside RAM, or where it crosses into another page.
 */
enum status vm_reach_present(struct vm *vm, gpa_t at, u64 size, vm_reach_fn fn, void *context);

/*
 * The same, faulting the page in as the guest's own write would: OK, or INVALID, or NOMEM, and then
 * `fn` was not called. It may wait for other CPUs, so not within a walk, and with no lock.
 */
enum status vm_reach(struct vm *vm, gpa_t at, u64 size, vm_reach_fn fn, void *context);

#endif
