/* What overcommit says about itself: samples, and what is counted for them. */
#include "swap_test_machine.h"

#include <algorithm>
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
	void begin(u64 memory = MIB(8), bool small_pages = true)
	{
		add_guest(memory, small_pages);
		build();
		console_init(true);
		swap_stats_init(&config);
	}

	void TearDown() override
	{
		const struct config none = {};

		swap_stats_init(&none);
		SwapTest::TearDown();
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

/* ---- Where pages were used, and which -------------------------------------------------------- */

TEST_P(SwapStats, without_being_asked_for_nothing_goes_with_a_sample)
{
	begin();
	write_page(vm, 0, 1);
	EXPECT_EQ(sample("[heat] "), "");
	EXPECT_EQ(sample("[trace] "), "");
}

TEST_P(SwapStats, heat_is_the_pages_of_each_block_that_were_used_in_the_round)
{
	config.heatmap = true;
	begin();
	for (u64 page : {0, 1, 511, 1024, 2047}) {
		write_page(vm, page, 1);
		access(vm, page);
	}
	EXPECT_TRUE(contains(sample("[heat] "), "\"id\":1,\"part_pages\":512,\"used\":[3,0,1,1]}"));
	access(vm, 1);
	access(vm, 2047);
	EXPECT_TRUE(contains(sample("[heat] "), "\"used\":[1,0,0,1]}"));
	EXPECT_TRUE(contains(sample("[heat] "), "\"used\":[0,0,0,0]}"));
}

TEST_P(SwapStats, heat_of_a_large_guest_is_of_64_shares)
{
	config.heatmap = true;
	begin(GIB(1) + MIB(128));
	for (u64 page : {0, 4607, 4608}) { // a share is 18 MiB
		write_page(vm, page, 1);
		access(vm, page);
	}

	std::string text = sample("[heat] ");

	EXPECT_TRUE(contains(text, "\"part_pages\":4608,\"used\":[2,1,0,")) << text;
	EXPECT_EQ(std::count(text.begin(), text.end(), ','), 2 + 64);
}

TEST_P(SwapStats, a_block_that_is_mapped_as_one_was_used_as_a_whole)
{
	config.heatmap = config.trace = true;
	config.guest_memory = MIB(32);
	begin(MIB(8), false);
	write_page(vm, 700, 1);
	access(vm, 700);
	EXPECT_TRUE(contains(sample("[heat] "), "\"used\":[0,512,0,0]}"));
	access(vm, 700);
	EXPECT_TRUE(contains(sample("[trace] "), "\"runs\":[[512,512]]"));
}

TEST_P(SwapStats, a_trace_has_each_page_of_the_round_once_by_address)
{
	config.trace = true;
	begin();
	for (u64 page : {7, 3, 4, 5, 2047, 0}) {
		write_page(vm, page, 1);
		access(vm, page);
		access(vm, page);
	}
	EXPECT_TRUE(contains(sample("[trace] "), "\"id\":1,\"runs\":[[0,1],[3,3],[7,1],"
						 "[2047,1]],\"left_out\":0}"));
	access(vm, 4);
	EXPECT_TRUE(contains(sample("[trace] "), "\"runs\":[[4,1]],\"left_out\":0}"));
	EXPECT_TRUE(contains(sample("[trace] "), "\"runs\":[],\"left_out\":0}"));
}

TEST_P(SwapStats, what_does_not_fit_into_a_trace_is_counted)
{
	config.trace = true;
	config.guest_memory = MIB(60);
	begin(MIB(48));
	for (u64 page = 0; page < 9000; page += 2) {
		write_page(vm, page, 1);
		access(vm, page);
	}

	std::string text = sample("[trace] ");

	EXPECT_TRUE(contains(text, "[8188,1],[8190,1]],\"left_out\":404}"))
		<< text.substr(text.size() - 60);
}

TEST_P(SwapStats, of_a_guest_that_has_ended_there_is_neither)
{
	config.heatmap = config.trace = true;
	begin();
	vm->state = VM_OFF;
	EXPECT_EQ(sample("[heat] "), "");
	EXPECT_EQ(sample("[trace] "), "");
}

} // namespace
