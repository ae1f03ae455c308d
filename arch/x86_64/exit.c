/*
 * From the VMCS to the neutral struct exit (SDM volume 3C, 28.2 and appendix C for the numbers).
 */
#include "arch_enter.h"

#include <asm/vmx.h>

#include "arch/cpu.h"
#include "hyp/time.h"

#include "ept_fault.h"
#include "machine.h"
#include "vinject.h"
#include "vmx.h"

#define EXIT_REASONS_KNOWN 64

#define VIOLATION_READ BIT(0)
#define VIOLATION_WRITE BIT(1)
#define VIOLATION_EXECUTE BIT(2)
#define VIOLATION_LINEAR BIT(7)	    /* there is a linear address */
#define VIOLATION_TRANSLATED BIT(8) /* it was translated; else its page walk met the violation */
#define VIOLATION_IRET BIT(12)	    /* of an IRET, which has unblocked NMIs by then */

/* The preemption timer runs no longer than this at once: on some CPUs a kick does not reach a guest
 * whose interrupts are off (Bochs 2.7), and it has to be looked after all the same. */
#define TIMER_NS_MAX 10000000ull

static u64 timer_max;

/* What is 0 here is of an instruction that no guest has: an undefined one (emulate.c). */
#define KNOWN(reason) ((reason) + 1)
static const u8 reasons[EXIT_REASONS_KNOWN] = {
	[EXIT_REASON_EXCEPTION_NMI] = KNOWN(EXIT_UNKNOWN),
	[EXIT_REASON_EXTERNAL_INTERRUPT] = KNOWN(EXIT_INTERRUPT),
	[EXIT_REASON_PREEMPTION_TIMER] = KNOWN(EXIT_INTERRUPT),
	[EXIT_REASON_EPT_VIOLATION] = KNOWN(EXIT_MEMORY),
	[EXIT_REASON_VMCALL] = KNOWN(EXIT_HYPERCALL),
	[EXIT_REASON_IO_INSTRUCTION] = KNOWN(EXIT_PORT),
	[EXIT_REASON_HLT] = KNOWN(EXIT_IDLE),
	[EXIT_REASON_PAUSE_INSTRUCTION] = KNOWN(EXIT_RELAX),
	[EXIT_REASON_WBINVD] = KNOWN(EXIT_CACHE),
	[EXIT_REASON_INVD] = KNOWN(EXIT_CACHE),
	[EXIT_REASON_TRIPLE_FAULT] = KNOWN(EXIT_SHUTDOWN),
	[EXIT_REASON_EPT_MISCONFIG] = KNOWN(EXIT_MEMORY),
	[EXIT_REASON_INVALID_STATE] = KNOWN(EXIT_UNKNOWN),
	[EXIT_REASON_PML_FULL] = KNOWN(EXIT_LOG),
};

/* The IRET is run again, and until then NMIs are blocked (28.2.3). */
static void block_nmis_again(void)
{
	if (!(vmcs_read(VMCS_IDT_EVENT) & EVENT_VALID)) {
		vmcs_write(VMCS_GUEST_INTERRUPTIBILITY,
			   vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKED_BY_NMI);
	}
}

static void decode_violation(struct exit *e)
{
	u64 q = vmcs_read(VMCS_QUALIFICATION);

	e->access = (q & VIOLATION_READ ? ACCESS_READ : 0) |
		    (q & VIOLATION_WRITE ? ACCESS_WRITE : 0) |
		    (q & VIOLATION_EXECUTE ? ACCESS_EXEC : 0);
	e->table_walk = (q & VIOLATION_LINEAR) && !(q & VIOLATION_TRANSLATED);
	e->syndrome = q;
	if (unlikely(q & VIOLATION_IRET)) {
		block_nmis_again();
	}
}

/*
 * The access is tried again, so a step over it is still to come; and the CPU says so (SDM volume
 * 3C, 27.3.4) but for Bochs 2.7, which has it pending already. In the shadow of MOV SS it may be.
 */
static void forget_early_step(void)
{
	u64 pending = vmcs_read(VMCS_GUEST_PENDING_DEBUG);

	if (unlikely(pending & PENDING_DEBUG_STEP) &&
	    !(vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKED_BY_MOV_SS)) {
		vmcs_write(VMCS_GUEST_PENDING_DEBUG, pending & ~PENDING_DEBUG_STEP);
	}
}

/* A misconfiguration, which tells nothing but the address, is a first use; or it was, and another
 * CPU's use was faster (s2_ept_software). Else it is a mistake. */
static void decode_memory(struct vcpu *vcpu)
{
	struct exit *e = &vcpu->exit;

	forget_early_step();
	e->gpa = gpa(vmcs_read(VMCS_GUEST_PHYSICAL));
	e->access = 0;
	e->table_walk = false;
	e->accessed = vcpu->arch.exit_reason == EXIT_REASON_EPT_MISCONFIG;
	e->view = unlikely(vcpu->arch.offers) ? voffer_view(vcpu) : 0;
	e->decoded = false; /* arch_vcpu_decode_access() */
	if (!e->accessed) {
		decode_violation(e);
	}
	if (unlikely(ept_fault_is_mistake(vcpu))) {
		e->reason = EXIT_REGISTER; /* arch_vcpu_emulate() ends the guest */
	}
}

/* The exit has acknowledged it. */
static void take_interrupt(void)
{
	u64 event = vmcs_read(VMCS_EXIT_EVENT);

	if (event & EVENT_VALID) {
		irq_taken(field_get(event, EVENT_VECTOR));
	}
}

static enum exit_reason reason_of(u32 reason)
{
	return reason < EXIT_REASONS_KNOWN && reasons[reason]
		       ? (enum exit_reason)(reasons[reason] - 1)
		       : EXIT_REGISTER;
}

/* Only one kind is asked for: NMIs, by which a CPU that panics stops the others. */
static void take_nmi(void)
{
	if (field_get(vmcs_read(VMCS_EXIT_EVENT), EVENT_TYPE) == EVENT_NMI) {
		cpu_park();
	}
}

void exit_decode(struct vcpu *vcpu)
{
	u32 reason = (u32)vmcs_read(VMCS_EXIT_REASON) & EXIT_REASON_BASIC;
	struct exit *e = &vcpu->exit;

	vcpu->arch.exit_reason = reason;
	e->reason = reason_of(reason);
	e->syndrome = reason;
	if (e->reason == EXIT_MEMORY) {
		decode_memory(vcpu);
	} else if (reason == EXIT_REASON_EXTERNAL_INTERRUPT) {
		take_interrupt();
	} else if (unlikely(reason == EXIT_REASON_EXCEPTION_NMI)) {
		take_nmi();
	}
	if (unlikely(vcpu->arch.offers)) {
		voffer_left(vcpu);
	}
	vinject_keep(vcpu);
}

/* What an entry refuses, it does before anything has changed, or as an exit: INVALID_STATE. */
void exit_entry_failed(struct vcpu *vcpu)
{
	vcpu->arch.exit_reason = EXIT_REASON_INVALID_STATE;
	vcpu->exit.reason = EXIT_UNKNOWN;
	vcpu->exit.syndrome = (u64)EXIT_REASON_INVALID_STATE | vmcs_read(VMCS_INSTRUCTION_ERROR)
								       << 16;
}

void exit_set_timer(struct vcpu *vcpu)
{
	u64 deadline =
		min_u64(this_cpu()->timer_deadline, vlapic_timer_deadline(&vcpu->arch.lapic));
	u64 now = arch_now(), left = deadline > now ? min_u64(timer_max, deadline - now) : 0;

	/* Rounded up: an exit a moment too early finds nothing to do, and comes again. */
	vmcs_write(VMCS_PREEMPTION_TIMER, (left + BIT(vmx.timer_shift) - 1) >> vmx.timer_shift);
}

void exit_init(void)
{
	timer_max = ns_to_ticks(TIMER_NS_MAX);
}
