/*
 * What the ID registers say to a guest.
 *
 * One row of VID_REGISTERS for each register that says anything: which fields are the CPU's own,
 * and what is said instead of the others. Everything not listed, allocated or not, reads as zero.
 * So a feature that nobody here has thought about is hidden, which is the safe side.
 *
 * Shown is what EL1 and EL0 use by themselves. Hidden is what Lamina would have to virtualise, and
 * does not: EL2 and EL3, SVE, SME, MTE, RAS, MPAM, activity and performance monitors, profiling,
 * trace, TME, the double lock, limited-ordering regions, VHE, timed waits. Manual: Arm ARM DDI
 * 0487, D19.2.
 */
#ifndef VID_H
#define VID_H

#include "hyp/types.h"

/* Of the registers op0 = 3, op1 = 0, CRn = 0, CRm = 0..7. */
#define VID_INDEX(crm, op2) ((crm)*8 + (op2))
#define VID_COUNT 64

#define VID_AA64PFR0 VID_INDEX(4, 0)
#define VID_AA64PFR1 VID_INDEX(4, 1)
#define VID_AA64DFR0 VID_INDEX(5, 0)
#define VID_AA64ISAR0 VID_INDEX(6, 0)
#define VID_AA64ISAR1 VID_INDEX(6, 1)
#define VID_AA64MMFR0 VID_INDEX(7, 0)
#define VID_AA64MMFR1 VID_INDEX(7, 1)

/* Fields are of four bits; by the lowest. */
#define IDF(lsb) (0xfull << (lsb))
#define IDV(lsb, value) ((u64)(value) << (lsb))

/* Fields that more than the table below asks about. */
#define PFR0_EL0 IDF(0)
#define PFR0_CSV2 IDF(56)
#define PFR1_SSBS IDF(4)
#define MMFR0_PARANGE IDF(0)
#define MMFR0_ECV IDF(60)
#define MMFR1_PAN IDF(20)

/*
 * X(CRm, op2, fields passed through, fixed fields).
 *
 * AArch32's registers (CRm 1..3) matter where EL0 can run it; they are zero where it cannot.
 */
#define VID_REGISTERS(X)                                                                           \
	/* ID_PFR0: states, CSV2, DIT. Not AMU, RAS. */                                            \
	X(1, 0, BITS(15, 0) | IDF(16) | IDF(24), 0)                                                \
	/* ID_PFR1: programmers' model, generic timer; GIC by system registers. Not security,      \
	 * Virt. */                                                                                \
	X(1, 1, IDF(0) | IDF(16), IDV(28, 1))                                                      \
	/* ID_DFR0: the debug architecture v8 alone. */                                            \
	X(1, 2, 0, IDV(0, 6) | IDV(4, 6))                                                          \
	/* ID_MMFR0..3, ID_ISAR0..5, ID_MMFR4, ID_ISAR6, MVFR0..2 */                               \
	X(1, 4, ~0ull, 0)                                                                          \
	X(1, 5, ~0ull, 0)                                                                          \
	X(1, 6, ~0ull, 0)                                                                          \
	X(1, 7, ~0ull, 0)                                                                          \
	X(2, 0, ~0ull, 0)                                                                          \
	X(2, 1, ~0ull, 0)                                                                          \
	X(2, 2, ~0ull, 0)                                                                          \
	X(2, 3, ~0ull, 0)                                                                          \
	X(2, 4, ~0ull, 0)                                                                          \
	X(2, 5, ~0ull, 0)                                                                          \
	X(2, 6, ~(IDF(4) | IDF(8)) /* not AC2, XNX: both are about EL2 */, 0)                      \
	X(2, 7, ~0ull, 0)                                                                          \
	X(3, 0, ~0ull, 0)                                                                          \
	X(3, 1, ~0ull, 0)                                                                          \
	X(3, 2, ~0ull, 0)                                                                          \
	/* ID_PFR2: CSV3, SSBS. Not RAS_frac. */                                                   \
	X(3, 4, IDF(0) | IDF(4), 0)                                                                \
	/* ID_AA64PFR0: EL0, FP, AdvSIMD, DIT, CSV2, CSV3; EL1 is AArch64, the GIC has registers.  \
	 */                                                                                        \
	X(4, 0, PFR0_EL0 | IDF(16) | IDF(20) | IDF(48) | PFR0_CSV2 | IDF(60),                      \
	  IDV(4, 1) | IDV(24, 1))                                                                  \
	/* ID_AA64PFR1: BT, SSBS. Not MTE, RAS_frac, MPAM_frac, SME, RNDR_trap, CSV2_frac, NMI. */ \
	X(4, 1, IDF(0) | PFR1_SSBS, 0)                                                             \
	/* ID_AA64DFR0: v8, two breakpoints and two watchpoints (the least there may be; they are  \
	 */                                                                                        \
	/* inert), no double lock. Not PMUVer, PMSVer, any trace. */                               \
	X(5, 0, 0, IDV(0, 6) | IDV(12, 1) | IDV(20, 1) | IDV(36, 0xf))                             \
	/* ID_AA64ISAR0: all but TME. */                                                           \
	X(6, 0, ~(BITS(3, 0) | IDF(24)), 0)                                                        \
	/* ID_AA64ISAR1: all but XS and LS64, which EL2 would have to let through. */              \
	X(6, 1, ~(IDF(56) | IDF(60)), 0)                                                           \
	/* ID_AA64ISAR2: RPRES, GPA3, APA3, BC, PAC_frac, CLRBHB, CSSC, RPRFM. Not WFxT, MOPS. */  \
	X(6, 2, IDF(4) | IDF(8) | IDF(12) | IDF(20) | IDF(24) | IDF(28) | IDF(48) | IDF(52), 0)    \
	/* ID_AA64MMFR0: PARange, ASIDBits, BigEnd, BigEndEL0, granules of stage 1, ExS, ECV; */   \
	/* granules of stage 2: none. Not SNSMem, FGT. */                                          \
	X(7, 0,                                                                                    \
	  MMFR0_PARANGE | IDF(4) | IDF(8) | IDF(16) | IDF(20) | IDF(24) | IDF(28) | IDF(44) |      \
		  MMFR0_ECV,                                                                       \
	  IDV(32, 1) | IDV(36, 1) | IDV(40, 1))                                                    \
	/* ID_AA64MMFR1: HAFDBS, HPDS, PAN, ETS, AFP, nTLBPA. Not VMIDBits, VH, LO, SpecSEI, XNX,  \
	 */                                                                                        \
	/* TWED, HCX, TIDCP1, CMOW. */                                                             \
	X(7, 1, IDF(0) | IDF(12) | MMFR1_PAN | IDF(36) | IDF(44) | IDF(48), 0)                     \
	/* ID_AA64MMFR2: CnP, UAO, LSM, VARange, CCIDX, ST, AT, IDS, TTL, BBM, E0PD. Not IESB, NV, \
	 */                                                                                        \
	/* FWB, EVT. */                                                                            \
	X(7, 2,                                                                                    \
	  IDF(0) | IDF(4) | IDF(8) | IDF(16) | IDF(20) | IDF(28) | IDF(32) | IDF(36) | IDF(48) |   \
		  IDF(52) | IDF(60),                                                               \
	  0)

/*
 * Makes guest[] of the host's registers. `ipa_bits`: the guest's physical addresses are below
 * 2^ipa_bits, so no larger PARange is shown. Pure.
 */
void vid_present(const u64 host[VID_COUNT], unsigned ipa_bits, u64 guest[VID_COUNT]);

#endif
