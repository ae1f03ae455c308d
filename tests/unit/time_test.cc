// Ticks and nanoseconds: no rounding that a person or a scheduler would notice.
#include <gtest/gtest.h>

extern "C" {
#include "hyp/time.h"
}

namespace
{

class Time : public testing::Test
{
      protected:
	void TearDown() override
	{
		time_set_hz(1000000000);
	}
};

TEST_F(Time, a_tick_is_a_nanosecond_until_it_is_said)
{
	EXPECT_EQ(time_hz(), 1000000000u);
	EXPECT_EQ(ticks_to_ns(12345678901234567), 12345678901234567u);
	EXPECT_EQ(ns_to_ticks(12345678901234567), 12345678901234567u);
}

TEST_F(Time, every_rate_converts_both_ways)
{
	for (u64 hz : {1000000ul, 24000000ul, 62500000ul, 100000000ul, 999999937ul, 4200000001ul}) {
		time_set_hz(hz);
		EXPECT_EQ(time_hz(), hz);
		for (u64 seconds : {1ul, 3600ul, 86400ul * 36}) {
			EXPECT_NEAR(double(ticks_to_ns(seconds * hz)), seconds * 1e9, 2) << hz;
			EXPECT_NEAR(double(ns_to_ticks(seconds * 1000000000)), double(seconds * hz),
				    2)
				<< hz;
		}
	}
}

TEST_F(Time, a_century_of_ticks_is_off_by_less_than_a_tick)
{
	const u64 century = 36525ul * 86400 * 1000000000ul;

	time_set_hz(1000000000);
	EXPECT_EQ(ticks_to_ns(century), century);
	time_set_hz(62500000); // 16 ns
	EXPECT_LE(century - ticks_to_ns(century / 16), 16u);
}

} // namespace
