/* A fake vCPU has a script instead of registers; and room for a real GIC's state, tested on the
 * host. */
#ifndef ARCH_VCPU_BLOCK_H
#define ARCH_VCPU_BLOCK_H

#include "../arm64/vgic.h"

struct arch_vcpu {
	u64 x[31];
	u64 pc;
	u64 pstate;
	u64 vmpidr;
	u64 stolen_gpa;
	u64 clean_cursor;
	bool irq;
	bool trap_idle;
	u32 aborts; /* injected */
	u32 emulated;
	struct vgic_cpu gic;
};

#endif
