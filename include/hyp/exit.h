/*
 * Why a vCPU came back from its guest, in words that no architecture owns.
 *
 * The architecture decodes its syndrome into this; hyp/vcpu.c has the one switch over it. What only
 * one architecture has (a system register, an MSR, a firmware call) goes back to it by
 * arch_vcpu_emulate(), counted under its own reason.
 */
#ifndef HYP_EXIT_H
#define HYP_EXIT_H

#include "hyp/addr.h"

#define EXIT_REASONS(X)                                                                            \
	X(INTERRUPT, "interrupt") /* a physical interrupt wants Lamina */                          \
	X(MEMORY, "memory")	  /* s2 fault: nothing there, not allowed, or not yet accessed */  \
	X(MMIO, "mmio")		  /* the same, where a device of Lamina's is */                    \
	X(PORT, "port")		  /* IN, OUT */                                                    \
	X(HYPERCALL, "hypercall") /* HVC, SMC, VMCALL: firmware and paravirtual calls */           \
	X(REGISTER, "register")	  /* trapped system register or MSR */                             \
	X(IPI, "ipi")		  /* the guest sends itself an interrupt */                        \
	X(IDLE, "idle")		  /* WFI, HLT */                                                   \
	X(RELAX, "relax")	  /* WFE, PAUSE: spins, so another may run */                      \
	X(CACHE, "cache")	  /* set/way, WBINVD */                                            \
	X(LOG, "log")		  /* the CPU's log of writes is full; it was emptied */            \
	X(SHUTDOWN, "shutdown")	  /* a fault while a fault was delivered: it cannot go on */       \
	X(UNKNOWN, "unknown")	  /* nothing Lamina knows: ends that guest alone */

enum exit_reason {
#define X(name, text) EXIT_##name,
	EXIT_REASONS(X)
#undef X
		EXIT_REASON_COUNT,
};

static inline const char *exit_reason_name(enum exit_reason r)
{
	static const char *const names[] = {
#define X(name, text) text,
		EXIT_REASONS(X)
#undef X
	};
	return (unsigned)r < EXIT_REASON_COUNT ? names[r] : "?";
}

enum access { ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_EXEC = 4 };

struct exit {
	enum exit_reason reason;

	/* MEMORY. reason is MEMORY for every s2 fault; the switch finds out that it is MMIO. */
	gpa_t gpa;	  /* guest-physical address, to the byte where the hardware tells */
	u8 access;	  /* enum access */
	bool table_walk;  /* the guest's own page-table walk faulted, not its data */
	bool accessed;	  /* the entry is valid and only its accessed flag was clear */
	u8 view;	  /* which of the VM's views the guest was in: hyp/vm_view.h */
	bool decoded;	  /* the four fields below are right; else the access cannot be emulated */
	u8 size;	  /* bytes: 1, 2, 4, 8 */
	u8 reg;		  /* register read from or written to */
	bool sign_extend; /* on reads */
	bool wide;	  /* register is 64 bits wide, else the upper half is cleared */

	/* All others: the architecture's own syndrome (ESR_EL2, exit qualification). */
	u64 syndrome;
};

#endif
