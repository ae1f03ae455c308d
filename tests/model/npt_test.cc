/*
 * The model of nested walks against tables written by hand, bit by bit from the manual's figures
 * (APM volume 2, 5.3.3 and 15.25). Nothing here shares code with the hypervisor.
 */
#include <gtest/gtest.h>

#include "npt.h"
#include "reference_map.h"
#include "sparse_memory.h"

namespace
{

using model::MemoryType;
using model::SparseMemory;
using model::u64;
using namespace model::npt;
using model::x86::Access;
using model::x86::FaultKind;
using model::x86::Walk;

/* 1 present, 2 write, 4 user, 8 PWT, 0x10 PCD, 0x20 accessed, 0x40 dirty, 0x80 large or PAT. */
constexpr u64 TABLE = 0x7, PAGE = 0x7, LARGE = 0x87;
constexpr u64 A = 0x20, D = 0x40, NX = u64(1) << 63;

/* EXITINFO1: user, of the final address, of the guest's tables. */
constexpr u64 FINAL = u64(1) << 32 | 4, GUEST_TABLE = u64(1) << 33 | 4;

/*
 * nCR3 0x1000, 4 levels.
 *   GPA 0x40000000  level 3 leaf -> 0x100000000 (1 GiB)
 *   GPA 0x80000000  level 2 table at 0x3000
 *       + 0         level 1 table at 0x4000: pages 0, 1 -> 0x90000000, 0x90005000
 *       + 0x200000  level 2 leaf -> 0xa0000000 (2 MiB)
 */
struct NptWalk : testing::Test {
	SparseMemory memory;
	Features features;
	Registers regs;

	NptWalk()
	{
		for (u64 table = 0x1000; table <= 0x4000; table += 0x1000) {
			memory.table(table, 0x1000);
		}
		memory.words[0x1000] = 0x2000 | TABLE;
		memory.words[0x2008] = 0x100000000 | LARGE;
		memory.words[0x2010] = 0x3000 | TABLE;
		memory.words[0x3000] = 0x4000 | TABLE;
		memory.words[0x3008] = 0xa0000000 | LARGE;
		memory.words[0x4000] = 0x90000000 | PAGE;
		memory.words[0x4008] = 0x90005000 | PAGE;
		regs.ncr3 = 0x1000;
	}

	Walk access(u64 gpa, Access a)
	{
		return Walker(features, memory).translate(regs, gpa, a);
	}

	Walk read(u64 gpa)
	{
		return access(gpa, Access::Read);
	}

	std::string complaints()
	{
		return Walker(features, memory).complaints(regs);
	}

	u64 &page_zero()
	{
		return memory.words[0x4000];
	}
};

TEST_F(NptWalk, leaves_of_all_three_sizes_translate)
{
	const struct {
		u64 gpa, pa, size;
		int level;
	} rows[] = {
		{0x40000000, 0x100000000, 1 << 30, 3}, {0x7fffffff, 0x13fffffff, 1 << 30, 3},
		{0x80000123, 0x90000123, 1 << 12, 1},  {0x80001fff, 0x90005fff, 1 << 12, 1},
		{0x80200000, 0xa0000000, 1 << 21, 2},  {0x803fffff, 0xa01fffff, 1 << 21, 2},
	};

	EXPECT_EQ(complaints(), "");
	for (const auto &row : rows) {
		Walk w = read(row.gpa);

		EXPECT_TRUE(w.ok()) << w.text();
		EXPECT_EQ(w.pa, row.pa);
		EXPECT_EQ(w.size, row.size);
		EXPECT_EQ(w.level, row.level);
		EXPECT_EQ(w.memory, MemoryType::WriteBack);
		EXPECT_EQ(w.qualification, 0u);
	}
}

TEST_F(NptWalk, absent_entries_fault_with_the_present_bit_clear)
{
	const struct {
		u64 gpa;
		int level;
	} rows[] = {{0x8000000000, 4}, {0, 3}, {0x80400000, 2}, {0x80002000, 1}};

	for (const auto &row : rows) {
		Walk w = read(row.gpa);

		EXPECT_EQ(w.fault, FaultKind::Absent);
		EXPECT_EQ(w.level, row.level);
		EXPECT_EQ(w.qualification, FINAL);
	}
	EXPECT_EQ(access(0, Access::Write).qualification, FINAL | 2);
	EXPECT_EQ(access(0, Access::ExecuteUser).qualification, FINAL | 0x10);
	EXPECT_EQ(access(0, Access::TableRead).qualification, GUEST_TABLE | 2);
	EXPECT_EQ(access(0, Access::TableWrite).qualification, GUEST_TABLE | 2);
	regs.efer &= ~u64(0x800);
	EXPECT_EQ(access(0, Access::ExecuteUser).qualification, FINAL) << "ID without NXE";
	page_zero() = ~u64(1);
	EXPECT_EQ(read(0x80000000).fault, FaultKind::Absent);
	EXPECT_EQ(complaints(), "");
}

TEST_F(NptWalk, permissions_are_those_of_every_entry_on_the_way)
{
	for (u64 entry : {0x1000, 0x2010, 0x3000, 0x4000}) {
		u64 right = memory.words[entry];

		memory.words[entry] = right & ~u64(2);
		EXPECT_TRUE(read(0x80000000).ok());
		EXPECT_EQ(access(0x80000000, Access::Write).qualification, FINAL | 3) << entry;
		memory.words[entry] = right | NX;
		EXPECT_TRUE(access(0x80000000, Access::Write).ok());
		for (Access a : {Access::ExecuteSupervisor, Access::ExecuteUser}) {
			Walk w = access(0x80000000, a);

			EXPECT_EQ(w.fault, FaultKind::Forbidden);
			EXPECT_EQ(w.qualification, FINAL | 0x11) << entry;
		}
		memory.words[entry] = right;
	}
	EXPECT_TRUE(access(0x80000000, Access::ExecuteSupervisor).ok());
}

TEST_F(NptWalk, guest_accesses_are_user_accesses)
{
	for (u64 entry : {0x1000, 0x2010, 0x3000, 0x4000}) {
		u64 right = memory.words[entry];

		memory.words[entry] = right & ~u64(4);
		for (Access a :
		     {Access::Read, Access::Write, Access::ExecuteSupervisor, Access::TableRead}) {
			EXPECT_EQ(access(0x80000000, a).fault, FaultKind::Forbidden) << entry;
		}
		EXPECT_EQ(read(0x80000000).qualification, FINAL | 1);
		memory.words[entry] = right;
	}
}

TEST_F(NptWalk, guest_page_walks_are_writes)
{
	EXPECT_TRUE(access(0x80001000, Access::TableRead).ok());
	EXPECT_EQ(memory.words[0x4008], 0x90005000 | PAGE | A | D);
	page_zero() &= ~u64(2);
	EXPECT_TRUE(read(0x80000000).ok());
	EXPECT_EQ(access(0x80000000, Access::TableRead).qualification, GUEST_TABLE | 3);
}

TEST_F(NptWalk, accessed_is_set_in_every_entry_and_dirty_in_the_leaf)
{
	EXPECT_TRUE(read(0x80000000).ok());
	EXPECT_EQ(memory.words[0x1000], 0x2000 | TABLE | A);
	EXPECT_EQ(memory.words[0x2010], 0x3000 | TABLE | A);
	EXPECT_EQ(memory.words[0x3000], 0x4000 | TABLE | A);
	EXPECT_EQ(page_zero(), 0x90000000 | PAGE | A);
	EXPECT_TRUE(access(0x80000000, Access::Write).ok());
	EXPECT_EQ(page_zero(), 0x90000000 | PAGE | A | D);
	EXPECT_EQ(memory.words[0x3000], 0x4000 | TABLE | A);
	EXPECT_TRUE(access(0x80200000, Access::Write).ok());
	EXPECT_EQ(memory.words[0x3008], 0xa0000000 | LARGE | A | D);
	EXPECT_EQ(memory.words[0x2008], 0x100000000 | LARGE) << "nobody was there";
}

TEST_F(NptWalk, flag_update_that_loses_a_race_walks_again)
{
	memory.on_swap = [this] { page_zero() = 0; };
	EXPECT_EQ(read(0x80000000).fault, FaultKind::Absent);
	EXPECT_EQ(page_zero(), 0u);
}

TEST_F(NptWalk, reserved_bits_fault_with_rsv_set)
{
	const struct {
		u64 entry, gpa, bits;
	} rows[] = {{0x1000, 0x80000000, 0x180},    {0x2008, 0x40000000, 0x3fffe000},
		    {0x2010, 0x80000000, 0},	    {0x3000, 0x80000000, 0},
		    {0x3008, 0x80200000, 0x1fe000}, {0x4000, 0x80000000, 0}};

	for (const auto &row : rows) {
		u64 right = memory.words[row.entry];

		for (unsigned bit = 7; bit < 52; bit++) {
			if (bit < 48 && !(row.bits >> bit & 1)) {
				continue;
			}
			memory.words[row.entry] = right | u64(1) << bit;
			Walk w = access(row.gpa, Access::Write);

			EXPECT_EQ(w.fault, FaultKind::Malformed) << row.entry << " bit " << bit;
			EXPECT_EQ(w.qualification, FINAL | 0xb);
			EXPECT_NE(complaints().find("reserved bits"), std::string::npos);
		}
		memory.words[row.entry] = right;
	}
	features.large_1g = false;
	EXPECT_EQ(read(0x40000000).fault, FaultKind::Malformed);
}

TEST_F(NptWalk, no_execute_is_reserved_without_nxe)
{
	page_zero() |= NX;
	regs.efer &= ~u64(0x800);
	EXPECT_EQ(read(0x80000000).qualification, FINAL | 9);
	memory.words[0x1000] |= NX;
	EXPECT_EQ(read(0x40000000).level, 4);
}

TEST_F(NptWalk, ignored_bits_are_ignored)
{
	const u64 software = 0xe00 | u64(0x7ff) << 52; /* available, and protection keys */

	page_zero() |= 0x100 | software;	  /* global */
	memory.words[0x3000] |= 0x158 | software; /* G, D, PCD and PWT of a table */
	memory.words[0x3008] |= 0x100 | software;
	memory.words[0x1000] |= 0x58 | software;
	EXPECT_EQ(complaints(), "");
	EXPECT_EQ(read(0x80000000).pa, 0x90000000u);
	EXPECT_EQ(read(0x80200000).memory, MemoryType::WriteBack);
}

TEST_F(NptWalk, memory_types_are_chosen_from_the_pat)
{
	const MemoryType types[8] = {MemoryType::WriteBack,    MemoryType::WriteThrough,
				     MemoryType::Device,       MemoryType::Device,
				     MemoryType::NonCacheable, MemoryType::WriteProtect,
				     MemoryType::WriteThrough, MemoryType::WriteBack};

	regs.pat = 0x0604050100070406;
	for (u64 i = 0; i < 8; i++) {
		page_zero() = 0x90000000 | PAGE | (i & 3) << 3 | (i >> 2) << 7;
		memory.words[0x3008] = 0xa0000000 | LARGE | (i & 3) << 3 | (i >> 2) << 12;
		memory.words[0x2008] = 0x100000000 | LARGE | (i & 3) << 3 | (i >> 2) << 12;
		EXPECT_EQ(complaints(), "");
		for (u64 gpa : {0x80000000, 0x80200000, 0x40000000 + 0x80000000}) {
			gpa = gpa == 0xc0000000 ? 0x40000000 : gpa;
			EXPECT_EQ(read(gpa).memory, types[i]) << i;
		}
		EXPECT_EQ(read(0x80200fff).pa, 0xa0000fffu) << "PAT is no address bit";
	}
	regs.pat = 0x0304050100070406;
	EXPECT_NE(complaints(), "") << "index 7 is reserved";
}

TEST_F(NptWalk, five_levels_walk_57_bits)
{
	memory.table(0x5000, 0x1000);
	memory.words[0x5000 + 300 * 8] = 0x1000 | TABLE;
	regs.ncr3 = 0x5000;
	regs.cr4 |= 1 << 12;
	EXPECT_EQ(complaints(), "");
	EXPECT_EQ(read((u64(300) << 48) + 0x80000123).pa, 0x90000123u);
	EXPECT_EQ(read(0x80000123).level, 5);
	memory.words[0x5000 + 300 * 8] |= 0x80;
	EXPECT_EQ(read((u64(300) << 48) + 0x80000123).fault, FaultKind::Malformed);
	features.five_levels = false;
	EXPECT_NE(Walker(features, memory).decode(regs).error, "");
	regs.cr4 &= ~u64(1 << 12);
	EXPECT_FALSE(read(u64(300) << 48).ok()) << "48 bits of 4 levels";
}

TEST_F(NptWalk, host_registers_that_cannot_be_are_refused)
{
	const Registers good = regs;

	regs.efer &= ~u64(0x400);
	EXPECT_NE(complaints(), "");
	regs = good;
	regs.cr4 = 0;
	EXPECT_NE(complaints(), "");
	regs = good;
	regs.asid = 0;
	EXPECT_NE(complaints(), "");
	EXPECT_FALSE(read(0x80000000).ok());
	regs = good;
	regs.ncr3 |= u64(1) << 48;
	EXPECT_NE(complaints(), "");
	regs = good;
	regs.ncr3 |= 8;
	EXPECT_NE(complaints(), "");
	regs = good;
	features.no_execute = false;
	EXPECT_NE(complaints(), "");
}

TEST_F(NptWalk, table_that_is_no_memory_is_told)
{
	memory.words[0x3000] = 0x70000000 | TABLE;
	EXPECT_EQ(read(0x80000000).fault, FaultKind::NoMemory);
	EXPECT_NE(complaints(), "");
}

/* With the flat reference: rwx, read-only, never executed, device pages, and a large one. */
struct NptReference : NptWalk {
	model::ReferenceMap map;

	NptReference()
	{
		regs.pat = 0x0604050100070406; /* PAT alone: write-combining */
		memory.words[0x2008] = 0;
		for (u64 entry : {0x1000, 0x2010, 0x3000, 0x3008, 0x4000, 0x4008}) {
			memory.words[entry] |= A;
		}
		memory.words[0x4008] &= ~u64(2);
		memory.words[0x4010] = 0x90007000 | PAGE | A | NX;
		memory.words[0x4ff8] = 0xfe000000 | PAGE | 0x18 | A | NX;
		map.map(0x80200000, 0x200000, page(0xa0000000, RWX));
		map.map(0x80000000, 0x1000, page(0x90000000, RWX));
		map.map(0x80001000, 0x1000, page(0x90005000, model::REF_READ | model::REF_EXEC));
		map.map(0x80002000, 0x1000, page(0x90007000, 3));
		model::ReferencePage device = page(0xfe000000, 3);

		device.memory = MemoryType::Device;
		map.map(0x801ff000, 0x1000, device);
	}

	static constexpr unsigned RWX = model::REF_READ | model::REF_WRITE | model::REF_EXEC;

	static model::ReferencePage page(u64 pa, unsigned perm)
	{
		model::ReferencePage p;

		p.pa = pa;
		p.perm = perm;
		return p;
	}

	std::string difference()
	{
		Walker walker(features, memory);

		return map.difference(walker, regs, true);
	}
};

TEST_F(NptReference, right_tables_pass)
{
	Walker walker(features, memory);

	EXPECT_EQ(difference(), "");
	for (u64 gpa : {0x80000000, 0x80001234, 0x80002000, 0x80003000, 0x801ff008, 0x803fffff,
			0x80400000, 0xc0000000}) {
		EXPECT_EQ(map.difference_at(walker, regs, gpa), "") << gpa;
	}
}

/*
 * Every single bit of every entry in use is flipped. Bits that mean nothing are listed; each other
 * flip must be told.
 */
TEST_F(NptReference, every_one_bit_mutant_is_noticed)
{
	auto right = memory.words;

	for (auto [address, value] : right) {
		bool top = address == 0x1000;
		bool table = top || address == 0x2010 || address == 0x3000;
		/* UC- and UC are one to the map. */
		bool device = address == 0x4ff8;

		for (unsigned bit = 0; bit < 64 && value != 0; bit++) {
			bool ignored = bit == 6 || (bit == 8 && !top) || (bit >= 9 && bit <= 11) ||
				       (bit >= 52 && bit <= 62);

			ignored |= table ? bit >= 3 && bit <= 5 : device && bit == 3;
			memory.words[address] = value ^ u64(1) << bit;
			EXPECT_EQ(difference().empty(), ignored)
				<< std::hex << address << " bit " << std::dec << bit;
		}
		memory.words[address] = value;
	}
	EXPECT_EQ(memory.words, right);
}

} // namespace
