/*
 * x86-64: MSRs, ports, exceptions, other CPUs by INIT and startup interrupts. A guest is a
 * multiboot kernel; its C runs in 64-bit mode at privilege level 0.
 */
#ifndef GUEST_LIB_MACHINE_H
#define GUEST_LIB_MACHINE_H

#define COM1 0x3f8
#define DEBUG_EXIT_PORT 0xf4
#define VIRTIO_BASE 0xd0000000ul
#define IOAPIC_BASE 0xfec00000ul
#define LAPIC_BASE 0xfee00000ul
#define HOLE_BASE 0xc0000000ul /* where no guest has RAM or a device, for 256 MiB */

#define MSR_FS_BASE 0xc0000100u
#define MSR_APIC_BASE 0x1bu
#define MSR_X2APIC_ID 0x802u
#define MSR_X2APIC_EOI 0x80bu
#define MSR_X2APIC_SVR 0x80fu
#define MSR_X2APIC_ICR 0x830u

static inline u64 read_msr(u32 msr)
{
	u32 low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (u64)high << 32 | low;
}

static inline void write_msr(u32 msr, u64 value)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline void out8(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline u8 in8(u16 port)
{
	u8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

struct cpuid {
	u32 a, b, c, d;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(subleaf)
			 : "memory");
	return r;
}

static inline u8 read8(u64 a)
{
	return *(volatile u8 *)a;
}

static inline u32 read32(u64 a)
{
	return *(volatile u32 *)a;
}

static inline u64 read64(u64 a)
{
	return *(volatile u64 *)a;
}

static inline void write8(u64 a, u8 v)
{
	*(volatile u8 *)a = v;
}

static inline void write32(u64 a, u32 v)
{
	*(volatile u32 *)a = v;
}

static inline void write64(u64 a, u64 v)
{
	*(volatile u64 *)a = v;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* Stores are seen by themselves: who waits looks again. */
static inline void cpu_wait(void)
{
	cpu_relax();
}

static inline void cpu_signal(void)
{
}

/* What start.S saw at the very first instructions. */
struct entry_state {
	u32 eax, ebx, cr0;
};
extern struct entry_state entry_state;

/* ---- Exceptions: lib_trap.c ---- */

/*
 * From here on this CPU's exceptions are recorded, and `length` bytes of the instruction are passed
 * over; a jump out of the image goes back to its caller. fault_end() says what came.
 */
struct fault {
	u32 count;
	u32 vector;  /* of the last of them, as all that follows */
	u64 error;   /* code; 0 where there is none */
	u64 address; /* CR2 */
	u64 ip;
};
void fault_expect_length(u32 length);
struct fault fault_end(void);

/*
 * Where CPU 0 goes on after its next exception, in 64-bit mode, instead; ip is 0 otherwise. No
 * other register is as it was.
 */
struct fault_resume {
	u64 ip, sp;
};
extern struct fault_resume fault_resume;

/* RDMSR, WRMSR, IN and OUT with DX are as long as this. */
static inline void fault_expect(void)
{
	fault_expect_length(2);
}

/* The bytes of one instruction, expected to fault; they may use rax, rcx and rdx, and rax is `a`.
 */
#define FAULT_OF(length, bytes, a)                                                                 \
	({                                                                                         \
		u64 a_ = (a), c_ = 0, d_ = 0;                                                      \
		fault_expect_length(length);                                                       \
		__asm__ volatile(bytes : "+a"(a_), "+c"(c_), "+d"(d_)::"memory", "cc");            \
		fault_end();                                                                       \
	})

/* Where `vector` enters, below GATES; interrupts may come while irq_enable() is in force. */
#define GATES 96
void gate_set(u32 vector, void (*handler)(void *frame));

static inline void irq_enable(void)
{
	__asm__ volatile("sti" ::: "memory");
}

static inline void irq_disable(void)
{
	__asm__ volatile("cli" ::: "memory");
}

/* This CPU's local APIC becomes an x2APIC, and is on: lib_cpu.c. */
void apic_on(void);

#define VECTOR_NMI 2
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14

/* Segments of start.S. */
#define SELECTOR_CODE32 0x08
#define SELECTOR_CODE64 0x10
#define SELECTOR_DATA 0x18

/* An exit that does nothing else: a hypercall that nobody has. */
static inline void machine_exit(void)
{
	u64 number = ~0ull;

	__asm__ volatile("vmcall" : "+a"(number)::"memory");
}

/* A hypercall as KVM has it. */
static inline u64 machine_call(u64 number, u64 a, u64 b, u64 c)
{
	__asm__ volatile("vmcall" : "+a"(number) : "b"(a), "c"(b), "d"(c) : "memory");
	return number;
}

/* ---- Code that returns a number: CODE_WORDS words of 64 bits ---- */

#define CODE_WORDS 1

/* mov $number, %eax; ret; and two bytes that are never run. */
static inline u64 code_word(u32 number, u64 index)
{
	(void)index;
	return 0xccccc30000000000ull | (u64)number << 8 | 0xb8;
}

static inline void code_was_written(u64 at)
{
	(void)at;
}

/* A serialising instruction: another CPU wrote it (SDM volume 3A, 8.1.3). */
static inline void code_will_run(void)
{
	u64 value;

	__asm__ volatile("mov %%cr2, %0\n\tmov %0, %%cr2" : "=r"(value)::"memory");
}

/* ---- Time: lib_timer.c ---- */

static inline u64 counter(void)
{
	u32 low, high;

	__asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high)::"memory");
	return (u64)high << 32 | low;
}

#endif
