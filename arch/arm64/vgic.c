/*
 * The virtual GIC's state: making it, resetting it, and how interrupts come in.
 *
 * One lock a VM guards it all. It is held for tens of instructions, and the two paths that matter
 * (a vCPU sends itself an SGI, its timer fires) take it once and write the list register under it,
 * so that the entry that follows has nothing left to do.
 *
 * Nothing is lost between CPUs: whoever makes an interrupt deliverable sets the target's `waiting`
 * bit under the lock, and after it VCPU_REQUEST_IRQ, which the target takes before it takes the
 * lock.
 */
#include <string.h>

#include "vgic_state.h"

#include "hyp/frame.h"
#include "hyp/log.h"

#include "ich.h"

/* ICC_SGI1R_EL1, IHI 0069 12.2.14. */
#define SGIR_TARGETS BITS(15, 0)
#define SGIR_AFF1 BITS(23, 16)
#define SGIR_INTID BITS(27, 24)
#define SGIR_AFF2 BITS(39, 32)
#define SGIR_IRM BIT(40)
#define SGIR_RS BITS(47, 44)
#define SGIR_AFF3 BITS(55, 48)

#define SGIS_MASK 0xffffu
#define GICR_WAKER_RESET (BIT(1) | BIT(2)) /* ProcessorSleep, ChildrenAsleep */

static_assert(VM_VCPUS_MAX <= 16, "one SGI target list reaches every vCPU");

static void settle(struct vgic *gic)
{
	while (gic->recall) {
		u32 id = __builtin_ctz(gic->recall);
		struct vgic_cpu *cpu = vgic_cpu_at(gic, id);

		gic->recall &= gic->recall - 1;
		if (cpu->loaded) {
			store_relaxed(&cpu->stale, true);
			gic->notify |= BIT(id);
		} else {
			vgic_refresh(cpu, false);
		}
	}
}

void vgic_unlock(struct vgic *gic)
{
	u32 notify;

	if (unlikely(gic->recall)) {
		settle(gic);
	}
	notify = gic->notify;
	gic->notify = 0;
	lock_drop(&gic->lock);
	for (; notify; notify &= notify - 1) {
		vcpu_request(gic->vm->vcpus[__builtin_ctz(notify)], VCPU_REQUEST_IRQ);
	}
}

void vgic_offer(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 mask)
{
	u32 ready = vgic_ready(gic, vgic_bank_at(gic, owner, b)) & mask;

	if (b == 0) {
		if (ready) {
			owner->waiting |= BIT(0);
			gic->notify |= BIT(owner->id);
		}
		return;
	}
	for (; ready; ready &= ready - 1) {
		u32 id = gic->target[b * 32 + __builtin_ctz(ready) - VGIC_PRIVATE];
		struct vgic_cpu *cpu = vgic_cpu_at(gic, id);

		if (cpu) {
			cpu->waiting |= BIT(b);
			gic->notify |= BIT(id);
		}
	}
}

void vgic_changed(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 mask)
{
	struct vgic_bank *bank = vgic_bank_at(gic, owner, b);
	u32 held = mask & bank->in_lr;

	bank->touched |= held;
	if (b == 0) {
		gic->recall |= held ? BIT(owner->id) : 0;
	} else {
		for (u32 left = held; left; left &= left - 1) {
			u32 spi = b * 32 + __builtin_ctz(left) - VGIC_PRIVATE;

			gic->recall |= BIT(gic->holder[spi]);
		}
	}
	if (mask & ~held) {
		vgic_offer(gic, owner, b, mask & ~held);
	}
}

/* The reset values of IHI 0069 12.9, all interrupts off and in group 0; SGIs are edges. */
static void bank_reset(struct vgic_bank *bank, u32 edge)
{
	memset(bank, 0, sizeof(*bank));
	bank->edge = edge;
}

static void cpu_reset(struct vgic *gic, struct vcpu *vcpu)
{
	struct vgic_cpu *cpu = vgic_cpu_of(vcpu);

	memset(cpu, 0, sizeof(*cpu));
	cpu->id = vcpu->id;
	cpu->waker = GICR_WAKER_RESET;
	bank_reset(&cpu->bank, SGIS_MASK);
	cpu->routed[0] = ~0u;
	for (u32 spi = 0; spi < VGIC_SPIS; spi++) {
		if (gic->target[spi] == cpu->id) {
			cpu->routed[spi / 32 + 1] |= 1u << spi % 32;
		}
	}
	cpu->waiting = BITS(VGIC_BANKS - 1, 0);
	cpu->gic = gic;
}

/* All SPIs go to vCPU 0 until the guest says otherwise: IROUTER is 0. */
void vgic_reset(struct vgic *gic)
{
	vgic_lock(gic);
	gic->ctlr = gic->group0_on = gic->group1_on = 0;
	gic->forced = false;
	for (u32 i = 0; i < ARRAY_COUNT(gic->spi); i++) {
		bank_reset(&gic->spi[i], 0);
	}
	memset(gic->route, 0, sizeof(gic->route));
	memset(gic->target, 0, sizeof(gic->target));
	for (u32 id = 0; id < gic->vm->vcpu_count; id++) {
		if (gic->vm->vcpus[id]) {
			cpu_reset(gic, gic->vm->vcpus[id]);
		}
	}
	vgic_unlock(gic);
}

void vgic_vcpu_reset(struct vcpu *vcpu)
{
	struct vgic *gic = vcpu->vm->arch.gic;

	vgic_lock(gic);
	if (vgic_cpu_of(vcpu)->gic) {
		check(!vgic_cpu_of(vcpu)->loaded);
		vgic_abandon(vgic_cpu_of(vcpu));
	}
	cpu_reset(gic, vcpu);
	vgic_unlock(gic);
}

void vgic_init(struct vgic *gic, struct vm *vm)
{
	gic->vm = vm;
	gic->lr_mask = BITS(ich_lr_count() - 1, 0);
	vgic_reset(gic);
}

struct vgic *vgic_create(struct vm *vm)
{
	struct vgic *gic = hyp_alloc(sizeof(*gic));

	if (gic) {
		vgic_init(gic, vm);
	}
	return gic;
}

void vgic_destroy(struct vgic *gic)
{
	if (gic) {
		hyp_free(gic);
	}
}

void vgic_set_spi(struct vgic *gic, u32 intid, bool level)
{
	u32 b = intid / 32, bit = 1u << intid % 32;
	struct vgic_bank *bank;

	check(b != 0 && b < VGIC_BANKS);
	bank = &gic->spi[b - 1];
	vgic_lock(gic);
	if (level != ((bank->level & bit) != 0)) {
		bank->level ^= bit;
		bank->pending |= level ? bank->edge & bit : 0;
		vgic_changed(gic, NULL, b, bit);
	}
	vgic_unlock(gic);
}

/* The line of a PPI is no latch: what the guest has quietened since is dropped by a resampling
 * refresh. */
void vgic_raise_timer(struct vcpu *vcpu, u32 intid)
{
	struct vgic_cpu *cpu = vgic_cpu_of(vcpu);
	struct vgic *gic = cpu->gic;
	u32 bit = 1u << intid, before;

	vgic_lock(gic);
	before = cpu->hw;
	cpu->hw |= bit;
	if (unlikely(!vgic_deliver_now(cpu, intid))) {
		cpu->hw = before;
		vgic_refresh(cpu, false); /* the instance before is over */
		cpu->hw |= bit;
		cpu->bank.pending |= bit;
		cpu->bank.touched |= cpu->bank.in_lr & bit;
		cpu->waiting |= BIT(0);
		vgic_refresh(cpu, false);
	}
	vgic_unlock(gic);
}

/* The vCPUs that an SGI register value names, a bit each. Those that are not there are not named.
 */
static u32 sgi_targets(const struct vgic *gic, u32 self, u64 value)
{
	u32 all = BITS(gic->vm->vcpu_count - 1, 0);

	if (unlikely(value & SGIR_IRM)) {
		return all & ~BIT(self);
	}
	if (unlikely(value & (SGIR_AFF1 | SGIR_AFF2 | SGIR_AFF3 | SGIR_RS))) {
		return 0; /* every vCPU is in cluster 0 */
	}
	return value & SGIR_TARGETS & all;
}

/*
 * A group 1 SGI goes to whoever has it in either group, a group 0 one only to those that have it in
 * group 0: with one security state nothing is gained by the finer rules of IHI 0069 table 4-5.
 */
static void send_to(struct vgic *gic, struct vgic_cpu *cpu, u32 bit, u32 group1)
{
	if (cpu && ((cpu->bank.group1 & ~group1) & bit) == 0) {
		cpu->bank.pending |= bit;
		vgic_changed(gic, cpu, 0, bit);
	}
}

static void send(struct vcpu *vcpu, u64 value, u32 group1)
{
	struct vgic_cpu *self = vgic_cpu_of(vcpu);
	struct vgic *gic = self->gic;
	u32 intid = field_get(value, SGIR_INTID);
	u32 targets = sgi_targets(gic, self->id, value), me = 1u << self->id;

	vgic_lock(gic);
	if ((targets & me & group1) && vgic_deliver_now(self, intid)) {
		targets &= ~me;
	}
	for (u32 left = targets; left; left &= left - 1) {
		send_to(gic, vgic_cpu_at(gic, __builtin_ctz(left)), 1u << intid, group1);
	}
	if (targets & me) {
		vgic_refresh(self, false);
	}
	vgic_unlock(gic);
}

void vgic_send_sgi(struct vcpu *vcpu, u64 sgi1r)
{
	send(vcpu, sgi1r, ~0u);
}

void vgic_send_sgi0(struct vcpu *vcpu, u64 sgi0r)
{
	send(vcpu, sgi0r, 0);
}

void vgic_deactivate(struct vcpu *vcpu, u64 dir)
{
	struct vgic_cpu *self = vgic_cpu_of(vcpu);
	u64 intid = field_get(dir, BITS(23, 0));

	if (intid >= VGIC_INTIDS) {
		return;
	}
	vgic_lock(self->gic);
	vgic_bits_write(self->gic, self, intid / 32, VGIC_ICACTIVER, 1u << intid % 32, ~0u);
	vgic_unlock(self->gic);
}
