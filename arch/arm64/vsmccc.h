/*
 * Calls that a guest makes to its firmware and hypervisor, by HVC or SMC: SMCCC 1.1 (DEN0028).
 *
 * x0 holds the function, x1.. its arguments; x0..x3 the results. A function that is not there gives
 * NOT_SUPPORTED in x0 and leaves all other registers alone.
 */
#ifndef VSMCCC_H
#define VSMCCC_H

#include "hyp/vcpu.h"

/* The function's number, DEN0028 2.5. */
#define SMCCC_64 BIT(30)

/* Results are sign-extended, so that callers of either width find them. */
#define SMCCC_SUCCESS 0ull
#define SMCCC_NOT_SUPPORTED ((u64)-1)

/* Arm architecture services. */
#define SMCCC_VERSION 0x80000000u
#define SMCCC_ARCH_FEATURES 0x80000001u
#define SMCCC_WORKAROUND_1 0x80008000u
#define SMCCC_VERSION_1_1 0x10001ull

/* Vendor-specific hypervisor services. */
#define SMCCC_VENDOR_CALL_COUNT 0x8600ff00u
#define SMCCC_VENDOR_CALL_UID 0x8600ff01u
#define SMCCC_VENDOR_REVISION 0x8600ff03u

/* Does the call that x0 describes; the pc is past the instruction already. */
void vsmccc_call(struct vcpu *vcpu);

/* Argument n, as wide as the call: of a 32-bit one the upper half means nothing. */
static inline u64 vsmccc_argument(const struct vcpu *vcpu, unsigned n)
{
	return vcpu->arch.x[0] & SMCCC_64 ? vcpu->arch.x[n] : (u32)vcpu->arch.x[n];
}

#endif
