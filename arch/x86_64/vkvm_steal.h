/*
 * KVM's record of stolen time (MSR_KVM_STEAL_TIME; Linux, Documentation/virt/kvm/x86/msr.rst): how
 * long a vCPU waited for a CPU, and in its byte `preempted` whether it waits now. Another vCPU that
 * finds it waiting asks there for its linear translations to be forgotten, and spares an interrupt.
 */
#ifndef VKVM_STEAL_H
#define VKVM_STEAL_H

#include "hyp/types.h"

struct vm;

struct vkvm_steal {
	u64 msr; /* as the guest wrote it: where the record is, and whether */
};

/*
 * WRMSR, on the vCPU's own CPU. False: #GP, and nothing changed: a reserved bit, not all in RAM, or
 * no memory for it. The record is written at once.
 */
bool vkvm_steal_set(struct vm *vm, struct vkvm_steal *steal, u64 value, u64 stolen_ns);

/* The vCPU is put down, and would go on. No fault: where the record is not there, nobody is told.
 */
void vkvm_steal_tell_preempted(struct vm *vm, const struct vkvm_steal *steal);

/*
 * The vCPU has a CPU again and is about to be entered: the record says so, and how long it waited
 * in all. True: what it has of linear translations must be forgotten before. If there is no memory
 * for the record the VM is ended: others would ask there, and nobody would see.
 */
bool vkvm_steal_take_up(struct vm *vm, const struct vkvm_steal *steal, u64 stolen_ns);

#endif
