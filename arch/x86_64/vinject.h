/* Events that Lamina puts into a guest at its next entry (SDM volume 3C, 27.6). The vCPU is loaded.
 */
#ifndef VINJECT_H
#define VINJECT_H

#include "hyp/types.h"

struct vcpu;

enum {
	EXCEPTION_UD = 6,
	EXCEPTION_DF = 8,
	EXCEPTION_SS = 12,
	EXCEPTION_GP = 13,
	EXCEPTION_PF = 14,
	EXCEPTION_AC = 17
};

/*
 * The instruction that exited faults, or the delivery of an exception that the exit interrupted:
 * then it may become a double fault, or the end of the guest. An error code is pushed where that
 * exception has one.
 */
void vinject_exception(struct vcpu *vcpu, u8 vector, u32 error);

/*
 * Before entry: what was interrupted by the exit goes first, then an NMI, then what the local APIC
 * has, if the guest can take it now; else an exit is asked for when it can. An NMI that comes while
 * one is handled waits until IRET, and more of them are one.
 */
void vinject_deliver(struct vcpu *vcpu);

/* After an exit: an event that it interrupted is kept for the next entry. */
void vinject_keep(struct vcpu *vcpu);

#endif
