/*
 * The TLB model: right sequences pass, and each classic mistake is noticed. Tables are changed by
 * hand, as an operating manager would, between the model's operations.
 */
#include <gtest/gtest.h>

#include "armv8_tlb.h"
#include "sparse_memory.h"

namespace
{

using namespace model;

constexpr u64 PAGE = 0x7ff, BLOCK = 0x7fd, TABLE = 3;
constexpr u64 VMID = 7;

/* Operands of TLBI by IPA, 4 KiB granule; level 0: no hint. */
u64 by_ipa(u64 ipa, u64 level = 0)
{
	return ipa >> 12 | (level ? (4 | level) << 44 : 0);
}

u64 by_range(u64 start, u64 pages, u64 level = 0)
{
	return 1ull << 46 | (pages / 2 - 1) << 39 | level << 37 | start >> 12; /* SCALE 0 */
}

/*
 * 40-bit IPA, two root tables at 0x80000000.
 *   0x00000000  level 2 table -> 0x80002000
 *     + 0       level 3 table -> 0x80003000, page 0 -> 0x90000000
 *     + 2 MiB   block -> 0xa0000000
 */
struct TlbModel : testing::Test {
	SparseMemory memory;
	Walker walker{Features(), memory};
	Registers regs;
	u64 &table2 = memory.words[0x80000000];
	u64 &table3 = memory.words[0x80002000];
	u64 &block = memory.words[0x80002008];
	u64 &page = memory.words[0x80003000];

	TlbModel()
	{
		memory.table(0x80000000, 0x2000);
		memory.table(0x80002000, 0x1000);
		memory.table(0x80003000, 0x1000);
		memory.table(0x80004000, 0x1000);
		table2 = 0x80002000 | TABLE;
		table3 = 0x80003000 | TABLE;
		block = 0xa0000000 | BLOCK;
		page = 0x90000000 | PAGE;
		regs.vtcr = 0x80000000 | 5 << 16 | 0x3500 | 1 << 6 | 24;
		regs.vttbr = VMID << 48 | 0x80000000;
	}

	/* Level 3 table at 0x80004000 that says what the block says. */
	void fill_split()
	{
		for (u64 i = 0; i < 512; i++) {
			memory.words[0x80004000 + i * 8] = (0xa0000000 + i * 0x1000) | PAGE;
		}
	}

	/* A full and right invalidation of one address. */
	static void flush(ModelTlb &tlb, u64 ipa)
	{
		tlb.ipas2e1(VMID, by_ipa(ipa));
		tlb.dsb();
		tlb.vmalle1(VMID);
		tlb.dsb();
	}
};

#define EXPECT_CLEAN(tlb)                                                                          \
	do {                                                                                       \
		EXPECT_TRUE((tlb).errors().empty()) << (tlb).errors()[0];                          \
		EXPECT_TRUE((tlb).stale().empty()) << (tlb).stale()[0];                            \
	} while (0)

TEST_F(TlbModel, unmap_with_full_invalidation_is_clean)
{
	ModelTlb tlb(walker, 2);

	tlb.attach(regs);
	EXPECT_FALSE(tlb.cached(1, VMID, 0x123).empty()) << "prefetched";
	page = 0;
	EXPECT_FALSE(tlb.stale().empty());
	flush(tlb, 0);
	EXPECT_CLEAN(tlb);
	for (const TlbEntry &e : tlb.cached(1, VMID, 0)) {
		EXPECT_EQ(e.kind, TlbEntry::Table);
	}
}

TEST_F(TlbModel, missing_invalidation_is_noticed)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	page = 0;
	tlb.dsb();
	EXPECT_FALSE(tlb.stale().empty());
}

TEST_F(TlbModel, invalidation_without_dsb_does_not_count)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	page = 0;
	tlb.vmalls12e1(VMID);
	EXPECT_FALSE(tlb.stale().empty());
	tlb.dsb();
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, combined_entries_survive_ipas2_until_vmalle1)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	page = 0;
	tlb.ipas2e1(VMID, by_ipa(0));
	tlb.dsb();
	ASSERT_EQ(tlb.stale().size(), 1u);
	EXPECT_NE(tlb.stale()[0].find("combined"), std::string::npos);
	tlb.vmalle1(VMID);
	tlb.dsb();
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, stage_2_entries_survive_vmalle1)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	page = 0;
	tlb.vmalle1(VMID);
	tlb.dsb();
	ASSERT_EQ(tlb.stale().size(), 1u);
	EXPECT_NE(tlb.stale()[0].find("stage-2"), std::string::npos);
}

TEST_F(TlbModel, invalidating_before_the_entry_is_cleared_is_noticed)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	flush(tlb, 0);
	page = 0;
	EXPECT_FALSE(tlb.stale().empty()) << "fetched again in between";
}

TEST_F(TlbModel, invalidation_of_another_vmid_does_not_help)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	page = 0;
	tlb.vmalls12e1(VMID + 1);
	tlb.dsb();
	EXPECT_FALSE(tlb.stale().empty());
	tlb.alle1();
	tlb.dsb();
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, local_invalidation_leaves_the_other_pe)
{
	ModelTlb tlb(walker, 2);

	tlb.attach(regs);
	page = 0;
	tlb.vmalls12e1(VMID, 0);
	tlb.dsb();
	ASSERT_FALSE(tlb.stale().empty());
	for (const std::string &s : tlb.stale()) {
		EXPECT_EQ(s.find("CPU 1 "), 0u);
	}
	tlb.vmalls12e1(VMID, 1);
	tlb.dsb();
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, level_hint_reaches_only_its_level)
{
	for (u64 level : {1, 2, 3}) {
		ModelTlb tlb(walker);

		block = 0xa0000000 | BLOCK;
		tlb.attach(regs);
		block = 0;
		tlb.ipas2e1(VMID, by_ipa(0x200000, level));
		tlb.vmalle1(VMID);
		tlb.dsb();
		EXPECT_EQ(tlb.stale().empty(), level == 2) << level;
	}
}

TEST_F(TlbModel, any_address_of_a_block_invalidates_it)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	block = 0;
	flush(tlb, 0x3ff000);
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, range_reaches_from_start_to_end_and_no_further)
{
	ModelTlb tlb(walker);

	memory.words[0x80003008] = 0x90001000 | PAGE;
	memory.words[0x80003010] = 0x90002000 | PAGE;
	tlb.attach(regs);
	page = memory.words[0x80003008] = memory.words[0x80003010] = 0;
	tlb.ripas2e1(VMID, by_range(0, 2, 3));
	tlb.vmalle1(VMID);
	tlb.dsb();
	ASSERT_EQ(tlb.stale().size(), 1u);
	EXPECT_NE(tlb.stale()[0].find("0x2000"), std::string::npos);
	tlb.ripas2e1(VMID, by_range(0x2000, 2));
	tlb.dsb();
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, range_misaligned_to_its_hint_and_wrong_granule_are_errors)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	tlb.ripas2e1(VMID, by_range(0x1000, 2, 2));
	ASSERT_EQ(tlb.errors().size(), 1u);
	tlb.ripas2e1(VMID, by_range(0, 2) | 3ull << 46);
	EXPECT_EQ(tlb.errors().size(), 2u);
}

TEST_F(TlbModel, unlinked_table_must_leave_the_walk_caches_too)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	page = 0;
	flush(tlb, 0);
	table3 = 0;
	EXPECT_FALSE(tlb.stale().empty()) << "the table may still be walked";
	tlb.ipas2e1(VMID, by_ipa(0), ModelTlb::ALL, true);
	tlb.dsb();
	EXPECT_FALSE(tlb.stale().empty()) << "last-level forms leave walk caches alone";
	tlb.ipas2e1(VMID, by_ipa(0, 2));
	tlb.dsb();
	EXPECT_FALSE(tlb.stale().empty()) << "level 2 held the table itself, not a leaf";
	tlb.ipas2e1(VMID, by_ipa(0));
	tlb.dsb();
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, split_with_break_before_make_is_clean)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	fill_split();
	block = 0;
	flush(tlb, 0x200000);
	block = 0x80004000 | TABLE;
	tlb.prefetch_all();
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, split_without_break_is_noticed_unless_the_pe_has_bbm_level_2)
{
	for (unsigned bbm : {0u, 1u, 2u}) {
		ModelTlb tlb(walker, 1, bbm);

		block = 0xa0000000 | BLOCK;
		tlb.attach(regs);
		fill_split();
		block = 0x80004000 | TABLE;
		tlb.prefetch_all();
		EXPECT_EQ(tlb.errors().empty(), bbm == 2) << bbm;
		flush(tlb, 0x200000);
		EXPECT_TRUE(tlb.stale().empty());
	}
}

TEST_F(TlbModel, split_that_breaks_but_does_not_invalidate_is_noticed)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	fill_split();
	block = 0;
	tlb.prefetch_all();
	block = 0x80004000 | TABLE;
	tlb.prefetch_all();
	EXPECT_FALSE(tlb.errors().empty());
}

TEST_F(TlbModel, split_that_makes_before_the_dsb_is_noticed)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	fill_split();
	block = 0;
	tlb.vmalls12e1(VMID);
	block = 0x80004000 | TABLE;
	tlb.dsb();
	EXPECT_FALSE(tlb.errors().empty());
}

TEST_F(TlbModel, split_that_drops_its_neighbours_is_noticed)
{
	ModelTlb tlb(walker, 1, 2);

	tlb.attach(regs);
	memory.words[0x80004000] = 0xa0000000 | PAGE; /* and nothing for the other 511 */
	block = 0x80004000 | TABLE;
	tlb.prefetch_all();
	EXPECT_FALSE(tlb.stale().empty());
}

TEST_F(TlbModel, collapse_needs_the_pages_and_the_table_gone)
{
	ModelTlb tlb(walker);

	fill_split();
	block = 0x80004000 | TABLE;
	tlb.attach(regs);
	block = 0;
	tlb.ripas2e1(VMID, by_range(0x200000, 64)); /* too short */
	tlb.vmalle1(VMID);
	tlb.dsb();
	block = 0xa0000000 | BLOCK;
	tlb.prefetch_all();
	EXPECT_FALSE(tlb.errors().empty());

	ModelTlb good(walker);

	block = 0x80004000 | TABLE;
	good.attach(regs);
	block = 0;
	good.ripas2e1(VMID, 1ull << 46 | 1ull << 44 | 7ull << 39 | 0x200); /* 8 * 2^6 pages */
	good.vmalle1(VMID);
	good.dsb();
	block = 0xa0000000 | BLOCK;
	good.prefetch_all();
	EXPECT_CLEAN(good);
}

TEST_F(TlbModel, other_output_address_or_memory_type_needs_a_break)
{
	for (u64 now : {0x90001000 | PAGE, (0x90000000 | PAGE) ^ 0x28}) {
		ModelTlb tlb(walker);

		page = 0x90000000 | PAGE;
		tlb.attach(regs);
		page = now;
		tlb.prefetch_all();
		EXPECT_EQ(tlb.errors().size(), 4u) << "stage-2 and combined, old and new";
	}
}

TEST_F(TlbModel, permissions_and_software_bits_may_change_under_a_live_entry)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	page = (0x90000000 | PAGE | 1ull << 55) & ~0x80ull;
	EXPECT_FALSE(tlb.stale().empty()) << "writes may still go through";
	flush(tlb, 0);
	EXPECT_CLEAN(tlb);
	page |= 0x80;
	tlb.prefetch_all();
	EXPECT_CLEAN(tlb);
}

TEST_F(TlbModel, cleared_access_flag_is_no_reason_to_forget)
{
	ModelTlb tlb(walker);

	tlb.attach(regs);
	page &= ~0x400ull;
	EXPECT_CLEAN(tlb);
	EXPECT_FALSE(tlb.cached(0, VMID, 0).empty());
}

TEST_F(TlbModel, entries_that_fault_are_never_cached)
{
	ModelTlb tlb(walker);

	page &= ~0x400ull;
	tlb.attach(regs);
	EXPECT_EQ(tlb.access(0, regs, 0x0, Access::Read).dfsc(), 0x0bu);
	EXPECT_EQ(tlb.access(0, regs, 0x5000, Access::Read).dfsc(), 0x07u);
	for (const TlbEntry &e : tlb.cached(0, VMID, 0)) {
		EXPECT_EQ(e.kind, TlbEntry::Table);
	}
}

TEST_F(TlbModel, vmid_handed_on_without_invalidation_is_noticed)
{
	ModelTlb tlb(walker);
	Registers other = regs;

	memory.table(0x80006000, 0x2000);
	other.vttbr = VMID << 48 | 0x80006000;
	tlb.attach(regs);
	tlb.detach(regs);
	EXPECT_CLEAN(tlb);
	tlb.attach(other);
	EXPECT_FALSE(tlb.errors().empty());

	ModelTlb good(walker);

	good.attach(regs);
	good.detach(regs);
	good.alle1();
	good.dsb();
	EXPECT_EQ(good.count(), 0u);
	good.attach(other);
	EXPECT_CLEAN(good);
	good.attach(regs);
	EXPECT_FALSE(good.errors().empty()) << "one VMID, two spaces";
}

} // namespace
