// What is in the bits: ARMv8's entries, VTCR_EL2 and invalidation operands against the manual's
// numbers.
#include "s2_test_machine.h"

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

} // namespace
