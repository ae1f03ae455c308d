/*
 * An interrupt's way through the local APIC: requested, in service, ended (SDM volume 3A, 10.8).
 *
 * Who posts and who accepts meet in one word of the IRR, by atomic operations, and nowhere else. A
 * post that comes too late for vlapic_pending() has set its bit after that looked, and its poster
 * tells the vCPU afterwards: so it looks again.
 */
#include "vlapic_state.h"

#define CLASS 0xf0u /* of a vector or a priority; within one class nothing interrupts */

/* The highest, or the lowest, vector of a register; VLAPIC_NOTHING where there is none. */
static int highest(const u64 *vectors)
{
	for (int i = VLAPIC_WORDS - 1; i >= 0; i--) {
		u64 word = load_once(&vectors[i]);

		if (word) {
			return 64 * i + 63 - __builtin_clzll(word);
		}
	}
	return VLAPIC_NOTHING;
}

static int lowest(const u64 *vectors)
{
	for (int i = 0; i < VLAPIC_WORDS; i++) {
		u64 word = load_once(&vectors[i]);

		if (word) {
			return 64 * i + __builtin_ctzll(word);
		}
	}
	return VLAPIC_NOTHING;
}

/* ---- In ------------------------------------------------------------------------------------- */

static bool is_level(const struct vlapic *v, u32 vector)
{
	return load_relaxed(&v->tmr[vector / 64]) >> vector % 64 & 1;
}

/* The trigger mode is there before the request is. It rarely changes, and then costs something. */
static void set_trigger(struct vlapic *v, u8 vector, bool level)
{
	u64 *word = &v->tmr[vector / 64], bit = BIT(vector % 64);

	if (is_level(v, vector) == level) {
		return;
	}
	if (level) {
		atomic_or(word, bit);
	} else {
		atomic_and(word, ~bit);
	}
}

bool vlapic_post(struct vlapic *v, u8 vector, bool level)
{
	if (!vlapic_takes_vectors(v)) {
		return false;
	}
	if (vector < VAPIC_VECTOR_FIRST) {
		return vlapic_error(v, ERROR_RECEIVE_VECTOR);
	}
	set_trigger(v, vector, level);
	return !(atomic_or(&v->irr[vector / 64], BIT(vector % 64)) & BIT(vector % 64));
}

/* An error vector that is illegal itself is a second error, so this ends there. */
bool vlapic_error(struct vlapic *v, u32 error)
{
	u32 lvt = load_relaxed(&v->lvt[VLAPIC_LVT_ERROR]);

	if (atomic_or(&v->errors, error) || (lvt & LVT_MASKED)) {
		return false;
	}
	return vlapic_post(v, lvt & LVT_VECTOR, false);
}

/* ---- Priorities, 10.8.3.1 ------------------------------------------------------------------- */

u8 vlapic_ppr(const struct vlapic *v)
{
	u32 tpr = load_relaxed(&v->tpr);
	int serving = highest(v->isr);
	u32 class = serving < 0 ? 0 : (u32)serving & CLASS;

	return (tpr & CLASS) >= class ? tpr : class;
}

u64 vlapic_tpr(const struct vlapic *v)
{
	return v->tpr >> 4;
}

bool vlapic_set_tpr(struct vlapic *v, u64 cr8)
{
	if (cr8 > 15) {
		return false;
	}
	store_relaxed(&v->tpr, (u32)cr8 << 4);
	return true;
}

/* ---- Through, and out ----------------------------------------------------------------------- */

int vlapic_pending(const struct vlapic *v)
{
	int vector = highest(v->irr);

	if (vector < 0 || (vector & CLASS) <= (vlapic_ppr(v) & CLASS)) {
		return VLAPIC_NOTHING;
	}
	return vector;
}

void vlapic_accept(struct vlapic *v, u8 vector)
{
	u64 *serving = &v->isr[vector / 64];

	atomic_and(&v->irr[vector / 64], ~BIT(vector % 64));
	store_relaxed(serving, *serving | BIT(vector % 64));
}

struct vlapic_ended vlapic_eoi(struct vlapic *v)
{
	int vector = highest(v->isr);
	u64 *serving;

	if (vector < 0) {
		return (struct vlapic_ended){VLAPIC_NOTHING, false};
	}
	serving = &v->isr[vector / 64];
	store_relaxed(serving, *serving & ~BIT(vector % 64));
	return (struct vlapic_ended){vector, is_level(v, vector)};
}

void vlapic_write_eoi(struct vlapic *v)
{
	struct vlapic_ended ended = vlapic_eoi(v);

	if (ended.level) {
		v->ops->level_ended(v, ended.vector);
	}
}

/* What waits for the end is of the class in service, or a lower one: the least urgent tells. */
bool vlapic_can_skip_eoi(const struct vlapic *v)
{
	int serving = highest(v->isr), waiting = lowest(v->irr);

	if (serving < 0 || serving != lowest(v->isr)) {
		return false;
	}
	if (waiting >= 0 && (waiting & CLASS) <= (serving & CLASS)) {
		return false;
	}
	return !is_level(v, serving);
}
