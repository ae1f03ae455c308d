/*
 * The first instructions of every CPU.
 *
 * _start is where a multiboot loader enters (GRUB; QEMU's -kernel): 32-bit protected mode, paging off,
 * eax = the loader's magic, ebx = its information, and nothing else to be relied on. A first map of the
 * lowest 4 GiB takes it into long mode; the final one is made in C (mmu.c).
 *
 * smp_entry is copied below 1 MiB, since INIT-SIPI begins there in real mode; it brings its CPU straight
 * into the final map. What it has to know is in struct smp_record, one CPU at a time.
 *
 * Manual: SDM volume 3A, 10.8.5 (initialising long mode), 9.4 (multiple processors).
 */
#include "layout.h"

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x3	/* modules on page borders; tell of memory */
#define PAGE_LARGE 0x83		/* present, writable, 2 MiB */
#define PAGE_TABLE 0x3
#define CR4_PAE 0x20
#define EARLY_GIB 4

	.section .head, "ax"
	.balign	4
	.long	MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

	.code32
	.global _start
_start:
	cli
	cld
	mov	%eax, %ebp
	mov	%ebx, %esi
	/* bss, which no loader need have zeroed. */
	mov	$bss_start, %edi
	mov	$bss_end, %ecx
	sub	%edi, %ecx
	shr	$2, %ecx
	xor	%eax, %eax
	rep	stosl
	mov	$early_stack_top, %esp

	mov	$0x80000001, %eax
	cpuid
	bt	$29, %edx
	jnc	no_long_mode

	/* One table of 512 GiB, one of its first four GiB, four of 2 MiB pages. */
	movl	$(early_level2 + PAGE_TABLE), early_level3
	mov	$EARLY_GIB, %ecx
	mov	$(early_level1 + PAGE_TABLE), %eax
	mov	$early_level2, %edi
1:	mov	%eax, (%edi)
	add	$0x1000, %eax
	add	$8, %edi
	loop	1b
	mov	$(EARLY_GIB * 512), %ecx
	mov	$PAGE_LARGE, %eax
	mov	$early_level1, %edi
2:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	2b

	mov	$early_level3, %eax
	call	enter_long_mode
	ljmp	$SELECTOR_CODE, $start64

/* eax = the root. Leaves with paging on, still in code of 32 bits. */
enter_long_mode:
	mov	%eax, %cr3
	mov	$CR4_LAMINA, %eax
	mov	%eax, %cr4
	mov	$MSR_EFER, %ecx
	mov	$EFER_LAMINA, %eax
	xor	%edx, %edx
	wrmsr
	mov	$CR0_LAMINA, %eax
	mov	%eax, %cr0
	lgdt	early_gdt_pointer
	ret

no_long_mode:
	mov	$text_no_long_mode, %esi
3:	lodsb
	test	%al, %al
	jz	4f
	mov	$0x3f8, %dx
	out	%al, %dx
	jmp	3b
4:	hlt
	jmp	4b

	.code64
start64:
	mov	$SELECTOR_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$(stacks_start + STACK_SLOT_SIZE), %rsp	/* CPU 0 has the first slot */
	mov	%ebp, %edi
	mov	%esi, %esi
	xor	%ebp, %ebp
	call	boot_main
	ud2

/* ---- Other CPUs ---- */

	.code16
	.balign	16
	.global smp_entry, smp_entry_end
smp_entry:
	cli
	cld
	/* A far jump can only be taken from what the table says: it lies in this page, too. */
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	(smp_gdt_pointer - smp_entry)
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$SELECTOR_CODE32, $smp_entry32
	.balign	8
smp_gdt:
	.quad	0
	.quad	0x00cf9b000000ffff
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
smp_gdt_pointer:
	.word	. - smp_gdt - 1
	.long	SMP_ENTRY_PAGE + (smp_gdt - smp_entry)
smp_entry_end:

	.code32
smp_entry32:
	mov	$SELECTOR_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %ss
	mov	smp_record + SMP_RECORD_STACK, %esp
	mov	smp_record + SMP_RECORD_CR3, %eax
	call	enter_long_mode
	ljmp	$SELECTOR_CODE, $smp_entry64

	.code64
smp_entry64:
	mov	$SELECTOR_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	smp_record + SMP_RECORD_STACK, %rsp
	mov	smp_record + SMP_RECORD_CPU, %rdi
	xor	%ebp, %ebp
	call	smp_main
	ud2

	.section .rodata
	.balign	8
early_gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* SELECTOR_CODE32 */
	.quad	0x00af9b000000ffff	/* SELECTOR_CODE */
	.quad	0x00cf93000000ffff	/* SELECTOR_DATA */
early_gdt_pointer:
	.word	. - early_gdt - 1
	.quad	early_gdt
text_no_long_mode:
	.asciz	"lamina: this CPU has no long mode, stopped\r\n"

	.bss
	.balign	4096
early_level3:
	.space	4096
early_level2:
	.space	4096
early_level1:
	.space	4096 * EARLY_GIB
	.space	256
early_stack_top:

	.section .stacks, "aw", @nobits
	.balign	4096
	.space	STACK_SLOTS * STACK_SLOT_SIZE

	.section .note.GNU-stack, "", @progbits
