/*
 * First instructions of every small guest, its exception vectors, and where its other CPUs start.
 *
 * Entered at the first byte, at EL1 with the MMU off, x0 = device tree; wherever that is in RAM: the
 * image is position independent and relocates its own pointers. With IMAGE_HEADER it begins with the
 * Linux arm64 image header, without it is a plain flat binary.
 *
 * A C function of interest may not run before relocate: tables of pointers are wrong until then.
 */

#define STACK_SIZE 16384
#define FRAME_SIZE 272

	.section .head, "ax"
	.global image_start
image_start:
#ifdef IMAGE_HEADER
	b	start
	.long	0
	.quad	0			/* text_offset */
	.long	image_size, 0		/* absolute, by the linker: a .quad would be relocated */
	.quad	0xa			/* flags: little-endian, 4 KiB pages, anywhere in RAM */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0
#endif
start:
	/* Nothing here may use a register that entry_state is to show, until it is stored. */
	adrp	x8, entry_state
	add	x8, x8, :lo12:entry_state
	stp	x0, x1, [x8]
	stp	x2, x3, [x8, #16]
	adr	x9, image_start
	mrs	x10, CurrentEL
	stp	x9, x10, [x8, #32]
	mrs	x9, daif
	mrs	x10, sctlr_el1
	stp	x9, x10, [x8, #48]
	mrs	x9, spsel
	mrs	x10, cntvct_el0
	stp	x9, x10, [x8, #64]

	msr	daifset, #15
	msr	spsel, #1
	adrp	x9, stacks
	add	x9, x9, :lo12:stacks
	add	sp, x9, #STACK_SIZE
	bl	relocate
	mov	x0, xzr
	bl	cpu_basics
	bl	lib_start
	b	.

/* Adds where we are to every pointer that the linker left as an offset from image_start. */
relocate:
	adr	x0, image_start
	adrp	x1, rela_start
	add	x1, x1, :lo12:rela_start
	adrp	x2, rela_end
	add	x2, x2, :lo12:rela_end
1:	cmp	x1, x2
	b.hs	2f
	ldp	x3, x4, [x1], #16	/* offset, type (R_AARCH64_RELATIVE) */
	ldr	x5, [x1], #8		/* addend */
	add	x5, x5, x0
	str	x5, [x0, x3]
	b	1b
2:	dsb	sy
	isb
	ret

/* x0 = this CPU's number: vectors, FP on, and the number where cpu_number() looks. */
cpu_basics:
	adrp	x1, vectors
	add	x1, x1, :lo12:vectors
	msr	vbar_el1, x1
	mov	x1, #(3 << 20)
	msr	cpacr_el1, x1
	msr	tpidr_el1, x0
	isb
	ret

/* Where PSCI CPU_ON enters: x0 = CPU number. */
	.global secondary_start
secondary_start:
	msr	daifset, #15
	msr	spsel, #1
	adrp	x9, stacks
	add	x9, x9, :lo12:stacks
	add	x10, x0, #1
	mov	x11, #STACK_SIZE
	madd	x9, x10, x11, x9
	mov	sp, x9
	bl	cpu_basics
	bl	lib_start_secondary
	b	.

/* A frame of all registers, then trap(frame, which of the sixteen). */
	.macro	vector number
	.balign	128
	sub	sp, sp, #FRAME_SIZE
	stp	x0, x1, [sp]
	mov	x1, #\number
	b	vector_common
	.endm

	.text
	.balign	2048
	.global vectors
vectors:
	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vector	\number
	.endr

vector_common:
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	str	x30, [sp, #240]
	mrs	x2, elr_el1
	mrs	x3, spsr_el1
	stp	x2, x3, [sp, #248]
	mov	x0, sp
	bl	trap
	ldp	x2, x3, [sp, #248]
	msr	elr_el1, x2
	msr	spsr_el1, x3
	ldp	x0, x1, [sp]
	ldp	x2, x3, [sp, #16]
	ldp	x4, x5, [sp, #32]
	ldp	x6, x7, [sp, #48]
	ldp	x8, x9, [sp, #64]
	ldp	x10, x11, [sp, #80]
	ldp	x12, x13, [sp, #96]
	ldp	x14, x15, [sp, #112]
	ldp	x16, x17, [sp, #128]
	ldp	x18, x19, [sp, #144]
	ldp	x20, x21, [sp, #160]
	ldp	x22, x23, [sp, #176]
	ldp	x24, x25, [sp, #192]
	ldp	x26, x27, [sp, #208]
	ldp	x28, x29, [sp, #224]
	ldr	x30, [sp, #240]
	add	sp, sp, #FRAME_SIZE
	eret

	.bss
	.balign	16
	.global stacks
stacks:
	.skip	STACK_SIZE * 8
