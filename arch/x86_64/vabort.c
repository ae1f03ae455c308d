/*
 * Memory that nobody answers: neither RAM nor a device. A PC's bus has no fault for that; reads are
 * ones, and writes are lost. What is made of those ones is up to who reads them.
 */
#include "arch_enter.h"

#include "arch/vm.h"

#include "vinject.h"

#define PF_PRESENT BIT(0)
#define PF_USER BIT(2)
#define PF_RESERVED BIT(3)

static u64 ones_for(const struct exit *e)
{
	if (e->sign_extend) {
		return e->wide ? ~0ull : (u32)~0u;
	}
	return BITS(8 * e->size - 1, 0);
}

static void access_nothing(struct vcpu *vcpu)
{
	struct exit *e = &vcpu->exit;

	arch_vcpu_decode_access(vcpu);
	if (!e->decoded) {
		vinject_exception(vcpu, EXCEPTION_GP, 0);
		return;
	}
	e->reason = EXIT_MMIO;
	if (e->access != ACCESS_WRITE) {
		arch_vcpu_set_reg(vcpu, e->reg, ones_for(e));
	}
	arch_vcpu_skip(vcpu);
}

/* A table of ones: its entry is present, and its reserved bits are set. What was to be done with
 * the memory is not known. */
static void fault_on_table(struct vcpu *vcpu)
{
	bool user = field_get(vmcs_read(VMCS_GUEST_SS_RIGHTS), RIGHTS_LEVEL) == 3;

	write_cr(2, vmcs_read(VMCS_GUEST_LINEAR));
	vinject_exception(vcpu, EXCEPTION_PF, PF_PRESENT | PF_RESERVED | (user ? PF_USER : 0));
}

void arch_vcpu_inject_abort(struct vcpu *vcpu)
{
	const struct exit *e = &vcpu->exit;

	if (e->view != 0) { /* there is memory, and the view forbids it */
		vinject_exception(vcpu, EXCEPTION_GP, 0);
	} else if (e->table_walk) {
		fault_on_table(vcpu);
	} else if (e->access & ACCESS_EXEC) {
		vinject_exception(vcpu, EXCEPTION_UD, 0); /* ones are no instruction */
	} else if (e->reason == EXIT_MEMORY) {
		access_nothing(vcpu);
	} else {
		vinject_exception(vcpu, EXCEPTION_GP, 0);
	}
}
