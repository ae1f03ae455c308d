/* Privilege level 3: what user code may not do, and how it comes back (SDM volume 3A, 5.5 to 5.9).
 */
#include "oracle.h"

#define RAM(n) (ORACLE_RAM + (n)*PAGE_SIZE)
#define USER_PAGE (PAGE_PRESENT | PAGE_WRITE | PAGE_USER)
#define CODE WINDOW
#define STACK_TOP (WINDOW + 2 * PAGE_SIZE)
#define OWN (WINDOW + 2 * PAGE_SIZE) /* the kernel's */
#define READ_ONLY (WINDOW + 3 * PAGE_SIZE)
#define ABSENT (WINDOW + 4 * PAGE_SIZE)
#define DATA (WINDOW + PAGE_SIZE)
#define FLAGS_USER 0x2ul

/*
 * Enters user mode at CODE with rdi = `argument`; the code is copied there. It ends by an
 * exception: its last instruction is a UD2 unless one comes before.
 */
static void run(const char *name, const void *code, u64 size, u64 argument, u64 flags)
{
	memset((void *)RAM(0), 0x90, 256);
	memcpy((void *)RAM(0), code, size);
	ATTEMPT(name,
		"mov %0, %%rdi\n\tpushq %2\n\tpushq %3\n\tpushq %1\n\tpushq %4\n\tpushq %5\n\t"
		"mov %5, %%rax\n\tmov %%rax, attempt_start(%%rip)\n\tiretq",
		"r"(argument), "r"(flags), "i"(SELECTOR_USER_DATA), "r"(STACK_TOP),
		"i"(SELECTOR_USER_CODE), "r"(CODE));
}

#define USER_WITH(name, code, argument, flags)                                                     \
	do {                                                                                       \
		u64 from_, to_;                                                                    \
		__asm__(".pushsection .rodata\nuser_" name ":\n\t" code "\n\tud2\nuser_end_" name  \
			":\n.popsection");                                                         \
		__asm__("mov $user_" name ", %0\n\tmov $user_end_" name ", %1"                     \
			: "=r"(from_), "=r"(to_));                                                 \
		run(name, (const void *)from_, to_ - from_, argument, flags);                      \
	} while (0)
#define USER(name, code, argument) USER_WITH(name, code, argument, FLAGS_USER)

static void memory(void)
{
	USER("user_reads", "mov (%rdi), %rax", DATA);
	USER("user_writes", "mov %rax, (%rdi)", DATA);
	USER("user_reads_the_kernels", "mov (%rdi), %rax", OWN);
	USER("user_writes_the_kernels", "mov %rax, (%rdi)", OWN);
	USER("user_runs_the_kernels", "jmp *%rdi", OWN);
	USER("user_reads_the_image", "mov (%rdi), %rax", (u64)image_start);
	USER("user_reads_read_only", "mov (%rdi), %rax", READ_ONLY);
	USER("user_writes_read_only", "mov %rax, (%rdi)", READ_ONLY);
	USER("user_reads_nothing", "mov (%rdi), %rax", ABSENT);
	USER("user_writes_nothing", "mov %rax, (%rdi)", ABSENT);
	USER("user_runs_nothing", "jmp *%rdi", ABSENT);
	USER("user_not_canonical", "mov (%rdi), %rax", 1ul << 47);
	USER("user_pushes", "push %rax\n\tpop %rcx", 0);
}

static void privileged(void)
{
	USER("user_hlt", "hlt", 0);
	USER("user_cli", "cli", 0);
	USER("user_in", "in $0x80, %al", 0);
	USER("user_out", "out %al, $0x80", 0);
	USER("user_rdmsr", "rdmsr", 0);
	USER("user_mov_cr0", "mov %cr0, %rax", 0);
	USER("user_mov_dr7", "mov %dr7, %rax", 0);
	USER("user_invlpg", "invlpg (%rdi)", 0);
	USER("user_wbinvd", "wbinvd", 0);
	USER("user_clts", "clts", 0);
	USER("user_swapgs", "swapgs", 0);
	USER("user_lgdt", "lgdt (%rdi)", DATA);
	USER("user_iret_to_kernel",
	     "pushq $0x18\n\tpushq $0\n\tpushq $2\n\tpushq $0x10\n\tpushq $0\n\tiretq", 0);
	USER("user_data_segment_of_the_kernel", "mov $0x18, %eax\n\tmov %eax, %ds", 0);
}

static void events(void)
{
	USER("user_int3_of_the_kernel", "int3", 0);
	USER("user_int_of_the_kernel", "int $6", 0);
	tables_allow_user(3);
	USER("user_int3", "int3", 0);
	USER("user_divides_by_zero", "xor %edx, %edx\n\tdiv %edx", 0);
	USER("user_cpuid", "xor %eax, %eax\n\tcpuid", 0);
	USER_WITH("user_single_step", "nop\n\tnop", 0, FLAGS_USER | FLAG_TF);
	write_register("dr6", 0xffff0ff0ul);
	USER_WITH("user_steps_over_cpuid", "cpuid\n\tnop", 0, FLAGS_USER | FLAG_TF);
}

/* Alignment is checked in user mode alone, where CR0.AM and the flag AC both say so. */
static void alignment(void)
{
	u64 cr0 = read_register("cr0");

	USER_WITH("user_misaligned_unmasked", "mov 1(%rdi), %eax", DATA, FLAGS_USER | FLAG_AC);
	write_register("cr0", cr0 | CR0_AM);
	USER_WITH("user_misaligned", "mov 1(%rdi), %eax", DATA, FLAGS_USER | FLAG_AC);
	USER_WITH("user_aligned", "mov 4(%rdi), %eax", DATA, FLAGS_USER | FLAG_AC);
	USER("user_misaligned_without_flag", "mov 1(%rdi), %eax", DATA);
	ATTEMPT("kernel_misaligned", "mov 1(%0), %%eax", "r"(DATA));
	write_register("cr0", cr0);
}

/* SYSCALL to the kernel and back: STAR's segments, the flags that FMASK clears, RCX and R11. */
__attribute__((naked)) static void syscall_entry(void)
{
	__asm__("mov %rcx, (0xa0f000)\n\tmov %r11, (0xa0f008)\n\tpushfq\n\tpop (0xa0f010)\n\t"
		"mov %cs, (0xa0f018)\n\tmov %ss, (0xa0f01a)\n\tsysretq");
}

static void fast_calls(void)
{
	u64 efer = read_msr(MSR_EFER), lstar = read_msr(MSR_LSTAR);

	USER("user_syscall_disabled", "syscall", 0);
	write_msr(MSR_EFER, efer | EFER_SCE);
	write_msr(MSR_STAR, 0x001b0010ul << 32);
	write_msr(MSR_LSTAR, (u64)syscall_entry);
	write_msr(MSR_FMASK, 0xad5);
	memset((void *)RAM(15), 0, 64);
	USER_WITH("user_syscall", "stc\n\tstd\n\tsyscall\n\tnop", 0, FLAGS_USER);
	print("syscall_saved 0x%lx 0x%lx flags 0x%lx segments 0x%x", read64(RAM(15)),
	      read64(RAM(15) + 8), read64(RAM(15) + 16), read32(RAM(15) + 24));
	write_msr(MSR_LSTAR, lstar);
	write_msr(MSR_EFER, efer);
}

void oracle_user(void)
{
	tables_load();
	window_open();
	window_set(0, RAM(0) | USER_PAGE);
	window_set(1, RAM(1) | USER_PAGE);
	window_set(2, RAM(2) | PAGE_PRESENT | PAGE_WRITE);
	window_set(3, RAM(3) | PAGE_PRESENT | PAGE_USER);
	memory();
	privileged();
	events();
	alignment();
	fast_calls();
	window_close();
	tables_unload();
}
