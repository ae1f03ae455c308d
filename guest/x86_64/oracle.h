/*
 * The oracle's guest does many things that a hypervisor must not change, and prints what came of
 * each as one line "NAME VALUE...". Lines are the same on every machine: another hypervisor's are
 * the judge (tests/oracle). So nothing is printed that hardware leaves undefined, or that is a
 * model's own: CPUID, rates, MSRs of one vendor, MONITOR and RDPMC, what lies behind the end of
 * RAM, what a TLB still remembers.
 *
 * What only some CPUs have is said first, "without FEATURE", where it is missing; lines about it
 * have names that begin with "FEATURE.".
 */
#ifndef ORACLE_H
#define ORACLE_H

#include "lib.h"

/* One a file. Each leaves registers, tables and segments as it found them. */
void oracle_memory(void);
void oracle_ports(void);
void oracle_faults(void);
void oracle_registers(void);
void oracle_debug(void);
void oracle_paging(void);
void oracle_flags(void);
void oracle_user(void);
void oracle_segments(void);
void oracle_dirty(void);

/* "without NAME" when it is not there. */
bool oracle_has(const char *name, bool there);

/* ---- Instructions that may fault: oracle_attempt.c --------------------------------------------
 */

extern u64 attempt_start;
void attempt_begin(void);
/* "NAME vector N error 0x.. at N" (at: bytes into the code), #PF's with "address 0x..", or "NAME
 * done". */
void attempt_end(const char *name);

/*
 * Executes `code` and says what came of it: whichever way it ends, the guest goes on behind it, in
 * 64-bit mode and on this stack. The code may use rax to rdx, rsi, rdi, r8 to r11; what follows are
 * inputs as in any assembly statement, in none of those nor rbp.
 */
#define ATTEMPT(name, code, ...)                                                                   \
	do {                                                                                       \
		attempt_begin();                                                                   \
		__asm__ volatile(                                                                  \
			"push %%rbp\n\tpush %%r12\n\tpush %%r13\n\tpush %%r14\n\tpush %%r15\n\t"   \
			"lea 8f(%%rip), %%rax\n\t"                                                 \
			"mov %%rax, fault_resume(%%rip)\n\t"                                       \
			"mov %%rsp, fault_resume + 8(%%rip)\n\t"                                   \
			"lea 9f(%%rip), %%rax\n\t"                                                 \
			"mov %%rax, attempt_start(%%rip)\n"                                        \
			"9:\t" code "\n"                                                           \
			"8:\tpop %%r15\n\tpop %%r14\n\tpop %%r13\n\tpop %%r12\n\tpop %%rbp" ::     \
				__VA_ARGS__                                                        \
			: "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10",      \
			  "r11", "memory", "cc");                                                  \
		attempt_end(name);                                                                 \
	} while (0)

/* ---- Registers ---- */

#define CR0_PE (1ul << 0)
#define CR0_TS (1ul << 3)
#define CR0_WP (1ul << 16)
#define CR0_AM (1ul << 18)
#define CR0_NW (1ul << 29)
#define CR0_PG (1ul << 31)
#define CR4_DE (1ul << 3)
#define CR4_PAE (1ul << 5)
#define CR4_PGE (1ul << 7)
#define CR4_LA57 (1ul << 12)
#define CR4_VMXE (1ul << 13)
#define CR4_PCIDE (1ul << 17)
#define CR4_OSXSAVE (1ul << 18)
#define CR4_SMEP (1ul << 20)
#define CR4_SMAP (1ul << 21)
#define EFER_SCE (1ul << 0)
#define EFER_NXE (1ul << 11)
#define MSR_TSC 0x10u
#define MSR_PAT 0x277u
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_FMASK 0xc0000084u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define FLAG_TF (1ul << 8)
#define FLAG_AC (1ul << 18)

#define read_register(name)                                                                        \
	({                                                                                         \
		u64 value_;                                                                        \
		__asm__ volatile("mov %%" name ", %0" : "=r"(value_)::"memory");                   \
		value_;                                                                            \
	})
#define write_register(name, value)                                                                \
	__asm__ volatile("mov %0, %%" name ::"r"((u64)(value)) : "memory")

/* ---- Segments and stacks for exceptions: oracle_tables.c --------------------------------------
 */

#define SELECTOR_USER_DATA 0x23 /* this order is what SYSRET wants */
#define SELECTOR_USER_CODE 0x2b
#define SELECTOR_TASK 0x30
#define SELECTOR_SHORT 0x40	/* data, 32 bits, of the bytes below SHORT_LIMIT */
#define SELECTOR_DOWN 0x48	/* data that grows down: the bytes from SHORT_LIMIT on */
#define SELECTOR_READ_ONLY 0x50 /* data */
#define SELECTOR_EXECUTE 0x58	/* code that cannot be read */
#define SELECTOR_ABSENT 0x60
#define SELECTOR_BEHIND 0x7f8 /* not in the table */
#define SHORT_LIMIT 0x500000

/* A GDT with those, and a task whose stack for what comes from user mode is this one's. */
void tables_load(void);
void tables_unload(void);
/* Exceptions of this vector use a stack that ends at `top`; 0: the one they came on. */
void tables_set_stack(u32 vector, u64 top);
/* Who may use it by INT. */
void tables_allow_user(u32 vector);

/* ---- Page tables of the guest's own: oracle_window.c ------------------------------------------
 */

#define PAGE_PRESENT 1ul
#define PAGE_WRITE 2ul
#define PAGE_USER 4ul
#define PAGE_ACCESSED 0x20ul
#define PAGE_DIRTY 0x40ul
#define PAGE_LARGE 0x80ul
#define PAGE_GLOBAL 0x100ul
#define PAGE_RESERVED (1ul << 51)
#define PAGE_NO_EXECUTE (1ul << 63)

/* A range of linear addresses behind tables that are the guest's to play with. */
#define WINDOW (1ul << 39)
#define WINDOW_PAGES 512
#define WINDOW_BLOCK (WINDOW + BLOCK_SIZE) /* behind an entry of the level above */

enum window_level { WINDOW_LEAF, WINDOW_DIRECTORY, WINDOW_POINTERS, WINDOW_ROOT };
extern u64 window_leaves[WINDOW_PAGES];
extern u64 window_directory[512];

void window_open(void);
void window_close(void);
/* The entry that leads towards WINDOW, on that level. */
u64 *window_entry(enum window_level level);
/* What it is now, whoever changed it. */
static inline u64 entry_of(const u64 *entry)
{
	return *(const volatile u64 *)entry;
}
static inline void entry_set(u64 *entry, u64 value)
{
	*(volatile u64 *)entry = value;
}
/* Sets page `n`'s leaf, and forgets what a TLB may know of it. Returns its linear address. */
u64 window_set(u32 n, u64 entry);
void flush_page(u64 at);
void flush_all(void);

/* Pages of RAM of a test's own, zeroed once: [ORACLE_RAM, ORACLE_RAM + ORACLE_RAM_SIZE). */
#define ORACLE_RAM 0xa00000ul
#define ORACLE_RAM_SIZE 0x40000ul
#define ORACLE_FRESH 0xf00000ul /* here begins what nobody has touched */

#endif
