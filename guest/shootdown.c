/*
 * Lamina takes translations away while another CPU uses them: does that CPU ever use an old one,
 * and who is disturbed for it?
 *
 * Two pages are moved to other frames again and again; their old frames are wiped at once. This CPU
 * counts up in the first, the other reads there: a word that is 0, or goes back, came from an old
 * frame. The other counts up in the second, and reads back what it wrote: a write that is lost went
 * to one.
 *
 * Bootargs: rounds=N (200).
 */
#include "lib_probe.h"

#define PAGE_OFFSET (12ul << 20)

static u64 counted_here, counted_there; /* the pages */
static bool stop;
static u64 looks, stale, lost;

static void watch(u32 cpu)
{
	u64 last = 1;

	(void)cpu;
	for (u64 n = 1; !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); n++) {
		u64 seen = read64(counted_here);

		stale += seen < last;
		last = seen;
		write64(counted_there, n);
		lost += read64(counted_there) != n;
		__atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED);
	}
}

static void move(u64 page)
{
	probe(PROBE_EXERCISE, EXERCISE_MIGRATE, page, PAGE_SIZE);
}

static void alone(u64 rounds)
{
	u64 kicks = probe(PROBE_KICKS, 0, 0, 0), closes = probe(PROBE_ROUNDS, 0, 0, 0);

	for (u64 i = 0; i < rounds; i++) {
		move(counted_here);
	}
	closes = probe(PROBE_ROUNDS, 0, 0, 0) - closes;
	check("a_page_is_moved_by_a_close", closes >= rounds, "%lu closes", closes);
	check_equal("nobody_is_kicked_who_is_not_there", probe(PROBE_KICKS, 0, 0, 0), kicks);
}

/* The other CPU has looked again since. */
static void wait_for_a_look(void)
{
	u64 before = __atomic_load_n(&looks, __ATOMIC_RELAXED);

	wait_until(__atomic_load_n(&looks, __ATOMIC_RELAXED) != before, 5000);
}

/* One other CPU: a close kicks it at most once, and not when it is in Lamina just then. */
static void together(u64 rounds)
{
	u64 kicks = probe(PROBE_KICKS, 0, 0, 0), closes = probe(PROBE_ROUNDS, 0, 0, 0);

	cpu_start(1, watch);
	for (u64 n = 2; n < rounds + 2; n++) {
		wait_for_a_look();
		write64(counted_here, n);
		move(counted_here);
		move(counted_there);
		probe(PROBE_EXERCISE, EXERCISE_PROTECT, counted_there, PAGE_SIZE);
		probe(PROBE_EXERCISE, EXERCISE_HARVEST, counted_here, PAGE_SIZE);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	cpu_wait_off(1);
	kicks = probe(PROBE_KICKS, 0, 0, 0) - kicks;
	closes = probe(PROBE_ROUNDS, 0, 0, 0) - closes;
	print("%lu closes, %lu kicks, %lu looks", closes, kicks, looks);
	check("no_more_kicks_than_closes", kicks <= closes, "%lu, %lu closes", kicks, closes);
}

void guest_main(void)
{
	u64 rounds = bootarg("rounds", 200);

	probe_need();
	counted_here = machine.ram_base + PAGE_OFFSET;
	counted_there = counted_here + BLOCK_SIZE;
	write64(counted_here, 1);
	write64(counted_there, 0);
	alone(rounds);
	together(rounds);
	check("the_other_cpu_was_there", looks > rounds, "%lu looks", looks);
	check_equal("words_from_an_old_frame", stale, 0);
	check_equal("writes_to_an_old_frame", lost, 0);
}
