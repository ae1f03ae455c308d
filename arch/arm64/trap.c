/*
 * Exceptions that EL2 takes from itself, in words. What becomes of them is told by
 * own_trap_begin().
 */
#include "arch/cpu.h"
#include "hyp/log.h"

#include "layout.h"
#include "machine.h"
#include "sysreg.h"

struct trap_frame {
	u64 x[31];
	u64 sp, elr, spsr, esr, far;
};

static_assert(offsetof(struct trap_frame, sp) == TRAP_FRAME_SP, "layout.h");
static_assert(offsetof(struct trap_frame, elr) == TRAP_FRAME_ELR, "layout.h");
static_assert(offsetof(struct trap_frame, spsr) == TRAP_FRAME_SPSR, "layout.h");
static_assert(offsetof(struct trap_frame, esr) == TRAP_FRAME_ESR, "layout.h");
static_assert(offsetof(struct trap_frame, far) == TRAP_FRAME_FAR, "layout.h");
static_assert(sizeof(struct trap_frame) == TRAP_FRAME_SIZE, "layout.h");
static_assert(offsetof(struct cpu, arch.emergency_top) == CPU_ARCH_EMERGENCY_TOP, "layout.h");

/* As vectors.S numbers them. */
enum trap_kind { TRAP_SYNC, TRAP_IRQ, TRAP_FIQ, TRAP_SERROR };

/* The first exception of each CPU, kept apart: a second one comes to the same place on the same
 * stack. */
static struct trap_frame reported[CPU_MAX];

static const char *class_name(u64 esr)
{
	switch (field_get(esr, ESR_EC)) {
	case EC_UNKNOWN:
		return "undefined instruction";
	case EC_FP:
		return "trapped floating point";
	case EC_BTI:
		return "branch target exception";
	case EC_ILLEGAL:
		return "illegal execution state";
	case EC_SVC64:
		return "supervisor call";
	case EC_HVC64:
		return "hypervisor call";
	case EC_SMC64:
		return "trapped secure monitor call";
	case EC_SYSREG:
		return "trapped system register";
	case EC_SVE:
		return "trapped SVE";
	case EC_IABT:
		return "instruction abort";
	case EC_PC_ALIGN:
		return "misaligned pc";
	case EC_DABT:
		return "data abort";
	case EC_SP_ALIGN:
		return "misaligned stack pointer";
	case EC_SERROR:
		return "SError";
	case EC_BRK:
		return "breakpoint instruction";
	default:
		return "exception";
	}
}

static const char *fault_name(u64 esr)
{
	u64 fsc = field_get(esr, ISS_ABORT_FSC);

	if (fsc == FSC_ALIGNMENT) {
		return "misaligned";
	}
	if (fsc == FSC_EXTERNAL) {
		return "external abort";
	}
	switch (field_get(fsc, FSC_TYPE)) {
	case FSC_TYPE_ADDRESS_SIZE:
		return "address too large";
	case FSC_TYPE_TRANSLATION:
		return "nothing is mapped there";
	case FSC_TYPE_ACCESS_FLAG:
		return "access flag is clear";
	case FSC_TYPE_PERMISSION:
		return "not permitted";
	default:
		return "fault";
	}
}

static void print_cause(const struct trap_frame *frame, enum trap_kind kind)
{
	static const char *const kinds[] = {"", "IRQ although masked", "FIQ although masked",
					    "SError"};
	u64 class = field_get(frame->esr, ESR_EC);

	if (kind != TRAP_SYNC) {
		log_raw("%s at EL2, esr 0x%lx\n", kinds[kind], frame->esr);
		return;
	}
	if (class == EC_DABT || class == EC_IABT) {
		const char *verb = class == EC_IABT		? "executing"
				   : frame->esr & ISS_ABORT_WNR ? "writing"
								: "reading";

		log_raw("%s at EL2 %s 0x%lx: %s%s\n", class_name(frame->esr), verb, frame->far,
			fault_name(frame->esr), own_stack_hole(frame->far));
		return;
	}
	log_raw("%s at EL2\n", class_name(frame->esr));
}

static void print_frame(const struct trap_frame *frame)
{
	char symbol[80];

	backtrace_symbol(frame->elr, symbol, sizeof(symbol));
	log_raw("  pc   %016lx  %s\n", frame->elr, symbol);
	log_raw("  esr  %016lx  far  %016lx  spsr %016lx  sp   %016lx\n", frame->esr, frame->far,
		frame->spsr, frame->sp);
	for (u32 i = 0; i < ARRAY_COUNT(frame->x); i++) {
		log_raw("  x%-2u  %016lx%s", i, frame->x[i], i % 4 == 3 ? "\n" : "");
	}
	log_raw("\n");
	backtrace_print(frame->elr, frame->x[29]);
}

void arch_print_state(void)
{
	if (this_cpu()->exceptions != 0) {
		print_frame(&reported[this_cpu_id()]);
		return;
	}
	log_raw("  mpidr %lx  sctlr %lx  hcr %lx  vttbr %lx  elr %lx  esr %lx  far %lx\n",
		read_sysreg(mpidr_el1), read_sysreg(sctlr_el2), read_sysreg(hcr_el2),
		read_sysreg(vttbr_el2), read_sysreg(elr_el2), read_sysreg(esr_el2),
		read_sysreg(far_el2));
	backtrace_print((u64)__builtin_return_address(0), *(u64 *)__builtin_frame_address(0));
}

/* The last one of each CPU: another one than the reported, if it came while that was reported. */
static const struct trap_frame *latest[CPU_MAX];

static void print_nested(void)
{
	const struct trap_frame *first = &reported[this_cpu_id()];
	const struct trap_frame *second = latest[this_cpu_id()];

	log_raw("\nlamina: cpu%u: an exception while another was reported\n", this_cpu_id());
	log_raw("  first   pc %lx esr %lx far %lx\n", first->elr, first->esr, first->far);
	log_raw("  second  pc %lx esr %lx far %lx\n", second->elr, second->esr, second->far);
}

/* Called by vectors.S on the emergency stack, whose top holds the frame. */
noreturn_fn void trap_report(const struct trap_frame *frame, enum trap_kind kind);

void trap_report(const struct trap_frame *frame, enum trap_kind kind)
{
	struct cpu *cpu = this_cpu();

	if (cpu->arch.on_trap != NULL) {
		cpu->arch.on_trap();
	}
	latest[cpu->id] = frame;
	own_trap_begin(print_nested);
	reported[cpu->id] = *frame;
	panic_begin();
	print_cause(frame, kind);
	arch_print_state();
	panic_end();
}
