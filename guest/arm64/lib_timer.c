/* Time in small guests: the virtual counter. */
#include "lib.h"

u64 microseconds(u64 us)
{
	return us * (read_sysreg(cntfrq_el0) / 1000000);
}

void wait_microseconds(u64 us)
{
	u64 end = counter() + microseconds(us);

	while (counter() < end) {
		__asm__ volatile("yield" ::: "memory");
	}
}
