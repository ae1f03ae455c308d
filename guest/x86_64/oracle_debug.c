/* Single steps and breakpoints (SDM volume 3B, 17.2, 17.3): what exits to a hypervisor counts, too.
 */
#include "oracle.h"

#define DR6_RESET 0xffff0ff0ul
#define DR6_MODELS_OWN 0x10800ul /* of bus locks and transactions */
#define DR7_RESET 0x400ul
#define DR7_FIRST 2ul /* DR0's, global */
#define DR7_WRITE (1ul << 16)
#define DR7_ACCESS (3ul << 16)
#define DR7_FOUR_BYTES (3ul << 18)

static volatile u64 watched __attribute__((aligned(8)));

/* Steps over one instruction, with what it needs in registers. */
#define STEP(name, code, ...)                                                                      \
	do {                                                                                       \
		write_register("dr6", DR6_RESET);                                                  \
		ATTEMPT(name,                                                                      \
			"mov $0x5e8, %%edx\n\tmov $0x277, %%ecx\n\txor %%eax, %%eax\n\t"           \
			"mov $0xa00000, %%edi\n\t"                                                 \
			"pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\t" code "\n\tnop\n\tnop",        \
			__VA_ARGS__);                                                              \
		print("%s_dr6 0x%lx", name, read_register("dr6"));                                 \
	} while (0)

static void steps(void)
{
	u64 cr0 = read_register("cr0");

	STEP("step_nop", "nop");
	STEP("step_store", "mov %%rax, (%0)", "r"(ORACLE_RAM));
	STEP("step_jump", "jmp 1f\n\tnop\n1:");
	STEP("step_cpuid", "cpuid");
	STEP("step_in", "inb %%dx, %%al");
	STEP("step_out", "outb %%al, %%dx");
	STEP("step_rdmsr", "rdmsr");
	STEP("step_cr0", "mov %0, %%cr0", "r"(cr0));
	STEP("step_clts", "clts");
	STEP("step_wbinvd", "wbinvd");
	STEP("step_is_one_round_of_rep", "rep stosb");
	STEP("step_fault", "ud2");
	STEP("step_fresh_memory", "mov %%rax, (%0)", "r"(ORACLE_FRESH + 0x80000));
	ATTEMPT("icebp", ".byte 0xf1");
}

#define WATCH(name, kind, code, ...)                                                               \
	do {                                                                                       \
		write_register("dr6", DR6_RESET);                                                  \
		write_register("dr7", DR7_RESET | DR7_FIRST | (kind));                             \
		ATTEMPT(name, code "\n\tnop", __VA_ARGS__);                                        \
		write_register("dr7", DR7_RESET);                                                  \
		print("%s_dr6 0x%lx", name, read_register("dr6"));                                 \
	} while (0)

static void watches(void)
{
	write_register("dr0", (u64)&watched);
	WATCH("watch_write", DR7_WRITE | DR7_FOUR_BYTES, "movl $1, (%0)", "r"(&watched));
	WATCH("watch_write_is_not_read", DR7_WRITE | DR7_FOUR_BYTES, "movl (%0), %%eax",
	      "r"(&watched));
	WATCH("watch_access", DR7_ACCESS | DR7_FOUR_BYTES, "movl (%0), %%eax", "r"(&watched));
	WATCH("watch_one_byte_of_more", DR7_ACCESS, "movq -4(%0), %%rax", "r"(&watched));
	WATCH("watch_byte_before", DR7_ACCESS, "movb -1(%0), %%al", "r"(&watched));
	write_register("dr0", ORACLE_RAM);
	write64(ORACLE_RAM, 0xc390909090909090);
	WATCH("watch_code", 0ul, "call *%0", "r"(ORACLE_RAM));
	write_register("dr0", 0ul);
}

static void registers(void)
{
	u64 cr4 = read_register("cr4");

	write_register("dr3", 0x123456789abcul);
	print("dr3 0x%lx", read_register("dr3"));
	write_register("dr3", 0ul);
	print("dr7 0x%lx", read_register("dr7"));
	write_register("dr6", 0ul);
	print("dr6_fixed_bits 0x%lx", read_register("dr6") | DR6_MODELS_OWN);
	print("dr4_is_dr6 0x%lx", read_register("dr4") | DR6_MODELS_OWN);
	write_register("cr4", cr4 | CR4_DE);
	ATTEMPT("dr4_is_none", "mov %%dr4, %%rax");
	write_register("cr4", cr4);
	ATTEMPT("dr7_upper_half", "mov %0, %%dr7", "r"(1ul << 32));
	write_register("dr7", DR7_RESET | 1ul << 13);
	ATTEMPT("dr_guarded", "mov %%dr0, %%rax");
	write_register("dr7", DR7_RESET);
}

void oracle_debug(void)
{
	registers();
	steps();
	watches();
}
