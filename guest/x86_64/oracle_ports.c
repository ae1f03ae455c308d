/* Ports that nobody has: reads are ones, of every width, and writes go nowhere. */
#include "oracle.h"

#define NOBODY 0x5e8
#define PATTERN 0x1122334455667788ul

#define READ_PORT(name, code)                                                                      \
	do {                                                                                       \
		u64 value_ = PATTERN;                                                              \
		__asm__ volatile(code : "+a"(value_) : "d"(NOBODY) : "memory");                    \
		print("%s 0x%lx", name, value_);                                                   \
	} while (0)
#define WRITE_PORT(name, code) ATTEMPT(name, "mov $0x5e8, %%edx\n\txor %%eax, %%eax\n\t" code)

/* Where the registers of a string instruction are when it is done. */
#define RESULT (ORACLE_RAM + 0x2000)
#define STRING(name, code, at, count)                                                              \
	do {                                                                                       \
		memset((void *)RESULT, 0, 16);                                                     \
		ATTEMPT(name,                                                                      \
			"mov %0, %%rdi\n\tmov %0, %%rsi\n\tmov %1, %%rcx\n\tmov %2, %%edx\n\t"     \
			"mov %3, %%rbx\n\t" code "\n\tcld\n\t"                                     \
			"add %%rsi, %%rdi\n\tmov %%rdi, (%%rbx)\n\tmov %%rcx, 8(%%rbx)",           \
			"r"((u64)(at)), "r"((u64)(count)), "i"(NOBODY), "i"(RESULT));              \
		print(name "_moved 0x%lx %lu", read64(RESULT) - 2 * (u64)(at),                     \
		      read64(RESULT + 8));                                                         \
	} while (0)

static void strings(void)
{
	u64 edge = ORACLE_RAM + PAGE_SIZE;

	memset((void *)(edge - 32), 0x11, 64);
	STRING("ins", "rep insl", edge - 4, 3);
	print("ins_read 0x%lx 0x%lx 0x%lx", read64(edge - 8), read64(edge), read64(edge + 8));
	STRING("outs", "rep outsb", ORACLE_RAM, 5);
	STRING("ins_down", "std\n\tinsw", ORACLE_RAM + 100, 7);
	print("ins_down_read 0x%x", read32(ORACLE_RAM + 100));
	STRING("ins_nothing", "rep insb", ORACLE_RAM, 0);
}

void oracle_ports(void)
{
	READ_PORT("in8", "inb %%dx, %%al");
	READ_PORT("in16", "inw %%dx, %%ax");
	READ_PORT("in32", "inl %%dx, %%eax");
	READ_PORT("in8_immediate", "inb $0xec, %%al");
	WRITE_PORT("out8", "outb %%al, %%dx");
	WRITE_PORT("out16", "outw %%ax, %%dx");
	WRITE_PORT("out32", "outl %%eax, %%dx");
	strings();
}
