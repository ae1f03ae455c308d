/*
 * The first instructions of every CPU.
 *
 * _start is where the loader enters: Linux's arm64 boot protocol (Image header, x0 = device tree, MMU
 * and data cache off, image cleaned to the point of coherency). The image runs wherever it was put, so it
 * first adds its address to every pointer in it; then come bss, stack and C.
 *
 * secondary_start is where PSCI CPU_ON enters, with x0 = struct secondary_boot. It touches no memory
 * but that record until its MMU is on: CPU 0 wrote the rest through its caches.
 */
#include "layout.h"

#define R_AARCH64_RELATIVE 1027
#define CURRENT_EL2 (2 << 2)
#define SCTLR_M_C_BITS 0x5

	.section .head, "ax"
	.global _start
_start:
	b	start
	.long	0
	.quad	0			/* text_offset: at the start of a 2 MiB block */
	.quad	image_end - . + 16	/* image_size, bss and stacks included */
	.quad	0b1010			/* little endian, 4 KiB pages, anywhere in RAM */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

	.text
start:
	msr	daifset, #0xf
	mrs	x9, CurrentEL
	cmp	x9, #CURRENT_EL2
	b.ne	start_not_el2
	mov	x20, x0
	bl	start_el2_off

	/* Every pointer in the image: image + offset = image + addend. */
	adr	x1, _start
	adrp	x2, rela_start
	add	x2, x2, :lo12:rela_start
	adrp	x3, rela_end
	add	x3, x3, :lo12:rela_end
1:	cmp	x2, x3
	b.hs	2f
	ldp	x4, x5, [x2], #16
	ldr	x6, [x2], #8
	cmp	w5, #R_AARCH64_RELATIVE
	b.ne	start_bad_relocation
	add	x6, x6, x1
	str	x6, [x1, x4]
	b	1b

2:	adrp	x1, bss_start
	add	x1, x1, :lo12:bss_start
	adrp	x2, bss_end
	add	x2, x2, :lo12:bss_end
3:	stp	xzr, xzr, [x1], #64	/* both are aligned to 64 */
	stp	xzr, xzr, [x1, #-48]
	stp	xzr, xzr, [x1, #-32]
	stp	xzr, xzr, [x1, #-16]
	cmp	x1, x2
	b.lo	3b

	/*
	 * What is written with the cache off must not be covered by stale clean lines once it is on:
	 * all that is writable, stacks included.
	 */
	mrs	x3, ctr_el0
	ubfx	x3, x3, #16, #4		/* DminLine: log2 of words */
	mov	x4, #4
	lsl	x3, x4, x3
	adrp	x1, data_start
	adrp	x2, image_end
4:	dc	ivac, x1
	add	x1, x1, x3
	cmp	x1, x2
	b.lo	4b
	dsb	sy

	adrp	x1, stacks_start + STACK_SLOT_SIZE	/* CPU 0 has the first slot */
	mov	sp, x1
	mov	x29, xzr
	mov	x30, xzr
	mov	x0, x20
	bl	boot_early
	bl	mmu_switch
	mov	x0, x20
	bl	boot_main
	b	.

	.global secondary_start
secondary_start:
	msr	daifset, #0xf
	mov	x19, x0
	bl	start_el2_off
	mov	x0, x19
	bl	mmu_switch
	ldp	x0, x1, [x19, #SECONDARY_CPU]
	mov	sp, x1
	msr	tpidr_el2, x0
	mov	x29, xzr
	mov	x30, xzr
	bl	smp_secondary
	b	.

/* A known EL2: its own translation regime alone (E2H and TGE clear), MMU off. */
start_el2_off:
	ldr	x9, =HCR_EL2_HOST
	msr	hcr_el2, x9
	isb
	ldr	x9, =SCTLR_EL2_OFF
	msr	sctlr_el2, x9
	isb
	ret

/*
 * mmu_switch(const struct mmu_registers *): to other tables. VA = PA before and after, so code and stack
 * stay where they are; between them the MMU is off, so no break-before-make of single entries is
 * owed. Registers only in the gap.
 */
	.global mmu_switch
mmu_switch:
	ldp	x1, x2, [x0, #MMU_REGISTERS_MAIR]
	ldp	x3, x4, [x0, #MMU_REGISTERS_TTBR0]
	dsb	sy
	mrs	x5, sctlr_el2
	mov	x6, #SCTLR_M_C_BITS
	bic	x5, x5, x6
	msr	sctlr_el2, x5
	isb
	msr	mair_el2, x1
	msr	tcr_el2, x2
	msr	ttbr0_el2, x3
	isb
	tlbi	alle2
	ic	iallu
	dsb	nsh
	isb
	msr	sctlr_el2, x4
	isb
	ret

start_not_el2:
	adr	x1, text_not_el2
	b	start_refuse
start_bad_relocation:
	adr	x1, text_bad_relocation

/* Says the line at x1 on the UART where QEMU's virt has it, and stops. No stack, no device tree. */
start_refuse:
	mov	x2, #UART_DEFAULT_BASE
1:	ldrb	w3, [x1], #1
	cbz	w3, 2f
	strb	w3, [x2]
	b	1b
2:	wfi
	b	2b

text_not_el2:
	.asciz	"lamina: not started at EL2 (QEMU: -M virt,virtualization=on,gic-version=3), stopped\r\n"
text_bad_relocation:
	.asciz	"lamina: the image has a relocation other than R_AARCH64_RELATIVE, stopped\r\n"
	.balign	4
	.ltorg

	.section .stacks, "aw", @nobits
	.balign	4096
	.space	STACK_SLOTS * STACK_SLOT_SIZE
