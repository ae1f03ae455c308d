/*
 * The local APIC's timer (SDM volume 3A, 10.5.4).
 *
 * Nothing counts here. A timer that runs has the time when it will fire, and a count is read out of
 * that and of the time now. So every change first lets happen what was due (expire), reads the
 * count if it has to go on, and sets a new time.
 *
 * A period is at most 2^39 ticks, and times saturate: behind the end of a guest's TSC is never.
 */
#include "hyp/time.h"

#include "vlapic_state.h"

#define LVT_TIMER_MODE BITS(18, 17)
enum timer_mode { ONE_SHOT = 0, PERIODIC = 1, TSC_DEADLINE = 2 }; /* 3 is reserved: nothing runs */

static enum timer_mode mode_of(u32 lvt)
{
	return (enum timer_mode)field_get(lvt, LVT_TIMER_MODE);
}

static enum timer_mode mode_now(const struct vlapic *v)
{
	return mode_of(v->lvt[VLAPIC_LVT_TIMER]);
}

static bool counts(enum timer_mode mode)
{
	return mode == ONE_SHOT || mode == PERIODIC;
}

static u64 add_saturated(u64 a, u64 b)
{
	return a > ~0ull - b ? ~0ull : a + b;
}

/* Ticks of a count are a power of two: figure 10-10 has 2, 4, ... 128, 1. */
static u32 divide_shift(u32 divide)
{
	return ((divide & 3) + (divide >> 1 & 4) + 1) & 7;
}

static u64 period_ticks(const struct vlapic *v)
{
	return (u64)v->timer_initial << divide_shift(v->timer_divide);
}

void vlapic_timer_stop(struct vlapic *v)
{
	v->timer_initial = 0;
	v->timer_at = 0;
	v->timer_on = false;
}

u64 vlapic_timer_deadline(const struct vlapic *v)
{
	return v->timer_on ? v->timer_at : TIME_NEVER;
}

/* ---- Firing ---------------------------------------------------------------------------------- */

/* What a periodic timer missed is one interrupt: the request register holds no more. */
static void restart_period(struct vlapic *v, u64 now)
{
	u64 period = period_ticks(v), late = now - v->timer_at;

	v->timer_at = add_saturated(now, period - late % period);
}

bool vlapic_timer_expire(struct vlapic *v, u64 now)
{
	u32 lvt = v->lvt[VLAPIC_LVT_TIMER];

	if (!v->timer_on || now < v->timer_at) {
		return false;
	}
	if (mode_of(lvt) == PERIODIC) {
		restart_period(v, now);
	} else {
		v->timer_on = false;
	}
	return !(lvt & LVT_MASKED) && vlapic_post(v, lvt & LVT_VECTOR, false);
}

/* ---- Counting: one-shot and periodic ----------------------------------------------------------
 */

/* What is begun of a count is not yet gone from it, so this rounds up. */
static u32 count_of(const struct vlapic *v, u64 ticks)
{
	u32 shift = divide_shift(v->timer_divide);
	u64 count = (ticks >> shift) + ((ticks & (BIT(shift) - 1)) != 0);

	return (u32)min_u64(count, v->timer_initial);
}

u32 vlapic_timer_current(const struct vlapic *v, u64 now)
{
	u64 period = period_ticks(v);

	if (!v->timer_on || !counts(mode_now(v))) {
		return 0;
	}
	if (now < v->timer_at) {
		return count_of(v, v->timer_at - now);
	}
	return mode_now(v) == PERIODIC ? count_of(v, period - (now - v->timer_at) % period) : 0;
}

static void run_count(struct vlapic *v, u64 now, u32 count)
{
	v->timer_on = count != 0;
	v->timer_at = add_saturated(now, (u64)count << divide_shift(v->timer_divide));
}

/* Ignored while the timer is not one that counts (10.5.4.1). */
void vlapic_timer_write_initial(struct vlapic *v, u64 now, u32 count)
{
	vlapic_timer_expire(v, now);
	if (counts(mode_now(v))) {
		v->timer_initial = count;
		run_count(v, now, count);
	}
}

/* The count goes on from where it is, at the new pace. */
void vlapic_timer_write_divide(struct vlapic *v, u64 now, u32 divide)
{
	u32 count;

	vlapic_timer_expire(v, now);
	count = vlapic_timer_current(v, now);
	v->timer_divide = divide;
	if (counts(mode_now(v))) {
		run_count(v, now, count);
	}
}

/* Between one-shot and periodic the count goes on; any other change of mode stops all. */
void vlapic_timer_write_lvt(struct vlapic *v, u64 now, u32 lvt)
{
	enum timer_mode to = mode_of(lvt), from = mode_now(v);

	vlapic_timer_expire(v, now);
	if (from != to && !(counts(from) && counts(to))) {
		vlapic_timer_stop(v);
	}
	store_relaxed(&v->lvt[VLAPIC_LVT_TIMER], lvt);
}

/* ---- TSC deadline, 10.5.4.1 --------------------------------------------------------------------
 */

u64 vlapic_timer_read_deadline(struct vlapic *v, u64 now)
{
	vlapic_timer_expire(v, now);
	return mode_now(v) == TSC_DEADLINE && v->timer_on ? v->timer_at : 0;
}

void vlapic_timer_write_deadline(struct vlapic *v, u64 now, u64 deadline)
{
	vlapic_timer_expire(v, now);
	if (mode_now(v) == TSC_DEADLINE) {
		v->timer_at = deadline;
		v->timer_on = deadline != 0;
	}
}
