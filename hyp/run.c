/* The run ends when as many guests have ended as began: its status is the machine's. */
#include "hyp/run.h"

#include "hyp/atomic.h"
#include "hyp/console.h"
#include "hyp/frame.h"
#include "hyp/summary.h"
#include "hyp/vm.h"

#include <arch/cpu.h>

static u32 guests_left;

void run_begin(u32 count)
{
	store_release(&guests_left, count);
}

void run_guest_ended(void)
{
	enum run_status status;

	if (atomic_sub(&guests_left, 1) > 0) {
		return;
	}
	status = summary_status();
	console_flush();
	summary_print(status);
	arch_machine_end(status);
}

void run_quit(void)
{
	for (u32 i = 0; i < vm_count; i++) {
		vm_destroy(vms[i]);
	}
}
