/*
 * Trapped system registers: what each reads as, what a write to it does.
 *
 * What the ID registers (vid.h) say is there behaves; what they hide is an undefined instruction,
 * and so is every register that nobody here knows. The hot path is the read of an ID register: one
 * compare and one load.
 *
 * Debug registers trap, because their state is not switched between guests: those that a kernel
 * writes on its way up read as zero and ignore writes, so breakpoints and watchpoints exist but
 * never hit. MDSCR_EL1 is the guest's own, as far as single steps need it.
 */
#include "vsysreg.h"

#include "hyp/log.h"

#include "el1.h"
#include "emulate.h"
#include "sysreg.h"
#include "vcache.h"
#include "vid.h"
#include "vinject.h"

/* A read of op0 = 3, op1 = 0, CRn = 0, CRm = 0..7. */
#define ID_MASK (ESR_EC | VSYSREG_OP0 | VSYSREG_OP1 | VSYSREG_CRN | BIT(4) | VSYSREG_READ)
#define ID_READ (field_set(EC_SYSREG, ESR_EC) | VSYSREG(3, 0, 0, 0, 0) | VSYSREG_READ)

#define REG_ACTLR VSYSREG(3, 0, 1, 0, 1)
#define REG_ICC_SRE VSYSREG(3, 0, 12, 12, 5)
#define REG_ICC_DIR VSYSREG(3, 0, 12, 11, 1)
#define REG_ICC_ASGI1R VSYSREG(3, 0, 12, 11, 6)
#define REG_ICC_SGI0R VSYSREG(3, 0, 12, 11, 7)

/* Writes that trap while TVM is armed. */
#define REG_SCTLR VSYSREG(3, 0, 1, 0, 0)
#define REG_TTBR0 VSYSREG(3, 0, 2, 0, 0)
#define REG_TTBR1 VSYSREG(3, 0, 2, 0, 1)
#define REG_TCR VSYSREG(3, 0, 2, 0, 2)
#define REG_AFSR0 VSYSREG(3, 0, 5, 1, 0)
#define REG_AFSR1 VSYSREG(3, 0, 5, 1, 1)
#define REG_ESR VSYSREG(3, 0, 5, 2, 0)
#define REG_FAR VSYSREG(3, 0, 6, 0, 0)
#define REG_MAIR VSYSREG(3, 0, 10, 2, 0)
#define REG_AMAIR VSYSREG(3, 0, 10, 3, 0)
#define REG_CONTEXTIDR VSYSREG(3, 0, 13, 0, 1)

/* Debug, op0 = 2. */
#define REG_OSDTRRX VSYSREG(2, 0, 0, 0, 2)
#define REG_MDCCINT VSYSREG(2, 0, 0, 2, 0)
#define REG_MDSCR VSYSREG(2, 0, 0, 2, 2)
#define REG_OSDTRTX VSYSREG(2, 0, 0, 3, 2)
#define REG_OSECCR VSYSREG(2, 0, 0, 6, 2)
#define REG_MDRAR VSYSREG(2, 0, 1, 0, 0)
#define REG_OSLAR VSYSREG(2, 0, 1, 0, 4)
#define REG_OSLSR VSYSREG(2, 0, 1, 1, 4)
#define REG_OSDLR VSYSREG(2, 0, 1, 3, 4)
#define REG_DBGPRCR VSYSREG(2, 0, 1, 4, 4)
#define REG_DBGCLAIMSET VSYSREG(2, 0, 7, 8, 6)
#define REG_DBGCLAIMCLR VSYSREG(2, 0, 7, 9, 6)
#define REG_DBGAUTHSTATUS VSYSREG(2, 0, 7, 14, 6)
#define REG_MDCCSR VSYSREG(2, 3, 0, 1, 0)
#define REG_DBGDTR VSYSREG(2, 3, 0, 4, 0)
#define REG_DBGDTRX VSYSREG(2, 3, 0, 5, 0)

/* DBGBVR<n>, DBGBCR<n>, DBGWVR<n>, DBGWCR<n>: (2, 0, 0, n, 4..7). n is 0 or 1: ID_AA64DFR0_EL1. */
#define BREAKPOINTS VSYSREG(2, 0, 0, 0, 4)
#define BREAKPOINTS_MASK (VSYSREG_NAME & ~(VSYSREG(0, 0, 0, 1, 0) | VSYSREG(0, 0, 0, 0, 3)))

#define MDSCR_SS BIT(0)
#define MDSCR_TDCC BIT(12)
#define MDSCR_KDE BIT(13)
#define MDSCR_MDE BIT(15)
#define MDSCR_GUEST (MDSCR_SS | MDSCR_TDCC | MDSCR_KDE | MDSCR_MDE)

#define OSLSR_IMPLEMENTED BIT(3) /* OSLM = 0b10; OSLK = 0: not locked */

static void undefined(struct vcpu *vcpu, u64 esr)
{
	if (!vcpu->vm->arch.unknown_register) {
		vcpu->vm->arch.unknown_register = true;
		log_debug("d%u: undefined system register or trap, ESR 0x%llx at pc 0x%llx; "
			  "more of them are not reported",
			  vcpu->vm->number, (unsigned long long)esr,
			  (unsigned long long)vcpu->arch.pc);
	}
	vinject_undefined(vcpu);
}

/* ---- Writes that trap while a guest cleans its caches -----------------------------------------
 */

static bool find_control(u64 name, enum el1_register *reg)
{
	static const struct {
		u32 name;
		u8 reg;
	} controls[] = {
		{REG_SCTLR, EL1_SCTLR},
		{REG_TTBR0, EL1_TTBR0},
		{REG_TTBR1, EL1_TTBR1},
		{REG_TCR, EL1_TCR},
		{REG_AFSR0, EL1_AFSR0},
		{REG_AFSR1, EL1_AFSR1},
		{REG_ESR, EL1_ESR},
		{REG_FAR, EL1_FAR},
		{REG_MAIR, EL1_MAIR},
		{REG_AMAIR, EL1_AMAIR},
		{REG_CONTEXTIDR, EL1_CONTEXTIDR},
	};

	for (u32 i = 0; i < ARRAY_COUNT(controls); i++) {
		if (controls[i].name == name) {
			*reg = controls[i].reg;
			return true;
		}
	}
	return false;
}

static void write_control(struct vcpu *vcpu, enum el1_register reg, u64 value)
{
	if (reg == EL1_SCTLR && !vcache_sctlr_write(vcpu, value)) {
		return; /* the same instruction again */
	}
	el1_write(reg, value);
	vcache_controls_written(vcpu);
	emulate_skip(vcpu);
}

/* ---- Everything else --------------------------------------------------------------------------
 */

/* False: no such register. */
static bool read_register(u64 name, u64 *value)
{
	*value = 0;
	switch (name) {
	case REG_ICC_SRE:
		*value = ICC_SRE_SRE | ICC_SRE_DFB | ICC_SRE_DIB;
		return true;
	case REG_MDSCR:
		*value = el1_read(EL1_MDSCR);
		return true;
	case REG_OSLSR:
		*value = OSLSR_IMPLEMENTED;
		return true;
	case REG_ACTLR:
	case REG_OSDTRRX:
	case REG_MDCCINT:
	case REG_OSDTRTX:
	case REG_OSECCR:
	case REG_MDRAR:
	case REG_OSDLR:
	case REG_DBGPRCR:
	case REG_DBGCLAIMSET:
	case REG_DBGCLAIMCLR:
	case REG_DBGAUTHSTATUS:
	case REG_MDCCSR:
	case REG_DBGDTR:
	case REG_DBGDTRX:
		return true;
	}
	return (name & BREAKPOINTS_MASK) == BREAKPOINTS;
}

/* False: no such register, or not one that can be written. */
static bool write_register(u64 name, u64 value)
{
	switch (name) {
	case REG_MDSCR:
		el1_write(EL1_MDSCR, value & MDSCR_GUEST);
		return true;
	case REG_ACTLR:
	case REG_ICC_SRE:    /* its bits are fixed at one */
	case REG_ICC_ASGI1R: /* the other security state is not there */
	case REG_OSDTRRX:
	case REG_MDCCINT:
	case REG_OSDTRTX:
	case REG_OSECCR:
	case REG_OSLAR:
	case REG_OSDLR:
	case REG_DBGPRCR:
	case REG_DBGCLAIMSET:
	case REG_DBGCLAIMCLR:
	case REG_DBGDTR:
	case REG_DBGDTRX:
		return true;
	}
	return (name & BREAKPOINTS_MASK) == BREAKPOINTS;
}

static void other_read(struct vcpu *vcpu, u64 esr)
{
	u64 value;

	if (!read_register(esr & VSYSREG_NAME, &value)) {
		undefined(vcpu, esr);
		return;
	}
	arch_vcpu_set_reg(vcpu, field_get(esr, VSYSREG_RT), value);
	emulate_skip(vcpu);
}

/* What of the CPU interface comes here: ICC_DIR_EL1 only while some active interrupt has no list
 * register. */
static bool write_gic(struct vcpu *vcpu, u64 name, u64 value)
{
	switch (name) {
	case REG_ICC_DIR:
		vgic_deactivate(vcpu, value);
		return true;
	case REG_ICC_SGI0R:
		vgic_send_sgi0(vcpu, value);
		return true;
	}
	return false;
}

static void other_write(struct vcpu *vcpu, u64 esr)
{
	u64 value = arch_vcpu_reg(vcpu, field_get(esr, VSYSREG_RT));
	enum el1_register reg;

	if (write_gic(vcpu, esr & VSYSREG_NAME, value)) {
		emulate_skip(vcpu);
	} else if (el1_traps_controls(vcpu) && find_control(esr & VSYSREG_NAME, &reg)) {
		write_control(vcpu, reg, value);
	} else if (write_register(esr & VSYSREG_NAME, value)) {
		emulate_skip(vcpu);
	} else {
		undefined(vcpu, esr);
	}
}

/* Out of line, so that the hot path needs no stack frame. */
static __attribute__((noinline)) void other_access(struct vcpu *vcpu, u64 esr)
{
	if (field_get(esr, ESR_EC) != EC_SYSREG) {
		undefined(vcpu, esr); /* AArch32 at EL0, or a class that nobody asked to trap */
	} else if (esr & VSYSREG_READ) {
		other_read(vcpu, esr);
	} else {
		other_write(vcpu, esr);
	}
}

void vsysreg_access(struct vcpu *vcpu, u64 esr)
{
	if (likely((esr & ID_MASK) == ID_READ)) {
		u32 index = VID_INDEX(field_get(esr, BITS(3, 1)), field_get(esr, VSYSREG_OP2));

		arch_vcpu_set_reg(vcpu, field_get(esr, VSYSREG_RT), vcpu->vm->arch.id[index]);
		emulate_skip(vcpu);
	} else {
		other_access(vcpu, esr);
	}
}
