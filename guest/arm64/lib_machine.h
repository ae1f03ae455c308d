/*
 * ARMv8: system registers, device tree, exceptions, MMU, firmware calls, GIC. A guest is entered at
 * EL1.
 *
 * The machine is QEMU's `virt` (RAM from 1 GiB, GICv3, PL011, PSCI by HVC), so that every guest
 * also runs on the bare emulator; the word "bare" in its bootargs then tells it about the few
 * places where QEMU is known to differ from what a guest is owed (see each use of guest_is_bare()).
 */
#ifndef GUEST_LIB_MACHINE_H
#define GUEST_LIB_MACHINE_H

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

/* Waits for cpu_signal(), or for nothing in particular. */
static inline void cpu_wait(void)
{
	__asm__ volatile("wfe" ::: "memory");
}

/* What was stored before is seen by all that wait. */
static inline void cpu_signal(void)
{
	__asm__ volatile("dsb ishst\n\tsev" ::: "memory");
}

static inline void cpu_relax(void)
{
	__asm__ volatile("yield" ::: "memory");
}

/* What start.S saw at the very first instructions. */
struct entry_state {
	u64 x0, x1, x2, x3;
	u64 pc, current_el, daif, sctlr, spsel, counter;
};
extern struct entry_state entry_state;

/* ---- The device tree: lib_dtb.c ---- */

struct machine;
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

/* A call of the hypervisor's own: a vendor's, of 64 bits (DEN0028, 2.5). */
#define SMCCC_VENDOR_64 0xc6000000u

static inline u64 machine_call(u64 number, u64 a, u64 b, u64 c)
{
	return hvc(SMCCC_VENDOR_64 + number, a, b, c).x0;
}
/* The call's first word, as PSCI's signed 32 bit result. */
int psci(u32 function, u64 a, u64 b, u64 c);

/* An exit that does nothing else. */
static inline void machine_exit(void)
{
	psci(PSCI_VERSION, 0, 0, 0);
}

/* ---- Code that returns a number: CODE_WORDS words of 64 bits ---- */

#define CODE_WORDS 2

/* movz w0, #low; movk w0, #high, lsl 16; ret; and a word that is never run. */
static inline u64 code_word(u32 number, u64 index)
{
	if (index == 0) {
		return (u64)(0x72a00000u | number >> 16 << 5) << 32 | 0x52800000u |
		       (number & 0xffff) << 5;
	}
	return 0xd65f03c0u;
}

static inline void code_was_written(u64 at)
{
	__asm__ volatile("dc cvau, %0\n\tdsb ish\n\tic ivau, %0\n\tdsb ish\n\tisb" ::"r"(at)
			 : "memory");
}

/* Before code is run that another CPU wrote. */
static inline void code_will_run(void)
{
	isb();
}

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

#endif
