/* Exceptions that instructions take whatever the page tables say. */
#include "oracle.h"

#define NOT_CANONICAL 0x0000800000000000ul
#define NO_SUCH_MSR 0x12345678
#define VECTOR_BP 3
#define VECTOR_DF 8
#define VECTOR_SS 12
#define GATE_FREE 0x50
#define GATE_BEHIND 0x90
#define GATE_ABSENT 0x0e00ul

extern u64 idt[];

static u8 other_stack[PAGE_SIZE] __attribute__((aligned(16)));

static void arithmetic(void)
{
	ATTEMPT("ud2", "ud2");
	ATTEMPT("divide_by_zero", "xor %%edx, %%edx\n\tmov $1, %%eax\n\tdiv %%edx");
	ATTEMPT("quotient_too_large", "mov $2, %%edx\n\tmov $2, %%ecx\n\tdiv %%ecx");
	ATTEMPT("idiv_of_the_least",
		"mov $0x80000000, %%eax\n\tcdq\n\tmov $-1, %%ecx\n\tidiv %%ecx");
	ATTEMPT("invalid_in_64_bits", ".byte 0x27"); /* DAA */
	ATTEMPT("lock_without_memory", ".byte 0xf0, 0x90");
	ATTEMPT("instruction_of_16_bytes", ".rept 15\n\t.byte 0x66\n\t.endr\n\tnop");
}

static void canonical(void)
{
	ATTEMPT("read_not_canonical", "mov (%0), %%rax", "r"(NOT_CANONICAL));
	ATTEMPT("write_not_canonical", "mov %%rax, (%0)", "r"(NOT_CANONICAL));
	ATTEMPT("straddle_not_canonical", "mov (%0), %%rax", "r"(NOT_CANONICAL - 4));
	ATTEMPT("jump_not_canonical", "jmp *%0", "r"(NOT_CANONICAL));
	ATTEMPT("wrmsr_gs_base_not_canonical",
		"mov %0, %%ecx\n\txor %%eax, %%eax\n\tmov $0x8000, %%edx\n\twrmsr",
		"i"(MSR_GS_BASE));
	ATTEMPT("wrmsr_lstar_not_canonical",
		"mov %0, %%ecx\n\txor %%eax, %%eax\n\tmov $0x8000, %%edx\n\twrmsr", "i"(MSR_LSTAR));
	ATTEMPT("invlpg_not_canonical_is_nothing", "invlpg (%0)", "r"(NOT_CANONICAL));
}

/* Where no exception can be delivered on the stack that it is about. */
static void stacks(void)
{
	tables_load();
	tables_set_stack(VECTOR_SS, (u64)other_stack + sizeof(other_stack));
	ATTEMPT("stack_not_canonical", "mov %0, %%rsp\n\tpop %%rax", "r"(NOT_CANONICAL));
	ATTEMPT("push_not_canonical", "mov %0, %%rsp\n\tpush %%rax", "r"(NOT_CANONICAL + 64));
	tables_set_stack(VECTOR_SS, 0);
	tables_set_stack(VECTOR_DF, (u64)other_stack + sizeof(other_stack));
	ATTEMPT("double_fault", "mov %0, %%rsp\n\tud2", "r"(NOT_CANONICAL));
	ATTEMPT("double_fault_without_memory", "mov %0, %%rsp\n\tud2", "r"(WINDOW));
	tables_set_stack(VECTOR_DF, 0);
	/* Memory that a hypervisor has to find while the exception is on its way. */
	tables_set_stack(VECTOR_UD, ORACLE_FRESH + 0x40000);
	ATTEMPT("exception_on_fresh_memory", "ud2");
	tables_set_stack(VECTOR_UD, 0);
	tables_set_stack(VECTOR_BP, ORACLE_FRESH + 0x50000);
	ATTEMPT("int3_on_fresh_memory", "int3");
	tables_set_stack(VECTOR_BP, ORACLE_FRESH + 0x60000);
	ATTEMPT("int_3_on_fresh_memory", ".byte 0xcd, 3");
	tables_set_stack(VECTOR_BP, 0);
	tables_set_stack(VECTOR_GP, ORACLE_FRESH + 0x70000);
	ATTEMPT("rdmsr_of_none_on_fresh_memory", "mov %0, %%ecx\n\trdmsr", "i"(NO_SUCH_MSR));
	tables_set_stack(VECTOR_GP, 0);
	tables_unload();
}

/* Interrupts by software: gates that lead somewhere, nowhere, and are not there. */
static void gates(void)
{
	ATTEMPT("int3", "int3");
	ATTEMPT("int_3", ".byte 0xcd, 3");
	ATTEMPT("int_of_an_exception_has_no_error", "int $6");
	idt[2 * GATE_FREE] = idt[2 * GATE_FREE + 1] = 0;
	ATTEMPT("int_without_a_gate", "int $0x50");
	idt[2 * GATE_FREE] = GATE_ABSENT << 32 | SELECTOR_CODE64 << 16;
	ATTEMPT("int_of_an_absent_gate", "int $0x50");
	idt[2 * GATE_FREE] = (GATE_ABSENT | 0x8000) << 32 | SELECTOR_DATA << 16;
	ATTEMPT("int_to_a_data_segment", "int $0x50");
	ATTEMPT("int_behind_the_table", "int $0x90");
}

static void model_specific(void)
{
	u64 pat = read_msr(MSR_PAT);

	ATTEMPT("rdmsr_of_none", "mov %0, %%ecx\n\trdmsr", "i"(NO_SUCH_MSR));
	ATTEMPT("wrmsr_of_none", "mov %0, %%ecx\n\txor %%eax, %%eax\n\txor %%edx, %%edx\n\twrmsr",
		"i"(NO_SUCH_MSR));
	ATTEMPT("wrmsr_efer_reserved", "mov %0, %%ecx\n\trdmsr\n\tor $0x20000, %%edx\n\twrmsr",
		"i"(MSR_EFER));
	ATTEMPT("wrmsr_efer_long_mode_off", "mov %0, %%ecx\n\trdmsr\n\tand $~0x100, %%eax\n\twrmsr",
		"i"(MSR_EFER));
	ATTEMPT("wrmsr_pat_of_no_type", "mov %0, %%ecx\n\trdmsr\n\tmov $2, %%al\n\twrmsr",
		"i"(MSR_PAT));
	write_msr(MSR_PAT, pat);
	ATTEMPT("wrmsr_efer_unchanged", "mov %0, %%ecx\n\trdmsr\n\twrmsr", "i"(MSR_EFER));
}

static void control(void)
{
	u64 cr0 = read_register("cr0"), cr4 = read_register("cr4"), cr3 = read_register("cr3");

	ATTEMPT("cr4_reserved", "mov %0, %%cr4", "r"(cr4 | 1ul << 40));
	ATTEMPT("cr4_vmx", "mov %0, %%cr4", "r"(cr4 | CR4_VMXE));
	ATTEMPT("cr4_five_levels", "mov %0, %%cr4", "r"(cr4 ^ CR4_LA57));
	ATTEMPT("cr4_without_pae", "mov %0, %%cr4", "r"(cr4 & ~CR4_PAE));
	ATTEMPT("cr0_reserved_high", "mov %0, %%cr0", "r"(cr0 | 1ul << 40));
	ATTEMPT("cr0_paging_unprotected", "mov %0, %%cr0", "r"(cr0 & ~CR0_PE));
	ATTEMPT("cr0_write_through_alone", "mov %0, %%cr0", "r"(cr0 | CR0_NW));
	ATTEMPT("cr0_paging_off", "mov %0, %%cr0", "r"(cr0 & ~CR0_PG));
	ATTEMPT("cr3_reserved", "mov %0, %%cr3", "r"(cr3 | 1ul << 60));
	ATTEMPT("cr8_too_large", "mov %0, %%cr8", "r"(16ul));
	ATTEMPT("cr1_is_none", ".byte 0x0f, 0x20, 0xc8");
	ATTEMPT("cr9_is_none", ".byte 0x44, 0x0f, 0x20, 0xc8");
	if (oracle_has("pcid", cpuid(1, 0).c >> 17 & 1)) {
		ATTEMPT("pcid.with_a_number_in_cr3", "mov %1, %%cr3\n\tmov %0, %%cr4",
			"r"(cr4 | CR4_PCIDE), "r"(cr3 | 5));
		write_register("cr3", cr3);
		ATTEMPT("pcid.on", "mov %0, %%cr4", "r"(cr4 | CR4_PCIDE));
		ATTEMPT("pcid.number", "mov %0, %%cr3", "r"(cr3 | 5));
		ATTEMPT("pcid.paging_off", "mov %0, %%cr0", "r"(cr0 & ~CR0_PG));
		write_register("cr3", cr3);
		ATTEMPT("pcid.off", "mov %0, %%cr4", "r"(cr4));
	}
	if (oracle_has("xsave", cpuid(1, 0).c >> 26 & 1)) {
		ATTEMPT("xsave.not_enabled", "xor %%ecx, %%ecx\n\txgetbv");
		write_register("cr4", cr4 | CR4_OSXSAVE);
		ATTEMPT("xsave.enabled", "xor %%ecx, %%ecx\n\txgetbv");
		ATTEMPT("xsave.without_x87",
			"xor %%ecx, %%ecx\n\txor %%edx, %%edx\n\txor %%eax, %%eax\n\txsetbv");
		ATTEMPT("xsave.of_another_register",
			"mov $1, %%ecx\n\txor %%edx, %%edx\n\tmov $1, %%eax\n\txsetbv");
		ATTEMPT("xsave.avx_without_sse",
			"xor %%ecx, %%ecx\n\txor %%edx, %%edx\n\tmov $5, %%eax\n\txsetbv");
		ATTEMPT("xsave.x87_and_sse",
			"xor %%ecx, %%ecx\n\txor %%edx, %%edx\n\tmov $3, %%eax\n\txsetbv");
		write_register("cr4", cr4);
	}
}

/* The x87 and SSE units, kept away (CR0.TS) and misused. */
static void units(void)
{
	u64 cr0 = read_register("cr0");

	write_register("cr0", cr0 | CR0_TS);
	ATTEMPT("task_switched_x87", "fnop");
	ATTEMPT("task_switched_sse", "movups (%0), %%xmm0", "r"(ORACLE_RAM));
	__asm__ volatile("clts" ::: "memory");
	print("clts 0x%lx", read_register("cr0") ^ cr0);
	ATTEMPT("sse_aligned", "movaps (%0), %%xmm0", "r"(ORACLE_RAM));
	ATTEMPT("sse_misaligned", "movaps (%0), %%xmm0", "r"(ORACLE_RAM + 8));
	ATTEMPT("sse_straddles", "movups (%0), %%xmm0", "r"(ORACLE_RAM + PAGE_SIZE - 8));
}

void oracle_faults(void)
{
	arithmetic();
	canonical();
	stacks();
	gates();
	model_specific();
	control();
	units();
}
