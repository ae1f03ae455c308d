#include "voffer.h"

#include "arch/vm.h"
#include "hyp/vm_dirty.h"

#include "s2_ept.h"
#include "s2_machine.h"
#include "vmcs.h"
#include "vmx.h"

#define LOG_ENTRIES 512
#define LOG_LAST (LOG_ENTRIES - 1)

static void offer(struct vm *vm, u32 control, bool on)
{
	if (on) {
		atomic_or(&vm->arch.offers, control);
	} else {
		atomic_and(&vm->arch.offers, ~control);
	}
}

bool arch_vm_log_writes(struct vm *vm, bool on)
{
	offer(vm, CPU2_LOG, on && vmx.log);
	return on && vmx.log;
}

bool arch_vm_has_views(const struct vm *vm)
{
	return vm->arch.view_list != NULL;
}

/* View 0 first. A CPU reads an entry when its guest asks for it, so each is written whole. */
void arch_vm_offer_views(struct vm *vm)
{
	const struct s2 *spaces[1 + VM_VIEWS_MAX] = {&vm->s2};

	if (vm->arch.view_list == NULL) {
		return;
	}
	for (u32 i = 0; i < vm->view_count; i++) {
		spaces[1 + i] = vm->views[i];
	}
	s2_ept_list(vm->arch.view_list, spaces, 1 + vm->view_count, vmx.ept_flags);
	offer(vm, CPU2_FUNCTIONS, vm->view_count > 0);
}

void voffer_take(struct vcpu *vcpu)
{
	u32 offers = load_relaxed(&vcpu->vm->arch.offers);

	if (offers & ~vcpu->arch.offers & CPU2_LOG) {
		vmcs_write(VMCS_LOG, (u64)vcpu->arch.log);
		vmcs_write(VMCS_LOG_INDEX, LOG_LAST);
	}
	if (offers & ~vcpu->arch.offers & CPU2_FUNCTIONS) {
		vmcs_write(VMCS_EPTP_LIST, (u64)vcpu->vm->arch.view_list);
		vmcs_write(VMCS_FUNCTIONS, FUNCTION_SWITCH_EPTP);
	}
	vmcs_write(VMCS_CPU_CONTROLS2, vmx.cpu2 | offers);
	vcpu->arch.offers = offers;
}

/* The index has gone down from the last entry to the one that would be written next: to -1, 16 bits
 * wide, when all are. */
static void empty_log(struct vcpu *vcpu)
{
	u16 index = (u16)vmcs_read(VMCS_LOG_INDEX);
	u32 first = (u16)(index + 1);

	if (first < LOG_ENTRIES) {
		vm_dirty_log(vcpu->vm, &vcpu->arch.log[first], LOG_ENTRIES - first);
		vmcs_write(VMCS_LOG_INDEX, LOG_LAST);
	}
}

void voffer_left(struct vcpu *vcpu)
{
	if (vcpu->arch.offers & CPU2_LOG) {
		empty_log(vcpu);
	}
}

u8 voffer_view(const struct vcpu *vcpu)
{
	const struct vm *vm = vcpu->vm;
	u64 pointer = vmcs_read(VMCS_EPTP);
	u8 view = 0;

	while (view < vm->view_count && vm->arch.view_list[view] != pointer) {
		view++;
	}
	return view;
}
