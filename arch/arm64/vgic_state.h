/*
 * What vgic*.c share among themselves: looking at a bank, and the path every change of state takes.
 *
 *   vgic_lock -> change bits of a bank -> vgic_changed(those bits) -> vgic_unlock
 *
 * vgic_changed() finds out whom it concerns: an interrupt in an LR is `touched`, and its holder is
 * recalled; one that became deliverable is offered to its target. vgic_unlock() sees to the holders
 * that are not loaded at once, in memory, and tells the others by VCPU_REQUEST_IRQ, after the lock
 * is dropped. So no CPU ever looks into another CPU's list registers.
 */
#ifndef VGIC_STATE_H
#define VGIC_STATE_H

#include "hyp/vcpu.h"

#include "vgic.h"

/* List registers, IHI 0069 12.4.8. */
#define LR_INTID BITS(31, 0)
#define LR_PINTID BITS(44, 32)
#define LR_EOI BIT(41) /* where HW is 0: maintenance when it ends */
#define LR_PRIORITY BITS(55, 48)
#define LR_GROUP1 BIT(60)
#define LR_HW BIT(61)
#define LR_PENDING BIT(62)
#define LR_ACTIVE BIT(63)
#define LR_STATE (LR_PENDING | LR_ACTIVE)

static inline struct vgic_cpu *vgic_cpu_of(struct vcpu *vcpu)
{
	return &vcpu->arch.gic;
}

/* NULL where there is no such vCPU, or none that was ever reset. */
static inline struct vgic_cpu *vgic_cpu_at(const struct vgic *gic, u64 id)
{
	struct vcpu *vcpu = id < gic->vm->vcpu_count ? gic->vm->vcpus[id] : NULL;

	return vcpu && vcpu->arch.gic.gic ? &vcpu->arch.gic : NULL;
}

/* Bank b as `cpu` sees it; cpu may be NULL where b is not 0. */
static inline struct vgic_bank *vgic_bank_at(struct vgic *gic, struct vgic_cpu *cpu, u32 b)
{
	return b == 0 ? &cpu->bank : &gic->spi[b - 1];
}

static inline u32 vgic_signalled(const struct vgic_bank *bank)
{
	return bank->pending | (bank->level & ~bank->edge);
}

/* Enabled by themselves and by their group's switch in the distributor. */
static inline u32 vgic_allowed(const struct vgic *gic, const struct vgic_bank *bank)
{
	u32 group = (bank->group1 & gic->group1_on) | (~bank->group1 & gic->group0_on);

	return bank->enabled & group;
}

/* Deliverable, and in no LR. */
static inline u32 vgic_ready(const struct vgic *gic, const struct vgic_bank *bank)
{
	return vgic_signalled(bank) & vgic_allowed(gic, bank) & ~(bank->active | bank->in_lr);
}

/* vgic.c. The lock is held from vgic_lock to vgic_unlock, and in all functions below. */
static inline void vgic_lock(struct vgic *gic)
{
	lock_take(&gic->lock);
}
void vgic_unlock(struct vgic *gic);
/* Those of `mask` that are ready are told to their targets. `owner` is whose bank 0 is. */
void vgic_offer(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 mask);
void vgic_changed(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 mask);

/* vgic_lr.c. `cpu` is loaded here, or nowhere. */

/*
 * Takes back what ended or was touched, and fills free LRs. `resample`: timers in flight that the
 * guest has quietened meanwhile are dropped; the guest's timer registers are loaded.
 */
void vgic_refresh(struct vgic_cpu *cpu, bool resample);
/*
 * A private interrupt becomes pending where its vCPU is loaded, and goes straight into an LR.
 * False, and nothing done: it takes more than that (vgic_refresh).
 */
bool vgic_deliver_now(struct vgic_cpu *cpu, u32 intid);
/* Everything in LRs goes back to the banks as it is; not loaded. */
void vgic_abandon(struct vgic_cpu *cpu);
/* What of `mask` is active with no LR because of `cpu` is so no longer. */
void vgic_end_evicted(struct vgic_cpu *cpu, u32 b, u32 mask);
/*
 * Bits of bank b whose LR has `state`: true of `self`, which was refreshed, and of who is not
 * loaded; of others as last known, and they are asked to look.
 */
u32 vgic_lr_bits(struct vgic_cpu *self, struct vgic_cpu *owner, u32 b, u64 state);

/* vgic_bank.c: registers that distributor and redistributors have alike. */

/* Kinds of bit registers, by their offset / 0x80 (IHI 0069, table 12-25). */
enum vgic_bits {
	VGIC_IGROUPR = 1,
	VGIC_ISENABLER,
	VGIC_ICENABLER,
	VGIC_ISPENDR,
	VGIC_ICPENDR,
	VGIC_ISACTIVER,
	VGIC_ICACTIVER,
};

/* `self` is the vCPU that runs here. Reads take the lock where they must; writes hold it. */
u32 vgic_bits_read(struct vgic_cpu *self, struct vgic_cpu *owner, u32 b, u32 kind);
void vgic_bits_write(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 kind, u32 value,
		     u32 lanes);
u32 vgic_priority_read(const struct vgic_bank *bank, u32 first);
void vgic_priority_write(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 first, u32 value,
			 u32 lanes);
u32 vgic_config_read(const struct vgic_bank *bank, u32 half);
void vgic_config_write(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 half, u32 value,
		       u32 lanes);

/*
 * Registers are words of 32 bits; accesses of other sizes become those. `lanes` has the bits that a
 * write writes. What is not aligned to its size reads as 0 and writes nothing.
 */
typedef u32 (*vgic_read_fn)(struct vgic_cpu *self, u64 offset);
typedef void (*vgic_write_fn)(struct vgic_cpu *self, u64 offset, u32 value, u32 lanes);
u64 vgic_read_sized(struct vgic_cpu *self, u64 offset, unsigned size, vgic_read_fn read);
void vgic_write_sized(struct vgic_cpu *self, u64 offset, unsigned size, u64 value,
		      vgic_write_fn write);

#define VGIC_IIDR 0x4c00043bu /* product 'L', variant and revision 0, implementer Arm */
#define VGIC_ID_REGISTERS 0xffd0u
/* PIDR4..7, PIDR0..3, CIDR0..3 of a GICv3; `part` is PIDR0. */
u32 vgic_id_read(u64 offset, u32 part);

#endif
