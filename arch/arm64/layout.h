/* Numbers that assembly, linker script and C share. smp.c and trap.c assert the offsets. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include "hyp/stack.h"

/* Offsets in struct cpu. */
#define CPU_ARCH_EMERGENCY_TOP 32

/* struct trap_frame: x0..x30, sp, elr, spsr, esr, far. */
#define TRAP_FRAME_SP 248
#define TRAP_FRAME_ELR 256
#define TRAP_FRAME_SPSR 264
#define TRAP_FRAME_ESR 272
#define TRAP_FRAME_FAR 280
#define TRAP_FRAME_SIZE 288

/* struct mmu_registers and struct secondary_boot, read with the MMU off. */
#define MMU_REGISTERS_MAIR 0
#define MMU_REGISTERS_TCR 8
#define MMU_REGISTERS_TTBR0 16
#define MMU_REGISTERS_SCTLR 24
#define SECONDARY_CPU 32
#define SECONDARY_STACK 40

/* SCTLR_EL2: MMU, caches, alignment checks off; all else as the architecture wants it (RES1). */
#define SCTLR_EL2_OFF 0x30c50830

/* HCR_EL2 while no guest is loaded: EL1 is AArch64, physical interrupts and SErrors come to EL2. */
#define HCR_EL2_HOST 0x80000038

/* Where QEMU's virt has its PL011: for what must be said before any device tree is read. */
#define UART_DEFAULT_BASE 0x09000000

#endif
