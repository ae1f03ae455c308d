/*
 * KVM's clock (Linux, Documentation/virt/kvm/x86/msr.rst): the guest is told once how its TSC
 * becomes time, which is the same on every CPU for good, so no further exit is ever owed.
 */
#ifndef VKVMCLOCK_H
#define VKVMCLOCK_H

#include "hyp/vcpu.h"

/* MSR_KVM_SYSTEM_TIME_NEW: an address, and bit 0, whether it is on. False: no RAM is there. */
bool vkvmclock_set(struct vcpu *vcpu, u64 value);
/* MSR_KVM_WALL_CLOCK_NEW: the time of day at power-on, which nobody knows here: 1970. */
bool vkvmclock_tell_wall(struct vcpu *vcpu, u64 value);

#endif
