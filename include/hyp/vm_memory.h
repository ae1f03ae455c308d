/* What faults of guest RAM have in common, whoever counts its pages. */
#ifndef HYP_VM_MEMORY_H
#define HYP_VM_MEMORY_H

#include "hyp/vm.h"

/* A block of 2^order frames, with one reference, that holds what belongs at `at`, which is aligned
 * to its size: zeroes, or the images that lie there; hpa_none(): there is none. */
hpa_t vm_memory_fresh(const struct vm *vm, gpa_t at, unsigned order);

/* A fault was answered with a page of this order, which is mapped. */
void vm_memory_count_fault(struct vm *vm, unsigned order);

#endif
