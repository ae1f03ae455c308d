// The page by which ACPI starts CPUs.
#include <gtest/gtest.h>

#include <vector>

extern "C" {
#include "../../arch/x86_64/vmailbox.h"
}

namespace
{

class Vmailbox : public testing::Test
{
      protected:
	void SetUp() override
	{
		mailbox.wake = [](void *context, u32 apic_id, u64 vector) {
			((Vmailbox *)context)->woken.emplace_back(apic_id, vector);
		};
		mailbox.context = this;
	}

	void write(u64 offset, unsigned size, u64 value)
	{
		vmailbox_ops.write(&mailbox, nullptr, offset, size, value);
	}

	u64 read(u64 offset, unsigned size)
	{
		return vmailbox_ops.read(&mailbox, nullptr, offset, size);
	}

	struct vmailbox mailbox = {};
	std::vector<std::pair<u32, u64>> woken;
};

TEST_F(Vmailbox, a_command_wakes_one_cpu_and_is_taken)
{
	write(4, 4, 3);
	write(8, 8, 0x123456789000);
	EXPECT_EQ(read(4, 4), 3u);
	EXPECT_EQ(read(8, 8), 0x123456789000u);
	EXPECT_TRUE(woken.empty());
	write(0, 2, 1);
	ASSERT_EQ(woken.size(), 1u);
	EXPECT_EQ(woken[0], std::make_pair(3u, (u64)0x123456789000));
	EXPECT_EQ(read(0, 2), 0u);
}

TEST_F(Vmailbox, a_command_may_come_in_one_write_with_the_id)
{
	write(8, 8, 0x98000);
	write(0, 8, 1 | (u64)7 << 32);
	ASSERT_EQ(woken.size(), 1u);
	EXPECT_EQ(woken[0], std::make_pair(7u, (u64)0x98000));
}

TEST_F(Vmailbox, only_the_command_to_wake_up_wakes)
{
	for (u64 command : {0, 2, 3, 256, 0xffff}) {
		write(0, 2, command);
		EXPECT_EQ(read(0, 2), 0u);
	}
	write(2, 2, 1); // reserved
	EXPECT_TRUE(woken.empty());
}

TEST_F(Vmailbox, the_rest_of_the_page_is_nothing)
{
	write(16, 8, ~0ull);
	write(4095, 1, 0xff);
	write(12, 8, ~0ull); // half of it is
	EXPECT_EQ(read(16, 8), 0u);
	EXPECT_EQ(read(12, 8), 0u);
	EXPECT_EQ(read(4095, 1), 0u);
	EXPECT_EQ(read(8, 8), 0u);
}

TEST_F(Vmailbox, a_reset_forgets_what_was_written)
{
	write(8, 8, 0x98000);
	vmailbox_reset(&mailbox);
	EXPECT_EQ(read(8, 8), 0u);
}

} // namespace
