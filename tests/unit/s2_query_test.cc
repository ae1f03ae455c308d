// Looking at a space: gaps, validation, dumps, and that large empty regions cost next to nothing.
#include "s2_test_machine.h"

#include <algorithm>
#include <random>
#include <vector>

extern "C" {
#include "../../arch/x86_64/s2_ept.h"
#include "../../arch/x86_64/s2_npt.h"
}

namespace
{

class S2Query : public S2Test
{
      protected:
	// The first gap, or ~0 where there is none.
	u64 gap(u64 from, u64 end, u64 size, u64 align = PAGE_SIZE)
	{
		gpa_t found = gpa(~0ull);
		enum status status = s2_find_gap(&s2, gpa(from), gpa(end), size, align, &found);

		EXPECT_EQ(status, found.v == ~0ull ? NOENT : OK);
		return found.v;
	}

	// Frames beyond the frame table: nobody's, so a test may map them as often as it likes.
	void map(u64 at, u64 size, u8 perm = S2_RWX)
	{
		ASSERT_EQ(
			s2_map(&s2, gpa(at), hpa(BIT(43) + at), size, {perm, S2_NORMAL}, S2_ERROR),
			OK);
	}

	std::vector<struct s2_region> dump(u64 at, u64 size)
	{
		std::vector<struct s2_region> regions;

		s2_dump(
			&s2, gpa(at), size,
			[](void *context, const struct s2_region *region) {
				auto all = (std::vector<struct s2_region> *)context;

				all->push_back(*region);
			},
			&regions);
		return regions;
	}

	const u64 whole = 1ull << 40;
};
INSTANTIATE_TEST_SUITE_P(formats, S2Query, s2_kinds(), s2_kind_name);

TEST_P(S2Query, in_an_empty_space_the_gap_is_where_one_asks)
{
	EXPECT_EQ(gap(0, whole, PAGE_SIZE), 0u);
	EXPECT_EQ(gap(5 * PAGE_SIZE, whole, MIB(3)), 5 * PAGE_SIZE);
	EXPECT_EQ(gap(0, whole, whole), 0u);
	EXPECT_EQ(gap(PAGE_SIZE, whole, whole), ~0ull);
}

TEST_P(S2Query, a_gap_begins_behind_what_is_mapped)
{
	map(MIB(4), MIB(2));
	map(MIB(6), 3 * PAGE_SIZE);
	EXPECT_EQ(gap(0, whole, MIB(4)), 0u);
	EXPECT_EQ(gap(0, whole, MIB(4) + PAGE_SIZE), MIB(6) + 3 * PAGE_SIZE);
	EXPECT_EQ(gap(MIB(4), whole, PAGE_SIZE), MIB(6) + 3 * PAGE_SIZE);
	EXPECT_EQ(gap(MIB(4) + 7 * PAGE_SIZE, whole, PAGE_SIZE), MIB(6) + 3 * PAGE_SIZE);
}

TEST_P(S2Query, a_hole_of_exactly_the_size_is_a_gap)
{
	map(0, 5 * PAGE_SIZE);
	map(8 * PAGE_SIZE, PAGE_SIZE);
	EXPECT_EQ(gap(0, whole, 3 * PAGE_SIZE), 5 * PAGE_SIZE);
	EXPECT_EQ(gap(0, whole, 4 * PAGE_SIZE), 9 * PAGE_SIZE);
}

TEST_P(S2Query, gaps_are_aligned_as_asked)
{
	map(0, PAGE_SIZE);
	EXPECT_EQ(gap(0, whole, PAGE_SIZE, MIB(2)), MIB(2));
	EXPECT_EQ(gap(0, whole, PAGE_SIZE, GIB(1)), GIB(1));
	// An address is a multiple of the page size whatever is asked.
	EXPECT_EQ(gap(0, whole, PAGE_SIZE, 1), PAGE_SIZE);
	EXPECT_EQ(gap(PAGE_SIZE + 1, whole, PAGE_SIZE, 1), 2 * PAGE_SIZE);
}

TEST_P(S2Query, a_gap_ends_where_the_caller_and_the_space_say)
{
	EXPECT_EQ(gap(MIB(1), MIB(2), MIB(1)), MIB(1));
	EXPECT_EQ(gap(MIB(1), MIB(2) - 1, MIB(1)), ~0ull);
	EXPECT_EQ(gap(whole - PAGE_SIZE, ~0ull, PAGE_SIZE), whole - PAGE_SIZE);
	EXPECT_EQ(gap(whole - PAGE_SIZE, ~0ull, 2 * PAGE_SIZE), ~0ull);
	EXPECT_EQ(gap(whole, ~0ull, PAGE_SIZE), ~0ull);
	EXPECT_EQ(gap(~0ull, ~0ull, PAGE_SIZE, BIT(63)), ~0ull);
	EXPECT_EQ(gap(PAGE_SIZE, whole, PAGE_SIZE, BIT(63)), ~0ull);
}

TEST_P(S2Query, a_gap_of_nonsense_is_invalid)
{
	gpa_t found;

	EXPECT_EQ(s2_find_gap(&s2, gpa(0), gpa(whole), 0, PAGE_SIZE, &found), INVALID);
	EXPECT_EQ(s2_find_gap(&s2, gpa(0), gpa(whole), 100, PAGE_SIZE, &found), INVALID);
	EXPECT_EQ(s2_find_gap(&s2, gpa(0), gpa(whole), PAGE_SIZE, 0, &found), INVALID);
	EXPECT_EQ(s2_find_gap(&s2, gpa(0), gpa(whole), PAGE_SIZE, 3 * PAGE_SIZE, &found), INVALID);
}

TEST_P(S2Query, what_is_cleared_is_no_gap_before_the_close)
{
	struct s2_batch batch;

	map(0, PAGE_SIZE);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(0), PAGE_SIZE, &batch), OK);
	EXPECT_NE(gap(0, whole, PAGE_SIZE), 0u);
	s2_batch_close(&batch);
	EXPECT_EQ(gap(0, whole, PAGE_SIZE), 0u);
}

TEST_P(S2Query, what_is_broken_is_no_gap)
{
	struct s2_batch batch;

	map(MIB(2), MIB(2));
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	EXPECT_EQ(gap(MIB(2), whole, PAGE_SIZE), MIB(4));
	s2_batch_close(&batch);
	EXPECT_EQ(gap(MIB(2), whole, PAGE_SIZE), MIB(4));
}

// Against a bitmap of the pages, for many sizes and places.
TEST_P(S2Query, gaps_are_those_that_looking_at_every_page_finds)
{
	constexpr u64 kPages = 2048; // 8 MiB
	std::mt19937_64 random(5);
	std::vector<bool> used(kPages);

	for (unsigned i = 0; i < 60; i++) {
		u64 first = random() % kPages, count = 1 + random() % 40;

		if (i == 0) {
			first = 512;
			count = 512;
		}
		for (u64 page = first; page < std::min(first + count, kPages); page++) {
			if (!used[page]) {
				map(page * PAGE_SIZE, PAGE_SIZE);
				used[page] = true;
			}
		}
	}
	for (unsigned i = 0; i < 300; i++) {
		u64 from = random() % kPages, count = 1 + random() % 50;
		u64 align = 1ull << random() % 5, run = 0, expected = ~0ull;

		for (u64 page = (from + align - 1) & ~(align - 1); page + count <= kPages;
		     page += align) {
			for (run = 0; run < count && !used[page + run]; run++) {
			}
			if (run == count) {
				expected = page * PAGE_SIZE;
				break;
			}
		}
		EXPECT_EQ(gap(from * PAGE_SIZE, kPages * PAGE_SIZE, count * PAGE_SIZE,
			      align * PAGE_SIZE),
			  expected);
	}
}

TEST_P(S2Query, validate_asks_for_each_permission)
{
	map(0, MIB(2), S2_RX);
	map(MIB(2), PAGE_SIZE, S2_RW);
	EXPECT_TRUE(s2_validate(&s2, gpa(0), MIB(2), S2_RX));
	EXPECT_FALSE(s2_validate(&s2, gpa(0), MIB(2), S2_RW));
	EXPECT_TRUE(s2_validate(&s2, gpa(MIB(2) - 8), 16, S2_READ));
	EXPECT_FALSE(s2_validate(&s2, gpa(MIB(2) - 8), 16, S2_RX));
	EXPECT_FALSE(s2_validate(&s2, gpa(MIB(2) + PAGE_SIZE - 8), 16, S2_READ));
}

TEST_P(S2Query, validate_of_no_bytes_asks_nothing)
{
	EXPECT_TRUE(s2_validate(&s2, gpa(MIB(5)), 0, S2_RWX));
}

TEST_P(S2Query, validate_leaves_no_space_by_its_end)
{
	map(whole - PAGE_SIZE, PAGE_SIZE);
	EXPECT_TRUE(s2_validate(&s2, gpa(whole - PAGE_SIZE), PAGE_SIZE, S2_READ));
	EXPECT_FALSE(s2_validate(&s2, gpa(whole - PAGE_SIZE), PAGE_SIZE + 1, S2_READ));
	EXPECT_FALSE(s2_validate(&s2, gpa(whole), 1, S2_READ));
}

TEST_P(S2Query, a_dump_tells_neighbours_apart_by_what_they_are)
{
	map(0, PAGE_SIZE, S2_RX);
	map(PAGE_SIZE, PAGE_SIZE, S2_RW);
	map(2 * PAGE_SIZE, 2 * PAGE_SIZE, S2_RW);
	map(MIB(2), MIB(4), S2_RW);
	auto regions = dump(0, whole);

	ASSERT_EQ(regions.size(), 3u);
	EXPECT_EQ(regions[0].size, PAGE_SIZE);
	EXPECT_EQ(regions[0].attr.perm, S2_RX);
	EXPECT_EQ(regions[1].gpa.v, PAGE_SIZE);
	EXPECT_EQ(regions[1].size, 3 * PAGE_SIZE);
	EXPECT_EQ(regions[2].gpa.v, MIB(2));
	EXPECT_EQ(regions[2].size, MIB(4));
	EXPECT_EQ(regions[2].level, 1);
}

TEST_P(S2Query, a_dump_tells_neighbours_apart_by_what_the_guest_cannot_see)
{
	const struct s2_format *f = s2.format;
	const u8 other = s2_memory_or_forced(f, S2_DEVICE);
	const struct s2_attr attrs[] = {
		{S2_RW, S2_NORMAL, false}, {S2_RW, other, false}, {S2_RW, other, true}};
	bool can_notify = f->decode(f->encode(attrs[2], false), false).notify;

	for (u64 i = 0; i < 6; i++) {
		ASSERT_EQ(s2_map(&s2, gpa(i * PAGE_SIZE), hpa(BIT(43) + i * PAGE_SIZE), PAGE_SIZE,
				 attrs[i / 2], S2_ERROR),
			  OK);
	}
	auto regions = dump(0, whole);

	ASSERT_EQ(regions.size(), can_notify ? 3u : 2u);
	EXPECT_EQ(regions[0].size, 2 * PAGE_SIZE);
	EXPECT_EQ(regions[0].attr.memory, S2_NORMAL);
	EXPECT_EQ(regions[1].attr.memory, other);
	EXPECT_EQ(regions[1].size, can_notify ? 2 * PAGE_SIZE : 4 * PAGE_SIZE);
	EXPECT_FALSE(regions[1].attr.notify);
	EXPECT_EQ(regions.back().attr.notify, can_notify);
}

TEST_P(S2Query, behind_the_space_there_is_nothing_to_dump)
{
	map(0, PAGE_SIZE);
	map(whole - PAGE_SIZE, PAGE_SIZE);
	EXPECT_TRUE(dump(whole, PAGE_SIZE).empty());
	EXPECT_TRUE(dump(whole, ~0ull).empty());
	EXPECT_TRUE(dump(whole + GIB(1), BIT(63)).empty()) << "nor is it looked for";
	EXPECT_TRUE(dump(~0xfffull, 2 * PAGE_SIZE).empty()) << "which goes on at address zero";
	EXPECT_EQ(dump(whole - PAGE_SIZE, ~0ull).size(), 1u);
}

TEST_P(S2Query, a_dump_of_a_part_begins_and_ends_with_it)
{
	map(MIB(2), MIB(2));
	auto regions = dump(MIB(3), PAGE_SIZE);

	ASSERT_EQ(regions.size(), 1u);
	EXPECT_EQ(regions[0].gpa.v, MIB(3));
	EXPECT_EQ(regions[0].size, PAGE_SIZE);
	EXPECT_EQ(regions[0].hpa.v, BIT(43) + MIB(3));
}

TEST_P(S2Query, a_dump_says_what_is_in_transit)
{
	struct s2_batch batch;

	map(0, 3 * PAGE_SIZE);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(PAGE_SIZE), PAGE_SIZE, &batch), OK);
	auto regions = dump(0, whole);

	ASSERT_EQ(regions.size(), 3u);
	EXPECT_EQ(regions[1].kind, S2_TRANSIT);
	s2_batch_close(&batch);
	EXPECT_EQ(dump(0, whole).size(), 2u);
}

// Spaces as wide as formats go, with a page here and there: by pages none of this would end.
TEST(S2QueryWide, sparse_spaces_of_the_largest_size_are_looked_through_at_once)
{
	struct {
		const struct s2_format *format;
		unsigned ipa_bits;
	} kinds[] = {{arch_s2_format(), 48}, {&s2_armv8_4k, 48},     {&s2_ept, 48},
		     {&s2_ept5, 52},	     {&s2_ept_software, 48}, {&s2_npt, 48}};

	fake_broadcasts = true;
	fake_cpus(1);
	for (auto kind : kinds) {
		u64 whole = 1ull << kind.ipa_bits,
		    places[] = {PAGE_SIZE, whole / 2, whole - PAGE_SIZE};
		struct s2 s2;
		gpa_t found;
		unsigned regions = 0;

		fake_memory(MIB(1));
		ASSERT_EQ(s2_init(&s2, kind.format, kind.ipa_bits, 7), OK) << kind.format->name;
		for (u64 at : places) {
			ASSERT_EQ(s2_map(&s2, gpa(at), hpa(BIT(40)), PAGE_SIZE, s2_ram(&s2),
					 S2_ERROR),
				  OK);
		}
		EXPECT_EQ(s2_find_gap(&s2, gpa(0), gpa(whole), whole / 4, whole / 4, &found), OK);
		EXPECT_EQ(found.v, whole / 4);
		EXPECT_EQ(s2_find_gap(&s2, gpa(0), gpa(whole), whole / 2 - 2 * PAGE_SIZE, PAGE_SIZE,
				      &found),
			  OK);
		EXPECT_EQ(found.v, 2 * PAGE_SIZE);
		EXPECT_EQ(s2_find_gap(&s2, gpa(0), gpa(whole), whole / 2, PAGE_SIZE, &found),
			  NOENT);
		EXPECT_FALSE(s2_validate(&s2, gpa(0), whole, 0));
		s2_dump(
			&s2, gpa(0), whole,
			[](void *context, const struct s2_region *region) {
				EXPECT_EQ(region->kind, S2_LEAF);
				EXPECT_EQ(region->size, PAGE_SIZE);
				++*(unsigned *)context;
			},
			&regions);
		EXPECT_EQ(regions, 3u) << kind.format->name;
		s2_destroy(&s2);
	}
}

} // namespace
