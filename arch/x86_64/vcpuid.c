/*
 * Features by name, word by word (SDM volume 2A, CPUID; AMD APM volume 3, appendix E, for the
 * extended ones). A bit that is in no list here is one that no guest sees.
 */
#include "vcpuid.h"

#include <asm/kvm_para.h>

#define LEAF_FEATURES 1
#define LEAF_CACHES 4
#define LEAF_POWER 6
#define LEAF_MORE_FEATURES 7
#define LEAF_TOPOLOGY 0xb
#define LEAF_XSTATE 0xd
#define LEAF_LAST_NAMED 0x80000000u
#define LEAF_EXTENDED 0x80000001u
#define LEAF_NAME_FIRST 0x80000002u
#define LEAF_NAME_LAST 0x80000006u /* and the second-level cache */
#define LEAF_CLOCK 0x80000007u
#define LEAF_ADDRESSES 0x80000008u

/* Leaf 1, ECX: SSE3 0, PCLMUL 1, SSSE3 9, FMA 12, CX16 13, PCID 17, SSE4.1 19, SSE4.2 20, MOVBE 22,
 * POPCNT 23, AES 25, XSAVE 26, AVX 28, F16C 29, RDRAND 30. */
#define FEATURES_C                                                                                 \
	(BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(17) | BIT(19) | BIT(20) | BIT(22) |    \
	 BIT(23) | BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30))
#define C_X2APIC BIT(21)
#define C_TSC_DEADLINE BIT(24)
#define C_OSXSAVE BIT(27)
#define C_HYPERVISOR BIT(31)
/* EDX: FPU 0, VME 1, DE 2, PSE 3, TSC 4, MSR 5, PAE 6, CX8 8, APIC 9, SEP 11, PGE 13, CMOV 15, PAT
 * 16, PSE36 17, CLFSH 19, MMX 23, FXSR 24, SSE 25, SSE2 26, SS 27. No machine checks, no MTRRs. */
#define FEATURES_D                                                                                 \
	(BITS(6, 0) | BIT(8) | BIT(9) | BIT(11) | BIT(13) | BITS(17, 15) | BIT(19) | BITS(27, 23))
#define D_HTT BIT(28)
/* Leaf 7, EBX: FSGSBASE 0, BMI1 3, AVX2 5, FDP 6, SMEP 7, BMI2 8, ERMS 9, FCS 13, AVX512F 16, DQ
 * 17, RDSEED 18, ADX 19, SMAP 20, IFMA 21, CLFLUSHOPT 23, CLWB 24, CD 28, SHA 29, BW 30, VL 31. */
#define MORE_B                                                                                     \
	(BIT(0) | BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(13) | BITS(21, 16) |   \
	 BIT(23) | BIT(24) | BITS(31, 28))
#define MORE_B_INVPCID BIT(10)
/* ECX: UMIP 2, VBMI2 6, GFNI 8, VAES 9, VPCLMULQDQ 10, VNNI 11, BITALG 12, VPOPCNTDQ 14, RDPID 22.
 */
#define MORE_C (BIT(2) | BIT(6) | BITS(12, 8) | BIT(14))
#define MORE_C_RDPID BIT(22)
/* Extended, ECX: LAHF 0, ABM 5, PREFETCHW 8. EDX: SYSCALL 11, NX 20, 1 GiB pages 26, LM 29. */
#define EXTENDED_C (BIT(0) | BIT(5) | BIT(8))
#define EXTENDED_D (BIT(11) | BIT(20) | BIT(26) | BIT(29))
#define EXTENDED_D_RDTSCP BIT(27)

#define POWER_A_ARAT BIT(2) /* the APIC's timer never stops */
#define CLOCK_D_INVARIANT BIT(8)
#define XSTATE_XSAVES BIT(3)

#define CR4_OSXSAVE_BIT BIT(18)
#define TOPOLOGY_THREAD 1
#define TOPOLOGY_CORE 2

static struct cpuid features(const struct cpuid_request *r, struct cpuid host)
{
	struct cpuid answer = {.a = host.a};

	answer.b = r->apic_id << 24 | (r->vcpu_count & 0xff) << 16 | (host.b & 0xff00);
	answer.c = (host.c & FEATURES_C) | C_X2APIC | C_TSC_DEADLINE | C_HYPERVISOR;
	if ((host.c & BIT(26)) && (r->cr4 & CR4_OSXSAVE_BIT)) {
		answer.c |= C_OSXSAVE;
	}
	answer.d = (host.d & FEATURES_D) | (r->vcpu_count > 1 ? D_HTT : 0);
	return answer;
}

static struct cpuid more_features(const struct cpuid_request *r, struct cpuid host,
				  struct vcpuid_extras extras)
{
	if (r->subleaf != 0) {
		return (struct cpuid){0};
	}
	return (struct cpuid){
		.b = host.b & (MORE_B | (extras.invpcid ? MORE_B_INVPCID : 0)),
		.c = host.c & (MORE_C | (extras.rdtscp ? MORE_C_RDPID : 0)),
	};
}

static u32 bits_for(u32 count)
{
	u32 bits = 0;

	while ((1u << bits) < count) {
		bits++;
	}
	return bits;
}

/* One thread a core, all cores in one package (10.4.3: how an APIC id is made of them). */
static struct cpuid topology(const struct cpuid_request *r)
{
	struct cpuid answer = {.c = r->subleaf & 0xff, .d = r->apic_id};

	if (r->subleaf == 0) {
		answer.b = 1;
		answer.c |= TOPOLOGY_THREAD << 8;
	} else if (r->subleaf == 1) {
		answer.a = bits_for(r->vcpu_count);
		answer.b = r->vcpu_count;
		answer.c |= TOPOLOGY_CORE << 8;
	}
	return answer;
}

/* Each cache is the package's, or a core's, as the CPU has it; cores are the guest's. */
static struct cpuid caches(const struct cpuid_request *r, struct cpuid host)
{
	u32 cores = (1u << bits_for(r->vcpu_count)) - 1;
	bool is_shared = (host.a >> 5 & 7) > 2;

	if ((host.a & 0x1f) != 0) {
		host.a &= 0x3fff;
		host.a |= cores << 26 | (is_shared ? cores << 14 : 0);
	}
	return host;
}

static struct cpuid xstate(const struct cpuid_request *r, struct cpuid host,
			   struct vcpuid_extras extras)
{
	if (r->subleaf == 0) {
		host.a &= 0xe7;
		host.d = 0;
	} else if (r->subleaf == 1) {
		host.a &= ~(extras.xsaves ? 0u : (u32)XSTATE_XSAVES);
		host.c = host.d = 0; /* no supervisor state */
	} else if (r->subleaf > 7 || !(0xe7 & BIT(r->subleaf))) {
		host = (struct cpuid){0};
	}
	return host;
}

static struct cpuid extended(struct cpuid host, struct vcpuid_extras extras)
{
	return (struct cpuid){
		.c = host.c & EXTENDED_C,
		.d = host.d & (EXTENDED_D | (extras.rdtscp ? EXTENDED_D_RDTSCP : 0)),
	};
}

static struct cpuid signature(void)
{
	struct cpuid answer = {.a = KVM_CPUID_FEATURES};
	static const char name[12] = KVM_SIGNATURE;

	__builtin_memcpy(&answer.b, name, 4);
	__builtin_memcpy(&answer.c, name + 4, 4);
	__builtin_memcpy(&answer.d, name + 8, 4);
	return answer;
}

static struct cpuid paravirtual(void)
{
	return (struct cpuid){
		.a = BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) |
		     BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) |
		     BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) |
		     BIT(KVM_FEATURE_PV_SCHED_YIELD) | BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT),
	};
}

struct cpuid vcpuid_filter(const struct cpuid_request *r, struct cpuid host,
			   struct vcpuid_extras extras)
{
	switch (r->leaf) {
	case 0:
		host.a = (u32)min_u64(host.a, VCPUID_BASIC_MAX);
		return host;
	case LEAF_FEATURES:
		return features(r, host);
	case LEAF_CACHES:
		return caches(r, host);
	case LEAF_POWER:
		return (struct cpuid){.a = POWER_A_ARAT};
	case LEAF_MORE_FEATURES:
		return more_features(r, host, extras);
	case LEAF_TOPOLOGY:
		return topology(r);
	case LEAF_XSTATE:
		return xstate(r, host, extras);
	case KVM_CPUID_SIGNATURE:
		return signature();
	case KVM_CPUID_FEATURES:
		return paravirtual();
	case LEAF_LAST_NAMED:
		return (struct cpuid){.a = (u32)min_u64(host.a, VCPUID_EXTENDED_MAX)};
	case LEAF_EXTENDED:
		return extended(host, extras);
	case LEAF_CLOCK:
		return (struct cpuid){.d = CLOCK_D_INVARIANT};
	case LEAF_ADDRESSES:
		return (struct cpuid){.a = host.a & 0xffff};
	default:
		return r->leaf >= LEAF_NAME_FIRST && r->leaf <= LEAF_NAME_LAST ? host
									       : (struct cpuid){0};
	}
}
