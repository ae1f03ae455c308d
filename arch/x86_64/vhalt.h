/*
 * HLT, and the kick that ends it though no interrupt comes: a guest's CPU that waits for a lock
 * halts, maybe with interrupts off, and who drops the lock kicks it (Linux,
 * Documentation/virt/kvm/x86/hypercalls.rst, KVM_HC_KICK_CPU). A kick that comes before the HLT
 * ends it, too; several are one.
 */
#ifndef VHALT_H
#define VHALT_H

#include "hyp/types.h"

struct vcpu;

/* Any CPU. */
void vhalt_kick(struct vcpu *target);

/* All else of a loaded vCPU, on its CPU. Before an entry: does a kick end the HLT that its CPU is
 * in?
 */
void vhalt_sync(struct vcpu *vcpu);
/* A HLT that exited waits: does a kick end it? */
bool vhalt_take_kick(struct vcpu *vcpu);
/* From the next entry on HLT exits, if `trap`; else it may halt the CPU. */
void vhalt_trap(struct vcpu *vcpu, bool trap);

#endif
