/*
 * What a VM's CPUs do besides while they run it, from time to time: log the pages that it writes
 * (page-modification logging, SDM volume 3C, 29.3.6), and let it choose among views (VMFUNC,
 * 26.5.6). The VM says which; each vCPU's VMCS follows at its next entry.
 */
#ifndef VOFFER_H
#define VOFFER_H

#include "hyp/vcpu.h"

/* Before an entry, when vcpu->arch.offers is not what the VM's are. */
void voffer_take(struct vcpu *vcpu);
/* After an exit: what the CPU has logged goes to vm_dirty_log(). */
void voffer_left(struct vcpu *vcpu);
/* The view that the guest is in; 0 is all of its RAM. The vCPU is loaded. */
u8 voffer_view(const struct vcpu *vcpu);

#endif
