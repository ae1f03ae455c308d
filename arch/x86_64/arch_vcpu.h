/*
 * What x86-64 keeps for each vCPU.
 *
 * General registers are saved and restored on every exit and entry (enter.S, whose offsets are
 * asserted in vcpu.c). What the VMCS holds stays there; what it does not hold (FPU, MSRs of system
 * calls, debug registers) stays in the CPU while the vCPU is loaded, and moves only in
 * arch_vcpu_load and arch_vcpu_put.
 */
#ifndef ARCH_VCPU_BLOCK_H
#define ARCH_VCPU_BLOCK_H

#include "hyp/types.h"

#include "s2_ept_check.h"
#include "vkvm_eoi.h"
#include "vkvm_steal.h"
#include "vlapic.h"

/* General registers as instructions number them; then what a decoded access may name, too. */
enum gpr {
	GPR_RAX,
	GPR_RCX,
	GPR_RDX,
	GPR_RBX,
	GPR_RSP, /* in the VMCS */
	GPR_RBP,
	GPR_RSI,
	GPR_RDI,
	GPR_R8,
	GPR_COUNT = 16,
	GPR_IMMEDIATE = GPR_COUNT, /* the instruction's own operand */
	GPR_HIGH_BYTE,		   /* AH; then CH, DH, BH */
};

/* MSRs that are the guest's while it is loaded, and that nothing switches for us. Lamina uses none.
 */
#define GUEST_MSRS(X)                                                                              \
	X(star, MSR_STAR)                                                                          \
	X(lstar, MSR_LSTAR)                                                                        \
	X(cstar, MSR_CSTAR)                                                                        \
	X(fmask, MSR_FMASK)                                                                        \
	X(kernel_gs_base, MSR_KERNEL_GS_BASE)

/* How it starts, for the next time that it is loaded. */
enum vcpu_mode { VCPU_FLAT, VCPU_LONG, VCPU_REAL };

struct vcpu_start {
	u64 entry, argument;
	u64 page_tables; /* VCPU_LONG: guest-physical */
	enum vcpu_mode mode;
	bool wanted;
};

struct arch_vcpu {
	u64 gpr[GPR_COUNT]; /* RSP's is not used */
	u64 host_rsp;	    /* as the VMCS has it */
	bool launched;	    /* since the VMCS was cleared */

	void *vmcs;  /* a page */
	void *state; /* FPU and its like, as XSAVE stores it */
	u64 xcr0;
	u32 cpu_controls; /* as the VMCS has them */
	u32 offers;	  /* of the VM's, those that the VMCS has: voffer.c */
	u64 *log;	  /* of pages it has written: a page, or NULL where CPUs keep none */

	u64 immediate;	   /* GPR_IMMEDIATE */
	u64 access_bits;   /* of the register that a decoded read writes */
	u32 access_length; /* of the decoded instruction */
	u64 cr2;
	u64 dr[4], dr6;
#define X(field, msr) u64 field;
	struct {
		GUEST_MSRS(X)
	} msrs;
#undef X
	u64 tsc_aux;
	u64 misc_enable;
	u64 kvmclock; /* the MSR: where the guest wants the time, and whether */

	struct vcpu_start start;
	u32 exit_reason; /* as the VMCS numbers them */

	/* With exits by EPT for one access again and again. */
	struct s2_ept_patience patience;

	/* The CPU that has this VMCS, and may have linear translations of it. */
	struct cpu *last_cpu;

	u64 pending_event; /* was being delivered at an exit, and is delivered at the next entry */
	u64 pending_error;
	u32 waiting_nmi; /* another CPU's; atomic */
	u32 kicked;	 /* by another vCPU, and no HLT has ended by it; atomic */
	struct vkvm_steal steal;
	struct vkvm_eoi eoi;
	struct vlapic lapic;
};

#endif
