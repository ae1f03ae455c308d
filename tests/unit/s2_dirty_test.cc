// Dirty logging, over every format and each of the three ways of knowing: by faults, by hardware's
// flags, by hardware's dirty state. The fake MMU sets them as hardware does, and its TLB remembers
// that it did, so a flush that is missing is a write that is missed.
#include "s2_test_machine.h"

#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace
{

struct Kind {
	const char *name;
	const struct s2_format *format;
	bool broadcasts;
	u8 traits;
	unsigned ipa_bits = 40;
};

using Pages = std::set<u64>;

class S2Dirty : public ::testing::TestWithParam<Kind>
{
      protected:
	static constexpr u64 kMemory = MIB(64);
	static constexpr u64 kNobodys = 1ull << 43; // no frames of the table: nobody counts them
	static constexpr u16 kOwner = 7;

	void SetUp() override
	{
		fake_broadcasts = GetParam().broadcasts;
		fake_traits = GetParam().traits;
		fake_cpus(4);
		fake_tlb_clear();
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, GetParam().ipa_bits, kOwner), OK);
		page = BIT(s2.format->page_shift);
		large = s2_span(s2.format, 1);
	}

	void TearDown() override
	{
		s2_destroy(&s2);
		fake_traits = 0;
		EXPECT_EQ(frame_count(FRAME_TABLE), 0u);
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
	}

	void map(u64 at, u64 size, u8 perm = S2_RWX)
	{
		struct s2_attr attr = {perm, S2_NORMAL};

		ASSERT_EQ(s2_map(&s2, gpa(at), hpa(kNobodys + at), size, attr, S2_ERROR), OK);
	}

	// By pages, whatever alignment would allow.
	void map_pages(u64 at, u64 count, u8 perm = S2_RWX)
	{
		for (u64 i = 0; i < count; i++) {
			struct s2_attr attr = {perm, S2_NORMAL};

			ASSERT_EQ(s2_map_leaf(&s2, gpa(at + i * page), 0,
					      hpa(kNobodys + at + i * page), attr),
				  OK);
		}
	}

	void unmap(u64 at, u64 size)
	{
		struct s2_batch batch;

		s2_batch_open(&batch, &s2);
		ASSERT_EQ(s2_unmap(&s2, gpa(at), size, &batch), OK);
		s2_batch_close(&batch);
	}

	void start()
	{
		struct s2_batch batch;

		s2_batch_open(&batch, &s2);
		ASSERT_EQ(s2_dirty_start(&s2, &batch), OK);
		s2_batch_close(&batch);
	}

	// The guest writes, and the hypervisor answers what faults. False: it may not.
	bool write(u64 at)
	{
		for (int i = 0; i < 8; i++) {
			enum fake_access got;
			hpa_t out;

			s2_entering(&s2);
			got = fake_access(&s2, gpa(at), S2_WRITE, &out);
			s2_left(&s2);
			if (got == FAKE_OK) {
				return true;
			}
			faults++;
			if (s2_dirty_fault(&s2, gpa(at), true) != OK) {
				return false;
			}
		}
		ADD_FAILURE() << "a fault that never ends, at " << std::hex << at;
		return false;
	}

	void read(u64 at)
	{
		hpa_t out;

		while (fake_access(&s2, gpa(at), S2_READ, &out) != FAKE_OK) {
			ASSERT_EQ(s2_dirty_fault(&s2, gpa(at), false), OK) << std::hex << at;
		}
	}

	std::vector<u64> bitmap_for(u64 size) const
	{
		return std::vector<u64>(size / page / 64 + 1);
	}

	std::vector<u64> bits_of(const Pages &pages, u64 from, u64 size) const
	{
		std::vector<u64> bitmap = bitmap_for(size);

		for (u64 at : pages) {
			bitmap[(at - from) / page / 64] |= BIT((at - from) / page % 64);
		}
		return bitmap;
	}

	Pages pages_of(const std::vector<u64> &bitmap, u64 from, u64 size) const
	{
		Pages pages;

		for (u64 i = 0; i < size / page; i++) {
			if (bitmap[i / 64] >> i % 64 & 1) {
				pages.insert(from + i * page);
			}
		}
		return pages;
	}

	Pages get(u64 from, u64 size)
	{
		std::vector<u64> bitmap = bitmap_for(size);

		EXPECT_EQ(s2_dirty_get(&s2, gpa(from), size, bitmap.data()), OK);
		return pages_of(bitmap, from, size);
	}

	void clear(const Pages &pages, u64 from, u64 size, unsigned finest = S2_LEVELS_MAX)
	{
		std::vector<u64> bitmap = bits_of(pages, from, size);
		struct s2_batch batch;

		s2_batch_open(&batch, &s2);
		EXPECT_EQ(s2_dirty_clear(&s2, gpa(from), size, bitmap.data(), finest, &batch), OK);
		s2_batch_close(&batch);
	}

	void set(const Pages &pages, u64 from, u64 size)
	{
		EXPECT_EQ(s2_dirty_set(&s2, gpa(from), size, bits_of(pages, from, size).data()),
			  OK);
	}

	Pages all_of(u64 from, u64 size) const
	{
		Pages pages;

		for (u64 at = from; at < from + size; at += page) {
			pages.insert(at);
		}
		return pages;
	}

	template <typename Fn> enum status in_batch(Fn fn)
	{
		return ::in_batch(&s2, fn);
	}

	// Every entry of every table that leads somewhere, by where it is.
	using Snapshot = std::vector<std::pair<u64 *, u64>>;

	void snapshot(Snapshot *out, u64 *table, u64 entries, unsigned level)
	{
		for (u64 i = 0; i < entries; i++) {
			u64 *below = level ? s2_entry_below(s2.format, table[i], level) : nullptr;

			out->push_back({&table[i], table[i]});
			if (below) {
				snapshot(out, below, s2_table_entries(s2.format), level - 1);
			}
		}
	}

	Snapshot snapshot()
	{
		Snapshot out;

		snapshot(&out, s2.root, BIT(s2.ipa_bits) >> s2.root_shift, s2.root_level);
		return out;
	}

	bool by_flag() const
	{
		return s2_dirty_is_flag(&s2);
	}

	struct s2 s2 = {};
	u64 page = 0, large = 0, faults = 0;
};

std::string name_of(const ::testing::TestParamInfo<Kind> &info)
{
	return std::string(info.param.name) +
	       (info.param.traits & S2_HARDWARE_DIRTY ? "_by_hardware" : "_by_fault");
}

INSTANTIATE_TEST_SUITE_P(
	formats, S2Dirty,
	::testing::Values(Kind{"fake_broadcast", arch_s2_format(), true, 0},
			  Kind{"fake_broadcast", arch_s2_format(), true, S2_HARDWARE_DIRTY},
			  Kind{"fake_generations", arch_s2_format(), false, 0},
			  Kind{"fake_generations", arch_s2_format(), false, S2_HARDWARE_DIRTY},
			  Kind{"ept", &s2_ept, false, 0},
			  Kind{"ept_software", &s2_ept_software, false, 0},
			  Kind{"ept", &s2_ept, false, S2_HARDWARE_DIRTY},
			  Kind{"npt", &s2_npt, false, 0},
			  Kind{"npt", &s2_npt, false, S2_HARDWARE_DIRTY},
			  Kind{"armv8_4k", &s2_armv8_4k, true, 0},
			  Kind{"armv8_4k", &s2_armv8_4k, true, S2_HARDWARE_DIRTY},
			  Kind{"armv8_size_change", &s2_armv8_4k_fwb, true, S2_SIZE_CHANGE},
			  Kind{"armv8_size_change", &s2_armv8_4k_fwb, true,
			       S2_SIZE_CHANGE | S2_HARDWARE_DIRTY},
			  Kind{"armv8_lpa2", &s2_armv8_4k_lpa2, true, 0},
			  Kind{"armv8_16k", &s2_armv8_16k, true, 0, 47},
			  Kind{"armv8_16k", &s2_armv8_16k, true, S2_HARDWARE_DIRTY},
			  Kind{"armv8_64k", &s2_armv8_64k, true, 0},
			  Kind{"armv8_64k", &s2_armv8_64k, true, S2_HARDWARE_DIRTY}),
	name_of);

// ---- Start

TEST_P(S2Dirty, after_start_nothing_is_written_and_then_exactly_what_is)
{
	const u64 from = GIB(3), count = 300;

	map_pages(from, count);
	for (u64 i = 0; i < count; i++) {
		ASSERT_TRUE(write(from + i * page)) << "remembered as written";
	}
	start();
	EXPECT_EQ(get(from, count * page), Pages{});
	EXPECT_FALSE(s2_query(&s2, gpa(from)).dirty) << "whatever the leaf says";
	for (u64 i : {0, 7, 63, 64, 299}) {
		ASSERT_TRUE(write(from + i * page + 5));
		ASSERT_TRUE(write(from + i * page + 9));
	}
	read(from + 17 * page);
	EXPECT_EQ(get(from, count * page), (Pages{from, from + 7 * page, from + 63 * page,
						  from + 64 * page, from + 299 * page}));
	EXPECT_EQ(get(from + 60 * page, 4 * page), Pages{from + 63 * page}) << "part of it";
	EXPECT_EQ(get(0, from), Pages{});
}

TEST_P(S2Dirty, start_changes_entries_of_the_root_alone)
{
	for (u64 gib = 1; gib <= 16; gib *= 4) {
		Snapshot before, after;
		u64 changed = 0, size = BIT(s2.ipa_bits) >> s2.root_shift;
		struct s2_batch batch;

		for (u64 i = 0; i < gib; i++) {
			map_pages(GIB(gib + i), 40);
			map(GIB(gib + i) + large, large);
		}
		before = snapshot();
		s2_batch_open(&batch, &s2);
		ASSERT_EQ(s2_dirty_start(&s2, &batch), OK);
		EXPECT_EQ(batch.entries, 1u);
		after = snapshot();
		s2_batch_close(&batch);
		ASSERT_EQ(before.size(), after.size());
		for (u64 i = 0; i < after.size(); i++) {
			u64 *slot = after[i].first;
			bool is_root = slot >= s2.root && slot < s2.root + size;

			changed += after[i] != before[i];
			if (after[i] != before[i] && !is_root) {
				FAIL() << "an entry below the root";
			}
		}
		EXPECT_GE(changed, 1u);
		EXPECT_LE(changed, 3 * gib + 3) << "entries of the root that are in use";
		s2_dirty_stop(&s2);
	}
}

TEST_P(S2Dirty, the_first_fault_looks_into_two_tables_and_no_more)
{
	Snapshot before, after;
	u64 changed = 0;

	for (u64 i = 0; i < 8; i++) {
		map_pages(GIB(1) + i * large, 2);
	}
	start();
	before = snapshot();
	ASSERT_TRUE(write(GIB(1) + 3 * large));
	after = snapshot();
	for (u64 i = 0; i < after.size(); i++) {
		changed += after[i] != before[i];
	}
	// The way down, two pages, and the other seven tables.
	EXPECT_LE(changed, s2.root_level + 2u + 7u + 7u);
	EXPECT_EQ(get(GIB(1), 8 * large), Pages{GIB(1) + 3 * large});
}

TEST_P(S2Dirty, it_begins_once_and_tells_nothing_before)
{
	struct s2_batch batch;
	u64 word = 0;

	map_pages(0, 1);
	EXPECT_EQ(s2_dirty_get(&s2, gpa(0), page, &word), INVALID);
	EXPECT_EQ(s2_dirty_set(&s2, gpa(0), page, &word), INVALID);
	EXPECT_EQ(s2_dirty_log(&s2, gpa(0), page, nullptr, 0, &word), INVALID);
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(0), true), NOENT);
	start();
	EXPECT_EQ(s2_dirty_get(&s2, gpa(1), page, &word), INVALID);
	EXPECT_EQ(s2_dirty_get(&s2, gpa(BIT(s2.ipa_bits)), page, &word), INVALID);
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(BIT(s2.ipa_bits)), true), NOENT);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_dirty_start(&s2, &batch), EXISTS);
	EXPECT_EQ(s2_dirty_clear(&s2, gpa(0), 0, &word, 0, &batch), INVALID);
	s2_batch_close(&batch);
}

// ---- Get, clear, set

TEST_P(S2Dirty, getting_clears_nothing_and_clearing_forgets_what_it_is_told)
{
	map_pages(0, 100);
	start();
	for (u64 i = 0; i < 10; i++) {
		ASSERT_TRUE(write(i * page));
	}
	EXPECT_EQ(get(0, 100 * page), all_of(0, 10 * page));
	EXPECT_EQ(get(0, 100 * page), all_of(0, 10 * page));
	clear(all_of(3 * page, 4 * page), 0, 100 * page);
	EXPECT_EQ(get(0, 3 * page), all_of(0, 3 * page));
	EXPECT_EQ(get(3 * page, 4 * page), Pages{});
	EXPECT_EQ(get(7 * page, 93 * page), all_of(7 * page, 3 * page));
	ASSERT_TRUE(write(4 * page)) << "the TLB knew this one as written";
	EXPECT_EQ(get(3 * page, 4 * page), Pages{4 * page});
}

TEST_P(S2Dirty, a_round_is_one_close_however_many_pages)
{
	map_pages(0, 1000);
	start();
	for (u64 i = 0; i < 1000; i += 2) {
		ASSERT_TRUE(write(i * page));
	}
	u64 rounds = s2.stats.batches;
	Pages pages = get(0, 1000 * page);

	EXPECT_EQ(pages.size(), 500u);
	clear(pages, 0, 1000 * page);
	EXPECT_EQ(s2.stats.batches, rounds + 1);
	EXPECT_EQ(get(0, 1000 * page), Pages{});
	for (u64 i = 0; i < 1000; i += 2) {
		ASSERT_TRUE(write(i * page));
	}
	EXPECT_EQ(get(0, 1000 * page), pages);
}

TEST_P(S2Dirty, what_was_set_is_told_again_also_where_nobody_has_looked_yet)
{
	const u64 near = s2_span(s2.format, s2.root_level), far = 2 * near;

	map_pages(near, 10);
	map_pages(far, 10);
	start();
	set({near + page}, near, 10 * page);
	EXPECT_EQ(s2_entry_kind(s2.format, s2.root[far >> s2.root_shift], s2.root_level), S2_HELD)
		<< "no bit was set there";
	EXPECT_EQ(get(0, 2 * far), Pages{near + page});
	ASSERT_TRUE(write(near));
	EXPECT_EQ(get(0, 2 * far), (Pages{near, near + page}));
	EXPECT_TRUE(s2_query(&s2, gpa(near + page)).dirty);
	EXPECT_FALSE(s2_query(&s2, gpa(near + 2 * page)).dirty);
	EXPECT_FALSE(s2_query(&s2, gpa(far + 2 * page)).dirty);
	clear(all_of(near, 10 * page), near, 10 * page);
	EXPECT_EQ(get(0, 2 * far), Pages{});
}

TEST_P(S2Dirty, hardware_takes_no_fault_and_others_one_for_each_page)
{
	map_pages(0, 20);
	start();
	read(0); // the tables are looked into
	faults = 0;
	for (u64 i = 0; i < 20; i++) {
		ASSERT_TRUE(write(i * page));
		ASSERT_TRUE(write(i * page));
	}
	EXPECT_EQ(faults, s2.traits & S2_HARDWARE_DIRTY ? 0u : 20u);
}

TEST_P(S2Dirty, what_hardware_logged_goes_into_the_same_bitmap)
{
	std::vector<u64> bitmap = bitmap_for(2 * large);
	u64 logged[] = {large + 3 * page, 5 * page, 6 * page, GIB(700), BIT(50)};

	map(large, large);
	map_pages(0, 10);
	start();
	for (u64 i = 0; i < 3; i++) {
		ASSERT_TRUE(write(logged[i]));
	}
	ASSERT_EQ(s2_dirty_log(&s2, gpa(page), 2 * large - page, logged, 5, bitmap.data()), OK);
	EXPECT_EQ(pages_of(bitmap, page, 2 * large - page), get(page, 2 * large - page));
	EXPECT_EQ(pages_of(bitmap, page, 2 * large - page).size(), large / page + 2);
}

// Lamina writes for the guest, in one walk with saying so.
TEST_P(S2Dirty, what_is_written_for_the_guest_is_told_of)
{
	map_pages(0, 3);
	map_pages(3 * page, 1, S2_READ | S2_EXEC);
	start();
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(page), true), OK);
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(3 * page), true), NOENT);
	EXPECT_EQ(get(0, 4 * page), Pages{page});
}

// ---- Large leaves

TEST_P(S2Dirty, a_large_leaf_is_written_as_a_whole_and_stays_so_until_all_of_it_is_cleared)
{
	map(large, 2 * large);
	start();
	ASSERT_TRUE(write(large + 9 * page));
	EXPECT_EQ(get(0, 4 * large), all_of(large, large));
	clear(all_of(large, large / 2), 0, 4 * large);
	EXPECT_EQ(get(0, 4 * large), all_of(large, large)) << "half of its bits";
	clear(all_of(large, large / 2), large, large / 2);
	EXPECT_EQ(get(0, 4 * large), all_of(large, large)) << "half of it in the range";
	clear(all_of(large, large), 0, 4 * large);
	EXPECT_EQ(get(0, 4 * large), Pages{});
	EXPECT_EQ(s2.stats.splits, 0u);
	ASSERT_TRUE(write(large + 9 * page));
	EXPECT_EQ(get(large + 8 * page, 2 * page), all_of(large + 8 * page, 2 * page));
}

TEST_P(S2Dirty, a_large_leaf_is_refined_where_it_is_written)
{
	map(large, 2 * large);
	start();
	ASSERT_TRUE(write(large + 9 * page));
	clear(all_of(large, large), 0, 4 * large, 0);
	EXPECT_EQ(s2.stats.splits, 1u);
	EXPECT_EQ(s2_query(&s2, gpa(large)).level, 0);
	EXPECT_EQ(s2_query(&s2, gpa(2 * large)).level, 1) << "nobody wrote there";
	EXPECT_EQ(get(0, 4 * large), Pages{});
	ASSERT_TRUE(write(large + 9 * page));
	EXPECT_EQ(get(0, 4 * large), Pages{large + 9 * page});
}

// A sender may name pages that were not written, or are not mapped: nothing is refined for them.
TEST_P(S2Dirty, what_was_not_written_is_not_refined)
{
	map(large, large);
	start();
	ASSERT_TRUE(write(large));
	clear(all_of(large, large), 0, 4 * large);
	clear(all_of(0, 4 * large), 0, 4 * large, 0);
	EXPECT_EQ(s2.stats.splits, 0u);
	EXPECT_EQ(get(0, 4 * large), Pages{});
}

TEST_P(S2Dirty, a_refined_leaf_keeps_the_parts_that_were_not_cleared)
{
	Pages rest = all_of(large, large);

	map(large, large);
	start();
	ASSERT_TRUE(write(large + 9 * page));
	clear(all_of(large, large / 4), 0, 4 * large, 0);
	for (u64 at : all_of(large, large / 4)) {
		rest.erase(at);
	}
	EXPECT_EQ(get(0, 4 * large), rest);
}

TEST_P(S2Dirty, without_memory_a_leaf_stays_large_and_no_write_is_missed)
{
	map(large, 2 * large);
	start();
	ASSERT_TRUE(write(large));
	ASSERT_TRUE(write(2 * large));
	fake_memory_leave(s2_level_order(s2.format, 0) ? 0 : 1);
	clear(all_of(large, 2 * large), 0, 4 * large, 0);
	EXPECT_EQ(s2.stats.splits, s2_level_order(s2.format, 0) ? 0u : 1u);
	EXPECT_EQ(get(0, 4 * large), Pages{});
	ASSERT_TRUE(write(2 * large + page));
	EXPECT_EQ(get(2 * large, large), all_of(2 * large, large));
}

// Every table that refining asks for fails in turn: what is clear is clear, and watched.
TEST_P(S2Dirty, clearing_needs_no_memory_and_uses_what_there_is)
{
	if (page != PAGE_SIZE) {
		return; // memory is taken away by 4 KiB
	}
	for (u64 left = 0; left <= 4; left++) {
		u64 at = GIB(1);
		Pages some = all_of(at + 2 * large, large);

		s2_destroy(&s2);
		fake_memory(kMemory);
		fake_tlb_clear();
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		map(at, GIB(1));
		start();
		ASSERT_TRUE(write(at));
		fake_memory_leave(left);
		clear(some, at, GIB(1), 0);
		EXPECT_EQ(s2.stats.splits, min_u64(left, 2));
		EXPECT_EQ(get(at + 2 * large, large).empty(), left > 0);
		ASSERT_TRUE(write(at + 2 * large + page));
		EXPECT_EQ(get(at + 2 * large, large).size(), left > 1 ? 1 : large / page);
		EXPECT_EQ(get(at, page), Pages{at}) << "was not cleared";
	}
	s2_destroy(&s2);
	fake_memory(kMemory);
	ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
}

TEST_P(S2Dirty, leaves_of_the_root_are_logged_too)
{
	if (s2.root_level < 2 || !s2_level_may_be_leaf(s2.format, s2.root_level)) {
		return;
	}
	u64 size = s2_span(s2.format, s2.root_level), first = size + 3 * large;

	map(size, size);
	start();
	EXPECT_EQ(get(first, large), Pages{});
	ASSERT_TRUE(write(first));
	EXPECT_EQ(get(first, large), all_of(first, large));
	// Down to pages, through every level, where the bits are.
	clear(all_of(first, large), first, large, 0);
	EXPECT_EQ(get(first, large), Pages{});
	EXPECT_EQ(get(first + large, page), Pages{first + large});
	ASSERT_TRUE(write(first + page));
	EXPECT_EQ(get(first, large), Pages{first + page});
}

// ---- Beside other operations

TEST_P(S2Dirty, what_is_mapped_meanwhile_counts_as_written)
{
	map_pages(0, 2);
	start();
	map(4 * page, page);		      // below what is held
	map(GIB(5), page, S2_READ | S2_EXEC); // new tables
	map_pages(GIB(5) + page, 1);
	map(GIB(6) / large * large, large);
	EXPECT_EQ(get(0, GIB(5) + 2 * page), (Pages{4 * page, GIB(5), GIB(5) + page}));
	EXPECT_EQ(get(GIB(6) / large * large, 2 * large), all_of(GIB(6) / large * large, large));
	ASSERT_TRUE(write(page)) << "pushes down beside the new one";
	EXPECT_EQ(get(0, 8 * page), (Pages{page, 4 * page}));
	clear(all_of(GIB(5), 2 * page), GIB(5), 2 * page);
	EXPECT_EQ(get(GIB(5), 2 * page), Pages{});
	EXPECT_FALSE(write(GIB(5))) << "may be read only";
	ASSERT_TRUE(write(GIB(5) + page));
	EXPECT_EQ(get(GIB(5), 2 * page), Pages{GIB(5) + page});
}

TEST_P(S2Dirty, a_fault_gets_through_held_tables)
{
	map_pages(GIB(1), 3);
	map(GIB(2), large);
	start();
	EXPECT_EQ(s2_map_leaf(&s2, gpa(GIB(1)), 1, hpa(kNobodys + GIB(1)), kRwx), EXISTS);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(GIB(1)), 0, hpa(kNobodys + GIB(1)), kRwx), EXISTS);
	EXPECT_EQ(s2_mark_accessed(&s2, gpa(GIB(2))), OK);
	faults = 0;
	read(GIB(1));
	read(GIB(2));
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(GIB(1)), false), NOENT) << "nothing is left to do";
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(GIB(1) + 3 * page), true), NOENT);
	EXPECT_EQ(get(GIB(1), large), Pages{});
	EXPECT_EQ(get(GIB(2), large), Pages{});
}

TEST_P(S2Dirty, protect_forgets_no_write_and_gives_no_right_that_was_taken)
{
	map_pages(0, 4);
	start();
	ASSERT_TRUE(write(0));
	ASSERT_TRUE(write(page));
	for (u8 perm : {+S2_READ, +S2_RW, +S2_READ, S2_READ | S2_EXEC}) {
		ASSERT_EQ(in_batch([&](struct s2_batch *batch) {
				  return s2_protect(&s2, gpa(page), 2 * page, perm, batch);
			  }),
			  OK);
		EXPECT_EQ(get(0, 4 * page), (Pages{0, page})) << unsigned(perm);
	}
	EXPECT_FALSE(write(page));
	EXPECT_FALSE(write(2 * page));
	clear({0, page}, 0, 4 * page);
	EXPECT_FALSE(write(page));
	EXPECT_EQ(get(0, 4 * page), Pages{});
	ASSERT_EQ(in_batch([&](struct s2_batch *batch) {
			  return s2_protect(&s2, gpa(page), 2 * page, S2_RW, batch);
		  }),
		  OK);
	EXPECT_EQ(get(0, 4 * page), Pages{});
	ASSERT_TRUE(write(2 * page));
	EXPECT_EQ(get(0, 4 * page), Pages{2 * page});
}

TEST_P(S2Dirty, an_upgrade_gives_no_page_its_write_back_unlogged)
{
	struct s2_attr rx = {S2_READ | S2_EXEC, S2_NORMAL};

	map_pages(0, 2, S2_RW);
	start();
	read(0);
	ASSERT_EQ(s2_map(&s2, gpa(0), hpa(kNobodys), 2 * page, rx, S2_UPGRADE), OK);
	EXPECT_EQ(s2_query(&s2, gpa(page)).attr.perm & S2_EXEC, S2_EXEC);
	EXPECT_EQ(get(0, 2 * page), Pages{});
	ASSERT_TRUE(write(page));
	EXPECT_EQ(get(0, 2 * page), Pages{page});
}

TEST_P(S2Dirty, split_and_unmap_work_below_held_tables)
{
	map(large, 2 * large);
	map_pages(GIB(9), 4);
	start();
	ASSERT_EQ(in_batch([&](struct s2_batch *batch) {
			  return s2_split(&s2, gpa(large), 0, batch);
		  }),
		  OK);
	ASSERT_EQ(in_batch([&](struct s2_batch *batch) {
			  return s2_unmap(&s2, gpa(2 * large + page), 3 * page, batch);
		  }),
		  OK);
	ASSERT_EQ(in_batch([&](struct s2_batch *batch) {
			  return s2_unmap(&s2, gpa(GIB(9)), 4 * page, batch);
		  }),
		  OK);
	EXPECT_EQ(get(0, 4 * large), Pages{});
	EXPECT_EQ(get(GIB(9), large), Pages{});
	ASSERT_TRUE(write(large + page));
	ASSERT_TRUE(write(2 * large + 8 * page));
	EXPECT_EQ(get(0, 4 * large), (Pages{large + page, 2 * large + 8 * page}));
}

TEST_P(S2Dirty, the_parts_of_a_written_leaf_were_written)
{
	map(large, large);
	start();
	ASSERT_TRUE(write(large));
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(large), 0, &batch), OK);
	EXPECT_EQ(get(0, 4 * large), all_of(large, large)) << "pending";
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(large), true), s2.traits & S2_SIZE_CHANGE ? OK : AGAIN);
	s2_batch_close(&batch);
	EXPECT_EQ(get(0, 4 * large), all_of(large, large));
}

// What another batch has taken apart when logging begins may be told of too much, never too little.
TEST_P(S2Dirty, what_is_split_or_folded_when_it_begins_misses_no_write)
{
	struct s2_batch open;
	struct s2_collapsed report;

	map(large, large);
	map_pages(GIB(8), large / page);
	s2_batch_open(&open, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(large), 0, &open), OK);
	ASSERT_EQ(s2_collapse(&s2, gpa(GIB(8)), large, 1, &open, &report), OK);
	ASSERT_EQ(report.count[S2_FOLDED], 1u);
	start();
	s2_batch_close(&open);
	for (u64 at : {large, GIB(8)}) {
		ASSERT_TRUE(write(at + 2 * page));
		ASSERT_EQ(in_batch([&](struct s2_batch *batch) {
				  return s2_protect(&s2, gpa(at), 4 * page, S2_READ, batch);
			  }),
			  OK);
		EXPECT_EQ(get(at, large).count(at + 2 * page), 1u) << "may not be written now";
		clear(get(at, large), at, large);
		EXPECT_EQ(get(at, large), Pages{});
		ASSERT_TRUE(write(at + 4 * page));
		EXPECT_EQ(get(at, large).count(at + 4 * page), 1u);
		clear(get(at, large), at, large);
		ASSERT_TRUE(write(at + 4 * page));
		EXPECT_EQ(get(at, large).count(at + 4 * page), 1u);
	}
}

// A fold that is pending while its pages are cleared must not lose the guest's right to write.
TEST_P(S2Dirty, a_page_that_is_cleared_under_a_fold_can_be_written)
{
	struct s2_batch open;
	struct s2_collapsed report;

	map_pages(0, large / page);
	map(2 * large, large);
	s2_batch_open(&open, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(0), large, 1, &open, &report), OK);
	ASSERT_EQ(report.count[S2_FOLDED], 1u);
	start();
	if (s2.root_level > 1) {
		EXPECT_EQ(get(0, large), Pages{}) << "nobody can reach it";
	}
	read(2 * large);
	EXPECT_EQ(get(0, large), all_of(0, large)) << "nobody knows yet";
	clear(all_of(0, large), 0, large);
	s2_batch_close(&open);
	EXPECT_EQ(get(0, large), Pages{});
	ASSERT_TRUE(write(5 * page));
	EXPECT_EQ(get(0, large).count(5 * page), 1u);
}

TEST_P(S2Dirty, logged_pages_are_folded_by_flag_alone)
{
	struct s2_collapsed report;

	map_pages(0, large / page);
	start();
	read(0);
	ASSERT_EQ(in_batch([&](struct s2_batch *batch) {
			  return s2_collapse(&s2, gpa(0), large, 1, batch, &report);
		  }),
		  OK);
	EXPECT_EQ(report.count[by_flag() ? S2_FOLDED : S2_IS_LOGGED], 1u);
	ASSERT_TRUE(write(page));
	EXPECT_EQ(get(0, large), by_flag() ? all_of(0, large) : Pages{page});
}

// ---- Stop

TEST_P(S2Dirty, stop_leaves_everything_as_it_was)
{
	Snapshot before, after;
	const u64 flags = s2.format->accessed | s2.format->dirty;
	u64 way = s2_table_flag(&s2);

	map_pages(0, 10);
	map_pages(10 * page, 2, S2_READ | S2_EXEC);
	map(2 * large, large);
	map_pages(GIB(4), 10);
	before = snapshot();
	start();
	unmap(11 * page, page);
	map(11 * page, page, S2_READ | S2_EXEC);
	ASSERT_TRUE(write(0));
	ASSERT_TRUE(write(2 * large));
	clear({0}, 0, 10 * page);
	set({page, 10 * page}, 0, 12 * page);
	s2_dirty_stop(&s2);
	after = snapshot();
	ASSERT_EQ(before.size(), after.size());
	for (u64 i = 0; i < after.size(); i++) {
		ASSERT_EQ(after[i].first, before[i].first);
		ASSERT_EQ(after[i].second & ~(flags | way), before[i].second & ~(flags | way));
	}
	EXPECT_EQ(s2.marks, 0u);
	if (!by_flag()) {
		EXPECT_FALSE(s2_query(&s2, gpa(page)).dirty) << "was set";
		EXPECT_FALSE(s2_query(&s2, gpa(11 * page)).dirty) << "was mapped meanwhile";
	}
	faults = 0;
	for (u64 at : Pages{0, 5 * page, 2 * large, GIB(4)}) {
		EXPECT_TRUE(write(at));
	}
	EXPECT_EQ(faults, 0u);
	EXPECT_FALSE(write(10 * page));
	map_pages(20 * page, 1);
	EXPECT_FALSE(s2_query(&s2, gpa(20 * page)).dirty);
	s2_dirty_stop(&s2); // once more does nothing
	start();
	EXPECT_EQ(get(0, 4 * large), Pages{});
	ASSERT_TRUE(write(20 * page));
	EXPECT_EQ(get(0, 4 * large), Pages{20 * page});
}

// Stop goes through the space in steps: what others do behind it must stay as if nothing were
// logged.
TEST_P(S2Dirty, while_it_is_ending_no_write_is_withheld_any_more)
{
	map_pages(0, 2);
	start();
	read(0);
	s2.logging = S2_LOG_ENDING;
	for (u8 perm : {+S2_READ, +S2_RW}) {
		ASSERT_EQ(in_batch([&](struct s2_batch *batch) {
				  return s2_protect(&s2, gpa(0), page, perm, batch);
			  }),
			  OK);
	}
	EXPECT_EQ(s2_query(&s2, gpa(0)).attr.perm & S2_WRITE, S2_WRITE);
	EXPECT_TRUE(write(page)) << "nobody has been here yet";
	s2.logging = S2_LOG_ON;
	s2_dirty_stop(&s2);
}

TEST_P(S2Dirty, after_stop_no_cpu_remembers_that_it_may_not_write)
{
	map_pages(0, 2);
	start();
	s2_entering(&s2);
	s2_left(&s2);
	read(0);
	ASSERT_TRUE(fake_tlb_holds(&s2, gpa(0)));
	s2_dirty_stop(&s2);
	s2_entering(&s2);
	s2_left(&s2);
	EXPECT_EQ(fake_tlb_holds(&s2, gpa(0)), by_flag());
}

TEST_P(S2Dirty, stopping_what_nobody_looked_at_flushes_nothing)
{
	map_pages(GIB(1), 100);
	start();
	u64 rounds = s2.stats.batches;

	s2_dirty_stop(&s2);
	EXPECT_EQ(s2.stats.batches, rounds);
	faults = 0;
	ASSERT_TRUE(write(GIB(1)));
	EXPECT_EQ(faults, 0u);
}

// As a merge that comes to nothing does: a leaf is taken out for a moment, and put back as it was.
TEST_P(S2Dirty, stopping_waits_for_a_leaf_that_is_claimed)
{
	std::atomic<bool> stopped{false};
	struct s2_batch batch;
	struct s2_cursor c;
	u64 leaf;

	map_pages(0, 1);
	start();
	read(0);
	s2_cursor_start(&c, &s2, gpa(0));
	s2_cursor_descend(&c, 0);
	leaf = c.entry;
	s2_batch_open(&batch, &s2);
	ASSERT_TRUE(s2_entry_set(&c, s2_claim_entry(&batch), nullptr));
	std::thread stopper([&] {
		fake_cpu_become(1);
		s2_dirty_stop(&s2);
		stopped = true;
	});
	std::this_thread::sleep_for(std::chrono::milliseconds(20));
	EXPECT_FALSE(stopped);
	ASSERT_TRUE(s2_entry_set(&c, leaf, nullptr));
	stopper.join();
	s2_batch_close(&batch);
	EXPECT_TRUE(s2_query(&s2, gpa(0)).attr.perm & S2_WRITE);
	EXPECT_FALSE(s2_query(&s2, gpa(0)).dirty && !(s2.traits & S2_HARDWARE_DIRTY));
}

// A permission fault leaves the TLB's entry where it is, on machines that broadcast (DDI 0487).
TEST_P(S2Dirty, the_cpu_that_faulted_forgets_what_it_faulted_on)
{
	u64 forgot = 0;

	map_pages(0, 1);
	start();
	read(0);
	fake_flush_hook.context = &forgot;
	fake_flush_hook.local = [](void *context, const struct s2 *) {
		++*static_cast<u64 *>(context);
	};
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(0), true), OK);
	EXPECT_EQ(forgot, GetParam().broadcasts ? 1u : 0u);
	fake_flush_hook = {};
}

TEST_P(S2Dirty, a_space_can_go_while_it_is_logged)
{
	map_pages(0, 10);
	map(GIB(7) / large * large, large);
	start();
	ASSERT_TRUE(write(0));
}

// ---- A sender

// The protocol of the header, with a guest that writes at any moment and a network that fails.
class Sender
{
      public:
	Sender(struct s2 *s2, u64 size, u64 page) : s2_(s2), size_(size), page_(page)
	{
		bitmap_.resize(size / page / 64 + 1);
	}

	template <typename Fn> void round(std::mt19937 &random, unsigned lost_percent, Fn meanwhile)
	{
		std::vector<u64> bits(bitmap_.size()), lost(bitmap_.size());
		struct s2_batch batch;

		ASSERT_EQ(s2_dirty_get(s2_, gpa(0), size_, bits.data()), OK);
		meanwhile();
		s2_batch_open(&batch, s2_);
		ASSERT_EQ(s2_dirty_clear(s2_, gpa(0), size_, bits.data(),
					 random() % 2 ? 0 : S2_LEVELS_MAX, &batch),
			  OK);
		meanwhile();
		s2_batch_close(&batch);
		for (u64 i = 0; i < size_ / page_; i++) {
			if (!(bits[i / 64] >> i % 64 & 1)) {
				continue;
			}
			if (random() % 100 < lost_percent) {
				lost[i / 64] |= BIT(i % 64);
			} else {
				send(i);
			}
			if (i % 16 == 0) {
				meanwhile();
			}
		}
		ASSERT_EQ(s2_dirty_set(s2_, gpa(0), size_, lost.data()), OK);
	}

	void send(u64 i)
	{
		struct s2_leaf leaf;

		// A fault may be at its table just now: it is there, and not to be left out.
		while ((leaf = s2_query(s2_, gpa(i * page_))).kind == S2_TRANSIT) {
			std::this_thread::yield();
		}
		if (leaf.kind == S2_LEAF) {
			copy_[i] = load_relaxed((u64 *)hpa_ptr(leaf.hpa));
		}
	}

	std::map<u64, u64> copy_;

      private:
	struct s2 *s2_;
	u64 size_, page_;
	std::vector<u64> bitmap_;
};

class S2DirtySender : public S2Dirty
{
      protected:
	static constexpr u64 kPages = 96;

	void map_memory()
	{
		unsigned order = s2_level_order(s2.format, 0);

		size = kPages * page;
		if (large <= MIB(2)) {
			hpa_t block = frame_alloc(ORDER_2M, FRAME_GUEST, kOwner);

			ASSERT_EQ(s2_map(&s2, gpa(large), block, large, kRwx, S2_ERROR), OK);
			size = 2 * large;
		}
		for (u64 i = 0; i < kPages; i++) {
			hpa_t frame = frame_alloc(order, FRAME_GUEST, kOwner);

			ASSERT_EQ(s2_map_leaf(&s2, gpa(i * page), 0, frame, kRwx), OK);
		}
	}

	// False: the place is in the middle of a change.
	static bool store(struct s2 *s2, u64 at, u64 value)
	{
		for (int i = 0; i < 8; i++) {
			enum fake_access got;

			s2_entering(s2);
			got = fake_store(s2, gpa(at), value);
			s2_left(s2);
			if (got == FAKE_OK) {
				return true;
			}
			if (s2_dirty_fault(s2, gpa(at), true) != OK) {
				return false;
			}
		}
		return false;
	}

	u64 random_place(std::mt19937 &random)
	{
		u64 at = random() % kPages * page;

		return size > kPages * page && random() % 4 == 0 ? large + at : at;
	}

	// What else happens to a guest: another frame at a page, other permissions, a split.
	void change_something(std::mt19937 &random, u64 value)
	{
		u64 at = random_place(random), size = page * (1 + random() % 5);
		bool renew = random() % 2 && at < kPages * page;
		u8 perm = random() % 3 ? S2_RW : S2_READ;

		in_batch([&](struct s2_batch *batch) {
			return renew	      ? s2_unmap(&s2, gpa(at), page, batch)
			       : random() % 2 ? s2_protect(&s2, gpa(at), size, perm, batch)
					      : s2_split(&s2, gpa(at), 0, batch);
		});
		if (renew) {
			hpa_t frame =
				frame_alloc(s2_level_order(s2.format, 0), FRAME_GUEST, kOwner);
			struct s2_attr attr = {perm, S2_NORMAL};

			*(u64 *)hpa_ptr(frame) = value;
			if (s2_map_leaf(&s2, gpa(at), 0, frame, attr) != OK) {
				frame_put(frame); // the place is in a sender's open batch
			}
		}
	}

	void expect_the_same(Sender &sender)
	{
		for (u64 i = 0; i < size / page; i++) {
			struct s2_leaf leaf = s2_query(&s2, gpa(i * page));

			if (leaf.kind == S2_LEAF) {
				EXPECT_EQ(sender.copy_[i], *(u64 *)hpa_ptr(leaf.hpa)) << i;
			}
		}
	}

	u64 size = 0;
};

INSTANTIATE_TEST_SUITE_P(
	formats, S2DirtySender,
	::testing::Values(Kind{"fake_broadcast", arch_s2_format(), true, 0},
			  Kind{"fake_generations", arch_s2_format(), false, 0},
			  Kind{"ept", &s2_ept, false, S2_HARDWARE_DIRTY},
			  Kind{"npt", &s2_npt, false, S2_HARDWARE_DIRTY},
			  Kind{"npt", &s2_npt, false, 0}, Kind{"armv8_4k", &s2_armv8_4k, true, 0},
			  Kind{"ept_software", &s2_ept_software, false, 0},
			  Kind{"armv8_4k", &s2_armv8_4k, true, S2_HARDWARE_DIRTY},
			  Kind{"armv8_size_change", &s2_armv8_4k, true,
			       S2_SIZE_CHANGE | S2_HARDWARE_DIRTY},
			  Kind{"armv8_64k", &s2_armv8_64k, true, S2_HARDWARE_DIRTY}),
	name_of);

TEST_P(S2DirtySender, a_sender_that_fails_half_way_loses_nothing)
{
	for (unsigned seed = 1; seed <= 6; seed++) {
		std::mt19937 random(seed);
		u64 value = 1;

		s2_destroy(&s2);
		fake_memory(kMemory);
		fake_tlb_clear();
		ASSERT_EQ(s2_init(&s2, GetParam().format, GetParam().ipa_bits, kOwner), OK);
		map_memory();
		Sender sender(&s2, size, page);
		auto guest = [&] {
			for (u64 i = random() % 8; i > 0; i--) {
				store(&s2, random_place(random), value++);
			}
			if (random() % 4 == 0) {
				change_something(random, value++);
			}
		};

		guest();
		start();
		for (u64 i = 0; i < size / page; i++) {
			sender.send(i);
			guest();
		}
		for (int round = 0; round < 12; round++) {
			sender.round(random, 40, guest);
		}
		sender.round(random, 0, [] {}); // the guest stands still
		expect_the_same(sender);
	}
}

TEST_P(S2DirtySender, guests_that_run_and_tables_that_change_lose_no_write)
{
	std::atomic<bool> over{false};
	std::vector<std::thread> guests;
	std::mt19937 random(5);

	map_memory();
	Sender sender(&s2, size, page);
	for (u32 cpu = 1; cpu < 4; cpu++) {
		guests.emplace_back([&, cpu] {
			std::mt19937 mine(cpu);
			u64 value = (u64)cpu << 32;

			fake_cpu_become(cpu);
			while (!over) {
				// A page of one's own, so that the last value is the value.
				u64 at = random_place(mine) / (3 * page) * (3 * page) +
					 (cpu - 1) * page;

				if (at < kPages * page || at >= large) {
					store(&s2, at, ++value);
				}
			}
		});
	}
	start();
	for (u64 i = 0; i < size / page; i++) {
		sender.send(i);
	}
	for (int round = 0; round < 150; round++) {
		sender.round(random, 20, [] {});
		if (round % 3 == 0) {
			struct s2_collapsed report;

			change_something(random, round);
			in_batch([&](struct s2_batch *batch) {
				s2_protect(&s2, gpa(0), kPages * page, S2_RW, batch);
				return s2_collapse(&s2, gpa(0), 2 * large, 1, batch, &report);
			});
		}
		if (round % 50 == 49) { // from the start again: all is sent again
			s2_dirty_stop(&s2);
			start();
			for (u64 i = 0; i < size / page; i++) {
				sender.send(i);
			}
		}
	}
	over = true;
	for (auto &guest : guests) {
		guest.join();
	}
	fake_cpu_become(0);
	sender.round(random, 0, [] {});
	expect_the_same(sender);
}

} // namespace
