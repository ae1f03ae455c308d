/*
 * MSRs that exit: the local APIC's, KVM's clock, a few that every kernel looks at. Others are the
 * guest's own (vmsr_pass lists them) or are not there.
 */
#ifndef VMSR_H
#define VMSR_H

#include "hyp/vcpu.h"

/* False: #GP. The vCPU is loaded. */
bool vmsr_read(struct vcpu *vcpu, u32 msr, u64 *value);
bool vmsr_write(struct vcpu *vcpu, u32 msr, u64 value);

/* Fills the page that says which MSRs do not exit (SDM volume 3C, 25.6.9). */
void vmsr_fill_bitmap(u8 *bitmap);

#endif
