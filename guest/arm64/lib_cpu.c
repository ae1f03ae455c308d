/* Firmware calls, and other CPUs. */
#include "lib.h"

extern char secondary_start[];
void lib_start_secondary(void);

static cpu_fn cpu_functions[CPUS_MAX];
/* Times that a CPU was started, and that it came. QEMU shows a CPU as off for a while after CPU_ON.
 */
static u32 cpu_starts[CPUS_MAX], cpu_arrivals[CPUS_MAX];

struct smc_result hvc(u64 function, u64 a, u64 b, u64 c)
{
	register u64 x0 __asm__("x0") = function;
	register u64 x1 __asm__("x1") = a;
	register u64 x2 __asm__("x2") = b;
	register u64 x3 __asm__("x3") = c;

	__asm__ volatile("hvc #0"
			 : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
			 :
			 : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
			   "x15", "x16", "x17", "memory");
	return (struct smc_result){x0, x1, x2, x3};
}

int psci(u32 function, u64 a, u64 b, u64 c)
{
	return (int)hvc(function, a, b, c).x0;
}

u32 cpu_number(void)
{
	return (u32)read_sysreg(tpidr_el1);
}

void lib_start_secondary(void)
{
	u32 cpu;

	mmu_on();
	cpu = cpu_number();
	__atomic_fetch_add(&cpu_arrivals[cpu], 1, __ATOMIC_RELEASE);
	cpu_functions[cpu](cpu);
	psci(PSCI_CPU_OFF, 0, 0, 0);
	check("cpu_off", false, "it returned on CPU %u", cpu);
	guest_end();
}

int cpu_start(u32 cpu, cpu_fn fn)
{
	int r;

	__atomic_store_n(&cpu_functions[cpu], fn, __ATOMIC_RELEASE);
	dsb();
	r = psci(PSCI_CPU_ON, machine.cpu_ids[cpu], (u64)secondary_start, cpu);
	if (r == PSCI_SUCCESS) {
		__atomic_fetch_add(&cpu_starts[cpu], 1, __ATOMIC_RELAXED);
	}
	return r;
}

void cpu_wait_off(u32 cpu)
{
	while (__atomic_load_n(&cpu_arrivals[cpu], __ATOMIC_ACQUIRE) != cpu_starts[cpu]) {
		__asm__ volatile("yield" ::: "memory");
	}
	while (psci(PSCI_AFFINITY_INFO, machine.cpu_ids[cpu], 0, 0) != AFFINITY_OFF) {
		__asm__ volatile("yield" ::: "memory");
	}
}
