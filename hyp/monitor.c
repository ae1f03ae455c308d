/*
 * The monitor: a prompt, a line, a table of commands.
 *
 * It runs on the CPU that took the key, between two entries of some guest, one command at a time
 * (console_input.c sees to that). Commands hold no lock while they print. What is typed wrong gets
 * one line that says what would be right; nothing the operator types is a bug of Lamina's.
 */
#include "hyp/monitor.h"

#include <string.h>

#include "hyp/config_guess.h"
#include "hyp/console.h"
#include "hyp/units.h"
#include "hyp/vm.h"

#define PROMPT "lamina> "

#define KEY_CTRL_C 0x03
#define KEY_BACKSPACE 0x08
#define KEY_CTRL_U 0x15
#define KEY_ESCAPE 0x1b
#define KEY_DELETE 0x7f

static void monitor_help(u32 count, char **words);

static const struct monitor_command commands[] = {
	{"help", "[COMMAND]", "what there is", 1, 2, monitor_help},
	{"list", "", "guests, as `xl list` shows them", 1, 1, monitor_list},
	{"stat", "[GUEST]", "counters of guests, of their tables, of frames", 1, 2, monitor_stat},
	{"exits", "[GUEST]", "why vCPUs left the guest, and how often", 1, 2, monitor_exits},
	{"swap", "", "where guests' pages are, under overcommit", 1, 1, monitor_swap},
	{"wss", "GUEST", "how much of its memory it used lately", 2, 2, monitor_wss},
	{"access", "GUEST", "which of its memory, as a map", 2, 2, monitor_access},
	{"mem-max", "GUEST [SIZE]", "what it may have at once, as memory.max in Linux", 2, 3,
	 monitor_mem_max},
	{"reclaim", "GUEST SIZE", "takes so much away from it now", 3, 3, monitor_reclaim},
	{"ksm", "[on | off]", "equal pages in one frame: what is found; looks for more, or not", 1,
	 2, monitor_ksm},
	{"dump", "GUEST [START [END]]", "what its stage-2 table maps, as ranges", 2, 4,
	 monitor_dump},
	{"pause", "GUEST", "stops all its vCPUs", 2, 2, monitor_pause},
	{"unpause", "GUEST", "lets them go on", 2, 2, monitor_unpause},
	{"destroy", "GUEST", "ends it at once, as pulling its plug would", 2, 2, monitor_destroy},
	{"balloon", "GUEST MiB", "how much memory its balloon is to hold", 3, 3, monitor_balloon},
	{"console", "GUEST", "gives it the keyboard, as Ctrl-] 1..9 does", 2, 2, monitor_console},
	{"log", "[LEVEL]", "what Lamina says of itself: error, warn, info, debug", 1, 2,
	 monitor_log},
	{"quit", "", "destroys all guests and ends the run", 1, 1, monitor_quit},
};

/* The line being typed. One CPU at a time is here, see console_input.c. */
static char line[MONITOR_LINE_MAX];
static u32 line_used;
static u8
	escape_left; /* bytes of a cursor key's sequence to swallow: 2 = any, 1 = up to a letter */
static bool after_return;

/* ---- Words ---------------------------------------------------------------------------------- */

/* Cuts the line in place. Returns how many words there are; those that are too many are counted
 * only. */
static u32 split_words(char *text, char **words)
{
	u32 count = 0;

	while (*text) {
		while (*text == ' ' || *text == '\t') {
			*text++ = 0;
		}
		if (*text && ++count < MONITOR_WORDS_MAX) {
			words[count - 1] = text;
		}
		while (*text && *text != ' ' && *text != '\t') {
			text++;
		}
	}
	words[count < MONITOR_WORDS_MAX ? count : MONITOR_WORDS_MAX - 1] = NULL;
	return count;
}

/* What the character stands for, or `base` when it is no digit. */
static unsigned digit_of(char c, unsigned base)
{
	char letter = (char)(c | 0x20);
	unsigned digit = base;

	if (c >= '0' && c <= '9') {
		digit = (unsigned)(c - '0');
	} else if (letter >= 'a' && letter <= 'f') {
		digit = (unsigned)(letter - 'a' + 10);
	}
	return digit < base ? digit : base;
}

static const char *read_digits(const char *word, unsigned base, u64 *value, bool *fits)
{
	unsigned digit;

	for (; (digit = digit_of(*word, base)) < base; word++) {
		*fits = *fits && !__builtin_mul_overflow(*value, base, value) &&
			!__builtin_add_overflow(*value, digit, value);
	}
	return word;
}

bool monitor_number(const char *word, u64 *value)
{
	bool hexadecimal = word[0] == '0' && (word[1] | 0x20) == 'x';
	const char *digits = hexadecimal ? word + 2 : word;
	bool fits = true;
	const char *end;

	*value = 0;
	end = read_digits(digits, hexadecimal ? 16 : 10, value, &fits);
	if (end == digits || !fits) {
		return false;
	}
	if (*end) {
		return unit_of_letter(*end) && !end[1] &&
		       !__builtin_mul_overflow(*value, unit_of_letter(*end), value);
	}
	return true;
}

struct vm *monitor_vm(const char *word)
{
	u64 number;
	bool is_number = monitor_number(word[0] == 'd' ? word + 1 : word, &number);

	for (u32 i = 0; i < vm_count; i++) {
		if (strcmp(word, vms[i]->name) == 0 || (is_number && number == vms[i]->number)) {
			return vms[i];
		}
	}
	return NULL;
}

struct vm *monitor_vm_or_say(const char *word)
{
	struct vm *vm = monitor_vm(word);

	if (!vm) {
		console_print("no guest %s; there %s", word, vm_count == 0 ? "is none" : "are");
		for (u32 i = 0; i < vm_count; i++) {
			console_print("%s d%u %s", i > 0 ? "," : "", vms[i]->number, vms[i]->name);
		}
		console_print("\n");
	}
	return vm;
}

/* ---- Commands ------------------------------------------------------------------------------- */

static const struct monitor_command *find_command(const char *name)
{
	for (u32 i = 0; i < ARRAY_COUNT(commands); i++) {
		if (strcmp(name, commands[i].name) == 0) {
			return &commands[i];
		}
	}
	return NULL;
}

static void say_unknown(const char *name)
{
	struct config_guess guess = {.written = name};
	char hint[64];

	for (u32 i = 0; i < ARRAY_COUNT(commands); i++) {
		config_guess_consider(&guess, commands[i].name);
	}
	config_guess_text(&guess, hint, sizeof(hint));
	console_print("no command %s (%s)\n", name, hint[0] ? hint : "help lists them");
}

static void print_usage(const struct monitor_command *command)
{
	console_print("  %-8s %-20s %s\n", command->name, command->arguments, command->help);
}

static void monitor_help(u32 count, char **words)
{
	if (count == 2) {
		const struct monitor_command *command = find_command(words[1]);

		if (command) {
			print_usage(command);
		} else {
			say_unknown(words[1]);
		}
		return;
	}
	for (u32 i = 0; i < ARRAY_COUNT(commands); i++) {
		print_usage(&commands[i]);
	}
	console_print("GUEST is d1, 1, or its name. Back to a guest: Ctrl-] and its number.\n");
}

void monitor_run(char *text)
{
	char *words[MONITOR_WORDS_MAX];
	u32 count = split_words(text, words);
	const struct monitor_command *command;

	if (count == 0) {
		return;
	}
	command = find_command(words[0]);
	if (!command) {
		say_unknown(words[0]);
	} else if (count < command->words_min || count > command->words_max) {
		console_print("%s: usage: %s %s\n",
			      count < command->words_min ? "too few words" : "too many words",
			      command->name, command->arguments);
	} else {
		command->run(count, words);
	}
}

/* ---- The line ------------------------------------------------------------------------------- */

void monitor_enter(void)
{
	line_used = 0;
	escape_left = 0;
	console_print(PROMPT);
}

static void run_line(void)
{
	console_print("\n");
	line[line_used] = 0;
	line_used = 0;
	monitor_run(line);
	if (!console_focus()) { /* the command may have given the keyboard away */
		console_print(PROMPT);
	}
}

static void erase(u32 count)
{
	for (; count > 0 && line_used > 0; count--) {
		line_used--;
		console_print("\b \b");
	}
}

static void insert(u8 key)
{
	if (key >= 0x20 && key < 0x7f && line_used + 1 < MONITOR_LINE_MAX) {
		line[line_used++] = (char)key;
		console_print("%c", key);
	}
}

/* Cursor keys send ESC [ letter or ESC O letter: swallowed, not typed as text. */
static bool swallow_escape(u8 key)
{
	if (key == KEY_ESCAPE) {
		escape_left = 2;
		return true;
	}
	if (escape_left == 2) {
		escape_left = key == '[' || key == 'O' ? 1 : 0;
		return true;
	}
	if (escape_left == 1) {
		escape_left = key >= 0x40 && key <= 0x7e ? 0 : 1;
		return true;
	}
	return false;
}

void monitor_key(u8 key)
{
	bool second_half = key == '\n' && after_return;

	after_return = key == '\r';
	if (second_half || swallow_escape(key)) {
		return;
	}
	switch (key) {
	case '\r':
	case '\n':
		run_line();
		break;
	case KEY_BACKSPACE:
	case KEY_DELETE:
		erase(1);
		break;
	case KEY_CTRL_U:
		erase(line_used);
		break;
	case KEY_CTRL_C:
		line_used = 0;
		console_print("^C\n" PROMPT);
		break;
	default:
		insert(key);
	}
}
