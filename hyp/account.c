/* Sums over vCPUs: each counts its own ticks, so that no two CPUs write one counter. */
#include "hyp/account.h"

#include "hyp/vcpu.h"

u64 account_before_guest_ticks;

u64 account_inside_ticks(enum exit_reason reason)
{
	u64 ticks = 0;

	for (u32 i = 0; i < vm_count; i++) {
		for (u32 n = 0; n < vms[i]->vcpu_count; n++) {
			ticks += vms[i]->vcpus[n]->inside_ticks[reason];
		}
	}
	return ticks;
}
