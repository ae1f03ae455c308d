/* Who sees what on the one screen, and where keys go. */
#include <chrono>
#include <map>
#include <thread>

#include "console_test_screen.h"

extern "C" {
#include "hyp/dev_pl011.h"
}

namespace
{

constexpr char ESCAPE[] = "\x1d";
constexpr char ERASE[] = "\r\x1b[K";

using Console = Screen;

/* What docs of the batch format (console.h) promise a reader, read as they say. */
struct Demultiplexed {
	std::map<u32, std::string> guests;
	std::string json, others;
};

Demultiplexed demultiplex(const std::string &output)
{
	Demultiplexed d;
	std::map<u32, bool> begun;

	for (const std::string &line : lines_of(output)) {
		unsigned number;
		int length = 0;
		bool goes_on =
			sscanf(line.c_str(), "[d%u]+%n", &number, &length) == 1 && length > 0;

		if (!goes_on) {
			length = 0;
			sscanf(line.c_str(), "[d%u]%n", &number, &length);
		}
		if (length > 0 && line[(size_t)length] == ' ') {
			d.guests[number] += (begun[number] && !goes_on ? "\n" : "") +
					    line.substr((size_t)length + 1);
			begun[number] = true;
		} else if (line.rfind("[json] ", 0) == 0) {
			d.json += line.substr(7);
		} else {
			d.others += line + "\n";
		}
	}
	return d;
}

TEST_F(Console, focused_guest_is_shown_byte_by_byte_and_raw)
{
	focus(1);
	write(1, "a");
	EXPECT_EQ(shown(), "a");
	write(1, "\x1b[31mb\r\n\a");
	EXPECT_EQ(shown(), "\x1b[31mb\r\n\a");
}

TEST_F(Console, unfocused_guest_is_shown_by_whole_lines_behind_its_prefix)
{
	focus(1);
	write(2, "half");
	EXPECT_EQ(shown(), "");
	write(2, " and whole\r\n");
	EXPECT_EQ(shown(), "[d2] half and whole\r\n");
}

TEST_F(Console, two_unfocused_guests_never_mix_in_a_line)
{
	focus(1);
	for (char c : std::string("abc\n")) {
		write(2, std::string(1, c));
		write(3, std::string(1, c));
	}
	EXPECT_EQ(shown(), "[d2] abc\r\n[d3] abc\r\n");
}

TEST_F(Console, a_line_that_passes_puts_the_focused_half_line_back)
{
	focus(1);
	write(1, "login: ");
	shown();
	write(2, "news\n");
	EXPECT_EQ(shown(), std::string(ERASE) + "[d2] news\r\nlogin: ");
	write(1, "root\n");
	EXPECT_EQ(shown(), "root\n");
	write(2, "more\n");
	EXPECT_EQ(shown(), "[d2] more\r\n");
}

TEST_F(Console, a_half_line_too_long_to_put_back_is_left_and_gone_on_with)
{
	focus(1);
	write(1, std::string(300, 'x'));
	shown();
	write(2, "news\n");
	EXPECT_EQ(shown(), "\r\n[d2] news\r\n" + std::string(300 - CONSOLE_LINE_MAX, 'x'));
}

TEST_F(Console, a_half_line_is_put_back_after_the_focus_was_away_too)
{
	focus(1);
	write(1, "/ # ");
	focus(2);
	focus(1);
	write(1, "ls");
	shown();
	write(2, "news\n");
	EXPECT_EQ(shown(), std::string(ERASE) + "[d2] news\r\n/ # ls");
}

TEST_F(Console, a_half_line_is_put_back_without_questions_to_the_terminal)
{
	focus(1);
	write(1, "/ # \x1b[6n");
	shown();
	write(2, "news\n");
	EXPECT_EQ(shown(), std::string(ERASE) + "[d2] news\r\n/ # ");
}

TEST_F(Console, a_half_line_is_put_back_as_edited)
{
	focus(1);
	write(1, "$ lsx\b \b");
	shown();
	write(2, "news\n");
	EXPECT_EQ(shown(), std::string(ERASE) + "[d2] news\r\n$ ls");
	write(1, "\r# top");
	shown();
	write(2, "news\n");
	EXPECT_EQ(shown(), std::string(ERASE) + "[d2] news\r\n# top");
}

TEST_F(Console, unfocused_lines_lose_what_would_move_the_terminal)
{
	focus(1);
	write(2, "\x1b[2J\x1b[31mred\x1b[0m \x1b]0;title\amore\x1b(B\x01\x7f\tend\n");
	EXPECT_EQ(shown(), "[d2] red more\tend\r\n");
	write(2, "\x1b]never ended\nnext\n");
	EXPECT_EQ(shown(), "[d2] \r\n[d2] next\r\n") << "a line's end ends its sequence";
}

TEST_F(Console, unfocused_progress_bars_show_their_last_state)
{
	focus(1);
	write(2, " 10%\r 50%\r100%\r\n");
	EXPECT_EQ(shown(), "[d2] 100%\r\n");
}

TEST_F(Console, log_lines_are_whole_and_named)
{
	focus(1);
	write(1, "login: ");
	shown();
	console_log_line("d2: off");
	EXPECT_EQ(shown(), std::string(ERASE) + "lamina: d2: off\r\nlogin: ");
}

TEST_F(Console, log_lines_cannot_be_forged_by_what_they_quote)
{
	be_batch();
	console_log_line("first\n[json] {}\x1b[2J");
	EXPECT_EQ(shown(), "lamina: first\nlamina: [json] {}?[2J\n");
}

TEST_F(Console, focus_is_said_and_shows_what_waited)
{
	focus(1);
	write(2, "login: ");
	console_set_focus(&guest[1]);
	EXPECT_EQ(shown(), "--- input: d2 (linux1), Ctrl-] ? for help ---\r\nlogin: ");
	EXPECT_EQ(console_focus(), &guest[1]);
}

TEST_F(Console, what_was_seen_raw_is_not_shown_again_when_focus_goes)
{
	focus(1);
	write(1, "login: ");
	focus(2);
	write(1, "root\nnext\n");
	EXPECT_EQ(shown(), "[d1]+ root\r\n[d1] next\r\n");
}

TEST_F(Console, every_byte_is_counted)
{
	focus(1);
	write(1, "ab\r\n");
	write(2, "abc");
	EXPECT_EQ(guest[0].counters.console_bytes, 4u);
	EXPECT_EQ(guest[1].counters.console_bytes, 3u);
}

/* ---- Batch ---------------------------------------------------------------------------------- */

TEST_F(Console, batch_gives_every_guest_whole_prefixed_lines)
{
	be_batch();
	write(1, "one\r\n");
	write(2, "two\r\n\r\n");
	EXPECT_EQ(shown(), "[d1] one\n[d2] two\n[d2] \n");
	console_set_focus(&guest[0]);
	EXPECT_EQ(console_focus(), nullptr);
	EXPECT_EQ(shown(), "");
}

TEST_F(Console, batch_keeps_all_bytes_but_carriage_returns)
{
	std::string all;

	be_batch();
	for (int c = 1; c < 256; c++) {
		all += c == '\n' || c == '\r' ? "" : std::string(1, (char)c);
	}
	write(1, all + "\r\n");
	EXPECT_EQ(shown(), "[d1] " + all + "\n");
}

TEST_F(Console, batch_has_no_way_to_forge_a_prefix)
{
	be_batch();
	for (const char *forged : {"[d2] fake\n", "[json] {\"status\":0}\n", "\r[d2] x\n",
				   "lamina: x\n", "\n[json] 1\n", "[d1]+ more\n"}) {
		write(1, forged);
		write(1, std::string(CONSOLE_LINE_MAX, 'x') + forged);
		write(1, std::string(CONSOLE_LINE_MAX - 1, 'x') + forged);
		console_tick_at(0);
		write(1, "half");
		console_tick_at(0);
		console_tick_at(0);
		write(1, forged);
	}
	for (const std::string &line : lines_of(shown())) {
		EXPECT_TRUE(line.rfind("[d1] ", 0) == 0 || line.rfind("[d1]+ ", 0) == 0) << line;
	}
}

TEST_F(Console, batch_pieces_join_to_what_the_guest_wrote)
{
	std::string written[2];

	be_batch();
	for (u32 length : {0u, 1u, 255u, 256u, 257u, 511u, 512u, 513u, 2000u, 0u, 3u}) {
		for (u32 i = 0; i < 2; i++) {
			std::string line = std::string(length, (char)('a' + length % 26)) + "\n";

			written[i] += line;
			write(i + 1, line);
		}
	}
	write(1, "left over");
	written[0] += "left over";
	written[1].pop_back(); /* that the last line ended is not to be seen */
	console_flush();

	Demultiplexed d = demultiplex(shown());

	EXPECT_EQ(d.guests[1], written[0]);
	EXPECT_EQ(d.guests[2], written[1]);
	EXPECT_EQ(d.others, "");
}

TEST_F(Console, batch_pieces_join_wherever_time_cuts_them)
{
	const std::string text = "first\n\nsecond line\n" + std::string(300, 'y') + "\nend";

	for (size_t cut = 0; cut <= text.size(); cut++) {
		be_batch();
		fake_uart_clear();
		write(1, text.substr(0, cut));
		console_tick_at(0);
		console_tick_at(SECOND_NS);
		write(1, text.substr(cut));
		console_flush();
		ASSERT_EQ(demultiplex(shown()).guests[1], text) << "cut at " << cut;
	}
}

TEST_F(Console, batch_lines_of_cpus_that_write_at_once_are_not_torn)
{
	std::vector<std::thread> cpu;
	std::string written[GUESTS];

	be_batch();
	for (u32 i = 0; i < GUESTS; i++) {
		for (u32 n = 0; n < 200; n++) {
			written[i] +=
				std::string(n % 40, (char)('a' + i)) + std::to_string(n) + "\n";
		}
		cpu.emplace_back([this, i, &written] { write(i + 1, written[i]); });
	}
	for (u32 n = 0; n < 50; n++) {
		console_log_line("log");
		console_flush();
	}
	for (std::thread &c : cpu) {
		c.join();
	}

	Demultiplexed d = demultiplex(shown());

	for (u32 i = 0; i < GUESTS; i++) {
		EXPECT_EQ(d.guests[i + 1] + "\n", written[i]);
	}
	for (const std::string &line : lines_of(d.others)) {
		EXPECT_EQ(line, "lamina: log");
	}
}

TEST_F(Console, batch_takes_no_keys)
{
	be_batch();
	type(std::string(ESCAPE) + "1x");
	EXPECT_EQ(shown(), "");
	EXPECT_EQ(console_focus(), nullptr);
}

/* ---- Time ----------------------------------------------------------------------------------- */

TEST_F(Console, unfinished_lines_go_out_after_a_second_and_only_once)
{
	focus(1);
	write(2, "login: ");
	console_tick_at(0);
	EXPECT_EQ(shown(), "") << "it may be just written";
	console_tick_at(SECOND_NS);
	EXPECT_EQ(shown(), "[d2] login: \r\n");
	console_tick_at(2 * SECOND_NS);
	console_tick_at(3 * SECOND_NS);
	EXPECT_EQ(shown(), "");
	write(2, "root\n");
	EXPECT_EQ(shown(), "[d2]+ root\r\n");
}

TEST_F(Console, silence_is_reported_once_with_pc_and_exits)
{
	focus(1);
	vcpu[1].state = VCPU_RUNNING;
	vcpu[1].arch.pc = 0xffff800008001234;
	vcpu[1].exits[EXIT_IDLE] = 28704;
	vcpu[1].exits[EXIT_MMIO] = 2496;
	guest[1].start_ns = SECOND_NS;
	for (u64 s = 0; s < 6; s++) {
		console_tick_at(s * SECOND_NS);
	}
	EXPECT_EQ(shown(), "");
	console_tick_at(6 * SECOND_NS);
	EXPECT_EQ(shown(),
		  "lamina: d2: silent for 5 s, pc=0xffff800008001234, 31k exits (idle 92 %)\r\n"
		  "lamina: d2: bootargs with \"earlycon\", and without \"quiet\", would show "
		  "more\r\n");
	console_tick_at(7 * SECOND_NS);
	console_tick_at(60 * SECOND_NS);
	EXPECT_EQ(shown(), "");

	write(2, "line\n");
	console_tick_at(61 * SECOND_NS);
	shown();
	console_tick_at(66 * SECOND_NS);
	EXPECT_EQ(shown(),
		  "lamina: d2: silent for 5 s, pc=0xffff800008001234, 31k exits (idle 92 %)\r\n")
		<< "a new silence, of a guest whose console works";
}

TEST_F(Console, sleepers_paused_guests_and_prompts_are_not_silent)
{
	focus(3);
	guest[0].state = VM_PAUSED;
	vcpu[0].state = VCPU_RUNNABLE;
	vcpu[1].state = VCPU_BLOCKED;
	vcpu[2].state = VCPU_RUNNING;
	write(3, "~ # ");
	shown();
	for (u64 s = 0; s < 20; s++) {
		console_tick_at(s * SECOND_NS);
	}
	EXPECT_EQ(shown(), "");
}

/* ---- ConsoleKeys
 * ----------------------------------------------------------------------------------- */

class ConsoleKeys : public Screen
{
      protected:
	struct pl011 *uart[GUESTS];

	void SetUp() override
	{
		Screen::SetUp();
		for (u32 i = 0; i < GUESTS; i++) {
			uart[i] = pl011_create(&guest[i], 33);
			pl011_ops.write(uart[i], nullptr, 0x02c, 4, 0x70); /* UARTLCR_H: FIFOs on */
			guest[i].console = pl011_console(uart[i]);
		}
		console_set_focus(&guest[0]);
		shown();
	}

	void TearDown() override
	{
		for (struct pl011 *u : uart) {
			pl011_destroy(u);
		}
		Screen::TearDown();
	}

	/* What the guest's driver reads until the FIFO is empty. */
	std::string got(u32 number)
	{
		struct pl011 *u = uart[number - 1];
		std::string keys;

		while (!(pl011_ops.read(u, nullptr, 0x018, 4) & 0x10)) { /* UARTFR.RXFE */
			keys += (char)pl011_ops.read(u, nullptr, 0x000, 4);
		}
		return keys;
	}
};

TEST_F(ConsoleKeys, go_to_the_focused_guest_alone)
{
	type("ls\r");
	EXPECT_EQ(got(1), "ls\r");
	EXPECT_EQ(got(2), "");
	EXPECT_EQ(shown(), "") << "the guest echoes, not the console";
}

TEST_F(ConsoleKeys, escape_and_a_number_moves_the_focus)
{
	type(std::string("a") + ESCAPE + "2b" + ESCAPE + "3c");
	EXPECT_EQ(got(1), "a");
	EXPECT_EQ(got(2), "b");
	EXPECT_EQ(got(3), "c");
	EXPECT_EQ(shown(), "--- input: d2 (linux1), Ctrl-] ? for help ---\r\n"
			   "--- input: d3 (linux2), Ctrl-] ? for help ---\r\n");
}

TEST_F(ConsoleKeys, escape_twice_sends_it)
{
	type(std::string(ESCAPE) + ESCAPE);
	EXPECT_EQ(got(1), ESCAPE);
}

TEST_F(ConsoleKeys, escape_works_across_two_polls)
{
	type(ESCAPE);
	type("2");
	EXPECT_EQ(console_focus(), &guest[1]);
}

TEST_F(ConsoleKeys, escape_and_m_or_0_gives_the_monitor_its_prompt)
{
	for (const char *key : {"m", "0"}) {
		focus(1);
		type(std::string(ESCAPE) + key);
		EXPECT_EQ(console_focus(), nullptr);
		EXPECT_EQ(shown(),
			  "--- input: monitor, help for commands, Ctrl-] 1..9 to a guest ---"
			  "\r\nlamina> ");
	}
}

TEST_F(ConsoleKeys, a_guest_that_is_not_there_or_has_ended_gets_no_focus)
{
	guest[1].state = VM_OFF;
	type(std::string(ESCAPE) + "9" + ESCAPE + "2");
	EXPECT_EQ(console_focus(), &guest[0]);

	std::string text = shown();

	EXPECT_NE(text.find("no guest 9; there are d1 linux0, d2 linux1, d3 linux2"), text.npos)
		<< text;
	EXPECT_NE(text.find("d2 linux1 has ended"), text.npos) << text;
}

TEST_F(ConsoleKeys, unknown_ones_get_a_hint_and_are_not_sent)
{
	type(std::string(ESCAPE) + "z");
	EXPECT_NE(shown().find("1..9 guest, m monitor, ? help, x quit"), std::string::npos);
	EXPECT_EQ(got(1), "");
	type(std::string(ESCAPE) + "?");
	EXPECT_NE(shown().find("d1 linux0, d2 linux1, d3 linux2"), std::string::npos);
}

TEST_F(ConsoleKeys, without_room_wait_in_order_until_the_guest_reads)
{
	std::string pasted;

	for (u32 i = 0; i < 500; i++) {
		pasted += (char)('a' + i % 26);
	}
	type(pasted);
	EXPECT_GT(console_keys_held, 0u);
	EXPECT_EQ(got(1), pasted) << "each byte that the guest takes lets the next one in";
	EXPECT_EQ(console_keys_held, 0u);
}

/* Full when a key comes, and read by its guest on another CPU before anybody could note that. */
struct RacingDevice {
	struct console_device console; /* first */
	u32 refusals;
	std::string keys;
};

bool racing_key(struct console_device *console, u8 key)
{
	auto *device = reinterpret_cast<RacingDevice *>(console);

	if (device->refusals > 0) {
		device->refusals--;
		console_device_has_room();
		return false;
	}
	device->keys += (char)key;
	return true;
}

TEST_F(ConsoleKeys, room_that_is_made_while_a_key_is_refused_is_seen)
{
	RacingDevice device{};

	device.console.key = racing_key;
	guest[0].console = &device.console;
	for (u32 refusals = 0; refusals < 5; refusals++) {
		device.refusals = refusals;
		device.keys.clear();
		type("key");
		EXPECT_EQ(device.keys, "key") << refusals;
		EXPECT_EQ(console_keys_held, 0u) << refusals;
	}
	guest[0].console = nullptr;
}

TEST_F(ConsoleKeys, a_guest_that_reads_nothing_can_still_be_left)
{
	type(std::string(200, 'x'));
	type(std::string(ESCAPE) + "2y");
	EXPECT_EQ(console_focus(), &guest[1]);
	EXPECT_EQ(got(2), "y") << "what waited was for another guest";
}

TEST_F(ConsoleKeys, focus_goes_on_when_its_guest_ends)
{
	write(1, "bye");
	shown();
	guest[0].state = VM_OFF;
	guest[1].state = VM_PAUSED;
	console_guest_ended(&guest[0]);
	EXPECT_EQ(shown(), "\r\n--- input: d3 (linux2), Ctrl-] ? for help ---\r\n");

	guest[2].state = VM_CRASHED;
	console_tick_at(0);
	EXPECT_EQ(console_focus(), nullptr);
	EXPECT_NE(shown().find("input: monitor"), std::string::npos)
		<< "a paused guest is left, which only the monitor can wake";
}

TEST_F(ConsoleKeys, nobody_has_the_focus_when_all_guests_ended)
{
	for (struct vm &vm : guest) {
		vm.state = VM_OFF;
	}
	console_guest_ended(&guest[0]);
	EXPECT_EQ(console_focus(), nullptr);
	EXPECT_EQ(shown(), "");
}

TEST_F(ConsoleKeys, unfinished_last_words_of_an_unfocused_guest_are_shown)
{
	write(2, "panic: no");
	guest[1].state = VM_CRASHED;
	console_guest_ended(&guest[1]);
	EXPECT_EQ(shown(), "[d2] panic: no\r\n");
	EXPECT_EQ(console_focus(), &guest[0]);
}

TEST_F(ConsoleKeys, an_ended_guest_cannot_be_held_and_a_held_one_is_waited_for)
{
	std::thread ender;
	bool torn_down = false;

	ASSERT_TRUE(console_hold_guest(&guest[1]));
	ender = std::thread([this, &torn_down] {
		guest[1].state = VM_OFF;
		console_guest_ended(&guest[1]);
		__atomic_store_n(&torn_down, true, __ATOMIC_SEQ_CST);
	});
	std::this_thread::sleep_for(std::chrono::milliseconds(50));
	EXPECT_FALSE(__atomic_load_n(&torn_down, __ATOMIC_SEQ_CST));
	console_release_guest();
	ender.join();
	EXPECT_TRUE(torn_down);
	EXPECT_FALSE(console_hold_guest(&guest[1]));
}

TEST_F(ConsoleKeys, of_a_guest_that_ended_go_nowhere)
{
	guest[0].state = VM_OFF;
	type("ls\r");
	EXPECT_EQ(got(1), "");
}

} // namespace
