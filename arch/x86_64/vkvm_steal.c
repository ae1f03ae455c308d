#include "vkvm_steal.h"

#include <asm/kvm_para.h>

#include "hyp/atomic.h"
#include "hyp/vm_reach.h"

/* A record of 64 bytes lies in one page, as it is aligned so. */
static_assert(sizeof(struct kvm_steal_time) == 64, "the MSR's reserved bits say 64");

struct renewal {
	u64 stolen_ns;
	u8 was; /* `preempted`, as it was taken */
};

static gpa_t place(const struct vkvm_steal *steal)
{
	return gpa(steal->msr & ~(u64)KVM_MSR_ENABLED);
}

/*
 * The byte goes by an exchange: who asked before it is heard, who comes later sees the vCPU running
 * and sends an interrupt. `version` is odd while the rest changes; the guest may have written there
 * what it likes.
 */
static void renew(void *context, void *bytes)
{
	struct kvm_steal_time *record = bytes;
	struct renewal *r = context;
	u32 odd = (load_relaxed(&record->version) + 1) | 1;

	r->was = atomic_swap(&record->preempted, 0);
	store_relaxed(&record->version, odd);
	store_release(&record->steal, r->stolen_ns);
	store_release(&record->version, odd + 1);
}

static void mark_preempted(unused void *context, void *bytes)
{
	store_release(&((struct kvm_steal_time *)bytes)->preempted, KVM_VCPU_PREEMPTED);
}

bool vkvm_steal_set(struct vm *vm, struct vkvm_steal *steal, u64 value, u64 stolen_ns)
{
	struct vkvm_steal wanted = {.msr = value};
	struct renewal r = {.stolen_ns = stolen_ns};

	if (value & KVM_STEAL_RESERVED_MASK) {
		return false;
	}
	if ((value & KVM_MSR_ENABLED) &&
	    vm_reach(vm, place(&wanted), sizeof(struct kvm_steal_time), renew, &r) != OK) {
		return false;
	}
	*steal = wanted;
	return true;
}

void vkvm_steal_tell_preempted(struct vm *vm, const struct vkvm_steal *steal)
{
	if (steal->msr & KVM_MSR_ENABLED) {
		vm_reach_present(vm, place(steal), sizeof(struct kvm_steal_time), mark_preempted,
				 NULL);
	}
}

bool vkvm_steal_take_up(struct vm *vm, const struct vkvm_steal *steal, u64 stolen_ns)
{
	struct renewal r = {.stolen_ns = stolen_ns};

	if (!(steal->msr & KVM_MSR_ENABLED)) {
		return false;
	}
	if (vm_reach(vm, place(steal), sizeof(struct kvm_steal_time), renew, &r) != OK) {
		vm_crash(vm, "no free memory for its record of stolen time at 0x%llx",
			 (unsigned long long)place(steal).v);
		return false;
	}
	if (!(r.was & KVM_VCPU_FLUSH_TLB)) {
		return false;
	}
	atomic_add(&vm->counters.pv_flushes, 1);
	return true;
}
