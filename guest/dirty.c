/*
 * Which pages were written? Lamina must say exactly those, from its tables and, where the CPU keeps
 * one, from the CPU's own log (x86's PML): none too many, none missing.
 *
 * A window of pages, each mapped for itself. Some are written, by both CPUs and in several ways,
 * some read; then Lamina is asked. Some are watched anew and asked about again; then all are
 * written, which are more than a log holds at once.
 */
#include "lib_probe.h"

#define WINDOW_OFFSET (8ul << 20)
#define PAGES 1536ul
#define WORDS (PAGES / 64)

enum how { BY_TABLES, BY_LOG };

static u64 window;
static u64 written[WORDS], expected[WORDS];

static u64 page_at(u64 index)
{
	return window + index * PAGE_SIZE;
}

static void note(u64 index)
{
	__atomic_fetch_or(&written[index / 64], 1ul << index % 64, __ATOMIC_RELAXED);
}

/* ---- Asking ------------------------------------------------------------------------------------
 */

static void compare(const char *name, enum how how, const u64 *want)
{
	u64 missing = 0, extra = 0, first = ~0ul;

	for (u64 i = 0; i < WORDS; i++) {
		u64 got = probe(PROBE_DIRTY_GET, page_at(64 * i), how, 0);

		missing += (u64)__builtin_popcountl(want[i] & ~got);
		extra += (u64)__builtin_popcountl(got & ~want[i]);
		if (got != want[i] && first == ~0ul) {
			first = 64 * i + (u64)__builtin_ctzl(got ^ want[i]);
		}
	}
	check(name, missing + extra == 0, "%lu pages missing, %lu too many, first %lu", missing,
	      extra, first);
}

static void expect_log(const char *name, const u64 *want)
{
	if (probe(PROBE_DIRTY_LOGS, 0, 0, 0)) {
		compare(name, BY_LOG, want);
	}
}

/* ---- Writing -----------------------------------------------------------------------------------
 */

/* The log of a CPU is told of when that CPU exits. */
static void write_on_the_other(u32 cpu)
{
	(void)cpu;
	for (u64 i = 3; i < PAGES; i += 11) {
		write8(page_at(i) + i % PAGE_SIZE, (u8)i);
		note(i);
	}
	machine_exit();
}

static void write_some(void)
{
	for (u64 i = 0; i < PAGES; i += 7) {
		write64(page_at(i) + 8 * (i % 512), i);
		note(i);
	}
	for (u64 i = 5; i < PAGES; i += 131) {
		__atomic_fetch_add((u64 *)page_at(i), 0, __ATOMIC_SEQ_CST);
		note(i);
	}
	if (machine.cpu_count > 1 && cpu_start(1, write_on_the_other) == 0) {
		cpu_wait_off(1);
	}
}

static u64 read_all(void)
{
	u64 sum = 0;

	for (u64 i = 0; i < PAGES; i++) {
		sum += read64(page_at(i));
	}
	return sum;
}

static void write_all(void)
{
	for (u64 i = 0; i < PAGES; i++) {
		write64(page_at(i), i);
	}
}

/* ---- The rounds --------------------------------------------------------------------------------
 */

static void prepare(void)
{
	window = machine.ram_base + WINDOW_OFFSET;
	for (u64 i = 0; i < PAGES; i++) {
		if (!page_is_ours(page_at(i))) {
			check("the_window_is_free", false, "page %lu is not", i);
			guest_end();
		}
	}
	write_all();
	probe(PROBE_EXERCISE, EXERCISE_SPLIT, window, PAGES * PAGE_SIZE);
}

static void first_round(void)
{
	static const u64 none[WORDS];

	check_equal("logging_starts", probe(PROBE_DIRTY_START, 0, 0, 0), 0);
	read_all();
	compare("what_was_only_read_is_clean", BY_TABLES, none);
	expect_log("log_of_what_was_only_read", none);
	write_some();
	compare("what_was_written", BY_TABLES, written);
	expect_log("log_of_what_was_written", written);
	expect_log("log_tells_of_a_page_once", none);
}

/* Every other word of the window is watched anew. */
static void second_round(void)
{
	static const u64 none[WORDS];

	for (u64 i = 0; i < WORDS; i++) {
		expected[i] = written[i];
		if (i % 2 == 0) {
			probe(PROBE_DIRTY_CLEAR, page_at(64 * i), written[i], 0);
			expected[i] = 0;
		}
	}
	compare("what_was_not_watched_anew", BY_TABLES, expected);
	expect_log("log_of_nothing", none);
	write_all();
	for (u64 i = 0; i < WORDS; i++) {
		written[i] = ~expected[i];
		expected[i] = ~0ul;
	}
	compare("everything_was_written", BY_TABLES, expected);
	expect_log("log_of_what_was_clean", written);
}

void guest_main(void)
{
	static const u64 none[WORDS];

	probe_need();
	prepare();
	first_round();
	second_round();
	probe(PROBE_DIRTY_STOP, 0, 0, 0);
	write_all();
	compare("nothing_is_told_of_when_nothing_is_logged", BY_TABLES, none);
}
