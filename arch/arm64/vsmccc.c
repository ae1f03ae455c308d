/*
 * Calls that a guest makes to its firmware and hypervisor: who answers which.
 *
 *     0x80000000 architecture   here        0x85000000 standard hypervisor   vtime_pv.c
 *     0x84000000 standard       vpsci.c,    0x86000000 vendor hypervisor     here
 *                               vtrng.c     all others                       not supported
 *
 * Owner by a compare, function by a switch: a PSCI_VERSION is the bench of this path.
 */
#include "vsmccc.h"

#include "hyp/probe.h"

#include "vid.h"
#include "vpsci.h"
#include "vtime_pv.h"
#include "vtrng.h"

/* All but the width and the number within the service; bits 23:16 must be zero. */
#define OWNER_MASK (~(u32)(SMCCC_64 | 0xffff))
#define OWNER_ARCH 0x80000000u
#define OWNER_STANDARD 0x84000000u
#define OWNER_STANDARD_HYP 0x85000000u
#define OWNER_VENDOR_HYP 0x86000000u

#define NUMBER(function) ((function)&0xffff)
#define PSCI_NUMBERS 0x20

#define WORKAROUND_NOT_REQUIRED 1

/* Names this hypervisor: 01240041-172a-4fd9-8db2-2c411cfe0633, byte order as DEN0028 6.1 says. */
#define UID_0 0x41002401u
#define UID_1 0xd94f2a17u
#define UID_2 0x412cb28du
#define UID_3 0x3306fe1cu
#define REVISION_MAJOR 1
#define REVISION_MINOR 0
#define VENDOR_CALLS 3

/*
 * Branch predictors that other contexts cannot train (CSV2) need no help. Where they can be, there
 * is no firmware behind us that would help, so the guest hears that it is on its own: workaround 1
 * "not supported", and so, always, workarounds 2 and 3, of which the ID registers tell nothing.
 */
static bool is_workaround_1_needless(const struct vcpu *vcpu)
{
	return field_get(vcpu->vm->arch.id[VID_AA64PFR0], PFR0_CSV2) != 0;
}

static u64 arch_features(const struct vcpu *vcpu)
{
	switch ((u32)vcpu->arch.x[1]) {
	case SMCCC_VERSION:
	case SMCCC_ARCH_FEATURES:
	case PV_TIME_FEATURES: /* how guests are told to look for it: DEN0057 3.1 */
		return SMCCC_SUCCESS;
	case SMCCC_WORKAROUND_1:
		return is_workaround_1_needless(vcpu) ? WORKAROUND_NOT_REQUIRED
						      : SMCCC_NOT_SUPPORTED;
	}
	return SMCCC_NOT_SUPPORTED;
}

static u64 arch_call(const struct vcpu *vcpu, u32 function)
{
	switch (function) {
	case SMCCC_VERSION:
		return SMCCC_VERSION_1_1;
	case SMCCC_ARCH_FEATURES:
		return arch_features(vcpu);
	case SMCCC_WORKAROUND_1: /* may be called where it is not required, to no effect */
		return is_workaround_1_needless(vcpu) ? SMCCC_SUCCESS : SMCCC_NOT_SUPPORTED;
	}
	return SMCCC_NOT_SUPPORTED;
}

static void vendor_call(struct vcpu *vcpu, u32 function)
{
	u64 *x = vcpu->arch.x;

	switch (function) {
	case SMCCC_VENDOR_CALL_COUNT:
		x[0] = VENDOR_CALLS;
		break;
	case SMCCC_VENDOR_CALL_UID:
		x[0] = UID_0;
		x[1] = UID_1;
		x[2] = UID_2;
		x[3] = UID_3;
		break;
	case SMCCC_VENDOR_REVISION:
		x[0] = REVISION_MAJOR;
		x[1] = REVISION_MINOR;
		break;
	default:
		if (!probe_call(vcpu, NUMBER(function) - PROBE_CALLS, &x[1], &x[0])) {
			x[0] = SMCCC_NOT_SUPPORTED;
		}
	}
}

void vsmccc_call(struct vcpu *vcpu)
{
	u32 function = (u32)vcpu->arch.x[0];
	u32 owner = function & OWNER_MASK;

	if (likely(owner == OWNER_STANDARD)) {
		if (likely(NUMBER(function) < PSCI_NUMBERS)) {
			vpsci_call(vcpu, function);
		} else {
			vtrng_call(vcpu, function);
		}
		return;
	}
	switch (owner) {
	case OWNER_ARCH:
		vcpu->arch.x[0] = arch_call(vcpu, function);
		return;
	case OWNER_STANDARD_HYP:
		vcpu->arch.x[0] = vtime_pv_call(vcpu, function);
		return;
	case OWNER_VENDOR_HYP:
		vendor_call(vcpu, function);
		return;
	}
	vcpu->arch.x[0] = SMCCC_NOT_SUPPORTED;
}
