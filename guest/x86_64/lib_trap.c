/* Exceptions: recorded where one is expected, else the end of the guest. */
#include "lib.h"

#define CODE64 0x10
#define GATE_PRESENT_INTERRUPT 0x8e00ull
#define STUB_SIZE 16
#define EXCEPTIONS 32
#define SKIPPED_BYTES 2

struct frame {
	u64 ax, cx, dx, si, di, r8, r9, r10, r11;
	u64 vector, error;
	u64 ip, cs, flags, sp, ss;
};

extern u64 idt[];
extern char vectors[];

static bool expected[CPUS_MAX];
static struct fault faults[CPUS_MAX];

void gate_set(u32 vector, void (*handler)(void *frame))
{
	u64 at = (u64)handler;

	idt[2 * vector] = (at & 0xffff) | (u64)CODE64 << 16 | GATE_PRESENT_INTERRUPT << 32 |
			  (at & 0xffff0000) << 32;
	idt[2 * vector + 1] = at >> 32;
}

void trap_init(void);
void trap_init(void)
{
	for (u32 i = 0; i < EXCEPTIONS; i++) {
		gate_set(i, (void (*)(void *))(vectors + i * STUB_SIZE));
	}
}

void fault_expect(void)
{
	u32 cpu = cpu_number();

	faults[cpu] = (struct fault){0};
	expected[cpu] = true;
}

struct fault fault_end(void)
{
	u32 cpu = cpu_number();

	expected[cpu] = false;
	return faults[cpu];
}

void trap(struct frame *frame);
void trap(struct frame *frame)
{
	u32 cpu = cpu_number();

	if (!expected[cpu]) {
		check("no_exception", false, "vector %lu, error 0x%lx at 0x%lx on CPU %u",
		      frame->vector, frame->error, frame->ip, cpu);
		guest_end();
	}
	faults[cpu].count++;
	faults[cpu].vector = (u32)frame->vector;
	faults[cpu].error = frame->error;
	__asm__ volatile("mov %%cr2, %0" : "=r"(faults[cpu].address));
	frame->ip += SKIPPED_BYTES;
}
