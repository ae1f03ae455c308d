// A VM on the fake machine, for tests of what may be asked of one while it runs.
#ifndef VM_ASKED_MACHINE_H
#define VM_ASKED_MACHINE_H

#include <gtest/gtest.h>

#include <cstring>

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/exercise.h"
#include "hyp/probe.h"
#include "hyp/s2_view.h"
#include "hyp/vm_dirty.h"
#include "hyp/vm_view.h"
}

class AskedVm : public testing::Test
{
      protected:
	static constexpr u64 kRam = GIB(1); // where the fake architecture puts it
	static constexpr u64 kSize = MIB(8);

	void SetUp() override
	{
		struct config_vm config = {};
		char why[128] = "";

		fake_cpus(1);
		fake_memory(MIB(64));
		vm_count = 0;
		std::strcpy(config.name, "test");
		config.cpus = 1;
		config.memory = kSize;
		config.weight = CONFIG_WEIGHT_DEFAULT;
		config.probe = true;
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
	}

	void TearDown() override
	{
		vm_view_drop_all(vm);
		vm_dirty_end(vm);
		s2_destroy(&vm->s2);
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
		EXPECT_EQ(frame_count(FRAME_TABLE), 0u);
		vm_count = 0;
	}

	struct exit fault_at(u64 at, u8 access, u8 view = 0)
	{
		struct exit fault = {};

		fault.reason = EXIT_MEMORY;
		fault.gpa = gpa(at);
		fault.access = access;
		fault.view = view;
		return fault;
	}

	void touch(u64 at, u8 access = ACCESS_WRITE)
	{
		struct exit fault = fault_at(at, access);
		enum status status = vm_memory_fault(vm, &fault);

		EXPECT_TRUE(status == OK || status == AGAIN) << status;
	}

	u64 ask(enum probe call, u64 a = 0, u64 b = 0, u64 c = 0)
	{
		const u64 args[3] = {a, b, c};
		u64 answer = 0;

		EXPECT_TRUE(probe_call(vm->vcpus[0], call, args, &answer));
		return answer;
	}

	struct vm *vm;
};

#endif
