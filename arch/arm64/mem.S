/*
 * arch_zero and arch_copy: whole 64-byte lines in as few instructions as the CPU can do.
 *
 * Every CPU: 64 bytes an instruction by four SIMD registers, 4 KiB a turn. CPUs with long SVE vectors
 * (el2.c says whether it pays): four whole vectors an instruction, up to 1 KiB.
 *
 * A guest's SIMD registers live in the CPU, so the four that are used are saved and put back. No guest
 * has SVE (CPTR_EL2.TZ traps it), so what lies above their 128 bits, and the predicates, are nobody's.
 */
	.arch	armv8-a+fp+simd+sve

#define CPTR_TZ (1 << 8)

	.bss
	.balign	4
	.global mem_wide
mem_wide:			/* 1: use SVE */
	.space	4

.macro save_vectors
	stp	q0, q1, [sp, #-64]!
	stp	q2, q3, [sp, #32]
.endm

.macro restore_vectors
	ldp	q2, q3, [sp, #32]
	ldp	q0, q1, [sp], #64
.endm

.macro branch_if_wide label, scratch
	adrp	x\scratch, mem_wide
	ldr	w\scratch, [x\scratch, :lo12:mem_wide]
	cbnz	w\scratch, \label
.endm

/* SVE on; x9 keeps what CPTR_EL2 was. x10, x11 = bytes of a big and a small step. */
.macro wide_begin
	mrs	x9, cptr_el2
	and	x10, x9, #~CPTR_TZ
	msr	cptr_el2, x10
	isb
	ptrue	p0.d
	rdvl	x10, #16
	rdvl	x11, #4
.endm

/* No isb: whoever looks at the trap next is a guest, behind an exception return. */
.macro wide_end
	msr	cptr_el2, x9
	restore_vectors
	ret
.endm

	.text
/* void arch_zero(void *to, u64 size) */
	.global arch_zero
	.type	arch_zero, %function
	.balign	16
arch_zero:
	save_vectors
	branch_if_wide zero_wide, 2
	movi	v0.2d, #0
	movi	v1.2d, #0
	movi	v2.2d, #0
	movi	v3.2d, #0
	subs	x1, x1, #4096
	b.lo	2f
1:
	.rept	64
	st1	{v0.2d-v3.2d}, [x0], #64
	.endr
	subs	x1, x1, #4096
	b.hs	1b
2:	adds	x1, x1, #4096
	b.eq	4f
3:	st1	{v0.2d-v3.2d}, [x0], #64
	subs	x1, x1, #64
	b.hi	3b
4:	restore_vectors
	ret

zero_wide:
	wide_begin
	mov	z0.d, #0
	mov	z1.d, #0
	mov	z2.d, #0
	mov	z3.d, #0
	subs	x1, x1, x10
	b.lo	2f
1:	st4d	{z0.d-z3.d}, p0, [x0]
	st4d	{z0.d-z3.d}, p0, [x0, #4, mul vl]
	st4d	{z0.d-z3.d}, p0, [x0, #8, mul vl]
	st4d	{z0.d-z3.d}, p0, [x0, #12, mul vl]
	add	x0, x0, x10
	subs	x1, x1, x10
	b.hs	1b
2:	adds	x1, x1, x10
	b.eq	6f
	subs	x1, x1, x11
	b.lo	4f
3:	st4d	{z0.d-z3.d}, p0, [x0]
	add	x0, x0, x11
	subs	x1, x1, x11
	b.hs	3b
4:	adds	x1, x1, x11
	b.eq	6f
5:	st1	{v0.2d-v3.2d}, [x0], #64
	subs	x1, x1, #64
	b.hi	5b
6:	wide_end
	.size	arch_zero, . - arch_zero

/* void arch_copy(void *to, const void *from, u64 size) */
	.global arch_copy
	.type	arch_copy, %function
	.balign	16
arch_copy:
	save_vectors
	branch_if_wide copy_wide, 3
	subs	x2, x2, #4096
	b.lo	2f
1:
	.rept	64
	ld1	{v0.2d-v3.2d}, [x1], #64
	st1	{v0.2d-v3.2d}, [x0], #64
	.endr
	subs	x2, x2, #4096
	b.hs	1b
2:	adds	x2, x2, #4096
	b.eq	4f
3:	ld1	{v0.2d-v3.2d}, [x1], #64
	st1	{v0.2d-v3.2d}, [x0], #64
	subs	x2, x2, #64
	b.hi	3b
4:	restore_vectors
	ret

copy_wide:
	wide_begin
	subs	x2, x2, x10
	b.lo	2f
1:	ld4d	{z0.d-z3.d}, p0/z, [x1]
	st4d	{z0.d-z3.d}, p0, [x0]
	ld4d	{z0.d-z3.d}, p0/z, [x1, #4, mul vl]
	st4d	{z0.d-z3.d}, p0, [x0, #4, mul vl]
	ld4d	{z0.d-z3.d}, p0/z, [x1, #8, mul vl]
	st4d	{z0.d-z3.d}, p0, [x0, #8, mul vl]
	ld4d	{z0.d-z3.d}, p0/z, [x1, #12, mul vl]
	st4d	{z0.d-z3.d}, p0, [x0, #12, mul vl]
	add	x1, x1, x10
	add	x0, x0, x10
	subs	x2, x2, x10
	b.hs	1b
2:	adds	x2, x2, x10
	b.eq	6f
	subs	x2, x2, x11
	b.lo	4f
3:	ld4d	{z0.d-z3.d}, p0/z, [x1]
	st4d	{z0.d-z3.d}, p0, [x0]
	add	x1, x1, x11
	add	x0, x0, x11
	subs	x2, x2, x11
	b.hs	3b
4:	adds	x2, x2, x11
	b.eq	6f
5:	ld1	{v0.2d-v3.2d}, [x1], #64
	st1	{v0.2d-v3.2d}, [x0], #64
	subs	x2, x2, #64
	b.hi	5b
6:	wide_end
	.size	arch_copy, . - arch_copy
