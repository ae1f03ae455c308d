/* INS and OUTS: ports to memory and back, by the guest's own page tables. */
#ifndef VPORT_STRING_H
#define VPORT_STRING_H

#include "hyp/types.h"

struct vcpu;

/*
 * The exit was for one of them; `qualification` is SDM table 28-5. Done, or a step of it, with the
 * instruction to come again; or the guest has the exception that the CPU would have given it.
 */
void vport_string(struct vcpu *vcpu, u64 qualification);

#endif
