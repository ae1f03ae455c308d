/*
 * A guest for tests of what arm64 emulates: a VM that was really built, with its vCPUs, on the fake
 * machine, and the registers of arch/fake/fake_el1.h.
 */
#ifndef TESTS_GUEST_TEST_MACHINE_H
#define TESTS_GUEST_TEST_MACHINE_H

#include <gtest/gtest.h>

#include <csetjmp>
#include <cstring>

extern "C" {
#include "../../arch/fake/fake.h"
#include "../../arch/fake/fake_el1.h"

#include "hyp/run.h"
#include "hyp/sched.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"

#include <arch_enter.h>
}

namespace
{

inline std::jmp_buf guest_test_end;

inline void guest_test_ended(int)
{
	std::longjmp(guest_test_end, 1);
}

class GuestMachine : public testing::Test
{
      protected:
	static constexpr u32 VCPUS = 4;
	static constexpr u64 RAM = GIB(1); /* where it begins */
	static constexpr u64 RAM_SIZE = MIB(32);

	struct vm *vm = nullptr;
	struct vcpu *vcpu = nullptr;

	void SetUp() override
	{
		static const u8 kernel[64] = {};
		struct config_vm config = {};
		char why[128] = "";

		fake_cpus(VCPUS);
		fake_memory(MIB(64));
		fake_random_is_weak = false;
		has_run = false;
		std::memset(&fake_el1, 0, sizeof(fake_el1));
		vm_count = 0;
		std::strcpy(config.name, "test");
		config.cpus = VCPUS;
		config.memory = RAM_SIZE;
		config.weight = CONFIG_WEIGHT_DEFAULT;
		config.kernel_module.bytes = kernel;
		config.kernel_module.size = sizeof(kernel);
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
		vm->arch.gic = vgic_create(vm);
		ASSERT_NE(vm->arch.gic, nullptr);
		for (u32 i = 0; i < VCPUS; i++) {
			vm->vcpus[i]->arch.vmpidr = BIT(31) | i;
			vm->vcpus[i]->arch.stolen_gpa = ~0ull;
			vgic_vcpu_reset(vm->vcpus[i]);
		}
		run_begin(1);
		vm_start(vm);
		vcpu = vm->vcpus[0];
	}

	void TearDown() override
	{
		if (!has_run) {
			end_run();
		}
		vm_count = 0; /* its structs go with the machine */
	}

	/* The scheduler puts down every vCPU that a test turned on; none of them enters the guest.
	 */
	void end_run()
	{
		vm_destroy(vm);
		run(nullptr);
	}

	/* Until the guest has ended; `guest` is what runs at every entry. */
	void run(void (*guest)(struct vcpu *vcpu))
	{
		fake_guest = guest;
		fake_machine_end = guest_test_ended;
		fake_cpu_become(0);
		if (setjmp(guest_test_end) == 0) {
			sched_loop();
		}
		fake_guest = nullptr;
		fake_machine_end = nullptr;
		has_run = true;
	}

	bool has_run = false;
};

} // namespace

#endif
