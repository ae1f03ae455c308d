/*
 * The machine's own interrupt controllers (SDM volume 3A, chapter 10; 82093AA): a local APIC a CPU,
 * as x2APIC where there is one, and one line of the IO-APIC, for the UART.
 *
 * Lamina lets interrupts in nowhere but where it waits (arch_cpu_idle) and where it asks
 * (arch_irq_poll). Those that come while a guest runs are acknowledged by the exit. Either way
 * irq_taken() notes what came, and arch_irq_poll() handles it.
 */
#include "arch/cpu.h"
#include "hyp/console.h"
#include "hyp/log.h"
#include "hyp/sched.h"
#include "hyp/time.h"

#include "machine.h"
#include "vcpu_vmx.h"

#define LAPIC_ID 0x020
#define LAPIC_TPR 0x080
#define LAPIC_EOI 0x0b0
#define LAPIC_SVR 0x0f0
#define LAPIC_ICR 0x300
#define LAPIC_ICR_HIGH 0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_LVT_LINT1 0x360
#define LAPIC_LVT_ERROR 0x370
#define LAPIC_TIMER_START 0x380
#define LAPIC_TIMER_DIVIDE 0x3e0

#define SVR_ENABLE BIT(8)
#define LVT_MASKED BIT(16)
#define LVT_TSC_DEADLINE BIT(18)
#define LVT_NMI (4 << 8)
#define DIVIDE_BY_1 0xb
#define ICR_BUSY BIT(12)

#define CPUID_FEATURES 1
#define CPUID_X2APIC BIT(21)	   /* ecx */
#define CPUID_TSC_DEADLINE BIT(24) /* ecx */

#define IOAPIC_INDEX 0x00
#define IOAPIC_DATA 0x10
#define IOAPIC_VERSION 0x01
#define IOAPIC_ROUTE 0x10
#define IOAPIC_ROUTE_MASKED BIT(16)

static u32 lapic_read(u32 offset)
{
	return machine.x2apic ? (u32)read_msr(MSR_X2APIC + offset / 16)
			      : mmio_read32(machine.lapic + offset);
}

static void lapic_write(u32 offset, u32 value)
{
	if (machine.x2apic) {
		write_msr(MSR_X2APIC + offset / 16, value);
	} else {
		mmio_write32(machine.lapic + offset, value);
	}
}

/* An x2APIC is an xAPIC first (10.12.5). */
static void turn_on(void)
{
	u64 base = read_msr(MSR_APIC_BASE) | APIC_BASE_ENABLE;

	write_msr(MSR_APIC_BASE, base);
	if (machine.x2apic) {
		write_msr(MSR_APIC_BASE, base | APIC_BASE_X2);
	}
}

/* Called in the first map, in the mode that the firmware left. */
void lapic_init(void)
{
	struct cpuid features = cpuid(CPUID_FEATURES, 0);

	machine.lapic = read_msr(MSR_APIC_BASE) & APIC_BASE_ADDRESS;
	machine.x2apic = features.c & CPUID_X2APIC;
	machine.tsc_deadline = features.c & CPUID_TSC_DEADLINE;
	turn_on();
}

u32 lapic_id(void)
{
	return machine.x2apic ? lapic_read(LAPIC_ID) : lapic_read(LAPIC_ID) >> 24;
}

void lapic_init_cpu(void)
{
	turn_on();
	lapic_write(LAPIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
	lapic_write(LAPIC_LVT_LINT1, LVT_NMI);
	lapic_write(LAPIC_LVT_ERROR, LVT_MASKED);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | (machine.tsc_deadline ? LVT_TSC_DEADLINE : 0));
}

void lapic_send(u32 apic_id, u32 command)
{
	if (machine.x2apic) {
		/* This write is not ordered behind earlier stores (10.12.3). */
		__asm__ volatile("mfence\n\tlfence" ::: "memory");
		write_msr(MSR_X2APIC + LAPIC_ICR / 16, (u64)apic_id << 32 | command);
		return;
	}
	while (lapic_read(LAPIC_ICR) & ICR_BUSY) {
		cpu_relax();
	}
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR, command);
}

void lapic_end(void)
{
	lapic_write(LAPIC_EOI, 0);
}

/* ---- The timer, which wakes a CPU that waits ------------------------------------------------- */

/* Fires at `deadline`, at once if that is over; TIME_NEVER turns it off. */
void lapic_set_timer(u64 deadline)
{
	u64 now = arch_now(), left = deadline > now ? deadline - now : 1;

	if (machine.tsc_deadline) {
		write_msr(MSR_TSC_DEADLINE, deadline == TIME_NEVER ? 0 : deadline);
	} else if (deadline == TIME_NEVER) {
		lapic_write(LAPIC_TIMER_START, 0);
	} else {
		/* Some CPUs' bus clocks are slower than their TSC: then it comes late, never early,
		 * as the deadline is looked at again anyway. */
		lapic_write(LAPIC_TIMER_START, (u32)min_u64(left, ~0u));
	}
}

/* ---- The IO-APIC: the UART's line --------------------------------------------------------------
 */

static u32 ioapic_read(u32 index)
{
	mmio_write32(machine.ioapic + IOAPIC_INDEX, index);
	return mmio_read32(machine.ioapic + IOAPIC_DATA);
}

static void ioapic_write(u32 index, u32 value)
{
	mmio_write32(machine.ioapic + IOAPIC_INDEX, index);
	mmio_write32(machine.ioapic + IOAPIC_DATA, value);
}

static void ioapic_route(u32 line, u32 low, u32 apic_id)
{
	ioapic_write(IOAPIC_ROUTE + 2 * line + 1, apic_id << 24);
	ioapic_write(IOAPIC_ROUTE + 2 * line, low);
}

void ioapic_init(void)
{
	u32 lines;

	if (machine.ioapic == 0) {
		log_warn("the machine has no IO-APIC: there is no keyboard");
		return;
	}
	lines = (ioapic_read(IOAPIC_VERSION) >> 16 & 0xff) + 1;
	for (u32 line = 0; line < lines; line++) {
		ioapic_route(line, IOAPIC_ROUTE_MASKED, 0);
	}
	if (machine.uart_line < lines) {
		ioapic_route(machine.uart_line, VECTOR_UART, lapic_id());
	}
}

/* ---- Taking ------------------------------------------------------------------------------------
 */

void irq_taken(u64 vector)
{
	u32 *irqs = &this_cpu()->arch.irqs;

	if (vector == VECTOR_SPURIOUS) {
		return; /* is not ended (10.9) */
	}
	*irqs |= vector == VECTOR_UART ? IRQ_UART : vector == VECTOR_TIMER ? IRQ_TIMER : IRQ_KICK;
	lapic_end();
}

/* What is pending comes in between the two. */
static void let_in(void)
{
	__asm__ volatile("sti\n\tnop\n\tcli" ::: "memory");
}

void arch_irq_poll(void)
{
	struct cpu *cpu = this_cpu();
	u32 irqs;

	let_in();
	irqs = cpu->arch.irqs;
	cpu->arch.irqs = 0;
	if (irqs & IRQ_UART) {
		console_poll_input();
	}
	if (arch_now() >= cpu->timer_deadline) {
		sched_tick();
	}
	if (cpu->current) {
		vcpu_poll_timer(cpu->current);
	}
}

void arch_timer_set(u64 deadline)
{
	this_cpu()->timer_deadline = deadline;
}

/* STI takes effect behind the instruction that follows it: nothing comes between the two. */
void arch_cpu_idle(void)
{
	struct cpu *cpu = this_cpu();

	if (arch_now() >= cpu->timer_deadline || cpu->arch.irqs) {
		return;
	}
	lapic_set_timer(cpu->timer_deadline);
	__asm__ volatile("sti\n\thlt\n\tcli" ::: "memory");
	lapic_set_timer(TIME_NEVER);
}
