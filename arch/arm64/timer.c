/* The hypervisor's timer, CNTHP_EL2. */
#include "arch/cpu.h"
#include "hyp/time.h"

#include "machine.h"
#include "sysreg.h"

void arch_timer_set(u64 deadline)
{
	this_cpu()->timer_deadline = deadline;
	if (deadline == TIME_NEVER) {
		write_sysreg(cnthp_ctl_el2, 0);
	} else {
		write_sysreg(cnthp_cval_el2, deadline);
		write_sysreg(cnthp_ctl_el2, CNT_CTL_ENABLE);
	}
	isb(); /* so that a poll right after it sees the line as it is now */
}

void timer_disarm(void)
{
	arch_timer_set(TIME_NEVER);
}

void timer_init(void)
{
	u64 hz = machine.timer_hz != 0 ? machine.timer_hz : read_sysreg(cntfrq_el0);

	if (hz == 0) {
		boot_refuse("neither CNTFRQ_EL0 nor the device tree says the timer's frequency");
	}
	time_set_hz(hz);
}

void timer_init_cpu(void)
{
	timer_disarm();
}
