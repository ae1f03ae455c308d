/*
 * The virtual and the physical timer: at once, never, far and near, both together, out of WFI, and
 * a thousand ticks of which none may be lost.
 *
 * Bootargs: ticks=N (1000), period_us=N (1000).
 */
#include "lib.h"

struct timer {
	const char *name;
	u32 intid;
	u64 (*now)(void);
	void (*set_cval)(u64);
	void (*set_tval)(u64);
	u64 (*get_tval)(void);
	void (*set_ctl)(u64);
	u64 (*get_ctl)(void);
};

#define CTL_ENABLE 1
#define CTL_MASK 2
#define CTL_STATUS 4

#define ACCESSORS(p)                                                                               \
	static u64 p##_now(void)                                                                   \
	{                                                                                          \
		isb();                                                                             \
		return read_sysreg(p##ct_el0);                                                     \
	}                                                                                          \
	static void p##_set_cval(u64 v)                                                            \
	{                                                                                          \
		write_sysreg(p##_cval_el0, v);                                                     \
	}                                                                                          \
	static void p##_set_tval(u64 v)                                                            \
	{                                                                                          \
		write_sysreg(p##_tval_el0, v);                                                     \
	}                                                                                          \
	static u64 p##_get_tval(void)                                                              \
	{                                                                                          \
		return read_sysreg(p##_tval_el0);                                                  \
	}                                                                                          \
	static void p##_set_ctl(u64 v)                                                             \
	{                                                                                          \
		write_sysreg(p##_ctl_el0, v);                                                      \
	}                                                                                          \
	static u64 p##_get_ctl(void)                                                               \
	{                                                                                          \
		return read_sysreg(p##_ctl_el0);                                                   \
	}
ACCESSORS(cntv)
ACCESSORS(cntp)

#define TIMER(p, id)                                                                               \
	{                                                                                          \
#p, id, p##_now, p##_set_cval, p##_set_tval, p##_get_tval, p##_set_ctl,            \
			p##_get_ctl                                                                \
	}
static const struct timer timers[2] = {TIMER(cntv, INTID_VTIMER), TIMER(cntp, INTID_PTIMER)};

/* What the handler saw, by timer. */
static volatile u32 fired[2];
static volatile u64 fired_at[2];
static volatile u32 strange;
static volatile u64 period; /* ticks; not 0: the handler arms the virtual timer again */

static void handle_irq(void)
{
	u32 intid = gic_acknowledge();
	u32 i = intid == INTID_PTIMER;

	if (intid != INTID_VTIMER && intid != INTID_PTIMER) {
		strange++;
	} else {
		fired[i]++;
		fired_at[i] = timers[i].now();
		if (period && !i) {
			write_sysreg(cntv_cval_el0, read_sysreg(cntv_cval_el0) + period);
		} else {
			timers[i].set_ctl(0);
		}
	}
	if (intid < 1020) {
		gic_end(intid);
	}
}

static void start(const struct timer *t)
{
	fired[t - timers] = 0;
	t->set_ctl(CTL_ENABLE);
}

#define named(suffix) (t == timers ? "cntv_" suffix : "cntp_" suffix)

/*
 * QEMU 7.2 adds the virtual timer's offset to CVAL without looking for overflow (gt_recalc_timer),
 * takes the sum for the past, and spins for ever: with a hypervisor's offset beneath, stay that
 * much away from the end.
 */
static u64 far_away(const struct timer *t)
{
	bool offset = t == timers && !guest_is_bare();

	return offset ? ~0ul << 48 : ~0ul;
}

static void check_at_once_and_never(const struct timer *t)
{
	volatile u32 *count = &fired[t - timers];

	t->set_cval(0);
	start(t);
	check(named("cval_0_fires_at_once"), wait_until(*count, 1000), "never");
	t->set_cval(t->now());
	start(t);
	check(named("cval_now_fires_at_once"), wait_until(*count, 1000), "never");
	t->set_cval(far_away(t));
	start(t);
	wait_microseconds(20000);
	check_equal(named("cval_far_never_fires"), *count, 0);
	check_equal(named("status_is_clear_before"), t->get_ctl(), CTL_ENABLE);
	t->set_ctl(0);
	t->set_cval(1ul << 63);
	start(t);
	wait_microseconds(5000);
	check_equal(named("cval_2_to_63_never_fires"), *count, 0);
	t->set_ctl(0);
}

static void check_tval(const struct timer *t)
{
	volatile u32 *count = &fired[t - timers];
	u64 from = t->now(), us = microseconds(3000);

	t->set_tval(us);
	start(t);
	check(named("tval_fires"), wait_until(*count, 1000), "never");
	check(named("tval_fires_not_early"), fired_at[t - timers] >= from + us, "%ld ticks",
	      (s64)(fired_at[t - timers] - from));
	t->set_tval(0xffffffff); /* minus one */
	start(t);
	check(named("tval_negative_fires_at_once"), wait_until(*count, 1000), "never");
	t->set_tval(0xffffff00);
	check_equal(named("tval_reads_back_signed"), t->get_tval() >> 31 & 1, 1);
	t->set_tval(0x7fffffff);
	start(t);
	wait_microseconds(3000);
	check_equal(named("tval_most_positive_does_not_fire"), *count, 0);
	check(named("tval_counts_down"), t->get_tval() < 0x7fffffff, "%lx", t->get_tval());
	t->set_ctl(0);
}

/* IMASK and disabling keep the line low; ISTATUS tells the truth all the while. */
static void check_mask(const struct timer *t)
{
	volatile u32 *count = &fired[t - timers];

	*count = 0;
	t->set_cval(0);
	t->set_ctl(CTL_ENABLE | CTL_MASK);
	wait_microseconds(2000);
	check_equal(named("masked_does_not_fire"), *count, 0);
	check_equal(named("masked_has_status"), t->get_ctl(), CTL_ENABLE | CTL_MASK | CTL_STATUS);
	t->set_ctl(CTL_ENABLE);
	check(named("unmasked_fires"), wait_until(*count, 1000), "never");
	t->set_ctl(0);
}

/* The line drops before anyone acknowledges: nothing may be left to acknowledge. */
static void check_withdrawn(const struct timer *t)
{
	irq_disable();
	fired[t - timers] = 0;
	t->set_cval(0);
	t->set_ctl(CTL_ENABLE);
	check(named("is_signalled"), wait_until(irq_is_signalled(), 1000), "never");
	check(named("is_pending"), gic_is_pending(t->intid), "not in GICR_ISPENDR0");
	t->set_ctl(0);
	irq_enable();
	wait_microseconds(2000);
	/* An interrupt already on its way may come once, as the GIC allows (IHI 0069 4.1); not
	 * twice. */
	check(named("withdrawn_comes_at_most_once"), fired[t - timers] <= 1, "%u times",
	      fired[t - timers]);
	t->set_cval(0);
	start(t);
	check(named("fires_after_withdrawal"), wait_until(fired[t - timers], 1000), "never");
}

static void check_wfi(const struct timer *t)
{
	volatile u32 *count = &fired[t - timers];
	u64 due = t->now() + microseconds(5000), late = 0;

	irq_disable();
	t->set_cval(due);
	start(t);
	while (t->now() < due) { /* WFI may return early, but this loop must end */
		__asm__ volatile("wfi" ::: "memory");
	}
	late = t->now() - due;
	irq_enable();
	check(named("wfi_wakes"), wait_until(*count, 1000) && *count == 1, "%u interrupts", *count);
	check(named("wfi_wakes_within_a_second"), late < microseconds(1000000), "%lu ticks late",
	      late);
}

static void check_both(void)
{
	u64 due = counter() + microseconds(4000);

	fired[0] = fired[1] = 0;
	timers[0].set_cval(due);
	timers[1].set_cval(timers[1].now() + microseconds(4000));
	timers[0].set_ctl(CTL_ENABLE);
	timers[1].set_ctl(CTL_ENABLE);
	check("both_timers_fire", wait_until(fired[0] && fired[1], 1000), "%u and %u", fired[0],
	      fired[1]);
	check("both_timers_fire_once", fired[0] == 1 && fired[1] == 1, "%u and %u", fired[0],
	      fired[1]);
}

static void check_monotonic(const struct timer *t)
{
	u64 last = t->now();
	u32 backwards = 0;

	for (u32 i = 0; i < 100000; i++) {
		u64 now = t->now();

		backwards += now < last;
		last = now;
	}
	check_equal(named("counter_is_monotonic"), backwards, 0);
}

/* Each expiry sets the next from the one before: a lost one stops them all, a doubled one is
 * counted. */
static void check_periodic(void)
{
	u32 ticks = (u32)bootarg("ticks", 1000);
	u64 step = microseconds(bootarg("period_us", 1000)), first = counter() + step, end;

	fired[0] = 0;
	period = step;
	timers[0].set_cval(first);
	timers[0].set_ctl(CTL_ENABLE);
	while (fired[0] < ticks && counter() < first + 20 * step * ticks) {
		__asm__ volatile("wfi" ::: "memory");
	}
	irq_disable();
	end = read_sysreg(cntv_cval_el0);
	timers[0].set_ctl(0);
	period = 0;
	irq_enable();
	check("periodic_ticks_none_lost", fired[0] >= ticks, "%u of %u", fired[0], ticks);
	check_equal("periodic_ticks_none_doubled", end, first + step * fired[0]);
}

void guest_main(void)
{
	gic_init_distributor();
	gic_init_cpu();
	irq_handler = handle_irq;
	for (const struct timer *t = timers; t < timers + 2; t++) {
		t->set_ctl(0);
		gic_enable(t->intid);
	}
	irq_enable();
	for (const struct timer *t = timers; t < timers + 2; t++) {
		check_monotonic(t);
		check_at_once_and_never(t);
		check_tval(t);
		check_mask(t);
		check_withdrawn(t);
		check_wfi(t);
	}
	check_both();
	check_periodic();
	irq_disable();
	check_equal("no_other_interrupts", strange, 0);
}
