/* Trapped system registers. The vCPU is loaded. */
#ifndef VSYSREG_H
#define VSYSREG_H

#include "hyp/types.h"

struct vcpu;

/* ISS of a trapped MSR or MRS, DDI 0487 D19.2.37. */
#define VSYSREG_READ BIT(0)
#define VSYSREG_CRM BITS(4, 1)
#define VSYSREG_RT BITS(9, 5)
#define VSYSREG_CRN BITS(13, 10)
#define VSYSREG_OP1 BITS(16, 14)
#define VSYSREG_OP2 BITS(19, 17)
#define VSYSREG_OP0 BITS(21, 20)
#define VSYSREG_NAME (VSYSREG_OP0 | VSYSREG_OP1 | VSYSREG_CRN | VSYSREG_CRM | VSYSREG_OP2)

#define VSYSREG(op0, op1, crn, crm, op2)                                                           \
	((u64)(op0) << 20 | (u64)(op2) << 17 | (u64)(op1) << 14 | (u64)(crn) << 10 |               \
	 (u64)(crm) << 1)

/* The access that `esr` describes is done, or becomes an undefined instruction. */
void vsysreg_access(struct vcpu *vcpu, u64 esr);

#endif
