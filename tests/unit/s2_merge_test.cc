// Pages with equal bytes become one frame, over every format; and who holds it is known.
#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include "s2_share_machine.h"

namespace
{

class S2Merge : public S2ShareTest
{
      protected:
	static constexpr u32 kCapacity = 64;

	void SetUp() override
	{
		S2ShareTest::SetUp();
		ASSERT_EQ(s2_rmap_init(&rmap, kCapacity), OK);
	}

	void TearDown() override
	{
		s2_rmap_destroy(&rmap);
		S2ShareTest::TearDown();
	}

	// A page that is full of `byte`, and offered.
	struct s2_holder *page(struct s2_member *member, u64 at, int byte, u8 perm = S2_RWX)
	{
		struct s2_attr attr = {perm, S2_NORMAL};
		hpa_t frame = guest_block(0);
		struct s2_holder *holder;

		std::memset(hpa_ptr(frame), byte, PAGE_SIZE);
		EXPECT_EQ(s2_map(member->s2, gpa(at), frame, PAGE_SIZE, attr, S2_ERROR), OK);
		holder = s2_offer(&rmap, member, gpa(at));
		EXPECT_NE(holder, nullptr);
		return holder;
	}

	hpa_t frame_at(struct s2 *space, u64 at)
	{
		return s2_query(space, gpa(at)).hpa;
	}

	std::set<struct s2_holder *> holders(hpa_t frame)
	{
		std::set<struct s2_holder *> found;

		for (struct s2_holder *h = nullptr; (h = s2_next_holder(&rmap, frame, h));) {
			EXPECT_TRUE(found.insert(h).second) << "told twice";
		}
		return found;
	}

	struct s2_rmap rmap = {};
	struct s2_member ours = {&s2, 0}, theirs = {&child, 0};
};
INSTANTIATE_TEST_SUITE_P(formats, S2Merge, s2_kinds(), s2_kind_name);

TEST_P(S2Merge, equal_pages_of_two_spaces_become_one_frame)
{
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = page(&theirs, MIB(4), 5);
	hpa_t kept = frame_at(&s2, MIB(2)), gone = frame_at(&child, MIB(4));

	ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	EXPECT_EQ(frame_at(&s2, MIB(2)).v, kept.v);
	EXPECT_EQ(frame_at(&child, MIB(4)).v, kept.v);
	EXPECT_EQ(frame_of(gone)->type, FRAME_FREE);
	EXPECT_EQ(frame_of(kept)->refs, 2u);
	for (struct s2_leaf leaf : {s2_query(&s2, gpa(MIB(2))), s2_query(&child, gpa(MIB(4)))}) {
		EXPECT_TRUE(leaf.shared);
		EXPECT_EQ(leaf.attr.perm, S2_READ | S2_EXEC);
	}
	judge();
	EXPECT_EQ(s2_merge(&rmap, a, b), EXISTS);
	EXPECT_EQ(frame_of(kept)->refs, 2u);
}

TEST_P(S2Merge, pages_of_one_space_are_merged_too)
{
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = page(&ours, MIB(2) + PAGE_SIZE, 5);

	EXPECT_EQ(s2_merge(&rmap, a, a), INVALID);
	ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	EXPECT_EQ(frame_at(&s2, MIB(2)).v, frame_at(&s2, MIB(2) + PAGE_SIZE).v);
	EXPECT_TRUE(write(&s2, MIB(2), 1));
	EXPECT_EQ(read(&s2, MIB(2) + PAGE_SIZE), 0x0505050505050505u);
	EXPECT_FALSE(write(&s2, MIB(2) + PAGE_SIZE, 2));
}

TEST_P(S2Merge, no_cpu_uses_or_writes_what_went)
{
	struct s2_holder *a = page(&ours, MIB(2), 0), *b = page(&theirs, MIB(2), 0);

	for (u32 cpu = 0; cpu < 2; cpu++) {
		fake_cpu_become(cpu);
		ASSERT_TRUE(store(&s2, MIB(2), 7));
		ASSERT_TRUE(store(&child, MIB(2), 7));
	}
	fake_cpu_become(0);
	ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	for (u32 cpu = 0; cpu < 2; cpu++) {
		fake_cpu_become(cpu);
		EXPECT_FALSE(store(&s2, MIB(2), 8));
		EXPECT_FALSE(store(&child, MIB(2), 8));
		EXPECT_EQ(read(&child, MIB(2)), 7u);
	}
	fake_cpu_become(0);
	*(u64 *)hpa_ptr(frame_at(&s2, MIB(2))) = 9;
	EXPECT_EQ(read(&child, MIB(2)), 9u) << "an old translation";
}

TEST_P(S2Merge, pages_that_differ_in_the_last_byte_stay_two_and_writable)
{
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = page(&theirs, MIB(2), 5);
	hpa_t frame_a = frame_at(&s2, MIB(2)), frame_b = frame_at(&child, MIB(2));

	((u8 *)hpa_ptr(frame_b))[PAGE_SIZE - 1] = 6;
	EXPECT_EQ(s2_merge(&rmap, a, b), DENIED);
	EXPECT_EQ(frame_at(&s2, MIB(2)).v, frame_a.v);
	EXPECT_EQ(frame_at(&child, MIB(2)).v, frame_b.v);
	EXPECT_TRUE(store(&s2, MIB(2), 1));
	EXPECT_TRUE(store(&child, MIB(2), 1));
	EXPECT_EQ(frame_of(frame_a)->refs, 1u);
	EXPECT_EQ(frame_of(frame_b)->refs, 1u);
}

TEST_P(S2Merge, many_pages_become_one_and_the_first_is_flushed_once)
{
	constexpr u64 kPages = 30;
	struct s2_holder *a = page(&ours, MIB(2), 0);
	u64 free_at_start, flushes;

	for (u64 i = 0; i < kPages; i++) {
		page(&theirs, MIB(2) + i * PAGE_SIZE, 0);
	}
	free_at_start = frame_count(FRAME_FREE);
	flushes = s2.stats.batches;
	for (u64 i = 0; i < kPages; i++) {
		struct s2_holder *b =
			s2_next_holder(&rmap, frame_at(&child, MIB(2) + i * PAGE_SIZE), nullptr);

		ASSERT_NE(b, nullptr);
		ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	}
	EXPECT_EQ(frame_count(FRAME_FREE), free_at_start + kPages);
	EXPECT_EQ(s2.stats.batches, flushes + 1);
	EXPECT_EQ(frame_of(frame_at(&s2, MIB(2)))->refs, kPages + 1);
	EXPECT_EQ(holders(frame_at(&s2, MIB(2))).size(), kPages + 1);
	judge();
	// The first one leaves it.
	EXPECT_TRUE(write(&s2, MIB(2), 1));
	EXPECT_EQ(holders(frame_at(&child, MIB(2))).size(), kPages);
}

TEST_P(S2Merge, what_a_guest_may_not_write_is_merged_without_a_mark)
{
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = page(&theirs, MIB(2), 5, S2_READ);

	ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	EXPECT_EQ(s2_query(&child, gpa(MIB(2))).attr.perm, S2_READ);
	EXPECT_FALSE(s2_query(&child, gpa(MIB(2))).shared);
	EXPECT_EQ(s2_cow_fault(&child, gpa(MIB(2)), hpa_none(), 0), DENIED);
	ASSERT_EQ(protect_of(&child, MIB(2), PAGE_SIZE, S2_RW), OK);
	judge();
}

TEST_P(S2Merge, a_merged_page_is_forked_and_a_forked_one_merged)
{
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = page(&ours, MIB(4), 5);

	ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	ASSERT_EQ(fork(MIB(2), MIB(4)), OK);
	EXPECT_EQ(frame_of(frame_at(&s2, MIB(2)))->refs, 4u);
	EXPECT_TRUE(write(&child, MIB(2), 0x0505050505050505u)) << "the same bytes";
	judge();
	ASSERT_EQ(s2_merge(&rmap, a, s2_offer(&rmap, &theirs, gpa(MIB(2)))), OK);
	EXPECT_EQ(frame_of(frame_at(&s2, MIB(2)))->refs, 4u);
}

TEST_P(S2Merge, what_cannot_be_merged_is_refused_and_stays)
{
	struct s2_holder *a = page(&ours, MIB(2), 0), *large, *device, *nothing;
	struct s2_attr attr = {S2_RW, s2_memory_or_forced(s2.format, S2_DEVICE)};
	struct s2_batch batch;

	map_block(MIB(4), 1);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(8)), hpa(1ull << 45), PAGE_SIZE, attr, S2_ERROR), OK);
	large = s2_offer(&rmap, &ours, gpa(MIB(4)));
	device = s2_offer(&rmap, &ours, gpa(MIB(8)));
	nothing = s2_offer(&rmap, &ours, gpa(MIB(16)));
	for (struct s2_holder *b : {large, device}) {
		EXPECT_EQ(s2_merge(&rmap, a, b), INVALID);
		EXPECT_EQ(s2_merge(&rmap, b, a), INVALID);
	}
	EXPECT_EQ(s2_merge(&rmap, a, nothing), NOENT);
	EXPECT_EQ(s2_merge(&rmap, nothing, a), NOENT);
	EXPECT_TRUE(store(&s2, MIB(2), 1));
	page(&theirs, MIB(2), 0);
	s2_batch_open(&batch, &child);
	ASSERT_EQ(s2_unmap(&child, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(s2_merge(&rmap, a, s2_offer(&rmap, &theirs, gpa(MIB(2)))), AGAIN);
	s2_batch_close(&batch);
}

TEST_P(S2Merge, device_memory_in_ram_is_not_merged)
{
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = page(&theirs, MIB(4), 5);
	struct frame *device = frame_of(frame_at(&child, MIB(4)));

	device->type = FRAME_DEVICE;
	EXPECT_EQ(s2_merge(&rmap, a, b), INVALID);
	EXPECT_EQ(s2_merge(&rmap, b, a), INVALID);
	EXPECT_TRUE(store(&s2, MIB(2), 1));
	EXPECT_TRUE(store(&child, MIB(4), 1));
	EXPECT_NE(frame_at(&s2, MIB(2)).v, frame_at(&child, MIB(4)).v);
	device->type = FRAME_GUEST;
}

TEST_P(S2Merge, pages_of_different_sizes_are_not_merged)
{
	struct s2 large = {};
	struct s2_member member = {&large, 0};
	hpa_t frame = guest_block(2);

	ASSERT_EQ(s2_init(&large, &s2_armv8_16k, 40, kOwner), OK);
	ASSERT_EQ(s2_map(&large, gpa(MIB(2)), frame, KIB(16), kRwx, S2_ERROR), OK);
	std::memset(hpa_ptr(frame), 5, KIB(16));
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = s2_offer(&rmap, &member, gpa(MIB(2)));

	EXPECT_EQ(s2_merge(&rmap, a, b), INVALID);
	EXPECT_EQ(s2_merge(&rmap, b, a), INVALID);
	EXPECT_EQ(s2_query(&large, gpa(MIB(2))).hpa.v, frame.v);
	for (struct s2_leaf leaf : {s2_query(&s2, gpa(MIB(2))), s2_query(&large, gpa(MIB(2)))}) {
		EXPECT_EQ(leaf.attr.perm, S2_RWX);
		EXPECT_FALSE(leaf.shared);
	}
	s2_rmap_forget(&rmap, &member);
	s2_destroy(&large);
}

// ---- The reverse map

TEST_P(S2Merge, a_frame_names_its_holders_and_nobody_else)
{
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = page(&theirs, MIB(2), 5);
	struct s2_holder *other = page(&theirs, MIB(4), 5);
	hpa_t kept = frame_at(&s2, MIB(2));

	EXPECT_EQ(holders(kept), (std::set<struct s2_holder *>{a}));
	ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	EXPECT_EQ(holders(kept), (std::set<struct s2_holder *>{a, b}));
	EXPECT_EQ(holders(frame_at(&child, MIB(4))), (std::set<struct s2_holder *>{other}));
	EXPECT_TRUE(write(&child, MIB(2), 1));
	EXPECT_EQ(holders(kept), (std::set<struct s2_holder *>{a}));
	ASSERT_EQ(unmap_of(&s2, MIB(2), PAGE_SIZE), OK);
	EXPECT_TRUE(holders(kept).empty());
}

TEST_P(S2Merge, a_full_map_takes_no_more_until_something_is_withdrawn)
{
	struct s2_holder *first = s2_offer(&rmap, &ours, gpa(0));

	for (u32 i = 1; i < kCapacity; i++) {
		EXPECT_NE(s2_offer(&rmap, &ours, gpa(i * PAGE_SIZE)), nullptr);
	}
	EXPECT_EQ(s2_offer(&rmap, &ours, gpa(0)), nullptr);
	s2_withdraw(&rmap, first);
	EXPECT_EQ(s2_offer(&rmap, &theirs, gpa(0)), first);
	EXPECT_EQ(s2_offer(&rmap, &theirs, gpa(0)), nullptr);
}

TEST_P(S2Merge, forgetting_a_space_leaves_the_others_holders)
{
	struct s2_holder *a = page(&ours, MIB(2), 0), *b = page(&theirs, MIB(2), 0);
	struct s2_holder *c = page(&ours, MIB(4), 0);

	ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	ASSERT_EQ(s2_merge(&rmap, b, c), OK);
	s2_rmap_forget(&rmap, &theirs);
	EXPECT_EQ(theirs.first, 0u);
	EXPECT_EQ(holders(frame_at(&s2, MIB(2))), (std::set<struct s2_holder *>{a, c}));
	s2_destroy(&child);
	judge();
	s2_rmap_forget(&rmap, &ours);
	EXPECT_TRUE(holders(frame_at(&s2, MIB(2))).empty());
	for (u32 i = 0; i < kCapacity; i++) {
		EXPECT_NE(s2_offer(&rmap, &ours, gpa(i * PAGE_SIZE)), nullptr) << "lost " << i;
	}
}

TEST_P(S2Merge, a_map_that_does_not_fit_is_refused)
{
	struct s2_rmap other;

	EXPECT_EQ(s2_rmap_init(&other, 0), INVALID);
	EXPECT_EQ(s2_rmap_init(&other, ~0u), INVALID);
	EXPECT_EQ(s2_rmap_init(&other, (u32)MIB(2)), NOMEM);
}

// Merging needs no memory at all.
TEST_P(S2Merge, without_any_free_frame_pages_are_merged)
{
	struct s2_holder *a = page(&ours, MIB(2), 5), *b = page(&theirs, MIB(4), 5);

	fake_memory_leave(0);
	taken_for_good = frame_count(FRAME_HYP) - 1;
	ASSERT_EQ(s2_merge(&rmap, a, b), OK);
	EXPECT_EQ(frame_count(FRAME_FREE), 1u);
}

// ---- Many CPUs

// Both guests write their pages while they are merged over and over; nobody's word is lost or seen
// by the other one.
TEST_P(S2Merge, guests_that_write_meanwhile_keep_what_they_wrote)
{
	constexpr u64 kPages = 4;
	std::vector<struct s2_holder *> a, b;
	std::atomic<bool> stop{false};
	std::vector<std::thread> threads;
	u64 merged = 0;

	fake_cpus(4);
	for (u64 i = 0; i < kPages; i++) {
		a.push_back(page(&ours, MIB(2) + i * PAGE_SIZE, 0));
		b.push_back(page(&theirs, MIB(2) + i * PAGE_SIZE, 0));
	}
	for (u32 cpu = 1; cpu < 3; cpu++) {
		threads.emplace_back([&, cpu] {
			struct s2 *space = cpu == 1 ? &s2 : &child;

			fake_cpu_become(cpu);
			for (u64 i = 0; !stop; i++) {
				u64 at = MIB(2) + i % kPages * PAGE_SIZE;

				EXPECT_EQ(read(space, at), 0u);
				write(space, at, cpu);
				EXPECT_EQ(read(space, at), cpu);
				write(space, at, 0);
			}
		});
	}
	for (u64 round = 0; round < 3000; round++) {
		u64 i = round % kPages;
		bool swapped = round & 64;
		enum status status =
			swapped ? s2_merge(&rmap, b[i], a[i]) : s2_merge(&rmap, a[i], b[i]);

		merged += status == OK;
		EXPECT_TRUE(status == OK || status == EXISTS || status == DENIED || status == AGAIN)
			<< status_name(status);
	}
	stop = true;
	for (auto &thread : threads) {
		thread.join();
	}
	fake_cpu_become(0);
	EXPECT_GT(merged, 0u);
}

} // namespace
