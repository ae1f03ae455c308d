/* A GDT, a task and stacks for exceptions (SDM volume 3A, 3.4.5, 7.7). */
#include "oracle.h"

#define STACK_INDEX_SHIFT 32 /* in the first half of a gate */
#define PRIVILEGE_SHIFT 45
#define TASK_ACCESS 0x89ul
#define ENTRIES 14

struct __attribute__((packed)) task {
	u32 reserved;
	u64 stack_of_level[3];
	u64 reserved2;
	u64 stacks[7];
	u64 reserved3;
	u16 reserved4, ports;
};

struct __attribute__((packed)) table_pointer {
	u16 limit;
	u64 base;
};

extern u64 idt[];
extern const struct table_pointer gdt_pointer;

static struct task task;
static u8 user_stack[PAGE_SIZE] __attribute__((aligned(16)));

/* The first four are start.S's. Limits are in pages, but for the task's. */
static u64 segments[ENTRIES] __attribute__((aligned(16))) = {
	[SELECTOR_CODE32 / 8] = 0x00cf9b000000ffff,
	[SELECTOR_CODE64 / 8] = 0x00af9b000000ffff,
	[SELECTOR_DATA / 8] = 0x00cf93000000ffff,
	[SELECTOR_USER_CODE / 8] = 0x00affb000000ffff,
	[SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff,
	[SELECTOR_SHORT / 8] = 0x00c0930000000000 | (SHORT_LIMIT / PAGE_SIZE - 1),
	[SELECTOR_DOWN / 8] = 0x00c0970000000000 | (SHORT_LIMIT / PAGE_SIZE - 1),
	[SELECTOR_READ_ONLY / 8] = 0x00cf91000000ffff,
	[SELECTOR_EXECUTE / 8] = 0x00cf99000000ffff,
	[SELECTOR_ABSENT / 8] = 0x00cf13000000ffff,
};

static void describe_task(void)
{
	u64 at = (u64)&task;

	task.stack_of_level[0] = (u64)user_stack + sizeof(user_stack);
	task.ports = sizeof(task); /* behind its limit: none may be used */
	segments[SELECTOR_TASK / 8] = (sizeof(task) - 1) | (at & 0xffffff) << 16 |
				      TASK_ACCESS << 40 | (at >> 24 & 0xff) << 56;
	segments[SELECTOR_TASK / 8 + 1] = at >> 32;
}

void tables_load(void)
{
	struct table_pointer pointer = {sizeof(segments) - 1, (u64)segments};

	describe_task();
	__asm__ volatile("lgdt %0\n\tltr %1" ::"m"(pointer), "r"((u16)SELECTOR_TASK) : "memory");
}

void tables_unload(void)
{
	__asm__ volatile("lgdt %0" ::"m"(gdt_pointer) : "memory");
}

void tables_set_stack(u32 vector, u64 top)
{
	task.stacks[0] = top;
	idt[2 * vector] &= ~(7ul << STACK_INDEX_SHIFT);
	idt[2 * vector] |= (top ? 1ul : 0ul) << STACK_INDEX_SHIFT;
}

void tables_allow_user(u32 vector)
{
	idt[2 * vector] |= 3ul << PRIVILEGE_SHIFT;
}
