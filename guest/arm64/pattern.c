/*
 * One of several guests on a machine: fills its RAM with words that depend on address and seed, and
 * looks at them again and again while the others do the same. A word of another guest's, or of
 * nobody's, is found. So are interrupts and counts that are another's: each CPU counts its own
 * timer's ticks.
 *
 * Bootargs: seed=N, ms=N (2000) to go on for.
 */
#include "lib.h"

#define TICK_US 10000

static u64 first_wrong;
static volatile u32 ticks, other_interrupts;

static u64 word_at(u64 a, u64 seed)
{
	return (a + (seed << 40)) * 0x9e3779b97f4a7c15ul;
}

static void fill(u64 seed)
{
	for (u64 page = machine.ram_base; page < machine.ram_base + machine.ram_size;
	     page += PAGE_SIZE) {
		for (u64 a = page; page_is_ours(page) && a < page + PAGE_SIZE; a += 8) {
			write64(a, word_at(a, seed));
		}
	}
}

static u64 count_wrong(u64 seed)
{
	u64 wrong = 0;

	for (u64 page = machine.ram_base; page < machine.ram_base + machine.ram_size;
	     page += PAGE_SIZE) {
		for (u64 a = page; page_is_ours(page) && a < page + PAGE_SIZE; a += 8) {
			if (read64(a) != word_at(a, seed)) {
				first_wrong = wrong++ ? first_wrong : a;
			}
		}
	}
	return wrong;
}

static void handle_irq(void)
{
	u32 intid = gic_acknowledge();

	if (intid == INTID_VTIMER) {
		write_sysreg(cntv_cval_el0, read_sysreg(cntv_cval_el0) + microseconds(TICK_US));
		ticks++;
	} else {
		other_interrupts++;
	}
	if (intid < 1020) {
		gic_end(intid);
	}
}

static void start_ticking(void)
{
	gic_init_distributor();
	gic_init_cpu();
	irq_handler = handle_irq;
	gic_enable(INTID_VTIMER);
	write_sysreg(cntv_cval_el0, counter() + microseconds(TICK_US));
	write_sysreg(cntv_ctl_el0, 1);
	irq_enable();
}

void guest_main(void)
{
	u64 seed = bootarg("seed", 1), wrong = 0, rounds = 0, start = counter();
	u64 end = start + microseconds(1000 * bootarg("ms", 2000));

	start_ticking();
	fill(seed);
	print("seed %lu: filled %lu MiB", seed, machine.ram_size >> 20);
	do {
		wrong += count_wrong(seed);
		rounds++;
		if (rounds % 2) { /* keep writing, too */
			fill(seed);
		}
	} while (counter() < end);
	irq_disable();
	write_sysreg(cntv_ctl_el0, 0);
	check("memory_is_ours_alone", !wrong, "%lu words in %lu rounds, as 0x%lx", wrong, rounds,
	      first_wrong);
	check("timer_ticked", ticks >= 10, "%u ticks", ticks);
	check_equal("interrupts_of_others", other_interrupts, 0);
}
