/*
 * The model of stage-2 walks against tables written by hand, bit by bit from the manual's figures
 * (DDI 0487, D8.3: VMSAv8-64 descriptor formats). Nothing here shares code with the hypervisor.
 */
#include <gtest/gtest.h>

#include "sparse_memory.h"

namespace
{

using namespace model;

/*
 * Leaf: 0x400 AF | 0x300 inner shareable | 0xc0 read and write | 0x3c write-back | type.
 * 0x40 alone is read, 0x80 alone is write. Bit 54 XN[1], bit 53 XN[0], bit 52 contiguous, 51 DBM.
 */
constexpr u64 PAGE = 0x7ff;
constexpr u64 BLOCK = 0x7fd;
constexpr u64 TABLE = 3;
constexpr u64 AF_BIT = 0x400;
constexpr u64 XN1 = 1ull << 54, XN0 = 1ull << 53, CONT = 1ull << 52, DBM_BIT = 1ull << 51;

/* RES1 | PS | TG0 | SH0 inner, both write-back | SL0 | T0SZ */
constexpr u64 vtcr(u64 t0sz, u64 sl0, u64 tg0 = 0, u64 ps = 5)
{
	return 0x80000000 | ps << 16 | tg0 << 14 | 0x3500 | sl0 << 6 | t0sz;
}

constexpr u64 HA = 1 << 21, HD = 1 << 22;

/*
 * 4 KiB granule, 40-bit IPA: two concatenated level 1 tables at 0x80000000.
 *   IPA 0x40000000    level 1 block -> 0x100000000 (1 GiB)
 *   IPA 0x80000000    level 2 table at 0x80002000
 *       + 0           level 3 table at 0x80003000: pages 0, 1 -> 0x90000000, 0x90005000
 *       + 0x200000    level 2 block -> 0xa0000000 (2 MiB)
 *   IPA 0x8000000000  (second root table) level 1 block -> 0x140000000
 */
struct Stage2Walk : testing::Test {
	SparseMemory memory;
	Features features;
	Registers regs;

	Stage2Walk()
	{
		memory.table(0x80000000, 0x2000);
		memory.table(0x80002000, 0x1000);
		memory.table(0x80003000, 0x1000);
		memory.words[0x80000008] = 0x100000000 | BLOCK;
		memory.words[0x80000010] = 0x80002000 | TABLE;
		memory.words[0x80001000] = 0x140000000 | BLOCK;
		memory.words[0x80002000] = 0x80003000 | TABLE;
		memory.words[0x80002008] = 0xa0000000 | BLOCK;
		memory.words[0x80003000] = 0x90000000 | PAGE;
		memory.words[0x80003008] = 0x90005000 | PAGE;
		regs.vtcr = vtcr(24, 1);
		regs.vttbr = 0x0007000080000000;
	}

	Walk read(u64 ipa)
	{
		return Walker(features, memory).translate(regs, ipa, Access::Read);
	}

	Walk access(u64 ipa, Access a)
	{
		return Walker(features, memory).translate(regs, ipa, a);
	}

	std::string complaints()
	{
		return Walker(features, memory).complaints(regs);
	}

	u64 &page_zero()
	{
		return memory.words[0x80003000];
	}
};

TEST_F(Stage2Walk, pages_blocks_and_concatenated_roots_translate)
{
	const struct {
		u64 ipa, pa, size;
		int level;
	} rows[] = {
		{0x40000000, 0x100000000, 1 << 30, 1},	 {0x7fffffff, 0x13fffffff, 1 << 30, 1},
		{0x80000123, 0x90000123, 1 << 12, 3},	 {0x80001fff, 0x90005fff, 1 << 12, 3},
		{0x80200000, 0xa0000000, 1 << 21, 2},	 {0x803fffff, 0xa01fffff, 1 << 21, 2},
		{0x8000000000, 0x140000000, 1 << 30, 1},
	};

	EXPECT_EQ(complaints(), "");
	for (const auto &row : rows) {
		Walk w = read(row.ipa);

		EXPECT_TRUE(w.ok()) << w.text();
		EXPECT_EQ(w.pa, row.pa);
		EXPECT_EQ(w.size, row.size);
		EXPECT_EQ(w.level, row.level);
		EXPECT_EQ(w.memory, MemoryType::WriteBack);
		EXPECT_EQ(w.shareability, 3u);
		EXPECT_EQ(w.dfsc(), 0x3fu);
	}
	EXPECT_EQ(Walker(features, memory).decode(regs).vmid, 7u);
}

TEST_F(Stage2Walk, empty_entries_are_translation_faults_at_their_level)
{
	EXPECT_EQ(read(0).dfsc(), 0x05u);
	EXPECT_EQ(read(0x80400000).dfsc(), 0x06u);
	EXPECT_EQ(read(0x80002000).dfsc(), 0x07u);
	EXPECT_EQ(read(0xffffffffff).dfsc(), 0x05u);
	EXPECT_EQ(read(0x10000000000).dfsc(), 0x04u) << "beyond T0SZ: level 0";
}

TEST_F(Stage2Walk, not_valid_entries_are_ignored_whatever_else_they_hold)
{
	page_zero() = ~1ull;
	EXPECT_EQ(read(0x80000000).dfsc(), 0x07u);
	EXPECT_EQ(complaints(), "");
}

TEST_F(Stage2Walk, blocks_are_reserved_where_the_manual_has_none)
{
	page_zero() = 0x90000000 | BLOCK; /* 0b01 at level 3 */
	EXPECT_EQ(read(0x80000000).dfsc(), 0x07u);
	EXPECT_NE(complaints().find("reserved encoding"), std::string::npos);

	regs.vtcr = vtcr(16, 2); /* level 0, 48 bits */
	memory.words[0x80000000] = 0x10000000000 | BLOCK;
	EXPECT_EQ(read(0x1000).dfsc(), 0x04u);
}

TEST_F(Stage2Walk, output_addresses_beyond_ps_are_address_size_faults)
{
	regs.vtcr = vtcr(24, 1, 0, 2); /* 40 bits */
	page_zero() = 0x10090000000 | PAGE;
	EXPECT_EQ(read(0x80000000).dfsc(), 0x03u);
	memory.words[0x80002008] = 0x100a0000000 | BLOCK;
	EXPECT_EQ(read(0x80200000).dfsc(), 0x02u);
	memory.words[0x80002000] = 0x10080003000 | TABLE;
	EXPECT_EQ(read(0x80000000).dfsc(), 0x02u) << "a table out there faults at its descriptor";
	memory.words[0x80000010] = 0x10080002000 | TABLE;
	EXPECT_EQ(read(0x80200000).dfsc(), 0x01u);
	regs.vttbr = 0x10080000000;
	EXPECT_EQ(read(0x40000000).dfsc(), 0x00u) << "and a root at level 0";
}

TEST_F(Stage2Walk, pa_range_bounds_what_ps_says)
{
	features.pa_bits = 40;
	page_zero() = 0x10090000000 | PAGE;
	EXPECT_EQ(read(0x80000000).dfsc(), 0x03u);
	EXPECT_NE(complaints().find("PARange"), std::string::npos);
}

TEST_F(Stage2Walk, table_that_is_no_memory_is_an_external_abort)
{
	memory.words[0x80002000] = 0x70000000 | TABLE;
	EXPECT_EQ(read(0x80000000).dfsc(), 0x17u);
}

TEST_F(Stage2Walk, access_permissions_follow_s2ap)
{
	for (unsigned s2ap = 0; s2ap < 4; s2ap++) {
		page_zero() = (0x90000000 | PAGE) & ~0xc0ull;
		page_zero() |= u64(s2ap) << 6;
		EXPECT_EQ(access(0x80000000, Access::Read).ok(), (s2ap & 1) != 0);
		EXPECT_EQ(access(0x80000000, Access::Write).ok(), (s2ap & 2) != 0);
	}
	EXPECT_EQ(access(0x80000000, Access::Write).ok(), true);
	page_zero() &= ~0x80ull;
	EXPECT_EQ(access(0x80000000, Access::Write).dfsc(), 0x0fu);
	memory.words[0x80002008] &= ~0x80ull;
	EXPECT_EQ(access(0x80200000, Access::Write).dfsc(), 0x0eu);
	memory.words[0x80000008] &= ~0x80ull;
	EXPECT_EQ(access(0x40000000, Access::Write).dfsc(), 0x0du);
}

TEST_F(Stage2Walk, execution_follows_xn_with_and_without_xnx)
{
	const struct {
		u64 xn;
		bool el1, el0, plain;
	} rows[] = {{0, true, true, true},
		    {XN0, false, true, true},
		    {XN1, false, false, false},
		    {XN1 | XN0, true, false, false}};

	for (const auto &row : rows) {
		page_zero() = 0x90000000 | PAGE | row.xn;
		features.xnx = true;
		EXPECT_EQ(access(0x80000000, Access::ExecuteEl1).ok(), row.el1) << row.xn;
		EXPECT_EQ(access(0x80000000, Access::ExecuteEl0).ok(), row.el0) << row.xn;
		EXPECT_EQ(complaints(), "");
		features.xnx = false;
		EXPECT_EQ(access(0x80000000, Access::ExecuteEl1).ok(), row.plain) << row.xn;
		EXPECT_EQ(access(0x80000000, Access::ExecuteEl0).ok(), row.plain) << row.xn;
		EXPECT_EQ(complaints().empty(), (row.xn & XN0) == 0) << "RES0 without FEAT_XNX";
	}
}

TEST_F(Stage2Walk, access_flag_faults_without_hardware_update)
{
	page_zero() &= ~AF_BIT;
	memory.words[0x80002008] &= ~AF_BIT;
	EXPECT_EQ(read(0x80000000).dfsc(), 0x0bu);
	EXPECT_EQ(read(0x80200000).dfsc(), 0x0au);
	page_zero() &= ~0xc0ull;
	EXPECT_EQ(read(0x80000000).dfsc(), 0x0bu) << "before permissions";
	regs.vtcr |= HA;
	features.hafdbs = 0;
	EXPECT_EQ(read(0x80000000).dfsc(), 0x0bu) << "HA is RES0 without FEAT_HAFDBS";
}

TEST_F(Stage2Walk, hardware_sets_the_access_flag)
{
	page_zero() &= ~AF_BIT;
	regs.vtcr |= HA;
	EXPECT_TRUE(read(0x80000000).ok());
	EXPECT_EQ(page_zero(), 0x90000000 | PAGE);
}

TEST_F(Stage2Walk, permission_fault_leaves_the_access_flag_unless_the_pe_chooses_so)
{
	page_zero() = (0x90000000 | PAGE) & ~AF_BIT & ~0x80ull;
	u64 before = page_zero();

	regs.vtcr |= HA;
	EXPECT_EQ(access(0x80000000, Access::Write).dfsc(), 0x0fu);
	EXPECT_EQ(page_zero(), before);
	features.af_despite_permission_fault = true;
	EXPECT_EQ(access(0x80000000, Access::Write).dfsc(), 0x0fu);
	EXPECT_EQ(page_zero(), before | AF_BIT);
}

TEST_F(Stage2Walk, hardware_sets_dirty_state_on_writes_alone)
{
	u64 clean = ((0x90000000 | PAGE) & ~0x80ull) | DBM_BIT;

	page_zero() = clean;
	EXPECT_EQ(access(0x80000000, Access::Write).dfsc(), 0x0fu)
		<< "DBM means nothing without HD";
	regs.vtcr |= HD;
	EXPECT_EQ(access(0x80000000, Access::Write).dfsc(), 0x0fu) << "nor HD without HA";
	regs.vtcr |= HA;
	EXPECT_TRUE(access(0x80000000, Access::Read).ok());
	EXPECT_EQ(page_zero(), clean);
	EXPECT_TRUE(access(0x80000000, Access::Write).ok());
	EXPECT_EQ(page_zero(), clean | 0x80);
	features.hafdbs = 1;
	page_zero() = clean;
	EXPECT_EQ(access(0x80000000, Access::Write).dfsc(), 0x0fu);
}

TEST_F(Stage2Walk, update_that_loses_a_race_walks_again)
{
	page_zero() &= ~AF_BIT;
	regs.vtcr |= HA;
	memory.on_swap = [this] { page_zero() = 0; };
	EXPECT_EQ(read(0x80000000).dfsc(), 0x07u);
	EXPECT_EQ(page_zero(), 0u);
}

TEST_F(Stage2Walk, memory_types_by_memattr)
{
	const MemoryType D = MemoryType::Device, N = MemoryType::NonCacheable,
			 T = MemoryType::WriteThrough, B = MemoryType::WriteBack,
			 R = MemoryType::Reserved;
	const MemoryType plain[16] = {D, D, D, D, R, N, N, N, R, N, T, T, R, N, T, B};
	const MemoryType forced[16] = {D, D, D, D, R, N, B, MemoryType::FromStage1,
				       R, R, R, R, R, R, R, R};

	for (unsigned attr = 0; attr < 16; attr++) {
		page_zero() = ((0x90000000 | PAGE) & ~0x3cull) | attr << 2;
		regs.fwb = false;
		EXPECT_EQ(read(0x80000000).memory, plain[attr]) << attr;
		EXPECT_EQ(complaints().empty(), plain[attr] != R) << attr;
		regs.fwb = true;
		EXPECT_EQ(read(0x80000000).memory, forced[attr]) << attr;
	}
}

TEST_F(Stage2Walk, contiguous_groups_must_agree)
{
	for (u64 i = 0; i < 16; i++) {
		memory.words[0x80003000 + i * 8] = (0x90010000 + i * 0x1000) | PAGE | CONT;
	}
	EXPECT_EQ(complaints(), "");
	memory.words[0x80003020] &= ~AF_BIT; /* hardware's own to change */
	EXPECT_EQ(complaints(), "");
	memory.words[0x80003020] &= ~0x80ull;
	EXPECT_NE(complaints().find("contiguous"), std::string::npos);
	for (u64 i = 0; i < 16; i++) {
		memory.words[0x80003000 + i * 8] = (0x90011000 + i * 0x1000) | PAGE | CONT;
	}
	EXPECT_NE(complaints().find("misaligned"), std::string::npos);
}

TEST_F(Stage2Walk, misplaced_bits_are_complained_about)
{
	const u64 wrong[] = {1ull << 11, 1ull << 48, 1ull << 50};

	for (u64 b : wrong) {
		page_zero() = 0x90000000 | PAGE | b;
		EXPECT_NE(complaints(), "") << b;
	}
	page_zero() = (0x90000000 | PAGE) ^ 0x200; /* shareability 0b01 */
	EXPECT_NE(complaints(), "");
	page_zero() = 0x90000000 | PAGE | 0xful << 55; /* software's own */
	EXPECT_EQ(complaints(), "");
	memory.words[0x80002008] = 0xa0001000 | BLOCK; /* a block's address below its size */
	EXPECT_NE(complaints(), "");
	memory.words[0x80002008] = 0xa0000000 | BLOCK | 1 << 16; /* nT */
	EXPECT_NE(complaints(), "");
	features.bbm_nt = true;
	EXPECT_EQ(complaints(), "");
	regs.vttbr = 0x80001000; /* concatenated tables need alignment to all of them */
	EXPECT_NE(complaints(), "");
}

/* Every T0SZ with every SL0: which the manual allows, and how many entries the root has. */
TEST_F(Stage2Walk, start_levels_and_concatenation_of_4_KiB_are_as_the_manual_lists_them)
{
	Walker walker(features, memory);

	for (unsigned t0sz = 0; t0sz < 64; t0sz++) {
		for (unsigned sl0 = 0; sl0 < 4; sl0++) {
			regs.vtcr = vtcr(t0sz, sl0);
			Config c = walker.decode(regs);
			unsigned ipa = 64 - t0sz;
			/* Table D8-9: SL0 0 -> level 2, 1 -> level 1, 2 -> level 0; 25..39 bits...
			 */
			bool good = (sl0 == 0 && ipa >= 25 && ipa <= 34) ||
				    (sl0 == 1 && ipa >= 31 && ipa <= 43) ||
				    (sl0 == 2 && ipa >= 40 && ipa <= 48);

			EXPECT_EQ(c.error.empty(), good) << "T0SZ " << t0sz << " SL0 " << sl0;
			if (good) {
				unsigned shift = sl0 == 0 ? 21 : sl0 == 1 ? 30 : 39;

				EXPECT_EQ(c.root_entries, 1ull << (ipa - shift));
				EXPECT_LE(c.root_entries, 16u * 512);
				EXPECT_EQ(c.start_level, 2 - int(sl0));
			} else {
				EXPECT_EQ(walker.translate(regs, 0, Access::Read).dfsc(), 0x04u);
			}
		}
	}
}

TEST_F(Stage2Walk, small_pa_ranges_and_small_tables_change_what_is_allowed)
{
	features.pa_bits = 40;
	regs.vtcr = vtcr(24, 2, 0, 2);
	EXPECT_NE(Walker(features, memory).decode(regs).error, "") << "level 0 needs 44 bits";
	regs.vtcr = vtcr(23, 1, 0, 2);
	EXPECT_NE(Walker(features, memory).decode(regs).error, "") << "41 bits on a 40-bit PE";
	regs.vtcr = vtcr(48, 3);
	EXPECT_NE(Walker(features, memory).decode(regs).error, "");
	features.small_tables = true;
	EXPECT_EQ(Walker(features, memory).decode(regs).error, "");
	EXPECT_EQ(Walker(features, memory).decode(regs).start_level, 3);
}

TEST_F(Stage2Walk, granule_of_16_KiB_walks)
{
	memory.table(0x200000, 0x8000); /* 2 concatenated level 2 tables, 37-bit IPA */
	memory.table(0x208000, 0x4000);
	memory.words[0x200000 + 0 * 8] = 0x208000 | TABLE;
	memory.words[0x200000 + 2049 * 8] = 0x4000000 | BLOCK; /* 32 MiB */
	memory.words[0x208000 + 3 * 8] = 0x1234c000 | PAGE;
	regs.vtcr = vtcr(27, 1, 2);
	regs.vttbr = 0x200000;
	EXPECT_EQ(complaints(), "");
	EXPECT_EQ(read(3 * 0x4000 + 0x3abc).pa, 0x1234fabcu);
	EXPECT_EQ(read(2049ull * 0x2000000 + 0x1ffffff).pa, 0x5ffffffu);
	EXPECT_EQ(read(0).dfsc(), 0x07u);
	EXPECT_EQ(read(1ull << 37).dfsc(), 0x04u);
	regs.vtcr = vtcr(17, 2, 2); /* 47 bits from level 1: no blocks there without LPA2 */
	memory.words[0x200000] = 0x1000000000 | BLOCK;
	EXPECT_EQ(read(0).dfsc(), 0x05u);
}

TEST_F(Stage2Walk, granule_of_64_KiB_walks_with_52_bits)
{
	memory.table(0x200000, 0x10000); /* level 2, 42-bit IPA */
	memory.table(0x210000, 0x10000);
	memory.words[0x200000] = 0x210000 | TABLE;
	memory.words[0x200008] = 0x40000000 | BLOCK; /* 512 MiB */
	memory.words[0x210000 + 5 * 8] = 0x1230000 | 0xf000 | PAGE;
	regs.vtcr = vtcr(22, 1, 1, 6);
	regs.vttbr = 0x200000;
	features.pa_bits = 52;
	EXPECT_EQ(read(0x50000 + 0x1234).pa, 0xf000001231234u) << "bits 15..12 are PA[51:48]";
	EXPECT_EQ(read(0x20000000 + 0x1fffffff).pa, 0x5fffffffu);
	EXPECT_EQ(read(0x10000).dfsc(), 0x07u);
	regs.vtcr = vtcr(22, 1, 1, 5);
	EXPECT_EQ(read(0x50000).dfsc(), 0x03u) << "beyond 48 bits";
	regs.vttbr = 0x200000 | 0x4; /* BADDR[5:2] is PA[51:48] */
	EXPECT_EQ(read(0).dfsc(), 0x07u) << "bits 5..2 are ignored below 52 bits";
	regs.vtcr = vtcr(22, 1, 1, 6);
	EXPECT_EQ(read(0).dfsc(), 0x16u) << "the root is at 0x1000000200000, where nothing is";
}

TEST_F(Stage2Walk, lpa2_walks_52_bits_from_level_minus_1)
{
	features.pa_bits = 52;
	features.lpa2 = true;
	for (u64 t : {0x100000ull, 0x101000ull, 0x102000ull, 0x103000ull, 0x104000ull}) {
		memory.table(t, 0x1000);
	}
	memory.words[0x100000 + 15 * 8] = 0x101000 | TABLE;
	memory.words[0x101000 + 8] = 0x102000 | TABLE;
	memory.words[0x101000 + 16] = 0x8000000000 | 0x4fd; /* level 0 block, 512 GiB */
	memory.words[0x102000] = 0x103000 | TABLE;
	memory.words[0x103000] = 0x104000 | TABLE;
	memory.words[0x104000] = 0x3000000005000 | 0x2ff | AF_BIT; /* PA[51:50] in bits 9:8: 10 */
	regs.vtcr = vtcr(12, 0, 0, 6) | 1ull << 32 | 1ull << 33;
	regs.vttbr = 0x100000;
	u64 base = 15ull << 48 | 1ull << 39;

	EXPECT_EQ(complaints(), "");
	EXPECT_EQ(read(base + 7).pa, 0xb000000005007u);
	EXPECT_EQ(read(base + 7).shareability, 3u) << "from VTCR_EL2.SH0";
	EXPECT_EQ(read((15ull << 48) + (2ull << 39) + 5).pa, 0x8000000005u);
	EXPECT_EQ(read(0).dfsc(), 0x2bu) << "translation fault at level -1";
	EXPECT_EQ(read(15ull << 48).dfsc(), 0x04u);
	EXPECT_EQ(read(base + 0x1000).dfsc(), 0x07u);
	memory.words[0x100000] = 0x700000 | TABLE | 0x300; /* at 0xc000000700000 */
	regs.vtcr = vtcr(12, 0, 0, 5) | 1ull << 32 | 1ull << 33;
	EXPECT_EQ(read(0).dfsc(), 0x29u) << "address size fault at level -1";
}

TEST_F(Stage2Walk, reserved_granule_faults)
{
	regs.vtcr = vtcr(24, 1, 3);
	EXPECT_EQ(read(0x40000000).dfsc(), 0x04u);
	EXPECT_NE(complaints(), "");
}

TEST_F(Stage2Walk, enumeration_finds_every_leaf_and_table_once)
{
	u64 bytes = 0;
	int tables = 0, leaves = 0;

	Walker(features, memory).for_each(regs, [&](const Walk &w, bool table) {
		tables += table;
		leaves += !table;
		bytes += table ? 0 : w.size;
	});
	EXPECT_EQ(tables, 2);
	EXPECT_EQ(leaves, 5);
	EXPECT_EQ(bytes, 2 * (1ull << 30) + (1ull << 21) + 0x2000);
}

TEST(Stage2HostMemory, windows_are_what_is_there)
{
	alignas(8192) static u64 root[1024];
	HostMemory memory;
	Registers regs;
	u64 base = u64(reinterpret_cast<uintptr_t>(root));

	root[1] = 0x40000000 | (BLOCK & ~AF_BIT);
	regs.vtcr = vtcr(24, 1) | HA;
	regs.vttbr = base;
	EXPECT_EQ(Walker(Features(), memory).translate(regs, 0x40000000, Access::Read).pa,
		  0x40000000u);
	EXPECT_EQ(root[1], 0x40000000 | BLOCK) << "host memory was updated in place";
	memory.allow(base + 4096, base + 8192);
	EXPECT_EQ(Walker(Features(), memory).translate(regs, 0, Access::Read).dfsc(), 0x15u);
}

} // namespace
