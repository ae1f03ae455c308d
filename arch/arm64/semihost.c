/*
 * The end of the machine: by Arm semihosting, which can tell the launcher an exit status, else by
 * PSCI, which cannot. Without semihosting its instruction is undefined; the exception is the
 * answer. Manual: "Semihosting for AArch32 and AArch64", SYS_EXIT_EXTENDED.
 */
#include "arch/cpu.h"

#include "machine.h"
#include "sysreg.h"

#define SYS_EXIT_EXTENDED 0x20
#define ADP_STOPPED_APPLICATION_EXIT 0x20026ull

static void semihost_exit(int status)
{
	u64 block[2] = {ADP_STOPPED_APPLICATION_EXIT, (u64)status};
	register u64 operation __asm__("x0") = SYS_EXIT_EXTENDED;
	register u64 argument __asm__("x1") = (u64)block;

	__asm__ volatile("hlt #0xf000" : "+r"(operation) : "r"(argument) : "memory");
}

void arch_machine_end(int status)
{
	this_cpu()->arch.on_trap = psci_system_off;
	isb();
	semihost_exit(status);
	psci_system_off();
}
