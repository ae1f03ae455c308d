/*
 * Exits that only arm64 has: one switch, each case hands over and returns.
 *
 * Who moves the pc on: HVC returns behind itself already; a trapped SMC, MSR, MRS or DC does not.
 * The pc moves before the call is made, since a call may give the vCPU another one (PSCI).
 */
#include "emulate.h"

#include "arch/vm.h"

#include "sysreg.h"
#include "vcache.h"
#include "vgic.h"
#include "vinject.h"
#include "vsmccc.h"
#include "vsysreg.h"

static void hypercall(struct vcpu *vcpu, u64 esr)
{
	if (field_get(esr, ESR_EC) == EC_SMC64) {
		emulate_skip(vcpu);
	}
	/* DEN0028 2.9: an immediate other than 0 is no SMCCC call, and no other convention is here.
	 */
	if (unlikely(esr & BITS(15, 0))) {
		vcpu->arch.x[0] = SMCCC_NOT_SUPPORTED;
		return;
	}
	vsmccc_call(vcpu);
}

/* ICC_SGI1R_EL1 is write-only. */
static void send_ipi(struct vcpu *vcpu, u64 esr)
{
	if (unlikely(esr & VSYSREG_READ)) {
		vinject_undefined(vcpu);
		return;
	}
	emulate_skip(vcpu);
	vgic_send_sgi(vcpu, arch_vcpu_reg(vcpu, field_get(esr, VSYSREG_RT)));
}

void arch_vcpu_emulate(struct vcpu *vcpu)
{
	switch (vcpu->exit.reason) {
	case EXIT_HYPERCALL:
		hypercall(vcpu, vcpu->exit.syndrome);
		return;
	case EXIT_REGISTER:
		vsysreg_access(vcpu, vcpu->exit.syndrome);
		return;
	case EXIT_IPI:
		send_ipi(vcpu, vcpu->exit.syndrome);
		return;
	case EXIT_CACHE:
		vcache_set_way(vcpu);
		return;
	default:
		vinject_undefined(vcpu);
		return;
	}
}

void arch_vcpu_inject_abort(struct vcpu *vcpu)
{
	vinject_abort(vcpu);
}
