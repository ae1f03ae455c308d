/*
 * VMX on this machine: what its CPUs can do, as far as Lamina asks, and every CPU's way into it.
 */
#ifndef VMX_MACHINE_H
#define VMX_MACHINE_H

#include "hyp/types.h"

struct vmx {
	u32 revision;
	/* Controls as every guest starts with them. */
	u32 pin, cpu, cpu2, exit, entry;
	u64 cr0_fixed1, cr4_fixed1; /* bits that have to be 1 in VMX operation */
	u32 timer_shift;	    /* the preemption timer counts TSC >> this */
	bool ept_flags;		    /* accessed and dirty flags */
	bool ept_gib_pages, ept_execute_only;
	bool vpid, xsaves;
	bool log;   /* of pages that guests write (PML, 29.3.6) */
	bool views; /* guests can switch EPTPs (VMFUNC, 26.5.6.3) */
};

extern struct vmx vmx;

/* Reads the capabilities, refuses the boot for what is missing. CPU 0 alone. */
void vmx_init(void);
/* VMXON. Every CPU. */
void vmx_init_cpu(void);

/* One line for each feature: used, missing and done without. */
void vmx_log_features(void);

/* Forgets on this CPU: all that EPT tables say; what one root says; one VPID's linear translations;
 * all of them. */
void vmx_invept_all(void);
void vmx_invept(u64 pointer);
void vmx_invvpid(u16 vpid);
void vmx_invvpid_all(void);

#endif
