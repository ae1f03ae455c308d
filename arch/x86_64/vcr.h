/* A guest's control registers (SDM volume 3A, 2.5; volume 3C, 25.6.6, 26.3). The vCPU is loaded. */
#ifndef VCR_H
#define VCR_H

#include "hyp/vcpu.h"

/* At a start. Pages of PAE are not asked for: nobody starts in them. */
void vcr_reset(u64 cr0, u64 cr3, u64 cr4, u64 efer);

/* An exit for a MOV to or from a control register, LMSW or CLTS; SDM table 28-3. */
void vcr_access(struct vcpu *vcpu, u64 qualification);

/* What the guest believes that CR4 is. */
u64 vcr_cr4(void);

/* XSETBV. */
void vcr_set_xcr0(struct vcpu *vcpu);

#endif
