/*
 * Exceptions that Lamina takes from itself, in words; and the NMI, by which a CPU that panics stops
 * the others. What becomes of them is told by own_trap_begin().
 */
#include "arch/cpu.h"
#include "hyp/log.h"

#include "layout.h"
#include "machine.h"

#define VECTOR_NMI 2
#define VECTOR_PAGE_FAULT 14
#define ERROR_PROTECTION BIT(0)
#define ERROR_WRITE BIT(1)
#define ERROR_EXECUTE BIT(4)

struct trap_frame {
	u64 ax, cx, dx, bx, bp, si, di, r[8]; /* r8..r15 */
	u64 vector, error;
	u64 ip, cs, flags, sp, ss; /* the CPU's */
};

static_assert(offsetof(struct trap_frame, vector) == TRAP_FRAME_VECTOR, "layout.h");

/* The first exception of each CPU, kept apart: a second one comes to the same place on the same
 * stack. */
static struct trap_frame reported[CPU_MAX];

static const char *exception_name(u64 vector)
{
	static const char *const names[] = {
		[0] = "division by zero",	[1] = "debug exception",
		[3] = "breakpoint instruction", [6] = "undefined instruction",
		[7] = "floating point is off",	[8] = "double fault",
		[10] = "invalid task state",	[11] = "segment not present",
		[12] = "stack segment fault",	[13] = "general protection",
		[16] = "floating point error",	[17] = "misaligned",
		[18] = "machine check",		[19] = "SIMD error",
	};

	return vector < ARRAY_COUNT(names) && names[vector] ? names[vector] : "exception";
}

static void print_cause(const struct trap_frame *frame)
{
	u64 address = read_cr(2);

	if (frame->vector != VECTOR_PAGE_FAULT) {
		log_raw("%s, error 0x%lx\n", exception_name(frame->vector), frame->error);
		return;
	}
	log_raw("page fault %s 0x%lx: %s%s\n",
		frame->error & ERROR_EXECUTE ? "executing"
		: frame->error & ERROR_WRITE ? "writing"
					     : "reading",
		address,
		frame->error & ERROR_PROTECTION ? "not permitted" : "nothing is mapped there",
		own_stack_hole(address));
}

static void print_frame(const struct trap_frame *frame)
{
	char symbol[80];

	backtrace_symbol(frame->ip, symbol, sizeof(symbol));
	log_raw("  rip  %016lx  %s\n", frame->ip, symbol);
	log_raw("  rsp  %016lx  rfl  %016lx  cr2  %016lx  cr3  %016lx\n", frame->sp, frame->flags,
		read_cr(2), read_cr(3));
	log_raw("  rax  %016lx  rcx  %016lx  rdx  %016lx  rbx  %016lx\n", frame->ax, frame->cx,
		frame->dx, frame->bx);
	log_raw("  rbp  %016lx  rsi  %016lx  rdi  %016lx\n", frame->bp, frame->si, frame->di);
	for (u32 i = 0; i < ARRAY_COUNT(frame->r); i++) {
		log_raw("  r%-3u %016lx%s", i + 8, frame->r[i], i % 4 == 3 ? "\n" : "");
	}
	backtrace_print(frame->ip, frame->bp);
}

void arch_print_state(void)
{
	if (this_cpu()->exceptions != 0) {
		print_frame(&reported[this_cpu_id()]);
		return;
	}
	log_raw("  apic %x  cr0 %lx  cr3 %lx  cr4 %lx  efer %lx\n", lapic_id(), read_cr(0),
		read_cr(3), read_cr(4), read_msr(MSR_EFER));
	backtrace_print((u64)__builtin_return_address(0), *(u64 *)__builtin_frame_address(0));
}

/* The last one of each CPU: another one than the reported, if it came while that was reported. */
static const struct trap_frame *latest[CPU_MAX];

static void print_nested(void)
{
	const struct trap_frame *first = &reported[this_cpu_id()];
	const struct trap_frame *second = latest[this_cpu_id()];

	log_raw("\nlamina: cpu%u: an exception while another was reported\n", this_cpu_id());
	log_raw("  first   vector %lu rip %lx\n", first->vector, first->ip);
	log_raw("  second  vector %lu rip %lx cr2 %lx\n", second->vector, second->ip, read_cr(2));
}

/* Called by vectors.S on the emergency stack, which holds the frame. */
noreturn_fn void trap_report(const struct trap_frame *frame);

void trap_report(const struct trap_frame *frame)
{
	struct cpu *cpu = this_cpu();

	if (frame->vector == VECTOR_NMI && log_panicking) {
		cpu_park();
	}
	latest[cpu->id] = frame;
	own_trap_begin(print_nested);
	reported[cpu->id] = *frame;
	panic_begin();
	print_cause(frame);
	arch_print_state();
	panic_end();
}
