#include "vmsr.h"

#include <asm/kvm_para.h>

#include "hyp/log.h"
#include "hyp/vm.h"

#include "arch/vm.h"

#include "cpureg.h"
#include "vapic.h"
#include "vcpu_vmx.h"
#include "vkvmclock.h"
#include "vlapic.h"

#define MSR_PLATFORM_ID 0x17
#define MSR_MICROCODE 0x8b
#define MISC_ENABLE_FAST_STRINGS BIT(0)

/* ---- Which do not exit --------------------------------------------------------------------------
 */

/* Offsets in the page: reads of 0 and up, reads of 0xc0000000 and up, then writes of both. */
#define BITMAP_WRITES 2048
#define BITMAP_HIGH 1024
#define MSR_HIGH 0xc0000000u

/* Either the VMCS switches it, or arch_vcpu_load does, or it says nothing of Lamina's. */
static const u32 passed[] = {
	MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_PAT,
	MSR_EFER,	 MSR_STAR,	   MSR_LSTAR,	     MSR_CSTAR,
	MSR_FMASK,	 MSR_FS_BASE,	   MSR_GS_BASE,	     MSR_KERNEL_GS_BASE,
};

static void pass(u8 *bitmap, u32 msr, bool writes)
{
	u32 offset = msr >= MSR_HIGH ? BITMAP_HIGH : 0, number = msr & 0x1fff;

	bitmap[offset + number / 8] &= (u8)~BIT(number % 8);
	if (writes) {
		bitmap[BITMAP_WRITES + offset + number / 8] &= (u8)~BIT(number % 8);
	}
}

void vmsr_fill_bitmap(u8 *bitmap)
{
	for (u32 i = 0; i < PAGE_SIZE; i++) {
		bitmap[i] = 0xff;
	}
	for (u32 i = 0; i < ARRAY_COUNT(passed); i++) {
		pass(bitmap, passed[i], true);
	}
	pass(bitmap, MSR_TSC, false);
	pass(bitmap, MSR_TSC_AUX, true);
}

/* ---- Those that do ------------------------------------------------------------------------------
 */

static bool is_lapic(u32 msr)
{
	return msr == VLAPIC_MSR_BASE || msr == VLAPIC_MSR_TSC_DEADLINE ||
	       (msr >= VLAPIC_MSR_FIRST && msr <= VLAPIC_MSR_LAST);
}

static void report_unknown(struct vcpu *vcpu, u32 msr, const char *verb)
{
	if (!vcpu->vm->arch.unknown_register) {
		vcpu->vm->arch.unknown_register = true;
		log_debug("d%u: %s MSR 0x%x, which it does not have", vcpu->vm->number, verb, msr);
	}
}

bool vmsr_read(struct vcpu *vcpu, u32 msr, u64 *value)
{
	if (is_lapic(msr)) {
		vapic_settle(vcpu);
		return vlapic_read_msr(&vcpu->arch.lapic, msr, arch_now(), value);
	}
	switch (msr) {
	case MSR_KVM_SYSTEM_TIME_NEW:
		*value = vcpu->arch.kvmclock;
		return true;
	case MSR_KVM_STEAL_TIME:
		*value = vcpu->arch.steal.msr;
		return true;
	case MSR_KVM_PV_EOI_EN:
		*value = vcpu->arch.eoi.msr;
		return true;
	case MSR_MISC_ENABLE:
		*value = vcpu->arch.misc_enable | MISC_ENABLE_FAST_STRINGS;
		return true;
	case MSR_PLATFORM_ID:
	case MSR_MICROCODE:
		*value = 0;
		return true;
	default:
		report_unknown(vcpu, msr, "reads");
		return false;
	}
}

/* Whatever was in service may be offered now, or may not. */
static bool write_eoi_place(struct vcpu *vcpu, u64 value)
{
	vcpu_request_delivery(vcpu);
	return vkvm_eoi_set(vcpu->vm, &vcpu->arch.eoi, &vcpu->arch.lapic, value);
}

/* What is written may be what an interrupt waits for: priority, end, enable, self-IPI. */
static bool write_lapic(struct vcpu *vcpu, u32 msr, u64 value)
{
	vapic_settle(vcpu);
	vcpu_request_delivery(vcpu);
	if (msr == VLAPIC_MSR_BASE) {
		return vapic_write_base(vcpu, value);
	}
	return vlapic_write_msr(&vcpu->arch.lapic, msr, arch_now(), value);
}

bool vmsr_write(struct vcpu *vcpu, u32 msr, u64 value)
{
	if (is_lapic(msr)) {
		return write_lapic(vcpu, msr, value);
	}
	switch (msr) {
	case MSR_KVM_SYSTEM_TIME_NEW:
		return vkvmclock_set(vcpu, value);
	case MSR_KVM_WALL_CLOCK_NEW:
		return vkvmclock_tell_wall(vcpu, value);
	case MSR_KVM_STEAL_TIME:
		return vkvm_steal_set(vcpu->vm, &vcpu->arch.steal, value, vcpu->stolen_ns);
	case MSR_KVM_PV_EOI_EN:
		return write_eoi_place(vcpu, value);
	case MSR_MISC_ENABLE:
		vcpu->arch.misc_enable = value;
		return true;
	case MSR_MICROCODE:
		return true;
	default:
		report_unknown(vcpu, msr, "writes");
		return false;
	}
}
