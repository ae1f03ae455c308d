// Faults that come while an exception is delivered, as the manual's tables have them (SDM volume
// 3A, 6.15).
#include <gtest/gtest.h>

extern "C" {
#include "../../arch/x86_64/vfault.h"
}

namespace
{

constexpr u8 DE = 0, DB = 1, UD = 6, DF = 8, TS = 10, NP = 11, SS = 12, GP = 13, PF = 14, AC = 17;
constexpr u8 CONTRIBUTORY[] = {DE, TS, NP, SS, GP};
constexpr u8 BENIGN[] = {DB, UD, AC};

TEST(VFault, a_benign_exception_before_or_behind_changes_nothing)
{
	for (u8 benign : BENIGN) {
		for (u8 other : {DE, DB, UD, TS, NP, SS, GP, PF, AC}) {
			EXPECT_EQ(vfault_combine(benign, other), other) << +benign << " " << +other;
			EXPECT_EQ(vfault_combine(other, benign), benign)
				<< +other << " " << +benign;
		}
	}
}

TEST(VFault, two_contributory_ones_are_a_double_fault)
{
	for (u8 first : CONTRIBUTORY) {
		for (u8 second : CONTRIBUTORY) {
			EXPECT_EQ(vfault_combine(first, second), DF) << +first << " " << +second;
		}
	}
}

TEST(VFault, a_page_fault_behind_a_contributory_one_is_itself)
{
	for (u8 first : CONTRIBUTORY) {
		EXPECT_EQ(vfault_combine(first, PF), PF) << +first;
	}
}

TEST(VFault, a_page_fault_and_any_fault_but_a_benign_one_are_a_double_fault)
{
	for (u8 second : CONTRIBUTORY) {
		EXPECT_EQ(vfault_combine(PF, second), DF) << +second;
	}
	EXPECT_EQ(vfault_combine(PF, PF), DF);
}

TEST(VFault, a_fault_in_a_double_fault_is_the_end)
{
	for (u8 second : CONTRIBUTORY) {
		EXPECT_EQ(vfault_combine(DF, second), VFAULT_SHUTDOWN) << +second;
	}
	EXPECT_EQ(vfault_combine(DF, PF), VFAULT_SHUTDOWN);
}

} // namespace
