/* The operator's commands about overcommit, on guests whose pages are taken away. */
#include "swap_test_machine.h"

#include <string>

extern "C" {
#include "hyp/console.h"
#include "hyp/ksm.h"
#include "hyp/monitor.h"
}

namespace
{

class MonitorSwap : public SwapTest
{
      protected:
	void begin(u64 pages)
	{
		config.guest_memory = MIB(32);
		add_guest(MIB(8));
		build();
		console_init(true);
		for (u64 page = 0; page < pages; page++) {
			write_page(vm, page, 1);
			access(vm, page);
		}
	}

	std::string run(const char *words)
	{
		char line[MONITOR_LINE_MAX];

		fake_uart_clear();
		std::snprintf(line, sizeof(line), "%s", words);
		monitor_run(line);
		return fake_uart_output();
	}
};
INSTANTIATE_TEST_SUITE_P(formats, MonitorSwap, testing::Values(S2Kind{"armv8", &s2_armv8_4k, true}),
			 s2_kind_name);

bool contains(const std::string &text, const std::string &part)
{
	return text.find(part) != text.npos;
}

TEST_P(MonitorSwap, reclaim_takes_as_much_as_was_asked_for)
{
	begin(1024);
	EXPECT_TRUE(contains(run("reclaim d1 2M"), "d1 guest1 gave 2 MiB"));
	EXPECT_EQ(swap->charged, 512u);
	EXPECT_TRUE(contains(run("reclaim d1 64M"), "gave 2 MiB")) << "there is no more";
	EXPECT_TRUE(contains(run("reclaim d1 much"), "much is no size; write 256M"));
	EXPECT_TRUE(contains(run("reclaim d1"), "too few words"));
}

TEST_P(MonitorSwap, mem_max_is_shown_and_set)
{
	begin(16);
	EXPECT_TRUE(contains(run("mem-max d1"), "d1 guest1 has 64 KiB, and may have 8 MiB"));
	EXPECT_TRUE(contains(run("mem-max d1 4M"), "and may have 4 MiB"));
	EXPECT_EQ(swap->max, 1024u);
	EXPECT_TRUE(contains(run("mem-max d1 0"), "0 is no size"));
	EXPECT_EQ(swap->max, 1024u);
}

TEST_P(MonitorSwap, swap_says_where_pages_are)
{
	begin(1024);
	run("reclaim d1 4M");
	std::string text = run("swap");

	EXPECT_TRUE(contains(text, "d1   guest1"));
	EXPECT_TRUE(contains(text, "zswap"));
	EXPECT_TRUE(contains(text, "512 KiB")) << "an eighth of them is zero\n" << text;
	EXPECT_TRUE(contains(text, "of 32 MiB; the pool"));
}

TEST_P(MonitorSwap, ksm_is_turned_on_and_off_and_says_what_it_found)
{
	begin(0);
	ASSERT_EQ(ksm_init(&config), OK);
	for (u64 page = 0; page < 9; page++) {
		ASSERT_EQ(write(vm, page, content(2, 1).data()), OK);
	}
	EXPECT_TRUE(contains(run("ksm"), "ksm is off"));
	ksm_tick();
	EXPECT_EQ(ksm_counters().full_scans, 0u);
	EXPECT_TRUE(contains(run("ksm on"), "ksm is on"));
	for (u64 round = 0; round < 4; round++) {
		ksm_tick();
	}
	std::string text = run("ksm");

	EXPECT_TRUE(contains(text, "pages_shared               1")) << text;
	EXPECT_TRUE(contains(text, "pages_sharing              8")) << text;
	EXPECT_TRUE(contains(run("swap"), "36 KiB")) << "nine pages are shared";
	EXPECT_TRUE(contains(run("ksm perhaps"), "perhaps is neither on nor off"));
	EXPECT_TRUE(ksm_is_on());
	EXPECT_TRUE(contains(run("ksm off"), "ksm is off"));
	EXPECT_FALSE(ksm_is_on());
	ksm_fini();
}

TEST_P(MonitorSwap, wss_counts_rounds_and_access_draws_them)
{
	begin(256);
	std::string text = run("wss d1");

	EXPECT_TRUE(contains(text, "1 round:       1 MiB")) << text;
	text = run("access d1");
	EXPECT_TRUE(contains(text, "each character is 8 KiB")) << text;
	EXPECT_TRUE(contains(text, "|" + std::string(64, '@') + "|")) << text;
	EXPECT_TRUE(contains(text, "|" + std::string(64, ' ') + "|")) << text;
}

TEST_P(MonitorSwap, a_guest_that_has_ended_is_left_alone)
{
	begin(4);
	vm->state = VM_OFF;
	for (const char *line : {"wss d1", "access d1", "mem-max d1 4M", "reclaim d1 1M"}) {
		EXPECT_TRUE(contains(run(line), "d1 guest1 has ended")) << line;
	}
}

} // namespace
