/*
 * Other CPUs: started by INIT and a startup interrupt, in x2APIC mode, where a CPU's id is its
 * number. One that is done stays halted, and can be started again the same way.
 */
#include "lib.h"

#define AP_PAGE 0x8000ul
#define APIC_X2 (1u << 10)
#define ICR_INIT 0x4500u
#define ICR_STARTUP 0x4600u
#define SVR_ENABLE 0x1ffu

extern char ap_entry[], ap_entry_end[], stacks[];
extern u64 ap_stack;
void lib_start_secondary(void);

static cpu_fn cpu_function;
static u32 starting;
static u32 arrived, running[CPUS_MAX];

u32 cpu_number(void)
{
	return (u32)read_msr(MSR_FS_BASE);
}

void apic_on(void)
{
	write_msr(MSR_APIC_BASE, read_msr(MSR_APIC_BASE) | APIC_X2);
	write_msr(MSR_X2APIC_SVR, SVR_ENABLE);
}

void lib_start_secondary(void)
{
	u32 cpu = __atomic_load_n(&starting, __ATOMIC_ACQUIRE);
	cpu_fn fn = cpu_function;

	write_msr(MSR_FS_BASE, cpu);
	apic_on();
	__atomic_store_n(&running[cpu], 1, __ATOMIC_RELEASE);
	__atomic_store_n(&arrived, 1, __ATOMIC_RELEASE);
	fn(cpu);
	__atomic_store_n(&running[cpu], 0, __ATOMIC_RELEASE);
	for (;;) {
		__asm__ volatile("cli\n\thlt" ::: "memory");
	}
}

/* One at a time: it has what it needs when it has arrived. */
int cpu_start(u32 cpu, cpu_fn fn)
{
	apic_on();
	memcpy((void *)AP_PAGE, ap_entry, (size_t)(ap_entry_end - ap_entry));
	cpu_function = fn;
	ap_stack = (u64)stacks + (cpu + 1) * STACK_SIZE;
	__atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&starting, cpu, __ATOMIC_RELEASE);
	write_msr(MSR_X2APIC_ICR, machine.cpu_ids[cpu] << 32 | ICR_INIT);
	while (!__atomic_load_n(&arrived, __ATOMIC_ACQUIRE)) {
		/* The CPU may still be on its way to where it waits: then this one is lost. */
		write_msr(MSR_X2APIC_ICR, machine.cpu_ids[cpu] << 32 | ICR_STARTUP | AP_PAGE >> 12);
		wait_microseconds(200);
	}
	return 0;
}

void cpu_wait_off(u32 cpu)
{
	while (__atomic_load_n(&running[cpu], __ATOMIC_ACQUIRE)) {
		cpu_relax();
	}
}
