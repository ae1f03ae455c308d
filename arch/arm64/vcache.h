/* Cache maintenance by set and way, survived. The vCPU is loaded. */
#ifndef VCACHE_H
#define VCACHE_H

#include "hyp/types.h"

struct vcpu;

/* The guest executed DC ISW, CSW or CISW. */
void vcache_set_way(struct vcpu *vcpu);

/*
 * The guest writes `sctlr` to SCTLR_EL1 while such writes trap. False: the caches are not clean
 * yet; let the guest execute the same instruction again. True: go on with the write.
 */
bool vcache_sctlr_write(struct vcpu *vcpu, u64 sctlr);

/* After a trapped write to any register that controls stage 1. */
void vcache_controls_written(struct vcpu *vcpu);

#endif
