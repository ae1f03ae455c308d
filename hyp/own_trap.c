#include "arch/cpu.h"
#include "hyp/own.h"
#include "hyp/summary.h"

void own_trap_begin(void (*print_nested)(void))
{
	struct cpu *cpu = this_cpu();

	cpu->exceptions++;
	if (cpu->exceptions > 2) {
		cpu_park();
	}
	if (cpu->exceptions == 2) {
		print_nested();
		arch_machine_end(RUN_PANICKED);
	}
}
