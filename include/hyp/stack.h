/* The stacks of Lamina's CPUs: numbers that assembly, linker script and C share. */
#ifndef HYP_STACK_H
#define HYP_STACK_H

/*
 * Each CPU has, from its slot's start: an unmapped guard page, its emergency stack, an unmapped
 * guard page, its stack. Stacks grow down, so whoever overflows one meets a hole.
 */
#define STACK_GUARD_SIZE 0x1000
#define STACK_EMERGENCY_SIZE 0x2000
#define STACK_SIZE 0x4000
#define STACK_SLOT_SIZE (2 * STACK_GUARD_SIZE + STACK_EMERGENCY_SIZE + STACK_SIZE)
#define STACK_SLOTS 16 /* CPU_MAX */

#endif
