// Which memory was used: what is reported, what is cleared, and what need not be looked at.
#include "s2_test_machine.h"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace
{

class S2Harvest : public S2Test
{
      protected:
	static constexpr u64 kDevice = 1ull << 43;

	void SetUp() override
	{
		S2Test::SetUp();
		f = GetParam().format;
		bitmap.assign(kPages / 64, 0);
	}

	void map(u64 at, u64 size, u64 shift = PAGE_SIZE)
	{
		ASSERT_EQ(s2_map(&s2, gpa(at), hpa(kDevice + at + shift), size, kRwx, S2_ERROR),
			  OK);
	}

	// A guest's use of an address, as the machine tells of it.
	void use(u64 at)
	{
		struct s2_cursor c;

		if (!f->accessed_table) {
			ASSERT_EQ(s2_mark_accessed(&s2, gpa(at)), OK);
			return;
		}
		s2_cursor_start(&c, &s2, gpa(at));
		for (;;) {
			u64 *below = s2_entry_below(f, c.entry, c.level);

			s2_slot_set_flag(&s2, c.slot, below ? f->accessed_table : f->accessed);
			if (!below) {
				return;
			}
			s2_cursor_enter(&c, below);
		}
	}

	enum status harvest(u64 at, u64 size, bool clear = true)
	{
		std::fill(bitmap.begin(), bitmap.end(), 0);
		h = {};
		h.clear = clear;
		h.bitmap = bitmap.data();
		return s2_harvest(&s2, gpa(at), size, &h);
	}

	std::set<u64> young(u64 at = 0)
	{
		std::set<u64> pages;

		for (u64 i = 0; i < kPages; i++) {
			if (bitmap[i / 64] >> (i % 64) & 1) {
				pages.insert(at + i * PAGE_SIZE);
			}
		}
		return pages;
	}

	static constexpr u64 kPages = 8192;
	const struct s2_format *f = nullptr;
	std::vector<u64> bitmap;
	struct s2_harvest h = {};
};
INSTANTIATE_TEST_SUITE_P(formats, S2Harvest, s2_kinds(), s2_kind_name);

TEST_P(S2Harvest, tables_whose_flags_hardware_does_not_set_tell_nothing)
{
	struct s2_harvest h = {};

	map(MIB(2), MIB(2));
	s2.traits = 0;
	EXPECT_EQ(s2_harvest(&s2, gpa(MIB(2)), MIB(2), &h), f->accessed_table ? INVALID : OK);
	EXPECT_EQ(h.young_count, f->accessed_table ? 0u : 512u);
}

TEST_P(S2Harvest, fresh_pages_count_as_used_once)
{
	map(MIB(2), MIB(4));
	EXPECT_EQ(harvest(0, MIB(32)), OK);
	EXPECT_EQ(h.young_count, 1024u);
	EXPECT_EQ(young().size(), 1024u);
	EXPECT_EQ(harvest(0, MIB(32)), OK);
	EXPECT_EQ(h.young_count, 0u);
}

TEST_P(S2Harvest, exactly_what_was_used_is_reported)
{
	std::mt19937 random(1);

	map(0, MIB(32));
	harvest(0, MIB(32));
	for (int round = 0; round < 10; round++) {
		std::set<u64> used;

		for (int i = 0; i < 1 + round * 50; i++) {
			used.insert(random() % kPages * PAGE_SIZE);
		}
		for (u64 page : used) {
			use(page + 8);
		}
		EXPECT_EQ(harvest(0, MIB(32)), OK);
		ASSERT_EQ(young(), used);
		EXPECT_EQ(h.young_count, used.size());
	}
}

TEST_P(S2Harvest, a_test_clears_nothing)
{
	map(0, MIB(4));
	harvest(0, MIB(4));
	use(MIB(2));
	EXPECT_EQ(harvest(0, MIB(4), false), OK);
	EXPECT_EQ(young(), std::set<u64>{MIB(2)});
	EXPECT_EQ(harvest(0, MIB(4), false), OK);
	EXPECT_EQ(young(), std::set<u64>{MIB(2)});
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).accessed);
	EXPECT_EQ(harvest(0, MIB(4)), OK);
	EXPECT_FALSE(s2_query(&s2, gpa(MIB(2))).accessed);
}

TEST_P(S2Harvest, blocks_are_reported_by_their_first_page)
{
	map(MIB(4), MIB(4), 0);
	map(GIB(1), GIB(1), 0);
	harvest(0, MIB(32));
	EXPECT_EQ(young(), (std::set<u64>{MIB(4), MIB(6)}));
	EXPECT_EQ(harvest(GIB(1), MIB(32)), OK);
	EXPECT_EQ(young(), std::set<u64>{0}) << "a leaf that begins where the range does";
	use(GIB(1) + MIB(9));
	EXPECT_EQ(harvest(GIB(1) + MIB(5), MIB(4)), OK);
	EXPECT_EQ(young(), std::set<u64>{0}) << "or before it";
	use(MIB(6) + 99);
	EXPECT_EQ(harvest(0, MIB(32)), OK);
	EXPECT_EQ(young(), std::set<u64>{MIB(6)});
}

TEST_P(S2Harvest, who_asks_by_blocks_is_answered_by_blocks)
{
	std::vector<std::pair<u64, unsigned>> told;

	map(0, MIB(8));
	map(MIB(8), MIB(2), 0);
	harvest(0, MIB(32));
	use(MIB(2) + 77 * PAGE_SIZE);
	use(MIB(2) + 78 * PAGE_SIZE);
	use(MIB(8));
	h = {};
	h.clear = true;
	h.finest = 1;
	h.context = &told;
	h.young = [](void *context, gpa_t at, unsigned level) {
		static_cast<decltype(told) *>(context)->emplace_back(at.v, level);
	};
	EXPECT_EQ(s2_harvest(&s2, gpa(0), MIB(32), &h), OK);
	EXPECT_EQ(told, (decltype(told){{MIB(2), 1}, {MIB(8), 1}}));
	told.clear();
	EXPECT_EQ(s2_harvest(&s2, gpa(0), MIB(32), &h), OK);
	EXPECT_TRUE(told.empty()) << "what was cleared stays so";
}

// Both machines of the fake family fault at the first use, so every kind here tells of tables.
TEST_P(S2Harvest, tables_of_which_nothing_was_used_are_not_looked_into)
{
	map(0, MIB(32));
	harvest(0, MIB(32));
	use(MIB(10));
	EXPECT_EQ(harvest(0, MIB(32)), OK);
	EXPECT_EQ(h.young_count, 1u);
	EXPECT_EQ(h.skipped_count, 15u);
	EXPECT_LE(h.looked_count, 512u + 16 + 2);
	EXPECT_EQ(harvest(0, MIB(32)), OK);
	EXPECT_EQ(h.looked_count, 17u) << "the range is a part of the table above, which stays so";
	harvest(0, MIB(4));
	EXPECT_EQ(h.looked_count, 3u);
}

TEST_P(S2Harvest, where_tables_tell_nothing_every_page_is_looked_at)
{
	if (f->accessed_table) {
		GTEST_SKIP() << "hardware keeps flags in this format's tables";
	}
	s2.traits |= S2_HARDWARE_ACCESSED;
	map(0, MIB(4));
	harvest(0, MIB(4));
	EXPECT_EQ(harvest(0, MIB(4)), OK);
	EXPECT_GE(h.looked_count, 1024u);
	s2_slot_set_flag(&s2, s2.root, 0);
	struct s2_cursor c;

	s2_cursor_start(&c, &s2, gpa(MIB(2) + PAGE_SIZE));
	s2_cursor_descend(&c, 0);
	s2_slot_set_flag(&s2, c.slot, f->accessed); // hardware, which tells nobody else
	EXPECT_EQ(harvest(0, MIB(4)), OK);
	EXPECT_EQ(young(), std::set<u64>{MIB(2) + PAGE_SIZE});
}

TEST_P(S2Harvest, retained_tables_are_looked_into_and_keep_their_flag)
{
	map(0, MIB(32));
	harvest(0, MIB(32));
	use(MIB(10));
	h = {};
	h.clear = true;
	h.tables = S2_TABLES_RETAIN;
	EXPECT_EQ(s2_harvest(&s2, gpa(0), MIB(32), &h), OK);
	EXPECT_EQ(h.skipped_count, 0u);
	EXPECT_GE(h.looked_count, kPages);
	use(MIB(20));
	EXPECT_EQ(harvest(0, MIB(32)), OK);
	EXPECT_EQ(young(), std::set<u64>{MIB(20)});
	EXPECT_EQ(h.skipped_count, 14u) << "of the two whose flag is set each was looked into";
}

TEST_P(S2Harvest, retained_tables_are_looked_into_also_for_who_asks_by_blocks)
{
	map(0, MIB(32));
	ASSERT_EQ(harvest(0, MIB(32)), OK);
	use(MIB(10));
	ASSERT_EQ(harvest(MIB(10), PAGE_SIZE), OK); // the table's flag may stay
	for (u64 used : {0, 1}) {
		h = {};
		h.clear = true;
		h.tables = S2_TABLES_RETAIN;
		h.finest = 1;
		EXPECT_EQ(s2_harvest(&s2, gpa(0), MIB(32), &h), OK);
		EXPECT_EQ(h.young_count, used);
		use(MIB(20) + PAGE_SIZE);
	}
}

TEST_P(S2Harvest, a_part_of_a_table_leaves_the_rest_watched)
{
	map(0, MIB(4));
	harvest(0, MIB(4));
	use(0);
	use(100 * PAGE_SIZE);
	EXPECT_EQ(harvest(0, 50 * PAGE_SIZE), OK);
	EXPECT_EQ(young(), std::set<u64>{0});
	EXPECT_EQ(harvest(0, MIB(4)), OK);
	EXPECT_EQ(young(), std::set<u64>{100 * PAGE_SIZE}) << "the table's flag was not cleared";
}

TEST_P(S2Harvest, a_budget_stops_it_anywhere_and_nothing_is_missed)
{
	std::set<u64> used, found;

	map(0, MIB(32));
	harvest(0, MIB(32));
	for (u64 i = 0; i < kPages; i += 61) {
		use(i * PAGE_SIZE);
		used.insert(i * PAGE_SIZE);
	}
	for (u64 budget : {1, 2, 3, 100, 513, 5000}) {
		u64 at = 0, calls = 0;

		for (u64 page : used) {
			use(page);
		}
		found.clear();
		for (enum status status = MORE; status == MORE; calls++) {
			std::fill(bitmap.begin(), bitmap.end(), 0);
			h = {};
			h.clear = true;
			h.bitmap = bitmap.data();
			h.budget = budget;
			status = s2_harvest(&s2, gpa(at), MIB(32) - at, &h);
			ASSERT_TRUE(status == MORE || status == OK);
			ASSERT_TRUE(status == OK || h.next > at);
			std::set<u64> part = young(at);
			found.insert(part.begin(), part.end());
			at = h.next;
		}
		ASSERT_EQ(found, used) << budget;
		EXPECT_GE(calls, kPages / (budget + 2));
	}
}

TEST_P(S2Harvest, nobody_is_interrupted_and_each_cpu_flushes_when_it_enters)
{
	u64 rounds, at_entry;

	map(0, MIB(4));
	s2_entering(&s2);
	s2_left(&s2);
	rounds = s2.stats.batches;
	at_entry = s2.stats.flush_at_entry;
	harvest(0, MIB(4));
	EXPECT_EQ(s2.stats.batches, rounds);
	EXPECT_EQ(s2.stats.kicks, 0u);
	s2_entering(&s2);
	s2_left(&s2);
	EXPECT_EQ(s2.stats.flush_at_entry, at_entry + 1);
	harvest(0, MIB(4), false);
	s2_entering(&s2);
	s2_left(&s2);
	EXPECT_EQ(s2.stats.flush_at_entry, at_entry + 1) << "a test owes no flush";
}

TEST_P(S2Harvest, what_was_not_used_may_be_freed_with_its_table)
{
	map(0, MIB(8));
	harvest(0, MIB(8));
	use(MIB(2));
	EXPECT_EQ(harvest_and_free(&s2, 0, MIB(8), &h), OK);
	EXPECT_EQ(s2.stats.leaf_4k, 512u) << "one table of four is left";
	expect_maps(MIB(2), kDevice + MIB(2) + PAGE_SIZE, "used");
	expect_nothing(0);
	EXPECT_EQ(s2.stats.batches, 1u);
}

TEST_P(S2Harvest, an_unused_table_is_freed_only_with_all_of_its_range)
{
	map(0, MIB(4));
	harvest(0, MIB(4));
	for (u64 size : {MIB(3), MIB(4)}) {
		EXPECT_EQ(harvest_and_free(&s2, 0, size, &h), OK);
		EXPECT_EQ(h.young_count, 0u);
		EXPECT_EQ(s2.stats.leaf_4k, size == MIB(3) ? 512u : 0u);
		expect_nothing(0);
	}
}

// Also where the table above says that nothing below it was used.
TEST_P(S2Harvest, unused_tables_go_from_what_was_not_used_at_all)
{
	map(GIB(1), MIB(4));
	harvest(GIB(1), MIB(4)); // its pages' flags and those of their tables
	h = {};
	h.clear = true;
	ASSERT_EQ(s2_harvest(&s2, gpa(GIB(1)), GIB(1), &h), OK); // and that of the table above
	ASSERT_EQ(h.young_count, 0u);
	EXPECT_EQ(harvest_and_free(&s2, GIB(1), MIB(2), &h), OK);
	EXPECT_EQ(h.skipped_count, 1u);
	expect_nothing(GIB(1));
	expect_maps(GIB(1) + MIB(2), kDevice + GIB(1) + MIB(2) + PAGE_SIZE, "not in the range");
	EXPECT_EQ(s2.stats.leaf_4k, 512u);
}

TEST_P(S2Harvest, a_block_that_is_split_or_folded_is_left_alone)
{
	struct s2_batch batch;

	map(MIB(2), MIB(2), 0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	EXPECT_EQ(harvest(0, MIB(8)), OK);
	EXPECT_EQ(h.young_count, 0u);
	s2_batch_close(&batch);
	EXPECT_EQ(harvest(0, MIB(8)), OK);
	EXPECT_EQ(h.young_count, 512u);
}

TEST_P(S2Harvest, nonsense_is_invalid)
{
	struct s2_batch batch;

	h = {};
	EXPECT_EQ(s2_harvest(&s2, gpa(0), 0, &h), INVALID);
	EXPECT_EQ(s2_harvest(&s2, gpa(1), PAGE_SIZE, &h), INVALID);
	EXPECT_EQ(s2_harvest(&s2, gpa(BIT(40)), PAGE_SIZE, &h), INVALID);
	h.finest = 4;
	EXPECT_EQ(s2_harvest(&s2, gpa(0), MIB(2), &h), INVALID);
	h.finest = 0;
	h.tables = S2_TABLES_FREE;
	EXPECT_EQ(s2_harvest(&s2, gpa(0), MIB(2), &h), INVALID) << "no batch for what goes";
	h.tables = S2_TABLES_CLEAR;
	s2_batch_open(&batch, &s2);
	h.batch = &batch;
	EXPECT_EQ(s2_harvest(&s2, gpa(0), MIB(2), &h), INVALID) << "a batch for nothing";
	s2_batch_close(&batch);
}

} // namespace
