/* Entering a guest, inline in the run loop: the compiler keeps nothing in registers across it. */
#ifndef ARCH_ENTER_H
#define ARCH_ENTER_H

#include "hyp/vcpu.h"

#include "enter.h"
#include "sysreg.h"

/* exit.c: fills vcpu->exit from the syndrome registers. */
void exit_decode_sync(struct vcpu *vcpu);
void exit_decode_serror(struct vcpu *vcpu);

/* Runs the loaded vCPU until it exits, and says why in vcpu->exit. */
static inline void arch_vcpu_enter(struct vcpu *vcpu)
{
	register u64 x0 __asm__("x0") = (u64)vcpu;

	__asm__ volatile("bl guest_enter"
			 : "+r"(x0)
			 :
			 : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
			   "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21",
			   "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "memory", "cc");
	if (likely(x0 == GUEST_EXIT_SYNC)) {
		exit_decode_sync(vcpu);
	} else if (x0 == GUEST_EXIT_SERROR) {
		exit_decode_serror(vcpu);
	} else {
		vcpu->exit.reason = EXIT_INTERRUPT;
	}
}

/* As the CPU itself would: a branch's BTYPE is used up, a single step's exception comes next. In
 * AArch32 those bits are part of IT. */
static inline void arch_vcpu_skip(struct vcpu *vcpu)
{
	vcpu->arch.pc += vcpu->exit.syndrome & ESR_IL ? 4 : 2;
	if (!(vcpu->arch.pstate & SPSR_AARCH32)) {
		vcpu->arch.pstate &= ~(SPSR_BTYPE | SPSR_SS);
	}
}

/* The syndrome tells all; RAM does not need it. */
static inline void arch_vcpu_decode_access(struct vcpu *vcpu)
{
	struct exit *e = &vcpu->exit;
	u64 esr = e->syndrome;

	e->decoded = (esr & ISS_ABORT_ISV) && !e->table_walk && e->access != ACCESS_EXEC;
	e->size = 1u << field_get(esr, ISS_ABORT_SAS);
	e->reg = field_get(esr, ISS_ABORT_SRT);
	e->sign_extend = (esr & ISS_ABORT_SSE) != 0;
	e->wide = (esr & ISS_ABORT_SF) != 0;
}

/* Register 31 is the zero register. */
static inline u64 arch_vcpu_reg(const struct vcpu *vcpu, unsigned n)
{
	return n < 31 ? vcpu->arch.x[n] : 0;
}

static inline void arch_vcpu_set_reg(struct vcpu *vcpu, unsigned n, u64 value)
{
	if (n < 31) {
		vcpu->arch.x[n] = value;
	}
}

/* Are there guests that change among views by themselves? EL1 cannot switch stage-2 tables. */
static inline bool arch_has_views(void)
{
	return false;
}

/* Do vCPUs see devices at addresses of their own? Redistributors are in one row that all see. */
static inline bool arch_has_own_devices(void)
{
	return false;
}

#endif
