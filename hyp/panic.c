/*
 * The end, when Lamina itself is wrong.
 *
 *   stop the other CPUs -> say who and what -> registers, backtrace -> flush -> end with status 2
 *
 * The others are stopped first, so that nobody writes between the lines, and nothing they hold is
 * waited for: last words go straight to the UART. One CPU reports; a second one that panics parks;
 * the reporting one, should it panic again, ends the run at once.
 */
#include "arch/cpu.h"
#include "hyp/atomic.h"
#include "hyp/console.h"
#include "hyp/log.h"
#include "hyp/summary.h"
#include "hyp/vcpu.h"

#define NOBODY (~0u)

static u32 reporter = NOBODY;

static void become_reporter(void)
{
	u32 nobody = NOBODY;

	if (__atomic_compare_exchange_n(&reporter, &nobody, this_cpu_id(), false, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST)) {
		return;
	}
	if (load_once(&reporter) == this_cpu_id()) {
		log_raw("\nlamina: panic inside a panic\n");
		arch_machine_end(RUN_PANICKED);
	}
	for (;;) {
		arch_irq_poll(); /* parks this CPU when the reporter's request arrives */
		arch_cpu_idle();
	}
}

void panic_begin(void)
{
	const struct vcpu *vcpu = this_cpu()->current;

	become_reporter();
	log_panicking = true;
	cpu_stop_others();
	log_raw("\nPANIC cpu%u", this_cpu_id());
	if (vcpu != NULL) {
		log_raw(" d%u.v%u", vcpu->vm->number, vcpu->id);
	}
	log_raw(": ");
}

void panic_end(void)
{
	console_flush();
	arch_machine_end(RUN_PANICKED);
}

void panic(const char *format, ...)
{
	char sentence[400];
	va_list args;

	va_start(args, format);
	text_vformat(sentence, sizeof(sentence), format, args);
	va_end(args);
	panic_begin();
	log_raw("%s\n", sentence);
	arch_print_state();
	panic_end();
}
