/*
 * The other CPUs: started by the firmware (PSCI), stopped by an interrupt.
 *
 * A CPU that starts reads one record with its MMU off, so past every cache: CPU 0 cleans it to the
 * point of coherency first. All else it reads through its caches, like everybody.
 */
#include "arch/boot.h"
#include "arch/cpu.h"
#include "hyp/atomic.h"

#include "layout.h"
#include "machine.h"
#include "sysreg.h"

struct secondary_boot {
	struct mmu_registers mmu;
	struct cpu *cpu;
	u64 stack_top;
} __attribute__((aligned(64)));

static_assert(offsetof(struct mmu_registers, mair) == MMU_REGISTERS_MAIR, "layout.h");
static_assert(offsetof(struct mmu_registers, tcr) == MMU_REGISTERS_TCR, "layout.h");
static_assert(offsetof(struct mmu_registers, ttbr0) == MMU_REGISTERS_TTBR0, "layout.h");
static_assert(offsetof(struct mmu_registers, sctlr) == MMU_REGISTERS_SCTLR, "layout.h");
static_assert(offsetof(struct secondary_boot, cpu) == SECONDARY_CPU, "layout.h");
static_assert(offsetof(struct secondary_boot, stack_top) == SECONDARY_STACK, "layout.h");
static_assert(CPU_MAX == STACK_SLOTS, "a slot of stacks for each CPU");

static struct secondary_boot records[CPU_MAX];

extern u8 secondary_start[];

static void clean_to_coherency(const void *start, u64 size)
{
	u64 line = 4ull << field_get(read_sysreg(ctr_el0), CTR_DMINLINE);

	for (u64 at = align_down((u64)start, line); at < (u64)start + size; at += line) {
		__asm__ volatile("dc cvac, %0" ::"r"(at) : "memory");
	}
	dsb(sy);
}

enum status arch_cpu_start(struct cpu *cpu)
{
	struct secondary_boot *record = &records[cpu->id];

	cpu->arch.emergency_top = own_emergency_top(cpu->id);
	record->mmu = *mmu_registers();
	record->cpu = cpu;
	record->stack_top = own_stack_top(cpu->id);
	clean_to_coherency(record, sizeof(*record));
	return psci_cpu_on(cpu->hw_id, (u64)secondary_start, (u64)record) == 0 ? OK : INVALID;
}

/* The first C of every CPU but 0, on its own stack, MMU on, TPIDR_EL2 set. */
noreturn_fn void smp_secondary(struct cpu *cpu);

void smp_secondary(struct cpu *cpu)
{
	el2_init();
	timer_init_cpu();
	gic_init_cpu();
	store_release(&cpu->online, true);
	cpu_main(cpu);
}

void arch_cpu_halt(void)
{
	for (;;) {
		__asm__ volatile("wfi" ::: "memory");
	}
}

void arch_cpu_send_stop(struct cpu *cpu)
{
	gic_send_sgi(INTID_STOP, cpu->hw_id);
}

void arch_cpu_send_kick(struct cpu *cpu)
{
	gic_send_sgi(INTID_KICK, cpu->hw_id);
}

void arch_cpu_idle(void)
{
	dsb(sy);
	__asm__ volatile("wfi" ::: "memory");
}
