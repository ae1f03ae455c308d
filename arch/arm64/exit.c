/*
 * From the syndrome registers to the neutral struct exit (DDI 0487, D19.2.37 ESR_EL2).
 */
#include "arch_enter.h"

#include "sysreg.h"

#define ISS_WFX_WFE BIT(0)
/* ISS of a trapped MSR/MRS, less the general register and the direction. */
#define ISS_SYS(op0, op1, crn, crm, op2)                                                           \
	((op0) << 20 | (op2) << 17 | (op1) << 14 | (crn) << 10 | (crm) << 1)
#define ISS_SYS_NAME (BITS(21, 10) | BITS(4, 1))
#define ICC_SGI1R ISS_SYS(3u, 0u, 12u, 11u, 5u)
#define DC_ISW ISS_SYS(1u, 0u, 7u, 6u, 2u)
#define DC_CSW ISS_SYS(1u, 0u, 7u, 10u, 2u)
#define DC_CISW ISS_SYS(1u, 0u, 7u, 14u, 2u)
/* A bit of CRn that all of these have and no ID register has, which are most of what traps. */
#define ISS_SYS_TELLS BIT(12)
static_assert((ICC_SGI1R & DC_ISW & DC_CSW & DC_CISW & ISS_SYS_TELLS) != 0, "one bit of all names");

#define HPFAR_FIPA BITS(43, 4)
#define PAR_F BIT(0)
#define PAR_PA BITS(51, 12)

static enum exit_reason reason_of_register(u64 esr)
{
	if (likely(!(esr & ISS_SYS_TELLS))) {
		return EXIT_REGISTER;
	}
	switch (esr & ISS_SYS_NAME) {
	case ICC_SGI1R:
		return EXIT_IPI;
	case DC_ISW:
	case DC_CSW:
	case DC_CISW:
		return EXIT_CACHE;
	default:
		return EXIT_REGISTER;
	}
}

/*
 * HPFAR_EL2 does not tell the address of a permission fault (unless a stage-1 walk met it): stage 1
 * is walked again. False: it no longer translates, since another vCPU changed it meanwhile.
 */
static bool translate_stage1(u64 va, u64 *ipa)
{
	u64 before = read_sysreg(par_el1), par;

	__asm__ volatile("at s1e1r, %0" ::"r"(va));
	isb();
	par = read_sysreg(par_el1);
	write_sysreg(par_el1, before);
	*ipa = (par & PAR_PA) | (va & (PAGE_SIZE - 1));
	return !(par & PAR_F);
}

/* False: the guest should just run the instruction again. */
static bool fault_address(struct exit *e, u64 esr)
{
	u64 far = read_sysreg(far_el2), ipa;

	if (field_get(esr, FSC_TYPE) == FSC_TYPE_PERMISSION && !(esr & ISS_ABORT_S1PTW)) {
		if (!translate_stage1(far, &ipa)) {
			return false;
		}
	} else {
		ipa = field_get(read_sysreg(hpfar_el2), HPFAR_FIPA) << PAGE_SHIFT;
		ipa |= far & (PAGE_SIZE - 1);
	}
	e->gpa = gpa(ipa);
	return true;
}

static void decode_abort(struct exit *e, u64 esr, bool data)
{
	u64 type = field_get(esr, FSC_TYPE);

	e->reason = EXIT_MEMORY;
	e->accessed = type == FSC_TYPE_ACCESS_FLAG;
	e->table_walk = (esr & ISS_ABORT_S1PTW) != 0;
	if (!data) {
		e->access = e->table_walk ? ACCESS_READ : ACCESS_EXEC;
	} else {
		e->access =
			(esr & ISS_ABORT_WNR) && !(esr & ISS_ABORT_CM) ? ACCESS_WRITE : ACCESS_READ;
	}
	if (type != FSC_TYPE_TRANSLATION && type != FSC_TYPE_ACCESS_FLAG &&
	    type != FSC_TYPE_PERMISSION && type != FSC_TYPE_ADDRESS_SIZE) {
		e->reason = EXIT_UNKNOWN; /* a synchronous external abort, a TLB conflict */
		return;
	}
	if (!fault_address(e, esr)) {
		e->reason = EXIT_INTERRUPT;
	}
}

void exit_decode_sync(struct vcpu *vcpu)
{
	struct exit *e = &vcpu->exit;
	u64 esr = read_sysreg(esr_el2);

	e->syndrome = esr;
	switch (field_get(esr, ESR_EC)) {
	case EC_HVC64:
	case EC_SMC64:
		e->reason = EXIT_HYPERCALL;
		break;
	case EC_SYSREG:
		e->reason = reason_of_register(esr);
		break;
	case EC_DABT_LOWER:
		decode_abort(e, esr, true);
		break;
	case EC_IABT_LOWER:
		decode_abort(e, esr, false);
		break;
	case EC_WFX:
		e->reason = esr & ISS_WFX_WFE ? EXIT_RELAX : EXIT_IDLE;
		break;
	default:
		/* Below the aborts all classes are instructions that trapped: not there for a
		 * guest. */
		e->reason = field_get(esr, ESR_EC) < EC_IABT_LOWER ? EXIT_REGISTER : EXIT_UNKNOWN;
		break;
	}
}

void exit_decode_serror(struct vcpu *vcpu)
{
	vcpu->exit.reason = EXIT_UNKNOWN;
	vcpu->exit.syndrome = read_sysreg(esr_el2);
}
