/*
 * The distributor's registers (IHI 0069, 12.9): what is one for the whole VM, and all SPIs.
 *
 * Affinity routing is always on, so the registers of older GICs (targets, software-generated
 * interrupts, the private bank) read as zero and ignore writes, as do all others that are not here.
 * Reads take no lock where one word tells all.
 */
#include "vgic_state.h"

#define GICD_CTLR 0x0000
#define GICD_TYPER 0x0004
#define GICD_IIDR 0x0008
#define GICD_BITS 0x0080 /* IGROUPR; the last of its kind is ICACTIVER, which ends at 0x400 */
#define GICD_IPRIORITYR 0x0400
#define GICD_ITARGETSR 0x0800
#define GICD_ICFGR 0x0c00
#define GICD_IGRPMODR 0x0d00
#define GICD_IROUTER 0x6000 /* of INTID 0; there is none below 32 */

#define CTLR_GROUP0 BIT(0)
#define CTLR_GROUP1 BIT(1)
#define CTLR_ARE BIT(4)
#define CTLR_DS BIT(6)
#define CTLR_RWP BIT(31)

/* ITLinesNumber; IDbits 10 (less one); affinity level 3 is valid. No LPIs, no message-based SPIs.
 */
#define TYPER_VALUE ((VGIC_INTIDS / 32 - 1) | 9u << 19 | (u32)BIT(24))

#define IROUTER_AFF0 BITS(7, 0)
#define IROUTER_IRM BIT(31) /* any vCPU will do */
#define IROUTER_MASK (BITS(39, 32) | IROUTER_IRM | BITS(23, 0))

#define PIDR0_DISTRIBUTOR 0x92

/* RWP: some loaded vCPU may still be interrupted by what was just disabled. */
static u32 ctlr_read(const struct vgic *gic)
{
	u32 value = load_relaxed(&gic->ctlr) | CTLR_ARE | CTLR_DS;

	for (u32 id = 0; id < gic->vm->vcpu_count; id++) {
		const struct vgic_cpu *cpu = vgic_cpu_at(gic, id);

		if (cpu && load_relaxed(&cpu->stale)) {
			value |= CTLR_RWP;
		}
	}
	return value;
}

/* A group went on or off: every interrupt is looked at again. */
static void ctlr_write(struct vgic *gic, u32 value)
{
	if (value == gic->ctlr) {
		return;
	}
	store_relaxed(&gic->ctlr, value);
	gic->group0_on = value & CTLR_GROUP0 ? ~0u : 0;
	gic->group1_on = value & CTLR_GROUP1 ? ~0u : 0;
	for (u32 id = 0; id < gic->vm->vcpu_count; id++) {
		struct vgic_cpu *cpu = vgic_cpu_at(gic, id);

		if (cpu) {
			vgic_changed(gic, cpu, 0, ~0u);
		}
	}
	for (u32 b = 1; b < VGIC_BANKS; b++) {
		vgic_changed(gic, NULL, b, ~0u);
	}
}

/* The vCPU that has this affinity; "any" is vCPU 0, which is always there. */
static u32 target_of(const struct vgic *gic, u64 route)
{
	if (route & IROUTER_IRM) {
		return 0;
	}
	for (u32 id = 0; id < gic->vm->vcpu_count; id++) {
		if (vgic_affinity(id) == route) {
			return id;
		}
	}
	return VGIC_NOBODY;
}

static void set_routed(struct vgic *gic, u32 id, u32 spi, bool here)
{
	struct vgic_cpu *cpu = vgic_cpu_at(gic, id);
	u32 bit = 1u << spi % 32;

	if (cpu) {
		cpu->routed[spi / 32 + 1] &= ~bit;
		cpu->routed[spi / 32 + 1] |= here ? bit : 0;
	}
}

static void route_write(struct vgic *gic, u32 spi, u32 value, u32 lanes, u32 shift)
{
	u64 route = gic->route[spi] & ~((u64)lanes << shift);

	route = (route | (u64)value << shift) & IROUTER_MASK;
	store_relaxed(&gic->route[spi], route);
	set_routed(gic, gic->target[spi], spi, false);
	gic->target[spi] = target_of(gic, route);
	set_routed(gic, gic->target[spi], spi, true);
	vgic_changed(gic, NULL, spi / 32 + 1, 1u << spi % 32);
}

/* Where an offset among the per-interrupt registers leads: a bank from 1, or 0 for none of ours. */
static u32 bank_of(u64 offset, u64 start, u32 bytes)
{
	u64 b = (offset - start) / bytes;

	return b < VGIC_BANKS ? b : 0;
}

static u32 read_spis(struct vgic_cpu *self, u64 offset)
{
	struct vgic *gic = self->gic;
	u32 b;

	if (offset < GICD_IPRIORITYR) {
		b = bank_of(offset % GICD_BITS, 0, 4);
		return b ? vgic_bits_read(self, NULL, b, offset / GICD_BITS) : 0;
	}
	if (offset < GICD_ITARGETSR) {
		b = bank_of(offset, GICD_IPRIORITYR, 32);
		return b ? vgic_priority_read(&gic->spi[b - 1], offset % 32) : 0;
	}
	if (offset >= GICD_ICFGR && offset < GICD_IGRPMODR) {
		b = bank_of(offset, GICD_ICFGR, 8);
		return b ? vgic_config_read(&gic->spi[b - 1], offset / 4 % 2) : 0;
	}
	b = offset >= GICD_IROUTER ? bank_of(offset, GICD_IROUTER, 256) : 0;
	if (b) {
		const u64 *route = &gic->route[(offset - GICD_IROUTER) / 8 - VGIC_PRIVATE];

		return load_relaxed(route) >> 8 * (offset & 4);
	}
	return 0;
}

static void write_spis(struct vgic *gic, u64 offset, u32 value, u32 lanes)
{
	u32 b;

	if (offset < GICD_IPRIORITYR) {
		b = bank_of(offset % GICD_BITS, 0, 4);
		if (b) {
			vgic_bits_write(gic, NULL, b, offset / GICD_BITS, value, lanes);
		}
	} else if (offset < GICD_ITARGETSR) {
		b = bank_of(offset, GICD_IPRIORITYR, 32);
		if (b) {
			vgic_priority_write(gic, NULL, b, offset % 32, value, lanes);
		}
	} else if (offset >= GICD_ICFGR && offset < GICD_IGRPMODR) {
		b = bank_of(offset, GICD_ICFGR, 8);
		if (b) {
			vgic_config_write(gic, NULL, b, offset / 4 % 2, value, lanes);
		}
	} else if (offset >= GICD_IROUTER && bank_of(offset, GICD_IROUTER, 256)) {
		route_write(gic, (offset - GICD_IROUTER) / 8 - VGIC_PRIVATE, value, lanes,
			    8 * (offset & 4));
	}
}

static u32 read_word(struct vgic_cpu *self, u64 offset)
{
	switch (offset) {
	case GICD_CTLR:
		return ctlr_read(self->gic);
	case GICD_TYPER:
		return TYPER_VALUE;
	case GICD_IIDR:
		return VGIC_IIDR;
	}
	if (offset >= VGIC_ID_REGISTERS) {
		return vgic_id_read(offset, PIDR0_DISTRIBUTOR);
	}
	return offset >= GICD_BITS ? read_spis(self, offset) : 0;
}

static void write_word(struct vgic_cpu *self, u64 offset, u32 value, u32 lanes)
{
	struct vgic *gic = self->gic;

	if (offset == GICD_CTLR) {
		value |= gic->ctlr & ~lanes;
		ctlr_write(gic, value & (CTLR_GROUP0 | CTLR_GROUP1));
	} else if (offset >= GICD_BITS) {
		write_spis(gic, offset, value, lanes);
	}
}

static u64 distributor_read(unused void *device, struct vcpu *vcpu, u64 offset, unsigned size)
{
	struct vgic_cpu *self = vgic_cpu_of(vcpu);

	if (likely(size == 4 && is_aligned(offset, 4))) {
		return read_word(self, offset);
	}
	return vgic_read_sized(self, offset, size, read_word);
}

static void distributor_write(unused void *device, struct vcpu *vcpu, u64 offset, unsigned size,
			      u64 value)
{
	vgic_write_sized(vgic_cpu_of(vcpu), offset, size, value, write_word);
}

const struct mmio_ops vgic_distributor_ops = {distributor_read, distributor_write};
