/*
 * What the small guests stand on, on every architecture: console, checks, CPUs, locks, time.
 *
 * A guest is one file with a guest_main(). It is entered on CPU 0 with the MMU on, an identity map
 * and exceptions caught; interrupts are masked. It says what it saw line by line,
 *
 *	ok NAME
 *	not ok NAME: why
 *
 * and when guest_main() returns, "PASS n" or "FAIL n" (n: checks that passed, that failed) and
 * powers its machine off. A guest without that last line has failed, whatever else it printed.
 *
 * What only one architecture has is in lib_machine.h of its folder, and so are the guests about it.
 */
#ifndef GUEST_LIB_H
#define GUEST_LIB_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define PAGE_SIZE 4096ul
#define BLOCK_SIZE (2ul << 20)
#define CPUS_MAX 8
#define STACK_SIZE 16384
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#include "lib_machine.h"

/* ---- The guest's own story: lib.c ---- */

void guest_main(void); /* each guest's */

/* Formats: %s %c %d %u %x %p(16 digits), with l for 64 bits, width and leading zero. One line a
 * call. */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);

/* Counts and prints one check. The format is the reason when it failed. Returns `good`. */
__attribute__((format(printf, 3, 4))) bool check(const char *name, bool good, const char *format,
						 ...);
/* For values: "not ok NAME: got 0x.., want 0x..". */
bool check_equal(const char *name, u64 got, u64 want);

/* Prints the last line and powers off. guest_main() returning does the same. */
__attribute__((noreturn)) void guest_end(void);

/* Value of "name=123" (or 0x..) in the bootargs, else `otherwise`; and is the word there at all? */
u64 bootarg(const char *name, u64 otherwise);
bool bootarg_word(const char *name);
bool guest_is_bare(void); /* no hypervisor: plain QEMU */

/* As whoever started the guest told it. */
struct machine {
	u64 ram_base, ram_size;
	u32 cpu_count;
	u64 cpu_ids[CPUS_MAX]; /* as the hardware calls them */
	char bootargs[512];
	u64 tables, tables_size; /* where that was told */
};
extern struct machine machine;

extern char image_start[], image_end[];

/* Is the page of RAM the guest's to use: neither its image, nor what it was told by? */
bool page_is_ours(u64 page);

void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);

/* ---- The machine: lib_start.c of each architecture ---- */

/* One byte to the console. */
void machine_putc(char c);
/* Powers the machine off; returns if it does not go. */
void machine_off(void);
/* The next byte that is typed: lib_key.c. CPU 0 alone, which must not use interrupts otherwise. */
char machine_read_key(void);

/* ---- CPUs: lib_cpu.c of each architecture, lib_smp.c ---- */

u32 cpu_number(void); /* 0..cpu_count-1 */

typedef void (*cpu_fn)(u32 cpu);
/* Starts `cpu` in fn(cpu), MMU on, interrupts masked; when fn returns it goes off. 0, or why not.
 */
int cpu_start(u32 cpu, cpu_fn fn);
/* Runs fn on every CPU, this one included, and returns when all others are off again. */
void cpu_run_all(cpu_fn fn);
void cpu_wait_off(u32 cpu);

struct spinlock {
	u32 next, owner;
};
void spin_lock(struct spinlock *l);
void spin_unlock(struct spinlock *l);

struct barrier {
	u32 waiting, round;
};
/* Returns when `count` CPUs are here. */
void barrier_wait(struct barrier *b, u32 count);

/* ---- Time: lib_timer.c ---- */

u64 microseconds(u64 us); /* in counter ticks */
void wait_microseconds(u64 us);
/* Waits until the condition holds, at most `ms`; its final value. */
#define wait_until(condition, ms)                                                                  \
	({                                                                                         \
		u64 end_ = counter() + microseconds((ms)*1000ul);                                  \
		while (!(condition) && counter() < end_) {                                         \
			cpu_relax();                                                               \
		}                                                                                  \
		(condition);                                                                       \
	})

#endif
