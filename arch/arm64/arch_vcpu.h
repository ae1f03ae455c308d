/*
 * What arm64 keeps for each vCPU.
 *
 * General registers, pc and pstate are saved and restored on every exit and entry (enter.S, whose
 * offsets are asserted in vcpu.c). EL1 system registers, FP/SIMD and the GIC's state stay in the
 * CPU while the vCPU is loaded, and move only in arch_vcpu_load and arch_vcpu_put.
 */
#ifndef ARCH_VCPU_BLOCK_H
#define ARCH_VCPU_BLOCK_H

#include "hyp/types.h"

#include "vgic.h"

/* EL1 state that a guest owns, in the order it is saved. One row: field, register. */
#define EL1_REGISTERS(X)                                                                           \
	X(sctlr, sctlr_el1)                                                                        \
	X(cpacr, cpacr_el1)                                                                        \
	X(ttbr0, ttbr0_el1)                                                                        \
	X(ttbr1, ttbr1_el1)                                                                        \
	X(tcr, tcr_el1)                                                                            \
	X(esr, esr_el1)                                                                            \
	X(afsr0, afsr0_el1)                                                                        \
	X(afsr1, afsr1_el1)                                                                        \
	X(far, far_el1)                                                                            \
	X(mair, mair_el1)                                                                          \
	X(amair, amair_el1)                                                                        \
	X(vbar, vbar_el1)                                                                          \
	X(contextidr, contextidr_el1)                                                              \
	X(tpidr_el0, tpidr_el0)                                                                    \
	X(tpidrro, tpidrro_el0)                                                                    \
	X(tpidr_el1, tpidr_el1)                                                                    \
	X(sp_el0, sp_el0)                                                                          \
	X(sp_el1, sp_el1)                                                                          \
	X(elr, elr_el1)                                                                            \
	X(spsr, spsr_el1)                                                                          \
	X(par, par_el1)                                                                            \
	X(csselr, csselr_el1)                                                                      \
	X(cntkctl, cntkctl_el1)                                                                    \
	X(mdscr, mdscr_el1)

/* Only where the CPU has pointer authentication: five keys of two halves. */
#define PAUTH_KEY_WORDS 10

struct arch_vcpu {
	u64 x[31];
	u64 pc;
	u64 pstate;

#define X(field, reg) u64 field;
	struct {
		EL1_REGISTERS(X)
	} el1;
#undef X
	u64 pauth_keys[PAUTH_KEY_WORDS];

	u64 cntv_ctl, cntv_cval; /* virtual timer */
	u64 cntp_ctl, cntp_cval; /* physical timer */

	u64 hcr; /* HCR_EL2 while loaded */
	u64 vmpidr;
	u64 stolen_gpa;	  /* PV time record, or ~0 */
	u64 clean_cursor; /* how much of RAM set/way operations have cleaned so far; or 0 */

	struct vgic_cpu gic;

	struct {
		u64 q[64]; /* Q0..Q31 */
		u64 fpcr, fpsr;
	} fp __attribute__((aligned(16)));
};

#endif
