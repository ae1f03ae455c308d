/*
 * What one operation costs that only a hypervisor makes dear: ticks of the TSC for each. In Bochs a
 *tick is an instruction, within a percent.
 *
 *	bench NAME N		N: ticks, from before the operation to the guest's next instruction
 *	detail NAME min mean max
 *
 * Bootargs: as guest/arm64/bench.c has them.
 */
#include "lib_bench.h"

#define SELF_VECTOR 0x50
#define MSR_X2APIC_SELF_IPI 0x83fu

static u64 reading; /* what two readings of the counter differ by */
static volatile u32 interrupts;

static inline u64 tsc(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
	return (u64)high << 32 | low;
}

static void measure_reading(void)
{
	u64 least = ~0ul;

	for (u32 i = 0; i < BENCH_REPEAT; i++) {
		u64 from = tsc(), n = tsc() - from;

		least = n < least ? n : least;
	}
	reading = least;
	print("one reading of the counter: %lu ticks", reading);
}

static u64 once_cpuid(void)
{
	u64 from = tsc();

	cpuid(0, 0);
	return tsc() - from - reading;
}

static u64 once_hypercall(void)
{
	u64 from = tsc();

	machine_exit();
	return tsc() - from - reading;
}

/* Counts, ends the interrupt, and goes back. */
__attribute__((interrupt)) static void take(void *frame)
{
	(void)frame;
	interrupts++;
	write_msr(MSR_X2APIC_EOI, 0);
}

static u64 once_self_ipi(void)
{
	u32 before = interrupts;
	u64 from = tsc(), cost;

	write_msr(MSR_X2APIC_SELF_IPI, SELF_VECTOR);
	cost = tsc() - from - reading;
	if (interrupts != before + 1) {
		check("self_ipi", false, "%u interrupts came", interrupts - before);
		guest_end();
	}
	return cost;
}

static u64 touch_page(u64 page)
{
	u64 from = tsc();

	write64(page, 0);
	return tsc() - from - reading;
}

static u64 touch_block(u64 block)
{
	u64 from = tsc();

	for (u64 page = block; page < block + BLOCK_SIZE; page += PAGE_SIZE) {
		write64(page, 0);
	}
	return tsc() - from - reading;
}

void guest_main(void)
{
	u64 cursor = machine.ram_base;

	apic_on();
	gate_set(SELF_VECTOR, take);
	wait_microseconds(1000 * bootarg("delay_ms", 0));
	measure_reading();
	if (bootarg_word("page")) {
		bench_touch_4k(&cursor, touch_page);
	} else {
		bench_measure("cpuid", once_cpuid);
		bench_measure("hypercall", once_hypercall);
		bench_touch_2m(&cursor, touch_block);
		irq_enable();
		bench_measure("self_ipi", once_self_ipi);
		irq_disable();
	}
	check("all_measured", true, " ");
}
