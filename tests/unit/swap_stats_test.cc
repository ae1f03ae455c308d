/* What overcommit says about itself: samples, and what is counted for them. */
#include "swap_test_machine.h"

#include <sstream>
#include <string>

extern "C" {
#include "hyp/console.h"
#include "hyp/swap_stats.h"
}

namespace
{

class SwapStats : public SwapTest
{
      protected:
	void begin(u64 memory = MIB(8))
	{
		add_guest(memory);
		build();
		console_init(true);
	}

	// All that a sample prints behind `mark`, put together.
	std::string sample(const std::string &mark)
	{
		std::string line, text;

		fake_uart_clear();
		swap_stats_sample();
		std::istringstream lines(fake_uart_output());
		while (std::getline(lines, line)) {
			if (line.rfind(mark, 0) == 0) {
				EXPECT_LT(line.size(), 200u);
				text += line.substr(mark.size(),
						    line.find_last_not_of("\r") + 1 - mark.size());
			}
		}
		return text;
	}

	u64 faults_from(u32 source) const
	{
		return swap_latency_count(&swap->totals.latency[source]);
	}
};
INSTANTIATE_TEST_SUITE_P(formats, SwapStats, testing::Values(S2Kind{"armv8", &s2_armv8_4k, true}),
			 s2_kind_name);

bool contains(const std::string &text, const std::string &part)
{
	return text.find(part) != text.npos;
}

/* ---- How long faults took -------------------------------------------------------------------- */

TEST(SwapLatency, bins_are_powers_of_two)
{
	struct swap_latency latency = {};

	for (u64 ticks : {0, 1, 2, 3, 4, 7, 8}) {
		swap_latency_note(&latency, ticks);
	}
	EXPECT_EQ(latency.bins[0], 2u);
	EXPECT_EQ(latency.bins[1], 2u);
	EXPECT_EQ(latency.bins[2], 2u);
	EXPECT_EQ(latency.bins[3], 1u);
	EXPECT_EQ(latency.ticks, 25u);
	EXPECT_EQ(swap_latency_count(&latency), 7u);
	swap_latency_note(&latency, ~0ull >> 1);
	EXPECT_EQ(latency.bins[SWAP_LATENCY_BINS - 1], 1u);
}

TEST(SwapLatency, each_source_has_its_name)
{
	const char *const names[] = {"fresh", "zero", "same", "zswap", "disk", "rescued", "shared"};

	ASSERT_EQ(sizeof(names) / sizeof(names[0]), (size_t)SWAP_SOURCES);
	for (u32 source = 0; source < SWAP_SOURCES; source++) {
		EXPECT_STREQ(swap_source_name((enum swap_source)source), names[source]);
	}
}

TEST_P(SwapStats, faults_are_counted_by_where_their_page_was)
{
	begin();
	for (u64 page = 0; page < 64; page++) {
		write_page(vm, page, 1);
	}
	EXPECT_EQ(faults_from(SWAP_FROM_FRESH), 64u);
	watch(vm);
	ASSERT_EQ(out(swap, 64), 64u);
	for (u64 page = 0; page < 32; page++) {
		read(vm, page);
		read(vm, page); // is there, so no fault
	}
	EXPECT_EQ(faults_from(SWAP_FROM_FRESH), 64u);
	EXPECT_EQ(faults_from(SWAP_FROM_STORES + STORE_zero), 4u);
	EXPECT_EQ(faults_from(SWAP_FROM_STORES + STORE_same), 4u);
	EXPECT_EQ(faults_from(SWAP_FROM_STORES + STORE_zswap), 24u);
	EXPECT_EQ(swap_latency_count(&swap->room), 0u);
}

TEST_P(SwapStats, waiting_for_room_is_apart_from_the_fault_that_is_answered)
{
	begin(MIB(16));
	for (u64 page = 0; page < 3000; page++) {
		write_page(vm, page, 1);
	}
	EXPECT_EQ(faults_from(SWAP_FROM_FRESH), 3000u);
	EXPECT_GT(swap_latency_count(&swap->room), 0u);
}

TEST_P(SwapStats, a_sample_has_as_many_bins_as_it_takes)
{
	begin();
	swap_latency_note(&swap->totals.latency[SWAP_FROM_FRESH], 5);
	swap_latency_note(&swap->totals.latency[SWAP_FROM_FRESH], 1);

	std::string text = sample("[stats] ");

	EXPECT_TRUE(contains(text, "\"fault_latency\":{\"fresh\":{\"count\":2,\"ticks\":6,"
				   "\"log2_ticks\":[1,0,1]},\"zero\":{\"count\":0,\"ticks\":0,"
				   "\"log2_ticks\":[]},"))
		<< text;
}

} // namespace
