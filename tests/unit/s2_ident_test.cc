// Identities (VMIDs): given out, kept while loaded, taken anew after a rollover.
#include "s2_test_machine.h"

#include <set>

namespace
{

class Ident : public ::testing::TestWithParam<bool>
{
      protected:
	void SetUp() override
	{
		fake_broadcasts = GetParam();
		fake_cpus(2);
		fake_tlb_clear();
		fake_memory(MIB(16));
		s2_ident_init(2); // numbers 1..3: a rollover comes soon
		rollovers_before = s2_ident_rollovers;
		for (struct s2 &s2 : spaces) {
			ASSERT_EQ(s2_init(&s2, arch_s2_format(), 40, 1), OK);
		}
	}

	void TearDown() override
	{
		for (u32 cpu = 0; cpu < 2; cpu++) {
			fake_cpu_become(cpu);
			s2_ident_unload();
		}
		fake_cpu_become(0);
		s2_ident_init(16);
	}

	u64 rollovers()
	{
		return s2_ident_rollovers - rollovers_before;
	}

	struct s2 spaces[8] = {};
	u64 rollovers_before = 0;
};

TEST_P(Ident, spaces_that_fit_get_different_numbers)
{
	std::set<u64> numbers;

	for (int i = 0; i < 3; i++) {
		s2_ident_load(&spaces[i]);
		numbers.insert(S2_IDENT_NUMBER(spaces[i].ident));
	}
	EXPECT_EQ(numbers.size(), 3u);
	EXPECT_EQ(numbers.count(0), 0u);
	EXPECT_EQ(rollovers(), 0u);
}

TEST_P(Ident, loading_again_keeps_the_number)
{
	u64 ident;

	s2_ident_load(&spaces[0]);
	ident = spaces[0].ident;
	s2_ident_load(&spaces[1]);
	s2_ident_load(&spaces[0]);
	EXPECT_EQ(spaces[0].ident, ident);
}

TEST_P(Ident, a_space_has_one_number_on_all_cpus)
{
	u64 ident;

	s2_ident_load(&spaces[0]);
	ident = spaces[0].ident;
	fake_cpu_become(1); // which has nothing loaded
	s2_ident_load(&spaces[0]);
	EXPECT_EQ(spaces[0].ident, ident);
	s2_ident_load(&spaces[1]);
	s2_ident_load(&spaces[2]);
	EXPECT_EQ(rollovers(), 0u) << "a number was given twice";
	fake_cpu_become(0);
}

TEST_P(Ident, running_out_rolls_over_and_what_is_loaded_elsewhere_keeps_its_number)
{
	u64 number;

	fake_cpu_become(1);
	s2_ident_load(&spaces[7]);
	number = S2_IDENT_NUMBER(spaces[7].ident);
	fake_cpu_become(0);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 6; i++) {
			s2_ident_load(&spaces[i]);
			EXPECT_NE(S2_IDENT_NUMBER(spaces[i].ident), number)
				<< "two guests with one VMID at a time";
			EXPECT_NE(S2_IDENT_NUMBER(spaces[i].ident), 0u);
		}
	}
	EXPECT_GT(rollovers(), 0u);
	fake_cpu_become(1);
	s2_ident_load(&spaces[7]);
	EXPECT_EQ(S2_IDENT_NUMBER(spaces[7].ident), number);
	fake_cpu_become(0);
}

// After a rollover a number means another space: nothing that a TLB held under it may be left.
TEST_P(Ident, a_rollover_forgets_what_every_tlb_held)
{
	hpa_t frame = frame_alloc(ORDER_4K, FRAME_GUEST, 1), out;
	u64 before;

	ASSERT_EQ(s2_map_leaf(&spaces[0], gpa(0), 0, frame, kRwx), OK);
	s2_ident_load(&spaces[0]);
	ASSERT_EQ(fake_access(&spaces[0], gpa(0), S2_READ, &out), FAKE_OK);
	before = rollovers();
	for (int i = 1; i < 7; i++) {
		s2_ident_load(&spaces[i]);
	}
	EXPECT_GT(rollovers(), before);
	EXPECT_FALSE(fake_tlb_holds(&spaces[0], gpa(0)));
}

// What a CPU had loaded at a rollover may be renewed by another one. That renews nothing in this
// CPU's TLB.
TEST_P(Ident, a_space_that_another_cpu_renewed_keeps_that_and_the_flush_is_not_forgotten)
{
	hpa_t frame = frame_alloc(ORDER_4K, FRAME_GUEST, 1), out;
	u64 old, renewed;

	ASSERT_EQ(s2_map_leaf(&spaces[7], gpa(0), 0, frame, kRwx), OK);
	fake_cpu_become(1);
	s2_ident_load(&spaces[7]);
	ASSERT_EQ(fake_access(&spaces[7], gpa(0), S2_READ, &out), FAKE_OK);
	old = spaces[7].ident;
	fake_cpu_become(0);
	for (int i = 0; rollovers() == 0; i++) {
		s2_ident_load(&spaces[i]);
	}
	s2_ident_load(&spaces[7]);
	renewed = spaces[7].ident;
	EXPECT_NE(renewed, old);
	EXPECT_EQ(S2_IDENT_NUMBER(renewed), S2_IDENT_NUMBER(old)) << "it runs with that";
	fake_cpu_become(1);
	EXPECT_EQ(fake_tlb_holds(&spaces[7], gpa(0)), !GetParam());
	s2_ident_load(&spaces[7]);
	EXPECT_EQ(spaces[7].ident, renewed);
	EXPECT_FALSE(fake_tlb_holds(&spaces[7], gpa(0)));
	fake_cpu_become(0);
	EXPECT_EQ(rollovers(), 1u);
}

INSTANTIATE_TEST_SUITE_P(machines, Ident, ::testing::Bool(),
			 [](const auto &info) { return info.param ? "broadcast" : "generations"; });

} // namespace
