/*
 * The virtual local APIC as a whole: how it begins, and the three modes it can be in (SDM volume
 * 3A, 10.4.3, 10.4.7 and 10.12.5).
 *
 *     off <----> xAPIC ----> x2APIC
 *      ^                        |
 *      '------------------------'
 *
 * Being off forgets everything but the id, so whoever comes from there starts as after power-up.
 */
#include "vlapic_state.h"

#define SVR_RESET 0xffu
#define DFR_RESET 0xffffffffu
#define BASE_LOW_RESERVED (BITS(7, 0) | BIT(9))

void vlapic_init(struct vlapic *v, u32 id, bool boot_cpu, u32 physical_bits,
		 const struct vlapic_ops *ops)
{
	v->ops = ops;
	v->id = id;
	v->boot_cpu = boot_cpu;
	v->base_reserved = BASE_LOW_RESERVED | BITS(63, physical_bits);
	vlapic_reset(v, false);
}

/* Others may be posting: whatever they read or write meanwhile is atomic. */
static void reset_registers(struct vlapic *v)
{
	store_relaxed(&v->svr, SVR_RESET);
	for (u32 i = 0; i < VLAPIC_WORDS; i++) {
		store_once(&v->irr[i], 0);
		store_once(&v->tmr[i], 0);
		store_relaxed(&v->isr[i], 0);
	}
	for (u32 i = 0; i < VLAPIC_LVTS; i++) {
		store_relaxed(&v->lvt[i], LVT_MASKED);
	}
	store_relaxed(&v->errors, 0);
	store_relaxed(&v->tpr, 0);
	store_relaxed(&v->ldr, 0);
	store_relaxed(&v->dfr, DFR_RESET);
	v->esr = 0;
	v->icr = 0;
	v->timer_divide = 0;
	vlapic_timer_stop(v);
}

void vlapic_reset(struct vlapic *v, bool init_only)
{
	if (!init_only) {
		store_relaxed(&v->base, VLAPIC_PAGE_DEFAULT | BASE_ENABLE |
						(v->boot_cpu ? BASE_BOOT_CPU : 0));
	}
	reset_registers(v);
}

u64 vlapic_page(const struct vlapic *v)
{
	return vlapic_mode(v) == VLAPIC_X ? v->base & VLAPIC_BASE_ADDRESS : VLAPIC_PAGE_NONE;
}

static bool may_become(enum vlapic_mode from, u64 to)
{
	switch (to) {
	case VLAPIC_OFF:
		return true;
	case VLAPIC_X:
		return from != VLAPIC_X2;
	case VLAPIC_X2:
		return from != VLAPIC_OFF;
	}
	return false;
}

bool vlapic_write_base(struct vlapic *v, u64 base)
{
	enum vlapic_mode from = vlapic_mode(v);

	if ((base & v->base_reserved) || !may_become(from, base & (BASE_ENABLE | BASE_X2))) {
		return false;
	}
	store_relaxed(&v->base, base);
	if (vlapic_mode(v) == VLAPIC_OFF) {
		reset_registers(v);
	} else if (from == VLAPIC_X && vlapic_mode(v) == VLAPIC_X2) {
		v->icr = (u32)v->icr;
	}
	return true;
}
