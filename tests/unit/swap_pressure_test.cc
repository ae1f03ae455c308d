// Whose memory goes: the weight for each page, with a tax on what is idle.
#include <gtest/gtest.h>

#include <vector>

extern "C" {
#include "hyp/swap_pressure.h"
}

namespace
{

struct pressure_guest guest(u64 current, u32 weight = 256, u32 active_permille = 0, u64 min = 0)
{
	return {current, min, weight, active_permille, false};
}

u32 choose(std::vector<struct pressure_guest> guests)
{
	return pressure_choose(guests.data(), (u32)guests.size());
}

TEST(Pressure, of_equals_who_has_most_gives)
{
	EXPECT_EQ(choose({guest(100000), guest(200000), guest(150000)}), 1u);
	EXPECT_EQ(choose({guest(100000), guest(100000)}), 0u) << "the first of equals";
}

TEST(Pressure, who_weighs_more_may_have_more)
{
	EXPECT_EQ(choose({guest(200000, 512), guest(150000, 256)}), 1u);
	EXPECT_EQ(choose({guest(200000, 512), guest(90000, 256)}), 0u);
}

TEST(Pressure, idle_memory_costs_four_times_as_much)
{
	EXPECT_EQ(choose({guest(300000, 256, 1000), guest(100000, 256, 0)}), 1u);
	EXPECT_EQ(choose({guest(500000, 256, 1000), guest(100000, 256, 0)}), 0u);
	EXPECT_EQ(choose({guest(100000, 256, 500), guest(100000, 256, 499)}), 1u);
}

TEST(Pressure, what_is_protected_is_not_asked_for)
{
	struct pressure_guest out = guest(900000);

	out.is_out = true;
	EXPECT_EQ(choose({guest(200000, 256, 0, 200000), guest(1000)}), 1u);
	EXPECT_EQ(choose({guest(200000, 256, 0, 199999), guest(1000)}), 0u);
	EXPECT_EQ(choose({out, guest(1000)}), 1u);
	EXPECT_EQ(choose({out, guest(1000, 256, 0, 1000)}), PRESSURE_NOBODY);
	EXPECT_EQ(choose({}), PRESSURE_NOBODY);
	EXPECT_EQ(choose({guest(0)}), PRESSURE_NOBODY) << "who has nothing has nothing to give";
}

// 255 GiB, the largest weight: nothing overflows.
TEST(Pressure, large_numbers_are_compared_as_numbers)
{
	EXPECT_EQ(choose({guest(66846720, 65535), guest(66846720, 65534)}), 1u);
	EXPECT_EQ(choose({guest(66846720, 1), guest(66846720, 65535)}), 0u);
}

} // namespace
