/* Exits that only x86-64 has: one switch over the VMCS's own numbers, each case hands over. */
#include <asm/vmx.h>

#include "arch/vm.h"
#include "hyp/probe.h"
#include "hyp/sched.h"

#include "arch_enter.h"
#include "ept_fault.h"
#include "vapic.h"
#include "vcpu_vmx.h"
#include "vcpuid.h"
#include "vcr.h"
#include "vhalt.h"
#include "vinject.h"
#include "vkvm_call.h"
#include "vmsr.h"
#include "vport.h"

static const struct vkvm_call_ops call_ops = {
	.kick = vhalt_kick, .yield = sched_yield_to, .send = vapic_send};

static void cpuid_exit(struct vcpu *vcpu)
{
	u64 *gpr = vcpu->arch.gpr;
	struct cpuid_request request = {
		.leaf = (u32)gpr[GPR_RAX],
		.subleaf = (u32)gpr[GPR_RCX],
		.apic_id = vcpu->id,
		.vcpu_count = vcpu->vm->vcpu_count,
		.cr4 = vcr_cr4(),
	};
	struct cpuid answer = vcpuid_answer(&request);

	gpr[GPR_RAX] = answer.a;
	gpr[GPR_RBX] = answer.b;
	gpr[GPR_RCX] = answer.c;
	gpr[GPR_RDX] = answer.d;
	arch_vcpu_skip(vcpu);
}

static void hypercall(struct vcpu *vcpu)
{
	u64 *gpr = vcpu->arch.gpr;
	struct vkvm_call call = {
		.number = gpr[GPR_RAX],
		.args = {gpr[GPR_RBX], gpr[GPR_RCX], gpr[GPR_RDX], gpr[GPR_RSI]},
		.kernel = field_get(vmcs_read(VMCS_GUEST_SS_RIGHTS), RIGHTS_LEVEL) == 0,
		.wide = vcpu_code_bits() == 64,
	};

	if (!call.kernel ||
	    !probe_call(vcpu, call.number - PROBE_CALLS, call.args, &gpr[GPR_RAX])) {
		gpr[GPR_RAX] = vkvm_call(vcpu, &call, &call_ops);
	}
	arch_vcpu_skip(vcpu);
}

static void read_register(struct vcpu *vcpu)
{
	u64 value;

	if (!vmsr_read(vcpu, (u32)vcpu->arch.gpr[GPR_RCX], &value)) {
		vinject_exception(vcpu, EXCEPTION_GP, 0);
		return;
	}
	vcpu->arch.gpr[GPR_RAX] = (u32)value;
	vcpu->arch.gpr[GPR_RDX] = value >> 32;
	arch_vcpu_skip(vcpu);
}

static void write_register(struct vcpu *vcpu)
{
	if (!vmsr_write(vcpu, (u32)vcpu->arch.gpr[GPR_RCX], vcpu_edx_eax(vcpu))) {
		vinject_exception(vcpu, EXCEPTION_GP, 0);
		return;
	}
	arch_vcpu_skip(vcpu);
}

void arch_vcpu_emulate(struct vcpu *vcpu)
{
	switch (vcpu->arch.exit_reason) {
	case EXIT_REASON_CPUID:
		cpuid_exit(vcpu);
		return;
	case EXIT_REASON_VMCALL:
		hypercall(vcpu);
		return;
	case EXIT_REASON_IO_INSTRUCTION:
		vport_access(vcpu, vmcs_read(VMCS_QUALIFICATION));
		return;
	case EXIT_REASON_MSR_READ:
		read_register(vcpu);
		return;
	case EXIT_REASON_MSR_WRITE:
		write_register(vcpu);
		return;
	case EXIT_REASON_CR_ACCESS:
		vcr_access(vcpu, vmcs_read(VMCS_QUALIFICATION));
		return;
	case EXIT_REASON_XSETBV:
		vcr_set_xcr0(vcpu);
		return;
	case EXIT_REASON_INTERRUPT_WINDOW:
	case EXIT_REASON_NMI_WINDOW:
		vcpu_request_delivery(vcpu);
		return;
	case EXIT_REASON_WBINVD:
	case EXIT_REASON_INVD:
		arch_vcpu_skip(vcpu); /* memory is as the guest left it, and coherent */
		return;
	case EXIT_REASON_EPT_VIOLATION:
	case EXIT_REASON_EPT_MISCONFIG:
		ept_fault_crash(vcpu);
		return;
	default:
		vinject_exception(vcpu, EXCEPTION_UD, 0);
		return;
	}
}
