/*
 * Exceptions: expected ones are noted and stepped over, others end the guest with a readable word.
 */
#include "lib.h"

#define VECTOR_SYNC 4 /* current EL, SP_ELx: Arm ARM D1.10.2 */
#define VECTOR_IRQ 5
#define VECTOR_LOWER_64 8
#define VECTOR_LOWER_32 12

static struct cpu_fault {
	bool expected;
	struct fault seen;
} faults[CPUS_MAX] __attribute__((aligned(64)));

void (*irq_handler)(void);
void (*lower_handler)(struct frame *frame);

void trap(struct frame *frame, u64 vector);

void fault_expect(void)
{
	struct cpu_fault *f = &faults[cpu_number()];

	f->seen = (struct fault){0};
	f->expected = true;
	__asm__ volatile("" ::: "memory");
}

struct fault fault_end(void)
{
	struct cpu_fault *f = &faults[cpu_number()];

	dsb();
	isb();
	f->expected = false;
	return f->seen;
}

static void trap_surprise(const struct frame *frame, u64 vector)
{
	static bool surprised[CPUS_MAX];

	if (surprised[cpu_number()]) { /* by what prints the first one: no last line, so it fails */
		psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	}
	surprised[cpu_number()] = true;
	print("CPU %u: vector %lu, esr %lx far %lx elr %lx (image + %lx) spsr %lx", cpu_number(),
	      vector, read_sysreg(esr_el1), read_sysreg(far_el1), frame->elr,
	      frame->elr - (u64)image_start, frame->spsr);
	for (u32 i = 0; i + 1 < 31; i += 2) {
		print("  x%u %p x%u %p", i, (void *)frame->x[i], i + 1, (void *)frame->x[i + 1]);
	}
	check("no_unexpected_exception", false, "see above");
	guest_end();
}

static bool was_jump(u64 esr)
{
	return ESR_EC(esr) == EC_IABORT || ESR_EC(esr) == EC_PC_ALIGNMENT;
}

void trap(struct frame *frame, u64 vector)
{
	struct cpu_fault *f = &faults[cpu_number()];

	if (vector == VECTOR_IRQ && irq_handler) {
		irq_handler();
		return;
	}
	if ((vector == VECTOR_LOWER_64 || vector == VECTOR_LOWER_32) && lower_handler) {
		lower_handler(frame);
		return;
	}
	if (vector != VECTOR_SYNC || !f->expected) {
		trap_surprise(frame, vector);
	}
	f->seen.count++;
	f->seen.esr = read_sysreg(esr_el1);
	f->seen.far = read_sysreg(far_el1);
	f->seen.elr = frame->elr;
	if (was_jump(f->seen.esr)) {
		frame->elr = frame->x[30];
	} else if (ESR_EC(f->seen.esr) != EC_SVC) { /* a call's ELR is behind it already */
		frame->elr += 4;
	}
}
