/* PSCI 1.1 as guests see it: who goes on and off, and what wrong words get for an answer. */
#include "guest_test_machine.h"

#include <atomic>
#include <thread>
#include <vector>

extern "C" {
#include "../../arch/arm64/vpsci.h"
#include "../../arch/arm64/vsmccc.h"
}

namespace
{

constexpr u64 ENTRY = GIB(1) + 0x1000;
constexpr u64 GARBAGE = 0xdeadbeef00000000;

class Psci : public GuestMachine
{
      protected:
	u64 call(u64 function, u64 a1 = 0, u64 a2 = 0, u64 a3 = 0)
	{
		return call_by(vcpu, function, a1, a2, a3);
	}

	static u64 call_by(struct vcpu *caller, u64 function, u64 a1 = 0, u64 a2 = 0, u64 a3 = 0)
	{
		caller->arch.x[0] = function;
		caller->arch.x[1] = a1;
		caller->arch.x[2] = a2;
		caller->arch.x[3] = a3;
		vsmccc_call(caller);
		return caller->arch.x[0];
	}
};

TEST_F(Psci, version_is_1_1)
{
	EXPECT_EQ(call(PSCI_VERSION), 0x10001u);
}

TEST_F(Psci, upper_half_of_the_function_is_ignored)
{
	EXPECT_EQ(call(GARBAGE | PSCI_VERSION), 0x10001u);
}

TEST_F(Psci, cpu_on_starts_the_target_with_its_context)
{
	EXPECT_EQ(call(PSCI_CPU_ON_64, 2, ENTRY, 0x123456789abcull), PSCI_SUCCESS);
	EXPECT_TRUE(vcpu_is_on(vm->vcpus[2]));
	EXPECT_FALSE(vcpu_is_on(vm->vcpus[1]));
	EXPECT_EQ(vm->vcpus[2]->arch.pc, ENTRY);
	EXPECT_EQ(vm->vcpus[2]->arch.x[0], 0x123456789abcull);
}

TEST_F(Psci, cpu_on_of_32_bits_ignores_upper_halves)
{
	EXPECT_EQ(call(PSCI_CPU_ON, GARBAGE | 1, GARBAGE | ENTRY, GARBAGE | 7), PSCI_SUCCESS);
	EXPECT_EQ(vm->vcpus[1]->arch.pc, ENTRY);
	EXPECT_EQ(vm->vcpus[1]->arch.x[0], 7u);
}

TEST_F(Psci, cpu_on_of_64_bits_does_not_ignore_them)
{
	EXPECT_EQ(call(PSCI_CPU_ON_64, GARBAGE | 1, ENTRY), PSCI_INVALID_PARAMETERS);
	EXPECT_EQ(call(PSCI_CPU_ON_64, 1, GARBAGE | ENTRY), PSCI_INVALID_ADDRESS);
	EXPECT_FALSE(vcpu_is_on(vm->vcpus[1]));
}

TEST_F(Psci, cpu_on_knows_only_cpus_that_are_there)
{
	for (u64 target : {(u64)VCPUS, (u64)0x100, (u64)0x10001, (u64)1 << 31, (u64)1 << 32}) {
		EXPECT_EQ(call(PSCI_CPU_ON_64, target, ENTRY), PSCI_INVALID_PARAMETERS) << target;
	}
}

TEST_F(Psci, cpu_on_wants_an_entry_in_ram)
{
	for (u64 entry : {(u64)0, RAM - 4, RAM + RAM_SIZE, RAM + RAM_SIZE - 2, ENTRY + 2, ENTRY + 1,
			  (u64)0x09000000, ~(u64)0, ~(u64)3}) {
		EXPECT_EQ(call(PSCI_CPU_ON_64, 1, entry), PSCI_INVALID_ADDRESS)
			<< std::hex << entry;
	}
	EXPECT_FALSE(vcpu_is_on(vm->vcpus[1]));
	EXPECT_EQ(call(PSCI_CPU_ON_64, 1, RAM + RAM_SIZE - 4), PSCI_SUCCESS);
}

TEST_F(Psci, cpu_that_is_on_is_already_on)
{
	EXPECT_EQ(call(PSCI_CPU_ON_64, 0, ENTRY), PSCI_ALREADY_ON);
	EXPECT_EQ(call(PSCI_CPU_ON_64, 1, ENTRY), PSCI_SUCCESS);
	EXPECT_EQ(call(PSCI_CPU_ON_64, 1, ENTRY), PSCI_ALREADY_ON);
}

TEST_F(Psci, of_racing_cpu_ons_one_succeeds)
{
	for (u32 round = 0; round < 50; round++) {
		std::atomic<u32> successes{0}, already{0}, ready{0};
		std::vector<std::thread> threads;

		TearDown();
		SetUp();
		for (u32 i = 0; i < 3; i++) {
			threads.emplace_back([&, i] {
				struct vcpu *caller = vm->vcpus[i];

				fake_cpu_become(i);
				for (ready++; ready < 3;) {
				}
				u64 result = call_by(caller, PSCI_CPU_ON_64, 3, ENTRY, i);
				successes += result == PSCI_SUCCESS;
				already += result == PSCI_ALREADY_ON;
			});
		}
		for (std::thread &thread : threads) {
			thread.join();
		}
		ASSERT_EQ(successes, 1u);
		ASSERT_EQ(already, 2u);
	}
}

TEST_F(Psci, cpu_off_stops_the_caller)
{
	call(PSCI_CPU_OFF);
	EXPECT_TRUE(vcpu->requests & VCPU_REQUEST_STOP);
	EXPECT_EQ(vm->state, VM_RUNNING);
}

TEST_F(Psci, affinity_info_tells_on_from_off)
{
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0, 0), PSCI_AFFINITY_ON);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 1, 0), PSCI_AFFINITY_OFF);
	call(PSCI_CPU_ON_64, 1, ENTRY);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO, GARBAGE | 1, GARBAGE), PSCI_AFFINITY_ON);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, VCPUS, 0), PSCI_INVALID_PARAMETERS);
}

TEST_F(Psci, affinity_info_of_a_node_is_on_if_any_cpu_of_it_is)
{
	vm->vcpus[2]->arch.vmpidr = BIT(31) | 0x100;
	vm->vcpus[3]->arch.vmpidr = BIT(31) | 0x101;
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0x1ff, 1), PSCI_AFFINITY_OFF);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0x000, 1), PSCI_AFFINITY_ON);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0x200, 1), PSCI_INVALID_PARAMETERS);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0xffff, 2), PSCI_AFFINITY_ON);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0, 3), PSCI_AFFINITY_ON);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0, 4), PSCI_INVALID_PARAMETERS);
	call(PSCI_CPU_ON_64, 0x101, ENTRY);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0x100, 1), PSCI_AFFINITY_ON);
	EXPECT_EQ(call(PSCI_AFFINITY_INFO_64, 0x100, 0), PSCI_AFFINITY_OFF);
}

TEST_F(Psci, suspend_in_standby_waits_and_returns_success)
{
	vcpu->arch.pc = ENTRY;
	EXPECT_EQ(call(PSCI_CPU_SUSPEND_64, 0x1234, 0, 0), PSCI_SUCCESS);
	EXPECT_TRUE(vcpu->requests & VCPU_REQUEST_WAIT);
	EXPECT_EQ(vcpu->arch.pc, ENTRY);
}

TEST_F(Psci, suspend_that_powers_down_comes_back_at_the_entry)
{
	vcpu->arch.pc = RAM;
	vcpu->arch.x[19] = 99;
	vcpu->arch.pstate = 0;
	fake_el1.regs[EL1_SCTLR] = ~0ull;
	call(PSCI_CPU_SUSPEND_64, BIT(16), ENTRY, 0x77);
	EXPECT_TRUE(vcpu->requests & VCPU_REQUEST_WAIT);
	EXPECT_EQ(vcpu->arch.pc, ENTRY);
	EXPECT_EQ(vcpu->arch.x[0], 0x77u);
	EXPECT_EQ(vcpu->arch.x[19], 0u);
	EXPECT_EQ(vcpu->arch.pstate, 0x3c5u);
	EXPECT_EQ(fake_el1.regs[EL1_SCTLR] & 0x1005, 0u); /* I, C, M */
}

TEST_F(Psci, suspend_refuses_wrong_states_and_entries)
{
	EXPECT_EQ(call(PSCI_CPU_SUSPEND_64, BIT(31)), PSCI_INVALID_PARAMETERS);
	EXPECT_EQ(call(PSCI_CPU_SUSPEND_64, BIT(17)), PSCI_INVALID_PARAMETERS);
	EXPECT_EQ(call(PSCI_CPU_SUSPEND_64, BIT(16), 0x1000), PSCI_INVALID_ADDRESS);
	EXPECT_FALSE(vcpu->requests & VCPU_REQUEST_WAIT);
}

TEST_F(Psci, system_off_ends_the_vm)
{
	call(PSCI_SYSTEM_OFF);
	EXPECT_EQ(vm->state, VM_OFF);
	EXPECT_EQ(call_by(vm->vcpus[1], PSCI_CPU_ON_64, 2, ENTRY), PSCI_INTERNAL_FAILURE);
}

TEST_F(Psci, system_reset_and_reset2_reset_the_vm)
{
	call(PSCI_SYSTEM_RESET);
	EXPECT_EQ(vm->state, VM_RESETTING);
	TearDown();
	SetUp();
	call(PSCI_SYSTEM_RESET2_64, GARBAGE, 5);
	EXPECT_EQ(vm->state, VM_RESETTING);
}

TEST_F(Psci, reset2_refuses_types_of_other_vendors)
{
	EXPECT_EQ(call(PSCI_SYSTEM_RESET2_64, BIT(31)), PSCI_INVALID_PARAMETERS);
	EXPECT_EQ(call(PSCI_SYSTEM_RESET2, 1), PSCI_INVALID_PARAMETERS);
	EXPECT_EQ(vm->state, VM_RUNNING);
}

TEST_F(Psci, there_is_no_trusted_os_to_migrate)
{
	EXPECT_EQ(call(PSCI_MIGRATE_INFO_TYPE), 2u);
}

/* Whatever the features say, a call must agree with: a function that is missing changes x0 alone.
 */
TEST_F(Psci, features_agree_with_what_is_there)
{
	const std::vector<u64> present = {
		0x84000000, 0x84000001, 0xc4000001, 0x84000002, 0x84000003, 0xc4000003, 0x84000004,
		0xc4000004, 0x84000006, 0x84000008, 0x84000009, 0x8400000a, 0x84000012, 0xc4000012};

	for (u64 wide : {0ull, 0x40000000ull}) {
		for (u64 function = 0x84000000 | wide; function < (0x84000020 | wide); function++) {
			bool is_there = std::find(present.begin(), present.end(), function) !=
					present.end();

			EXPECT_EQ(call(PSCI_FEATURES, GARBAGE | function),
				  is_there ? PSCI_SUCCESS : PSCI_NOT_SUPPORTED)
				<< std::hex << function;
			if (!is_there) {
				EXPECT_EQ(call(function, 1, 2, 3), PSCI_NOT_SUPPORTED);
				EXPECT_EQ(vcpu->arch.x[1], 1u);
				EXPECT_EQ(vcpu->arch.x[2], 2u);
				EXPECT_EQ(vcpu->arch.x[3], 3u);
			}
		}
	}
	EXPECT_EQ(call(PSCI_FEATURES, SMCCC_VERSION), PSCI_SUCCESS);
}

} // namespace
