/* What arm64 keeps for each physical CPU, inside struct cpu. */
#ifndef ARCH_CPU_BLOCK_H
#define ARCH_CPU_BLOCK_H

#include "hyp/types.h"

struct arch_cpu {
	u64 emergency_top;     /* of the stack for EL2 exceptions: the other may be what broke */
	u64 redistributor;     /* address of this CPU's GICR frame */
	void (*on_trap)(void); /* where to go if an instruction is not there; never returns */
};

#endif
