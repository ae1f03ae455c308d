/*
 * The model TLBs of x86: what each operation forgets, and that nothing else is forgotten. Tables
 * are written by hand.
 */
#include <gtest/gtest.h>

#include "sparse_memory.h"
#include "x86_tlb.h"

namespace
{

using model::SparseMemory;
using model::u64;
using model::x86::Access;
using model::x86::Config;
using model::x86::FaultKind;
using model::x86::TlbEntry;

constexpr u64 RWX = 7, PAGE = 0x37, LARGE = 0xb7, A = 0x100, D = 0x200;

/*
 * Root 0x1000 -> 0x2000 -> 0x3000 -> 0x4000: pages 0, 1 of GPA 0 -> 0x90000000, 0x90005000, and a
 * leaf of 2 MiB at GPA 0x200000 -> 0xa0000000. Root 0x11000 likewise has page 0 -> 0xb0000000.
 */
struct EptTlb : testing::Test {
	SparseMemory memory;
	model::ept::Walker walker{model::ept::Features(), memory};
	model::ept::Registers one, other;
	model::ept::Tlb tlb{walker, 2};

	EptTlb()
	{
		for (u64 base : {0x1000, 0x11000}) {
			for (u64 i = 0; i < 4; i++) {
				memory.table(base + i * 0x1000, 0x1000);
				memory.words[base + i * 0x1000] = (base + (i + 1) * 0x1000) | RWX;
			}
		}
		memory.words[0x4000] = 0x90000000 | PAGE;
		memory.words[0x4008] = 0x90005000 | PAGE;
		memory.words[0x3008] = 0xa0000000 | LARGE;
		memory.words[0x14000] = 0xb0000000 | PAGE;
		one.eptp = 0x1000 | 3 << 3 | 6;
		other.eptp = 0x11000 | 3 << 3 | 6;
		other.vpid = 2;
	}

	Config config(const model::ept::Registers &regs)
	{
		return walker.decode(regs);
	}

	void enter(unsigned cpu, const model::ept::Registers &regs)
	{
		tlb.enter(cpu, config(regs));
	}

	size_t cached(unsigned cpu, u64 root, u64 gpa, TlbEntry::Kind kind)
	{
		size_t count = 0;

		for (const TlbEntry &e : tlb.cached(cpu, root, gpa)) {
			count += e.kind == kind;
		}
		return count;
	}

	void flags_on()
	{
		one.eptp |= 0x40;
	}

	/* Clears page 0 while CPUs may be in the guest. */
	void unmap_page_zero()
	{
		memory.words[0x4000] = 0;
		tlb.prefetch_all();
	}

	void expect_clean()
	{
		EXPECT_TRUE(tlb.errors().empty()) << tlb.errors()[0];
		EXPECT_EQ(tlb.stale(), std::vector<std::string>());
	}
};

TEST_F(EptTlb, a_cpu_in_the_guest_caches_all_and_one_outside_nothing)
{
	enter(0, one);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::GuestPhysical), 1u);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Combined), 1u);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Table), 3u);
	EXPECT_EQ(cached(0, 0x1000, 0x3fffff, TlbEntry::GuestPhysical), 1u);
	EXPECT_EQ(cached(0, 0x1000, 0x2000, TlbEntry::GuestPhysical), 0u);
	EXPECT_EQ(cached(1, 0x1000, 0, TlbEntry::GuestPhysical), 0u);
	EXPECT_EQ(cached(0, 0x11000, 0, TlbEntry::GuestPhysical), 0u);
	expect_clean();
}

TEST_F(EptTlb, what_was_cached_is_stale_until_invept_on_that_cpu)
{
	enter(0, one);
	enter(1, one);
	unmap_page_zero();
	EXPECT_EQ(tlb.stale().size(), 6u) << "three entries on each CPU";
	tlb.leave(0);
	tlb.invept(0, model::ept::Tlb::SINGLE_CONTEXT, one.eptp);
	enter(0, one);
	EXPECT_EQ(tlb.stale().size(), 3u) << "nothing is broadcast";
	tlb.leave(1);
	EXPECT_EQ(tlb.stale().size(), 0u) << "a CPU outside may remember";
	enter(1, one);
	EXPECT_EQ(tlb.stale().size(), 3u) << "but not when it enters again";
	tlb.leave(1);
	tlb.invept(1, model::ept::Tlb::ALL_CONTEXT);
	enter(1, one);
	expect_clean();
}

TEST_F(EptTlb, single_context_forgets_one_root_and_all_context_every_one)
{
	enter(0, one);
	tlb.leave(0);
	enter(0, other);
	tlb.leave(0);
	tlb.invept(0, 1, other.eptp);
	EXPECT_EQ(tlb.cached(0, 0x11000, 0).size(), 0u);
	EXPECT_NE(tlb.cached(0, 0x1000, 0).size(), 0u);
	enter(0, other);
	tlb.leave(0);
	tlb.invept(0, 2);
	EXPECT_EQ(tlb.count(), 0u);
	expect_clean();
}

TEST_F(EptTlb, the_tag_is_the_root_whatever_else_eptp_says)
{
	enter(0, one);
	tlb.leave(0);
	tlb.invept(0, 1, 0x1000 | 4 << 3);
	EXPECT_EQ(tlb.count(), 0u);
}

TEST_F(EptTlb, a_root_that_is_used_again_carries_what_was_cached_of_the_old_one)
{
	enter(0, one);
	tlb.leave(0);
	memory.words[0x4000] = 0xc0000000 | PAGE; /* another space, its root in the same frame */
	enter(0, one);
	EXPECT_FALSE(tlb.stale().empty());
	EXPECT_FALSE(tlb.errors().empty());
}

TEST_F(EptTlb, invvpid_leaves_guest_physical_translations)
{
	enter(0, one);
	unmap_page_zero();
	tlb.leave(0);
	tlb.invvpid(0, 1, 1);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Combined), 0u);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Global), 0u);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::GuestPhysical), 1u);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Table), 3u);
	enter(0, one);
	EXPECT_EQ(tlb.stale().size(), 1u);
	EXPECT_TRUE(tlb.errors().empty());
}

TEST_F(EptTlb, invvpid_types_forget_what_they_name)
{
	struct {
		unsigned type;
		u64 vpid, linear;
		size_t combined, global, far;
	} rows[] = {{0, 1, 0x123, 0, 0, 1}, {1, 1, 0, 0, 0, 0}, {2, 0, 0, 0, 0, 0},
		    {3, 1, 0, 0, 1, 0},	    {0, 2, 0, 1, 1, 1}, {1, 2, 0, 1, 1, 1},
		    {0, 1, 0x1000, 1, 1, 1}};

	for (const auto &row : rows) {
		enter(0, one);
		tlb.leave(0);
		tlb.invvpid(0, row.type, row.vpid, row.linear);
		EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Combined), row.combined) << row.type;
		EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Global), row.global) << row.type;
		EXPECT_EQ(cached(0, 0x1000, 0x200000, TlbEntry::Combined), row.far) << row.type;
	}
	expect_clean();
	tlb.invvpid(0, 1, 0);
	EXPECT_EQ(tlb.errors().size(), 1u) << "VPID 0 fails";
	tlb.invvpid(0, 4, 1);
	tlb.invept(0, 0, one.eptp);
	tlb.invept(0, 3, one.eptp);
	EXPECT_EQ(tlb.errors().size(), 4u);
}

TEST_F(EptTlb, combined_entries_of_another_vpid_are_not_used)
{
	model::ept::Registers again = one;

	enter(0, one);
	tlb.leave(0);
	again.vpid = 9;
	unmap_page_zero();
	tlb.invvpid(0, 1, 9); /* the wrong one */
	enter(0, again);
	EXPECT_EQ(tlb.stale().size(), 1u) << "guest-physical ones are";
	tlb.leave(0);
	enter(0, one);
	EXPECT_EQ(tlb.stale().size(), 3u);
}

TEST_F(EptTlb, operations_by_a_cpu_in_a_guest_are_errors)
{
	enter(0, one);
	tlb.invept(0, 2);
	EXPECT_EQ(tlb.errors().size(), 1u);
	EXPECT_NE(tlb.count(), 0u);
	tlb.access(1, 0, Access::Read);
	EXPECT_EQ(tlb.errors().size(), 2u) << "and accesses by one outside";
	tlb.enter(1, config(model::ept::Registers()));
	EXPECT_EQ(tlb.errors().size(), 3u) << "and entry that the CPU refuses";
}

TEST_F(EptTlb, permissions_that_grow_need_no_invalidation_and_those_that_shrink_do)
{
	memory.words[0x4000] = 0x90000000 | 0x31;
	enter(0, one);
	memory.words[0x4000] = 0x90000000 | PAGE;
	tlb.prefetch_all();
	expect_clean();
	memory.words[0x4000] = 0x90000000 | 0x35;
	EXPECT_FALSE(tlb.stale().empty());
}

TEST_F(EptTlb, a_table_whose_entry_allows_less_is_stale)
{
	enter(0, one);
	memory.words[0x3000] = 0x4000 | 1;
	bool table = false;

	for (const std::string &text : tlb.stale()) {
		table |= text.find("its entry now allows less") != std::string::npos;
	}
	EXPECT_TRUE(table);
}

TEST_F(EptTlb, an_unlinked_table_is_stale_although_it_was_empty)
{
	memory.words[0x4000] = memory.words[0x4008] = 0;
	enter(0, one);
	memory.words[0x3000] = 0;
	ASSERT_EQ(tlb.stale().size(), 1u);
	EXPECT_NE(tlb.stale()[0].find("not linked"), std::string::npos);
	tlb.leave(0);
	tlb.invept(0, 1, one.eptp);
	enter(0, one);
	expect_clean();
}

TEST_F(EptTlb, a_violation_forgets_the_address_on_that_cpu_alone)
{
	memory.words[0x4000] = 0x90000000 | 0x31;
	enter(0, one);
	enter(1, one);
	EXPECT_EQ(tlb.access(0, 0x10, Access::Write).fault, FaultKind::Forbidden);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::GuestPhysical), 1u) << "fetched again";
	memory.words[0x4000] = 0; /* what it cached allows reads: writes fault and forget it */
	EXPECT_EQ(tlb.access(0, 0x10, Access::Write).fault, FaultKind::Absent);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::GuestPhysical), 0u);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Combined), 0u);
	EXPECT_EQ(cached(1, 0x1000, 0, TlbEntry::GuestPhysical), 1u);
	EXPECT_EQ(cached(0, 0x1000, 0x1000, TlbEntry::GuestPhysical), 1u) << "the neighbour stays";
}

TEST_F(EptTlb, an_access_that_the_old_entry_allows_does_not_fault_and_forgets_nothing)
{
	enter(0, one);
	unmap_page_zero();
	EXPECT_EQ(tlb.access(0, 0x10, Access::Write).fault, FaultKind::Absent);
	EXPECT_EQ(tlb.stale().size(), 3u);
	memory.words[0x3000] = 0; /* nor by way of a table that is not linked any more */
	memory.words[0x4000] = 0x90000000 | 0x31;
	EXPECT_EQ(tlb.access(0, 0x2000, Access::Read).fault, FaultKind::Absent);
	EXPECT_EQ(cached(0, 0x1000, 0x2000, TlbEntry::Table), 3u);
}

TEST_F(EptTlb, two_frames_or_types_for_one_address_are_errors)
{
	enter(0, one);
	memory.words[0x4000] = 0x90001000 | PAGE;
	tlb.prefetch_all();
	ASSERT_EQ(tlb.errors().size(), 3u) << "for each kind of entry";
	EXPECT_NE(tlb.errors()[0].find("two frames"), std::string::npos);
	memory.words[0x4008] = 0x90005000 | 7;
	tlb.prefetch_all();
	EXPECT_NE(tlb.errors().back().find("memory types"), std::string::npos);
}

TEST_F(EptTlb, no_error_when_the_cpu_forgot_in_between)
{
	enter(0, one);
	unmap_page_zero();
	tlb.leave(0);
	tlb.invept(0, 1, one.eptp);
	enter(0, one);
	memory.words[0x4000] = 0x90001000 | PAGE;
	tlb.prefetch_all();
	expect_clean();
}

TEST_F(EptTlb, code_with_two_sizes_is_an_error_on_cpus_with_the_erratum)
{
	model::ept::Tlb immune(walker, 1, false);

	memory.table(0x5000, 0x1000);
	enter(0, one);
	immune.enter(0, config(one));
	for (u64 i = 0; i < 512; i++) {
		memory.words[0x5000 + i * 8] = (0xa0000000 + i * 0x1000) | PAGE;
	}
	memory.words[0x3008] = 0x5000 | RWX; /* split under the CPU's eyes, all else the same */
	tlb.prefetch_all();
	immune.prefetch_all();
	EXPECT_NE(tlb.errors().at(0).find("two sizes"), std::string::npos);
	EXPECT_TRUE(immune.errors().empty());
	EXPECT_TRUE(immune.stale().empty()) << "every translation is kept";
}

TEST_F(EptTlb, data_with_two_sizes_is_no_error)
{
	memory.table(0x5000, 0x1000);
	memory.words[0x3008] = 0xa0000000 | (LARGE & ~u64(4));
	enter(0, one);
	for (u64 i = 0; i < 512; i++) {
		memory.words[0x5000 + i * 8] = (0xa0000000 + i * 0x1000) | (PAGE & ~u64(4));
	}
	memory.words[0x3008] = 0x5000 | RWX;
	tlb.prefetch_all();
	expect_clean();
}

TEST_F(EptTlb, entries_are_cached_only_when_their_flags_are_set)
{
	flags_on();
	enter(0, one);
	EXPECT_EQ(tlb.count(), 0u);
	EXPECT_TRUE(tlb.access(0, 0x10, Access::Read).ok());
	EXPECT_EQ(tlb.cached(0, 0x1000, 0).size(), 6u);
	EXPECT_EQ(tlb.cached(0, 0x1000, 0x1000).size(), 3u) << "tables alone";
	EXPECT_EQ(memory.words[0x4000], 0x90000000 | PAGE | A);
	memory.words[0x4000] &= ~A; /* ageing: the flush may come later */
	tlb.prefetch_all();
	expect_clean();
}

TEST_F(EptTlb, nothing_is_cached_of_a_page_that_exits_at_its_first_use)
{
	one.unused_type = true;
	memory.words[0x4000] = 0x90000000 | 7 | 2 << 3;
	enter(0, one);
	EXPECT_EQ(tlb.access(0, 0, Access::Read).fault, FaultKind::NotAccessed);
	EXPECT_EQ(cached(0, 0x1000, 0, TlbEntry::Table), 3u);
	EXPECT_EQ(tlb.cached(0, 0x1000, 0).size(), 3u) << "tables alone";
	memory.words[0x4000] |= 0x20;
	EXPECT_TRUE(tlb.access(0, 0, Access::Read).ok());
	EXPECT_EQ(tlb.cached(0, 0x1000, 0).size(), 6u);
	memory.words[0x4000] &= ~u64(0x20); /* the flush may come later */
	tlb.prefetch_all();
	expect_clean();
}

TEST_F(EptTlb, nothing_is_cached_below_an_entry_that_was_not_accessed)
{
	flags_on();
	for (u64 entry : {0x1000, 0x2000, 0x4000}) {
		memory.words[entry] |= A;
	}
	enter(0, one);
	EXPECT_EQ(tlb.cached(0, 0x1000, 0).size(), 2u) << "tables at 0x2000 and 0x3000";
	memory.words[0x3000] |= A;
	tlb.prefetch_all();
	EXPECT_EQ(tlb.cached(0, 0x1000, 0).size(), 6u);
	expect_clean();
}

TEST_F(EptTlb, a_dirty_flag_that_is_cleared_needs_invalidation)
{
	flags_on();
	enter(0, one);
	tlb.access(0, 0x10, Access::Read);
	memory.words[0x4000] &= ~D;
	expect_clean();
	tlb.access(0, 0x10, Access::Write);
	EXPECT_EQ(memory.words[0x4000], 0x90000000 | PAGE | A | D);
	expect_clean();
	memory.words[0x4000] &= ~D;
	EXPECT_EQ(tlb.stale().size(), 3u);
	tlb.leave(0);
	tlb.invept(0, 1, one.eptp);
	enter(0, one);
	expect_clean();
}

/* The same with nested tables; root 0x1000 as above, two ASIDs. */
struct NptTlb : testing::Test {
	SparseMemory memory;
	model::npt::Walker walker{model::npt::Features(), memory};
	model::npt::Registers one, other;
	model::npt::Tlb tlb{walker, 2};

	NptTlb()
	{
		for (u64 base : {0x1000, 0x11000}) {
			for (u64 i = 0; i < 4; i++) {
				memory.table(base + i * 0x1000, 0x1000);
				memory.words[base + i * 0x1000] = (base + (i + 1) * 0x1000) | 0x27;
			}
		}
		memory.words[0x4000] = 0x90000000 | 0x67;
		memory.words[0x14000] = 0xb0000000 | 0x67;
		one.ncr3 = 0x1000;
		other.ncr3 = 0x11000;
		other.asid = 2;
	}

	void vmrun(unsigned cpu, const model::npt::Registers &regs, unsigned tlb_control)
	{
		tlb.vmrun(cpu, walker.decode(regs), tlb_control);
	}
};

TEST_F(NptTlb, tlb_control_forgets_what_it_names_on_that_cpu)
{
	const struct {
		unsigned control;
		size_t stale;
		bool other_stays;
	} rows[] = {{0, 3, true}, {1, 0, false}, {3, 0, true}, {7, 2, true}};

	for (const auto &row : rows) {
		memory.words[0x4000] = 0x90000000 | 0x67;
		for (unsigned cpu : {0, 1}) {
			vmrun(cpu, other, 0);
			tlb.leave(cpu);
			vmrun(cpu, one, 0);
		}
		memory.words[0x4000] = 0;
		tlb.leave(0);
		tlb.leave(1);
		vmrun(0, one, row.control);
		EXPECT_EQ(tlb.stale().size(), row.stale) << row.control;
		EXPECT_EQ(!tlb.cached(0, 2, 0).empty(), row.other_stays) << row.control;
		tlb.leave(0);
		vmrun(1, one, 0);
		EXPECT_EQ(tlb.stale().size(), 3u) << "nothing is broadcast";
		tlb.leave(1);
		vmrun(0, one, 1);
		vmrun(1, one, 1);
		tlb.leave(0);
		tlb.leave(1);
	}
	EXPECT_TRUE(tlb.errors().empty()) << tlb.errors()[0];
}

TEST_F(NptTlb, an_asid_given_to_another_root_carries_the_old_entries)
{
	vmrun(0, one, 0);
	tlb.leave(0);
	other.asid = 1;
	vmrun(0, other, 0);
	EXPECT_FALSE(tlb.stale().empty());
	EXPECT_FALSE(tlb.errors().empty());
	tlb.leave(0);
	vmrun(0, other, 3);
	EXPECT_TRUE(tlb.stale().empty());
}

TEST_F(NptTlb, invlpga_leaves_nested_translations)
{
	vmrun(0, one, 0);
	memory.words[0x4000] = 0;
	tlb.leave(0);
	tlb.invlpga(0, 0, 1);
	vmrun(0, one, 0);
	ASSERT_EQ(tlb.stale().size(), 1u);
	EXPECT_NE(tlb.stale()[0].find("guest-physical"), std::string::npos);
}

TEST_F(NptTlb, a_nested_fault_forgets_nothing)
{
	memory.words[0x4000] &= ~u64(2);
	vmrun(0, one, 0);
	memory.words[0x4000] = 0;
	EXPECT_FALSE(tlb.access(0, 0, Access::Write).ok());
	EXPECT_EQ(tlb.stale().size(), 3u);
}

TEST_F(NptTlb, controls_that_the_cpu_lacks_are_errors)
{
	model::npt::Tlb old(walker, 1, false);

	old.vmrun(0, walker.decode(one), 3);
	old.vmrun(0, walker.decode(one), 7);
	EXPECT_EQ(old.errors().size(), 2u);
	for (unsigned control : {2, 4, 5, 6, 8}) {
		vmrun(0, one, control);
	}
	EXPECT_EQ(tlb.errors().size(), 5u);
	EXPECT_EQ(tlb.count(), 0u) << "the guest was not entered";
	one.asid = 0;
	vmrun(0, one, 0);
	EXPECT_EQ(tlb.errors().size(), 6u);
}

} // namespace
