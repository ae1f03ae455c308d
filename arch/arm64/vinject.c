/*
 * Exceptions that the hypervisor makes a guest take: what the CPU itself would have done.
 *
 * DDI 0487, shared pseudocode AArch64.TakeException(), for a target of EL1: the guest's PSTATE goes
 * into SPSR_EL1 and its pc into ELR_EL1 (both are exact, the exit preserved them), ESR_EL1 and
 * FAR_EL1 say what happened, and the guest goes on at VBAR_EL1 plus an offset by where it came
 * from:
 *
 *     0x000  EL1 using SP_EL0    0x400  EL0, AArch64
 *     0x200  EL1 using SP_EL1    0x600  EL0, AArch32
 *
 * The new PSTATE keeps N, Z, C, V, DIT and PAN; SCTLR_EL1 decides about PAN and SSBS. BTYPE, UAO,
 * SS and IL are cleared, and so is TCO: a guest sees no MTE.
 */
#include "vinject.h"

#include "hyp/vcpu.h"

#include "el1.h"
#include "sysreg.h"
#include "vid.h"

#define PSTATE_MODE BITS(4, 0)
#define PSTATE_AARCH32 BIT(4)
#define PSTATE_EL1T 0x04
#define PSTATE_EL1H 0x05
#define PSTATE_SSBS BIT(12)
#define PSTATE_PAN BIT(22)
#define PSTATE_DIT BIT(24)
#define PSTATE_NZCV BITS(31, 28)
#define PSTATE_DAIF (SPSR_D | SPSR_A | SPSR_I | SPSR_F)

#define SCTLR_SPAN BIT(23)
#define SCTLR_DSSBS BIT(44)

#define VECTOR_EL1T 0x000
#define VECTOR_EL1H 0x200
#define VECTOR_EL0_64 0x400
#define VECTOR_EL0_32 0x600

static bool is_from_el1(u64 pstate)
{
	return (pstate & PSTATE_MODE) == PSTATE_EL1H || (pstate & PSTATE_MODE) == PSTATE_EL1T;
}

static u64 vector_offset(u64 pstate)
{
	if (pstate & PSTATE_AARCH32) {
		return VECTOR_EL0_32;
	}
	switch (pstate & PSTATE_MODE) {
	case PSTATE_EL1H:
		return VECTOR_EL1H;
	case PSTATE_EL1T:
		return VECTOR_EL1T;
	}
	return VECTOR_EL0_64;
}

/* The bits kept lie at the same places in an AArch32 PSTATE. */
static u64 pstate_at_vector(const struct vcpu *vcpu, u64 sctlr)
{
	const u64 *id = vcpu->vm->arch.id;
	u64 pstate = vcpu->arch.pstate & (PSTATE_NZCV | PSTATE_DIT | PSTATE_PAN);

	if ((id[VID_AA64MMFR1] & MMFR1_PAN) && !(sctlr & SCTLR_SPAN)) {
		pstate |= PSTATE_PAN;
	}
	if ((id[VID_AA64PFR1] & PFR1_SSBS) && (sctlr & SCTLR_DSSBS)) {
		pstate |= PSTATE_SSBS;
	}
	return pstate | PSTATE_DAIF | PSTATE_EL1H;
}

static void take_exception(struct vcpu *vcpu, u64 esr)
{
	u64 pstate = vcpu->arch.pstate;

	el1_write(EL1_ESR, esr);
	el1_write(EL1_ELR, vcpu->arch.pc);
	el1_write(EL1_SPSR, pstate);
	vcpu->arch.pstate = pstate_at_vector(vcpu, el1_read(EL1_SCTLR));
	vcpu->arch.pc = el1_read(EL1_VBAR) + vector_offset(pstate);
}

static bool is_fetch(u64 esr)
{
	u64 ec = field_get(esr, ESR_EC);

	return ec == EC_IABT || ec == EC_IABT_LOWER;
}

/*
 * External, because what is missing lies behind the guest's own translation. The status is that of
 * an access even when the guest's table walk found nothing: the level of that walk is not known
 * here.
 */
void vinject_abort(struct vcpu *vcpu)
{
	u64 cause = vcpu->exit.syndrome;
	bool is_same_el = is_from_el1(vcpu->arch.pstate);
	u64 esr = ESR_IL | FSC_EXTERNAL;

	if (is_fetch(cause)) {
		esr |= field_set(is_same_el ? EC_IABT : EC_IABT_LOWER, ESR_EC);
	} else {
		esr |= field_set(is_same_el ? EC_DABT : EC_DABT_LOWER, ESR_EC);
		esr |= cause & (ISS_ABORT_WNR | ISS_ABORT_CM);
	}
	el1_write(EL1_FAR, el1_fault_address());
	take_exception(vcpu, esr);
}

void vinject_undefined(struct vcpu *vcpu)
{
	take_exception(vcpu, field_set(EC_UNKNOWN, ESR_EC) | ESR_IL);
}
