/*
 * Segments, which count in 32-bit compatibility mode: limits, types, presence (SDM volume 3A, 5.3
 * to 5.5), and instructions that 64-bit mode has not.
 */
#include "oracle.h"

#define RESULT ORACLE_RAM

/* Runs 32-bit code, which ends by an exception: a UD2, unless one comes before. */
static void run(const char *name, const void *code)
{
	ATTEMPT(name,
		"pushq %0\n\tpushq %1\n\tmov %1, %%rax\n\tmov %%rax, attempt_start(%%rip)\n\tlretq",
		"i"(SELECTOR_CODE32), "r"(code));
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" ::"r"((u32)SELECTOR_DATA) : "memory");
}

#define COMPATIBLE(name, code)                                                                     \
	do {                                                                                       \
		const void *code_;                                                                 \
		__asm__(".pushsection .rodata\n\t.code32\nsegments_" name ":\n\t" code             \
			"\n\tud2\n\t.code64\n.popsection");                                        \
		__asm__("mov $segments_" name ", %0" : "=r"(code_));                               \
		run(name, code_);                                                                  \
	} while (0)
#define LOAD(selector, segment) "mov $" selector ", %eax\n\tmov %eax, %" segment "\n\t"

static void limits(void)
{
	COMPATIBLE("short_last_byte", LOAD("0x40", "ds") "movb 0x4fffff, %al");
	COMPATIBLE("short_behind", LOAD("0x40", "ds") "movb 0x500000, %al");
	COMPATIBLE("short_straddles", LOAD("0x40", "ds") "movl 0x4ffffe, %eax");
	COMPATIBLE("short_written", LOAD("0x40", "ds") "movl %eax, 0x4ffffd");
	COMPATIBLE("short_by_es",
		   LOAD("0x40", "es") "mov $0x4ffffe, %edi\n\tmov $8, %ecx\n\trep stosb");
	COMPATIBLE("short_stack", "mov $0x500020, %esp\n\t" LOAD("0x40", "ss") "push %eax");
	COMPATIBLE("short_stack_by_ebp",
		   "mov $0x500020, %ebp\n\t" LOAD("0x40", "ss") "mov (%ebp), %eax");
	COMPATIBLE("down_below", LOAD("0x48", "ds") "movb 0x4fffff, %al");
	COMPATIBLE("down_first_byte", LOAD("0x48", "ds") "movb 0x500000, %al");
	COMPATIBLE("down_straddles", LOAD("0x48", "ds") "movl 0x4ffffe, %eax");
}

static void types(void)
{
	COMPATIBLE("read_only_read", LOAD("0x50", "ds") "movl 0x500000, %eax");
	COMPATIBLE("read_only_written", LOAD("0x50", "ds") "movl %eax, 0x500000");
	COMPATIBLE("code_read", "movl %cs:0x500000, %eax");
	COMPATIBLE("code_written", "movl %eax, %cs:0x500000");
	COMPATIBLE("code_that_is_execute_only", "ljmp $0x58, $1f\n1:\tmovl %cs:0x500000, %eax");
	COMPATIBLE("null_used", LOAD("0", "ds") "movl 0x500000, %eax");
	COMPATIBLE("null_unused", LOAD("0", "ds") "nop");
}

static void loads(void)
{
	COMPATIBLE("load_absent", LOAD("0x60", "ds"));
	COMPATIBLE("load_absent_stack", LOAD("0x60", "ss"));
	COMPATIBLE("load_behind_the_table", LOAD("0x7f8", "ds"));
	COMPATIBLE("load_local", LOAD("0x0c", "ds"));
	COMPATIBLE("load_execute_only", LOAD("0x58", "ds"));
	COMPATIBLE("load_read_only_stack", LOAD("0x50", "ss"));
	COMPATIBLE("load_null_stack", LOAD("0", "ss"));
	COMPATIBLE("load_task_as_data", LOAD("0x30", "ds"));
	COMPATIBLE("jump_to_data", "ljmp $0x18, $0x500000");
	COMPATIBLE("jump_to_null", "ljmp $0, $0x500000");
	COMPATIBLE("jump_behind_the_table", "ljmp $0x7f8, $0x500000");
}

static void say_result(const char *name)
{
	print("%s 0x%x 0x%lx", name, read32(RESULT), read64(RESULT + 32));
}

static void old_instructions(void)
{
	COMPATIBLE("into", "mov $0x7fffffff, %eax\n\tinc %eax\n\tinto");
	COMPATIBLE("into_without_overflow", "xor %eax, %eax\n\tinto");
	COMPATIBLE(
		"bound",
		"mov $1, %eax\n\tmovl $2, 0xa00000\n\tmovl $3, 0xa00004\n\tbound %eax, 0xa00000");
	COMPATIBLE("aam_by_zero", "aam $0");
	COMPATIBLE("daa", "mov $0x9b, %eax\n\tadd $0x28, %al\n\tdaa\n\tmov %eax, 0xa00000");
	say_result("daa_result");
	COMPATIBLE("aam", "mov $99, %eax\n\taam\n\tmov %eax, 0xa00000");
	say_result("aam_result");
	COMPATIBLE("pusha",
		   "mov %esp, %ebp\n\tmov $0xa00040, %esp\n\tmov $1, %eax\n\tmov $2, %ecx\n\tmov "
		   "$3, %edx\n\t"
		   "mov $4, %ebx\n\tmov $5, %esi\n\tmov $6, %edi\n\tpusha\n\tmov %ebp, %esp");
	say_result("pusha_result");
	COMPATIBLE("upper_halves_are_away", "mov $-1, %eax\n\tinc %eax\n\tmov %eax, 0xa00000");
	say_result("upper_halves_are_away_result");
}

/* ---- Questions about segments, asked in 64-bit mode: the answer, and whether there is one ------
 */

#define ASK(name, code, selector)                                                                  \
	do {                                                                                       \
		memset((void *)RESULT, 0, 16);                                                     \
		ATTEMPT(name,                                                                      \
			"mov %0, %%ecx\n\txor %%eax, %%eax\n\t" code                               \
			"\n\tmov %%eax, (%1)\n\tsetz 8(%1)",                                       \
			"r"(selector), "r"(RESULT));                                               \
		print(name "_says 0x%x 0x%x %u", selector, read32(RESULT), read8(RESULT + 8));     \
	} while (0)

static void ask(u32 selector)
{
	ASK("lar", "lar %%ecx, %%eax", selector);
	ASK("lsl", "lsl %%ecx, %%eax", selector);
	ASK("verr", "verr %%cx", selector);
	ASK("verw", "verw %%cx", selector);
}

static void questions(void)
{
	static const u16 selectors[] = {0,
					SELECTOR_CODE64,
					SELECTOR_DATA,
					SELECTOR_USER_CODE,
					SELECTOR_TASK,
					SELECTOR_SHORT,
					SELECTOR_DOWN,
					SELECTOR_READ_ONLY,
					SELECTOR_EXECUTE,
					SELECTOR_ABSENT,
					SELECTOR_BEHIND};

	for (u32 i = 0; i < ARRAY_SIZE(selectors); i++) {
		ask(selectors[i]);
	}
}

void oracle_segments(void)
{
	tables_load();
	limits();
	types();
	loads();
	old_instructions();
	questions();
	tables_unload();
}
