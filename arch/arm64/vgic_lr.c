/*
 * List registers: what is in them, what goes in, what comes back.
 *
 *            insert                        guest acknowledges            guest ends
 *   bank -------------> LR pending ------------------------> LR active -----------> LR invalid
 *     ^                    | retract (touched, or                | evict (an LR is needed,      |
 * release
 *     +--------------------+ something more urgent came)         v and none is pending)         v
 *     ^                                                        bank.active, evicted            bank
 *
 * vgic_refresh() is all there is: *fold* looks at each LR in use, releases those that ended, and
 * revises those that were touched; *fill* moves what waits into free LRs. Neither depends on why it
 * was called.
 *
 * A pending LR that was touched (disabled, other priority, other target, line low) is simply
 * taken out; fill puts it back if it still may be there. An active LR stays; only its pending half
 * and its EOI bit change. The EOI bit asks for an exit at the end of an interrupt that will be
 * pending again then: a level-sensitive line that is still high.
 *
 * More than fits: LRs hold the most urgent. If anything waits, at least one LR is pending (fill
 * makes sure), and NPIE exits when the guest has acknowledged the last such. (UIE, which counts
 * active LRs too, could come too late: with nested interrupts two LRs may stay active for long.) If
 * all LRs are active, the least urgent is evicted: EOIcount then tells how many ended that had no
 * LR, and these are the most urgent of the evicted ones, since ends are nested. With EOImode 1 they
 * are not, so ICC_DIR_EL1 is trapped meanwhile.
 *
 * A list register that is not loaded is its copy in vgic_cpu.lr: the same code works on both.
 */
#include <string.h>

#include "vgic_state.h"

#include "ich.h"

/* ICH_HCR_EL2, IHI 0069 12.4.6. */
#define HCR_EN BIT(0)
#define HCR_LRENPIE BIT(2)
#define HCR_NPIE BIT(3)
#define HCR_VGRP0EIE BIT(4)
#define HCR_VGRP0DIE BIT(5)
#define HCR_VGRP1EIE BIT(6)
#define HCR_VGRP1DIE BIT(7)
#define HCR_TDIR BIT(14)
#define HCR_EOICOUNT BITS(31, 27)

/* ICH_VMCR_EL2, IHI 0069 12.4.12. */
#define VMCR_VENG0 BIT(0)
#define VMCR_VENG1 BIT(1)
#define VMCR_VEOIM BIT(9)
#define VMCR_VPMR BITS(31, 24)

/* Behind all priorities: the guest's CPU interface has the group off. */
#define RANK_GROUP_OFF 0x100u

/* One interrupt: its bank, and its bit there. */
struct place {
	struct vgic_bank *bank;
	u32 b;
	u32 bit;
};

static inline struct place place_of(struct vgic_cpu *cpu, u64 lr)
{
	u32 b = (u32)lr / 32 % VGIC_BANKS;
	struct place p = {vgic_bank_at(cpu->gic, cpu, b), b, 1u << lr % 32};

	return p;
}

static inline u64 lr_read(const struct vgic_cpu *cpu, u32 n)
{
	return cpu->loaded ? ich_read_lr(n) : cpu->lr[n];
}

static inline void lr_write(struct vgic_cpu *cpu, u32 n, u64 lr)
{
	cpu->lr[n] = lr;
	if (cpu->loaded) {
		ich_write_lr(n, lr);
	}
}

static u64 vmcr_of(const struct vgic_cpu *cpu)
{
	return cpu->loaded ? ich_read_vmcr() : cpu->vmcr;
}

/* This instance of a timer's interrupt is over; the physical one may fire again. */
static void hw_end(struct vgic_cpu *cpu, u32 bit, bool physical_ended)
{
	cpu->hw &= ~bit;
	if (cpu->loaded && !physical_ended) {
		gic_set_ppi_active(__builtin_ctz(bit), false);
	}
}

/* What was asked for while an LR held it is done. */
static void unwish(struct place p)
{
	p.bank->touched &= ~p.bit;
	p.bank->drop_pending &= ~p.bit;
	p.bank->drop_active &= ~p.bit;
	p.bank->make_active &= ~p.bit;
}

/* LR n no longer holds the interrupt; what was made active by a write is so in the bank only. */
static inline void let_go(struct vgic_cpu *cpu, u32 n, struct place p)
{
	struct vgic_bank *bank = p.bank;

	cpu->lr_used &= ~(1u << n);
	bank->in_lr &= ~p.bit;
	bank->latched &= ~p.bit;
	if (bank->touched & p.bit) {
		if (bank->make_active & p.bit) {
			bank->active |= p.bit;
			cpu->gic->forced = true;
		}
		unwish(p);
	}
}

/* A pending LR's content goes back where it came from; the LR itself is still to be written. */
static void retract(struct vgic_cpu *cpu, u32 n, struct place p)
{
	u32 back = p.bank->latched & p.bit;

	let_go(cpu, n, p);
	p.bank->pending |= back;
	vgic_offer(cpu->gic, cpu, p.b, p.bit);
}

/* LR n ended in the guest. */
static inline void release(struct vgic_cpu *cpu, u32 n, u64 lr)
{
	struct place p = place_of(cpu, lr);

	let_go(cpu, n, p);
	if ((lr & (LR_HW | LR_EOI)) == LR_EOI) {
		lr_write(cpu, n, 0); /* ends its maintenance interrupt */
	}
	if (p.b == 0 && (cpu->hw & p.bit)) {
		hw_end(cpu, p.bit, (lr & LR_HW) != 0);
	}
	if (vgic_signalled(p.bank) & p.bit) {
		vgic_offer(cpu->gic, cpu, p.b, p.bit);
	}
}

/*
 * The pending half and the EOI bit of an active LR. An edge that came while active makes the LR
 * active and pending. What cannot be both (a level: its line may fall meanwhile; LR.HW) asks for an
 * exit at its end instead; LR.HW has no EOI bit, so the physical interrupt is ended by software
 * then.
 */
static u64 active_lr(struct vgic_cpu *cpu, struct place p, u64 lr)
{
	struct vgic_bank *bank = p.bank;
	bool hw = p.b == 0 && (cpu->hw & p.bit);

	lr &= ~(hw ? LR_PENDING : LR_PENDING | LR_EOI);
	if (!(vgic_signalled(bank) & vgic_allowed(cpu->gic, bank) & p.bit)) {
		return lr;
	}
	if (!hw && (bank->pending & bank->edge & cpu->routed[p.b] & p.bit)) {
		bank->pending &= ~p.bit;
		bank->latched |= p.bit;
		return lr | LR_PENDING;
	}
	return (lr & ~(LR_HW | LR_PINTID)) | LR_EOI;
}

static void revise_active(struct vgic_cpu *cpu, u32 n, u64 lr, struct place p, bool pending)
{
	struct vgic_bank *bank = p.bank;

	bank->pending |= pending ? bank->latched & p.bit : 0;
	bank->latched &= ~p.bit;
	unwish(p);
	lr_write(cpu, n, active_lr(cpu, p, lr));
}

/* LR n holds an interrupt that was touched, or a timer's that may have gone quiet. */
static void revise(struct vgic_cpu *cpu, u32 n, u64 lr, bool resample)
{
	struct place p = place_of(cpu, lr);
	struct vgic_bank *bank = p.bank;
	bool pending = (lr & LR_PENDING) && !(bank->drop_pending & p.bit);
	bool active = (lr & LR_ACTIVE) && !(bank->drop_active & p.bit);
	bool hw = p.b == 0 && (cpu->hw & p.bit);

	if (active) {
		revise_active(cpu, n, lr, p, pending);
		return;
	}
	if (hw && resample && pending && !(lr & LR_ACTIVE)) {
		pending = gic_ppi_is_pending(lr & LR_INTID);
	}
	lr_write(cpu, n, 0);
	if (hw && !pending) {
		hw_end(cpu, p.bit, false);
	}
	bank->latched &= pending ? ~0u : ~p.bit;
	retract(cpu, n, p);
}

static inline void fold(struct vgic_cpu *cpu, bool resample)
{
	for (u32 left = cpu->lr_used; left; left &= left - 1) {
		u32 n = __builtin_ctz(left);
		u64 lr = lr_read(cpu, n);
		struct place p = place_of(cpu, lr);

		if (!(lr & LR_STATE)) {
			release(cpu, n, lr);
		} else if (unlikely(p.bank->touched & p.bit) ||
			   unlikely(resample &&
				    (lr & (LR_HW | LR_STATE)) == (LR_HW | LR_PENDING))) {
			revise(cpu, n, lr, resample);
		} else {
			cpu->lr[n] = lr;
		}
	}
}

/* Timers in flight that no LR holds: gone, if quiet or deactivated meanwhile. */
static void resample_timers(struct vgic_cpu *cpu)
{
	struct vgic_bank *bank = &cpu->bank;

	for (u32 left = cpu->hw & ~(bank->in_lr | bank->active); left; left &= left - 1) {
		u32 bit = left & -left;

		if (!(bank->pending & bit) || !gic_ppi_is_pending(__builtin_ctz(bit))) {
			bank->pending &= ~bit;
			hw_end(cpu, bit, false);
		}
	}
}

/* What a list register says of an interrupt that is pending. */
static inline u64 pending_lr(const struct vgic_cpu *cpu, struct place p)
{
	const struct vgic_bank *bank = p.bank;
	u32 i = __builtin_ctz(p.bit), intid = p.b * 32 + i;
	u64 lr = intid | field_set(bank->priority[i], LR_PRIORITY) | LR_PENDING;

	lr |= bank->group1 & p.bit ? LR_GROUP1 : 0;
	if (p.b != 0) {
		return lr | (bank->level & ~bank->edge & p.bit ? LR_EOI : 0);
	}
	return lr | (cpu->hw & p.bit ? LR_HW | field_set(intid, LR_PINTID) : 0);
}

static inline void insert(struct vgic_cpu *cpu, u32 n, struct place p)
{
	struct vgic_bank *bank = p.bank;
	u32 i = __builtin_ctz(p.bit);

	if (p.b != 0) {
		cpu->gic->holder[p.b * 32 + i - VGIC_PRIVATE] = cpu->id;
	} else {
		cpu->private_lr[i] = n;
	}
	bank->in_lr |= p.bit;
	bank->latched |= bank->pending & p.bit;
	bank->pending &= ~p.bit;
	cpu->lr_used |= 1u << n;
	lr_write(cpu, n, pending_lr(cpu, p));
	count_add(&cpu->gic->vm->counters.irqs_injected, 1);
}

/* The same interrupt ended in its LR, and nothing else happened to it since: the LR is its own
 * again. */
static inline bool rearm(struct vgic_cpu *cpu, u32 n, struct place p)
{
	u64 lr = ich_read_lr(n);

	if ((lr & (LR_STATE | LR_EOI)) || ((p.bank->touched | p.bank->pending) & p.bit)) {
		return false;
	}
	p.bank->latched |= p.bit;
	lr_write(cpu, n, pending_lr(cpu, p));
	count_add(&cpu->gic->vm->counters.irqs_injected, 1);
	return true;
}

/* Nothing waits, so nothing more urgent can be passed by. */
bool vgic_deliver_now(struct vgic_cpu *cpu, u32 intid)
{
	struct vgic_bank *bank = &cpu->bank;
	u32 bit = 1u << intid, room = ~cpu->lr_used & cpu->gic->lr_mask;

	struct place p = {bank, 0, bit};

	if (unlikely(cpu->waiting | cpu->evicted_banks) ||
	    !(vgic_allowed(cpu->gic, bank) & ~bank->active & bit)) {
		return false;
	}
	if (bank->in_lr & bit) {
		return rearm(cpu, cpu->private_lr[intid], p);
	}
	if (!room) {
		return false;
	}
	bank->pending |= bit;
	insert(cpu, __builtin_ctz(room), p);
	return true;
}

static u32 rank_of(u32 priority, bool group1, u64 vmcr)
{
	return priority | (vmcr & (group1 ? VMCR_VENG1 : VMCR_VENG0) ? 0 : RANK_GROUP_OFF);
}

static u32 lr_rank(u64 lr, u64 vmcr)
{
	return rank_of(field_get(lr, LR_PRIORITY), (lr & LR_GROUP1) != 0, vmcr);
}

/* The most urgent that waits, and its rank; bit 0 where nothing does. Looks at banks that wait
 * only. */
static struct place most_urgent(struct vgic_cpu *cpu, u64 vmcr, u32 *rank)
{
	struct place best = {NULL, 0, 0};

	*rank = ~0u;
	for (u32 banks = cpu->waiting; banks; banks &= banks - 1) {
		u32 b = __builtin_ctz(banks);
		struct vgic_bank *bank = vgic_bank_at(cpu->gic, cpu, b);
		u32 ready = vgic_ready(cpu->gic, bank) & cpu->routed[b];

		if (!ready) {
			cpu->waiting &= ~BIT(b);
		}
		for (; ready; ready &= ready - 1) {
			u32 bit = ready & -ready;
			u32 r = rank_of(bank->priority[__builtin_ctz(ready)],
					(bank->group1 & bit) != 0, vmcr);

			if (r < *rank) {
				best = (struct place){bank, b, bit};
				*rank = r;
			}
		}
	}
	return best;
}

/* The least urgent LR that is pending only, or not so; -1 where there is none. LR copies are fresh.
 */
static int least_urgent_lr(const struct vgic_cpu *cpu, u64 vmcr, bool pending_only)
{
	int worst = -1;

	for (u32 left = cpu->lr_used; left; left &= left - 1) {
		int n = __builtin_ctz(left);

		if (((cpu->lr[n] & LR_STATE) == LR_PENDING) == pending_only &&
		    (worst < 0 || lr_rank(cpu->lr[n], vmcr) > lr_rank(cpu->lr[worst], vmcr))) {
			worst = n;
		}
	}
	return worst;
}

/* An active LR's interrupt goes to software until the guest ends it. */
static void evict(struct vgic_cpu *cpu, u32 n)
{
	struct place p = place_of(cpu, cpu->lr[n]);

	p.bank->pending |= cpu->lr[n] & LR_PENDING ? p.bank->latched & p.bit : 0;
	p.bank->active |= p.bit;
	cpu->evicted[p.b] |= p.bit;
	cpu->evicted_banks |= BIT(p.b);
	let_go(cpu, n, p);
}

/*
 * All LRs are taken and something waits. Ends: each round but the first puts something in that is
 * more urgent than what comes out, and what went in is never the next to come out.
 */
static void displace(struct vgic_cpu *cpu)
{
	u64 vmcr = vmcr_of(cpu);
	u32 rank;

	for (;;) {
		struct place p = most_urgent(cpu, vmcr, &rank);
		int n = least_urgent_lr(cpu, vmcr, true);

		if (!p.bit || (n >= 0 && lr_rank(cpu->lr[n], vmcr) <= rank)) {
			return;
		}
		if (n >= 0) {
			retract(cpu, n, place_of(cpu, cpu->lr[n]));
		} else {
			n = least_urgent_lr(cpu, vmcr, false);
			evict(cpu, n);
		}
		insert(cpu, n, p);
	}
}

/* What ICH_HCR_EL2 has to ask for, beside being on. */
static u64 maintenance_bits(const struct vgic_cpu *cpu)
{
	u64 vmcr, hcr = 0;

	if (cpu->waiting) {
		vmcr = vmcr_of(cpu);
		hcr |= HCR_NPIE;
		hcr |= vmcr & VMCR_VENG0 ? HCR_VGRP0DIE : HCR_VGRP0EIE;
		hcr |= vmcr & VMCR_VENG1 ? HCR_VGRP1DIE : HCR_VGRP1EIE;
	}
	if (cpu->evicted_banks) {
		hcr |= HCR_LRENPIE | HCR_TDIR;
	}
	return hcr | (cpu->gic->forced ? HCR_TDIR : 0);
}

static inline void fill(struct vgic_cpu *cpu)
{
	u32 room = ~cpu->lr_used & cpu->gic->lr_mask;
	u64 hcr = HCR_EN;

	for (u32 banks = cpu->waiting; banks; banks &= banks - 1) {
		u32 b = __builtin_ctz(banks);
		struct vgic_bank *bank = vgic_bank_at(cpu->gic, cpu, b);
		u32 ready = vgic_ready(cpu->gic, bank) & cpu->routed[b];

		for (; ready && room; ready &= ready - 1, room &= room - 1) {
			insert(cpu, __builtin_ctz(room), (struct place){bank, b, ready & -ready});
		}
		if (unlikely(ready)) {
			displace(cpu);
			break;
		}
		cpu->waiting &= ~BIT(b);
	}
	if (unlikely(cpu->waiting | cpu->evicted_banks | cpu->gic->forced)) {
		hcr |= maintenance_bits(cpu);
	}
	if (hcr != cpu->hcr) {
		cpu->hcr = hcr;
		if (cpu->loaded) {
			ich_write_hcr(hcr);
		}
	}
}

void vgic_end_evicted(struct vgic_cpu *cpu, u32 b, u32 mask)
{
	struct vgic_bank *bank = vgic_bank_at(cpu->gic, cpu, b);

	cpu->evicted[b] &= ~mask;
	if (!cpu->evicted[b]) {
		cpu->evicted_banks &= ~BIT(b);
	}
	bank->active &= ~mask;
	vgic_offer(cpu->gic, cpu, b, mask);
}

/* Ends are nested, so the most urgent of the evicted ended first. */
static void end_most_urgent(struct vgic_cpu *cpu)
{
	u32 best = ~0u, best_b = 0, best_bit = 0;

	for (u32 banks = cpu->evicted_banks; banks; banks &= banks - 1) {
		u32 b = __builtin_ctz(banks);
		struct vgic_bank *bank = vgic_bank_at(cpu->gic, cpu, b);

		for (u32 left = cpu->evicted[b]; left; left &= left - 1) {
			u32 i = __builtin_ctz(left);

			if (bank->priority[i] < best) {
				best = bank->priority[i];
				best_b = b;
				best_bit = 1u << i;
			}
		}
	}
	vgic_end_evicted(cpu, best_b, best_bit);
	if (best_b == 0 && (cpu->hw & best_bit)) {
		hw_end(cpu, best_bit, false);
	}
}

/* How many interrupts without an LR the guest ended since the last look. */
static void count_ends(struct vgic_cpu *cpu)
{
	u64 ends = cpu->loaded ? field_get(ich_read_hcr(), HCR_EOICOUNT) : 0;

	if (!ends) {
		return;
	}
	ich_write_hcr(cpu->hcr); /* the count starts again */
	if (ich_read_vmcr() & VMCR_VEOIM) {
		return; /* these were priority drops; ICC_DIR_EL1 is trapped */
	}
	for (; ends && cpu->evicted_banks; ends--) {
		end_most_urgent(cpu);
	}
}

void vgic_refresh(struct vgic_cpu *cpu, bool resample)
{
	struct vgic *gic = cpu->gic;

	if (unlikely(cpu->evicted_banks)) {
		count_ends(cpu);
	}
	if (resample && cpu->hw && cpu->loaded) {
		resample_timers(cpu);
	}
	fold(cpu, resample && cpu->loaded);
	fill(cpu);
	store_relaxed(&cpu->stale, false);
	if (cpu->loaded) { /* all done here that others would ask for */
		gic->recall &= ~BIT(cpu->id);
		gic->notify &= ~BIT(cpu->id);
	}
}

void vgic_sync(struct vcpu *vcpu)
{
	struct vgic_cpu *cpu = vgic_cpu_of(vcpu);

	vgic_lock(cpu->gic);
	vgic_refresh(cpu, true);
	vgic_unlock(cpu->gic);
}

void vgic_maintain(struct vcpu *vcpu)
{
	vgic_sync(vcpu);
}

static void set_timers_active(const struct vgic_cpu *cpu, bool active)
{
	for (u32 left = cpu->hw; left; left &= left - 1) {
		gic_set_ppi_active(__builtin_ctz(left), active);
	}
}

void vgic_load(struct vcpu *vcpu)
{
	struct vgic_cpu *cpu = vgic_cpu_of(vcpu);
	struct vgic *gic = cpu->gic;

	vgic_lock(gic);
	vgic_refresh(cpu, false);
	gic->notify &= ~BIT(cpu->id);
	cpu->loaded = true;
	ich_write_vmcr(cpu->vmcr);
	for (u32 n = 0; n < ich_ap_count(); n++) {
		ich_write_ap0r(n, cpu->ap0r[n]);
		ich_write_ap1r(n, cpu->ap1r[n]);
	}
	for (u32 left = cpu->lr_used; left; left &= left - 1) {
		u32 n = __builtin_ctz(left);

		ich_write_lr(n, cpu->lr[n]);
	}
	ich_write_hcr(cpu->hcr);
	if (unlikely(cpu->hw)) {
		set_timers_active(cpu, true);
		gic->notify |= BIT(cpu->id); /* resampled when the guest's timers are there */
	}
	vgic_unlock(gic);
}

/* No resampling: the guest's timers are off already, so their lines say nothing. */
void vgic_put(struct vcpu *vcpu)
{
	struct vgic_cpu *cpu = vgic_cpu_of(vcpu);

	vgic_lock(cpu->gic);
	if (unlikely(cpu->evicted_banks)) {
		count_ends(cpu);
	}
	fold(cpu, false);
	for (u32 left = cpu->lr_used; left; left &= left - 1) {
		ich_write_lr(__builtin_ctz(left), 0);
	}
	ich_write_hcr(0);
	cpu->vmcr = ich_read_vmcr();
	for (u32 n = 0; n < ich_ap_count(); n++) {
		cpu->ap0r[n] = ich_read_ap0r(n);
		cpu->ap1r[n] = ich_read_ap1r(n);
	}
	set_timers_active(cpu, false);
	cpu->loaded = false;
	store_relaxed(&cpu->stale, false);
	vgic_unlock(cpu->gic);
}

void vgic_abandon(struct vgic_cpu *cpu)
{
	for (u32 left = cpu->lr_used; left; left &= left - 1) {
		u32 n = __builtin_ctz(left);
		struct place p = place_of(cpu, cpu->lr[n]);

		p.bank->active |= cpu->lr[n] & LR_ACTIVE ? p.bit : 0;
		retract(cpu, n, p);
	}
}

static u32 lr_bits(const struct vgic_cpu *cpu, u32 b, u64 state, bool *any)
{
	u32 bits = 0;

	for (u32 left = cpu->lr_used; left; left &= left - 1) {
		u64 lr = cpu->lr[__builtin_ctz(left)];

		if (lr % VGIC_INTIDS / 32 == b) {
			*any = true;
			bits |= lr & state ? 1u << lr % 32 : 0;
		}
	}
	return bits;
}

u32 vgic_lr_bits(struct vgic_cpu *self, struct vgic_cpu *owner, u32 b, u64 state)
{
	struct vgic *gic = self->gic;
	u32 bits = 0;

	for (u32 id = 0; id < gic->vm->vcpu_count; id++) {
		struct vgic_cpu *cpu = vgic_cpu_at(gic, id);
		bool any = false;

		if (cpu && (b != 0 || cpu == owner)) {
			bits |= lr_bits(cpu, b, state, &any);
		}
		if (any && cpu->loaded && cpu != self) {
			gic->notify |=
				BIT(id); /* so that who asks again hears what is true by then */
		}
	}
	return bits;
}

/*
 * Would the CPU interface signal an interrupt of this rank? The running priority is left out: a WFI
 * inside a handler may end early, which is allowed, and cannot sleep for ever.
 */
static bool passes(u32 rank, u64 vmcr)
{
	return rank < field_get(vmcr, VMCR_VPMR);
}

bool vgic_has_pending(struct vcpu *vcpu)
{
	struct vgic_cpu *cpu = vgic_cpu_of(vcpu);
	bool found;
	u64 vmcr;
	u32 rank;

	vgic_lock(cpu->gic);
	if (cpu->loaded) {
		vgic_refresh(cpu, true);
	}
	vmcr = vmcr_of(cpu);
	most_urgent(cpu, vmcr, &rank);
	found = passes(rank, vmcr);
	for (u32 left = cpu->lr_used; left && !found; left &= left - 1) {
		u64 lr = cpu->lr[__builtin_ctz(left)];

		found = (lr & LR_STATE) == LR_PENDING && passes(lr_rank(lr, vmcr), vmcr);
	}
	vgic_unlock(cpu->gic);
	return found;
}
