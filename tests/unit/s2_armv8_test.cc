// What is in the bits: ARMv8's entries, VTCR_EL2 and invalidation operands against the manual's
// numbers.
#include "s2_test_machine.h"

#include <algorithm>
#include <vector>

namespace
{

TEST(S2Armv8, a_normal_writable_page_has_the_bits_of_the_manual)
{
	u64 entry = s2_leaf_entry(&s2_armv8_4k, hpa(0x12345000), kRwx, 0);

	// page, AF, inner shareable, S2AP = read/write, MemAttr = write-back, XN = 0
	EXPECT_EQ(entry, 0x12345000ull | 3 | BIT(10) | (3ull << 8) | (3ull << 6) | (0xfull << 2));
}

TEST(S2Armv8, a_block_is_told_from_a_table_by_bit_1)
{
	EXPECT_EQ(s2_leaf_entry(&s2_armv8_4k, hpa(MIB(2)), kRwx, 1) & 3, 1u);
	EXPECT_TRUE(s2_entry_is_leaf(&s2_armv8_4k, MIB(2) | 1, 1));
	EXPECT_TRUE(s2_entry_is_table(&s2_armv8_4k, MIB(2) | 3, 1));
	EXPECT_TRUE(s2_entry_is_leaf(&s2_armv8_4k, MIB(2) | 3, 0));
}

TEST(S2Armv8, vtcr_for_40_bits_starts_at_the_manuals_level_1)
{
	struct s2 s2 = {};
	struct s2_armv8_features features = {
		.pa_range = 2, .hardware_access = true, .vmid16 = true};

	s2.ipa_bits = 40;
	s2.root_level = 2;
	EXPECT_EQ(s2_armv8_vtcr(&s2, features), BIT(31) | 24 | (1ull << 6) | (1ull << 8) |
							(1ull << 10) | (3ull << 12) | (2ull << 16) |
							BIT(19) | BIT(21));
}

// The ranges of one operand after another cover every page once, whatever the count.
TEST(S2Armv8, range_operands_cover_exactly_what_was_asked)
{
	for (u64 pages = 1; pages < 5000; pages += pages < 200 ? 1 : 97) {
		u64 ipa = 0x40000000, left = pages;
		int instructions = 0;

		while (left > 0) {
			u64 taken,
				operand = s2_armv8_range_operand(ipa, left, S2_LEVELS_MAX, &taken);
			u64 num = field_get(operand, BITS(43, 39)),
			    scale = field_get(operand, BITS(45, 44));

			EXPECT_EQ(operand & BITS(36, 0), ipa >> 12);
			EXPECT_EQ(field_get(operand, BITS(47, 46)), 1u);
			EXPECT_EQ(field_get(operand, BITS(38, 37)), 0u);
			ASSERT_GT(taken, 0u);
			ASSERT_GE((num + 1) << (5 * scale + 1), taken) << "a page would be missed";
			ASSERT_LE(taken, left);
			ipa += taken << 12;
			left -= taken;
			instructions++;
		}
		EXPECT_LE(instructions, 4) << pages;
	}
}

TEST(S2Armv8, the_level_hint_counts_as_the_manual_does)
{
	u64 taken;

	EXPECT_EQ(field_get(s2_armv8_range_operand(0, 1, 0, &taken), BITS(38, 37)), 3u);
	EXPECT_EQ(field_get(s2_armv8_range_operand(0, 512, 1, &taken), BITS(38, 37)), 2u);
}

TEST(S2Armv8, output_addresses_have_at_most_48_bits)
{
	struct s2 s2 = {};

	s2.ipa_bits = 40;
	s2.root_level = 2;
	for (unsigned range = 0; range <= 6; range++) {
		u64 vtcr = s2_armv8_vtcr(&s2, {range, false, false});

		EXPECT_EQ(field_get(vtcr, BITS(18, 16)), std::min(range, 5u)) << range;
		EXPECT_EQ(vtcr & (BIT(19) | BIT(21)), 0u);
	}
}

std::vector<std::pair<enum s2_armv8_tlbi, u64>> flushes(u64 pages, unsigned level, bool by_range,
							bool ttl)
{
	struct s2_armv8_flush flush = {MIB(64), MIB(64) + pages * PAGE_SIZE, level, by_range, ttl};
	std::vector<std::pair<enum s2_armv8_tlbi, u64>> list;
	enum s2_armv8_tlbi tlbi;
	u64 operand;

	while ((tlbi = s2_armv8_flush_next(&flush, &operand)) != FLUSH_DONE) {
		list.emplace_back(tlbi, operand);
	}
	return list;
}

TEST(S2Armv8, few_leaves_go_one_by_one_and_many_with_the_whole_space)
{
	for (unsigned level : {0u, 1u}) {
		u64 leaf = BIT(9 * level);
		auto few = flushes(512 * leaf, level, false, true);
		auto many = flushes(513 * leaf, level, false, true);

		ASSERT_EQ(few.size(), 512u);
		for (u64 i = 0; i < 512; i++) {
			u64 hint = 4 | (3 - level);

			EXPECT_EQ(few[i].first, FLUSH_IPAS2E1IS);
			EXPECT_EQ(few[i].second, (MIB(64) >> 12) + i * leaf + (hint << 44));
		}
		ASSERT_EQ(many.size(), 1u);
		EXPECT_EQ(many[0].first, FLUSH_VMALLS12E1IS);
	}
	EXPECT_EQ(flushes(1, 0, false, false)[0].second, MIB(64) >> 12)
		<< "no hint without FEAT_TTL";
	EXPECT_EQ(flushes(3, S2_LEVELS_MAX, false, true).size(), 3u)
		<< "of any level: page by page";
}

TEST(S2Armv8, a_range_goes_in_few_instructions_where_there_are_ranges)
{
	auto all = flushes(BIT(18) + 512 + 3, S2_LEVELS_MAX, true, true);

	EXPECT_LE(all.size(), 4u);
	for (auto &[tlbi, operand] : all) {
		EXPECT_EQ(tlbi, FLUSH_RIPAS2E1IS);
	}
	EXPECT_TRUE(flushes(0, 0, true, true).empty());
}

} // namespace
