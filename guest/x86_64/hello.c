/*
 * The first guest of a PC: was it entered as promised, does it have what its configuration says,
 * and what does a CPU answer that is asked for what it does not have: MSRs, ports, instructions,
 * bits of control registers?
 *
 * Bootargs: cpus=N memory=MIB, checked against what it was told.
 */
#include "lib.h"

#define MIB (1ul << 20)
#define LOADER_MAGIC 0x2badb002u
#define CR0_PE 1u
#define CR0_PG (1u << 31)
#define MSR_EFER 0xc0000080u
#define EFER_LONG_MODE 0x500ul
#define MARK 0x1234567890abcdeful

/* ---- The machine ---------------------------------------------------------------------------- */

static void check_entry(void)
{
	const struct entry_state *e = &entry_state;

	check_equal("entered_by_multiboot", e->eax, LOADER_MAGIC);
	check_equal("entered_in_protected_mode_without_paging", e->cr0 & (CR0_PE | CR0_PG), CR0_PE);
	check("information_is_in_low_ram", e->ebx >= PAGE_SIZE && e->ebx < 640 * 1024, "0x%x",
	      e->ebx);
}

static void check_resources(void)
{
	check_equal("memory_is_as_configured", machine.ram_size,
		    bootarg("memory", machine.ram_size / MIB) * MIB);
	check_equal("cpus_are_as_configured", machine.cpu_count,
		    bootarg("cpus", machine.cpu_count));
}

/* ---- CPUID ---------------------------------------------------------------------------------- */

#define FEATURE_C_VMX (1u << 5)
#define FEATURE_C_X2APIC (1u << 21)
#define FEATURE_C_TSC_DEADLINE (1u << 24)
#define FEATURE_C_OSXSAVE (1u << 27)
#define FEATURE_C_HYPERVISOR (1u << 31)
#define FEATURE_D_HIDDEN (1u << 7 | 1u << 12 | 1u << 14) /* machine checks, MTRRs */
#define FEATURE_D_APIC (1u << 9)

static void check_signature(void)
{
	struct cpuid c = cpuid(0x40000000, 0);
	u32 words[4] = {c.b, c.c, c.d, 0};

	check("cpuid_names_the_interface", strcmp((char *)words, "KVMKVMKVM") == 0, "%s",
	      (char *)words);
	check("cpuid_has_leaves_of_the_interface", c.a >= 0x40000001 && c.a < 0x40000100, "0x%x",
	      c.a);
}

static void check_cpuid(void)
{
	struct cpuid c = cpuid(1, 0);

	check("cpuid_tells_of_a_hypervisor", c.c & FEATURE_C_HYPERVISOR, "ecx 0x%x", c.c);
	check("cpuid_has_x2apic_and_deadline",
	      (c.c & FEATURE_C_X2APIC) && (c.c & FEATURE_C_TSC_DEADLINE), "ecx 0x%x", c.c);
	check_equal("cpuid_hides_vmx", c.c & FEATURE_C_VMX, 0);
	check_equal("cpuid_hides_machine_checks_and_mtrrs", c.d & FEATURE_D_HIDDEN, 0);
	check("cpuid_has_an_apic", c.d & FEATURE_D_APIC, "edx 0x%x", c.d);
	check_equal("cpuid_apic_id", c.b >> 24, 0);
	check_equal("cpuid_osxsave_follows_cr4", c.c & FEATURE_C_OSXSAVE, 0);
	check_equal("cpuid_x2apic_id", cpuid(0xb, 0).d, 0);
	check_signature();
}

/* ---- MSRs ----------------------------------------------------------------------------------- */

/* What RDMSR leaves in its registers, and what came. */
static struct fault read_absent(u32 msr, u64 *low, u64 *high)
{
	*low = *high = MARK;
	fault_expect();
	__asm__ volatile("rdmsr" : "+a"(*low), "+d"(*high) : "c"(msr) : "memory");
	return fault_end();
}

static struct fault write_absent(u32 msr)
{
	fault_expect();
	write_msr(msr, 0);
	return fault_end();
}

static bool is_gp(struct fault f)
{
	return f.count == 1 && f.vector == VECTOR_GP && f.error == 0;
}

static void check_absent_msrs(void)
{
	static const u32 absent[] = {
		0x3a,  /* feature control */
		0x480, /* VMX */
		0x802, /* the x2APIC's, which is not one yet */
		0x1fff,	    0x2000,	0x12345678, 0x3fffffff, 0x40000000,
		0xbfffffff, 0xc0001fff, 0xc0002000, 0xffffffff,
	};
	u32 wrong = 0, first = 0;

	for (u32 i = 0; i < ARRAY_SIZE(absent); i++) {
		u64 low, high;
		bool good = is_gp(read_absent(absent[i], &low, &high)) && low == MARK &&
			    high == MARK && is_gp(write_absent(absent[i]));

		if (!good) {
			first = wrong++ ? first : absent[i];
		}
	}
	check("absent_msrs_fault_and_change_nothing", !wrong, "%u of %zu, as 0x%x", wrong,
	      ARRAY_SIZE(absent), first);
}

/* Any MSR answers, or it faults once: in either of the ranges that exist. */
static void check_all_msrs(u32 from)
{
	u32 answered = 0, faulted = 0, odd = 0;

	for (u32 msr = from; msr < from + 0x2000; msr++) {
		u64 low, high;
		struct fault f = read_absent(msr, &low, &high);

		answered += f.count == 0 && low >> 32 == 0 && high >> 32 == 0;
		faulted += is_gp(f);
	}
	odd = 0x2000 - answered - faulted;
	check("every_msr_answers_or_faults", odd == 0 && answered > 0 && faulted > 0,
	      "from 0x%x: %u answer, %u fault, %u do neither", from, answered, faulted, odd);
}

static void check_msrs(void)
{
	check_absent_msrs();
	check_all_msrs(0);
	check_all_msrs(0xc0000000);
	check_equal("efer_says_long_mode", read_msr(MSR_EFER) & EFER_LONG_MODE, EFER_LONG_MODE);
	check_equal("apic_base_is_enabled_on_the_boot_cpu", read_msr(MSR_APIC_BASE),
		    LAPIC_BASE | 0x900);
}

/* ---- Ports ---------------------------------------------------------------------------------- */

#define IN(insn, port)                                                                             \
	({                                                                                         \
		u64 a_ = MARK;                                                                     \
		__asm__ volatile(insn : "+a"(a_) : "d"((u16)(port)) : "memory");                   \
		a_;                                                                                \
	})
#define UART_SCRATCH (COM1 + 7)

/* Of devices that a PC has and this one has not. */
static void check_absent_ports(void)
{
	static const u16 absent[] = {0x00, 0x20, 0x40,	0x60,  0x64,  0x70,  0x71,
				     0x80, 0x92, 0x1f7, 0x2f8, 0xcf8, 0xcfc, 0xfffc};
	u32 wrong = 0, first = 0;

	for (u32 i = 0; i < ARRAY_SIZE(absent); i++) {
		u16 port = absent[i];

		out8(port, 0);
		if (IN("inb %%dx, %%al", port) != (MARK | 0xff) ||
		    IN("inw %%dx, %%ax", port) != (MARK | 0xffff) ||
		    IN("inl %%dx, %%eax", port) != 0xffffffff) {
			first = wrong++ ? first : port;
		}
	}
	check("absent_ports_read_as_ones", !wrong, "%u of them, as 0x%x", wrong, first);
}

static void check_ports(void)
{
	check_absent_ports();
	out8(UART_SCRATCH, 0x5a);
	check_equal("in_al_changes_one_byte", IN("inb %%dx, %%al", UART_SCRATCH),
		    (MARK & ~0xfful) | 0x5a);
	check_equal("in_ax_changes_two_bytes", IN("inw %%dx, %%ax", UART_SCRATCH - 1) >> 8,
		    (MARK & ~0xfffful) >> 8 | 0x5a);
}

/* ---- Instructions and control registers -------------------------------------------------------
 */

static void expect(const char *name, struct fault f, u32 vector)
{
	check(name, f.count == 1 && f.vector == vector && f.error == 0,
	      "%u exceptions, the last %u with 0x%lx; want %u", f.count, f.vector, f.error, vector);
}

/* A CPU without VMX, SMX, MONITOR and system-management mode does not know these. */
static void check_instructions(void)
{
	expect("vmlaunch", FAULT_OF(3, ".byte 0x0f, 0x01, 0xc2", 0), VECTOR_UD);
	expect("vmresume", FAULT_OF(3, ".byte 0x0f, 0x01, 0xc3", 0), VECTOR_UD);
	expect("vmxoff", FAULT_OF(3, ".byte 0x0f, 0x01, 0xc4", 0), VECTOR_UD);
	expect("vmread", FAULT_OF(3, ".byte 0x0f, 0x78, 0xc1", 0), VECTOR_UD);
	expect("vmfunc", FAULT_OF(3, ".byte 0x0f, 0x01, 0xd4", 0), VECTOR_UD);
	expect("monitor", FAULT_OF(3, ".byte 0x0f, 0x01, 0xc8", entry_state.ebx), VECTOR_UD);
	expect("mwait", FAULT_OF(3, ".byte 0x0f, 0x01, 0xc9", 0), VECTOR_UD);
	expect("getsec", FAULT_OF(2, ".byte 0x0f, 0x37", 0), VECTOR_UD);
	expect("rsm", FAULT_OF(2, ".byte 0x0f, 0xaa", 0), VECTOR_UD);
	expect("xsetbv_without_osxsave", FAULT_OF(3, ".byte 0x0f, 0x01, 0xd1", 1), VECTOR_UD);
	expect("ud2", FAULT_OF(2, "ud2", 0), VECTOR_UD);
	__asm__ volatile("wbinvd\n\tinvd\n\tpause\n\tclflush (%0)" ::"r"(&machine) : "memory");
	check("caches_and_hints", true, " ");
}

static u64 read_cr0(void)
{
	u64 value;

	__asm__ volatile("mov %%cr0, %0" : "=r"(value)::"memory");
	return value;
}

static u64 read_cr4(void)
{
	u64 value;

	__asm__ volatile("mov %%cr4, %0" : "=r"(value)::"memory");
	return value;
}

static u64 read_cr8(void)
{
	u64 value;

	__asm__ volatile("mov %%cr8, %0" : "=r"(value)::"memory");
	return value;
}

static void check_cr0(void)
{
	u64 cr0 = read_cr0();

	expect("cr0_paging_alone", FAULT_OF(3, "mov %%rax, %%cr0", cr0 & ~(u64)CR0_PE), VECTOR_GP);
	expect("cr0_nw_alone", FAULT_OF(3, "mov %%rax, %%cr0", cr0 | 1ul << 29), VECTOR_GP);
	expect("cr0_above_32", FAULT_OF(3, "mov %%rax, %%cr0", cr0 | 1ul << 32), VECTOR_GP);
	__asm__ volatile("mov %0, %%cr0" ::"r"(cr0 | 1ul << 30) : "memory");
	check_equal("cr0_cache_disable_reads_as_written", read_cr0(), cr0 | 1ul << 30);
	__asm__ volatile("mov %0, %%cr0\n\tclts" ::"r"(cr0 | 8) : "memory");
	check_equal("clts", read_cr0(), cr0 & ~8ul);
}

static void check_others(void)
{
	u64 cr4 = read_cr4();

	expect("cr4_vmxe", FAULT_OF(3, "mov %%rax, %%cr4", cr4 | 1ul << 13), VECTOR_GP);
	expect("cr4_above_32", FAULT_OF(3, "mov %%rax, %%cr4", cr4 | 1ul << 63), VECTOR_GP);
	check_equal("cr4_is_as_it_was", read_cr4(), cr4);
	expect("cr8_of_five_bits", FAULT_OF(4, "mov %%rax, %%cr8", 16), VECTOR_GP);
	__asm__ volatile("mov %0, %%cr8" ::"r"(5ul));
	check_equal("cr8_reads_as_written", read_cr8(), 5);
	check_equal("cr8_is_the_apics_task_priority", read32(LAPIC_BASE + 0x80), 0x50);
	__asm__ volatile("mov %0, %%cr8" ::"r"(0ul));
}

void guest_main(void)
{
	print("hello from a guest of %lu MiB and %u CPUs: %s", machine.ram_size / MIB,
	      machine.cpu_count, machine.bootargs);
	check_entry();
	check_resources();
	check_cpuid();
	check_msrs();
	check_ports();
	check_instructions();
	check_cr0();
	check_others();
}
