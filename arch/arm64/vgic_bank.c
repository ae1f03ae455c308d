/*
 * The registers that every bank of 32 interrupts has, in the distributor and in each redistributor
 * alike: bit registers, priorities, configuration (IHI 0069, 12.9 and 12.11).
 *
 * A write works on the bank where no LR holds the interrupt. Where one does, it leaves a wish
 * (drop_pending, drop_active, make_active, or just `touched`), which the holder fulfils before its
 * guest runs on. The later of two opposite wishes stands.
 */
#include "vgic_state.h"

#include "ich.h"

#define PRIORITY_MASK 0xf8u /* 5 bits, as many as the virtual CPU interface has at least */

/* A timer whose interrupt is in flight is pending as well as long as its line is high. */
static u32 timer_lines(const struct vgic_cpu *cpu)
{
	u32 bits = 0;

	for (u32 left = cpu->hw; left; left &= left - 1) {
		u32 intid = __builtin_ctz(left);

		bits |= gic_ppi_is_pending(intid) ? 1u << intid : 0;
	}
	return bits;
}

/* Active or pending states as the guest is to see them; those in this CPU's LRs are read first. */
static u32 state_read(struct vgic_cpu *self, struct vgic_cpu *owner, u32 b, u64 state)
{
	struct vgic_bank *bank = vgic_bank_at(self->gic, owner, b);
	u32 bits;

	vgic_lock(self->gic);
	if (self->loaded) {
		vgic_refresh(self, true);
	}
	bits = state == LR_PENDING ? vgic_signalled(bank) : bank->active;
	bits |= vgic_lr_bits(self, owner, b, state);
	if (b == 0 && owner == self && state == LR_PENDING) {
		bits |= timer_lines(self);
	}
	vgic_unlock(self->gic);
	return bits;
}

u32 vgic_bits_read(struct vgic_cpu *self, struct vgic_cpu *owner, u32 b, u32 kind)
{
	const struct vgic_bank *bank = vgic_bank_at(self->gic, owner, b);

	switch (kind) {
	case VGIC_IGROUPR:
		return load_relaxed(&bank->group1);
	case VGIC_ISENABLER:
	case VGIC_ICENABLER:
		return load_relaxed(&bank->enabled);
	case VGIC_ISPENDR:
	case VGIC_ICPENDR:
		return state_read(self, owner, b, LR_PENDING);
	case VGIC_ISACTIVER:
	case VGIC_ICACTIVER:
		return state_read(self, owner, b, LR_ACTIVE);
	default:
		return 0;
	}
}

/* A timer's pending state is its line: no write clears it; it goes when the line is found low. */
static void clear_pending(struct vgic_bank *bank, struct vgic_cpu *owner, u32 b, u32 mask)
{
	mask &= b == 0 ? ~owner->hw : ~0u;
	bank->pending &= ~mask;
	bank->drop_pending |= mask & bank->in_lr;
}

static void set_active(struct vgic *gic, struct vgic_bank *bank, u32 mask)
{
	u32 held = mask & bank->in_lr;

	bank->drop_active &= ~held;
	bank->make_active |= held;
	if (mask & ~held & ~bank->active) {
		bank->active |= mask & ~held;
		gic->forced = true; /* no LR will know: ICC_DIR_EL1 must come here */
	}
}

static void clear_active(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 mask)
{
	struct vgic_bank *bank = vgic_bank_at(gic, owner, b);
	u32 held = mask & bank->in_lr;

	bank->make_active &= ~held;
	bank->drop_active |= held;
	mask &= bank->active;
	bank->active &= ~mask;
	for (u32 id = 0; mask && id < gic->vm->vcpu_count; id++) {
		struct vgic_cpu *cpu = vgic_cpu_at(gic, id);

		if (cpu && (b != 0 || cpu == owner) && (cpu->evicted[b] & mask)) {
			vgic_end_evicted(cpu, b, mask);
			gic->recall |= BIT(id); /* a timer's physical interrupt may be due to end */
		}
	}
}

void vgic_bits_write(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 kind, u32 value,
		     u32 lanes)
{
	struct vgic_bank *bank = vgic_bank_at(gic, owner, b);

	switch (kind) {
	case VGIC_IGROUPR:
		value = (bank->group1 ^ value) & lanes;
		store_relaxed(&bank->group1, bank->group1 ^ value);
		break;
	case VGIC_ISENABLER:
		value &= ~bank->enabled;
		store_relaxed(&bank->enabled, bank->enabled | value);
		break;
	case VGIC_ICENABLER:
		value &= bank->enabled;
		store_relaxed(&bank->enabled, bank->enabled & ~value);
		break;
	case VGIC_ISPENDR:
		bank->pending |= value;
		break;
	case VGIC_ICPENDR:
		clear_pending(bank, owner, b, value);
		break;
	case VGIC_ISACTIVER:
		set_active(gic, bank, value);
		break;
	case VGIC_ICACTIVER:
		clear_active(gic, owner, b, value);
		break;
	default:
		return;
	}
	vgic_changed(gic, owner, b, value);
}

u32 vgic_priority_read(const struct vgic_bank *bank, u32 first)
{
	u32 value = 0;

	for (u32 i = 0; i < 4; i++) {
		value |= (u32)load_relaxed(&bank->priority[first + i]) << 8 * i;
	}
	return value;
}

void vgic_priority_write(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 first, u32 value,
			 u32 lanes)
{
	struct vgic_bank *bank = vgic_bank_at(gic, owner, b);
	u32 changed = 0;

	for (u32 i = 0; i < 4; i++) {
		u8 priority = (u8)(value >> 8 * i) & PRIORITY_MASK;

		if ((u8)(lanes >> 8 * i) && priority != bank->priority[first + i]) {
			store_relaxed(&bank->priority[first + i], priority);
			changed |= 1u << (first + i);
		}
	}
	vgic_changed(gic, owner, b, changed);
}

/* Two bits an interrupt, the upper one says edge (12.9.9); `half` is 0 or 1 of the bank. */
u32 vgic_config_read(const struct vgic_bank *bank, u32 half)
{
	u32 edge = load_relaxed(&bank->edge) >> 16 * half, value = 0;

	for (u32 i = 0; i < 16; i++) {
		value |= (edge >> i & 1) << (2 * i + 1);
	}
	return value;
}

void vgic_config_write(struct vgic *gic, struct vgic_cpu *owner, u32 b, u32 half, u32 value,
		       u32 lanes)
{
	struct vgic_bank *bank = vgic_bank_at(gic, owner, b);
	u32 changed = 0;

	if (b == 0 && half == 0) {
		return; /* SGIs are edges */
	}
	for (u32 i = 0; i < 16; i++) {
		u32 at = 1u << (2 * i + 1), bit = 1u << (16 * half + i);

		if ((lanes & at) && !(value & at) != !(bank->edge & bit)) {
			changed |= bit;
		}
	}
	store_relaxed(&bank->edge, bank->edge ^ changed);
	vgic_changed(gic, owner, b, changed);
}

u64 vgic_read_sized(struct vgic_cpu *self, u64 offset, unsigned size, vgic_read_fn read)
{
	u64 value;

	if (!is_aligned(offset, size)) {
		return 0;
	}
	if (size == 8) {
		value = read(self, offset);
		return value | (u64)read(self, offset + 4) << 32;
	}
	value = read(self, align_down(offset, 4)) >> 8 * (offset & 3);
	return size >= 4 ? value : value & BITS(8 * size - 1, 0);
}

void vgic_write_sized(struct vgic_cpu *self, u64 offset, unsigned size, u64 value,
		      vgic_write_fn write)
{
	u32 shift = 8 * (offset & 3);
	u32 lanes = size >= 4 ? ~0u : (u32)BITS(8 * size - 1, 0) << shift;

	if (!is_aligned(offset, size)) {
		return;
	}
	vgic_lock(self->gic);
	write(self, align_down(offset, 4), (u32)(value << shift) & lanes, lanes);
	if (size == 8) {
		write(self, offset + 4, value >> 32, lanes);
	}
	vgic_unlock(self->gic);
}

u32 vgic_id_read(u64 offset, u32 part)
{
	static const u8 ids[] = {0x44, 0, 0, 0, 0, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1};
	u64 i = (offset - VGIC_ID_REGISTERS) / 4;

	return i == 4 ? part : i < ARRAY_COUNT(ids) ? ids[i] : 0;
}
