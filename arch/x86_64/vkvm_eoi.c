#include "vkvm_eoi.h"

#include <asm/kvm_para.h>

#include "hyp/atomic.h"
#include "hyp/vm_reach.h"

#include "vlapic.h"

#define EOI_RESERVED BIT(1) /* four bytes, aligned */
#define EOI_BYTES 4

static gpa_t place(u64 msr)
{
	return gpa(msr & ~(u64)KVM_MSR_ENABLED);
}

/* The guest clears the bit by an instruction that is not locked: it is not running now. */
static void swap_word(void *context, void *bytes)
{
	u32 *value = context;

	*value = atomic_swap((u32 *)bytes, *value);
}

void vkvm_eoi_offer(struct vm *vm, struct vkvm_eoi *eoi, const struct vlapic *lapic)
{
	u32 value = KVM_PV_EOI_ENABLED;

	if (!(eoi->msr & KVM_MSR_ENABLED) || eoi->offered || !vlapic_can_skip_eoi(lapic)) {
		return;
	}
	eoi->offered = vm_reach_present(vm, place(eoi->msr), EOI_BYTES, swap_word, &value) == OK;
}

/* It was edge-triggered when it was offered; a level of the same vector may have come since, and
 * then its end is told as the register's would be. */
static void end_interrupt(struct vm *vm, struct vlapic *lapic)
{
	struct vlapic_ended ended = vlapic_eoi(lapic);

	atomic_add(&vm->counters.eois_skipped, 1);
	if (ended.level) {
		lapic->ops->level_ended(lapic, (u8)ended.vector);
	}
}

void vkvm_eoi_take_back(struct vm *vm, struct vkvm_eoi *eoi, struct vlapic *lapic)
{
	u32 value = KVM_PV_EOI_DISABLED;

	if (likely(!eoi->offered)) {
		return;
	}
	eoi->offered = false;
	if (vm_reach(vm, place(eoi->msr), EOI_BYTES, swap_word, &value) != OK) {
		vm_crash(vm, "no free memory to see the end of an interrupt at 0x%llx",
			 (unsigned long long)place(eoi->msr).v);
	} else if (!(value & KVM_PV_EOI_MASK)) {
		end_interrupt(vm, lapic);
	}
}

bool vkvm_eoi_set(struct vm *vm, struct vkvm_eoi *eoi, struct vlapic *lapic, u64 value)
{
	u32 none = KVM_PV_EOI_DISABLED;

	if (value & EOI_RESERVED) {
		return false;
	}
	if ((value & KVM_MSR_ENABLED) && !vm_memory_contains(vm, place(value), EOI_BYTES)) {
		return false;
	}
	vkvm_eoi_take_back(vm, eoi, lapic);
	if ((value & KVM_MSR_ENABLED) &&
	    vm_reach(vm, place(value), EOI_BYTES, swap_word, &none) != OK) {
		return false;
	}
	eoi->msr = value;
	return true;
}
