// CPUID as an x86 guest sees it: by the rules alone, whatever this host's CPU is.
#include <gtest/gtest.h>

#include <cstring>

extern "C" {
#include "../../arch/x86_64/vcpuid.h"
}

namespace
{

constexpr struct cpuid kEverything = {~0u, ~0u, ~0u, ~0u};
constexpr struct vcpuid_extras kAll = {true, true, true}, kNone = {false, false, false};

struct cpuid ask(u32 leaf, u32 subleaf = 0, struct cpuid host = kEverything,
		 struct vcpuid_extras extras = kAll, u32 id = 3, u32 count = 4, u64 cr4 = 0)
{
	struct cpuid_request request = {leaf, subleaf, id, count, cr4};

	return vcpuid_filter(&request, host, extras);
}

TEST(VCpuid, no_leaf_is_answered_that_is_not_known)
{
	EXPECT_EQ(ask(0).a, 0xdu);
	EXPECT_EQ(ask(0, 0, {5, 1, 2, 3}).a, 5u) << "no more than the CPU has";
	EXPECT_EQ(ask(0x80000000).a, 0x80000008u);
	for (u32 leaf : {2u, 3u, 5u, 8u, 9u, 0xau, 0xcu, 0xeu, 0x14u, 0x15u, 0x16u, 0x40000002u,
			 0x80000009u, 0x8000001eu, 0xffffffffu}) {
		struct cpuid r = ask(leaf);

		EXPECT_EQ(r.a | r.b | r.c | r.d, 0u) << std::hex << leaf;
	}
}

TEST(VCpuid, what_needs_lamina_is_there_although_the_cpu_lacks_it)
{
	struct cpuid r = ask(1, 0, {});

	EXPECT_TRUE(r.c & BIT(21)) << "x2APIC";
	EXPECT_TRUE(r.c & BIT(24)) << "TSC deadline";
	EXPECT_TRUE(r.c & BIT(31)) << "a hypervisor";
	EXPECT_EQ(r.d & ~(1u << 28), 0u) << "nothing else is invented";
	EXPECT_EQ(ask(6, 0, {}).a, 4u) << "the APIC's timer never stops";
	EXPECT_EQ(ask(0x80000007, 0, {}).d, 0x100u) << "nor does the TSC change";
}

TEST(VCpuid, what_no_guest_can_use_is_not_there)
{
	struct cpuid r = ask(1);

	for (unsigned bit : {2u, 3u, 4u, 5u, 6u, 7u, 8u, 14u, 15u, 18u}) {
		EXPECT_FALSE(r.c & BIT(bit)) << "leaf 1, ecx " << bit; // MONITOR, VMX, SMX, ...
	}
	for (unsigned bit : {7u, 12u, 14u, 18u, 21u, 22u, 29u, 31u}) {
		EXPECT_FALSE(r.d & BIT(bit)) << "leaf 1, edx " << bit; // MCE, MTRR, MCA, ...
	}
	r = ask(7);
	for (unsigned bit : {1u, 2u, 4u, 11u, 12u, 14u, 15u, 22u, 25u}) {
		EXPECT_FALSE(r.b & BIT(bit))
			<< "leaf 7, ebx " << bit; // TSC_ADJUST, SGX, TSX, MPX, ...
	}
	for (unsigned bit : {3u, 4u, 5u, 7u, 16u, 30u}) {
		EXPECT_FALSE(r.c & BIT(bit))
			<< "leaf 7, ecx " << bit; // keys, shadow stacks, LA57, ...
	}
	EXPECT_EQ(r.d, 0u);
	r = ask(7, 1);
	EXPECT_EQ(r.a | r.b | r.c | r.d, 0u);
}

TEST(VCpuid, what_needs_a_control_of_vmx_is_there_only_with_it)
{
	EXPECT_TRUE(ask(7).b & BIT(10));
	EXPECT_FALSE(ask(7, 0, kEverything, kNone).b & BIT(10)) << "INVPCID";
	EXPECT_TRUE(ask(7).c & BIT(22));
	EXPECT_FALSE(ask(7, 0, kEverything, kNone).c & BIT(22)) << "RDPID";
	EXPECT_TRUE(ask(0x80000001).d & BIT(27));
	EXPECT_FALSE(ask(0x80000001, 0, kEverything, kNone).d & BIT(27)) << "RDTSCP";
	EXPECT_TRUE(ask(0xd, 1).a & BIT(3));
	EXPECT_FALSE(ask(0xd, 1, kEverything, kNone).a & BIT(3)) << "XSAVES";
}

TEST(VCpuid, osxsave_is_the_guests_own)
{
	EXPECT_FALSE(ask(1).c & BIT(27));
	EXPECT_TRUE(ask(1, 0, kEverything, kAll, 0, 1, BIT(18)).c & BIT(27));
	EXPECT_FALSE(ask(1, 0, {}, kAll, 0, 1, BIT(18)).c & BIT(27))
		<< "without XSAVE there is none";
}

TEST(VCpuid, each_vcpu_has_an_id_of_its_own_and_all_are_cores_of_one_package)
{
	EXPECT_EQ(ask(1).b >> 24, 3u);
	EXPECT_EQ(ask(1).b >> 16 & 0xff, 4u);
	EXPECT_TRUE(ask(1).d & BIT(28));
	EXPECT_FALSE(ask(1, 0, kEverything, kAll, 0, 1).d & BIT(28)) << "one alone";
	EXPECT_EQ(ask(0xb, 0).b, 1u);
	EXPECT_EQ(ask(0xb, 0).c, 0x100u);
	EXPECT_EQ(ask(0xb, 1).a, 2u) << "bits of the id that tell cores apart";
	EXPECT_EQ(ask(0xb, 1).b, 4u);
	EXPECT_EQ(ask(0xb, 1).c, 0x201u);
	EXPECT_EQ(ask(0xb, 2).c, 2u) << "no third level";
	EXPECT_EQ(ask(0xb, 2).a | ask(0xb, 2).b, 0u);
	for (u32 subleaf : {0u, 1u, 2u, 77u}) {
		EXPECT_EQ(ask(0xb, subleaf).d, 3u);
	}
	EXPECT_EQ(ask(0xb, 1, kEverything, kAll, 0, 3).a, 2u);
	EXPECT_EQ(ask(0xb, 1, kEverything, kAll, 0, 1).a, 0u);
}

TEST(VCpuid, says_that_it_is_kvm_to_whom_wants_its_clock)
{
	struct cpuid r = ask(0x40000000, 0, {});
	char name[13] = {};

	std::memcpy(name, &r.b, 4);
	std::memcpy(name + 4, &r.c, 4);
	std::memcpy(name + 8, &r.d, 4);
	EXPECT_STREQ(name, "KVMKVMKVM");
	EXPECT_EQ(r.a, 0x40000001u);
	// Clock, stolen time, ends of interrupts, kicks, flushes, interrupts to many, turns.
	EXPECT_EQ(ask(0x40000001, 0, {}).a,
		  BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(11) | BIT(13) | BIT(24));
	EXPECT_EQ(ask(0x40000001, 0, {}).d, 0u) << "no CPU is promised to a vCPU alone";
}

TEST(VCpuid, state_that_is_switched_is_told_and_no_other)
{
	EXPECT_EQ(ask(0xd, 0).a, 0xe7u) << "x87, SSE, AVX, AVX-512";
	EXPECT_EQ(ask(0xd, 0).d, 0u);
	EXPECT_EQ(ask(0xd, 1).c | ask(0xd, 1).d, 0u) << "no state of the supervisor's";
	EXPECT_NE(ask(0xd, 2).a, 0u);
	for (u32 subleaf : {3u, 4u, 8u, 9u, 31u}) {
		EXPECT_EQ(ask(0xd, subleaf).a, 0u) << subleaf;
	}
}

} // namespace
