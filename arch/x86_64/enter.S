/*
 * Into the guest and out again: general registers. All else is the VMCS's, see vcpu.c.
 *
 * bool guest_enter(rdi = vcpu): the CPU comes back at guest_exit on this very stack, which then holds
 * vcpu, and above it what a C caller wants kept. The VMCS's HOST_RSP is written when it has changed.
 */
#include "enter.h"

	.text
	.global guest_enter
	.type guest_enter, @function
guest_enter:
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
	cmp	%rsp, VCPU_HOST_RSP(%rdi)
	je	1f
	mov	$FIELD_HOST_RSP, %eax
	mov	%rsp, VCPU_HOST_RSP(%rdi)
	vmwrite	%rsp, %rax
1:	cmpb	$0, VCPU_LAUNCHED(%rdi)
	mov	VCPU_RAX(%rdi), %rax
	mov	VCPU_RCX(%rdi), %rcx
	mov	VCPU_RDX(%rdi), %rdx
	mov	VCPU_RBX(%rdi), %rbx
	mov	VCPU_RBP(%rdi), %rbp
	mov	VCPU_RSI(%rdi), %rsi
	mov	VCPU_R8(%rdi), %r8
	mov	VCPU_R9(%rdi), %r9
	mov	VCPU_R10(%rdi), %r10
	mov	VCPU_R11(%rdi), %r11
	mov	VCPU_R12(%rdi), %r12
	mov	VCPU_R13(%rdi), %r13
	mov	VCPU_R14(%rdi), %r14
	mov	VCPU_R15(%rdi), %r15
	mov	VCPU_RDI(%rdi), %rdi
	je	2f
	vmresume
	jmp	3f
2:	vmlaunch
	/* Not entered: nothing moved but the general registers, which nobody has changed. */
3:	pop	%rdi
	xor	%eax, %eax
	jmp	leave

	.global guest_exit
guest_exit:
	push	%rdi
	mov	8(%rsp), %rdi
	mov	%rax, VCPU_RAX(%rdi)
	mov	%rcx, VCPU_RCX(%rdi)
	pop	%rax
	mov	%rax, VCPU_RDI(%rdi)
	mov	%rdx, VCPU_RDX(%rdi)
	mov	%rbx, VCPU_RBX(%rdi)
	mov	%rbp, VCPU_RBP(%rdi)
	mov	%rsi, VCPU_RSI(%rdi)
	mov	%r8, VCPU_R8(%rdi)
	mov	%r9, VCPU_R9(%rdi)
	mov	%r10, VCPU_R10(%rdi)
	mov	%r11, VCPU_R11(%rdi)
	mov	%r12, VCPU_R12(%rdi)
	mov	%r13, VCPU_R13(%rdi)
	mov	%r14, VCPU_R14(%rdi)
	mov	%r15, VCPU_R15(%rdi)
	movb	$1, VCPU_LAUNCHED(%rdi)
	pop	%rdi
	mov	$1, %eax
leave:
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	ret

	.section .note.GNU-stack, "", @progbits
