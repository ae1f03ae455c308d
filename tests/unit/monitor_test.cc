/* The operator's commands: what they say, and that wrong words get an answer. */
#include "console_test_screen.h"

extern "C" {
#include "arch/s2.h"
#include "hyp/dev_virtio_balloon.h"
#include "hyp/vm_virtio.h"
}

namespace
{

class Monitor : public Screen
{
      protected:
	void SetUp() override
	{
		Screen::SetUp();
		console_set_focus(nullptr);
		shown();
	}
};

bool contains(const std::string &text, const std::string &part)
{
	return text.find(part) != text.npos;
}

/* ---- The line ------------------------------------------------------------------------------- */

TEST_F(Monitor, typed_line_is_echoed_run_and_prompted_again)
{
	type("log\r");
	EXPECT_EQ(shown(), "log\r\nlog level is info\r\nlamina> ");
}

TEST_F(Monitor, carriage_return_with_newline_is_one_line)
{
	type("log\r\n");
	EXPECT_EQ(lines_of(shown()).size(), 3u);
	type("\n");
	EXPECT_EQ(shown(), "\r\nlamina> ");
}

TEST_F(Monitor, line_can_be_edited)
{
	type("lox\x7fg\b\b\b\b\blog\r");
	EXPECT_TRUE(contains(shown(), "log level is"));
	type("rubbish\x15log\r");
	EXPECT_TRUE(contains(shown(), "log level is"));
	type("rubbish\x03");
	EXPECT_TRUE(contains(shown(), "^C\r\nlamina> "));
	type("log\r");
	EXPECT_TRUE(contains(shown(), "log level is"));
}

TEST_F(Monitor, cursor_keys_are_not_typed)
{
	type("lo\x1b[A\x1bOB\x1b[1;5Cg\r");
	EXPECT_TRUE(contains(shown(), "log level is"));
}

TEST_F(Monitor, line_longer_than_its_buffer_keeps_its_start)
{
	type(std::string(MONITOR_LINE_MAX + 50, 'a') + "\r");
	EXPECT_TRUE(contains(shown(), "no command aaaa"));
}

TEST_F(Monitor, typed_half_line_survives_a_guests_line)
{
	type("lo");
	shown();
	write(1, "news\n");
	EXPECT_EQ(shown(), "\r\x1b[K[d1] news\r\nlamina> lo");
	type("g\r");
	EXPECT_TRUE(contains(shown(), "log level is"));
}

TEST_F(Monitor, any_bytes_at_all_are_survived)
{
	u32 random = 1;

	for (u32 i = 0; i < 20000; i++) {
		random = random * 1664525 + 1013904223;
		u8 key = (u8)(random >> 24);

		/* Not what would really end or stop these guests. */
		monitor_key(key == 'q' || key == 'd' || key == 'p' || key == 'u' ? ' ' : key);
	}
	monitor_key(0x03);
	shown();
}

/* ---- Words ---------------------------------------------------------------------------------- */

TEST_F(Monitor, guests_are_named_by_number_or_name)
{
	for (const char *word : {"2", "d2", "linux1"}) {
		EXPECT_EQ(monitor_vm(word), &guest[1]) << word;
	}
	for (const char *word : {"", "d", "0", "d4", "linux", "linux11", "2x", "-1"}) {
		EXPECT_EQ(monitor_vm(word), nullptr) << word;
	}
	EXPECT_EQ(run("exits d9"), "no guest d9; there are d1 linux0, d2 linux1, d3 linux2\r\n");
	vm_count = 0;
	EXPECT_EQ(run("exits d1"), "no guest d1; there is none\r\n");
}

TEST_F(Monitor, a_name_wins_over_nothing_else)
{
	strcpy(guest[2].name, "d7");
	EXPECT_EQ(monitor_vm("d7"), &guest[2]);
}

TEST_F(Monitor, numbers_are_read_or_refused)
{
	u64 v;

	EXPECT_TRUE(monitor_number("0x40000000", &v) && v == GIB(1));
	EXPECT_TRUE(monitor_number("12", &v) && v == 12);
	EXPECT_TRUE(monitor_number("3G", &v) && v == GIB(3));
	EXPECT_TRUE(monitor_number("0xFFffFFFFffffffff", &v) && v == ~0ull);
	EXPECT_TRUE(monitor_number("18446744073709551615", &v) && v == ~0ull);
	for (const char *word : {"", "0x", "x", "18446744073709551616", "0x10000000000000000", "1T",
				 "1MM", "17179869184G", "12a", "-1", "1 "}) {
		EXPECT_FALSE(monitor_number(word, &v)) << word;
	}
}

TEST_F(Monitor, wrong_words_get_a_hint)
{
	EXPECT_EQ(run("lst"), "no command lst (did you mean \"list\"?)\r\n");
	EXPECT_EQ(run("frobnicate"), "no command frobnicate (help lists them)\r\n");
	EXPECT_EQ(run("pause"), "too few words: usage: pause GUEST\r\n");
	EXPECT_EQ(run("list d1"), "too many words: usage: list \r\n");
	EXPECT_EQ(run("list a b c d e f g h i j k"), "too many words: usage: list \r\n");
	EXPECT_EQ(run(""), "");
	EXPECT_EQ(run("   \t "), "");
}

TEST_F(Monitor, help_lists_every_command_or_one)
{
	std::string all = run("help");

	for (const char *name : {"help", "list", "stat", "exits", "dump", "pause", "unpause",
				 "destroy", "console", "log", "quit"}) {
		EXPECT_TRUE(contains(all, std::string("  ") + name + " ")) << name;
		EXPECT_TRUE(contains(run(std::string("help ") + name), name)) << name;
	}
	EXPECT_EQ(lines_of(run("help dump")).size(), 1u);
}

/* ---- Commands ------------------------------------------------------------------------------- */

TEST_F(Monitor, list_has_xls_columns_and_letters)
{
	vcpu[0].state = VCPU_RUNNABLE;
	vcpu[0].run_ns = 6123456789;
	guest[2].state = VM_PAUSED;

	std::vector<std::string> lines = lines_of(run("list"));

	ASSERT_EQ(lines.size(), 4u);
	EXPECT_EQ(lines[0],
		  "Name                             ID     Mem  VCPUs    State   Time(s)\r");
	EXPECT_EQ(lines[1],
		  "linux0                            1     256      1   r-----       6.1\r");
	EXPECT_EQ(lines[2],
		  "linux1                            2     256      1   -b----       0.0\r");
	EXPECT_EQ(lines[3],
		  "linux2                            3     256      1   --p---       0.0\r");
	guest[0].state = VM_OFF;
	guest[1].state = VM_CRASHED;
	guest[2].state = VM_DESTROYED;
	lines = lines_of(run("list"));
	EXPECT_TRUE(contains(lines[1], "---s--"));
	EXPECT_TRUE(contains(lines[2], "----c-"));
	EXPECT_TRUE(contains(lines[3], "-----d"));
}

TEST_F(Monitor, stat_shows_every_counter)
{
	u64 value = 1001;

#define X(name) guest[0].counters.name = value++;
	VM_COUNTERS(X)
#undef X
#define X(name) guest[0].s2.stats.name = value++;
	S2_STATS(X)
#undef X
	vcpu[0].run_ns = guest[0].counters.run_ns;
	vcpu[0].stolen_ns = guest[0].counters.stolen_ns;

	std::string text = run("stat d1");

	for (u64 v = 1001; v < value; v++) {
		char grouped[16];

		text_format(grouped, sizeof(grouped), " 1,%03u", (u32)(v - 1000));
		EXPECT_TRUE(contains(text, grouped)) << grouped << " in " << text;
	}
#define X(name) EXPECT_TRUE(contains(text, "  " #name " ")) << #name;
	VM_COUNTERS(X)
	S2_STATS(X)
#undef X
	EXPECT_FALSE(contains(text, "linux1"));
	EXPECT_TRUE(contains(run("stat"), "machine: frames"));
}

TEST_F(Monitor, exits_are_sorted_and_add_up)
{
	vcpu[0].exits[EXIT_IDLE] = 1;
	vcpu[0].exits[EXIT_MMIO] = 2000;
	vcpu[0].exits[EXIT_HYPERCALL] = 999;

	std::vector<std::string> lines = lines_of(run("exits linux0"));

	ASSERT_EQ(lines.size(), 5u);
	EXPECT_EQ(lines[0], "d1 linux0: 3,000 exits\r");
	EXPECT_EQ(lines[2], "  mmio                      2,000    66.66\r");
	EXPECT_EQ(lines[3], "  hypercall                   999    33.30\r");
	EXPECT_EQ(lines[4], "  idle                          1     0.03\r");
	EXPECT_EQ(run("exits d2"), "d2 linux1: 0 exits\r\n");
}

TEST_F(Monitor, verbs_refuse_guests_that_have_ended)
{
	guest[0].state = VM_OFF;
	for (const char *verb : {"pause", "unpause", "destroy", "console"}) {
		EXPECT_EQ(run(std::string(verb) + " d1"),
			  std::string("d1 linux0 has ended (") + vm_state_name(VM_OFF) + ")\r\n");
	}
	guest[1].state = VM_PAUSED;
	EXPECT_EQ(run("pause d2"), "d2 linux1 is paused already\r\n");
	EXPECT_EQ(run("unpause d3"), "d3 linux2 is not paused\r\n");
}

TEST_F(Monitor, balloon_sets_a_target_where_there_is_one)
{
	fake_memory(MIB(8));
	guest[0].ram.size = MIB(64);
	EXPECT_EQ(run("balloon d1 5"), "d1 linux0 has no balloon (lamina,balloon)\r\n");
	EXPECT_FALSE(contains(run("stat d1"), "balloon, in pages"));
	guest[0].virtio[1] = virtio_balloon_create(&guest[0], 17);
	ASSERT_NE(guest[0].virtio[1], nullptr);
	EXPECT_EQ(run("balloon d1 65"), "want MiB that its balloon is to have, up to 64\r\n");
	EXPECT_EQ(run("balloon d1 lots"), "want MiB that its balloon is to have, up to 64\r\n");
	EXPECT_EQ(run("balloon d1 5"), "d1 linux0 is asked for 5 MiB\r\n");
	std::string text = run("stat d1");

	EXPECT_TRUE(contains(text, "  target                            1,280")) << text;
	EXPECT_FALSE(contains(text, "major_faults")) << "the guest has said nothing";
	vm_virtio_end(&guest[0]);
}

TEST_F(Monitor, console_gives_the_keyboard_away_without_a_prompt)
{
	type("console linux1\r");
	EXPECT_EQ(console_focus(), &guest[1]);
	EXPECT_EQ(shown(), "console linux1\r\n--- input: d2 (linux1), Ctrl-] ? for help ---\r\n");
}

TEST_F(Monitor, log_level_can_be_set)
{
	enum log_level before = log_level;

	EXPECT_EQ(run("log debug"), "log level is debug\r\n");
	EXPECT_EQ(log_level, LOG_DEBUG);
	EXPECT_EQ(run("log loud"), "no log level loud; there are error, warn, info, debug\r\n");
	EXPECT_EQ(log_level, LOG_DEBUG);
	log_level = before;
}

/* ---- dump ----------------------------------------------------------------------------------- */

class MonitorDump : public Monitor
{
      protected:
	static constexpr struct s2_attr RWX = {S2_RWX, S2_NORMAL};
	static constexpr struct s2_attr READ_DEVICE = {S2_READ, S2_DEVICE};

	void SetUp() override
	{
		Monitor::SetUp();
		ASSERT_EQ(s2_init(&guest[0].s2, arch_s2_format(), arch_s2_ipa_bits(), 1), OK);
	}

	void TearDown() override
	{
		s2_destroy(&guest[0].s2);
		Monitor::TearDown();
	}

	void map(u64 at, u64 size, struct s2_attr attr)
	{
		/* No frame of the table's: nobody counts it. */
		ASSERT_EQ(s2_map(&guest[0].s2, gpa(at), hpa(GIB(128) + at), size, attr, S2_ERROR),
			  OK);
	}
};

constexpr struct s2_attr MonitorDump::RWX;
constexpr struct s2_attr MonitorDump::READ_DEVICE;

TEST_F(MonitorDump, shows_ranges_sizes_permissions_and_types)
{
	map(GIB(1), MIB(4), RWX);
	map(GIB(1) + MIB(4), KIB(12), READ_DEVICE);
	be_batch();

	std::vector<std::string> lines = lines_of(run("dump d1"));

	ASSERT_EQ(lines.size(), 3u);
	EXPECT_TRUE(contains(lines[0], "d1 linux0: [0x40000000, 0x50000000) in ")) << lines[0];
	EXPECT_TRUE(
		contains(lines[1], "  0x0040000000..0x0040400000      4 MiB  2M    rwx  normal "))
		<< lines[1];
	EXPECT_TRUE(
		contains(lines[2], "  0x0040400000..0x0040403000     12 KiB  4K    r--  device "))
		<< lines[2];
}

TEST_F(MonitorDump, joins_neighbours_whatever_memory_is_behind_them)
{
	for (u64 i = 0; i < 8; i++) {
		map(GIB(1) + i * KIB(4), KIB(4), RWX);
	}
	EXPECT_EQ(lines_of(run("dump d1")).size(), 2u);
}

TEST_F(MonitorDump, is_coloured_on_a_terminal_only)
{
	map(GIB(1), KIB(4), RWX);
	EXPECT_TRUE(contains(run("dump d1"), "\x1b[31m"));
	EXPECT_TRUE(contains(run("dump d1"), "\x1b[0m\r\n"));
	be_batch();
	EXPECT_FALSE(contains(run("dump d1"), "\x1b"));
}

TEST_F(MonitorDump, says_how_to_go_on_after_many_lines_and_then_goes_on)
{
	std::string next = "dump d1";
	u32 ranges = 0, calls = 0;

	be_batch();
	for (u64 i = 0; i < 100; i++) {
		map(GIB(1) + i * KIB(8), KIB(4), RWX);
	}
	while (!next.empty()) {
		std::vector<std::string> lines = lines_of(run(next));

		ASSERT_LT(++calls, 10u);
		next.clear();
		for (const std::string &line : lines) {
			ranges += contains(line, "..0x");
			if (contains(line, "... more: ")) {
				next = line.substr(line.find("dump"));
			}
		}
	}
	EXPECT_EQ(ranges, 100u);
	EXPECT_EQ(calls, 3u);
}

TEST_F(MonitorDump, takes_a_range_and_refuses_what_is_none)
{
	map(GIB(1), MIB(2), RWX);
	be_batch();
	EXPECT_TRUE(contains(run("dump d1 0x40001000 0x40003000"),
			     "0x0040001000..0x0040003000      8 KiB"));
	EXPECT_TRUE(contains(run("dump d1 0 1M"), "nothing is mapped"));
	EXPECT_TRUE(contains(run("dump d1 here"), "no address: here"));
	EXPECT_TRUE(contains(run("dump d1 2G 1G"), "no range"));
	EXPECT_TRUE(contains(run("dump d1 0xffffffffffffffff"), "no range"));
	EXPECT_TRUE(contains(run("dump d1 0 0xffffffffffffffff"), "2 MiB"));
	EXPECT_TRUE(contains(run("dump d2"), "has no table"));
}

/* ---- Overcommit ----------------------------------------------------------------------------- */

TEST_F(Monitor, without_overcommit_its_commands_say_so)
{
	type("swap\r");
	EXPECT_TRUE(contains(shown(), "no overcommit: lamina,guest-memory in /chosen asks for it"));
	for (const char *line :
	     {"wss d1\r", "access d1\r", "mem-max d1 64M\r", "reclaim d1 1M\r"}) {
		type(line);
		EXPECT_TRUE(contains(shown(), "is not overcommitted")) << line;
	}
}

} // namespace
