/* The firmware's power calls: PSCI (DEN0022) over SMC, calling convention of DEN0028. */
#include "machine.h"

#define PSCI_CPU_ON_64 0xc4000003ull
#define PSCI_SYSTEM_OFF 0x84000008ull

static s64 psci_call(u64 function, u64 a, u64 b, u64 c)
{
	register u64 x0 __asm__("x0") = function;
	register u64 x1 __asm__("x1") = a;
	register u64 x2 __asm__("x2") = b;
	register u64 x3 __asm__("x3") = c;

	__asm__ volatile("smc #0"
			 : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
			 :
			 : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
			   "x15", "x16", "x17", "memory");
	return (s64)x0;
}

s64 psci_cpu_on(u64 affinity, u64 entry, u64 context)
{
	return psci_call(PSCI_CPU_ON_64, affinity, entry, context);
}

void psci_system_off(void)
{
	psci_call(PSCI_SYSTEM_OFF, 0, 0, 0);
	cpu_park();
}
