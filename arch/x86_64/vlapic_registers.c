/*
 * The registers of the local APIC, by page and by MSR (SDM volume 3A, 10.4.1 and 10.12.1).
 *
 * Both ways are one: a register has a number, a row below says who may do what with it, and two
 * switches do it. What differs is how nonsense is answered. An x2APIC faults on a register that is
 * not there, on a write of one that is read-only, and on a reserved bit that is set; an xAPIC
 * reads 0, writes what can be written, and notes an error if there is no such register.
 */
#include "vlapic_state.h"

#define VERSION (0x14u | (VLAPIC_LVTS - 1) << 16)
#define X_ID_SHIFT 24
#define X_LDR_WRITABLE 0xff000000u
#define DFR_MODEL 0xf0000000u
#define ICR_HIGH_X BITS(63, 56)
#define SVR_WRITABLE 0x3ff     /* focus checking, bit 9, is kept and means nothing */
#define LVT_PENDING BIT(12)    /* delivery status, which is always "idle" */
#define LVT_REMOTE_IRR BIT(14) /* of LINT0 and LINT1, where no level ever comes in */

/* Who may do what. */
#define R BIT(0) /* xAPIC reads */
#define W BIT(1)
#define R2 BIT(2) /* x2APIC reads */
#define W2 BIT(3)

struct facts {
	u8 access;    /* 0: there is no such register */
	u32 writable; /* bits */
	u32 ignored;  /* bits that may be written without effect */
};

static const struct facts facts[VLAPIC_REGISTERS] = {
	[VLAPIC_ID] = {R | R2, 0, 0},
	[VLAPIC_VERSION] = {R | R2, 0, 0},
	[VLAPIC_TPR] = {R | W | R2 | W2, 0xff, 0},
	[VLAPIC_PPR] = {R | R2, 0, 0},
	[VLAPIC_EOI] = {W | W2, 0, 0},
	[VLAPIC_LDR] = {R | W | R2, X_LDR_WRITABLE, 0},
	[VLAPIC_DFR] = {R | W, DFR_MODEL, 0},
	[VLAPIC_SVR] = {R | W | R2 | W2, SVR_WRITABLE, 0},
	[VLAPIC_ISR... VLAPIC_IRR + 7] = {R | R2, 0, 0},
	[VLAPIC_ESR] = {R | W | R2 | W2, 0, 0},
	[VLAPIC_ICR] = {R | W | R2 | W2, 0xccfff, LVT_PENDING},
	[VLAPIC_ICR_HIGH] = {R | W, 0xff000000, 0},
	[VLAPIC_LVT + VLAPIC_LVT_TIMER] = {R | W | R2 | W2, 0x700ff, LVT_PENDING},
	[VLAPIC_LVT + VLAPIC_LVT_THERMAL] = {R | W | R2 | W2, 0x107ff, LVT_PENDING},
	[VLAPIC_LVT + VLAPIC_LVT_PERFORMANCE] = {R | W | R2 | W2, 0x107ff, LVT_PENDING},
	[VLAPIC_LVT + VLAPIC_LVT_LINT0] = {R | W | R2 | W2, 0x1a7ff, LVT_PENDING | LVT_REMOTE_IRR},
	[VLAPIC_LVT + VLAPIC_LVT_LINT1] = {R | W | R2 | W2, 0x1a7ff, LVT_PENDING | LVT_REMOTE_IRR},
	[VLAPIC_LVT + VLAPIC_LVT_ERROR] = {R | W | R2 | W2, 0x100ff, LVT_PENDING},
	[VLAPIC_TIMER_INITIAL] = {R | W | R2 | W2, 0xffffffff, 0},
	[VLAPIC_TIMER_CURRENT] = {R | R2, 0, 0},
	[VLAPIC_TIMER_DIVIDE] = {R | W | R2 | W2, 0xb, 0},
	[VLAPIC_SELF_IPI] = {W2, 0xff, 0},
};

/* ---- Reading: `reg` may be read -------------------------------------------------------------- */

/* One of the eight registers that show 256 bits. */
static u32 read_vectors(const u64 *vectors, u32 n)
{
	return load_relaxed(&vectors[n / 2]) >> 32 * (n % 2);
}

static u32 read_register(struct vlapic *v, u32 reg, u64 now)
{
	switch (reg) {
	case VLAPIC_ID:
		return vlapic_mode(v) == VLAPIC_X2 ? v->id : v->id << X_ID_SHIFT;
	case VLAPIC_VERSION:
		return VERSION;
	case VLAPIC_TPR:
		return v->tpr;
	case VLAPIC_PPR:
		return vlapic_ppr(v);
	case VLAPIC_LDR:
		return vlapic_logical_id(v);
	case VLAPIC_DFR:
		return v->dfr;
	case VLAPIC_SVR:
		return v->svr;
	case VLAPIC_ISR ... VLAPIC_ISR + 7:
		return read_vectors(v->isr, reg - VLAPIC_ISR);
	case VLAPIC_TMR ... VLAPIC_TMR + 7:
		return read_vectors(v->tmr, reg - VLAPIC_TMR);
	case VLAPIC_IRR ... VLAPIC_IRR + 7:
		return read_vectors(v->irr, reg - VLAPIC_IRR);
	case VLAPIC_ESR:
		return v->esr;
	case VLAPIC_ICR:
		return (u32)v->icr;
	case VLAPIC_ICR_HIGH:
		return v->icr >> 32;
	case VLAPIC_LVT ... VLAPIC_LVT + VLAPIC_LVTS - 1:
		return v->lvt[reg - VLAPIC_LVT];
	case VLAPIC_TIMER_INITIAL:
		return v->timer_initial;
	case VLAPIC_TIMER_CURRENT:
		return vlapic_timer_current(v, now);
	case VLAPIC_TIMER_DIVIDE:
		return v->timer_divide;
	}
	return 0;
}

/* ---- Writing: `reg` may be written, and `value` has writable bits only ----------------------- */

/* Software's disabling masks all of the LVT (10.4.7.2), and enabling leaves it so. */
static void write_svr(struct vlapic *v, u32 value)
{
	store_relaxed(&v->svr, value);
	for (u32 i = 0; i < VLAPIC_LVTS && !(value & SVR_ENABLE); i++) {
		store_relaxed(&v->lvt[i], v->lvt[i] | LVT_MASKED);
	}
}

static void write_lvt(struct vlapic *v, u32 lvt, u64 now, u32 value)
{
	if (!(v->svr & SVR_ENABLE)) {
		value |= LVT_MASKED;
	}
	if (lvt == VLAPIC_LVT_TIMER) {
		vlapic_timer_write_lvt(v, now, value);
	} else {
		store_relaxed(&v->lvt[lvt], value);
	}
}

static void write_register(struct vlapic *v, u32 reg, u64 now, u32 value)
{
	switch (reg) {
	case VLAPIC_TPR:
		store_relaxed(&v->tpr, value);
		return;
	case VLAPIC_EOI:
		vlapic_write_eoi(v);
		return;
	case VLAPIC_LDR:
		store_relaxed(&v->ldr, value);
		return;
	case VLAPIC_DFR:
		store_relaxed(&v->dfr, value | ~DFR_MODEL);
		return;
	case VLAPIC_SVR:
		vlapic_timer_expire(v, now);
		write_svr(v, value);
		return;
	case VLAPIC_ESR:
		v->esr = atomic_swap(&v->errors, 0);
		return;
	case VLAPIC_ICR:
		vlapic_write_icr(v, (v->icr & ICR_HIGH_X) | value);
		return;
	case VLAPIC_ICR_HIGH:
		v->icr = (u64)value << 32 | (u32)v->icr;
		return;
	case VLAPIC_LVT ... VLAPIC_LVT + VLAPIC_LVTS - 1:
		write_lvt(v, reg - VLAPIC_LVT, now, value);
		return;
	case VLAPIC_TIMER_INITIAL:
		vlapic_timer_write_initial(v, now, value);
		return;
	case VLAPIC_TIMER_DIVIDE:
		vlapic_timer_write_divide(v, now, value);
		return;
	case VLAPIC_SELF_IPI:
		vlapic_write_self_ipi(v, value);
		return;
	}
}

/* ---- The page -------------------------------------------------------------------------------- */

/* The number of the register at `offset`, if the guest may do what `access` says; else 0. */
static u32 page_register(struct vlapic *v, u32 offset, u8 access)
{
	u32 reg = offset / 16;

	if (offset % 16 != 0) {
		return 0;
	}
	if (reg >= VLAPIC_REGISTERS || !(facts[reg].access & (R | W))) {
		vlapic_error(v, ERROR_REGISTER);
		return 0;
	}
	return facts[reg].access & access ? reg : 0;
}

u32 vlapic_read(struct vlapic *v, u32 offset, u64 now)
{
	if (vlapic_mode(v) != VLAPIC_X) {
		return ~0u;
	}
	return read_register(v, page_register(v, offset, R), now);
}

void vlapic_write(struct vlapic *v, u32 offset, u64 now, u32 value)
{
	u32 reg;

	if (vlapic_mode(v) != VLAPIC_X) {
		return;
	}
	reg = page_register(v, offset, W);
	write_register(v, reg, now, value & facts[reg].writable);
}

/* ---- The MSRs -------------------------------------------------------------------------------- */

static bool msr_allowed(const struct vlapic *v, u32 msr, u8 access)
{
	u32 reg = msr - VLAPIC_MSR_FIRST;

	return vlapic_mode(v) == VLAPIC_X2 && reg < VLAPIC_REGISTERS && facts[reg].access & access;
}

bool vlapic_read_msr(struct vlapic *v, u32 msr, u64 now, u64 *value)
{
	u32 reg = msr - VLAPIC_MSR_FIRST;

	if (msr == VLAPIC_MSR_BASE) {
		*value = v->base;
		return true;
	}
	if (msr == VLAPIC_MSR_TSC_DEADLINE) {
		*value = vlapic_timer_read_deadline(v, now);
		return true;
	}
	if (!msr_allowed(v, msr, R2)) {
		return false;
	}
	*value = reg == VLAPIC_ICR ? v->icr : read_register(v, reg, now);
	return true;
}

/* The one register of 64 bits: the high half is a destination, any. */
static bool write_icr_msr(struct vlapic *v, u64 value)
{
	const struct facts *icr = &facts[VLAPIC_ICR];

	if ((u32)value & ~(icr->writable | icr->ignored)) {
		return false;
	}
	vlapic_write_icr(v, value & ~(u64)icr->ignored);
	return true;
}

bool vlapic_write_msr(struct vlapic *v, u32 msr, u64 now, u64 value)
{
	u32 reg = msr - VLAPIC_MSR_FIRST;

	if (msr == VLAPIC_MSR_TSC_DEADLINE) {
		vlapic_timer_write_deadline(v, now, value);
		return true;
	}
	if (msr == VLAPIC_MSR_BASE) {
		return vlapic_write_base(v, value);
	}
	if (!msr_allowed(v, msr, W2)) {
		return false;
	}
	if (reg == VLAPIC_ICR) {
		return write_icr_msr(v, value);
	}
	if (value & ~(u64)(facts[reg].writable | facts[reg].ignored)) {
		return false;
	}
	write_register(v, reg, now, value & facts[reg].writable);
	return true;
}
