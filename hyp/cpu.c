/* Physical CPUs: their blocks, bringing them up, kicking them. */
#include "hyp/cpu.h"

#include "arch/boot.h"
#include "arch/cpu.h"
#include "hyp/atomic.h"
#include "hyp/log.h"
#include "hyp/time.h"

#define ONLINE_WAIT_NS 2000000000ull
/* Longer than any work of Lamina's should take. */
#define STOP_WAIT_NS 10000000ull

struct cpu cpus[CPU_MAX];
u32 cpu_count = 1;
u64 cpu_kicks_sent;

void cpu_init(struct cpu *cpu, u32 id, u64 hw_id)
{
	cpu->self = cpu;
	cpu->id = id;
	cpu->hw_id = hw_id;
	cpu->timer_deadline = ~0ull;
}

static bool wait_online(const struct cpu *cpu)
{
	u64 deadline = arch_now() + ns_to_ticks(ONLINE_WAIT_NS);

	while (!load_acquire(&cpu->online)) {
		if (arch_now() > deadline) {
			return false;
		}
		cpu_relax();
	}
	return true;
}

/* The slot of a CPU that is refused goes to the next one. A CPU that is silent may wake up later:
 * it keeps its. */
static bool start(struct cpu *cpu, u64 hw_id)
{
	enum status status;

	cpu_init(cpu, cpu_count, hw_id);
	status = arch_cpu_start(cpu);
	if (status != OK) {
		log_warn("CPU 0x%lx was refused by the firmware: %s", hw_id, status_name(status));
		return false;
	}
	if (!wait_online(cpu)) {
		panic("CPU 0x%lx was started and never came", hw_id);
	}
	return true;
}

void cpu_start_others(void)
{
	const struct boot_info *info = arch_boot_info();

	for (u32 i = 1; i < info->cpu_count; i++) {
		if (start(&cpus[cpu_count], info->cpu_hw_ids[i])) {
			store_release(&cpu_count, cpu_count + 1);
		}
	}
	if (info->cpus_ignored != 0) {
		log_warn("%u CPUs more than the %u Lamina can use", info->cpus_ignored, CPU_MAX);
	}
}

void cpu_kick(struct cpu *cpu)
{
	if (cpu == this_cpu()) {
		return;
	}
	atomic_add(&cpu_kicks_sent, 1);
	arch_cpu_send_kick(cpu);
}

void cpu_park(void)
{
	store_release(&this_cpu()->stopped, true);
	arch_cpu_halt();
}

static bool is_to_stop(const struct cpu *cpu)
{
	return cpu != this_cpu() && load_acquire(&cpu->online) && !load_acquire(&cpu->stopped);
}

static bool all_others_stopped(void)
{
	for (u32 i = 0; i < CPU_MAX; i++) {
		if (is_to_stop(&cpus[i])) {
			return false;
		}
	}
	return true;
}

void cpu_stop_others(void)
{
	u64 deadline = arch_now() + ns_to_ticks(STOP_WAIT_NS);

	for (u32 i = 0; i < CPU_MAX; i++) {
		if (is_to_stop(&cpus[i])) {
			arch_cpu_send_stop(&cpus[i]);
		}
	}
	while (!all_others_stopped() && arch_now() < deadline) {
		cpu_relax();
	}
}
