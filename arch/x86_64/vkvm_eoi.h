/*
 * The end of an interrupt without an exit (MSR_KVM_PV_EOI_EN; Linux,
 * Documentation/virt/kvm/x86/msr.rst). Lamina sets a bit in the guest's memory: the interrupt that
 * it has taken may end by clearing that bit, instead of by writing the APIC's register.
 *
 *     offer      before an entry, if nothing needs to happen at the end of what is in service
 *     take back  before anybody looks at the APIC's registers: if the bit is clear, the interrupt
 *                ended; if not, the guest ends it by the register after all
 *
 * In between the guest may exit and be entered any number of times, and be on another CPU. What
 * others see of the APIC meanwhile, its priority, may be higher than it is.
 *
 * All on the vCPU's own CPU.
 */
#ifndef VKVM_EOI_H
#define VKVM_EOI_H

#include "hyp/types.h"

struct vlapic;
struct vm;

struct vkvm_eoi {
	u64 msr;      /* as the guest wrote it: where the bit is, and whether */
	bool offered; /* the bit was set, and not looked at since */
};

/* WRMSR. False: #GP, and nothing changed: a reserved bit, not in RAM, no memory. What is offered is
 * taken back first. */
bool vkvm_eoi_set(struct vm *vm, struct vkvm_eoi *eoi, struct vlapic *lapic, u64 value);

/* No fault: where the guest's memory is not there now, nothing is offered. */
void vkvm_eoi_offer(struct vm *vm, struct vkvm_eoi *eoi, const struct vlapic *lapic);

/* If there is no memory to see the bit in, the VM is ended. */
void vkvm_eoi_take_back(struct vm *vm, struct vkvm_eoi *eoi, struct vlapic *lapic);

#endif
