/* What is written to registers is what is read. */
#include "oracle.h"

static void round_trip(const char *name, u32 msr, u64 value)
{
	u64 before = read_msr(msr);

	write_msr(msr, value);
	print("%s 0x%lx", name, read_msr(msr));
	write_msr(msr, before);
	print("%s_before 0x%lx", name, read_msr(msr) ^ before);
}

static void model_specific(void)
{
	round_trip("star", MSR_STAR, 0x0023001000000000);
	round_trip("lstar", MSR_LSTAR, 0xffff800012345678);
	round_trip("fmask", MSR_FMASK, 0x47700);
	round_trip("gs_base", MSR_GS_BASE, 0xffff888812345678);
	round_trip("kernel_gs_base", MSR_KERNEL_GS_BASE, 0x00007fff12345678);
	round_trip("sysenter_cs", 0x174, 0x10);
	round_trip("sysenter_esp", 0x175, 0x123456);
	round_trip("pat", MSR_PAT, 0x0007010600070106);
	print("pat_reset 0x%lx", read_msr(MSR_PAT));
	print("efer 0x%lx", read_msr(MSR_EFER));
}

static void swap_gs(void)
{
	u64 gs = read_msr(MSR_GS_BASE), other = read_msr(MSR_KERNEL_GS_BASE);

	write_msr(MSR_GS_BASE, 0x1000);
	write_msr(MSR_KERNEL_GS_BASE, 0x2000);
	__asm__ volatile("swapgs" ::: "memory");
	print("swapgs 0x%lx 0x%lx", read_msr(MSR_GS_BASE), read_msr(MSR_KERNEL_GS_BASE));
	write_msr(MSR_GS_BASE, ORACLE_RAM);
	write64(ORACLE_RAM + 24, 0x123456789);
	__asm__ volatile("mov %%gs:24, %0" : "=r"(other)::"memory");
	print("gs_relative 0x%lx", other);
	write_msr(MSR_GS_BASE, gs);
	write_msr(MSR_KERNEL_GS_BASE, other);
}

/* Results of 32 bits clear the upper halves. */
static void upper_halves(void)
{
	u64 a = 0xffffffff00000000, c = 0xffffffff00000000, d = ~0ul, b = ~0ul;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "+d"(d));
	print("cpuid_upper_halves 0x%lx", (a | b | c | d) >> 32);
	c = 0xffffffff00000000 | MSR_PAT, a = d = ~0ul;
	__asm__ volatile("rdmsr" : "+a"(a), "+d"(d) : "c"(c));
	print("rdmsr_upper_halves 0x%lx", (a | d) >> 32);
	a = d = ~0ul;
	__asm__ volatile("rdtsc" : "+a"(a), "+d"(d));
	print("rdtsc_upper_halves 0x%lx", (a | d) >> 32);
}

static void control(void)
{
	u64 cr0 = read_register("cr0"), status = 0;

	print("cr0 0x%lx", cr0);
	print("cr4 0x%lx", read_register("cr4"));
	__asm__ volatile("smsw %0" : "=r"(status));
	print("smsw 0x%lx", status & 0xffff);
	__asm__ volatile("lmsw %w0" ::"r"((cr0 & 0xfffe) | CR0_TS) : "memory");
	print("lmsw_cannot_leave_protected_mode 0x%lx", read_register("cr0") ^ cr0);
	__asm__ volatile("clts" ::: "memory");
	write_register("cr8", 9ul);
	print("cr8 0x%lx", read_register("cr8"));
	write_register("cr8", 0ul);
	write_register("cr2", 0x123456789abcdeful);
	print("cr2 0x%lx", read_register("cr2"));
	write_register("cr0", cr0 | CR0_NW | 1ul << 30);
	print("cr0_caches_off 0x%lx", read_register("cr0"));
	write_register("cr0", cr0);
	print("cr0_caches_on 0x%lx", read_register("cr0"));
}

static void time_goes_on(void)
{
	u64 before = counter();

	for (u32 i = 0; i < 100; i++) {
		cpuid(0, 0);
	}
	print("counter_goes_on %u", counter() > before);
}

void oracle_registers(void)
{
	model_specific();
	swap_gs();
	upper_halves();
	control();
	time_goes_on();
}
