// Many small leaves become a large one: in place, at the close, with a reason where it cannot be.
#include "s2_test_machine.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace
{

class S2Collapse : public S2Test
{
      protected:
	static constexpr u64 kDevice = 1ull << 43;

	void SetUp() override
	{
		S2Test::SetUp();
		s2.traits |= S2_HARDWARE_ACCESSED;
	}

	// Pages, each mapped by itself, so that a block could stand for them.
	void map_pages(u64 at, u64 first, u64 count = 512, struct s2_attr attr = kRwx)
	{
		for (u64 i = 0; i < count; i++) {
			ASSERT_EQ(s2_map(&s2, gpa(at + i * PAGE_SIZE), hpa(first + i * PAGE_SIZE),
					 PAGE_SIZE, attr, S2_ERROR),
				  OK);
		}
	}

	struct s2_collapsed collapse(u64 at, u64 size, unsigned level = 1)
	{
		struct s2_collapsed report;
		struct s2_batch batch;

		s2_batch_open(&batch, &s2);
		EXPECT_EQ(s2_collapse(&s2, gpa(at), size, level, &batch, &report), OK);
		s2_batch_close(&batch);
		return report;
	}

	void expect_refused(enum s2_why why, const char *what)
	{
		struct s2_collapsed report = collapse(MIB(2), MIB(2));

		EXPECT_EQ(report.why, why) << what;
		EXPECT_EQ(report.count[why], 1u) << what;
		EXPECT_EQ(report.last_refused.v, MIB(2)) << what;
		EXPECT_EQ(s2.stats.collapses, 0u) << what;
	}

	void set_leaf(u64 at, u64 clear, u64 set)
	{
		struct s2_cursor c;

		s2_cursor_start(&c, &s2, gpa(at));
		s2_cursor_descend_all(&c, 0);
		ASSERT_TRUE(s2_entry_set(&c, (c.entry & ~clear) | set, nullptr));
	}
};
INSTANTIATE_TEST_SUITE_P(formats, S2Collapse, s2_kinds(), s2_kind_name);

TEST_P(S2Collapse, pages_become_a_block_that_translates_alike)
{
	hpa_t block = guest_block(9);
	u64 tables = s2.stats.tables;

	frame_split(block, 0);
	map_pages(MIB(2), block.v);
	EXPECT_EQ(collapse(MIB(2), MIB(2)).count[S2_FOLDED], 1u);
	EXPECT_EQ(s2.stats.leaf_2m, 1u);
	EXPECT_EQ(s2.stats.leaf_4k, 0u);
	EXPECT_EQ(s2.stats.tables, tables + 1) << "only the block's own table is left";
	for (u64 at = 0; at < MIB(2); at += PAGE_SIZE) {
		expect_maps(MIB(2) + at, block.v + at, "folded");
	}
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).attr.perm, S2_RWX);
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK) << "each frame goes back";
}

TEST_P(S2Collapse, split_and_collapse_are_each_others_inverse)
{
	struct s2_batch batch;
	hpa_t block = map_block(MIB(4), 1);
	u64 rounds;

	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(4)), 0, &batch), OK);
	s2_batch_close(&batch);
	rounds = s2.stats.batches;
	EXPECT_EQ(collapse(0, MIB(16)).count[S2_FOLDED], 1u);
	EXPECT_EQ(s2.stats.batches, rounds + 1);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4) + 5)).level, 1);
	expect_maps(MIB(4) + 5, block.v + 5, "folded");
}

TEST_P(S2Collapse, many_regions_are_one_round)
{
	for (u64 i = 0; i < 64; i++) {
		map_pages(i * MIB(2), kDevice + i * MIB(4));
	}
	EXPECT_EQ(collapse(0, MIB(128)).count[S2_FOLDED], 64u);
	EXPECT_EQ(s2.stats.batches, 1u);
	EXPECT_EQ(s2.stats.leaf_2m, 64u);
	EXPECT_EQ(collapse(0, MIB(128)).count[S2_LARGE_ALREADY], 64u);
	EXPECT_EQ(s2.stats.batches, 1u) << "nothing to do, nothing to invalidate";
}

TEST_P(S2Collapse, blocks_become_a_gibibyte)
{
	ASSERT_EQ(s2_map(&s2, gpa(GIB(1)), hpa(kDevice), GIB(1), kRwx, S2_ERROR), OK);
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(GIB(1)), 1, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.leaf_2m, 512u);
	for (u64 block : {0, 511}) {
		u64 at = GIB(1) + block * MIB(2);

		s2_batch_open(&batch, &s2);
		ASSERT_EQ(s2_split(&s2, gpa(at), 0, &batch), OK);
		s2_batch_close(&batch);
		EXPECT_EQ(collapse(GIB(1), GIB(1), 2).why, S2_MIXED) << "pages in block " << block;
		EXPECT_EQ(collapse(at, MIB(2)).count[S2_FOLDED], 1u);
	}
	EXPECT_EQ(collapse(GIB(1), GIB(1), 2).count[S2_FOLDED], 1u);
	EXPECT_EQ(s2.stats.leaf_1g, 1u);
	EXPECT_EQ(s2.stats.leaf_2m, 0u);
	expect_maps(GIB(2) - 1, kDevice + GIB(1) - 1, "folded");
}

TEST_P(S2Collapse, only_whole_regions_are_looked_at)
{
	map_pages(MIB(2), kDevice);
	struct s2_collapsed report = collapse(MIB(2) + PAGE_SIZE, MIB(2));
	u64 looked = 0;

	for (u64 count : report.count) {
		looked += count;
	}
	EXPECT_EQ(looked, 0u);
	EXPECT_EQ(s2.stats.leaf_4k, 512u);
}

TEST_P(S2Collapse, every_reason_has_its_name)
{
	std::set<std::string> texts;

	for (unsigned why = 0; why < S2_WHY_COUNT; why++) {
		texts.insert(s2_why_text((enum s2_why)why));
	}
	EXPECT_EQ(texts.size(), (size_t)S2_WHY_COUNT);
	EXPECT_STREQ(s2_why_text(S2_WHY_COUNT), "no such reason");
}

TEST_P(S2Collapse, holes_are_a_reason)
{
	expect_refused(S2_HAS_HOLES, "nothing is mapped");
	map_pages(MIB(2), kDevice, 511);
	expect_refused(S2_HAS_HOLES, "the last page is missing");
	map_pages(MIB(4) - PAGE_SIZE, kDevice + MIB(2) - PAGE_SIZE, 1);
	unmap(MIB(2), PAGE_SIZE);
	expect_refused(S2_HAS_HOLES, "the first page is missing");
}

TEST_P(S2Collapse, misaligned_frames_are_a_reason)
{
	map_pages(MIB(2), kDevice + PAGE_SIZE);
	expect_refused(S2_MISALIGNED, "off by a page");
}

TEST_P(S2Collapse, scattered_frames_are_a_reason)
{
	map_pages(MIB(2), kDevice, 511);
	map_pages(MIB(4) - PAGE_SIZE, kDevice + MIB(6), 1);
	expect_refused(S2_SCATTERED, "the last one lies elsewhere");
	unmap(MIB(2) + 5 * PAGE_SIZE, 2 * PAGE_SIZE);
	map_pages(MIB(2) + 5 * PAGE_SIZE, kDevice + 6 * PAGE_SIZE, 1);
	map_pages(MIB(2) + 6 * PAGE_SIZE, kDevice + 5 * PAGE_SIZE, 1);
	expect_refused(S2_SCATTERED, "two have changed places");
}

TEST_P(S2Collapse, mixed_permissions_and_types_are_a_reason)
{
	map_pages(MIB(2), kDevice, 511);
	map_pages(MIB(4) - PAGE_SIZE, kDevice + MIB(2) - PAGE_SIZE, 1, {S2_READ, S2_NORMAL});
	expect_refused(S2_MIXED, "one may not be written");
	unmap(MIB(4) - PAGE_SIZE, PAGE_SIZE);
	map_pages(MIB(4) - PAGE_SIZE, kDevice + MIB(2) - PAGE_SIZE, 1,
		  {S2_RWX, s2_memory_or_forced(s2.format, S2_DEVICE)});
	expect_refused(S2_MIXED, "one is a device's");
}

TEST_P(S2Collapse, an_open_batch_is_a_reason)
{
	struct s2_batch other, batch;
	struct s2_collapsed report;

	map_block(MIB(2), 1);
	s2_batch_open(&other, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &other), OK);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_collapse(&s2, gpa(MIB(2)), MIB(2), 1, &batch, &report), OK);
	EXPECT_EQ(report.why, S2_IS_OPEN);
	s2_batch_close(&batch);
	s2_batch_close(&other);
	EXPECT_EQ(s2.stats.leaf_4k, 512u);
}

// A leaf that is claimed has to be found again by who claimed it.
TEST_P(S2Collapse, a_claim_that_came_since_the_look_is_a_reason)
{
	map_pages(MIB(2), kDevice);
	s2.claims++;
	expect_refused(S2_IS_OPEN, "somewhere in the space");
	s2.claims--;
	EXPECT_EQ(collapse(MIB(2), MIB(2)).count[S2_FOLDED], 1u);
}

TEST_P(S2Collapse, a_level_without_leaves_is_a_reason)
{
	struct s2_collapsed report = collapse(0, GIB(512), 3);
	struct s2_batch batch;

	EXPECT_EQ(report.why, S2_NO_SUCH_LEAF);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_collapse(&s2, gpa(0), MIB(2), 0, &batch, &report), INVALID);
	EXPECT_EQ(s2_collapse(&s2, gpa(1), MIB(2), 1, &batch, &report), INVALID);
	EXPECT_EQ(s2_collapse(&s2, gpa(0), MIB(2), S2_LEVELS_MAX, &batch, &report), INVALID);
	s2_batch_close(&batch);
}

TEST_P(S2Collapse, the_block_has_the_flags_of_all_its_pages)
{
	const struct s2_format *f = GetParam().format;

	map_pages(MIB(2), kDevice);
	for (u64 i = 0; i < 512; i++) {
		set_leaf(MIB(2) + i * PAGE_SIZE, f->accessed, 0);
	}
	set_leaf(MIB(2) + 77 * PAGE_SIZE, 0, f->dirty);
	EXPECT_EQ(collapse(MIB(2), MIB(2)).count[S2_FOLDED], 1u);
	EXPECT_FALSE(s2_query(&s2, gpa(MIB(2))).accessed);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).dirty);
}

// Between the operation and the close hardware may still set flags through the old table.
TEST_P(S2Collapse, a_flag_that_hardware_sets_last_is_not_lost)
{
	const struct s2_format *f = GetParam().format;
	struct s2_collapsed report;
	struct s2_batch batch;

	map_pages(MIB(2), kDevice);
	for (u64 i = 0; i < 512; i++) {
		set_leaf(MIB(2) + i * PAGE_SIZE, f->accessed | f->dirty, 0);
	}
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(2)), MIB(2), 1, &batch, &report), OK);
	ASSERT_EQ(report.count[S2_FOLDED], 1u);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).kind, S2_TRANSIT);
	set_leaf(MIB(2) + 500 * PAGE_SIZE, 0, f->accessed | f->dirty);
	s2_batch_close(&batch);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).level, 1);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).accessed);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).dirty);
}

TEST_P(S2Collapse, a_change_before_the_close_wins)
{
	struct s2_batch fold, other;
	struct s2_collapsed report;

	map_pages(MIB(2), kDevice);
	s2_batch_open(&fold, &s2);
	s2_batch_open(&other, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(2)), MIB(2), 1, &fold, &report), OK);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(2) + 9 * PAGE_SIZE), PAGE_SIZE, &other), OK);
	s2_batch_close(&fold);
	s2_batch_close(&other);
	EXPECT_EQ(s2.stats.collapses_undone, 1u);
	EXPECT_EQ(s2.stats.collapses, 0u);
	expect_nothing(MIB(2) + 9 * PAGE_SIZE);
	expect_maps(MIB(2) + 8 * PAGE_SIZE, kDevice + 8 * PAGE_SIZE, "the others are as they were");
	EXPECT_EQ(s2.stats.leaf_4k, 511u);
}

TEST_P(S2Collapse, a_fold_may_go_whole_before_the_close)
{
	struct s2_collapsed report;
	struct s2_batch batch;

	map_pages(MIB(2), kDevice);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(2)), MIB(2), 1, &batch, &report), OK);
	EXPECT_EQ(s2_unmap(&s2, gpa(0), MIB(8), &batch), OK);
	s2_batch_close(&batch);
	expect_nothing(MIB(2));
	EXPECT_EQ(s2.stats.leaf_4k + s2.stats.leaf_2m, 0u);
}

TEST_P(S2Collapse, after_the_close_no_cpu_has_a_page_where_a_block_is)
{
	hpa_t out, block = guest_block(9);

	frame_split(block, 0);
	map_pages(MIB(2), block.v);
	s2_entering(&s2);
	ASSERT_EQ(fake_access(&s2, gpa(MIB(2) + 3 * PAGE_SIZE), S2_WRITE, &out), FAKE_OK);
	s2_left(&s2);
	EXPECT_EQ(collapse(MIB(2), MIB(2)).count[S2_FOLDED], 1u);
	s2_entering(&s2);
	EXPECT_FALSE(fake_tlb_holds(&s2, gpa(MIB(2) + 3 * PAGE_SIZE)));
	EXPECT_EQ(fake_access(&s2, gpa(MIB(2) + 3 * PAGE_SIZE), S2_WRITE, &out), FAKE_OK);
	EXPECT_EQ(out.v, block.v + 3 * PAGE_SIZE);
	s2_left(&s2);
}

// Neighbours keep what hardware knows of them: no more is forgotten than what was folded.
TEST_P(S2Collapse, a_fold_invalidates_its_region_alone)
{
	static std::vector<std::pair<u64, u64>> ranges;
	hpa_t block = guest_block(9);

	frame_split(block, 0);
	map_pages(MIB(4), block.v);
	ranges.clear();
	fake_flush_hook.range = [](void *, const struct s2 *, gpa_t at, u64 size, unsigned) {
		ranges.emplace_back(at.v, size);
	};
	EXPECT_EQ(collapse(MIB(4), MIB(2)).count[S2_FOLDED], 1u);
	fake_flush_hook = {};
	if (GetParam().broadcasts) {
		ASSERT_EQ(ranges.size(), 1u);
		EXPECT_EQ(ranges[0], std::make_pair(u64(MIB(4)), u64(MIB(2))));
	}
	EXPECT_EQ(unmap(MIB(4), MIB(2)), OK);
}

TEST_P(S2Collapse, a_budget_stops_it_between_two_regions)
{
	struct s2_collapsed report;
	struct s2_batch batch;

	map_pages(0, kDevice);
	map_pages(MIB(2), kDevice + MIB(2));
	s2_batch_open(&batch, &s2);
	batch.budget = 600;
	EXPECT_EQ(s2_collapse(&s2, gpa(0), MIB(4), 1, &batch, &report), MORE);
	EXPECT_EQ(batch.next, MIB(2));
	EXPECT_EQ(report.count[S2_FOLDED], 1u);
	batch.budget = 600;
	EXPECT_EQ(s2_collapse(&s2, gpa(batch.next), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.collapses, 2u);
}

TEST_P(S2Collapse, it_needs_no_memory)
{
	map_pages(MIB(2), kDevice);
	fake_memory_leave(0);
	EXPECT_EQ(collapse(MIB(2), MIB(2)).count[S2_FOLDED], 1u);
	taken_for_good = frame_count(FRAME_HYP);
}

} // namespace
