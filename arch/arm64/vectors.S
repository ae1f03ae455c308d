/*
 * EL2's exception vectors (DDI 0487, D1.3.1). Each slot is 128 bytes.
 *
 * From EL2 itself nothing is expected: interrupts are masked here, and a fault is a bug of ours. Those
 * slots save everything on this CPU's emergency stack, since the usual one may be what broke, and
 * report. From a guest the slots branch with no register touched: enter.S saves what it needs.
 */
#include "layout.h"

.macro slot label
	.balign	0x80
	b	\label
.endm

/*
 * No stack and no free register: x0 waits in CNTVOFF_EL2, which only a guest's time depends on, and
 * no guest of this CPU runs again.
 */
.macro own kind
	.balign	0x80
	msr	cntvoff_el2, x0
	mrs	x0, tpidr_el2
	ldr	x0, [x0, #CPU_ARCH_EMERGENCY_TOP]
	sub	x0, x0, #TRAP_FRAME_SIZE
	stp	x1, x2, [x0, #8]
	mov	x1, #\kind
	b	trap_save
.endm

	.text
	.balign	0x800
	.global trap_vectors
trap_vectors:
	/* From EL2 with SP_EL0, which Lamina never selects. */
	own	0
	own	1
	own	2
	own	3
	/* From EL2 with its own stack pointer. */
	own	0
	own	1
	own	2
	own	3
	/* From a 64-bit guest. */
	slot	guest_exit_sync
	slot	guest_exit_irq
	slot	guest_exit_fiq
	slot	guest_exit_serror
	/* From a guest's 32-bit EL0: the same registers, the same way out. */
	slot	guest_exit_sync
	slot	guest_exit_irq
	slot	guest_exit_fiq
	slot	guest_exit_serror
	.balign	0x80

/* x0 = struct trap_frame with x1 and x2 in it, x1 = kind; x0 itself is in CNTVOFF_EL2. */
trap_save:
	stp	x3, x4, [x0, #8 * 3]
	stp	x5, x6, [x0, #8 * 5]
	stp	x7, x8, [x0, #8 * 7]
	stp	x9, x10, [x0, #8 * 9]
	stp	x11, x12, [x0, #8 * 11]
	stp	x13, x14, [x0, #8 * 13]
	stp	x15, x16, [x0, #8 * 15]
	stp	x17, x18, [x0, #8 * 17]
	stp	x19, x20, [x0, #8 * 19]
	stp	x21, x22, [x0, #8 * 21]
	stp	x23, x24, [x0, #8 * 23]
	stp	x25, x26, [x0, #8 * 25]
	stp	x27, x28, [x0, #8 * 27]
	stp	x29, x30, [x0, #8 * 29]
	mrs	x2, cntvoff_el2
	str	x2, [x0]
	mov	x2, sp
	mrs	x3, elr_el2
	stp	x2, x3, [x0, #TRAP_FRAME_SP]
	mrs	x2, spsr_el2
	mrs	x3, esr_el2
	stp	x2, x3, [x0, #TRAP_FRAME_SPSR]
	mrs	x2, far_el2
	str	x2, [x0, #TRAP_FRAME_FAR]
	msr	spsel, #1
	mov	sp, x0
	mov	x29, xzr
	mov	x30, xzr
	bl	trap_report
	b	.
