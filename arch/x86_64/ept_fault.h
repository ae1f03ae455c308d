/*
 * Exits by which the CPU says that it could not translate by EPT, and that are nobody's first use
 * or missing page but a mistake of Lamina's in the guest's tables.
 */
#ifndef EPT_FAULT_H
#define EPT_FAULT_H

#include "hyp/types.h"

struct vcpu;

/* vcpu->exit is of such an exit. True: the guest cannot go on, see ept_fault_crash(). Takes no lock
 * and says nothing, so the CPU may count as being in the guest. */
bool ept_fault_is_mistake(struct vcpu *vcpu);

/* Says what hardware finds in the tables, and ends the guest. */
void ept_fault_crash(struct vcpu *vcpu);

#endif
