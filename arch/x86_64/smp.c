/*
 * The other CPUs: started one at a time by INIT and startup interrupts (SDM volume 3A, 9.4),
 * stopped by an NMI, which comes through whatever they do.
 */
#include "arch/boot.h"
#include "arch/cpu.h"
#include "hyp/atomic.h"
#include "hyp/time.h"

#include <string.h>

#include "layout.h"
#include "machine.h"
#include "vmx.h"
#include "xstate.h"

#define ICR_INIT 0x4500
#define ICR_STARTUP 0x4600
#define ICR_NMI 0x4400
#define ICR_FIXED 0x4000
#define INIT_WAIT_NS 10000000ull
#define STARTUP_WAIT_NS 200000ull
#define ONLINE_WAIT_NS 100000000ull

/* What the CPU that is about to start has to know; read by start.S. */
struct smp_record {
	u64 cr3, stack_top;
	struct cpu *cpu;
};

static_assert(offsetof(struct smp_record, cr3) == SMP_RECORD_CR3, "layout.h");
static_assert(offsetof(struct smp_record, stack_top) == SMP_RECORD_STACK, "layout.h");
static_assert(offsetof(struct smp_record, cpu) == SMP_RECORD_CPU, "layout.h");
static_assert(CPU_MAX == STACK_SLOTS, "a slot of stacks for each CPU");

extern struct smp_record smp_record;
struct smp_record smp_record;

extern const u8 smp_entry[], smp_entry_end[];

void smp_prepare(u64 root)
{
	u64 page = SMP_ENTRY_PAGE;

	__asm__("" : "+r"(page)); /* an address like any other */
	memcpy((void *)page, smp_entry, (u64)smp_entry_end - (u64)smp_entry);
	smp_record.cr3 = root;
}

static void wait(u64 ns)
{
	u64 end = arch_now() + ns_to_ticks(ns);

	while (arch_now() < end) {
		cpu_relax();
	}
}

static bool comes_online(const struct cpu *cpu)
{
	u64 end = arch_now() + ns_to_ticks(ONLINE_WAIT_NS);

	while (!load_acquire(&cpu->online) && arch_now() < end) {
		cpu_relax();
	}
	return load_acquire(&cpu->online);
}

enum status arch_cpu_start(struct cpu *cpu)
{
	u32 id = (u32)cpu->hw_id;

	smp_record.stack_top = own_stack_top(cpu->id);
	store_release(&smp_record.cpu, cpu);
	lapic_send(id, ICR_INIT);
	wait(INIT_WAIT_NS);
	for (u32 i = 0; i < 2 && !load_acquire(&cpu->online); i++) {
		lapic_send(id, ICR_STARTUP | SMP_ENTRY_PAGE >> PAGE_SHIFT);
		wait(STARTUP_WAIT_NS);
	}
	return comes_online(cpu) ? OK : INVALID;
}

/* The first C of every CPU but 0, on its own stack, in the final map. */
noreturn_fn void smp_main(struct cpu *cpu);

void smp_main(struct cpu *cpu)
{
	tables_init_cpu(cpu);
	lapic_init_cpu();
	xstate_init_cpu();
	vmx_init_cpu();
	store_release(&cpu->online, true);
	cpu_main(cpu);
}

void arch_cpu_halt(void)
{
	for (;;) {
		__asm__ volatile("cli\n\thlt" ::: "memory");
	}
}

void arch_cpu_send_stop(struct cpu *cpu)
{
	lapic_send((u32)cpu->hw_id, ICR_NMI);
}

void arch_cpu_send_kick(struct cpu *cpu)
{
	lapic_send((u32)cpu->hw_id, ICR_FIXED | VECTOR_KICK);
}
