/*
 * Several CPUs in one memory: who touches a fresh page first, atomics, message passing, locks, and
 * CPU_ON of one CPU by all others at once.
 *
 * Bootargs: pages=N (10000) to race for, rounds=N (50) of racing CPU_ON (wants three CPUs or more).
 */
#include "lib.h"

#define ADDS 20000
#define MESSAGES 20000
#define POOL_ALIGN BLOCK_SIZE

static struct barrier barrier;
static u32 arrived;

/* ---- Fresh pages ---- */

static u64 pool, pool_pages;

static void pool_find(void)
{
	u64 end = machine.ram_base + machine.ram_size;

	pool = ((u64)image_end + POOL_ALIGN - 1) & ~(POOL_ALIGN - 1);
	if (machine.tables >= pool) { /* take what is bigger, in front of the tree or behind it */
		u64 behind =
			(machine.tables + machine.tables_size + POOL_ALIGN - 1) & ~(POOL_ALIGN - 1);

		if (behind < end && end - behind > machine.tables - pool) {
			pool = behind;
		} else {
			end = machine.tables;
		}
	}
	pool_pages = (end - pool) / PAGE_SIZE;
}

/* Every page by all CPUs at the same moment: each must see the one page, and its zeroes. */
static void race_for_pages(u32 cpu)
{
	u64 pages = bootarg("pages", 10000);

	__atomic_fetch_add(&arrived, 1, __ATOMIC_RELAXED);
	for (u64 i = 0; i < pages; i++) {
		u64 *page = (u64 *)(pool + i * PAGE_SIZE);

		barrier_wait(&barrier, machine.cpu_count);
		page[8 + cpu] += i * CPUS_MAX + cpu;
		__atomic_fetch_add(&page[0], 1ul << 8 * cpu, __ATOMIC_RELAXED);
	}
}

static u64 pages_wrong(u64 pages)
{
	u64 all = 0, wrong = 0;

	for (u32 cpu = 0; cpu < machine.cpu_count; cpu++) {
		all |= 1ul << 8 * cpu;
	}
	for (u64 i = 0; i < pages; i++) {
		const u64 *page = (const u64 *)(pool + i * PAGE_SIZE);
		bool good = page[0] == all;

		for (u32 cpu = 0; cpu < machine.cpu_count; cpu++) {
			good = good && page[8 + cpu] == i * CPUS_MAX + cpu;
		}
		wrong += !good;
	}
	return wrong;
}

static void check_race_for_pages(void)
{
	u64 pages = bootarg("pages", 10000);

	pool_find();
	if (!check("enough_fresh_pages", pool_pages >= pages, "%lu of %lu", pool_pages, pages)) {
		return;
	}
	cpu_run_all(race_for_pages);
	check_equal("all_cpus_took_part", arrived, machine.cpu_count);
	check_equal("raced_pages_wrong", pages_wrong(pages), 0);
}

/* ---- Atomics ---- */

static u64 atomic_sum, locked_sum;
static struct spinlock sum_lock;

static void add(u32 cpu)
{
	(void)cpu;
	barrier_wait(&barrier, machine.cpu_count);
	for (u32 i = 0; i < ADDS; i++) {
		__atomic_fetch_add(&atomic_sum, 1, __ATOMIC_RELAXED);
	}
	for (u32 i = 0; i < ADDS / 20; i++) {
		spin_lock(&sum_lock);
		*(volatile u64 *)&locked_sum = locked_sum + 1;
		spin_unlock(&sum_lock);
	}
}

static void check_atomics(void)
{
	cpu_run_all(add);
	check_equal("atomic_sum", atomic_sum, (u64)ADDS * machine.cpu_count);
	check_equal("locked_sum", locked_sum, (u64)ADDS / 20 * machine.cpu_count);
}

/* ---- Message passing: data, then flag; whoever sees the flag sees the data ---- */

static struct {
	u64 data __attribute__((aligned(4096)));
	u64 flag __attribute__((aligned(4096)));
} mailbox;
static u64 stale_count;

static void pass_messages(u32 cpu)
{
	barrier_wait(&barrier, machine.cpu_count);
	for (u64 i = 1; !cpu && i <= MESSAGES; i++) {
		__atomic_store_n(&mailbox.data, i, __ATOMIC_RELAXED);
		__atomic_store_n(&mailbox.flag, i, __ATOMIC_RELEASE);
	}
	while (cpu) {
		u64 flag = __atomic_load_n(&mailbox.flag, __ATOMIC_ACQUIRE);

		if (__atomic_load_n(&mailbox.data, __ATOMIC_RELAXED) < flag) {
			__atomic_fetch_add(&stale_count, 1, __ATOMIC_RELAXED);
		}
		if (flag == MESSAGES) {
			break;
		}
	}
}

/* ---- CPU_ON raced: the target stays on until all have asked, so one alone may hear SUCCESS ----
 */

static struct {
	u64 runs; /* written by the target, MMU off */
	u64 pad[7];
	u64 release; /* the target goes off when it is set */
} race __attribute__((aligned(128)));
static u32 successes, odd_answers, rounds_not_one;

extern char race_entry[];
__asm__(".text\n"
	".balign 4\n"
	".globl race_entry\n"
	"race_entry:\n"
	"	ldr x1, [x0]\n"
	"	add x1, x1, #1\n"
	"	str x1, [x0]\n"
	"	dsb sy\n"
	"1:	ldr x1, [x0, #64]\n"
	"	cbz x1, 1b\n"
	"	mov w0, #0x0002\n"
	"	movk w0, #0x8400, lsl #16\n" /* CPU_OFF */
	"	hvc #0\n"
	"	b .\n");

/* What a CPU without caches wrote or will read. */
static volatile u64 *uncached(u64 *p)
{
	__asm__ volatile("dc civac, %0\n\tdsb sy" ::"r"(p) : "memory");
	return p;
}

static void set_release(u64 value)
{
	race.release = value;
	(void)uncached(&race.release);
}

static void race_ask(void)
{
	int r = psci(PSCI_CPU_ON, machine.cpu_ids[machine.cpu_count - 1], (u64)race_entry,
		     (u64)&race);

	if (r == PSCI_SUCCESS) {
		__atomic_fetch_add(&successes, 1, __ATOMIC_RELAXED);
	} else if (r != PSCI_ALREADY_ON && r != PSCI_ON_PENDING) {
		__atomic_fetch_add(&odd_answers, 1, __ATOMIC_RELAXED);
	}
}

/* CPU 0, when all racers have asked: judges the round, and has the target go off. */
static void race_judge(u64 round)
{
	u64 target = machine.cpu_ids[machine.cpu_count - 1];

	rounds_not_one += successes != 1;
	successes = 0;
	if (!wait_until(*uncached(&race.runs) >= round, 5000)) {
		check("cpu_on_success_runs", false, "round %lu: %lu runs", round, race.runs);
		guest_end();
	}
	set_release(1);
	if (!wait_until(psci(PSCI_AFFINITY_INFO, target, 0, 0) == AFFINITY_OFF, 5000)) {
		check("cpu_off_is_seen", false, "round %lu", round);
		guest_end();
	}
	set_release(0);
}

static void race_cpu_on(u32 cpu)
{
	u64 rounds = bootarg("rounds", 50);
	u32 racers = machine.cpu_count - 1;

	for (u64 round = 1; round <= rounds; round++) {
		barrier_wait(&barrier, racers);
		race_ask();
		barrier_wait(&barrier, racers);
		if (!cpu) {
			race_judge(round);
		}
	}
}

static void check_cpu_on_race(void)
{
	u64 rounds = bootarg("rounds", 50);

	for (u32 cpu = 1; cpu < machine.cpu_count - 1; cpu++) {
		cpu_start(cpu, race_cpu_on);
	}
	race_cpu_on(0);
	for (u32 cpu = 1; cpu < machine.cpu_count - 1; cpu++) {
		cpu_wait_off(cpu);
	}
	/* QEMU lets more than one succeed while the target is on its way. */
	check("racing_cpu_on_exactly_one_success", !rounds_not_one || guest_is_bare(),
	      "not in %u of %lu rounds", rounds_not_one, rounds);
	check("racing_cpu_on_one_run_each", *uncached(&race.runs) == rounds || guest_is_bare(),
	      "%lu runs in %lu rounds", race.runs, rounds);
	check_equal("racing_cpu_on_odd_answers", odd_answers, 0);
}

void guest_main(void)
{
	check("two_cpus", machine.cpu_count >= 2, "this guest is configured with one");
	check_race_for_pages();
	check_atomics();
	cpu_run_all(pass_messages);
	check_equal("stale_messages", stale_count, 0);
	if (machine.cpu_count >= 3) {
		check_cpu_on_race();
	}
}
