/*
 * Pages that are ours stay ours, whatever Lamina does to the table behind them (lamina,exercise).
 *
 * All RAM that nothing was loaded to is dealt out to the CPUs page by page, so that neighbours in
 * every block belong to different CPUs. Each round a CPU writes its own pages, with words that
 * depend on address and round; then every CPU reads every page, byte for byte, each in an order of
 * its own. Some words are code: it is run where it lies, and must say the same.
 *
 * Bootargs: rounds=N (8).
 */
#include "lib.h"

#define CODE_EVERY 8 /* pages */
#define PAGES_A_TURN 8
#define STRIDE 7919 /* a prime: steps through all pages unless their number is a multiple */

static struct barrier barrier;
static u64 first_wrong, wrong_words, wrong_code, pages_read, code_runs;

static u64 page_count(void)
{
	return machine.ram_size / PAGE_SIZE;
}

static u64 page_at(u64 index)
{
	return machine.ram_base + index * PAGE_SIZE;
}

static bool has_code(u64 page)
{
	return page / PAGE_SIZE % CODE_EVERY < machine.cpu_count;
}

/* The n-th page in the order of this CPU and round. */
static u64 page_in_order(u64 n, u64 round, u32 cpu)
{
	return page_at((n * STRIDE + round * 104729 + cpu * 1299709) % page_count());
}

/* Lamina works at exits, so there are some whether pages fault or not. */
static void give_a_turn(u64 pages_done)
{
	if (pages_done % PAGES_A_TURN == 0) {
		machine_exit();
	}
}

/* ---- What a page holds ------------------------------------------------------------------------
 */

static u32 answer(u64 page, u64 round)
{
	return (u32)(((page >> 12) + round * 40503) * 0x9e3779b1u);
}

static u64 word(u64 page, u64 round, u64 index)
{
	if (index < CODE_WORDS && has_code(page)) {
		return code_word(answer(page, round), index);
	}
	return (page + 8 * index + (round << 40)) * 0x9e3779b97f4a7c15ul;
}

static void write_page(u64 page, u64 round)
{
	for (u64 i = 0; i < PAGE_SIZE / 8; i++) {
		write64(page + 8 * i, word(page, round, i));
	}
	if (has_code(page)) {
		code_was_written(page);
	}
}

static void read_page(u64 page, u64 round)
{
	u64 wrong = 0;

	for (u64 i = 0; i < PAGE_SIZE / 8; i++) {
		wrong += read64(page + 8 * i) != word(page, round, i);
	}
	if (wrong && !__atomic_fetch_add(&wrong_words, wrong, __ATOMIC_RELAXED)) {
		first_wrong = page;
	}
}

static void run_page(u64 page, u64 round)
{
	if (has_code(page)) {
		code_will_run(); /* another CPU wrote it */
		if (((u32(*)(void))page)() != answer(page, round)) {
			__atomic_fetch_add(&wrong_code, 1, __ATOMIC_RELAXED);
		}
		__atomic_fetch_add(&code_runs, 1, __ATOMIC_RELAXED);
	}
}

/* ---- Rounds -----------------------------------------------------------------------------------
 */

static void write_round(u64 round, u32 cpu)
{
	for (u64 n = 0; n < page_count(); n++) {
		u64 page = page_in_order(n, round, cpu);

		if (page / PAGE_SIZE % machine.cpu_count == cpu && page_is_ours(page)) {
			write_page(page, round);
			give_a_turn(n);
		}
	}
}

static void read_round(u64 round, u32 cpu)
{
	u64 count = 0;

	for (u64 n = 0; n < page_count(); n++) {
		u64 page = page_in_order(n, round, cpu);

		if (page_is_ours(page)) {
			read_page(page, round);
			run_page(page, round);
			give_a_turn(n);
			count++;
		}
	}
	__atomic_fetch_add(&pages_read, count, __ATOMIC_RELAXED);
}

static void work(u32 cpu)
{
	u64 rounds = bootarg("rounds", 8);

	for (u64 round = 1; round <= rounds; round++) {
		write_round(round, cpu);
		barrier_wait(&barrier, machine.cpu_count);
		read_round(round, cpu);
		barrier_wait(&barrier, machine.cpu_count);
	}
}

void guest_main(void)
{
	u64 rounds = bootarg("rounds", 8), ours = 0, with_code = 0, readers;

	for (u64 n = 0; n < page_count(); n++) {
		ours += page_is_ours(page_at(n));
		with_code += page_is_ours(page_at(n)) && has_code(page_at(n));
	}
	check("order_reaches_every_page", page_count() % STRIDE, "%lu pages", page_count());
	cpu_run_all(work);
	readers = rounds * machine.cpu_count;
	check_equal("every_page_was_read_by_every_cpu", pages_read, ours * readers);
	check("every_byte_is_what_was_written", !wrong_words, "%lu words, in 0x%lx", wrong_words,
	      first_wrong);
	check_equal("code_was_run_by_every_cpu", code_runs, with_code * readers);
	check_equal("code_said_something_else", wrong_code, 0);
}
