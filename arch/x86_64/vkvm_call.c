#include "vkvm_call.h"

#include <linux/kvm_para.h>

#include "hyp/vcpu.h"

#include "vapic_message.h"

/* Linux's numbers, which its header leaves to <errno.h>. */
#define ANSWER_NOT_PERMITTED (-1ll)
#define ANSWER_INVALID (-22ll)
#define ANSWER_NOT_THERE (-(s64)KVM_ENOSYS)

/* The command register's low half, as KVM_HC_SEND_IPI has it: physical destinations, one by one. */
#define ICR_VECTOR BITS(7, 0)
#define ICR_MODE BITS(10, 8)
#define ICR_LOGICAL BIT(11)
#define ICR_SHORTHAND BITS(19, 18)

static struct vcpu *named(struct vcpu *vcpu, u64 id)
{
	return id < vcpu->vm->vcpu_count ? vcpu->vm->vcpus[id] : NULL;
}

/* ---- Wake, and give way ---------------------------------------------------------------------- */

static s64 kick(struct vcpu *vcpu, u64 id, const struct vkvm_call_ops *ops)
{
	struct vcpu *target = named(vcpu, id);

	if (target) {
		ops->kick(target);
		atomic_add(&vcpu->vm->counters.pv_kicks, 1);
	}
	return 0;
}

static s64 yield(struct vcpu *vcpu, u64 id, const struct vkvm_call_ops *ops)
{
	struct vcpu *target = named(vcpu, id);

	if (target && ops->yield(target)) {
		atomic_add(&vcpu->vm->counters.pv_yields, 1);
	}
	return 0;
}

/* ---- Interrupts to many ---------------------------------------------------------------------- */

static bool is_legal_ipi(const struct vapic_message *message, u64 icr)
{
	return !(icr & (ICR_LOGICAL | ICR_SHORTHAND)) &&
	       (message->mode == VAPIC_NMI ||
		(message->mode == VAPIC_FIXED && message->vector >= VAPIC_VECTOR_FIRST));
}

/* Two words of the caller's width, the first of which begins at `first`. */
static bool is_in_set(const struct vkvm_call *call, u32 id, u64 first)
{
	u64 width = call->wide ? 64 : 32, n = id - first;

	return id >= first && n < 2 * width && (call->args[n / width] >> n % width & 1);
}

/* How many took it. */
static s64 send_ipis(struct vcpu *vcpu, const struct vkvm_call *call,
		     const struct vkvm_call_ops *ops)
{
	u64 first = call->args[2], icr = call->args[3];
	struct vapic_message message = {
		.vector = (u8)field_get(icr, ICR_VECTOR),
		.mode = (u8)field_get(icr, ICR_MODE),
		.shorthand = VAPIC_TO_DESTINATION,
		.wide = true,
	};
	s64 taken = 0;

	if (!is_legal_ipi(&message, icr)) {
		return ANSWER_INVALID;
	}
	for (u32 id = 0; id < vcpu->vm->vcpu_count; id++) {
		if (is_in_set(call, id, first)) {
			message.destination = id;
			taken += ops->send(vcpu->vm->vcpus[id], &message);
		}
	}
	return taken;
}

/* ---- All ------------------------------------------------------------------------------------- */

static s64 answer(struct vcpu *vcpu, const struct vkvm_call *call, const struct vkvm_call_ops *ops)
{
	if (!call->kernel) {
		return ANSWER_NOT_PERMITTED;
	}
	switch (call->number) {
	case KVM_HC_VAPIC_POLL_IRQ:
		return 0;     /* what is pending is delivered after any exit */
	case KVM_HC_KICK_CPU: /* args[0]: flags, of which there are none */
		return kick(vcpu, call->args[1], ops);
	case KVM_HC_SEND_IPI:
		return send_ipis(vcpu, call, ops);
	case KVM_HC_SCHED_YIELD:
		return yield(vcpu, call->args[0], ops);
	default:
		return ANSWER_NOT_THERE;
	}
}

u64 vkvm_call(struct vcpu *vcpu, const struct vkvm_call *call, const struct vkvm_call_ops *ops)
{
	struct vkvm_call narrow = *call;

	if (call->wide) {
		return (u64)answer(vcpu, call, ops);
	}
	narrow.number = (u32)call->number;
	for (u32 i = 0; i < ARRAY_COUNT(narrow.args); i++) {
		narrow.args[i] = (u32)call->args[i];
	}
	return (u32)answer(vcpu, &narrow, ops);
}
