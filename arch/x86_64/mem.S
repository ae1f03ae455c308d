/*
 * arch_zero and arch_copy: whole 64-byte lines in as few instructions as the CPU can do.
 *
 * Every CPU: 16 bytes an instruction, 256 a turn. CPUs with AVX-512 (xstate.c says so): 64 and 1024. A guest's
 * vector registers live in the CPU, so those that are used are saved and put back; and where it has not turned
 * AVX-512 on, XCR0 has it for the time.
 */
	.bss
	.balign	4
	.global mem_wide
mem_wide:			/* XCR0's low half that has AVX-512; 0: there is none */
	.space	4

	.text

/* r8d = what XCR0 had, where that is to be put back, else 0; edx of XCR0 is 0 in all that is allowed. */
.macro wide_begin
	xor	%ecx, %ecx
	xgetbv
	xor	%r8d, %r8d
	mov	mem_wide(%rip), %r9d
	cmp	%r9d, %eax
	je	1f
	mov	%eax, %r8d
	mov	%r9d, %eax
	xsetbv
1:
.endm

.macro wide_end
	test	%r8d, %r8d
	jz	1f
	xor	%ecx, %ecx
	xor	%edx, %edx
	mov	%r8d, %eax
	xsetbv
1:	ret
.endm

/* `turn` for each 2^log2 bytes of rsi, then `line` for each 64 of the rest. */
.macro turns log2, turn, line
	mov	%rsi, %rax
	and	$((1 << \log2) - 1), %esi
	shr	$\log2, %rax
	jz	3f
2:	\turn
	dec	%rax
	jnz	2b
3:	shr	$6, %esi
	jz	5f
4:	\line
	dec	%esi
	jnz	4b
5:
.endm

.macro zero_turn16
	.irp	n, 0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240
	movaps	%xmm0, \n(%rdi)
	.endr
	add	$256, %rdi
.endm
.macro zero_line16
	.irp	n, 0, 16, 32, 48
	movaps	%xmm0, \n(%rdi)
	.endr
	add	$64, %rdi
.endm
.macro zero_turn64
	.irp	n, 0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960
	vmovdqa64 %zmm0, \n(%rdi)
	.endr
	add	$1024, %rdi
.endm
.macro zero_line64
	vmovdqa64 %zmm0, (%rdi)
	add	$64, %rdi
.endm

/* void arch_zero(void *to, u64 size) */
	.global arch_zero
	.type	arch_zero, @function
	.balign	16
arch_zero:
	cmpl	$0, mem_wide(%rip)
	jne	zero_wide
	sub	$24, %rsp
	movups	%xmm0, (%rsp)
	xorps	%xmm0, %xmm0
	turns	8, zero_turn16, zero_line16
	movups	(%rsp), %xmm0
	add	$24, %rsp
	ret
zero_wide:
	wide_begin
	sub	$72, %rsp
	vmovdqu64 %zmm0, (%rsp)
	vpxord	%zmm0, %zmm0, %zmm0
	turns	10, zero_turn64, zero_line64
	vmovdqu64 (%rsp), %zmm0
	add	$72, %rsp
	wide_end

/* Four registers a time; rdi to, rsi from, rdx size. */
.macro copy_line16
	movaps	(%rsi), %xmm0
	movaps	16(%rsi), %xmm1
	movaps	%xmm0, (%rdi)
	movaps	%xmm1, 16(%rdi)
	movaps	32(%rsi), %xmm0
	movaps	48(%rsi), %xmm1
	movaps	%xmm0, 32(%rdi)
	movaps	%xmm1, 48(%rdi)
.endm

/* void arch_copy(void *to, const void *from, u64 size) */
	.global arch_copy
	.type	arch_copy, @function
	.balign	16
arch_copy:
	cmpl	$0, mem_wide(%rip)
	jne	copy_wide
	shr	$6, %rdx
	jz	7f
	sub	$40, %rsp
	movups	%xmm0, (%rsp)
	movups	%xmm1, 16(%rsp)
6:	copy_line16
	add	$64, %rsi
	add	$64, %rdi
	dec	%rdx
	jnz	6b
	movups	(%rsp), %xmm0
	movups	16(%rsp), %xmm1
	add	$40, %rsp
7:	ret
copy_wide:
	mov	%rdx, %r10
	wide_begin
	shr	$6, %r10
	jz	9f
	sub	$72, %rsp
	vmovdqu64 %zmm0, (%rsp)
8:	vmovdqa64 (%rsi), %zmm0
	vmovdqa64 %zmm0, (%rdi)
	add	$64, %rsi
	add	$64, %rdi
	dec	%r10
	jnz	8b
	vmovdqu64 (%rsp), %zmm0
	add	$72, %rsp
9:	wide_end

	.section .note.GNU-stack, "", @progbits
