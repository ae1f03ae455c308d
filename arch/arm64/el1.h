/*
 * The loaded guest's own registers, and what else of the CPU its emulation needs, by function, so
 * that the files of emulation have no assembly and their unit tests can answer for the hardware.
 * Implemented in el1.c, and for tests in arch/fake/fake_el1.c.
 */
#ifndef EL1_H
#define EL1_H

#include "hyp/types.h"

struct vcpu;

/* Those of EL1_REGISTERS (arch_vcpu.h) that emulation reads or writes while the vCPU is loaded. */
#define EL1_ACCESSED(X)                                                                            \
	X(SCTLR, sctlr_el1)                                                                        \
	X(TTBR0, ttbr0_el1)                                                                        \
	X(TTBR1, ttbr1_el1)                                                                        \
	X(TCR, tcr_el1)                                                                            \
	X(ESR, esr_el1)                                                                            \
	X(AFSR0, afsr0_el1)                                                                        \
	X(AFSR1, afsr1_el1)                                                                        \
	X(FAR, far_el1)                                                                            \
	X(MAIR, mair_el1)                                                                          \
	X(AMAIR, amair_el1)                                                                        \
	X(VBAR, vbar_el1)                                                                          \
	X(CONTEXTIDR, contextidr_el1)                                                              \
	X(ELR, elr_el1)                                                                            \
	X(SPSR, spsr_el1)                                                                          \
	X(MDSCR, mdscr_el1)

enum el1_register {
#define X(name, reg) EL1_##name,
	EL1_ACCESSED(X)
#undef X
};

u64 el1_read(enum el1_register reg);
void el1_write(enum el1_register reg, u64 value);

/* The guest-virtual address of the last abort that came from it: FAR_EL2. */
u64 el1_fault_address(void);

/* HCR_EL2.TVM of the loaded vCPU: writes to registers that control its stage 1 trap. */
bool el1_traps_controls(const struct vcpu *vcpu);
void el1_trap_controls(struct vcpu *vcpu, bool trap);

/* Cleans and invalidates to the point of coherency, then waits. */
void el1_clean_invalidate(const void *start, u64 size);

/* Fills host[VID_INDEX] with this CPU's ID registers, as far as vid.h lists them. */
void el1_read_ids(u64 host[64]);

#endif
