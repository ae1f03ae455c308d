/*
 * What CPUID says to a guest: what the CPU has, less what Lamina does not give; and who Lamina is,
 * in the words that Linux's KVM guests know (asm/kvm_para.h).
 */
#ifndef VCPUID_H
#define VCPUID_H

#include "hyp/types.h"

#include "cpureg.h"

struct cpuid_request {
	u32 leaf, subleaf; /* EAX and ECX */
	u32 apic_id, vcpu_count;
	u64 cr4; /* of the guest */
};

/* Of this CPU, whose XCR0 is the guest's. Any leaf. */
struct cpuid vcpuid_answer(const struct cpuid_request *request);

/*
 * The rules alone: `host` is what the CPU says to the same question; `extras`: which of the
 * features that need help from Lamina are there.
 */
struct vcpuid_extras {
	bool rdtscp, invpcid, xsaves;
};
struct cpuid vcpuid_filter(const struct cpuid_request *request, struct cpuid host,
			   struct vcpuid_extras extras);

/* The highest leaves that are answered. */
#define VCPUID_BASIC_MAX 0xdu
#define VCPUID_EXTENDED_MAX 0x80000008u

#endif
