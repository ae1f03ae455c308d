/*
 * Ports, as a guest sees them: a second, small address space for devices, with the same handlers as
 * the first. A port that nobody has reads as ones, and swallows what is written, as on a PC.
 */
#ifndef VPORT_H
#define VPORT_H

#include "hyp/types.h"

struct vm;
struct vcpu;
struct mmio_ops;

#define VPORT_REGIONS_MAX 6

struct vport_region {
	u16 base, size;
	const struct mmio_ops *ops;
	void *device;
};

/* Regions do not overlap, and there are no more than VPORT_REGIONS_MAX of them. */
void vport_add(struct vm *vm, struct vport_region region);

/* The exit was for IN, OUT, INS or OUTS; `qualification` is SDM table 28-5. Loaded. */
void vport_access(struct vcpu *vcpu, u64 qualification);

#endif
