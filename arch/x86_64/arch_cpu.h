/* What x86-64 keeps for each physical CPU, inside struct cpu. */
#ifndef ARCH_CPU_BLOCK_H
#define ARCH_CPU_BLOCK_H

#include "hyp/types.h"

#define GDT_ENTRIES 6 /* the task's descriptor takes two */

/* Task state of 64 bits (SDM volume 3A, 8.7): Lamina uses its stack for exceptions alone. */
struct task_state {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1;
	u64 ist[7];
	u64 reserved2;
	u16 reserved3;
	u16 io_map;
} __attribute__((packed));

struct arch_cpu {
	u64 gdt[GDT_ENTRIES];
	struct task_state task;
	u32 irqs;		/* bits of enum irq, taken and not yet handled: lapic.c */
	struct vcpu *last_vcpu; /* whose linear translations its VPID may have here */
};

#endif
