#include "vinject.h"

#include "hyp/atomic.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"

#include "cpureg.h"
#include "vcpu_vmx.h"
#include "vfault.h"
#include "vlapic.h"
#include "vmcs.h"

#define HAS_ERROR_CODE 0x27d00u /* 8, 10 to 14, 17 */

static u64 make_event(u8 vector, u64 type)
{
	return EVENT_VALID | field_set(type, EVENT_TYPE) | vector;
}

static void pend_exception(struct vcpu *vcpu, u8 vector, u32 error)
{
	bool has_error = vector < 32 && (HAS_ERROR_CODE & BIT(vector)) &&
			 (vmcs_read(VMCS_GUEST_CR0) & CR0_PE);

	vcpu->arch.pending_event =
		make_event(vector, EVENT_EXCEPTION) | (has_error ? EVENT_HAS_ERROR : 0);
	vcpu->arch.pending_error = error;
	vcpu_request_delivery(vcpu);
}

static bool is_exception(u64 event)
{
	return (event & EVENT_VALID) && field_get(event, EVENT_TYPE) == EVENT_EXCEPTION;
}

void vinject_exception(struct vcpu *vcpu, u8 vector, u32 error)
{
	u64 delivered = vmcs_read(VMCS_IDT_EVENT);
	u32 combined = is_exception(delivered)
			       ? vfault_combine((u8)field_get(delivered, EVENT_VECTOR), vector)
			       : vector;

	if (combined == VFAULT_SHUTDOWN) {
		vm_crash(vcpu->vm, "vCPU %u: no fault can be delivered (triple fault)", vcpu->id);
		return;
	}
	pend_exception(vcpu, (u8)combined, combined == vector ? error : 0);
}

void vinject_keep(struct vcpu *vcpu)
{
	u64 event = vmcs_read(VMCS_IDT_EVENT);

	if (likely(!(event & EVENT_VALID))) {
		return;
	}
	if (field_get(event, EVENT_TYPE) == EVENT_NMI) {
		/* Its first try has blocked it (28.2.4). */
		vmcs_write(VMCS_GUEST_INTERRUPTIBILITY,
			   vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) & ~BLOCKED_BY_NMI);
	}
	vcpu->arch.pending_event =
		event & (EVENT_VALID | EVENT_HAS_ERROR | EVENT_TYPE | EVENT_VECTOR);
	vcpu->arch.pending_error = vmcs_read(VMCS_IDT_ERROR_CODE);
	vcpu_request_delivery(vcpu);
}

static void enter_with(struct vcpu *vcpu, u64 event)
{
	u64 type = field_get(event, EVENT_TYPE);

	if (event & EVENT_HAS_ERROR) {
		vmcs_write(VMCS_ENTRY_ERROR_CODE, vcpu->arch.pending_error);
	}
	if (type == EVENT_SOFTWARE || type == EVENT_PRIVILEGED_SOFTWARE ||
	    type == EVENT_SOFTWARE_EXCEPTION) {
		vmcs_write(VMCS_ENTRY_LENGTH, vmcs_read(VMCS_EXIT_LENGTH));
	}
	vmcs_write(VMCS_ENTRY_EVENT, event);
}

static bool can_take_interrupt(void)
{
	return (vmcs_read(VMCS_GUEST_RFLAGS) & RFLAGS_IF) &&
	       !(vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS));
}

/* From its delivery to the next IRET the CPU keeps another one to itself (SDM volume 3A, 6.7.1). */
static bool can_take_nmi(void)
{
	return !(vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) &
		 (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS | BLOCKED_BY_NMI));
}

/*
 * What waits is asked for again as soon as the guest can take it. In the shadow of STI a CPU may
 * exit for an NMI that must not be entered with: there, what ends it opens interrupts, too.
 */
static void ask_for_windows(struct vcpu *vcpu, bool interrupt)
{
	bool nmi = load_relaxed(&vcpu->arch.waiting_nmi);
	bool by_sti = nmi && (vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKED_BY_STI);

	vcpu_set_control(vcpu, CPU_INTERRUPT_WINDOW, interrupt || by_sti);
	vcpu_set_control(vcpu, CPU_NMI_WINDOW, nmi && !by_sti);
}

void vinject_deliver(struct vcpu *vcpu)
{
	struct arch_vcpu *a = &vcpu->arch;
	int vector = vlapic_pending(&a->lapic);

	if (vmcs_read(VMCS_ENTRY_EVENT) & EVENT_VALID) {
		/* From before: the vCPU left its CPU without having been entered. It is not lost.
		 */
	} else if (a->pending_event) {
		enter_with(vcpu, a->pending_event);
		a->pending_event = 0;
	} else if (unlikely(load_relaxed(&a->waiting_nmi)) && can_take_nmi()) {
		store_relaxed(&a->waiting_nmi, 0);
		enter_with(vcpu, make_event(2, EVENT_NMI));
	} else if (vector >= 0 && can_take_interrupt()) {
		vlapic_accept(&a->lapic, (u8)vector);
		enter_with(vcpu, make_event((u8)vector, EVENT_INTERRUPT));
		atomic_add(&vcpu->vm->counters.irqs_injected, 1);
		vector = vlapic_pending(&a->lapic);
	}
	ask_for_windows(vcpu, vector >= 0);
}
