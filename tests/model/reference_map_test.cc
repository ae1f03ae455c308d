/*
 * The reference map: a right table passes, and a table with any one meaningful bit flipped does
 * not.
 */
#include <gtest/gtest.h>

#include <set>

#include "reference_map.h"
#include "sparse_memory.h"

namespace
{

using namespace model;

constexpr u64 PAGE = 0x7ff, BLOCK = 0x7fd, TABLE = 3;
constexpr u64 MIB = 1 << 20;
constexpr unsigned RWX = REF_READ | REF_WRITE | REF_EXEC;

/* One of everything: a block, pages, a read-only page, a device page without execution. */
struct ReferenceTables : testing::Test {
	SparseMemory memory;
	Walker walker{Features(), memory};
	Registers regs;
	ReferenceMap map;

	ReferenceTables()
	{
		memory.table(0x80000000, 0x2000);
		memory.table(0x80002000, 0x1000);
		memory.table(0x80003000, 0x1000);
		memory.words[0x80000008] = 0x80002000 | TABLE;
		memory.words[0x80002000] = 0x80003000 | TABLE;
		memory.words[0x80002008] = 0xa0000000 | BLOCK;
		memory.words[0x80003000] = 0x90000000 | PAGE;
		memory.words[0x80003008] = (0x90007000 | PAGE) & ~0x80ull;
		memory.words[0x80003ff8] = 0x09000000 | 0x7c7 | 1ull << 54; /* nGnRE */
		regs.vtcr = 0x80000000 | 2 << 16 | 0x3500 | 1 << 6 | 24;
		regs.vttbr = 0x80000000;

		map.map(0x40200000, 2 * MIB, page(0xa0000000, RWX));
		map.map(0x40000000, 0x1000, page(0x90000000, RWX));
		map.map(0x40001000, 0x1000, page(0x90007000, REF_READ | REF_EXEC));
		ReferencePage device = page(0x09000000, REF_READ | REF_WRITE);

		device.memory = MemoryType::Device;
		map.map(0x401ff000, 0x1000, device);
	}

	static ReferencePage page(u64 pa, unsigned perm)
	{
		ReferencePage p;

		p.pa = pa;
		p.perm = perm;
		return p;
	}

	std::string difference(bool accessed = false)
	{
		return map.difference(walker, regs, accessed);
	}
};

TEST_F(ReferenceTables, right_tables_pass)
{
	EXPECT_EQ(difference(true), "");
	for (u64 ipa :
	     {0x40000000, 0x40001234, 0x40002000, 0x401ff008, 0x403fffff, 0x40400000, 0}) {
		EXPECT_EQ(map.difference_at(walker, regs, ipa), "") << ipa;
	}
	EXPECT_EQ(map.pages(), 512u + 3);
}

/*
 * Every single bit of every descriptor in use is flipped. Bits that mean nothing are listed; each
 * other flip must be told, by a difference or by a complaint.
 */
TEST_F(ReferenceTables, every_one_bit_mutant_is_noticed)
{
	std::vector<u64> in_use;

	for (auto [address, value] : memory.words) {
		if (value != 0) {
			in_use.push_back(address);
		}
	}
	ASSERT_EQ(in_use.size(), 6u);
	for (u64 address : in_use) {
		u64 right = memory.words[address];
		bool table = address == 0x80000008 || address == 0x80002000;

		for (unsigned bit = 0; bit < 64; bit++) {
			memory.words[address] = right ^ 1ull << bit;
			bool ignored =
				table ? (bit >= 2 && bit <= 11) || (bit >= 51 && bit <= 58)
				      : bit == 51 || bit >= 55; /* DBM without HD; software's */
			/* Kinds of device, and inner or outer shareable: no matter to a map. */
			bool device = address == 0x80003ff8 && (bit == 2 || bit == 3 || bit == 8);

			EXPECT_EQ(difference(true) == "", ignored || device)
				<< "bit " << bit << " at " << std::hex << address;
		}
		memory.words[address] = right;
	}
	EXPECT_EQ(difference(true), "");
}

/* And what is not in use must stay so: an empty entry, made valid, is noticed. */
TEST_F(ReferenceTables, superfluous_entries_are_noticed)
{
	for (auto &[address, value] : memory.words) {
		u64 right = value;

		if (right == 0 && address % 88 == 0) { /* every eleventh: enough, and quick */
			value = address < 0x80003000 ? 0x100000000 | BLOCK : 0x100000000 | PAGE;
			EXPECT_NE(difference(), "") << std::hex << address;
			value = right;
		}
	}
}

TEST_F(ReferenceTables, every_one_bit_mutant_of_the_registers_is_noticed)
{
	/* Hardware updates, walk attributes and the VMID leave the map as it is; T0SZ 24 to 25 ..
	 */
	const u64 vtcr_ignored = 0xff00 & ~0xc000ull; /* IRGN0, ORGN0, SH0 */
	std::set<unsigned> unnoticed;

	for (unsigned bit = 0; bit < 34; bit++) {
		u64 right = regs.vtcr;

		regs.vtcr ^= 1ull << bit;
		if (difference() == "" && !(vtcr_ignored >> bit & 1)) {
			unnoticed.insert(bit);
		}
		regs.vtcr = right;
	}
	/* T0SZ 0 (25: one root table less), PS (larger), VS, HA, and 20, 23..30: other features. */
	for (unsigned bit : unnoticed) {
		EXPECT_TRUE(bit <= 4 || (bit >= 16 && bit <= 30) || bit == 33) << bit;
	}
	EXPECT_FALSE(unnoticed.count(6)) << "SL0";
	EXPECT_FALSE(unnoticed.count(7)) << "SL0";
	EXPECT_FALSE(unnoticed.count(14)) << "TG0";
	EXPECT_FALSE(unnoticed.count(15)) << "TG0";
	for (unsigned bit = 1; bit < 48; bit++) {
		u64 right = regs.vttbr;

		regs.vttbr ^= 1ull << bit;
		EXPECT_NE(difference(), "") << bit;
		regs.vttbr = right;
	}
}

TEST_F(ReferenceTables, changes_of_the_map_are_noticed)
{
	ReferenceMap right = map;

	map.unmap(0x40300000, 0x1000);
	EXPECT_NE(difference(), "");
	map = right;
	map.map(0x40500000, 0x1000, page(0x1000, RWX));
	EXPECT_NE(difference(), "");
	map = right;
	map.protect(0x40200000, 0x1000, REF_READ);
	EXPECT_NE(difference(), "");
	EXPECT_NE(map.difference_at(walker, regs, 0x40200000), "");
	map = right;
	map.set_largest(0x40200000, 0x1000, 4096);
	EXPECT_NE(difference(), "") << "one page of the block must not be in a block";
	map = right;
	map.set_accessed(0x40200000, 2 * MIB, false);
	EXPECT_EQ(difference(false), "");
	EXPECT_NE(difference(true), "");
	map.set_accessed(0x40200000, 0x1000, true);
	EXPECT_EQ(difference(true), "") << "a block was accessed when one of its pages was";
}

TEST_F(ReferenceTables, page_that_was_not_accessed_may_fault_for_its_flag)
{
	memory.words[0x80003000] &= ~0x400ull;
	EXPECT_NE(map.difference_at(walker, regs, 0x40000000), "");
	map.set_accessed(0x40000000, 0x1000, false);
	EXPECT_EQ(map.difference_at(walker, regs, 0x40000000), "");
	EXPECT_EQ(difference(true), "");
}

} // namespace
