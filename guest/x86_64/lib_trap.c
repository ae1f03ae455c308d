/* Exceptions: recorded where one is expected, else the end of the guest. */
#include "lib.h"

#define GATE_PRESENT_INTERRUPT 0x8e00ull
#define STUB_SIZE 16
#define EXCEPTIONS 32

struct frame {
	u64 ax, cx, dx, si, di, r8, r9, r10, r11;
	u64 vector, error;
	u64 ip, cs, flags, sp, ss;
};

extern u64 idt[];
extern char vectors[];

struct fault_resume fault_resume;

static u32 expected[CPUS_MAX]; /* the instruction's length; 0: none */
static struct fault faults[CPUS_MAX];

void gate_set(u32 vector, void (*handler)(void *frame))
{
	u64 at = (u64)handler;

	idt[2 * vector] = (at & 0xffff) | (u64)SELECTOR_CODE64 << 16 |
			  GATE_PRESENT_INTERRUPT << 32 | (at & 0xffff0000) << 32;
	idt[2 * vector + 1] = at >> 32;
}

void trap_init(void);
void trap_init(void)
{
	for (u32 i = 0; i < EXCEPTIONS; i++) {
		gate_set(i, (void (*)(void *))(vectors + i * STUB_SIZE));
	}
}

void fault_expect_length(u32 length)
{
	u32 cpu = cpu_number();

	faults[cpu] = (struct fault){0};
	expected[cpu] = length;
}

struct fault fault_end(void)
{
	u32 cpu = cpu_number();

	expected[cpu] = 0;
	return faults[cpu];
}

/*
 * Wherever it was: another mode, another privilege level, another stack. Without IRET, so that it
 * works on a machine that is being tested for more important things (KVM's interpreter has none).
 */
__attribute__((noreturn)) static void resume(void)
{
	struct fault_resume to = fault_resume;

	fault_resume.ip = 0;
	__asm__ volatile(
		"mov %2, %%ss\n\tmov %1, %%rsp\n\tpush $2\n\tpopfq\n\tjmp *%0" ::"r"(to.ip),
		"r"(to.sp), "r"((u32)SELECTOR_DATA)
		: "memory", "cc");
	__builtin_unreachable();
}

static bool is_outside(u64 ip)
{
	return ip < (u64)image_start || ip >= (u64)image_end;
}

static u64 read_cr2(void)
{
	u64 value;

	__asm__ volatile("mov %%cr2, %0" : "=r"(value)::"memory");
	return value;
}

static void go_on(struct frame *frame, u32 length)
{
	if (is_outside(frame->ip)) {
		frame->ip = read64(frame->sp);
		frame->sp += 8;
	} else {
		frame->ip += length;
	}
}

void trap(struct frame *frame);
void trap(struct frame *frame)
{
	u32 cpu = cpu_number();
	struct fault *f = &faults[cpu];

	if (!expected[cpu]) {
		check("no_exception", false, "vector %lu, error 0x%lx at 0x%lx on CPU %u",
		      frame->vector, frame->error, frame->ip, cpu);
		guest_end();
	}
	f->count++;
	f->vector = (u32)frame->vector;
	f->error = frame->error;
	f->ip = frame->ip;
	f->address = read_cr2();
	if (cpu == 0 && fault_resume.ip) {
		resume();
	} else {
		go_on(frame, expected[cpu]);
	}
}
