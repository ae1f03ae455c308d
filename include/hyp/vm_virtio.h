/* Which virtio devices a guest has: those that its configuration asks for, slot by slot. */
#ifndef HYP_VM_VIRTIO_H
#define HYP_VM_VIRTIO_H

#include "hyp/vm.h"

/* How many slots they fill, from the first on; for who tells the guest of them. */
u32 vm_virtio_count(const struct config_vm *config);

/*
 * For arch_vm_init: makes them; slot n interrupts by line `irq_first` + n. NOMEM with a sentence,
 * which may be about the machine's disk; vm_virtio_end() gives back what was made.
 */
enum status vm_virtio_add(struct vm *vm, const struct config_vm *config, u32 irq_first, char *why,
			  size_t size);

/* For arch_vm_fini: no vCPU is on, and the operator does not look. And for arch_vm_reset: as new,
 * but what a disk holds stays. */
void vm_virtio_end(struct vm *vm);
void vm_virtio_reset(struct vm *vm);

#endif
