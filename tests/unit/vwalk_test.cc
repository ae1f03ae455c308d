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

} // namespace
