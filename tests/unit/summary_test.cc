/* The end of a run: its status, its table, and JSON that a parser takes. */
#include <map>

#include "console_test_screen.h"

extern "C" {
#include "hyp/banner.h"
#include "hyp/config.h"
#include "hyp/units.h"
}

namespace
{

class Summary : public Screen
{
      protected:
	void SetUp() override
	{
		Screen::SetUp();
		console_init(true);
		for (struct vm &vm : guest) {
			vm.state = VM_OFF;
		}
	}

	std::string print()
	{
		fake_uart_clear();
		summary_print(summary_status());
		return shown();
	}

	std::string json()
	{
		std::string text;

		for (const std::string &line : lines_of(print())) {
			if (line.rfind("[json] ", 0) == 0) {
				EXPECT_LT(line.size(), 200u) << line;
				text += line.substr(7);
			}
		}
		return text;
	}
};

/*
 * A strict reader of JSON (RFC 8259) as far as objects, arrays, strings and whole numbers go. What
 * it found is in `values`, by path: "guests.0.exits.mmio" -> "12".
 */
class Json
{
      public:
	std::map<std::string, std::string> values;
	bool good;

	explicit Json(const std::string &text) : text_(text)
	{
		good = value("") && at_ == text_.size();
	}

	std::string operator[](const std::string &path) const
	{
		auto found = values.find(path);

		return found == values.end() ? "(nothing)" : found->second;
	}

      private:
	const std::string &text_;
	size_t at_ = 0;

	char peek() const
	{
		return at_ < text_.size() ? text_[at_] : '\0';
	}

	bool eat(char c)
	{
		at_ += peek() == c;
		return at_ > 0 && text_[at_ - 1] == c;
	}

	bool value(const std::string &path)
	{
		switch (peek()) {
		case '{':
			return members(path, '}', true);
		case '[':
			return members(path, ']', false);
		case '"':
			return string(&values[path]);
		default:
			return number(&values[path]);
		}
	}

	bool members(const std::string &path, char close, bool named)
	{
		at_++;
		if (peek() == close) {
			at_++;
			return true;
		}
		for (u32 i = 0;; i++) {
			std::string name = named ? "" : std::to_string(i);

			if (named && (!string(&name) || peek() != ':' || !eat(':'))) {
				return false;
			}
			std::string full = path.empty() ? name : path + "." + name;

			if (values.count(full) || !value(full)) {
				return false;
			}
			if (peek() != ',') {
				return peek() == close && eat(close);
			}
			at_++;
		}
	}

	bool string(std::string *out)
	{
		if (peek() != '"') {
			return false;
		}
		for (at_++; peek() != '"'; at_++) {
			if ((u8)peek() < 0x20) {
				return false;
			}
			if (peek() == '\\') {
				at_++;
				if (peek() == 'u') {
					*out += (char)std::stoul(text_.substr(at_ + 1, 4), nullptr,
								 16);
					at_ += 4;
					continue;
				}
				if (peek() != '"' && peek() != '\\') {
					return false;
				}
			}
			*out += peek();
		}
		at_++;
		return true;
	}

	bool number(std::string *out)
	{
		while (peek() >= '0' && peek() <= '9') {
			*out += text_[at_++];
		}
		return !out->empty() && (out->size() == 1 || (*out)[0] != '0');
	}
};

/* ---- Status --------------------------------------------------------------------------------- */

TEST_F(Summary, status_is_good_when_all_powered_off_or_were_destroyed)
{
	guest[1].state = VM_DESTROYED;
	EXPECT_EQ(summary_status(), RUN_OK);
}

TEST_F(Summary, status_is_bad_when_one_crashed)
{
	guest[2].state = VM_CRASHED;
	EXPECT_EQ(summary_status(), RUN_GUEST_CRASHED);
}

TEST_F(Summary, status_is_bad_when_nothing_ran)
{
	vm_count = 0;
	EXPECT_EQ(summary_status(), RUN_GUEST_CRASHED);
}

/* ---- For people ----------------------------------------------------------------------------- */

TEST_F(Summary, table_has_a_line_a_guest_and_its_top_exits)
{
	guest[0].start_ns = SECOND_NS;
	guest[0].end_ns = 5 * SECOND_NS;
	vcpu[0].run_ns = 3500000000;
	guest[0].counters.pgfault = 1234;
	guest[0].counters.memory_peak = MIB(183);
	vcpu[0].exits[EXIT_MMIO] = 3000;
	vcpu[0].exits[EXIT_MEMORY] = 1000;

	std::string text = print();

	EXPECT_NE(
		text.find("d1   linux0         off            4.0      3.5     4,000     1,234     "
			  "183 MiB"),
		text.npos)
		<< text;
	EXPECT_NE(text.find("d1 exits: mmio 3.0k (75 %), memory 1.0k (25 %)\n"), text.npos) << text;
	EXPECT_NE(text.find("d1 got 0 pages of 2 MiB, 0 of 4 KiB, 0 interrupts; wrote 0 bytes\n"),
		  text.npos)
		<< text;
	EXPECT_EQ(text.find("d2 exits:"), text.npos) << "there were none";
	EXPECT_EQ(text.find("paravirtual"), text.npos) << "nor of these";
	EXPECT_NE(text.find("nothing leaked"), text.npos) << text;
}

TEST_F(Summary, paravirtual_help_is_told_where_there_was_some)
{
	guest[1].counters.pv_kicks = 12;
	EXPECT_NE(print().find("d2 paravirtual: interrupts ended 0, flushes 0, kicks 12, "
			       "turns 0\n"),
		  std::string::npos);
}

TEST_F(Summary, table_fits_a_terminal)
{
	for (u32 i = 0; i < GUESTS; i++) {
		strcpy(guest[i].name, "a-name-as-long-as-names-may-be");
		guest[i].state = VM_DESTROYED;
		guest[i].end_ns = 99999 * SECOND_NS;
		guest[i].counters.memory_peak = MIB(1000) + MIB(1) / 2;
		guest[i].counters.pgfault = 999999;
		guest[i].counters.eois_skipped = guest[i].counters.pv_flushes = 999999;
		guest[i].counters.pv_kicks = guest[i].counters.pv_yields = 999999;
		vcpu[i].exits[EXIT_REGISTER] = 333333;
		vcpu[i].exits[EXIT_INTERRUPT] = 333333;
		vcpu[i].exits[EXIT_HYPERCALL] = 333333;
	}
	for (const std::string &line : lines_of(print())) {
		if (line.rfind("[json] ", 0) != 0) {
			EXPECT_LT(line.size(), 80u) << line;
		}
	}
}

TEST_F(Summary, crash_says_why)
{
	guest[1].state = VM_CRASHED;
	strcpy(guest[1].last_words, "unknown exit");
	EXPECT_NE(print().find("d2 crashed: unknown exit\n"), std::string::npos);
}

TEST_F(Summary, leaks_are_found_in_the_frame_table_by_owner_and_type)
{
	hpa_t page = frame_alloc(ORDER_4K, FRAME_GUEST, 2);
	hpa_t table = frame_alloc(ORDER_4K, FRAME_TABLE, 2);
	hpa_t ours = frame_alloc(ORDER_4K, FRAME_HYP, OWNER_NONE);
	std::string text = print();

	EXPECT_NE(text.find("leaked: d2 still holds 1 guest frames, 0 shared, 1 table pages\n"),
		  text.npos)
		<< text;
	EXPECT_EQ(text.find("nothing leaked"), text.npos);

	Json j(json());

	EXPECT_EQ(j["leaked_frames"], "2");
	EXPECT_EQ(j["guests.0.leaked.guest"], "0");
	EXPECT_EQ(j["guests.1.leaked.guest"], "1");
	EXPECT_EQ(j["guests.1.leaked.table"], "1");
	frame_put(page);
	frame_put(table);
	EXPECT_EQ(Json(json())["leaked_frames"], "0");
	frame_put(ours);
}

/* ---- For scripts ---------------------------------------------------------------------------- */

TEST_F(Summary, json_is_good_and_has_every_counter)
{
	u64 value = 1000;

#define X(name) guest[1].counters.name = value++;
	VM_COUNTERS(X)
#undef X
#define X(name) guest[1].s2.stats.name = value++;
	S2_STATS(X)
#undef X
	for (u32 i = 0; i < EXIT_REASON_COUNT; i++) {
		vcpu[1].exits[i] = value++;
	}
	vcpu[1].run_ns = guest[1].counters.run_ns;
	vcpu[1].stolen_ns = guest[1].counters.stolen_ns;

	Json j(json());

	ASSERT_TRUE(j.good);
	value = 1000;
#define X(name) EXPECT_EQ(j["guests.1." #name], std::to_string(value++));
	VM_COUNTERS(X)
#undef X
#define X(name) EXPECT_EQ(j["guests.1.s2." #name], std::to_string(value++));
	S2_STATS(X)
#undef X
	for (u32 i = 0; i < EXIT_REASON_COUNT; i++) {
		std::string name = exit_reason_name((enum exit_reason)i);

		EXPECT_EQ(j["guests.1.exits." + name], std::to_string(value++));
		EXPECT_NE(j["inside_by_reason." + name], "(nothing)");
	}
	for (const char *key :
	     {"status", "run_ns", "cpus", "kicks", "refused", "frames.total", "frames.free",
	      "frames.hyp", "frames.table", "frames.guest", "frames.shared", "frames.device",
	      "leaked_frames", "ticks_hz", "before_guest_ticks", "inside_ticks"}) {
		EXPECT_NE(j[key], "(nothing)") << key;
	}
	EXPECT_EQ(j["guests.2.name"], "linux2");
	EXPECT_EQ(j["guests.2.id"], "3");
	EXPECT_EQ(j["guests.2.state"], vm_state_name(VM_OFF));
	EXPECT_EQ(j["guests.2.memory_bytes"], std::to_string(MIB(256)));
}

TEST_F(Summary, json_has_room_for_the_largest_numbers)
{
	memset(&guest[0].counters, 0xff, sizeof(guest[0].counters));
	memset(&guest[0].s2.stats, 0xff, sizeof(guest[0].s2.stats));

	Json j(json());

	ASSERT_TRUE(j.good);
	EXPECT_EQ(j["guests.0.pgfault"], "18446744073709551615");
}

TEST_F(Summary, json_escapes_names_of_any_bytes)
{
	strcpy(guest[0].name, "a\"b\\c\n\x01\xff");
	memset(guest[1].name, '\x01', CONFIG_NAME_MAX - 1);
	memset(guest[1].last_words, '"', sizeof(guest[1].last_words) - 1);

	Json j(json());

	ASSERT_TRUE(j.good);
	EXPECT_EQ(j["guests.0.name"], "a\"b\\c\n\x01\xff");
	EXPECT_EQ(j["guests.1.name"], std::string(CONFIG_NAME_MAX - 1, '\x01'));
	EXPECT_EQ(j["guests.1.last_words"].find_first_not_of('"'), std::string::npos);
}

TEST_F(Summary, json_without_guests_is_good)
{
	vm_count = 0;

	Json j(json());

	EXPECT_TRUE(j.good);
	EXPECT_EQ(j["status"], "1");
}

/* ---- Units ---------------------------------------------------------------------------------- */

TEST(Units, numbers_read_as_people_write_them)
{
	EXPECT_STREQ(units_size(0).text, "0 bytes");
	EXPECT_STREQ(units_size(KIB(12)).text, "12 KiB");
	EXPECT_STREQ(units_size(MIB(256)).text, "256 MiB");
	EXPECT_STREQ(units_size(28626432).text, "27.3 MiB");
	EXPECT_STREQ(units_count(999).text, "999");
	EXPECT_STREQ(units_count(1000).text, "1.0k");
	EXPECT_STREQ(units_count(31204).text, "31k");
	EXPECT_STREQ(units_count(2400000).text, "2.4M");
	EXPECT_STREQ(units_count(~0ull).text, "18446744073G");
	EXPECT_STREQ(units_grouped(0).text, "0");
	EXPECT_STREQ(units_grouped(999).text, "999");
	EXPECT_STREQ(units_grouped(1000).text, "1,000");
	EXPECT_STREQ(units_grouped(31204567).text, "31,204,567");
	EXPECT_STREQ(units_grouped(99999999999999999).text, "99,999,999,999,999,999");
	EXPECT_STREQ(units_grouped(~0ull).text, "18446744073709551615");
	EXPECT_STREQ(units_seconds(6123456789).text, "6.1");
	EXPECT_EQ(units_percent(2, 3), 67u);
	EXPECT_EQ(units_percent(0, 0), 0u);
	EXPECT_EQ(units_percent(~0ull, ~0ull), 100u);
	EXPECT_EQ(units_percent_hundredths(2, 3), 6666u);
}

/* ---- Banner --------------------------------------------------------------------------------- */

TEST_F(Summary, banner_says_what_each_guest_got)
{
	struct config_vm config = {};

	guest[0].vcpu_count = 2;
	strcpy(config.name, "linux0");
	strcpy(config.kernel, "vmlinuz");
	config.kernel_module.size = 28626432;
	strcpy(config.bootargs, "console=ttyAMA0");
	banner_guest(&guest[0], &config);
	EXPECT_EQ(shown(),
		  "d1 linux0: 2 vcpus, 256 MiB, kernel vmlinuz 27.3 MiB, \"console=ttyAMA0\"\n");
	strcpy(config.ramdisk, "initrd.gz");
	config.ramdisk_module.size = MIB(1);
	memset(config.bootargs, 'x', sizeof(config.bootargs) - 1);
	banner_guest(&guest[0], &config);
	EXPECT_EQ(shown(), "d1 linux0: 2 vcpus, 256 MiB, kernel vmlinuz 27.3 MiB, ramdisk "
			   "initrd.gz 1 MiB, \"" +
				   std::string(100, 'x') + "...\"\n");
	banner_refused(&config, "no such kernel");
	EXPECT_EQ(shown(), "linux0: refused: no such kernel\n");
}

TEST_F(Summary, banner_is_folded_for_people_and_whole_for_tools)
{
	struct config_vm config = {};

	guest[0].vcpu_count = 2;
	strcpy(config.kernel, "vmlinuz");
	config.kernel_module.size = MIB(26);
	strcpy(config.ramdisk, "initramfs.cpio.gz");
	config.ramdisk_module.size = MIB(1);
	strcpy(config.bootargs, "console=ttyAMA0,115200 quiet");
	console_init(false);
	banner_guest(&guest[0], &config);
	EXPECT_EQ(shown(), "d1 linux0: 2 vcpus, 256 MiB, kernel vmlinuz 26 MiB,"
			   "\r\n    ramdisk initramfs.cpio.gz 1 MiB, \"console=ttyAMA0,115200 "
			   "quiet\"\r\n");
	banner_machine();
	for (const std::string &line : lines_of(shown())) {
		EXPECT_LT(line.size(), 82u) << line;
	}
}

TEST_F(Summary, banner_ends_with_the_keys_and_who_has_the_keyboard)
{
	console_init(false);
	guest[0].state = VM_BUILDING;
	banner_keys();
	EXPECT_EQ(shown(), "Ctrl-] ? help   Ctrl-] m monitor   Ctrl-] x quit\r\n"
			   "--- input: d1 (linux0), Ctrl-] ? for help ---\r\n");
	console_init(true);
	banner_keys();
	EXPECT_EQ(shown(), "input: none (batch)\n");
}

/* In a process of its own: the count cannot be taken back. */
TEST_F(Summary, status_is_bad_once_a_guest_was_refused)
{
	ASSERT_EQ(summary_status(), RUN_OK);
	EXPECT_EXIT(
		{
			summary_count_refused();
			fprintf(stderr, "%s", print().c_str());
			exit(summary_status());
		},
		testing::ExitedWithCode(RUN_GUEST_CRASHED),
		"refused: 1 configured guest did not run");
}

} // namespace
