/* The per-CPU caches: what they hold, what they leave to others. */
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "frame_test_machine.h"

namespace
{

constexpr u64 BASE = 0x40000000;

TEST(FrameCache, frame_that_was_freed_last_is_handed_out_first)
{
	FrameMachine machine{{BASE, BASE + MIB(4)}};
	hpa_t a = frame_alloc(0, FRAME_GUEST, 1);
	hpa_t b = frame_alloc(0, FRAME_GUEST, 1);

	frame_put(b);
	frame_put(a);
	EXPECT_EQ(frame_alloc(0, FRAME_TABLE, 2).v, a.v);
	EXPECT_EQ(frame_alloc(0, FRAME_TABLE, 2).v, b.v);
}

TEST(FrameCache, frames_of_one_refill_come_in_ascending_order)
{
	FrameMachine machine{{BASE, BASE + MIB(64)}};
	u64 last = frame_alloc(0, FRAME_GUEST, 1).v;

	for (int i = 0; i < 7; i++) {
		u64 next = frame_alloc(0, FRAME_GUEST, 1).v;

		EXPECT_EQ(next, last + PAGE_SIZE);
		last = next;
	}
}

TEST(FrameCache, two_cpus_never_get_the_same_frame)
{
	FrameMachine machine{{BASE, BASE + MIB(4)}};
	std::set<u64> seen;

	for (u32 i = 0; i < 800; i++) {
		frame_test_become(i % 3);
		hpa_t a = frame_alloc(0, FRAME_GUEST, 1);

		ASSERT_FALSE(hpa_is_none(a));
		ASSERT_TRUE(seen.insert(a.v).second);
	}
	frame_test_become(0);
}

TEST(FrameCache, thousands_freed_at_once_do_not_stay_in_the_cache)
{
	FrameMachine machine{{BASE, BASE + MIB(64)}};
	std::vector<hpa_t> taken;

	for (int i = 0; i < 4096; i++) {
		taken.push_back(frame_alloc(0, FRAME_GUEST, 1));
	}
	for (hpa_t a : taken) {
		frame_put(a);
	}
	/* Without any draining: another CPU finds nearly all of it in large blocks. */
	frame_test_become(1);
	int large = 0;

	while (!hpa_is_none(frame_alloc(ORDER_2M, FRAME_GUEST, 1))) {
		large++;
	}
	frame_test_become(0);
	EXPECT_GE(large, 30) << "of 32; what is cached may lie in two of them";
}

TEST(FrameCache, short_memory_is_not_hoarded_by_one_cpu)
{
	FrameMachine machine{{BASE, BASE + MIB(2) + 16 * PAGE_SIZE}};
	u32 before = cpu_count;

	cpu_count = 2;
	EXPECT_FALSE(hpa_is_none(frame_alloc(ORDER_2M, FRAME_GUEST, 1))); /* leaves 16 */
	EXPECT_FALSE(hpa_is_none(frame_alloc(0, FRAME_GUEST, 1)));
	frame_test_become(1);
	EXPECT_FALSE(hpa_is_none(frame_alloc(0, FRAME_GUEST, 1)));
	EXPECT_FALSE(hpa_is_none(frame_alloc(2, FRAME_GUEST, 1)));
	frame_test_become(0);
	cpu_count = before;
}

TEST(FrameCache, draining_twice_is_harmless)
{
	FrameMachine machine{{BASE, BASE + MIB(4)}};

	frame_put(frame_alloc(0, FRAME_GUEST, 1));
	frame_drain_cache();
	frame_drain_cache();
	EXPECT_EQ(frame_count(FRAME_FREE), frame_total());
	EXPECT_EQ(frame_count_owned(FRAME_FREE, OWNER_NONE), frame_total());
}

} // namespace
