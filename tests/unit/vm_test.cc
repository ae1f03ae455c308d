// The ends of a VM that no vCPU of its own sees to.
#include <gtest/gtest.h>

#include <cstring>

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/run.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"
}

namespace
{

class Vm : public testing::Test
{
      protected:
	struct vm *vm;

	void SetUp() override
	{
		struct config_vm config = {};
		char why[128] = "";

		fake_cpus(1);
		fake_memory(MIB(64));
		fake_now = 1000;
		vm_count = 0;
		std::strcpy(config.name, "guest");
		config.cpus = 1;
		config.memory = MIB(4);
		config.weight = 256;
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
		run_begin(2); /* one more than there are: the run goes on */
	}

	void TearDown() override
	{
		vm_count = 0;
	}
};

TEST_F(Vm, one_that_is_destroyed_before_it_starts_never_runs_and_gives_all_back)
{
	u8 byte = 1;

	ASSERT_EQ(vm_memory_write(vm, vm->ram.ranges[0].base, &byte, 1), OK);
	EXPECT_NE(frame_count_owned(FRAME_GUEST, vm->number), 0u);
	vm_destroy(vm);
	vm_start(vm);
	EXPECT_EQ(vm->state, VM_DESTROYED);
	EXPECT_FALSE(vcpu_is_on(vm->vcpus[0]));
	EXPECT_EQ(frame_count_owned(FRAME_GUEST, vm->number), 0u);
	EXPECT_EQ(frame_count_owned(FRAME_TABLE, vm->number), 0u);
}

TEST_F(Vm, the_first_end_decides_and_keeps_its_words)
{
	vm_crash(vm, "reason %d", 1);
	vm_crash(vm, "reason %d", 2);
	vm_destroy(vm);
	EXPECT_EQ(vm->state, VM_CRASHED);
	EXPECT_STREQ(vm->last_words, "reason 1");
}

} // namespace
