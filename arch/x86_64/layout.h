/* Numbers that assembly, linker script and C share. smp.c and trap.c assert the offsets. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include "hyp/stack.h"

/* Selectors in every CPU's own table (tables.c); code and data of 32 bits are for the way up alone.
 */
#define SELECTOR_CODE32 0x08
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TSS 0x20

/* Where a CPU begins that INIT-SIPI starts: a page below 1 MiB, which holds smp_entry (start.S). */
#define SMP_ENTRY_PAGE 0x8000

/* CR0: protection, paging, and NE and WP, without which a kernel is none; all caches on. */
#define CR0_LAMINA 0x80010033
/* CR4: PAE, OSFXSR, OSXMMEXCPT. Libraries are compiled with SSE; Lamina's own code has none. */
#define CR4_LAMINA 0x620
#define MSR_EFER 0xc0000080
/* Long mode, no-execute. */
#define EFER_LAMINA 0x900

/* struct smp_record. */
#define SMP_RECORD_CR3 0
#define SMP_RECORD_STACK 8
#define SMP_RECORD_CPU 16

/* struct trap_frame: rax rcx rdx rbx rbp rsi rdi r8..r15, vector, then what the CPU pushes. */
#define TRAP_FRAME_VECTOR 120

#endif
