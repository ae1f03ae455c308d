/*
 * Interrupts of a PC. The local APIC is asked twice, by its page and by its MSRs: priorities, its
 * timer in each of its modes, errors. Then the I/O APIC by the UART's line, and two CPUs between
 * which all kinds of interrupts go. Time comes late on a busy host; it never comes early.
 *
 * Bootargs: ipis=N (200) to send of each kind.
 */
#include "lib.h"

/* Registers, as MSRs number them; in the page each is 16 bytes. */
#define REG_ID 0x02
#define REG_VERSION 0x03
#define REG_TPR 0x08
#define REG_EOI 0x0b
#define REG_SVR 0x0f
#define REG_ISR 0x10
#define REG_IRR 0x20
#define REG_ESR 0x28
#define REG_ICR 0x30
#define REG_ICR_HIGH 0x31
#define REG_TIMER 0x32
#define REG_ERROR 0x37
#define REG_INITIAL 0x38
#define REG_CURRENT 0x39
#define REG_DIVIDE 0x3e
#define MSR_X2APIC 0x800u
#define MSR_DEADLINE 0x6e0u

#define LVT_MASKED (1u << 16)
#define TIMER_PERIODIC (1u << 17)
#define TIMER_DEADLINE (2u << 17)
#define ICR_SELF (1u << 18)
#define ICR_OTHERS (3u << 18)
#define ICR_NMI 0x400u
#define ICR_LOWEST 0x100u
#define ICR_LOGICAL 0x800u
#define ICR_INIT 0x4500u

#define LOW 0x41 /* vectors: of class 4, of class 5 */
#define HIGH 0x51
#define TIMER 0x42
#define ERROR 0x43
#define LINE 0x52

static bool by_msr;

static u32 get(u32 reg)
{
	return by_msr ? (u32)read_msr(MSR_X2APIC + reg) : read32(LAPIC_BASE + 16 * reg);
}

static void put(u32 reg, u32 value)
{
	if (by_msr) {
		write_msr(MSR_X2APIC + reg, value);
	} else {
		write32(LAPIC_BASE + 16 * reg, value);
	}
}

static bool is_requested(u32 vector)
{
	return get(REG_IRR + vector / 32) >> vector % 32 & 1;
}

static bool is_in_service(u32 vector)
{
	return get(REG_ISR + vector / 32) >> vector % 32 & 1;
}

static void send_self(u32 vector)
{
	put(REG_ICR, ICR_SELF | vector);
}

/* ---- Handlers ------------------------------------------------------------------------------- */

static volatile u32 taken[GATES];
static volatile u32 order[4], order_count;
static volatile u64 taken_at;
static volatile bool keep; /* do not end it: it stays in service */

static void take(u32 vector)
{
	taken_at = counter();
	taken[vector]++;
	if (order_count < ARRAY_SIZE(order)) {
		order[order_count++] = vector;
	}
	if (!keep) {
		put(REG_EOI, 0);
	}
}

#define HANDLER(name, vector)                                                                      \
	__attribute__((interrupt)) static void name(void *frame)                                   \
	{                                                                                          \
		(void)frame;                                                                       \
		take(vector);                                                                      \
	}
HANDLER(take_low, LOW)
HANDLER(take_high, HIGH)
HANDLER(take_timer, TIMER)
HANDLER(take_error, ERROR)

static volatile u32 nmis, nmis_inside, nmi_depth;

/* Until its IRET no other comes, though this one has an exception of its own and many exits. */
__attribute__((interrupt)) static void take_nmi(void *frame)
{
	(void)frame;
	nmis_inside += ++nmi_depth > 1;
	for (u32 i = 0; i < 8; i++) {
		cpuid(0, 0);
	}
	nmi_depth--;
	nmis++;
}

static void set_gates(void)
{
	gate_set(LOW, take_low);
	gate_set(HIGH, take_high);
	gate_set(TIMER, take_timer);
	gate_set(ERROR, take_error);
	gate_set(VECTOR_NMI, take_nmi);
}

static void forget(void)
{
	memset((void *)taken, 0, sizeof(taken));
	order_count = 0;
}

/* STI keeps interrupts away for one instruction more: HLT has begun when they come. */
static void halt(void)
{
	__asm__ volatile("sti\n\thlt\n\tcli" ::: "memory");
}

/* Long enough for all that waits. */
static void let_in(void)
{
	__asm__ volatile("sti\n\tnop\n\tnop\n\tcli" ::: "memory");
}

/* ---- Priorities ----------------------------------------------------------------------------- */

static void check_delivery(void)
{
	forget();
	send_self(LOW);
	check("masked_interrupt_waits", is_requested(LOW) && !taken[LOW], "%u came", taken[LOW]);
	let_in();
	check_equal("and_comes_once", taken[LOW], 1);
	check_equal("and_waits_no_more", is_requested(LOW), false);
	send_self(LOW);
	send_self(LOW);
	let_in();
	check_equal("two_of_one_vector_are_one", taken[LOW], 2);
	send_self(LOW);
	halt();
	check_equal("halt_with_one_waiting_ends_at_once", taken[LOW], 3);
	check_equal("nothing_is_left_in_service", is_in_service(LOW), false);
}

static void check_priorities(void)
{
	forget();
	send_self(LOW);
	send_self(HIGH);
	let_in();
	check("the_more_urgent_comes_first",
	      order_count == 2 && order[0] == HIGH && order[1] == LOW, "%u came, the first 0x%x",
	      order_count, order[0]);
	put(REG_TPR, 0x50);
	send_self(LOW);
	send_self(HIGH);
	let_in();
	check("priority_holds_its_own_class_and_lower", order_count == 2, "0x%x came", order[2]);
	put(REG_TPR, 0x40);
	let_in();
	check("and_lets_higher_ones_in", order_count == 3 && order[2] == HIGH, "%u came",
	      order_count);
	put(REG_TPR, 0);
	let_in();
	check("and_the_rest_when_it_is_lowered", order_count == 4 && order[3] == LOW, "%u came",
	      order_count);
}

static void check_service(void)
{
	forget();
	keep = true;
	send_self(HIGH);
	let_in();
	check("taken_is_in_service", is_in_service(HIGH) && !is_requested(HIGH), "it is not");
	send_self(LOW);
	let_in();
	check_equal("service_holds_lower_ones", taken[LOW], 0);
	keep = false;
	put(REG_EOI, 0);
	let_in();
	check_equal("its_end_lets_them_in", taken[LOW], 1);
	check("nothing_is_in_service", !is_in_service(HIGH) && !is_in_service(LOW), "something is");
}

static void check_errors(void)
{
	forget();
	put(REG_ERROR, ERROR);
	send_self(3); /* vectors below 16 are exceptions' */
	let_in();
	check_equal("illegal_vector_is_an_error", taken[ERROR], 1);
	put(REG_ESR, 0);
	check_equal("error_is_told", get(REG_ESR) & 0x20, 0x20);
	put(REG_ESR, 0);
	check_equal("error_is_told_once", get(REG_ESR), 0);
	put(REG_ERROR, LVT_MASKED);
}

/* ---- The timer ------------------------------------------------------------------------------ */

static bool timer_comes(u32 before, u64 ms)
{
	u64 end = counter() + microseconds(1000 * ms);

	while (taken[TIMER] == before && counter() < end) {
		let_in();
		cpu_relax();
	}
	return taken[TIMER] != before;
}

static void check_deadline(void)
{
	u32 early = 0, came = 0;
	u64 latest = 0;

	forget();
	put(REG_TIMER, TIMER_DEADLINE | TIMER);
	__asm__ volatile("mfence" ::: "memory");
	for (u32 i = 0; i < 20; i++) {
		u64 deadline = counter() + microseconds(100 * i);

		write_msr(MSR_DEADLINE, deadline);
		halt();
		came += taken[TIMER] == i + 1;
		early += taken_at < deadline;
		latest = taken_at - deadline > latest ? taken_at - deadline : latest;
	}
	check("deadline_ends_a_halt", came == 20, "%u of 20", came);
	check_equal("deadline_is_never_early", early, 0);
	check("deadline_is_not_forgotten", latest < microseconds(1000000), "%lu ticks late",
	      latest);
	check_equal("deadline_reads_zero_when_it_has_passed", read_msr(MSR_DEADLINE), 0);
	write_msr(MSR_DEADLINE, counter() + microseconds(1000));
	write_msr(MSR_DEADLINE, 0);
	check("deadline_of_zero_is_none", !timer_comes(20, 5), "it came");
	write_msr(MSR_DEADLINE, 1);
	check("deadline_in_the_past_comes_at_once", timer_comes(20, 100), "it did not");
	put(REG_TIMER, TIMER_DEADLINE | LVT_MASKED | TIMER);
	write_msr(MSR_DEADLINE, counter());
	check("masked_deadline_does_not_come", !timer_comes(21, 2), "it came");
	check_equal("masked_deadline_passes_all_the_same", read_msr(MSR_DEADLINE), 0);
}

static void check_one_shot(void)
{
	u32 first, then;

	forget();
	put(REG_DIVIDE, 3); /* by 16 */
	put(REG_TIMER, TIMER);
	write_msr(MSR_DEADLINE, counter());
	check_equal("no_deadline_in_another_mode", read_msr(MSR_DEADLINE), 0);
	put(REG_INITIAL, ~0u);
	first = get(REG_CURRENT);
	wait_microseconds(1000);
	then = get(REG_CURRENT);
	check("count_falls", then < first && first != ~0u, "from 0x%x to 0x%x", first, then);
	put(REG_INITIAL, 0);
	check("count_of_zero_stops", get(REG_CURRENT) == 0 && !timer_comes(0, 2), "it goes on");
	put(REG_INITIAL, 1000);
	halt();
	check_equal("one_shot_ends_a_halt", taken[TIMER], 1);
	check("one_shot_comes_once", !timer_comes(1, 2) && get(REG_CURRENT) == 0, "it came again");
}

static void check_periodic(void)
{
	u64 start = counter(), period;

	forget();
	put(REG_DIVIDE, 0xb); /* by 1 */
	put(REG_TIMER, TIMER_PERIODIC | TIMER);
	put(REG_INITIAL, (u32)microseconds(1000));
	for (u32 i = 0; i < 10; i++) {
		halt();
	}
	period = (counter() - start) / 10;
	put(REG_INITIAL, 0);
	check_equal("periodic_comes_again_and_again", taken[TIMER], 10);
	check("periodic_is_never_early", period >= microseconds(900), "%lu ticks", period);
	put(REG_TIMER, LVT_MASKED);
}

static void check_local(void)
{
	print("the local APIC by its %s", by_msr ? "MSRs" : "page");
	put(REG_SVR, 0x1ff);
	check_equal("id_is_zero", get(REG_ID), 0);
	check_equal("version_and_entries", get(REG_VERSION) & 0xff00ff, 0x050014);
	check_delivery();
	check_priorities();
	check_service();
	check_errors();
	check_deadline();
	check_one_shot();
	check_periodic();
}

/* ---- The I/O APIC: its pin 4 is the UART's --------------------------------------------------- */

#define UART_IER (COM1 + 1)
#define UART_IIR (COM1 + 2)
#define UART_MCR (COM1 + 4)
#define IER_TRANSMITTER 2
#define MCR_OUT2 8
#define UART_PIN 4
#define PIN_LEVEL (1u << 15)
#define PIN_REMOTE_IRR (1u << 14)
#define PIN_MASKED (1u << 16)

static volatile u32 lines;
static volatile u8 causes;
static volatile bool leave_asserted;

static u32 pin_get(void)
{
	write32(IOAPIC_BASE, 0x10 + 2 * UART_PIN);
	return read32(IOAPIC_BASE + 0x10);
}

static void pin_set(u32 low)
{
	write32(IOAPIC_BASE, 0x11 + 2 * UART_PIN);
	write32(IOAPIC_BASE + 0x10, 0);
	write32(IOAPIC_BASE, 0x10 + 2 * UART_PIN);
	write32(IOAPIC_BASE + 0x10, low);
}

__attribute__((interrupt)) static void take_line(void *frame)
{
	(void)frame;
	lines++;
	if (!leave_asserted) {
		causes = in8(UART_IIR); /* takes it back */
	}
	leave_asserted = false;
	put(REG_EOI, 0);
}

static void uart_asserts(bool on)
{
	out8(UART_IER, on ? IER_TRANSMITTER : 0);
}

static void check_edge(void)
{
	u32 before;

	lines = 0;
	pin_set(LINE);
	uart_asserts(true);
	let_in();
	uart_asserts(false);
	before = lines;
	let_in();
	check("edge_comes_once", before == 1 && lines == 1, "%u came", lines);
	check_equal("uart_said_why", causes & 0xf, IER_TRANSMITTER);
}

static void check_level(void)
{
	bool remote, waits;
	u32 before;

	lines = 0;
	pin_set(PIN_MASKED | PIN_LEVEL | LINE);
	uart_asserts(true);
	let_in();
	before = lines;
	pin_set(PIN_LEVEL | LINE);
	remote = pin_get() & PIN_REMOTE_IRR;
	waits = is_requested(LINE);
	leave_asserted = true;
	let_in();
	let_in();
	uart_asserts(false);
	check_equal("masked_line_does_not_come", before, 0);
	check("line_that_was_there_comes_when_it_may", remote && waits,
	      "remote IRR %u, requested %u", remote, waits);
	check_equal("line_that_stays_comes_again", lines, 2);
	check_equal("line_that_ended_does_not", pin_get() & PIN_REMOTE_IRR, 0);
	pin_set(PIN_MASKED);
}

static void check_lines(void)
{
	gate_set(LINE, take_line);
	out8(UART_MCR, MCR_OUT2);
	check_edge();
	check_level();
}

/* ---- Two CPUs ------------------------------------------------------------------------------- */

static volatile u32 sleeper_state, stop;
enum { SLEEPER_AWAY, SLEEPER_HALTS, SLEEPER_MASKED, SLEEPER_SHADOWS, SLEEPER_DONE };

static void send(u32 cpu, u32 low)
{
	write_msr(MSR_X2APIC_ICR, (u64)cpu << 32 | low);
}

/* CPU 1: takes what comes in a halt, until it is told to stop. */
static void sleep_on(u32 cpu)
{
	(void)cpu;
	sleeper_state = SLEEPER_HALTS;
	while (!stop) {
		halt();
	}
	sleeper_state = SLEEPER_DONE;
}

static void check_kind(const char *name, u32 destination, u32 low, volatile u32 *counted)
{
	u32 wanted = (u32)bootarg("ipis", 200), lost = 0;

	*counted = 0;
	for (u32 i = 0; i < wanted && !lost; i++) {
		send(destination, low);
		lost += !wait_until(*counted == i + 1, 2000);
	}
	check(name, !lost && *counted == wanted, "%u of %u", *counted, wanted);
}

static void check_kinds(void)
{
	stop = 0;
	cpu_start(1, sleep_on);
	check_kind("ipi_wakes_a_halted_cpu", 1, LOW, &taken[LOW]);
	check_kind("ipi_to_all_others", 0, ICR_OTHERS | LOW, &taken[LOW]);
	check_kind("ipi_to_a_logical_id", 2, ICR_LOGICAL | LOW, &taken[LOW]);
	check_kind("ipi_of_lowest_priority", 1, ICR_LOWEST | LOW, &taken[LOW]);
	check_kind("nmi_wakes_a_halted_cpu", 1, ICR_NMI, &nmis);
	stop = 1;
	send(1, LOW);
	cpu_wait_off(1);
	check_equal("ipi_ends_the_last_halt", sleeper_state, SLEEPER_DONE);
}

/* CPU 1: halts with interrupts off, which NMIs end, and nothing else. */
static void sleep_masked(u32 cpu)
{
	(void)cpu;
	sleeper_state = SLEEPER_MASKED;
	__asm__ volatile("hlt" ::: "memory");
	sleeper_state = SLEEPER_DONE;
}

static void check_masked_halt(void)
{
	forget();
	cpu_start(1, sleep_masked);
	send(1, LOW);
	wait_microseconds(3000);
	check_equal("masked_interrupt_ends_no_halt", sleeper_state, SLEEPER_MASKED);
	send(1, ICR_NMI);
	check("nmi_ends_a_masked_halt", wait_until(sleeper_state == SLEEPER_DONE, 2000),
	      "it did not");
	cpu_wait_off(1);
	check_equal("masked_interrupt_did_not_come", taken[LOW], 0);
}

/* CPU 1: nearly always in the shadow of a load of SS or of STI, where no NMI is taken. */
static void stay_in_shadows(u32 cpu)
{
	(void)cpu;
	sleeper_state = SLEEPER_SHADOWS;
	while (!stop) {
		__asm__ volatile("mov %%ss, %%eax\n\t"
				 "mov %%eax, %%ss\n\tnop\n\t"
				 "mov %%eax, %%ss\n\tmov (%0), %%ecx\n\t"
				 "sti\n\tcli\n\tsti\n\tnop\n\tcli" ::"r"(&stop)
				 : "eax", "ecx", "memory");
	}
	sleeper_state = SLEEPER_DONE;
}

static void check_shadows(void)
{
	stop = 0;
	nmis_inside = 0;
	cpu_start(1, stay_in_shadows);
	check_kind("nmi_to_a_cpu_in_shadows", 1, ICR_NMI, &nmis);
	nmis = 0;
	for (u32 i = 0; i < 1000; i++) { /* not waited for: some become one */
		send(1, ICR_NMI);
	}
	check("nmis_in_a_row", wait_until(nmis, 2000), "none came");
	check_equal("no_nmi_in_an_nmi", nmis_inside, 0);
	stop = 1;
	cpu_wait_off(1);
}

static void spin(u32 cpu)
{
	(void)cpu;
	sleeper_state = SLEEPER_HALTS;
	for (;;) {
		cpu_relax();
	}
}

static void check_restarts(void)
{
	u32 started = 0;

	for (u32 i = 0; i < 10; i++) {
		sleeper_state = SLEEPER_AWAY;
		cpu_start(1, spin); /* an INIT to one that runs, from the second on */
		started += wait_until(sleeper_state == SLEEPER_HALTS, 2000);
	}
	check_equal("init_and_startup_of_a_running_cpu", started, 10);
	send(1, ICR_INIT);
	sleeper_state = SLEEPER_AWAY;
	wait_microseconds(2000);
	check_equal("init_stops_it", sleeper_state, SLEEPER_AWAY);
}

void guest_main(void)
{
	set_gates();
	check_local();
	apic_on();
	by_msr = true;
	check_local();
	check_lines();
	check_kinds();
	check_masked_halt();
	check_shadows();
	check_restarts();
}
