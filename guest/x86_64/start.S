/*
 * First instructions of every small guest, its exceptions, and where its other CPUs start.
 *
 * Entered by multiboot: 32-bit protected mode, paging off, eax = magic, ebx = information. An identity map
 * of the lowest 4 GiB in pages of 2 MiB takes it into long mode. Other CPUs come by a startup interrupt to a
 * page below 1 MiB, to which ap_entry is copied (lib_cpu.c), and follow the same way.
 */
#define STACK_SIZE 16384
#define GATES 96
#define CODE32 0x08
#define CODE64 0x10
#define DATA 0x18
#define AP_PAGE 0x8000
#define CR0 0x80000033		/* PG, NE, ET, MP, PE */
#define CR4 0x620		/* PAE, OSFXSR, OSXMMEXCPT */
#define EFER 0xc0000080
#define EFER_LME 0x100

	.section .head, "ax"
	.balign	4
	.long	0x1badb002, 3, -(0x1badb002 + 3)

	.code32
	.global _start
_start:
	cli
	cld
	mov	%eax, entry_state
	mov	%ebx, entry_state + 4
	mov	%cr0, %eax
	mov	%eax, entry_state + 8
	movl	$(level2 + 3), level3
	mov	$4, %ecx
	mov	$(level1 + 3), %eax
	mov	$level2, %edi
1:	mov	%eax, (%edi)
	add	$0x1000, %eax
	add	$8, %edi
	loop	1b
	mov	$2048, %ecx
	mov	$0x83, %eax
	mov	$level1, %edi
2:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	2b
	mov	$(stacks + STACK_SIZE), %esp
	call	long_mode
	ljmp	$CODE64, $start64

long_mode:
	mov	$level3, %eax
	mov	%eax, %cr3
	mov	$CR4, %eax
	mov	%eax, %cr4
	mov	$EFER, %ecx
	mov	$EFER_LME, %eax
	xor	%edx, %edx
	wrmsr
	mov	$CR0, %eax
	mov	%eax, %cr0
	lgdt	gdt_pointer
	ret

	.code64
start64:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$(stacks + STACK_SIZE), %rsp
	lidt	idt_pointer
	xor	%ebp, %ebp
	call	lib_start
	ud2

	.code16
	.balign	16
	.global ap_entry, ap_entry_end
ap_entry:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	(ap_gdt_pointer - ap_entry)
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$CODE32, $ap_entry32
	.balign	8
ap_gdt:
	.quad	0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff
ap_gdt_pointer:
	.word	. - ap_gdt - 1
	.long	AP_PAGE + (ap_gdt - ap_entry)
ap_entry_end:

	.code32
ap_entry32:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %ss
	mov	ap_stack, %esp
	call	long_mode
	ljmp	$CODE64, $ap_entry64

	.code64
ap_entry64:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	ap_stack, %rsp
	lidt	idt_pointer
	xor	%ebp, %ebp
	call	lib_start_secondary
	ud2

/* Exceptions 0 to 31: the vector, and an error code or none, then all that C may change. */
	.balign	16
	.global vectors
	.balign	16
vectors:
	.set	vector, 0
	.rept	32
	.balign	16
	.if	!((0x60227d00 >> vector) & 1)
	push	$0
	.endif
	push	$vector
	jmp	trap_entry
	.set	vector, vector + 1
	.endr

trap_entry:
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rdx
	push	%rcx
	push	%rax
	mov	%rsp, %rdi
	push	%rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	cld
	call	trap
	mov	%rbp, %rsp
	pop	%rbp
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rsi
	pop	%rdi
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	add	$16, %rsp
	iretq

	.section .rodata
	.balign	8
gdt:
	.quad	0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff
	.global gdt_pointer
gdt_pointer:
	.word	. - gdt - 1
	.quad	gdt

	.data
	.global idt_pointer
idt_pointer:
	.word	GATES * 16 - 1
	.quad	idt
	.global entry_state
	.balign	4
entry_state:
	.long	0, 0, 0

	.bss
	.balign	4096
level3:	.skip	4096
level2:	.skip	4096
level1:	.skip	4096 * 4
	.global idt
idt:	.skip	GATES * 16
	.balign	16
	.global stacks
stacks:	.skip	STACK_SIZE * 8
	.global ap_stack
ap_stack:
	.skip	8

	.section .note.GNU-stack, "", @progbits
