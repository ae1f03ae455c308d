// INS and OUTS without a machine: which bytes come next, and where the registers are behind them.
#include <gtest/gtest.h>

#include <vector>

extern "C" {
#include "../../arch/x86_64/vinject.h"
#include "../../arch/x86_64/vstring.h"
#include "hyp/addr.h"
}

namespace
{

constexpr u32 DATA = 0x93, DATA_DOWN = 0x97, DATA_READ = 0x91, CODE = 0x9b, CODE_EXECUTE = 0x99;
constexpr u32 BIG = 0x4000, UNUSABLE = 0x10000;
constexpr u64 TOP = ~0ull;

struct vstring outs(unsigned size, u64 index, u64 count)
{
	struct vstring s = {};

	s.size = (u8)size;
	s.index_size = 8;
	s.rep = true;
	s.long_mode = true;
	s.index = index;
	s.count = count;
	return s;
}

// In a flat segment of 32 bits.
struct vstring outs32(unsigned size, u64 index, u64 count)
{
	struct vstring s = outs(size, index, count);

	s.long_mode = false;
	s.index_size = 4;
	s.segment = {0, ~0u, DATA | BIG, false};
	return s;
}

void expect_step(const struct vstring &s, u32 elements, u64 at)
{
	struct vstring_step step = vstring_next(&s);

	EXPECT_EQ(step.fault, 0);
	EXPECT_EQ(step.elements, elements);
	EXPECT_EQ(step.at, at);
}

u8 fault_of(const struct vstring &s)
{
	return vstring_next(&s).fault;
}

TEST(VString, without_rep_one_element_is_left_whatever_the_count)
{
	struct vstring s = outs(1, 0x1000, 0);

	s.rep = false;
	EXPECT_EQ(vstring_left(&s), 1u);
	expect_step(s, 1, 0x1000);
	vstring_advance(&s, 1);
	EXPECT_EQ(s.index, 0x1001u);
	EXPECT_EQ(s.count, 0u);
}

TEST(VString, what_is_left_is_as_much_of_the_count_as_the_address_size_says)
{
	struct vstring s = outs(1, 0, 0x0001000200030004);

	EXPECT_EQ(vstring_left(&s), 0x0001000200030004u);
	s.index_size = 4;
	EXPECT_EQ(vstring_left(&s), 0x00030004u);
	s.index_size = 2;
	EXPECT_EQ(vstring_left(&s), 4u);
	s.count = 0x10000;
	EXPECT_EQ(vstring_left(&s), 0u);
}

TEST(VString, a_step_ends_with_its_page_its_count_or_at_its_most)
{
	expect_step(outs(1, 0x1ff0, 100), 16, 0x1ff0);
	expect_step(outs(1, 0x1ff0, 5), 5, 0x1ff0);
	expect_step(outs(1, 0x1000, 5000), VSTRING_STEP_MAX, 0x1000);
	expect_step(outs(4, 0x1ff0, 100), 4, 0x1ff0);
	expect_step(outs(4, 0x1ff1, 100), 3, 0x1ff1);
	expect_step(outs(1, 0x1fff, 100), 1, 0x1fff);
}

TEST(VString, an_element_in_two_pages_is_a_step_of_its_own)
{
	struct vstring s = outs(4, 0x1ffd, 100);
	struct vstring_step step = vstring_next(&s);

	EXPECT_EQ(step.elements, 1u);
	EXPECT_EQ(step.at, 0x1ffdu);
	EXPECT_EQ(step.next, 0x2000u);
	EXPECT_EQ(vstring_bytes(&s, &step), 4u);
	EXPECT_EQ(vstring_first_bytes(&s, &step), 3u);
	s.down = true;
	expect_step(s, 1, 0x1ffd);
}

TEST(VString, downwards_a_step_ends_with_the_pages_first_byte)
{
	struct vstring s = outs(1, 0x1003, 100);

	s.down = true;
	expect_step(s, 4, 0x1000);
	vstring_advance(&s, 4);
	EXPECT_EQ(s.index, 0xfffu);
	EXPECT_EQ(s.count, 96u);
	s.size = 4;
	s.index = 0x100a;
	expect_step(s, 3, 0x1002);
	s.index = 0x1ffc;
	expect_step(s, VSTRING_STEP_MAX, 0x1ffc - 63 * 4);
}

TEST(VString, registers_of_16_bits_keep_their_rest_and_those_of_32_clear_it)
{
	struct vstring s = outs(2, 0x123456781ffe, 0xabcdef0003);

	s.index_size = 2;
	vstring_advance(&s, 3);
	EXPECT_EQ(s.index, 0x123456782004u);
	EXPECT_EQ(s.count, 0xabcdef0000u);
	s.index = 0x12345678fffe;
	vstring_advance(&s, 1);
	EXPECT_EQ(s.index, 0x123456780000u) << "wraps";
	s = outs(2, 0x1234ffffffff, 0x700000005);
	s.index_size = 4;
	vstring_advance(&s, 1);
	EXPECT_EQ(s.index, 1u);
	EXPECT_EQ(s.count, 4u);
}

TEST(VString, addresses_of_16_and_32_bits_wrap_between_elements)
{
	struct vstring s = outs32(1, 0xfffe, 100);

	s.index_size = 2;
	s.segment.base = 0x10;
	expect_step(s, 2, 0x1000e);
	s.index = 0x2fff8;
	s.size = 2;
	expect_step(s, 4, 0x10008);
	s.down = true;
	s.index = 2;
	expect_step(s, 2, 0x10);
	s = outs(4, 0xfffffff8, 100);
	s.index_size = 4;
	s.segment.base = 0x100;
	expect_step(s, 2, 0x1000000f8);
}

TEST(VString, without_long_mode_linear_addresses_are_of_32_bits)
{
	struct vstring s = outs32(1, 0x20, 10), crossing = outs32(4, 0x1ffe, 1);

	s.segment.base = 0xfffffff0;
	expect_step(s, 10, 0x10);
	crossing.segment.base = 0xffffe000;
	EXPECT_EQ(vstring_next(&crossing).at, 0xfffffffeu);
	EXPECT_EQ(vstring_next(&crossing).next, 0u);
}

TEST(VString, in_long_mode_an_address_is_canonical_or_a_protection_fault)
{
	EXPECT_EQ(fault_of(outs(1, BIT(47) - 1, 1)), 0);
	EXPECT_EQ(fault_of(outs(1, BIT(47), 1)), EXCEPTION_GP);
	EXPECT_EQ(fault_of(outs(4, BIT(47) - 3, 1)), EXCEPTION_GP);
	EXPECT_EQ(fault_of(outs(1, TOP - BIT(47), 1)), EXCEPTION_GP);
	EXPECT_EQ(fault_of(outs(1, TOP - BIT(47) + 1, 1)), 0);
	expect_step(outs(1, BIT(47) - 3, 9), 3, BIT(47) - 3);
}

TEST(VString, a_segment_ends_at_its_limit_and_elements_before_are_done)
{
	struct vstring s = outs32(2, 0x100, 100);

	s.segment.limit = 0x103;
	expect_step(s, 1, 0x100);
	s.index = 0x102;
	expect_step(s, 1, 0x102);
	s.index = 0x103;
	EXPECT_EQ(fault_of(s), EXCEPTION_GP);
	s.segment.is_stack = true;
	EXPECT_EQ(fault_of(s), EXCEPTION_SS);
	s.index = 0xffffffff;
	s.segment.limit = ~0u;
	EXPECT_EQ(fault_of(s), EXCEPTION_SS) << "its second byte is behind all";
}

TEST(VString, a_segment_that_expands_down_begins_behind_its_limit)
{
	struct vstring s = outs32(1, 0x1000, 1);

	s.segment.rights = DATA_DOWN;
	s.segment.limit = 0xfff;
	EXPECT_EQ(fault_of(s), 0);
	s.index = 0xfff;
	EXPECT_EQ(fault_of(s), EXCEPTION_GP);
	s.index = 0xffff;
	EXPECT_EQ(fault_of(s), 0);
	s.index = 0x10000;
	EXPECT_EQ(fault_of(s), EXCEPTION_GP);
	s.segment.rights |= BIG;
	EXPECT_EQ(fault_of(s), 0);
}

TEST(VString, a_segment_has_to_be_of_a_type_that_may_be_read_or_written)
{
	struct vstring read = outs32(1, 0, 1), write = read;

	write.in = true;
	for (u32 rights : {DATA, DATA_READ, CODE, CODE_EXECUTE, DATA | UNUSABLE}) {
		bool readable = rights == DATA || rights == DATA_READ || rights == CODE;

		read.segment.rights = write.segment.rights = rights | BIG;
		EXPECT_EQ(fault_of(read), readable ? 0 : EXCEPTION_GP) << std::hex << rights;
		EXPECT_EQ(fault_of(write), rights == DATA ? 0 : EXCEPTION_GP) << std::hex << rights;
	}
}

// Step by step it is the whole: every element once, in its order.
TEST(VString, steps_add_up_to_the_whole)
{
	for (unsigned size : {1u, 2u, 4u}) {
		for (bool down : {false, true}) {
			struct vstring s = outs(size, 0x12345, 700);
			std::vector<u64> seen;

			s.down = down;
			while (vstring_left(&s) > 0) {
				struct vstring_step step = vstring_next(&s);

				ASSERT_EQ(step.fault, 0);
				for (u32 i = 0; i < step.elements; i++) {
					u32 n = down ? step.elements - 1 - i : i;

					seen.push_back(step.at + n * size);
				}
				vstring_advance(&s, step.elements);
			}
			ASSERT_EQ(seen.size(), 700u);
			for (u64 i = 0; i < 700; i++) {
				ASSERT_EQ(seen[i], down ? 0x12345 - i * size : 0x12345 + i * size);
			}
		}
	}
}

} // namespace
