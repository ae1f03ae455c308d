/*
 * Where exceptions and interrupts enter, a stub of 16 bytes for each vector. Exceptions are bugs of
 * Lamina's, all but the NMI that stops a CPU: they save everything and report. Interrupts come only
 * where Lamina waits for them: they are noted, and ended.
 */
#include "layout.h"

#define HAS_ERROR 0x60227d00	/* exceptions that push an error code: 8, 10..14, 17, 21, 29, 30 */

	.text
	.balign	16
	.global vector_stubs
vector_stubs:
	.set	vector, 0
	.rept	256
	.balign	16
	.if	vector >= 32
	push	$0
	.elseif	!((HAS_ERROR >> vector) & 1)
	push	$0
	.endif
	.if	vector < 128
	push	$vector
	.else
	push	$(vector - 256)		/* of one byte, sign-extended */
	.endif
	.if	vector < 32
	jmp	exception
	.else
	jmp	interrupt
	.endif
	.set	vector, vector + 1
	.endr

	.macro	save_all
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rbp
	push	%rbx
	push	%rdx
	push	%rcx
	push	%rax
	.endm

exception:
	save_all
	mov	%rsp, %rdi
	xor	%ebp, %ebp
	cld
	and	$-16, %rsp
	call	trap_report
	ud2

interrupt:
	save_all
	movzbl	TRAP_FRAME_VECTOR(%rsp), %edi
	mov	%rsp, %rbp
	and	$-16, %rsp
	cld
	call	irq_taken
	mov	%rbp, %rsp
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rbx
	pop	%rbp
	pop	%rsi
	pop	%rdi
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	add	$16, %rsp
	iretq

	.section .note.GNU-stack, "", @progbits
