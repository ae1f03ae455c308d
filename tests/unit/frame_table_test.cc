/* Types, references, counts: what frame.c promises, and how it refuses our own mistakes. */
#include <gtest/gtest.h>

#include "frame_test_machine.h"

namespace
{

constexpr u64 BASE = 0x40000000;
constexpr u16 VM = 3;

struct FrameTable : testing::Test {
	FrameMachine machine{{BASE, BASE + MIB(64)}};

	hpa_t take(unsigned order, enum frame_type type = FRAME_GUEST)
	{
		hpa_t a = frame_alloc(order, type, VM);

		EXPECT_FALSE(hpa_is_none(a));
		return a;
	}
};

TEST_F(FrameTable, new_block_has_type_owner_order_and_one_reference)
{
	for (unsigned order : {0u, 1u, 5u, 9u}) {
		hpa_t a = take(order, FRAME_TABLE);
		const struct frame *f = frame_of(a);

		EXPECT_EQ(f->type, FRAME_TABLE);
		EXPECT_EQ(f->owner, VM);
		EXPECT_EQ(f->order, order);
		EXPECT_EQ(f->refs, 1u);
		EXPECT_EQ(f->gfn, 0u);
		EXPECT_EQ(frame_hpa(f).v, a.v);
		EXPECT_TRUE(is_aligned(a.v, order_bytes(order)));
	}
}

TEST_F(FrameTable, first_word_of_an_entry_is_zero_again_after_reuse)
{
	hpa_t a = take(0);

	frame_of(a)->gfn = ~0ull;
	frame_put(a);
	EXPECT_EQ(take(0).v, a.v) << "the cache hands out what came back last";
	EXPECT_EQ(frame_of(a)->gfn, 0u);
}

TEST_F(FrameTable, head_is_found_from_every_frame_of_a_block_of_every_order)
{
	for (unsigned order = 0; order <= 13; order++) {
		hpa_t a = take(order);
		const struct frame *head = frame_of(a);

		for (u64 at = 0; at < order_bytes(order); at += PAGE_SIZE) {
			ASSERT_EQ(frame_of(hpa_add(a, at + 0xabc)), head) << "order " << order;
		}
		frame_put(a);
	}
}

TEST_F(FrameTable, head_is_found_in_a_block_of_1_GiB)
{
	FrameMachine large{{GIB(1), GIB(3)}};
	hpa_t a = take(ORDER_1G);

	for (u64 at : {u64{0}, u64{PAGE_SIZE}, MIB(2), MIB(514) + 123, GIB(1) - 1}) {
		EXPECT_EQ(frame_of(hpa_add(a, at)), frame_of(a)) << at;
	}
	EXPECT_EQ(frame_of(hpa(GIB(3))), nullptr);
	EXPECT_EQ(frame_of(hpa(GIB(1) - 1)), nullptr);
}

TEST_F(FrameTable, block_lives_until_the_last_reference_is_put)
{
	hpa_t a = take(3);

	frame_get(hpa_add(a, PAGE_SIZE)); /* by any address of it */
	frame_get(a);
	EXPECT_EQ(frame_of(a)->refs, 3u);
	EXPECT_FALSE(frame_put(a));
	EXPECT_FALSE(frame_put(a));
	EXPECT_EQ(frame_count(FRAME_GUEST), 8u);
	EXPECT_TRUE(frame_put(a));
	EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
	EXPECT_EQ(frame_of(a)->type, FRAME_FREE);
}

TEST_F(FrameTable, counts_are_exact_through_caches_and_orders)
{
	u64 total = frame_total();
	hpa_t one = take(0, FRAME_TABLE);
	hpa_t many = take(9);
	hpa_t hyp = take(4, FRAME_HYP);

	EXPECT_EQ(total, MIB(64) / PAGE_SIZE);
	EXPECT_EQ(frame_count(FRAME_TABLE), 1u);
	EXPECT_EQ(frame_count(FRAME_GUEST), 512u);
	EXPECT_EQ(frame_count(FRAME_HYP), 16u);
	EXPECT_EQ(frame_count(FRAME_FREE), total - 529);
	EXPECT_EQ(frame_count_owned(FRAME_GUEST, VM), 512u);
	EXPECT_EQ(frame_count_owned(FRAME_GUEST, VM + 1), 0u);
	EXPECT_EQ(frame_count_owned(FRAME_FREE, OWNER_NONE), total - 529);

	frame_put(one);
	frame_put(many);
	frame_put(hyp);
	EXPECT_EQ(frame_count(FRAME_FREE), total);
	EXPECT_EQ(frame_count_owned(FRAME_FREE, OWNER_NONE), total);
}

TEST_F(FrameTable, count_survives_a_free_on_another_cpu)
{
	hpa_t a = take(0);

	frame_test_become(1);
	frame_put(a);
	EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
	EXPECT_EQ(frame_count(FRAME_FREE), frame_total());
	frame_drain_cache();
	frame_test_become(0);
}

TEST_F(FrameTable, split_makes_every_part_a_block_of_its_own)
{
	hpa_t a = take(9);

	frame_split(a, 0);
	EXPECT_EQ(frame_count(FRAME_GUEST), 512u);
	EXPECT_EQ(frame_count_owned(FRAME_GUEST, VM), 512u);
	for (u64 at = 0; at < MIB(2); at += PAGE_SIZE) {
		const struct frame *f = frame_of(hpa_add(a, at));

		ASSERT_EQ(frame_hpa(f).v, a.v + at);
		ASSERT_EQ(f->refs, 1u);
		ASSERT_EQ(f->order, 0);
		ASSERT_EQ(f->owner, VM);
	}
	for (u64 at = 0; at < MIB(2); at += PAGE_SIZE) {
		ASSERT_TRUE(frame_put(hpa_add(a, at)));
	}
	EXPECT_EQ(frame_count(FRAME_FREE), frame_total());
}

TEST_F(FrameTable, split_of_1_GiB_leaves_2_MiB_blocks)
{
	FrameMachine large{{GIB(1), GIB(2)}};
	hpa_t a = take(ORDER_1G);

	frame_split(a, ORDER_2M);
	EXPECT_TRUE(hpa_is_none(frame_alloc(0, FRAME_GUEST, VM))) << "nothing is free";
	for (u64 at = 0; at < GIB(1); at += MIB(2)) {
		ASSERT_EQ(frame_of(hpa_add(a, at + 5 * PAGE_SIZE))->order, ORDER_2M);
		ASSERT_TRUE(frame_put(hpa_add(a, at)));
	}
	EXPECT_EQ(take(ORDER_1G).v, a.v) << "and they merge again";
}

TEST_F(FrameTable, guest_frames_become_shared_and_back)
{
	hpa_t a = take(0);

	frame_retype(a, FRAME_SHARED, OWNER_NONE);
	EXPECT_EQ(frame_count(FRAME_SHARED), 1u);
	EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
	EXPECT_EQ(frame_count_owned(FRAME_SHARED, OWNER_NONE), 1u);
	frame_retype(a, FRAME_GUEST, VM);
	EXPECT_EQ(frame_count_owned(FRAME_GUEST, VM), 1u);
	EXPECT_TRUE(frame_put(a));
	EXPECT_EQ(frame_count(FRAME_SHARED), 0u);
	EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
}

using FrameMistake = FrameTable;

TEST_F(FrameMistake, double_free_panics)
{
	hpa_t a = take(0);

	frame_put(a);
	EXPECT_DEATH(frame_put(a), "double free");
}

TEST_F(FrameMistake, double_free_of_a_merged_block_panics)
{
	hpa_t a = take(9);

	frame_put(a);
	EXPECT_DEATH(frame_put(a), "double free");
}

TEST_F(FrameMistake, put_inside_a_block_panics)
{
	hpa_t a = take(9);

	EXPECT_DEATH(frame_put(hpa_add(a, PAGE_SIZE)), "not the head");
}

TEST_F(FrameMistake, put_outside_ram_panics)
{
	EXPECT_DEATH(frame_put(hpa(BASE - PAGE_SIZE)), "no frame of the table");
	EXPECT_DEATH(frame_put(hpa(BASE + MIB(64))), "no frame of the table");
	EXPECT_DEATH(frame_put(hpa_none()), "no frame of the table");
}

TEST_F(FrameMistake, put_in_a_hole_panics)
{
	FrameMachine holed{{BASE, BASE + MIB(2)}, {BASE + MIB(4), BASE + MIB(6)}};

	EXPECT_DEATH(frame_put(hpa(BASE + MIB(3))), "never given");
}

TEST_F(FrameMistake, get_of_a_free_frame_panics)
{
	hpa_t a = take(0);

	frame_put(a);
	EXPECT_DEATH(frame_get(a), "nobody holds");
}

TEST_F(FrameMistake, reference_that_is_already_gone_panics)
{
	hpa_t a = take(0);

	frame_of(a)->refs = 0;
	EXPECT_DEATH(frame_put(a), "no reference left");
}

TEST_F(FrameMistake, giving_twice_panics)
{
	EXPECT_DEATH(frame_give(hpa(BASE + MIB(2)), hpa(BASE + MIB(4))), "given before");
}

TEST_F(FrameMistake, allocating_a_type_that_nobody_can_have_panics)
{
	EXPECT_DEATH(frame_alloc(0, FRAME_NONE, VM), "does not hold");
	EXPECT_DEATH(frame_alloc(0, FRAME_FREE, VM), "does not hold");
	EXPECT_DEATH(frame_alloc(0, FRAME_DEVICE, VM), "does not hold");
	EXPECT_DEATH(frame_alloc(ORDER_MAX + 1, FRAME_GUEST, VM), "does not hold");
}

TEST_F(FrameMistake, splitting_a_block_with_two_holders_panics)
{
	hpa_t a = take(9);

	frame_get(a);
	EXPECT_DEATH(frame_split(a, 0), "does not hold");
}

TEST_F(FrameMistake, table_frames_cannot_become_shared)
{
	hpa_t a = take(0, FRAME_TABLE);

	EXPECT_DEATH(frame_retype(a, FRAME_SHARED, OWNER_NONE), "does not hold");
}

/* hyp_alloc zeroes, so its RAM must exist. */
struct HypAlloc : testing::Test {
	static constexpr u64 SIZE = MIB(4);
	char *ram = static_cast<char *>(std::aligned_alloc(SIZE, SIZE));
	FrameMachine machine{{(u64)(uintptr_t)ram, (u64)(uintptr_t)ram + SIZE}};

	HypAlloc()
	{
		std::fill(ram, ram + SIZE, 0x5a);
	}

	~HypAlloc() override
	{
		std::free(ram);
	}
};

TEST_F(HypAlloc, memory_is_zeroed_aligned_and_rounded_to_a_power_of_two)
{
	char *p = static_cast<char *>(hyp_alloc(3 * PAGE_SIZE + 1));

	ASSERT_NE(p, nullptr);
	EXPECT_TRUE(is_aligned((u64)(uintptr_t)p, 4 * PAGE_SIZE));
	for (u64 i = 0; i < 4 * PAGE_SIZE; i++) {
		ASSERT_EQ(p[i], 0);
	}
	EXPECT_EQ(frame_count(FRAME_HYP), 4u);
	hyp_free(p);
	EXPECT_EQ(frame_count(FRAME_HYP), 0u);
	hyp_free(nullptr);
}

TEST_F(HypAlloc, sizes_round_as_they_should)
{
	const std::pair<u64, u64> sizes[] = {{1, 1},	{4096, 1},     {4097, 2},	  {8192, 2},
					     {8193, 4}, {MIB(2), 512}, {MIB(2) + 1, 1024}};

	for (auto [bytes, frames] : sizes) {
		void *p = hyp_alloc(bytes);

		ASSERT_NE(p, nullptr) << bytes;
		EXPECT_EQ(frame_count(FRAME_HYP), frames) << bytes;
		hyp_free(p);
	}
}

TEST_F(HypAlloc, too_much_is_refused)
{
	EXPECT_EQ(hyp_alloc(GIB(1) + 1), nullptr);
	EXPECT_EQ(hyp_alloc(~0ull), nullptr);
	EXPECT_EQ(hyp_alloc(SIZE + 1), nullptr);
	EXPECT_EQ(frame_count(FRAME_FREE), frame_total());
}

TEST_F(HypAlloc, what_lies_in_the_cache_does_not_stand_in_the_way)
{
	hpa_t a = frame_alloc(0, FRAME_GUEST, VM);

	frame_put(a);
	EXPECT_NE(hyp_alloc(SIZE), nullptr);
}

} // namespace
