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

/* Qualification of an exit for IN, OUT, INS or OUTS (SDM volume 3C, table 28-5). */
#define PORT_SIZE BITS(2, 0) /* less 1 */
#define PORT_IN BIT(3)
#define PORT_STRING BIT(4)
#define PORT_REP BIT(5)
#define PORT_NUMBER BITS(31, 16)

/* An access of 1, 2 or 4 bytes, all of them one region's or nobody's. What is read is ones above.
 */
u64 vport_read(struct vcpu *vcpu, u32 port, unsigned size);
void vport_write(struct vcpu *vcpu, u32 port, unsigned size, u64 value);

/* The exit was for IN, OUT, INS or OUTS. Loaded. */
void vport_access(struct vcpu *vcpu, u64 qualification);

#endif
