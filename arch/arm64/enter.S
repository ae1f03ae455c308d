/*
 * Into the guest and out again: general registers, pc, pstate. Nothing else moves here; see vcpu.c.
 *
 * guest_enter(x0 = vcpu), called by arch_vcpu_enter() as inline assembly that says it destroys x1..x28,
 * so that only the frame pointer and the return address have to be kept. Returns in x0 which vector
 * brought us back. The stack meanwhile holds:   sp -> x29, x30, vcpu, (unused)
 */
#include "enter.h"

	.text
	.global guest_enter
	.type guest_enter, %function
guest_enter:
	stp	x29, x30, [sp, #-32]!
	str	x0, [sp, #16]
	ldp	x1, x2, [x0, #VCPU_PC]
	msr	elr_el2, x1
	msr	spsr_el2, x2
	ldp	x2, x3, [x0, #16]
	ldp	x4, x5, [x0, #32]
	ldp	x6, x7, [x0, #48]
	ldp	x8, x9, [x0, #64]
	ldp	x10, x11, [x0, #80]
	ldp	x12, x13, [x0, #96]
	ldp	x14, x15, [x0, #112]
	ldp	x16, x17, [x0, #128]
	ldp	x18, x19, [x0, #144]
	ldp	x20, x21, [x0, #160]
	ldp	x22, x23, [x0, #176]
	ldp	x24, x25, [x0, #192]
	ldp	x26, x27, [x0, #208]
	ldp	x28, x29, [x0, #224]
	ldr	x30, [x0, #240]
	ldp	x0, x1, [x0, #0]
	eret
	/* No speculation past the return to the guest. */
	dsb	nsh
	isb

	.macro leave kind
	stp	x0, x1, [sp, #-16]!
	ldr	x0, [sp, #32]
	stp	x2, x3, [x0, #16]
	stp	x4, x5, [x0, #32]
	stp	x6, x7, [x0, #48]
	stp	x8, x9, [x0, #64]
	stp	x10, x11, [x0, #80]
	stp	x12, x13, [x0, #96]
	stp	x14, x15, [x0, #112]
	stp	x16, x17, [x0, #128]
	stp	x18, x19, [x0, #144]
	stp	x20, x21, [x0, #160]
	stp	x22, x23, [x0, #176]
	stp	x24, x25, [x0, #192]
	stp	x26, x27, [x0, #208]
	stp	x28, x29, [x0, #224]
	str	x30, [x0, #240]
	ldp	x2, x3, [sp], #16
	stp	x2, x3, [x0, #0]
	mrs	x1, elr_el2
	mrs	x2, spsr_el2
	stp	x1, x2, [x0, #VCPU_PC]
	mov	x0, #\kind
	ldp	x29, x30, [sp], #32
	ret
	.endm

	.global guest_exit_sync, guest_exit_irq, guest_exit_fiq, guest_exit_serror
guest_exit_sync:
	leave	GUEST_EXIT_SYNC
guest_exit_irq:
	leave	GUEST_EXIT_IRQ
guest_exit_fiq:
	leave	GUEST_EXIT_FIQ
guest_exit_serror:
	leave	GUEST_EXIT_SERROR

	.section .note.GNU-stack, "", %progbits
