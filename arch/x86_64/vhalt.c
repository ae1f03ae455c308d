/*
 * A vCPU that has a CPU to itself halts in hardware. It leaves that by a kick of its CPU as by any
 * exit, but would be entered as it was left: halted. And a HLT that is still to come would never
 * know of a kick before it, so while there is one, HLT exits.
 */
#include "vhalt.h"

#include "vcpu_vmx.h"
#include "vmcs.h"

void vhalt_kick(struct vcpu *target)
{
	store_once(&target->arch.kicked, 1);
	vcpu_request(target, VCPU_REQUEST_IRQ);
}

/* What waits in Lamina asks for its kick itself: arch_vcpu_has_irq(). */
void vhalt_sync(struct vcpu *vcpu)
{
	if (likely(!load_relaxed(&vcpu->arch.kicked))) {
		return;
	}
	if (vmcs_read(VMCS_GUEST_ACTIVITY) == ACTIVITY_HLT) {
		vhalt_take_kick(vcpu);
		vmcs_write(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
	} else {
		vcpu_set_control(vcpu, CPU_HLT, true);
	}
}

bool vhalt_take_kick(struct vcpu *vcpu)
{
	return atomic_swap(&vcpu->arch.kicked, 0);
}

void vhalt_trap(struct vcpu *vcpu, bool trap)
{
	vcpu_set_control(vcpu, CPU_HLT, trap || load_relaxed(&vcpu->arch.kicked));
}
