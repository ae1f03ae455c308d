/*
 * KVM's hypercalls (Linux, Documentation/virt/kvm/x86/hypercalls.rst). Numbers, arguments and
 * answers; who is woken and what is sent is the caller's to do. CPUs are named by APIC id, which is
 * the vCPU's number.
 */
#ifndef VKVM_CALL_H
#define VKVM_CALL_H

#include "hyp/types.h"

struct vapic_message;
struct vcpu;

struct vkvm_call {
	u64 number;  /* RAX */
	u64 args[4]; /* RBX, RCX, RDX, RSI */
	bool kernel; /* by privilege level 0 */
	bool wide;   /* by 64-bit code: else all of these have 32 bits */
};

struct vkvm_call_ops {
	/* Its HLT ends, the one that it is in or the next. */
	void (*kick)(struct vcpu *target);
	/* The caller gives its turn to `target`. False: that does not wait for a CPU. */
	bool (*yield)(struct vcpu *target);
	/* True: `target` takes the message, whose destination it is. */
	bool (*send)(struct vcpu *target, const struct vapic_message *message);
};

/* For the vCPU that is loaded here; the answer goes into RAX. */
u64 vkvm_call(struct vcpu *vcpu, const struct vkvm_call *call, const struct vkvm_call_ops *ops);

#endif
