/*
 * The redistributors' registers (IHI 0069, 12.10 and 12.11): two frames of 64 KiB a vCPU, side by
 * side in one region. The first has the redistributor itself, the second the vCPU's SGIs and PPIs.
 *
 * No LPIs, so there is little to control. A sleeping redistributor (GICR_WAKER) delivers all the
 * same: payloads that ran under hypervisors rely on it, and one that puts it to sleep has its
 * interrupts off.
 */
#include "vgic_state.h"

#define FRAME_SIZE 0x10000ull

#define GICR_CTLR 0x0000
#define GICR_IIDR 0x0004
#define GICR_TYPER 0x0008
#define GICR_TYPER_HIGH 0x000c
#define GICR_WAKER 0x0014

#define GICR_BITS 0x0080 /* from the second frame's start */
#define GICR_IPRIORITYR 0x0400
#define GICR_IPRIORITYR_END 0x0420
#define GICR_ICFGR0 0x0c00
#define GICR_ICFGR1 0x0c04

#define CTLR_RWP BIT(3)
#define TYPER_LAST BIT(4)
#define TYPER_NUMBER BITS(23, 8)
#define WAKER_PROCESSOR_SLEEP BIT(1)
#define WAKER_CHILDREN_ASLEEP BIT(2)

#define PIDR0_REDISTRIBUTOR 0x93

/* `owner` may be NULL: a vCPU that was never on is still counted and named. */
static u32 read_control(const struct vgic *gic, const struct vgic_cpu *owner, u32 id, u64 offset)
{
	switch (offset) {
	case GICR_CTLR:
		return owner && load_relaxed(&owner->stale) ? CTLR_RWP : 0;
	case GICR_IIDR:
		return VGIC_IIDR;
	case GICR_TYPER:
		return field_set(id, TYPER_NUMBER) |
		       (id == gic->vm->vcpu_count - 1 ? TYPER_LAST : 0);
	case GICR_TYPER_HIGH:
		return vgic_affinity(id);
	case GICR_WAKER:
		return owner ? load_relaxed(&owner->waker) : 0;
	}
	return offset >= VGIC_ID_REGISTERS ? vgic_id_read(offset, PIDR0_REDISTRIBUTOR) : 0;
}

static u32 read_private(struct vgic_cpu *self, struct vgic_cpu *owner, u64 offset)
{
	if (offset < GICR_IPRIORITYR) {
		return offset % GICR_BITS ? 0 : vgic_bits_read(self, owner, 0, offset / GICR_BITS);
	}
	if (offset < GICR_IPRIORITYR_END) {
		return vgic_priority_read(&owner->bank, offset % 32);
	}
	if (offset == GICR_ICFGR0 || offset == GICR_ICFGR1) {
		return vgic_config_read(&owner->bank, offset / 4 % 2);
	}
	return 0;
}

static void write_private(struct vgic_cpu *owner, u64 offset, u32 value, u32 lanes)
{
	struct vgic *gic = owner->gic;

	if (offset < GICR_IPRIORITYR) {
		if (offset % GICR_BITS == 0) {
			vgic_bits_write(gic, owner, 0, offset / GICR_BITS, value, lanes);
		}
	} else if (offset < GICR_IPRIORITYR_END) {
		vgic_priority_write(gic, owner, 0, offset % 32, value, lanes);
	} else if (offset == GICR_ICFGR0 || offset == GICR_ICFGR1) {
		vgic_config_write(gic, owner, 0, offset / 4 % 2, value, lanes);
	}
}

static u32 read_word(struct vgic_cpu *self, u64 offset)
{
	u64 id = offset / VGIC_REDISTRIBUTOR_SIZE, at = offset % VGIC_REDISTRIBUTOR_SIZE;
	struct vgic_cpu *owner = vgic_cpu_at(self->gic, id);

	if (id >= self->gic->vm->vcpu_count) {
		return 0;
	}
	if (at < FRAME_SIZE) {
		return read_control(self->gic, owner, id, at);
	}
	return owner ? read_private(self, owner, at - FRAME_SIZE) : 0;
}

/* ChildrenAsleep follows ProcessorSleep at once: there is no traffic to wait for. */
static void write_word(struct vgic_cpu *self, u64 offset, u32 value, u32 lanes)
{
	u64 at = offset % VGIC_REDISTRIBUTOR_SIZE;
	struct vgic_cpu *owner = vgic_cpu_at(self->gic, offset / VGIC_REDISTRIBUTOR_SIZE);

	if (!owner) {
		return;
	}
	if (at >= FRAME_SIZE) {
		write_private(owner, at - FRAME_SIZE, value, lanes);
	} else if (at == GICR_WAKER && (lanes & WAKER_PROCESSOR_SLEEP)) {
		store_relaxed(&owner->waker, value & WAKER_PROCESSOR_SLEEP
						     ? WAKER_PROCESSOR_SLEEP | WAKER_CHILDREN_ASLEEP
						     : 0);
	}
}

static u64 redistributor_read(unused void *device, struct vcpu *vcpu, u64 offset, unsigned size)
{
	struct vgic_cpu *self = vgic_cpu_of(vcpu);

	if (likely(size == 4 && is_aligned(offset, 4))) {
		return read_word(self, offset);
	}
	return vgic_read_sized(self, offset, size, read_word);
}

static void redistributor_write(unused void *device, struct vcpu *vcpu, u64 offset, unsigned size,
				u64 value)
{
	vgic_write_sized(vgic_cpu_of(vcpu), offset, size, value, write_word);
}

const struct mmio_ops vgic_redistributor_ops = {redistributor_read, redistributor_write};
