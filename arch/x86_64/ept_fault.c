#include "ept_fault.h"

#include <asm/vmx.h>

#include "hyp/log.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"
#include "hyp/vm_view.h"

#include "s2_machine.h"
#include "vmx.h"

static bool is_misconfigured(const struct vcpu *vcpu)
{
	return vcpu->arch.exit_reason == EXIT_REASON_EPT_MISCONFIG;
}

/* Where EPT has flags, the CPU's accesses to the guest's own tables are writes (29.3.3.2). */
static u8 access_of(const struct exit *e)
{
	return e->access | (e->table_walk && vmx.ept_flags ? ACCESS_WRITE : 0);
}

/* The one that the CPU walked. */
static struct s2 *space_of(struct vcpu *vcpu)
{
	struct s2 *view = vm_view(vcpu->vm, vcpu->exit.view);

	return view ? view : &vcpu->vm->s2;
}

bool ept_fault_is_mistake(struct vcpu *vcpu)
{
	const struct exit *e = &vcpu->exit;
	struct s2_ept_patience *patience = &vcpu->arch.patience;
	u8 access = access_of(e);
	struct s2_ept_walk walk;

	if (!s2_ept_check_repeats(patience, e->gpa, access) && !is_misconfigured(vcpu)) {
		return false;
	}
	walk = s2_ept_check_walk(space_of(vcpu), s2_machine_cpu(), e->gpa);
	return s2_ept_check_mistake(&walk) ||
	       s2_ept_check_gives_up(patience, s2_ept_check_explains(&walk, access));
}

static void log_walk(const struct vm *vm, gpa_t at, const struct s2_ept_walk *walk)
{
	log_error("d%u: EPT, as hardware walks it for guest-physical 0x%lx:", vm->number, at.v);
	for (u32 i = 0; i < walk->count; i++) {
		const struct s2_ept_step *step = &walk->steps[i];

		log_error("d%u: level %u: entry 0x%016lx at 0x%lx %s", vm->number, step->level,
			  step->entry, step->at.v, s2_ept_check_text(step->verdict));
	}
}

/* The exit is counted as what it has turned out to be. */
void ept_fault_crash(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	gpa_t at = vcpu->exit.gpa;
	struct s2_ept_walk walk = s2_ept_check_walk(space_of(vcpu), s2_machine_cpu(), at);
	const struct s2_ept_step *step = s2_ept_check_mistake(&walk);
	const char *name = is_misconfigured(vcpu) ? "misconfiguration" : "violation";

	log_walk(vm, at, &walk);
	if (step) {
		vm_crash(vm,
			 "vCPU %u: EPT %s at guest-physical 0x%lx: Lamina's entry of level %u %s",
			 vcpu->id, name, at.v, step->level, s2_ept_check_text(step->verdict));
	} else {
		vm_crash(vm,
			 "vCPU %u: EPT %s at guest-physical 0x%lx that Lamina's tables do not "
			 "explain",
			 vcpu->id, name, at.v);
	}
	vcpu->exit.reason = EXIT_UNKNOWN;
}
