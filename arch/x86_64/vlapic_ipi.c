/*
 * Interrupts from CPU to CPU: the command register, and who is meant (SDM volume 3A, 10.6, 10.7 and
 * 10.12.9, 10.12.10).
 *
 * An IPI that this CPU alone gets by shorthand is posted here. All others are messages, and whoever
 * knows all vCPUs asks vlapic_matches() of each.
 */
#include "vlapic_state.h"

#define ICR_VECTOR BITS(7, 0)
#define ICR_MODE BITS(10, 8)
#define ICR_LOGICAL BIT(11)
#define ICR_ASSERT BIT(14)
#define ICR_LEVEL BIT(15)
#define ICR_SHORTHAND BITS(19, 18)
#define ICR_DESTINATION_X BITS(63, 56)
#define ICR_DESTINATION_X2 BITS(63, 32)

#define LDR_X BITS(31, 24)
#define DFR_FLAT 0xffffffffu
#define DFR_CLUSTER 0x0fffffffu
/* Of a logical id: which cluster, and a bit for each CPU in it. */
#define X_CLUSTER 0xf0u
#define X_CPUS 0x0fu
#define X2_CLUSTER 0xffff0000u
#define X2_CPUS 0x0000ffffu

/* ---- Sending --------------------------------------------------------------------------------- */

/* Always edge-triggered: the trigger bit is for INIT's second half only (10.6.1). */
static struct vapic_message decode(const struct vlapic *v, u64 icr)
{
	bool wide = vlapic_mode(v) == VLAPIC_X2;

	return (struct vapic_message){
		.destination = field_get(icr, wide ? ICR_DESTINATION_X2 : ICR_DESTINATION_X),
		.vector = field_get(icr, ICR_VECTOR),
		.mode = field_get(icr, ICR_MODE),
		.shorthand = field_get(icr, ICR_SHORTHAND),
		.logical = icr & ICR_LOGICAL,
		.wide = wide,
	};
}

/*
 * Table 10-3: what goes to oneself, too, is FIXED only. INIT's level de-assert did something long
 * ago (10.6.1), SMI has nobody to take it here, and the rest is reserved.
 */
static bool is_sent(const struct vapic_message *message, u64 icr)
{
	bool to_self = message->shorthand == VAPIC_TO_SELF || message->shorthand == VAPIC_TO_ALL;

	switch (message->mode) {
	case VAPIC_FIXED:
		return true;
	case VAPIC_INIT:
		return !to_self && ((icr & ICR_ASSERT) || !(icr & ICR_LEVEL));
	case VAPIC_LOWEST:
	case VAPIC_NMI:
	case VAPIC_STARTUP:
		return !to_self;
	}
	return false;
}

void vlapic_write_self_ipi(struct vlapic *v, u8 vector)
{
	if (vector < VAPIC_VECTOR_FIRST) {
		vlapic_error(v, ERROR_SEND_VECTOR);
		return;
	}
	vlapic_post(v, vector, false);
}

void vlapic_write_icr(struct vlapic *v, u64 icr)
{
	struct vapic_message message = decode(v, icr);

	v->icr = icr;
	if (!is_sent(&message, icr)) {
		return;
	}
	if (message.shorthand == VAPIC_TO_SELF) {
		vlapic_write_self_ipi(v, message.vector);
	} else if (vapic_is_vector(&message) && message.vector < VAPIC_VECTOR_FIRST) {
		vlapic_error(v, ERROR_SEND_VECTOR);
	} else {
		v->ops->send(v, &message);
	}
}

/* ---- Who is meant ---------------------------------------------------------------------------- */

/* Sixteen x2APICs are a cluster (10.12.10.2). */
u32 vlapic_logical_id(const struct vlapic *v)
{
	if (vlapic_mode(v) != VLAPIC_X2) {
		return load_relaxed(&v->ldr);
	}
	return (v->id >> 4) << 16 | (u32)BIT(v->id & 15);
}

/* 10.6.2.2. */
static bool is_logical_x(const struct vlapic *target, u32 destination)
{
	u32 id = field_get(vlapic_logical_id(target), LDR_X);
	u32 model = load_relaxed(&target->dfr);

	if (destination > 0xff) {
		return false;
	}
	if (model == DFR_CLUSTER) {
		return (id & X_CLUSTER) == (destination & X_CLUSTER) && id & destination & X_CPUS;
	}
	return model == DFR_FLAT && id & destination;
}

static bool is_destination(const struct vlapic *target, const struct vapic_message *message)
{
	u32 destination = message->destination, id;

	if (destination == (message->wide ? ~0u : 0xffu)) {
		return true;
	}
	if (!message->logical) {
		return destination == target->id;
	}
	if (vlapic_mode(target) == VLAPIC_X) {
		return is_logical_x(target, destination);
	}
	id = vlapic_logical_id(target);
	return (id & X2_CLUSTER) == (destination & X2_CLUSTER) && id & destination & X2_CPUS;
}

bool vlapic_matches(const struct vlapic *target, const struct vlapic *source,
		    const struct vapic_message *message)
{
	if (vlapic_mode(target) == VLAPIC_OFF) {
		return false;
	}
	if (vapic_is_vector(message) && !vlapic_takes_vectors(target)) {
		return false;
	}
	switch (message->shorthand) {
	case VAPIC_TO_SELF:
		return target == source;
	case VAPIC_TO_ALL:
		return true;
	case VAPIC_TO_OTHERS:
		return target != source;
	}
	return is_destination(target, message);
}
