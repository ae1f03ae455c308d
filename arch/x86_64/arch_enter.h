/* Entering a guest, inline in the run loop: the compiler keeps nothing in registers across it. */
#ifndef ARCH_ENTER_H
#define ARCH_ENTER_H

#include "hyp/vcpu.h"

#include "cpureg.h"
#include "vmcs.h"
#include "voffer.h"

/* exit.c: fills vcpu->exit from the VMCS. */
void exit_decode(struct vcpu *vcpu);
void exit_entry_failed(struct vcpu *vcpu);
/* exit.c: how long until Lamina wants this CPU back, into the preemption timer. */
void exit_set_timer(struct vcpu *vcpu);
void exit_init(void); /* once the rate of time is known */

/* mmio.c: finds and decodes the instruction. */
void arch_vcpu_decode_access(struct vcpu *vcpu);

/* enter.S: false, if the CPU did not enter. */
bool guest_enter(struct vcpu *vcpu);

/* Runs the loaded vCPU until it exits, and says why in vcpu->exit. */
static inline void arch_vcpu_enter(struct vcpu *vcpu)
{
	exit_set_timer(vcpu);
	if (unlikely(vcpu->arch.offers != load_relaxed(&vcpu->vm->arch.offers))) {
		voffer_take(vcpu);
	}
	if (likely(guest_enter(vcpu))) {
		exit_decode(vcpu);
	} else {
		exit_entry_failed(vcpu);
	}
}

/*
 * The shadow of STI and MOV SS is over with the instruction that was in it. A guest that steps gets
 * its trap behind an instruction that was executed for it, too (SDM volume 3C, 25.4.2, 27.7.3).
 */
static inline void arch_vcpu_executed(void)
{
	u64 blocked = vmcs_read(VMCS_GUEST_INTERRUPTIBILITY);

	if (unlikely(blocked & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS))) {
		vmcs_write(VMCS_GUEST_INTERRUPTIBILITY,
			   blocked & ~(BLOCKED_BY_STI | BLOCKED_BY_MOV_SS));
	}
	if (unlikely(vmcs_read(VMCS_GUEST_RFLAGS) & RFLAGS_TF)) {
		vmcs_write(VMCS_GUEST_PENDING_DEBUG, PENDING_DEBUG_STEP);
	}
}

static inline void arch_vcpu_skip(struct vcpu *vcpu)
{
	u64 length = unlikely(vcpu->exit.reason == EXIT_MMIO) ? vcpu->arch.access_length
							      : vmcs_read(VMCS_EXIT_LENGTH);

	vmcs_write(VMCS_GUEST_RIP, vmcs_read(VMCS_GUEST_RIP) + length);
	arch_vcpu_executed();
}

/* Numbers as in enum gpr. A read of a device writes as many bits as its instruction says. */
static inline u64 arch_vcpu_reg(const struct vcpu *vcpu, unsigned n)
{
	if (unlikely(n >= GPR_HIGH_BYTE)) {
		return vcpu->arch.gpr[n - GPR_HIGH_BYTE] >> 8 & 0xff;
	}
	return n == GPR_IMMEDIATE ? vcpu->arch.immediate
	       : n == GPR_RSP	  ? vmcs_read(VMCS_GUEST_RSP)
				  : vcpu->arch.gpr[n];
}

static inline void arch_vcpu_set_reg(struct vcpu *vcpu, unsigned n, u64 value)
{
	bool high = n >= GPR_HIGH_BYTE;
	u64 bits = vcpu->arch.access_bits, *gpr = &vcpu->arch.gpr[high ? n - GPR_HIGH_BYTE : n];

	value <<= high ? 8 : 0;
	if (unlikely(n == GPR_RSP)) {
		*gpr = vmcs_read(VMCS_GUEST_RSP);
	}
	*gpr = (*gpr & ~bits) | (value & bits);
	if (unlikely(n == GPR_RSP)) {
		vmcs_write(VMCS_GUEST_RSP, *gpr);
	}
}

/* Are there guests that change among views by themselves? By VMFUNC. */
static inline bool arch_has_views(void)
{
	return true;
}

/* Do vCPUs see devices at addresses of their own? Each its local APIC, where it put it. */
static inline bool arch_has_own_devices(void)
{
	return true;
}

#endif
