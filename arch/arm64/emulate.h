/* What every emulated AArch64 instruction of a guest needs, besides <arch_enter.h>. */
#ifndef EMULATE_H
#define EMULATE_H

#include "hyp/vcpu.h"

#include <arch_enter.h>

#include "sysreg.h"

/*
 * MSR, MRS, SMC, DC are done: on to the next one, as the CPU itself would. A branch's BTYPE is used
 * up; a single step is over, and its exception comes before the next instruction.
 */
static inline void emulate_skip(struct vcpu *vcpu)
{
	vcpu->arch.pc += 4;
	vcpu->arch.pstate &= ~(SPSR_BTYPE | SPSR_SS);
}

#endif
