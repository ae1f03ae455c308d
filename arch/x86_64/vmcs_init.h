/* The VMCS of a vCPU, field by field. It is current. */
#ifndef VMCS_INIT_H
#define VMCS_INIT_H

#include "hyp/vcpu.h"

/* All of it, for a vCPU that starts as vcpu->arch.start says. */
void vmcs_init(struct vcpu *vcpu);
/* What depends on the CPU that loads it, and on what may have changed since it was put: VPID,
 * space. */
void vmcs_init_cpu(struct vcpu *vcpu);

#endif
