// A guest's own page tables, of each kind, walked by software: tables are written by hand, as the
// manual draws them.
#include "guest_test_machine.h"

extern "C" {
#include "../../arch/x86_64/cpureg.h"
#include "../../arch/x86_64/vwalk.h"
}

namespace
{

class VWalk : public GuestMachine
{
      protected:
	static constexpr u64 P = 1, LARGE = BIT(7);

	void put64(u64 at, u64 entry)
	{
		ASSERT_EQ(vm_memory_write(vm, gpa(RAM + at), &entry, 8), OK);
	}

	void put32(u64 at, u32 entry)
	{
		ASSERT_EQ(vm_memory_write(vm, gpa(RAM + at), &entry, 4), OK);
	}

	// The address, or ~0 where nothing is.
	u64 walk(struct vwalk_paging p, u64 at)
	{
		gpa_t where;

		return vwalk(vm, &p, at, &where) ? where.v : ~0ull;
	}
};

TEST_F(VWalk, without_paging_an_address_is_itself_in_32_bits)
{
	EXPECT_EQ(walk({CR0_PE, 0, 0, 0}, 0x12345678), 0x12345678u);
	EXPECT_EQ(walk({CR0_PE, 0, 0, 0}, 0x100000010), 0x10u);
}

TEST_F(VWalk, four_levels_with_pages_of_all_sizes)
{
	struct vwalk_paging p = {CR0_PE | CR0_PG, RAM | 0x18, CR4_PAE, EFER_LME | EFER_LMA};

	put64(0x0000 + 8 * 511, (RAM + 0x1000) | P); // the top half's last 512 GiB
	put64(0x1000 + 8 * 510, (RAM + 0x2000) | P);
	put64(0x1000 + 8 * 5, GIB(7) | LARGE | P);
	put64(0x2000 + 8 * 3, (RAM + 0x3000) | P);
	put64(0x2000 + 8 * 4, MIB(6) | LARGE | P | BIT(12)); // PAT bit: not of the address
	put64(0x3000 + 8 * 9, BIT(63) | 0xabc000 | P);	     // no-execute
	EXPECT_EQ(walk(p, 0xffffffff80600000 + 9 * 0x1000 + 0x123), 0xabc123u);
	EXPECT_EQ(walk(p, 0xffffffff80800000 + 0x12345), MIB(6) + 0x12345);
	EXPECT_EQ(walk(p, 0xffffff8140000000 + 0x3456789), GIB(7) + 0x3456789);
	EXPECT_EQ(walk(p, 0xffffffff80600000 + 8 * 0x1000), ~0ull) << "a page that is not there";
	EXPECT_EQ(walk(p, 0xffffffff80000000), ~0ull) << "a table that is not there";
	EXPECT_EQ(walk(p, 0), ~0ull);
}

TEST_F(VWalk, a_large_bit_means_nothing_where_there_are_no_large_pages)
{
	struct vwalk_paging p = {CR0_PE | CR0_PG, RAM, CR4_PAE, EFER_LME | EFER_LMA};

	put64(0x0000, (RAM + 0x1000) | P | LARGE); // reserved in the top level: read as a table
	put64(0x1000, GIB(2) | LARGE | P);
	EXPECT_EQ(walk(p, 5), GIB(2) + 5);
}

TEST_F(VWalk, pae_has_four_pointers_and_large_pages_of_2_mib)
{
	struct vwalk_paging p = {CR0_PE | CR0_PG, RAM + 0x20, CR4_PAE, 0};

	put64(0x0020 + 8 * 3, (RAM + 0x1000) | P);
	put64(0x1000 + 8 * 511, BIT(35) | LARGE | P);
	put64(0x1000 + 8 * 1, (RAM + 0x2000) | P);
	put64(0x2000 + 8 * 2, 0x777000 | P);
	EXPECT_EQ(walk(p, 0xffe00000 + 0x1ffff), BIT(35) + 0x1ffff);
	EXPECT_EQ(walk(p, 0xc0202004), 0x777004u);
	EXPECT_EQ(walk(p, 0x40000000), ~0ull);
}

TEST_F(VWalk, tables_of_32_bits_have_pages_of_4_mib_only_with_pse)
{
	struct vwalk_paging p = {CR0_PE | CR0_PG, RAM, CR4_PSE, 0};

	put32(0x0000 + 4 * 1023, 0xc00000 | 5 << 13 | LARGE | P); // address bits 39..32: 5
	put32(0x0000 + 4 * 1, (u32)(RAM + 0x1000) | LARGE | P);
	put32(0x1000 + 4 * 7, 0x999000 | P);
	EXPECT_EQ(walk(p, 0xffc12345), 5 * GIB(4) + 0xc12345);
	p.cr4 = 0;
	EXPECT_EQ(walk(p, 0x407008), 0x999008u) << "the bit is ignored without PSE";
	EXPECT_EQ(walk(p, 0x408000), ~0ull);
}

TEST_F(VWalk, tables_outside_ram_end_the_walk)
{
	EXPECT_EQ(walk({CR0_PE | CR0_PG, 0x1000, CR4_PAE, EFER_LME | EFER_LMA}, 0), ~0ull);
	put64(0x0000, (RAM + RAM_SIZE) | P);
	EXPECT_EQ(walk({CR0_PE | CR0_PG, RAM, CR4_PAE, EFER_LME | EFER_LMA}, 0), ~0ull);
}

// ---- As the CPU's own access ------------------------------------------------------------------

class VWalkAccess : public VWalk
{
      protected:
	static constexpr u64 W = 2, U = 4, A = BIT(5), D = BIT(6), NX = BIT(63);
	static constexpr u64 LEAF = 0x3000; // of address 0, in four levels
	static constexpr struct vwalk_use READ = {}, WRITE = {true, false, false},
					  USER = {false, true, false},
					  USER_WRITE = {true, true, false},
					  SMAP = {false, false, true};

	struct vwalk_paging paging = {CR0_PE | CR0_PG | CR0_WP, RAM, CR4_PAE,
				      EFER_LME | EFER_LMA | EFER_NXE, BITS(63, 40)};
	u32 error = 0;
	gpa_t where = {};

	// Four levels to one page of 4 KiB; the entry of level n has flags[n].
	void build(std::initializer_list<u64> flags)
	{
		const u64 *f = flags.begin();

		put64(0x0000, (RAM + 0x1000) | f[3]);
		put64(0x1000, (RAM + 0x2000) | f[2]);
		put64(0x2000, (RAM + 0x3000) | f[1]);
		put64(0x3000, 0xabc000 | f[0]);
	}

	u64 entry(u64 at)
	{
		u64 value = 0;

		EXPECT_EQ(vm_memory_read(vm, gpa(RAM + at), &value, 8), OK);
		return value;
	}

	// The page fault's error code; ~0: there was none.
	u32 fault_of(struct vwalk_use use, u64 at = 0)
	{
		error = 0;
		switch (vwalk_access(vm, &paging, at, use, &where, &error)) {
		case VWALK_OK:
			return ~0u;
		case VWALK_FAULT:
			return error;
		default:
			ADD_FAILURE() << "neither";
			return 0;
		}
	}
};

constexpr struct vwalk_use VWalkAccess::READ, VWalkAccess::WRITE, VWalkAccess::USER,
	VWalkAccess::USER_WRITE, VWalkAccess::SMAP;

TEST_F(VWalkAccess, a_read_marks_the_whole_way_accessed_and_a_write_its_leaf_dirty)
{
	build({P | W, P | W, P | W, P | W});
	EXPECT_EQ(fault_of(READ, 0x123), ~0u);
	EXPECT_EQ(where.v, 0xabc123u);
	for (u64 level : {0x0000, 0x1000, 0x2000, 0x3000}) {
		EXPECT_EQ(entry(level) & (A | D), A) << level;
	}
	EXPECT_EQ(fault_of(WRITE), ~0u);
	EXPECT_EQ(entry(LEAF) & (A | D), A | D);
	EXPECT_EQ(entry(0x2000) & (A | D), A);
}

TEST_F(VWalkAccess, what_is_refused_marks_nothing)
{
	build({P, P | W, P | W, P | W});
	EXPECT_EQ(fault_of(WRITE), 3u);
	EXPECT_EQ(entry(0x0000) & (A | D), 0u);
	EXPECT_EQ(entry(LEAF) & (A | D), 0u);
}

TEST_F(VWalkAccess, where_nothing_is_the_code_says_who_and_what_for)
{
	build({0, P | W | U, P | W | U, P | W | U});
	EXPECT_EQ(fault_of(READ), 0u);
	EXPECT_EQ(fault_of(WRITE), 2u);
	EXPECT_EQ(fault_of(USER), 4u);
	EXPECT_EQ(fault_of(USER_WRITE), 6u);
	build({P, 0, P, P});
	EXPECT_EQ(fault_of(READ), 0u) << "a table that is not there";
}

TEST_F(VWalkAccess, every_level_has_to_allow_a_user_and_a_write)
{
	constexpr u64 ALL = P | W | U;

	build({ALL, ALL, ALL, ALL});
	EXPECT_EQ(fault_of(USER_WRITE), ~0u);
	for (int level = 0; level < 4; level++) {
		u64 f[4] = {ALL, ALL, ALL, ALL};

		f[level] = P | W;
		build({f[0], f[1], f[2], f[3]});
		EXPECT_EQ(fault_of(USER), 5u) << level;
		EXPECT_EQ(fault_of(USER_WRITE), 7u) << level;
		EXPECT_EQ(fault_of(WRITE), ~0u) << level;
		f[level] = P | U;
		build({f[0], f[1], f[2], f[3]});
		EXPECT_EQ(fault_of(USER), ~0u) << level;
		EXPECT_EQ(fault_of(USER_WRITE), 7u) << level;
		EXPECT_EQ(fault_of(WRITE), 3u) << level;
	}
}

TEST_F(VWalkAccess, without_wp_a_supervisor_writes_everywhere_and_a_user_does_not)
{
	paging.cr0 = CR0_PE | CR0_PG;
	build({P | U, P | U, P | U, P | U});
	EXPECT_EQ(fault_of(WRITE), ~0u);
	EXPECT_EQ(fault_of(USER_WRITE), 7u);
}

TEST_F(VWalkAccess, smap_keeps_a_supervisor_out_of_users_pages_alone)
{
	build({P | U, P | U, P | U, P | U});
	EXPECT_EQ(fault_of(SMAP), 1u);
	EXPECT_EQ(fault_of({false, true, true}), ~0u) << "users go on";
	build({P, P | U, P | U, P | U});
	EXPECT_EQ(fault_of(SMAP), ~0u) << "one level is the supervisor's, so the page is";
}

TEST_F(VWalkAccess, reserved_bits_are_faults_of_their_own)
{
	build({P | BIT(40), P, P, P});
	EXPECT_EQ(fault_of(READ), 9u) << "an address bit that the CPU does not have";
	build({P | NX, P | NX, P, P});
	EXPECT_EQ(fault_of(READ), ~0u) << "nothing is executed";
	paging.efer &= ~EFER_NXE;
	EXPECT_EQ(fault_of(WRITE), 11u) << "there is no such bit";
	paging.efer |= EFER_NXE;
	build({P, P, P, P | LARGE});
	EXPECT_EQ(fault_of(USER), 13u) << "the top level has no large pages";
	build({P, P | BIT(52), P, P});
	EXPECT_EQ(fault_of(READ), ~0u) << "ignored in long mode";
}

TEST_F(VWalkAccess, large_pages_have_reserved_bits_below_their_address)
{
	build({0, 0, P, P});
	put64(0x2000, MIB(4) | LARGE | P | BIT(12));
	EXPECT_EQ(fault_of(WRITE, 0x1234), 3u);
	put64(0x2000, MIB(4) | LARGE | P | W | BIT(12));
	EXPECT_EQ(fault_of(READ, 0x1234), ~0u);
	EXPECT_EQ(where.v, MIB(4) + 0x1234);
	put64(0x2000, MIB(4) | LARGE | P | BIT(13));
	EXPECT_EQ(fault_of(READ), 9u);
	put64(0x1000, GIB(1) | LARGE | P | BIT(29));
	EXPECT_EQ(fault_of(READ), 9u);
}

TEST_F(VWalkAccess, pae_has_pointers_without_rights_and_without_flags)
{
	paging = {CR0_PE | CR0_PG | CR0_WP, RAM, CR4_PAE, EFER_NXE, BITS(63, 40)};
	put64(0x0000, (RAM + 0x1000) | P);
	put64(0x1000, (RAM + 0x2000) | P | W | U);
	put64(0x2000, 0x5000 | P | W | U);
	EXPECT_EQ(fault_of(USER_WRITE, 0x10), ~0u);
	EXPECT_EQ(where.v, 0x5010u);
	EXPECT_EQ(entry(0x0000) & (A | D), 0u);
	EXPECT_EQ(entry(0x1000) & (A | D), A);
	EXPECT_EQ(entry(0x2000) & (A | D), A | D);
	put64(0x2000, 0x5000 | P | BIT(52));
	EXPECT_EQ(fault_of(READ), 9u);
}

TEST_F(VWalkAccess, tables_of_32_bits_are_marked_and_nothing_beside_them)
{
	paging = {CR0_PE | CR0_PG | CR0_WP, RAM, CR4_PSE, 0, BITS(63, 36)};
	put32(0x0000 + 4 * 2, (u32)(RAM + 0x1000) | P | W);
	put32(0x0000 + 4 * 3, 0xc00000 | LARGE | P | W | BIT(21));
	put32(0x0000 + 4 * 4, 0xc00000 | LARGE | P | W | BIT(17));
	put32(0x0000 + 4 * 5, 0xc00000 | LARGE | P | W | BIT(16));
	put32(0x1000 + 4 * 7, 0x999000 | P | W);
	put32(0x1000 + 4 * 8, 0x111111);
	EXPECT_EQ(fault_of(WRITE, 0x807008), ~0u);
	EXPECT_EQ(where.v, 0x999008u);
	EXPECT_EQ((u32)(entry(0x1000 + 4 * 7)), 0x999000 | P | W | A | D);
	EXPECT_EQ(entry(0x1000 + 4 * 7) >> 32, 0x111111u);
	EXPECT_EQ(fault_of(READ, 0xc00000), 9u);
	EXPECT_EQ(fault_of(READ, 0x1000000), 9u) << "address bit 36 of 36";
	EXPECT_EQ(fault_of(READ, 0x1400000), ~0u);
	EXPECT_EQ(where.v, BIT(35) + 0xc00000);
}

TEST_F(VWalkAccess, a_table_outside_of_ram_is_not_there)
{
	build({P, P, P, P});
	put64(0x1000, (RAM + RAM_SIZE) | P);
	EXPECT_EQ(fault_of(READ), 0u);
	paging.cr0 = CR0_PE;
	EXPECT_EQ(fault_of(READ, 0x10), ~0u) << "without paging nobody looks";
	EXPECT_EQ(where.v, 0x10u);
}

} // namespace
