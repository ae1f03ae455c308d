/* Blocks of every order: taken without overlap, merged again, never across holes. */
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "frame_test_machine.h"

namespace
{

constexpr u64 BASE = 0x40000000;

/* Takes blocks of `order` until there are none. */
std::vector<hpa_t> take_all(unsigned order)
{
	std::vector<hpa_t> taken;

	for (;;) {
		hpa_t a = frame_alloc(order, FRAME_GUEST, 1);

		if (hpa_is_none(a)) {
			return taken;
		}
		taken.push_back(a);
	}
}

TEST(FrameBuddy, pool_is_used_to_the_last_frame_in_every_order)
{
	for (unsigned order = 0; order <= 12; order++) {
		FrameMachine machine{{BASE, BASE + MIB(16)}};
		std::vector<hpa_t> taken = take_all(order);

		EXPECT_EQ(taken.size(), MIB(16) / order_bytes(order)) << "order " << order;
		EXPECT_EQ(frame_count(FRAME_FREE), 0u);
		EXPECT_EQ(frame_count(FRAME_GUEST), frame_total());
	}
}

TEST(FrameBuddy, freed_frames_merge_to_the_largest_block_in_any_order_of_freeing)
{
	for (u32 seed = 0; seed < 4; seed++) {
		FrameMachine machine{{GIB(1), GIB(2)}};
		std::vector<hpa_t> taken = take_all(0);

		ASSERT_EQ(taken.size(), BIT(18));
		std::shuffle(taken.begin(), taken.end(), std::mt19937(seed));
		for (hpa_t a : taken) {
			frame_put(a);
		}
		frame_drain_cache();
		hpa_t whole = frame_alloc(ORDER_1G, FRAME_GUEST, 1);

		EXPECT_EQ(whole.v, GIB(1)) << "seed " << seed;
	}
}

TEST(FrameBuddy, frame_in_a_cache_keeps_its_block_apart_until_the_cache_is_drained)
{
	FrameMachine machine{{BASE, BASE + MIB(4)}};
	hpa_t a = frame_alloc(0, FRAME_GUEST, 1);

	frame_put(a);
	EXPECT_TRUE(hpa_is_none(frame_alloc(10, FRAME_GUEST, 1)));
	frame_drain_cache();
	EXPECT_EQ(frame_alloc(10, FRAME_GUEST, 1).v, BASE);
}

TEST(FrameBuddy, holes_are_no_ram_and_nothing_merges_across_them)
{
	/* Two banks that would be buddies, were the 1 MiB between them not missing. */
	FrameMachine machine{{BASE, BASE + MIB(1)}, {BASE + MIB(2), BASE + MIB(4)}};

	EXPECT_EQ(frame_total(), MIB(3) / PAGE_SIZE);
	EXPECT_EQ(frame_count(FRAME_NONE), MIB(1) / PAGE_SIZE);
	EXPECT_EQ(frame_of(hpa(BASE + MIB(1)))->type, FRAME_NONE);
	EXPECT_EQ(frame_of(hpa(BASE + MIB(2) - 1))->type, FRAME_NONE);
	for (hpa_t a : take_all(0)) {
		EXPECT_TRUE(a.v < BASE + MIB(1) || a.v >= BASE + MIB(2));
		frame_put(a);
	}
	frame_drain_cache();
	EXPECT_TRUE(hpa_is_none(frame_alloc(10, FRAME_GUEST, 1)));
	EXPECT_EQ(frame_alloc(9, FRAME_GUEST, 1).v, BASE + MIB(2));
	EXPECT_EQ(frame_alloc(8, FRAME_GUEST, 1).v, BASE);
	EXPECT_EQ(frame_count(FRAME_FREE), 0u);
}

TEST(FrameBuddy, blocks_are_aligned_by_address_wherever_the_ram_begins)
{
	/* Neither end is aligned to more than a page, and the base is not even to 2 MiB. */
	FrameMachine machine{{BASE + 3 * PAGE_SIZE, BASE + MIB(9) + 5 * PAGE_SIZE}};
	std::vector<hpa_t> large = take_all(ORDER_2M);

	EXPECT_EQ(large.size(), 3u);
	for (hpa_t a : large) {
		EXPECT_TRUE(is_aligned(a.v, MIB(2)));
		EXPECT_EQ(frame_of(hpa_add(a, MIB(1))), frame_of(a));
	}
	EXPECT_EQ(frame_of(hpa(BASE + 3 * PAGE_SIZE))->type, FRAME_FREE);
	EXPECT_EQ(frame_of(hpa(BASE + MIB(1)))->type, FRAME_FREE);
}

TEST(FrameBuddy, small_blocks_are_used_up_before_large_ones_are_cut)
{
	FrameMachine machine{{BASE, BASE + MIB(1)}, {BASE + MIB(2), BASE + MIB(4)}};

	for (int i = 0; i < 200; i++) { /* the small bank has 256, and a cache is filled in bulk */
		ASSERT_LT(frame_alloc(0, FRAME_GUEST, 1).v, BASE + MIB(1));
	}
	EXPECT_EQ(frame_alloc(ORDER_2M, FRAME_GUEST, 1).v, BASE + MIB(2));
}

TEST(FrameBuddy, ram_at_address_zero_works)
{
	FrameMachine machine{{0, MIB(2)}};

	EXPECT_EQ(frame_alloc(ORDER_2M, FRAME_GUEST, 1).v, 0u);
}

/* Blocks by address: no two overlap, and the table agrees with it. */
class Reference
{
      public:
	void add(hpa_t a, unsigned order)
	{
		auto after = blocks_.lower_bound(a.v);

		ASSERT_TRUE(is_aligned(a.v, order_bytes(order)));
		ASSERT_TRUE(after == blocks_.end() || a.v + order_bytes(order) <= after->first);
		if (after != blocks_.begin()) {
			auto before = std::prev(after);

			ASSERT_LE(before->first + order_bytes(before->second), a.v);
		}
		blocks_[a.v] = order;
		frames_ += BIT(order);
	}

	std::pair<u64, unsigned> remove_any(std::mt19937 &random)
	{
		auto it = blocks_.lower_bound(BASE + random() % MIB(128));

		if (it == blocks_.end()) {
			it = blocks_.begin();
		}
		auto block = *it;

		frames_ -= BIT(block.second);
		blocks_.erase(it);
		return block;
	}

	bool empty() const
	{
		return blocks_.empty();
	}

	u64 frames() const
	{
		return frames_;
	}

      private:
	std::map<u64, unsigned> blocks_;
	u64 frames_ = 0;
};

TEST(FrameBuddy, thousands_of_random_operations_never_overlap_and_all_merge_again)
{
	FrameMachine machine{{BASE, BASE + MIB(128)}};
	std::mt19937 random(7);
	Reference reference;

	for (int i = 0; i < 60000; i++) {
		frame_test_become(random() % 4);
		unsigned order =
			std::min<unsigned>(random() % 16 ? random() % 4 : random() % 13, 12);
		bool grow = (i / 4000) % 2 == 0 ? random() % 3 != 0 : random() % 3 == 0;

		if (grow || reference.empty()) {
			hpa_t a = frame_alloc(order, FRAME_GUEST, 1);

			if (!hpa_is_none(a)) {
				ASSERT_NO_FATAL_FAILURE(reference.add(a, order));
			}
		} else {
			auto [at, was] = reference.remove_any(random);
			const struct frame *f = frame_of(hpa(at + random() % order_bytes(was)));

			ASSERT_EQ(frame_hpa(f).v, at);
			ASSERT_EQ(f->order, was);
			ASSERT_TRUE(frame_put(hpa(at)));
		}
		ASSERT_EQ(frame_count(FRAME_GUEST), reference.frames());
		if (i % 10000 == 0) {
			ASSERT_EQ(frame_count_owned(FRAME_GUEST, 1), reference.frames());
		}
	}
	while (!reference.empty()) {
		frame_put(hpa(reference.remove_any(random).first));
	}
	for (u32 cpu = 0; cpu < 4; cpu++) {
		frame_test_become(cpu);
		frame_drain_cache();
	}
	frame_test_become(0);
	EXPECT_EQ(frame_alloc(15, FRAME_GUEST, 1).v, BASE) << "all 128 MiB are one block again";
}

} // namespace
