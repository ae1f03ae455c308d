/* SMCCC's own services, random numbers and stolen time. */
#include "guest_test_machine.h"

#include <set>

extern "C" {
#include "arch/cpu.h"

#include "../../arch/arm64/guest_map.h"
#include "../../arch/arm64/vid.h"
#include "../../arch/arm64/vsmccc.h"
#include "../../arch/arm64/vtime_pv.h"
#include "../../arch/arm64/vtrng.h"
}

namespace
{

constexpr u64 NOT_SUPPORTED = ~0ull;

class Smccc : public GuestMachine
{
      protected:
	u64 call(u64 function, u64 a1 = 0, u64 a2 = 0, u64 a3 = 0)
	{
		return call_by(vcpu, function, a1, a2, a3);
	}

	static u64 call_by(struct vcpu *caller, u64 function, u64 a1 = 0, u64 a2 = 0, u64 a3 = 0)
	{
		u64 args[] = {function, a1, a2, a3};

		for (u32 i = 0; i < 31; i++) {
			caller->arch.x[i] = i < 4 ? args[i] : 1000 + i;
		}
		vsmccc_call(caller);
		for (u32 i = 4; i < 31; i++) {
			EXPECT_EQ(caller->arch.x[i], 1000 + i) << "x" << i << " must be preserved";
		}
		return caller->arch.x[0];
	}
};

TEST_F(Smccc, version_is_1_1)
{
	EXPECT_EQ(call(SMCCC_VERSION), 0x10001u);
	EXPECT_EQ(call(SMCCC_ARCH_FEATURES, SMCCC_VERSION), SMCCC_SUCCESS);
	EXPECT_EQ(call(SMCCC_ARCH_FEATURES, SMCCC_ARCH_FEATURES), SMCCC_SUCCESS);
	EXPECT_EQ(call(SMCCC_ARCH_FEATURES, 0x80000002), NOT_SUPPORTED);
}

TEST_F(Smccc, unknown_functions_change_x0_alone)
{
	for (u64 function : {0x0ull, 0x80000002ull, 0x80ff0000ull, 0x82000000ull, 0x84010000ull,
			     0x84000020ull, 0x8400ffffull, 0x87000000ull, 0xbf00ff01ull,
			     0xc0000000ull, 0xc4000000ull, 0x85000020ull, 0xc5000022ull,
			     0x86000000ull, 0xc600ff01ull, 0xffffffffull, 0x04000000ull}) {
		EXPECT_EQ(call(function, 11, 12, 13), NOT_SUPPORTED) << std::hex << function;
		EXPECT_EQ(vcpu->arch.x[1], 11u);
		EXPECT_EQ(vcpu->arch.x[2], 12u);
		EXPECT_EQ(vcpu->arch.x[3], 13u);
	}
}

TEST_F(Smccc, workaround_1_is_not_required_where_predictors_are_safe)
{
	EXPECT_EQ(call(SMCCC_ARCH_FEATURES, SMCCC_WORKAROUND_1), NOT_SUPPORTED);
	EXPECT_EQ(call(SMCCC_WORKAROUND_1), NOT_SUPPORTED);
	vm->arch.id[VID_AA64PFR0] = BIT(56);
	EXPECT_EQ(call(SMCCC_ARCH_FEATURES, SMCCC_WORKAROUND_1), 1u);
	EXPECT_EQ(call(SMCCC_WORKAROUND_1), 0u);
}

TEST_F(Smccc, workarounds_2_and_3_are_not_promised)
{
	EXPECT_EQ(call(SMCCC_ARCH_FEATURES, 0x80007fff), NOT_SUPPORTED);
	EXPECT_EQ(call(SMCCC_ARCH_FEATURES, 0x80003fff), NOT_SUPPORTED);
}

/* 01240041-172a-4fd9-8db2-2c411cfe0633: bytes 0..3 of the UUID in w0, the first in the lowest. */
TEST_F(Smccc, vendor_hypervisor_tells_its_name)
{
	const u8 uuid[16] = {0x01, 0x24, 0x00, 0x41, 0x17, 0x2a, 0x4f, 0xd9,
			     0x8d, 0xb2, 0x2c, 0x41, 0x1c, 0xfe, 0x06, 0x33};

	call(SMCCC_VENDOR_CALL_UID);
	for (u32 i = 0; i < 16; i++) {
		EXPECT_EQ((u8)(vcpu->arch.x[i / 4] >> (8 * (i % 4))), uuid[i]) << i;
	}
	EXPECT_EQ(call(SMCCC_VENDOR_REVISION), 1u);
	EXPECT_EQ(vcpu->arch.x[1], 0u);
	EXPECT_EQ(call(SMCCC_VENDOR_CALL_COUNT), 3u);
}

/* ---- Random numbers ------------------------------------------------------------------------ */

class Trng : public Smccc
{
};

TEST_F(Trng, says_what_it_can)
{
	EXPECT_EQ(call(TRNG_VERSION), 0x10000u);
	for (u64 function : {TRNG_VERSION, TRNG_FEATURES, TRNG_GET_UUID, TRNG_RND, TRNG_RND_64}) {
		EXPECT_EQ(call(TRNG_FEATURES, function), TRNG_SUCCESS) << std::hex << function;
	}
	EXPECT_EQ(call(TRNG_FEATURES, 0x84000054), TRNG_NOT_SUPPORTED);
	EXPECT_NE((u32)call(TRNG_GET_UUID), 0xffffffffu);
}

TEST_F(Trng, without_a_generator_is_not_there)
{
	fake_random_is_weak = true;
	EXPECT_EQ(call(TRNG_VERSION), TRNG_NOT_SUPPORTED);
	EXPECT_EQ(call(TRNG_FEATURES, TRNG_RND_64), TRNG_NOT_SUPPORTED);
	EXPECT_EQ(call(TRNG_GET_UUID), TRNG_NOT_SUPPORTED);
	EXPECT_EQ(call(TRNG_RND_64, 64), TRNG_NO_ENTROPY);
	EXPECT_EQ(vcpu->arch.x[3], 0u);
}

/* Every number of bits gets that many, in x3, then x2, then x1, and zeroes above. */
TEST_F(Trng, gives_as_many_bits_as_asked)
{
	for (u64 width : {32u, 64u}) {
		u64 function = width == 32 ? TRNG_RND : TRNG_RND_64;

		for (u64 bits = 1; bits <= 3 * width; bits++) {
			u64 seen[3] = {0, 0, 0};

			for (u32 round = 0; round < 64; round++) {
				bool strong;

				/* The fake generator counts: bit 0 alternates. */
				if (round % 2 == 0) {
					arch_random(&strong);
				}
				ASSERT_EQ(call(function, bits), TRNG_SUCCESS);
				for (u32 i = 0; i < 3; i++) {
					seen[i] |= vcpu->arch.x[3 - i];
				}
			}
			for (u32 i = 0; i < 3; i++) {
				u64 left = bits > i * width ? bits - i * width : 0;
				u64 mask = left == 0 ? 0 : BITS(min_u64(left, width) - 1, 0);

				EXPECT_EQ(seen[i] & ~mask, 0u) << bits;
				EXPECT_EQ(seen[i] == 0, mask == 0) << bits;
			}
		}
	}
}

TEST_F(Trng, refuses_no_bits_and_too_many)
{
	EXPECT_EQ(call(TRNG_RND, 0), TRNG_INVALID_PARAMETERS);
	EXPECT_EQ(call(TRNG_RND, 97), TRNG_INVALID_PARAMETERS);
	EXPECT_EQ(call(TRNG_RND_64, 0), TRNG_INVALID_PARAMETERS);
	EXPECT_EQ(call(TRNG_RND_64, 193), TRNG_INVALID_PARAMETERS);
}

TEST_F(Trng, numbers_differ)
{
	std::set<u64> seen;

	for (u32 i = 0; i < 100; i++) {
		call(TRNG_RND_64, 192);
		seen.insert({vcpu->arch.x[1], vcpu->arch.x[2], vcpu->arch.x[3]});
	}
	EXPECT_EQ(seen.size(), 300u);
}

/* ---- Stolen time --------------------------------------------------------------------------- */

class PvTime : public Smccc
{
      protected:
	struct vtime_pv_record *record(const struct vcpu *of)
	{
		struct s2_leaf leaf = s2_query(&vm->s2, gpa(of->arch.stolen_gpa));

		EXPECT_EQ(leaf.kind, S2_LEAF);
		EXPECT_EQ(leaf.attr.perm, S2_READ);
		return static_cast<struct vtime_pv_record *>(hpa_ptr(leaf.hpa));
	}
};

TEST_F(PvTime, is_found_the_way_linux_looks_for_it)
{
	EXPECT_EQ(call(SMCCC_ARCH_FEATURES, PV_TIME_FEATURES), 0u);
	EXPECT_EQ(call(PV_TIME_FEATURES, PV_TIME_ST), 0u);
	EXPECT_EQ(call(PV_TIME_FEATURES, PV_TIME_FEATURES), 0u);
	EXPECT_EQ(call(PV_TIME_FEATURES, 0xc5000022), NOT_SUPPORTED);
}

TEST_F(PvTime, each_vcpu_gets_a_record_of_its_own_outside_of_ram)
{
	for (u32 i = 0; i < VCPUS; i++) {
		vm->vcpus[i]->stolen_ns = 100 + i;
		EXPECT_EQ(call_by(vm->vcpus[i], PV_TIME_ST), GUEST_PV_TIME_BASE + 64 * i);
		EXPECT_FALSE(vm_memory_contains(vm, gpa(vm->vcpus[i]->arch.stolen_gpa), 64));
	}
	for (u32 i = 0; i < VCPUS; i++) {
		EXPECT_EQ(record(vm->vcpus[i])->stolen_ns, 100 + i);
		EXPECT_EQ(record(vm->vcpus[i])->revision, 0u);
		EXPECT_EQ(record(vm->vcpus[i])->attributes, 0u);
	}
}

TEST_F(PvTime, record_follows_when_the_vcpu_is_loaded)
{
	vcpu->stolen_ns = 5;
	vtime_pv_update(vcpu); /* nobody asked: nothing to write to */
	call(PV_TIME_ST);
	vcpu->stolen_ns = 7;
	EXPECT_EQ(record(vcpu)->stolen_ns, 5u);
	vtime_pv_update(vcpu);
	EXPECT_EQ(record(vcpu)->stolen_ns, 7u);
}

TEST_F(PvTime, asking_twice_gives_the_same_record_and_leaks_nothing)
{
	u64 first = call(PV_TIME_ST);
	u64 frames = frame_count(FRAME_GUEST);

	EXPECT_EQ(call(PV_TIME_ST), first);
	EXPECT_EQ(frame_count(FRAME_GUEST), frames);
	EXPECT_EQ(frame_of(ptr_hpa(vm->arch.stolen_page))->refs, 2u);
}

TEST_F(PvTime, page_goes_back_with_the_vm)
{
	u64 frames = frame_count(FRAME_GUEST);
	struct s2_batch batch;

	call(PV_TIME_ST);
	EXPECT_EQ(frame_count(FRAME_GUEST), frames + 1);
	vtime_pv_fini(vm);
	s2_batch_open(&batch, &vm->s2);
	EXPECT_EQ(s2_unmap(&vm->s2, gpa(GUEST_PV_TIME_BASE), PAGE_SIZE, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(frame_count(FRAME_GUEST), frames);
	vtime_pv_fini(vm);
}

} // namespace
