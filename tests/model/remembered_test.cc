/*
 * What remembers: everything that it should complain of, once, on tables of one kind or the other.
 * Three levels: a root, one table of level 1, one of pages.
 */
#include <gtest/gtest.h>

#include <cstring>

#include "remembered.h"

namespace
{

using namespace model;

constexpr u64 KIB = 1024, MIB = 1024 * KIB;
constexpr u64 FRAME = 0x90000000;
constexpr unsigned LEVEL_0 = 0, LEVEL_1 = 1;

alignas(4096) u64 tables[4][512];

u64 address(const u64 *table)
{
	return reinterpret_cast<u64>(table);
}

/* ARMv8, 4 KiB, 39 bits: the root is of level 2. */
struct RememberedArm : testing::Test {
	static constexpr u64 TABLE = 3, PAGE = 0x7ff, BLOCK = 0x7fd;

	HostMemory memory;
	Walker walker{Features(), memory};
	Registers registers;
	std::unique_ptr<Hardware> hardware_;
	std::unique_ptr<Remembered> remembered;

	void SetUp() override
	{
		std::memset(tables, 0, sizeof(tables));
		tables[0][0] = address(tables[1]) | TABLE;
		tables[1][0] = address(tables[2]) | TABLE;
		tables[1][1] = (FRAME + 2 * MIB) | BLOCK;
		for (u64 i = 0; i < 8; i++) {
			tables[2][i] = (FRAME + 4 * KIB * i) | PAGE;
		}
		registers.vtcr = 0x80000000 | 5 << 16 | 0x3500 | 1 << 6 | 25;
		registers.vttbr = address(tables[0]);
		hardware_ = hardware(walker, registers);
		start({true, true, false});
	}

	void start(MeetingRules rules)
	{
		remembered = std::make_unique<Remembered>(*hardware_, memory, 2, rules);
		ASSERT_EQ(remembered->error(), "");
		ASSERT_EQ(remembered->pages(), 8u + 512);
	}

	std::string stale(unsigned cpus = Remembered::ALL)
	{
		return remembered->stale(cpus, [](u64, u64) { return false; });
	}

	bool is_stale(unsigned cpus, u64 start, u64 size)
	{
		return !remembered->stale_in(cpus, start, start + size).empty();
	}

	void clear_page(u64 index)
	{
		tables[2][index] = 0;
		remembered->look_at_all();
	}

	void flush_page(u64 index, int level = Remembered::ANY_LEVEL)
	{
		remembered->forget_stage2(Remembered::ALL, index * 4 * KIB, (index + 1) * 4 * KIB,
					  level);
		remembered->wait();
	}
};

TEST_F(RememberedArm, what_is_cleared_is_stale_until_it_is_forgotten_in_both_kinds)
{
	clear_page(3);
	EXPECT_EQ(remembered->pages(), 7u + 512);
	EXPECT_NE(stale(), "");
	flush_page(3);
	EXPECT_NE(stale(), "") << "combined entries are not reached by address";
	remembered->forget_combined(Remembered::ALL);
	EXPECT_NE(stale(), "") << "nothing is forgotten before the wait";
	remembered->wait();
	EXPECT_EQ(stale(), "");
	EXPECT_EQ(remembered->ghosts(), 0u);
}

TEST_F(RememberedArm, the_neighbours_of_what_is_forgotten_are_not)
{
	std::memset(tables[2], 0, sizeof(tables[2]));
	remembered->look_at_all();
	remembered->forget_combined(Remembered::ALL);
	flush_page(3);
	EXPECT_TRUE(is_stale(Remembered::ALL, 2 * 4 * KIB, 4 * KIB));
	EXPECT_FALSE(is_stale(Remembered::ALL, 3 * 4 * KIB, 4 * KIB));
	EXPECT_TRUE(is_stale(Remembered::ALL, 4 * 4 * KIB, 4 * KIB));
}

TEST_F(RememberedArm, a_cpu_forgets_for_itself)
{
	clear_page(3);
	remembered->forget_all(1);
	remembered->wait();
	EXPECT_EQ(stale(1), "");
	EXPECT_NE(stale(2), "");
	remembered->leave(1);
	EXPECT_EQ(stale(2), "") << "it is not inside";
}

TEST_F(RememberedArm, a_hint_at_another_level_does_not_reach)
{
	clear_page(3);
	remembered->forget_combined(Remembered::ALL);
	flush_page(3, LEVEL_1);
	EXPECT_NE(stale(), "");
	flush_page(3, LEVEL_0);
	EXPECT_EQ(stale(), "");
}

TEST_F(RememberedArm, a_part_of_a_block_is_forgotten_as_all_of_it)
{
	tables[1][1] = 0;
	remembered->look_at_all();
	remembered->forget_combined(Remembered::ALL);
	remembered->forget_stage2(Remembered::ALL, 3 * MIB, 3 * MIB + 4 * KIB,
				  Remembered::ANY_LEVEL);
	remembered->wait();
	EXPECT_EQ(remembered->ghosts(), 0u);
}

TEST_F(RememberedArm, another_frame_may_not_come_before_the_flush)
{
	clear_page(3);
	tables[2][3] = (FRAME + 64 * KIB) | PAGE;
	remembered->look_at_all();
	EXPECT_NE(remembered->error().find("the frame changed"), std::string::npos);
}

TEST_F(RememberedArm, the_same_frame_may)
{
	clear_page(3);
	tables[2][3] = (FRAME + 12 * KIB) | PAGE;
	remembered->look_at_all();
	EXPECT_EQ(remembered->error(), "");
	EXPECT_EQ(stale(), "");
}

TEST_F(RememberedArm, less_rights_are_stale_and_more_are_not)
{
	tables[2][3] &= ~0x80ull;
	remembered->look_at_all();
	EXPECT_NE(stale().find("allow less"), std::string::npos);
	tables[2][3] |= 0x80;
	remembered->look_at_all();
	EXPECT_EQ(stale(), "");
}

TEST_F(RememberedArm, a_block_becomes_a_table_by_a_break_alone)
{
	for (bool sizes : {false, true}) {
		SetUp();
		start({true, sizes, false});
		for (u64 i = 0; i < 512; i++) {
			tables[3][i] = (FRAME + 2 * MIB + 4 * KIB * i) | PAGE;
		}
		tables[1][1] = address(tables[3]) | TABLE;
		remembered->look_at_all();
		EXPECT_EQ(remembered->error().empty(), !sizes);
		EXPECT_EQ(remembered->pages(), 8u + 512);
	}
}

TEST_F(RememberedArm, an_unlinked_table_is_remembered_with_all_that_was_in_it)
{
	tables[1][0] = 0;
	remembered->look_at(0, 4 * KIB);
	EXPECT_TRUE(is_stale(Remembered::ALL, 7 * 4 * KIB, 4 * KIB));
	EXPECT_EQ(remembered->pages(), 512u);
	remembered->forget_combined(Remembered::ALL);
	remembered->forget_stage2(Remembered::ALL, 0, 2 * MIB, LEVEL_0);
	remembered->wait();
	EXPECT_EQ(stale(), "") << "a table goes with what is below it";
}

TEST_F(RememberedArm, a_table_stays_where_only_its_own_level_is_named)
{
	tables[1][0] = 0;
	remembered->look_at_all();
	remembered->forget_all(0);
	remembered->forget_combined(Remembered::ALL);
	remembered->forget_stage2(Remembered::ALL, 0, 2 * MIB, LEVEL_1);
	remembered->wait();
	EXPECT_NE(stale(), "");
}

TEST_F(RememberedArm, what_no_tlb_may_hold_is_not_remembered)
{
	tables[2][3] &= ~0x400ull; /* not accessed */
	remembered->look_at_all();
	remembered->forget_all(Remembered::ALL);
	remembered->wait();
	clear_page(3);
	EXPECT_EQ(remembered->ghosts(), 0u);
}

TEST_F(RememberedArm, malformed_entries_are_complained_of)
{
	tables[2][9] = FRAME | PAGE | 1ull << 50;
	remembered->look_at_all();
	EXPECT_NE(remembered->error().find("RES0"), std::string::npos);
}

TEST_F(RememberedArm, what_lies_elsewhere_is_not_looked_at)
{
	tables[2][3] = 0;
	remembered->look_at(4 * 4 * KIB, 5 * 4 * KIB);
	EXPECT_EQ(remembered->ghosts(), 0u);
	remembered->look_at(3 * 4 * KIB, 4 * 4 * KIB);
	EXPECT_EQ(remembered->ghosts(), 1u);
}

/* EPT, with the root of level 3 in front of the same. */
struct RememberedEpt : testing::Test {
	static constexpr u64 TABLE = 0x107, PAGE = 0x137, BLOCK = 0x1b7;

	HostMemory memory;
	ept::Walker walker{features(), memory};
	ept::Registers registers;
	std::unique_ptr<Hardware> hardware_;
	std::unique_ptr<Remembered> remembered;

	static ept::Features features()
	{
		ept::Features f;

		f.pa_bits = 48;
		return f;
	}

	void SetUp() override
	{
		std::memset(tables, 0, sizeof(tables));
		tables[0][0] = address(tables[1]) | TABLE;
		tables[1][0] = address(tables[2]) | TABLE;
		tables[2][1] = (FRAME + 2 * MIB) | BLOCK;
		registers.eptp = address(tables[0]) | 0x5e;
		hardware_ = hardware(walker, registers);
		remembered = std::make_unique<Remembered>(*hardware_, memory, 2,
							  MeetingRules{false, false, true});
		ASSERT_EQ(remembered->pages(), 512u);
	}

	bool is_stale(unsigned cpus, u64 start, u64 size)
	{
		return !remembered->stale_in(cpus, start, start + size).empty();
	}

	void split()
	{
		for (u64 i = 0; i < 512; i++) {
			tables[3][i] = (FRAME + 2 * MIB + 4 * KIB * i) | PAGE;
		}
		tables[2][1] = address(tables[3]) | TABLE;
		remembered->look_at_all();
	}
};

TEST_F(RememberedEpt, code_may_not_have_two_sizes)
{
	split();
	EXPECT_NE(remembered->error().find("the size of code"), std::string::npos);
}

TEST_F(RememberedEpt, nobody_inside_sees_both_sizes)
{
	remembered->leave(0);
	remembered->leave(1);
	split();
	EXPECT_EQ(remembered->error(), "");
}

TEST_F(RememberedEpt, a_flag_that_is_cleared_is_remembered_as_set)
{
	auto nothing = [](u64, u64) { return false; };

	EXPECT_EQ(remembered->unwatched(Remembered::ALL, nothing), ~0ull);
	tables[2][1] &= ~0x100ull;
	remembered->look_at_all();
	EXPECT_EQ(remembered->unwatched(Remembered::ALL, nothing), 2 * MIB);
	tables[2][1] = 0;
	remembered->look_at_all();
	EXPECT_TRUE(is_stale(Remembered::ALL, 2 * MIB, 4 * KIB));
	remembered->forget_all(1);
	remembered->wait();
	EXPECT_FALSE(is_stale(1, 2 * MIB, 4 * KIB));
	EXPECT_TRUE(is_stale(2, 2 * MIB, 4 * KIB));
}

} // namespace
