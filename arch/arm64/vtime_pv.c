/*
 * Paravirtual time (DEN0057): the page of records, made at the first call.
 *
 * The VM holds a reference of its own besides that of the mapping, so a record can be written
 * whatever becomes of the guest's address space. A reset leaves the page mapped: it is no RAM.
 */
#include "vtime_pv.h"

#include "hyp/frame.h"

#include "arch/cpu.h"

#include "guest_map.h"
#include "vsmccc.h"

/* The VM's page, made now if this is the first to ask; NULL: no memory. vCPUs may race here. */
static void *page_of(struct vm *vm)
{
	void *page = load_acquire(&vm->arch.stolen_page);
	void *expected = NULL;

	if (page != NULL) {
		return page;
	}

	hpa_t fresh = frame_alloc(ORDER_4K, FRAME_GUEST, vm->number);

	if (hpa_is_none(fresh)) {
		return NULL;
	}
	frame_of(fresh)->gfn = GUEST_PV_TIME_BASE >> PAGE_SHIFT;
	page = hpa_ptr(fresh);
	arch_zero(page, PAGE_SIZE);
	if (__atomic_compare_exchange_n(&vm->arch.stolen_page, &expected, page, false,
					__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		return page;
	}
	frame_put(fresh);
	return expected;
}

/* The mapping takes a reference of its own over; where one is there already, it goes back. */
static bool map_page(struct vm *vm, void *page)
{
	struct s2_attr attr = {.perm = S2_READ, .memory = vm->s2.format->ram};
	enum status status;

	frame_get(ptr_hpa(page));
	status = s2_map(&vm->s2, gpa(GUEST_PV_TIME_BASE), ptr_hpa(page), PAGE_SIZE, attr, S2_ERROR);
	if (status != OK) {
		frame_put(ptr_hpa(page));
	}
	return status == OK || status == EXISTS;
}

static u64 stolen_time(struct vcpu *vcpu)
{
	void *page = page_of(vcpu->vm);

	if (page == NULL || !map_page(vcpu->vm, page)) {
		return SMCCC_NOT_SUPPORTED;
	}
	vcpu->arch.stolen_gpa = GUEST_PV_TIME_BASE + vcpu->id * sizeof(struct vtime_pv_record);
	vtime_pv_write(vcpu);
	return vcpu->arch.stolen_gpa;
}

u64 vtime_pv_call(struct vcpu *vcpu, u32 function)
{
	switch (function) {
	case PV_TIME_FEATURES:
		return (u32)vcpu->arch.x[1] == PV_TIME_FEATURES ||
				       (u32)vcpu->arch.x[1] == PV_TIME_ST
			       ? SMCCC_SUCCESS
			       : SMCCC_NOT_SUPPORTED;
	case PV_TIME_ST:
		return stolen_time(vcpu);
	}
	return SMCCC_NOT_SUPPORTED;
}

/* One store: the guest reads without a lock (DEN0057 3.2.2). */
void vtime_pv_write(struct vcpu *vcpu)
{
	struct vtime_pv_record *records = vcpu->vm->arch.stolen_page;

	store_relaxed(&records[vcpu->id].stolen_ns, vcpu->stolen_ns);
}

void vtime_pv_fini(struct vm *vm)
{
	if (vm->arch.stolen_page != NULL) {
		frame_put(ptr_hpa(vm->arch.stolen_page));
		vm->arch.stolen_page = NULL;
	}
}
