// Which device answers: the VM's, or one that a vCPU alone sees.
#include "guest_test_machine.h"

namespace
{

constexpr u64 DEVICE = MIB(16), OTHER = DEVICE + PAGE_SIZE;

u64 read_fixed(void *device, struct vcpu *, u64 offset, unsigned)
{
	return *(const u64 *)device + offset;
}

const struct mmio_ops ops = {read_fixed, nullptr};
u64 of_vm = 0x1000, of_vcpu = 0x2000, of_other = 0x3000;

struct mmio_region region(u64 at, u64 *device)
{
	return {gpa(at), PAGE_SIZE, &ops, device, "test"};
}

// Its one guest reads two addresses, one after the other, and ends.
class VmMmio : public GuestMachine
{
      protected:
	static inline u64 asked[2], answers[2];
	static inline u32 count, aborts;

	static void exit_for_read(struct vcpu *vcpu)
	{
		if (count > 0) {
			answers[count - 1] = vcpu->arch.x[3];
			aborts = vcpu->arch.aborts;
		}
		if (count == 2) {
			vm_off(vcpu->vm);
			vcpu->exit.reason = EXIT_INTERRUPT;
			return;
		}
		vcpu->exit = {};
		vcpu->exit.reason = EXIT_MEMORY;
		vcpu->exit.gpa = gpa(asked[count++]);
		vcpu->exit.access = ACCESS_READ;
		vcpu->exit.decoded = vcpu->exit.wide = true;
		vcpu->exit.size = 8;
		vcpu->exit.reg = 3;
	}

	void read_both(u64 first, u64 second)
	{
		asked[0] = first;
		asked[1] = second;
		count = aborts = 0;
		run(exit_for_read);
	}
};

TEST_F(VmMmio, a_vcpus_own_device_goes_before_the_vms)
{
	ASSERT_EQ(vm_mmio_add(vm, region(DEVICE, &of_vm)), OK);
	ASSERT_EQ(vm_mmio_add(vm, region(OTHER, &of_other)), OK);
	vcpu->own_mmio = region(DEVICE, &of_vcpu);
	read_both(DEVICE + 8, OTHER + 16);
	EXPECT_EQ(answers[0], of_vcpu + 8);
	EXPECT_EQ(answers[1], of_other + 16);
}

TEST_F(VmMmio, another_vcpus_own_device_answers_nobody_else)
{
	ASSERT_EQ(vm_mmio_add(vm, region(DEVICE, &of_vm)), OK);
	vm->vcpus[1]->own_mmio = region(DEVICE, &of_vcpu);
	read_both(DEVICE, DEVICE + PAGE_SIZE - 8);
	EXPECT_EQ(answers[0], of_vm);
	EXPECT_EQ(answers[1], of_vm + PAGE_SIZE - 8);
}

TEST_F(VmMmio, where_no_device_is_the_access_aborts)
{
	vcpu->own_mmio = region(DEVICE, &of_vcpu);
	read_both(DEVICE - 8, DEVICE + PAGE_SIZE);
	EXPECT_EQ(aborts, 2u);
}

} // namespace
