/* Exceptions that the hypervisor makes a guest take, at EL1. The vCPU is loaded. */
#ifndef VINJECT_H
#define VINJECT_H

struct vcpu;

/* The access of vcpu->exit becomes a synchronous external abort. */
void vinject_abort(struct vcpu *vcpu);

/* The instruction at its pc is not there: an exception with unknown reason. */
void vinject_undefined(struct vcpu *vcpu);

#endif
