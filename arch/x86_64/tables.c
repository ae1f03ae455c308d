/*
 * Each CPU's descriptor tables (SDM volume 3A, 3.5, 6.14, 8.7): segments that say nothing, a task
 * that holds the stack for exceptions, and gates. All exceptions change to the emergency stack,
 * since the usual one may be what broke; interrupts, which Lamina lets in only where it waits, do
 * not.
 */
#include "arch/cpu.h"
#include "hyp/log.h"

#include "layout.h"
#include "machine.h"

#define GATES 256
#define EXCEPTIONS 32
#define STUB_SIZE 16 /* vectors.S */
#define EMERGENCY_STACK 1

#define SEGMENT_CODE32 0x00cf9b000000ffffull
#define SEGMENT_CODE 0x00af9b000000ffffull
#define SEGMENT_DATA 0x00cf93000000ffffull
#define TASK_PRESENT_AVAILABLE (BIT(47) | BIT(43) | BIT(40))
#define GATE_PRESENT_INTERRUPT (BIT(47) | 0xeull << 40)

struct gate {
	u64 low, high;
};

struct __attribute__((packed)) table_pointer {
	u16 limit;
	const void *base;
};

extern const u8 vector_stubs[];

static struct gate gates[GATES] __attribute__((aligned(16)));

/* Read at %fs:0x28 by code that was compiled with stack protection elsewhere (libfdt). */
static struct {
	u8 unused_bytes[0x28];
	u64 canary;
} protection = {.canary = 0x9e3779b97f4a7c15ull};

noreturn_fn void __stack_chk_fail(void);

void __stack_chk_fail(void)
{
	panic("a function's stack frame was overrun (canary is gone)");
}

static struct gate make_gate(u64 stub, u64 stack)
{
	return (struct gate){
		.low = (stub & 0xffff) | (u64)SELECTOR_CODE << 16 | stack << 32 |
		       GATE_PRESENT_INTERRUPT | (stub & BITS(31, 16)) << 32,
		.high = stub >> 32,
	};
}

static void fill_gates(void)
{
	for (u64 i = 0; i < GATES; i++) {
		gates[i] = make_gate((u64)vector_stubs + i * STUB_SIZE,
				     i < EXCEPTIONS ? EMERGENCY_STACK : 0);
	}
}

static void fill_segments(struct arch_cpu *a)
{
	u64 task = (u64)&a->task, limit = sizeof(a->task) - 1;

	a->gdt[SELECTOR_CODE32 / 8] = SEGMENT_CODE32;
	a->gdt[SELECTOR_CODE / 8] = SEGMENT_CODE;
	a->gdt[SELECTOR_DATA / 8] = SEGMENT_DATA;
	a->gdt[SELECTOR_TSS / 8] = limit | (task & BITS(23, 0)) << 16 | TASK_PRESENT_AVAILABLE |
				   (task & BITS(31, 24)) << 32;
	a->gdt[SELECTOR_TSS / 8 + 1] = task >> 32;
}

u64 tables_gates(void)
{
	return (u64)gates;
}

void tables_init_cpu(struct cpu *cpu)
{
	struct arch_cpu *a = &cpu->arch;
	struct table_pointer gdt = {sizeof(a->gdt) - 1, a->gdt}, idt = {sizeof(gates) - 1, gates};

	if (cpu->id == 0) {
		fill_gates();
	}
	a->task.ist[EMERGENCY_STACK - 1] = own_emergency_top(cpu->id);
	a->task.io_map = sizeof(a->task);
	fill_segments(a);
	__asm__ volatile("lgdt %0\n\tlidt %1\n\tltr %w2" ::"m"(gdt), "m"(idt), "r"(SELECTOR_TSS)
			 : "memory");
	write_msr(MSR_GS_BASE, (u64)cpu);
	write_msr(MSR_FS_BASE, (u64)&protection);
}
