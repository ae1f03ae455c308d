/*
 * What the small guests stand on: console, checks, device tree, exceptions, MMU, CPUs, GIC, timers.
 *
 * A guest is one file with a guest_main(). It is entered on CPU 0 at EL1 with the MMU on, an
 *identity map and exceptions caught; interrupts are masked. It says what it saw line by line,
 *
 *	ok NAME
 *	not ok NAME: why
 *
 * and when guest_main() returns, "PASS n" or "FAIL n" (n: checks that passed, that failed) and
 * powers its machine off. A guest without that last line has failed, whatever else it printed.
 *
 * The machine is QEMU's `virt` (RAM from 1 GiB, GICv3, PL011, PSCI by HVC), so that every guest
 *also runs on the bare emulator; the word "bare" in its bootargs then tells it about the few places
 *where QEMU is known to differ from what a guest is owed (see each use of guest_is_bare()).
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

#define GICD_BASE 0x08000000ul
#define GICR_BASE 0x080a0000ul
#define GICR_STRIDE 0x20000ul
#define UART_BASE 0x09000000ul
#define VIRTIO_BASE 0x0a000000ul
#define HOLE_BASE 0x0b000000ul /* nothing is there on `virt` and for 16 MiB on */

#define INTID_PTIMER 30
#define INTID_VTIMER 27
#define INTID_UART 33
#define INTID_SPURIOUS 1023

#define read_sysreg(name)                                                                          \
	({                                                                                         \
		u64 value_;                                                                        \
		__asm__ volatile("mrs %0, " #name : "=r"(value_)::"memory");                       \
		value_;                                                                            \
	})
#define write_sysreg(name, value)                                                                  \
	__asm__ volatile("msr " #name ", %0\n\tisb" ::"r"((u64)(value)) : "memory")
#define dsb() __asm__ volatile("dsb sy" ::: "memory")
#define isb() __asm__ volatile("isb" ::: "memory")

static inline u8 read8(u64 a)
{
	u8 v;

	__asm__ volatile("ldrb %w0, [%1]" : "=r"(v) : "r"(a) : "memory");
	return v;
}

static inline u32 read32(u64 a)
{
	u32 v;

	__asm__ volatile("ldr %w0, [%1]" : "=r"(v) : "r"(a) : "memory");
	return v;
}

static inline u64 read64(u64 a)
{
	u64 v;

	__asm__ volatile("ldr %0, [%1]" : "=r"(v) : "r"(a) : "memory");
	return v;
}

static inline void write8(u64 a, u8 v)
{
	__asm__ volatile("strb %w0, [%1]" ::"r"(v), "r"(a) : "memory");
}

static inline void write32(u64 a, u32 v)
{
	__asm__ volatile("str %w0, [%1]" ::"r"(v), "r"(a) : "memory");
}

static inline void write64(u64 a, u64 v)
{
	__asm__ volatile("str %0, [%1]" ::"r"(v), "r"(a) : "memory");
}

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

/* From the device tree. */
struct machine {
	u64 ram_base, ram_size;
	u32 cpu_count;
	u64 mpidr[CPUS_MAX];
	char bootargs[512];
	u64 dtb, dtb_size;
};
extern struct machine machine;

/* What start.S saw at the very first instructions. */
struct entry_state {
	u64 x0, x1, x2, x3;
	u64 pc, current_el, daif, sctlr, spsel, counter;
};
extern struct entry_state entry_state;

extern char image_start[], image_end[];

void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);

/* ---- The device tree: lib_dtb.c ---- */

bool dtb_read(u64 dtb, struct machine *m);

/* ---- Exceptions: lib_trap.c ---- */

/* As start.S stores it. */
struct frame {
	u64 x[31];
	u64 elr;
	u64 spsr;
	u64 pad;
};

struct fault {
	u32 count;	   /* exceptions since fault_expect() */
	u64 esr, far, elr; /* of the last of them */
};

/*
 * From here on this CPU's synchronous exceptions are recorded and the instruction is skipped (an
 * instruction abort or a jump to nowhere returns to x30); fault_end() says what came.
 */
void fault_expect(void);
struct fault fault_end(void);

#define ESR_EC(esr) (((esr) >> 26) & 0x3f)
#define EC_UNKNOWN 0x00
#define EC_SYSREG 0x18
#define EC_SVC 0x15
#define EC_IABORT 0x21
#define EC_PC_ALIGNMENT 0x22
#define EC_DABORT 0x25
#define ESR_FSC(esr) ((esr)&0x3f)

/* Called for each IRQ, on the CPU that takes it, with interrupts masked. Starts as a fatal
 * surprise. */
extern void (*irq_handler)(void);
/* Called for exceptions from EL0; may change where the frame returns to. */
extern void (*lower_handler)(struct frame *frame);
static inline void irq_enable(void)
{
	__asm__ volatile("msr daifclr, #2" ::: "memory");
}
static inline void irq_disable(void)
{
	__asm__ volatile("msr daifset, #2" ::: "memory");
}

/* ---- MMU: lib_mmu.c ---- */

/* Identity map of 512 GiB: the first GiB device memory, all else normal write-back. */
void mmu_on(void);
void mmu_off(void);
/* Points the 512 GiB from index << 39 at a table of one's own (its physical address, anywhere). */
void mmu_set_top(u32 index, u64 entry);
/* Maps the GiB at index << 30 to `pa` for EL0: read, write, execute (so EL1 may not execute there).
 */
void mmu_map_user(u32 index, u64 pa);
/* Drops this machine's stage-1 translations. */
void mmu_flush(void);

/* ---- CPUs: lib_cpu.c ---- */

#define PSCI_VERSION 0x84000000u
#define PSCI_CPU_SUSPEND 0xc4000001u
#define PSCI_CPU_SUSPEND32 0x84000001u
#define PSCI_CPU_OFF 0x84000002u
#define PSCI_CPU_ON 0xc4000003u
#define PSCI_CPU_ON32 0x84000003u
#define PSCI_AFFINITY_INFO 0xc4000004u
#define PSCI_AFFINITY_INFO32 0x84000004u
#define PSCI_MIGRATE_INFO_TYPE 0x84000006u
#define PSCI_SYSTEM_OFF 0x84000008u
#define PSCI_SYSTEM_RESET 0x84000009u
#define PSCI_FEATURES 0x8400000au
#define SMCCC_VERSION 0x80000000u
#define SMCCC_ARCH_FEATURES 0x80000001u

#define PSCI_SUCCESS 0
#define PSCI_NOT_SUPPORTED (-1)
#define PSCI_INVALID_PARAMETERS (-2)
#define PSCI_DENIED (-3)
#define PSCI_ALREADY_ON (-4)
#define PSCI_ON_PENDING (-5)
#define PSCI_INVALID_ADDRESS (-9)

#define AFFINITY_ON 0
#define AFFINITY_OFF 1
#define AFFINITY_ON_PENDING 2

struct smc_result {
	u64 x0, x1, x2, x3;
};
struct smc_result hvc(u64 function, u64 a, u64 b, u64 c);
/* The call's first word, as PSCI's signed 32 bit result. */
int psci(u32 function, u64 a, u64 b, u64 c);

u32 cpu_number(void); /* 0..cpu_count-1 */

typedef void (*cpu_fn)(u32 cpu);
/* Starts `cpu` in fn(cpu), MMU on, interrupts masked; when fn returns it goes off. PSCI's answer.
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

/* ---- GICv3: lib_gic.c ---- */

void gic_init_distributor(void);
void gic_init_cpu(void); /* each CPU its own; all priorities let through, PPIs and SGIs disabled */
void gic_enable(u32 intid);
void gic_disable(u32 intid);
void gic_set_priority(u32 intid, u8 priority);
bool gic_is_pending(u32 intid);
bool gic_is_active(u32 intid);
void gic_set_pending(u32 intid);
void gic_clear_pending(u32 intid);
void gic_clear_active(u32 intid);
void gic_send_sgi(u32 cpu, u32 intid);
void gic_send_sgi_others(u32 intid);
u64 gic_frame(u32 cpu);		     /* its redistributor's RD frame; the SGI frame is 64 KiB on */
u64 gic_bank(u32 intid, u32 offset); /* address of `intid`'s word among one-bit registers */

static inline u32 gic_acknowledge(void)
{
	u32 intid = (u32)read_sysreg(s3_0_c12_c12_0); /* ICC_IAR1_EL1 */

	dsb();
	return intid;
}

static inline void gic_end(u32 intid)
{
	write_sysreg(s3_0_c12_c12_1, intid); /* ICC_EOIR1_EL1 */
}

static inline void gic_deactivate(u32 intid)
{
	write_sysreg(s3_0_c12_c11_1, intid); /* ICC_DIR_EL1 */
}

static inline void gic_set_mask(u8 priority)
{
	write_sysreg(s3_0_c4_c6_0, priority); /* ICC_PMR_EL1 */
	dsb();
}

/* An IRQ is signalled to this CPU now (ISR_EL1.I), masked or not. */
static inline bool irq_is_signalled(void)
{
	return read_sysreg(isr_el1) & 0x80;
}

/* ---- Time: lib_timer.c ---- */

static inline u64 counter(void)
{
	isb();
	return read_sysreg(cntvct_el0);
}

u64 microseconds(u64 us); /* in counter ticks */
void wait_microseconds(u64 us);
/* Waits until the condition holds, at most `ms`; its final value. */
#define wait_until(condition, ms)                                                                  \
	({                                                                                         \
		u64 end_ = counter() + microseconds((ms)*1000ul);                                  \
		while (!(condition) && counter() < end_) {                                         \
			__asm__ volatile("yield" ::: "memory");                                    \
		}                                                                                  \
		(condition);                                                                       \
	})

#endif
