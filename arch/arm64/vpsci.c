/*
 * PSCI 1.1 (DEN0022): a guest turns CPUs and itself on and off.
 *
 * All numbers come from the guest. CPU_ON is decided by vcpu_on() alone, which lets exactly one of
 * racing callers through. Calls that do not return leave the registers alone: vm_reset() may have
 * set them anew by then.
 *
 * CPU_SUSPEND waits as WFI does. A state that keeps the context returns; one that powers down comes
 * back at the entry point with registers as after power-on. The GIC and the timers are in another
 * power domain (the device tree says always-on), so they keep their state and can wake the CPU.
 * Functions that are optional and not here (SYSTEM_SUSPEND, CPU_FREEZE, statistics, MIGRATE...) are
 * not supported.
 */
#include "vpsci.h"

#include "hyp/vcpu.h"

#include "el1.h"
#include "sysreg.h"
#include "vsmccc.h"

/* CPU_SUSPEND's power_state in the original format, DEN0022 5.4.2: type, level and the platform's
 * id. */
#define POWER_STATE_DOWN BIT(16)
#define POWER_STATE_MUST_BE_ZERO (BITS(31, 26) | BITS(23, 17))

#define RESET2_WARM 0

#define LEVELS 4

static u64 affinity(const struct vcpu *vcpu)
{
	return vcpu->arch.vmpidr & MPIDR_AFFINITY;
}

/* NULL: no such CPU, or bits set that no affinity has. */
static struct vcpu *find_target(const struct vm *vm, u64 target)
{
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		if (affinity(vm->vcpus[i]) == target) {
			return vm->vcpus[i];
		}
	}
	return NULL;
}

/* May an AArch64 CPU start there? An instruction, all of it in RAM. */
static bool is_entry_good(const struct vm *vm, u64 entry)
{
	return is_aligned(entry, 4) && vm_memory_contains(vm, gpa(entry), 4);
}

static u64 cpu_on(const struct vcpu *caller)
{
	struct vcpu *target = find_target(caller->vm, vsmccc_argument(caller, 1));
	u64 entry = vsmccc_argument(caller, 2);

	if (target == NULL) {
		return PSCI_INVALID_PARAMETERS;
	}
	if (!is_entry_good(caller->vm, entry)) {
		return PSCI_INVALID_ADDRESS;
	}
	switch (vcpu_on(target, entry, vsmccc_argument(caller, 3))) {
	case OK:
		return PSCI_SUCCESS;
	case EXISTS:
		return PSCI_ALREADY_ON;
	default:
		return PSCI_INTERNAL_FAILURE; /* the whole VM is on its way out */
	}
}

/* On if any CPU below that node is on. */
static u64 affinity_info(const struct vcpu *caller)
{
	static const u64 below[LEVELS] = {0, MPIDR_AFF0, MPIDR_AFF0 | MPIDR_AFF1,
					  MPIDR_AFF0 | MPIDR_AFF1 | MPIDR_AFF2};
	const struct vm *vm = caller->vm;
	u64 level = (u32)caller->arch.x[2];
	u64 answer = PSCI_INVALID_PARAMETERS;

	if (level >= LEVELS) {
		return PSCI_INVALID_PARAMETERS;
	}

	u64 target = vsmccc_argument(caller, 1) & ~below[level];

	for (u32 i = 0; i < vm->vcpu_count; i++) {
		if ((affinity(vm->vcpus[i]) & ~below[level]) != target) {
			continue;
		}
		if (vcpu_is_on(vm->vcpus[i])) {
			return PSCI_AFFINITY_ON;
		}
		answer = PSCI_AFFINITY_OFF;
	}
	return answer;
}

/* Registers whose value after power-on is defined; the others may be anything, so they stay. */
static void power_down(struct vcpu *vcpu, u64 entry, u64 context)
{
	for (u32 i = 0; i < ARRAY_COUNT(vcpu->arch.x); i++) {
		vcpu->arch.x[i] = 0;
	}
	vcpu->arch.x[0] = context;
	vcpu->arch.pc = entry;
	vcpu->arch.pstate = PSTATE_RESET;
	el1_write(EL1_SCTLR, SCTLR_EL1_RESET);
	el1_write(EL1_MDSCR, 0);
}

static void cpu_suspend(struct vcpu *vcpu)
{
	u64 state = (u32)vcpu->arch.x[1];
	u64 entry = vsmccc_argument(vcpu, 2);

	if (state & POWER_STATE_MUST_BE_ZERO) {
		vcpu->arch.x[0] = PSCI_INVALID_PARAMETERS;
		return;
	}
	if (!(state & POWER_STATE_DOWN)) {
		vcpu->arch.x[0] = PSCI_SUCCESS;
	} else if (is_entry_good(vcpu->vm, entry)) {
		power_down(vcpu, entry, vsmccc_argument(vcpu, 3));
	} else {
		vcpu->arch.x[0] = PSCI_INVALID_ADDRESS;
		return;
	}
	atomic_or(&vcpu->requests, VCPU_REQUEST_WAIT);
}

static void system_reset2(struct vcpu *vcpu)
{
	if ((u32)vcpu->arch.x[1] == RESET2_WARM) {
		vm_reset(vcpu->vm);
	} else {
		vcpu->arch.x[0] = PSCI_INVALID_PARAMETERS;
	}
}

static u64 features(const struct vcpu *vcpu)
{
	switch ((u32)vcpu->arch.x[1]) {
	case PSCI_VERSION:
	case PSCI_CPU_SUSPEND: /* original power_state, no coordination by the guest: no flags */
	case PSCI_CPU_SUSPEND_64:
	case PSCI_CPU_OFF:
	case PSCI_CPU_ON:
	case PSCI_CPU_ON_64:
	case PSCI_AFFINITY_INFO:
	case PSCI_AFFINITY_INFO_64:
	case PSCI_MIGRATE_INFO_TYPE:
	case PSCI_SYSTEM_OFF:
	case PSCI_SYSTEM_RESET:
	case PSCI_FEATURES:
	case PSCI_SYSTEM_RESET2:
	case PSCI_SYSTEM_RESET2_64:
	case SMCCC_VERSION:
		return PSCI_SUCCESS;
	}
	return PSCI_NOT_SUPPORTED;
}

/* Out of line, so that PSCI_VERSION, which everybody measures, needs no stack frame. */
static __attribute__((noinline)) void power_call(struct vcpu *vcpu, u32 function)
{
	u64 *x0 = &vcpu->arch.x[0];

	switch (function) {
	case PSCI_CPU_SUSPEND:
	case PSCI_CPU_SUSPEND_64:
		cpu_suspend(vcpu);
		return;
	case PSCI_CPU_OFF:
		vcpu_off(vcpu);
		return;
	case PSCI_CPU_ON:
	case PSCI_CPU_ON_64:
		*x0 = cpu_on(vcpu);
		return;
	case PSCI_AFFINITY_INFO:
	case PSCI_AFFINITY_INFO_64:
		*x0 = affinity_info(vcpu);
		return;
	case PSCI_MIGRATE_INFO_TYPE:
		*x0 = PSCI_TOS_NOT_PRESENT;
		return;
	case PSCI_SYSTEM_OFF:
		vm_off(vcpu->vm);
		return;
	case PSCI_SYSTEM_RESET:
		vm_reset(vcpu->vm);
		return;
	case PSCI_SYSTEM_RESET2:
	case PSCI_SYSTEM_RESET2_64:
		system_reset2(vcpu);
		return;
	case PSCI_FEATURES:
		*x0 = features(vcpu);
		return;
	}
	*x0 = PSCI_NOT_SUPPORTED;
}

void vpsci_call(struct vcpu *vcpu, u32 function)
{
	if (likely(function == PSCI_VERSION)) {
		vcpu->arch.x[0] = PSCI_VERSION_1_1;
		return;
	}
	power_call(vcpu, function);
}
