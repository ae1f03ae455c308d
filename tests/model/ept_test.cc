/*
 * The model of EPT walks against tables written by hand, bit by bit from the manual's tables (SDM
 * volume 3C, tables 29-1 to 29-7). Nothing here shares code with the hypervisor.
 */
#include <gtest/gtest.h>

#include "ept.h"
#include "reference_map.h"
#include "sparse_memory.h"

namespace
{

using model::MemoryType;
using model::SparseMemory;
using model::u64;
using namespace model::ept;
using model::x86::Access;
using model::x86::FaultKind;
using model::x86::Walk;

/* 7 read, write, execute | 0x30 write-back | 0x80 large | 0x100 accessed | 0x200 dirty */
constexpr u64 TABLE = 0x7, PAGE = 0x37, LARGE = 0xb7;
constexpr u64 A = 0x100, D = 0x200, USER = 0x400;

/* Qualification: GLA valid, of the final translation. */
constexpr u64 FINAL = 0x180;

/*
 * PML4 at 0x1000, WB, 4 levels.
 *   GPA 0x40000000  level 3 leaf -> 0x100000000 (1 GiB)
 *   GPA 0x80000000  level 2 table at 0x3000
 *       + 0         level 1 table at 0x4000: pages 0, 1 -> 0x90000000, 0x90005000
 *       + 0x200000  level 2 leaf -> 0xa0000000 (2 MiB)
 */
struct EptWalk : testing::Test {
	SparseMemory memory;
	Features features;
	Registers regs;

	EptWalk()
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
		regs.eptp = 0x1000 | 3 << 3 | 6;
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

	std::string entry_error()
	{
		return Walker(features, memory).decode(regs).error;
	}

	u64 &page_zero()
	{
		return memory.words[0x4000];
	}
};

TEST_F(EptWalk, leaves_of_all_three_sizes_translate)
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
		EXPECT_EQ(w.start, row.gpa & ~(row.size - 1));
		EXPECT_EQ(w.level, row.level);
		EXPECT_EQ(w.memory, MemoryType::WriteBack);
		EXPECT_FALSE(w.ignore_pat);
	}
}

TEST_F(EptWalk, absent_entries_are_violations_with_no_right_in_the_qualification)
{
	const struct {
		u64 gpa;
		int level;
	} rows[] = {{0x8000000000, 4}, {0, 3}, {0x80400000, 2}, {0x80002000, 1}};

	for (const auto &row : rows) {
		Walk w = read(row.gpa);

		EXPECT_EQ(w.fault, FaultKind::Absent);
		EXPECT_EQ(w.level, row.level);
		EXPECT_EQ(w.qualification, FINAL | 1);
	}
	EXPECT_EQ(access(0, Access::Write).qualification, FINAL | 2);
	EXPECT_EQ(access(0, Access::ExecuteSupervisor).qualification, FINAL | 4);
	EXPECT_EQ(access(0, Access::TableRead).qualification, 0x80u | 1);
	EXPECT_EQ(access(0, Access::TableWrite).qualification, 0x80u | 2);
}

TEST_F(EptWalk, addresses_beyond_the_walk_are_violations)
{
	Walk w = read(u64(1) << 48);

	EXPECT_EQ(w.fault, FaultKind::Absent);
	EXPECT_EQ(w.qualification, FINAL | 1);
	EXPECT_TRUE(w.steps.empty());
}

TEST_F(EptWalk, bits_of_absent_entries_are_ignored)
{
	page_zero() = ~u64(7);
	EXPECT_EQ(read(0x80000000).fault, FaultKind::Absent);
	EXPECT_EQ(complaints(), "");
	regs.mode_based_execute = true; /* bit 10 makes it present */
	EXPECT_EQ(read(0x80000000).fault, FaultKind::Malformed);
}

/* Every combination of bits 2:0 in a leaf, with and without execute-only translations. */
TEST_F(EptWalk, permissions_of_a_leaf_are_as_its_three_bits_say)
{
	for (u64 rwx = 1; rwx < 8; rwx++) {
		for (bool execute_only : {true, false}) {
			bool bad = (rwx & 3) == 2 || (rwx == 4 && !execute_only);
			const struct {
				Access access;
				u64 bit;
			} rows[] = {{Access::Read, 1},
				    {Access::Write, 2},
				    {Access::ExecuteSupervisor, 4},
				    {Access::ExecuteUser, 4}};

			features.execute_only = execute_only;
			page_zero() = (0x90000000 | PAGE) & ~u64(7);
			page_zero() |= rwx;
			for (const auto &row : rows) {
				Walk w = access(0x80000000, row.access);

				if (bad) {
					EXPECT_EQ(w.fault, FaultKind::Malformed) << rwx;
					EXPECT_EQ(w.qualification, 0u);
				} else if (rwx & row.bit) {
					EXPECT_TRUE(w.ok()) << w.text();
				} else {
					EXPECT_EQ(w.fault, FaultKind::Forbidden) << rwx;
					EXPECT_EQ(w.qualification, FINAL | row.bit | rwx << 3);
				}
			}
			EXPECT_EQ(complaints().empty(), !bad) << rwx;
		}
	}
}

TEST_F(EptWalk, rights_are_those_of_every_entry_on_the_way)
{
	for (u64 entry : {0x1000, 0x2010, 0x3000}) {
		u64 before = memory.words[entry];

		memory.words[entry] = before & ~u64(2);
		Walk w = access(0x80000000, Access::Write);

		EXPECT_EQ(w.fault, FaultKind::Forbidden) << entry;
		EXPECT_EQ(w.qualification, FINAL | 2 | 1 << 3 | 1 << 5);
		EXPECT_EQ(w.level, 1) << "all entries are read before rights are judged";
		memory.words[entry] = before;
	}
	memory.words[0x2010] = 0x3000 | 1; /* read */
	memory.words[0x3000] = 0x4000 | 4; /* execute */
	EXPECT_EQ(read(0x80000000).qualification, FINAL | 1) << "together nothing is left";
}

TEST_F(EptWalk, reserved_bits_of_tables_and_leaves_are_misconfigurations)
{
	const struct {
		u64 entry, gpa, bits;
		int level;
	} rows[] = {{0x1000, 0x80000000, 0xf8, 4},     {0x2010, 0x80000000, 0x78, 3},
		    {0x3000, 0x80000000, 0x78, 2},     {0x2008, 0x40000000, 0x3ffff000, 3},
		    {0x3008, 0x80200000, 0x1ff000, 2}, {0x4000, 0x80000000, 0, 1}};

	for (const auto &row : rows) {
		u64 right = memory.words[row.entry];

		for (unsigned bit = 3; bit < 64; bit++) {
			bool beyond = bit >= 46 && bit <= 51;

			if (!beyond && !(row.bits >> bit & 1)) {
				continue;
			}
			memory.words[row.entry] = right | u64(1) << bit;
			Walk w = read(row.gpa);

			EXPECT_EQ(w.fault, FaultKind::Malformed) << row.entry << " bit " << bit;
			EXPECT_EQ(w.level, row.level);
			EXPECT_NE(complaints().find("reserved bits"), std::string::npos);
		}
		memory.words[row.entry] = right;
	}
}

TEST_F(EptWalk, physical_address_width_bounds_what_is_reserved)
{
	page_zero() = u64(1) << 50 | PAGE;
	EXPECT_EQ(read(0x80000000).fault, FaultKind::Malformed);
	features.pa_bits = 52;
	EXPECT_EQ(read(0x80000000).pa, u64(1) << 50);
}

TEST_F(EptWalk, ignored_bits_are_ignored)
{
	page_zero() |= 0x80 | A | D | USER | 0x800 | u64(0xfff) << 52;
	memory.words[0x3000] |= A | D | USER | 0x800 | u64(0xfff) << 52;
	memory.words[0x3008] |= A | D | USER | 0x800 | u64(0xfff) << 52;
	EXPECT_EQ(complaints(), "");
	EXPECT_EQ(read(0x80000000).pa, 0x90000000u);
	EXPECT_EQ(read(0x80200000).pa, 0xa0000000u);
}

TEST_F(EptWalk, memory_types_are_bits_5_to_3)
{
	const MemoryType types[8] = {MemoryType::Device,       MemoryType::NonCacheable,
				     MemoryType::Reserved,     MemoryType::Reserved,
				     MemoryType::WriteThrough, MemoryType::WriteProtect,
				     MemoryType::WriteBack,    MemoryType::Reserved};

	for (u64 type = 0; type < 8; type++) {
		bool bad = types[type] == MemoryType::Reserved;

		page_zero() = 0x90000000 | 7 | type << 3;
		memory.words[0x3008] = 0xa0000000 | 0x87 | type << 3;
		for (u64 gpa : {0x80000000, 0x80200000}) {
			Walk w = read(gpa);

			EXPECT_EQ(w.fault, bad ? FaultKind::Malformed : FaultKind::None) << type;
			EXPECT_TRUE(bad || w.memory == types[type]) << type;
		}
	}
	page_zero() = 0x90000000 | PAGE | 0x40;
	EXPECT_TRUE(read(0x80000000).ignore_pat);
}

TEST_F(EptWalk, a_host_may_mean_something_by_a_reserved_memory_type)
{
	regs.unused_type = true;
	memory.words[0x3008] = 0xa0000000 | 0x85 | 2 << 3;
	for (u64 type = 0; type < 8; type++) {
		page_zero() = 0x90000000 | 5 | type << 3;
		Walk w = read(0x80000000);

		EXPECT_EQ(w.fault, type == 6   ? FaultKind::None
				   : type == 2 ? FaultKind::NotAccessed
					       : FaultKind::Malformed)
			<< type;
		EXPECT_EQ(w.complaints.empty(), type == 2 || type == 6);
		EXPECT_EQ(w.accessed, type == 6);
		EXPECT_EQ(w.unused, type == 2);
		EXPECT_TRUE((type != 2 && type != 6) || w.memory == MemoryType::WriteBack);
	}
	page_zero() = 0x90000000 | 5 | 2 << 3;
	EXPECT_EQ(access(0x80000000, Access::Write).fault, FaultKind::NotAccessed)
		<< "before rights are judged";
	EXPECT_EQ(access(0x80000000, Access::Write).qualification, 0u);
	EXPECT_EQ(read(0x80200000).fault, FaultKind::NotAccessed);
	EXPECT_EQ(complaints(), "") << "a look is no access";
	for (u64 bad : {u64(0x90000000) | 6 | 2 << 3, u64(1) << 50 | 7 | 2 << 3}) {
		page_zero() = bad;
		EXPECT_EQ(read(0x80000000).fault, FaultKind::Malformed) << "not by its type alone";
	}
	memory.words[0x3000] = 0x4000 | 7 | 2 << 3;
	EXPECT_EQ(read(0x80000000).fault, FaultKind::Malformed) << "tables have no type";
}

TEST_F(EptWalk, large_pages_that_the_cpu_lacks_are_misconfigurations)
{
	features.large_1g = false;
	EXPECT_EQ(read(0x40000000).fault, FaultKind::Malformed);
	EXPECT_EQ(read(0x40000000).level, 3);
	EXPECT_TRUE(read(0x80200000).ok());
	features.large_2m = false;
	EXPECT_EQ(read(0x80200000).fault, FaultKind::Malformed);
	memory.words[0x1000] |= 0x80;
	EXPECT_EQ(read(0).level, 4) << "and at level 4 always";
}

TEST_F(EptWalk, an_absent_entry_counts_before_what_lies_beyond_it)
{
	memory.words[0x3000] = 0x4000 | 2; /* write-only */
	EXPECT_EQ(read(0x80000000).level, 2);
	memory.words[0x2010] = 0;
	EXPECT_EQ(read(0x80000000).fault, FaultKind::Absent);
	memory.words[0x2010] = 0x3000 | 1; /* not writable, but the misconfiguration is found */
	EXPECT_EQ(access(0x80000000, Access::Write).fault, FaultKind::Malformed);
}

TEST_F(EptWalk, mode_based_control_tells_user_from_supervisor_fetches)
{
	const struct {
		u64 bits;
		bool supervisor, user;
	} rows[] = {{0x1, false, false},      {0x5, true, false}, {0x1 | USER, false, true},
		    {0x5 | USER, true, true}, {0x4, true, false}, {USER, false, true}};

	memory.words[0x1000] |= USER;
	memory.words[0x2010] |= USER;
	memory.words[0x3000] |= USER;
	for (const auto &row : rows) {
		page_zero() = 0x90000030 | row.bits;
		regs.mode_based_execute = true;
		Walk s = access(0x80000000, Access::ExecuteSupervisor);
		Walk u = access(0x80000000, Access::ExecuteUser);
		u64 seen = (row.bits & 7) << 3 | (row.bits & USER) >> 4;

		EXPECT_EQ(s.ok(), row.supervisor) << row.bits;
		EXPECT_EQ(u.ok(), row.user) << row.bits;
		EXPECT_EQ(s.qualification, row.supervisor ? 0 : FINAL | 4 | seen);
		EXPECT_EQ(u.qualification, row.user ? 0 : FINAL | 4 | seen);
		features.execute_only = false;
		EXPECT_EQ(read(0x80000000).fault == FaultKind::Malformed, !(row.bits & 1));
		features.execute_only = true;
		regs.mode_based_execute = false;
		if (row.bits & 7) {
			EXPECT_EQ(access(0x80000000, Access::ExecuteUser).ok(), row.supervisor);
		}
	}
	regs.mode_based_execute = true;
	page_zero() = 0x90000000 | PAGE | USER;
	memory.words[0x2010] &= ~USER;
	EXPECT_FALSE(access(0x80000000, Access::ExecuteUser).ok()) << "in every entry";
}

TEST_F(EptWalk, flags_are_left_alone_when_eptp_does_not_enable_them)
{
	auto before = memory.words;

	EXPECT_TRUE(access(0x80000000, Access::Write).ok());
	EXPECT_TRUE(access(0x80000000, Access::TableRead).ok());
	EXPECT_EQ(memory.words, before);
}

TEST_F(EptWalk, accessed_is_set_in_every_entry_and_dirty_in_the_leaf)
{
	regs.eptp |= 0x40;
	EXPECT_TRUE(read(0x80000000).ok());
	EXPECT_EQ(memory.words[0x1000], 0x2000 | TABLE | A);
	EXPECT_EQ(memory.words[0x2010], 0x3000 | TABLE | A);
	EXPECT_EQ(memory.words[0x3000], 0x4000 | TABLE | A);
	EXPECT_EQ(page_zero(), 0x90000000 | PAGE | A);
	Walk w = access(0x80000000, Access::Write);

	EXPECT_TRUE(w.accessed && w.dirty && w.all_accessed);
	EXPECT_EQ(page_zero(), 0x90000000 | PAGE | A | D);
	EXPECT_EQ(memory.words[0x3000], 0x4000 | TABLE | A) << "no dirty flag in tables";
	EXPECT_TRUE(access(0x80200000, Access::Write).ok());
	EXPECT_EQ(memory.words[0x3008], 0xa0000000 | LARGE | A | D);
	EXPECT_EQ(memory.words[0x2008], 0x100000000 | LARGE) << "nobody was there";
}

TEST_F(EptWalk, guest_page_walks_are_writes_when_flags_are_enabled)
{
	page_zero() &= ~u64(2);
	EXPECT_TRUE(access(0x80000000, Access::TableRead).ok());
	regs.eptp |= 0x40;
	Walk w = access(0x80000000, Access::TableRead);

	EXPECT_EQ(w.fault, FaultKind::Forbidden);
	EXPECT_EQ(w.qualification, 0x80u | 3 | 1 << 3 | 1 << 5) << "read and write, bit 8 clear";
	EXPECT_EQ(access(0x80000000, Access::TableWrite).qualification, w.qualification);
	EXPECT_TRUE(read(0x80000000).ok());
	EXPECT_TRUE(access(0x80001000, Access::TableRead).ok());
	EXPECT_EQ(memory.words[0x4008], 0x90005000 | PAGE | A | D);
}

TEST_F(EptWalk, a_violation_sets_no_flags_unless_the_cpu_chooses_so)
{
	auto before = memory.words;

	regs.eptp |= 0x40;
	page_zero() &= ~u64(2);
	before[0x4000] &= ~u64(2);
	EXPECT_FALSE(access(0x80000000, Access::Write).ok());
	EXPECT_FALSE(access(0x80002000, Access::Write).ok());
	EXPECT_EQ(memory.words, before);
	features.accessed_despite_violation = true;
	EXPECT_FALSE(access(0x80002000, Access::Write).ok());
	EXPECT_EQ(memory.words[0x3000], 0x4000 | TABLE | A);
	EXPECT_EQ(memory.words[0x4010], 0u) << "never in an absent entry";
	EXPECT_FALSE(access(0x80000000, Access::Write).ok());
	EXPECT_EQ(page_zero(), (0x90000000 | PAGE | A) & ~u64(2)) << "and no dirty flag";
}

TEST_F(EptWalk, flag_update_that_loses_a_race_walks_again)
{
	regs.eptp |= 0x40;
	memory.on_swap = [this] { memory.words[0x3000] = 0; };
	EXPECT_EQ(read(0x80000000).level, 2);
	EXPECT_EQ(memory.words[0x3000], 0u);
	EXPECT_EQ(page_zero(), 0x90000000 | PAGE);
}

TEST_F(EptWalk, five_levels_walk_57_bits)
{
	memory.table(0x5000, 0x1000);
	memory.words[0x5000 + 511 * 8] = 0x1000 | TABLE;
	regs.eptp = 0x5000 | 4 << 3 | 6;
	EXPECT_EQ(complaints(), "");
	EXPECT_EQ(read((u64(511) << 48) + 0x80000123).pa, 0x90000123u);
	EXPECT_EQ(read(0x80000123).level, 5);
	EXPECT_EQ(read(u64(1) << 57).fault, FaultKind::Absent);
	memory.words[0x5000 + 511 * 8] |= 0x80;
	EXPECT_EQ(read((u64(511) << 48) + 0x80000123).fault, FaultKind::Malformed);
	features.five_levels = false;
	EXPECT_NE(entry_error(), "");
}

TEST_F(EptWalk, eptp_is_checked_as_vm_entry_does)
{
	const struct {
		u64 eptp;
		bool good;
	} rows[] = {{0x101e, true},
		    {0x1018, true},
		    {0x101f, false},
		    {0x101c, false},
		    {0x1016, false},
		    {0x102e, false},
		    {0x1026, true},
		    {0x105e, true},
		    {0x109e, false},
		    {0x111e, false},
		    {0x181e, false},
		    {0x101e | u64(1) << 46, false},
		    {0x101e | u64(1) << 63, false}};

	for (const auto &row : rows) {
		regs.eptp = row.eptp;
		EXPECT_EQ(entry_error().empty(), row.good) << std::hex << row.eptp;
		EXPECT_TRUE(row.good || !read(0x80000000).ok());
	}
	features.accessed_dirty = features.uncached_walk = false;
	for (u64 eptp : {0x105e, 0x1018}) {
		regs.eptp = eptp;
		EXPECT_NE(entry_error(), "");
	}
}

TEST_F(EptWalk, violations_become_exceptions_by_bit_63_of_the_deciding_entry)
{
	const u64 suppress = u64(1) << 63;

	EXPECT_FALSE(read(0).exception) << "the control is off";
	regs.violation_exceptions = true;
	EXPECT_TRUE(read(0).exception);
	memory.words[0x2000] = suppress;
	EXPECT_FALSE(read(0).exception) << "absent: its own bit";
	page_zero() &= ~u64(2);
	memory.words[0x3000] |= suppress; /* of a table: ignored */
	EXPECT_TRUE(access(0x80000000, Access::Write).exception);
	page_zero() |= suppress;
	EXPECT_FALSE(access(0x80000000, Access::Write).exception) << "forbidden: the leaf's";
	page_zero() = 0x90000000 | 2;
	EXPECT_FALSE(read(0x80000000).exception) << "misconfigurations always exit";
}

TEST_F(EptWalk, absent_entries_that_name_cached_memory_are_hazards)
{
	page_zero() = 0x90000000;
	EXPECT_EQ(complaints(), "") << "a CPU without L1TF";
	features.l1_may_hold = [](u64 start, u64 end) {
		return start < 0xc0000000 && end > 0x80001000;
	};
	EXPECT_NE(complaints().find("L1TF"), std::string::npos);
	EXPECT_NE(read(0x80000000).text().find("L1TF"), std::string::npos);
	for (u64 harmless : {u64(0), u64(0x80000000), u64(0xc0000000), u64(1) << 63,
			     ~u64(0x90000000) & ~u64(7), u64(0xff8)}) {
		page_zero() = harmless;
		EXPECT_EQ(complaints(), "") << std::hex << harmless;
	}
	page_zero() = 0x90000000 | u64(1) << 51; /* the CPU has no such address line */
	EXPECT_NE(complaints(), "");
	page_zero() = 0;
	memory.words[0x3010] = 0x80000000;
	EXPECT_EQ(complaints(), "") << "one page, and that is no memory";
	memory.words[0x3010] = 0x80000080;
	EXPECT_NE(complaints(), "") << "2 MiB";
	memory.words[0x3010] = 0;
	memory.words[0x1008] = 0x90000080;
	EXPECT_NE(complaints(), "") << "at any level";
	regs.mode_based_execute = true;
	memory.words[0x1008] = 0x90000000 | USER;
	EXPECT_EQ(complaints().find("L1TF"), std::string::npos) << "that one is present";
}

TEST_F(EptWalk, table_that_is_no_memory_is_told)
{
	memory.words[0x3000] = 0x70000000 | TABLE;
	EXPECT_EQ(read(0x80000000).fault, FaultKind::NoMemory);
	EXPECT_NE(complaints(), "");
}

TEST_F(EptWalk, enumeration_finds_every_leaf_and_table_once)
{
	u64 bytes = 0;
	int tables = 0, leaves = 0;

	Walker(features, memory).for_each(regs, [&](const Walk &w, bool table) {
		tables += table;
		leaves += !table;
		bytes += table ? 0 : w.size;
	});
	EXPECT_EQ(tables, 3);
	EXPECT_EQ(leaves, 4);
	EXPECT_EQ(bytes, (1ull << 30) + (1ull << 21) + 0x2000);
}

TEST(EptHostMemory, host_pointers_are_physical_addresses)
{
	alignas(4096) static u64 root[512], pointers[512];
	model::HostMemory memory;
	Features features;
	Registers regs;

	features.pa_bits = 48;
	root[0] = reinterpret_cast<uintptr_t>(pointers) | TABLE;
	pointers[1] = 0x40000000 | LARGE;
	regs.eptp = reinterpret_cast<uintptr_t>(root) | 3 << 3 | 6 | 0x40;
	EXPECT_EQ(Walker(features, memory).translate(regs, 0x40000123, Access::Write).pa,
		  0x40000123u);
	EXPECT_EQ(pointers[1], 0x40000000 | LARGE | A | D) << "updated in place";
}

/* With the flat reference: rwx, read-only, execute-only and device pages, and a large one. */
struct EptReference : EptWalk {
	model::ReferenceMap map;

	EptReference()
	{
		regs.eptp |= 0x40;
		memory.words[0x2008] = 0;
		for (u64 entry : {0x1000, 0x2010, 0x3000, 0x3008, 0x4000, 0x4008}) {
			memory.words[entry] |= A;
		}
		memory.words[0x4008] &= ~u64(6);
		memory.words[0x4010] = 0x90007000 | 0x34 | A;
		memory.words[0x4ff8] = 0xfe000000 | 0x43 | A; /* UC, whatever the PAT says */
		map.map(0x80200000, 0x200000, page(0xa0000000, RWX));
		map.map(0x80000000, 0x1000, page(0x90000000, RWX));
		map.map(0x80001000, 0x1000, page(0x90005000, model::REF_READ));
		map.map(0x80002000, 0x1000, page(0x90007000, model::REF_EXEC));
		model::ReferencePage device = page(0xfe000000, 3);

		device.memory = MemoryType::Device;
		device.ignore_pat = true;
		map.map(0x801ff000, 0x1000, device);
	}

	static constexpr unsigned RWX = model::REF_READ | model::REF_WRITE | model::REF_EXEC;

	static model::ReferencePage page(u64 pa, unsigned perm)
	{
		model::ReferencePage p;

		p.pa = pa;
		p.perm = perm;
		p.ignore_pat = false;
		return p;
	}

	std::string difference()
	{
		Walker walker(features, memory);

		return map.difference(walker, regs, true);
	}
};

TEST_F(EptReference, right_tables_pass)
{
	Walker walker(features, memory);

	EXPECT_EQ(difference(), "");
	for (u64 gpa : {0x80000000, 0x80001234, 0x80002000, 0x80003000, 0x801ff008, 0x803fffff,
			0x80400000, 0xc0000000}) {
		EXPECT_EQ(map.difference_at(walker, regs, gpa), "") << gpa;
	}
}

TEST_F(EptReference, a_missing_page_and_one_too_many_are_noticed)
{
	map.unmap(0x80001000, 0x1000);
	EXPECT_NE(difference(), "");
	map.map(0x80001000, 0x1000, page(0x90005000, model::REF_READ));
	map.map(0x80003000, 0x1000, page(0x90008000, RWX));
	EXPECT_NE(difference().find("should be mapped"), std::string::npos);
	Walker walker(features, memory);

	EXPECT_NE(map.difference_at(walker, regs, 0x80003000), "");
}

/*
 * Every single bit of every entry in use is flipped. Bits that mean nothing are listed; each other
 * flip must be told.
 */
TEST_F(EptReference, every_one_bit_mutant_is_noticed)
{
	auto right = memory.words;

	for (auto [address, value] : right) {
		bool table = address == 0x1000 || address == 0x2010 || address == 0x3000;
		bool last = address >= 0x4000;

		for (unsigned bit = 0; bit < 64 && value != 0; bit++) {
			/* D; user execute without its control; and software's own. */
			bool ignored = (bit >= 9 && bit <= 11) || bit >= 52;

			ignored |= table ? bit == 8 : last && bit == 7;
			memory.words[address] = value ^ u64(1) << bit;
			EXPECT_EQ(difference().empty(), ignored)
				<< std::hex << address << " bit " << std::dec << bit;
		}
		memory.words[address] = value;
	}
	EXPECT_EQ(memory.words, right);
}

/* Entries not in use too: what makes them present is noticed, and what L1TF would leak. */
TEST_F(EptReference, every_one_bit_mutant_of_an_absent_entry_that_matters_is_noticed)
{
	features.l1_may_hold = [](u64 start, u64 end) {
		return start < u64(1) << 40 && end > 0x1000; /* the first page holds nothing */
	};
	ASSERT_EQ(difference(), "");
	for (u64 address : {0x1008, 0x2000, 0x3010, 0x4018}) {
		for (unsigned bit = 0; bit < 64; bit++) {
			bool leaks = bit >= 12 && bit < 40;

			/* As the first of large pages it names more than the first page. */
			leaks |= bit == 7 && (address == 0x2000 || address == 0x3010);
			memory.words[address] = u64(1) << bit;
			EXPECT_EQ(difference().empty(), bit > 2 && !leaks)
				<< std::hex << address << " bit " << std::dec << bit;
		}
		memory.words[address] = 0;
	}
}

} // namespace
