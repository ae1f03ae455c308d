/*
 * What Lamina does for a guest that knows it is one: KVM's paravirtual interface (Linux,
 * Documentation/virt/kvm/x86: cpuid, msr, hypercalls), on two CPUs.
 *
 * Bootargs: "crowded": both have to share one CPU of the machine, so one of them is preempted
 * whenever the other one runs. Without it each has one to itself, and is never.
 */
#include "lib.h"

#define LEAF_FEATURES 0x40000001u
/* Clock, stolen time, end of interrupt, kick, flush, interrupts, yield, and a stable clock. */
#define FEATURES (1u << 3 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 9 | 1u << 11 | 1u << 13 | 1u << 24)

#define MSR_STEAL 0x4b564d03u
#define MSR_EOI 0x4b564d04u
#define MSR_X2APIC_ISR 0x810u
#define MSR_X2APIC_SELF_IPI 0x83fu
#define ENABLED 1u

#define CALL_POLL 1u
#define CALL_KICK 5u
#define CALL_IPI 10u
#define CALL_YIELD 11u
#define NOT_THERE ((u64)-1000)

#define PREEMPTED 1u
#define FLUSH 2u

#define VECTOR_PLAIN 0x41u
#define VECTOR_LOOKS 0x42u /* its handler looks at the APIC before it ends */
#define VECTOR_FLUSH 0x43u

#define ROUNDS 20u
#define IPIS 200u

struct steal_record {
	u64 steal;
	u32 version, flags;
	u8 preempted, pad[47];
} __attribute__((aligned(64)));

static struct steal_record steal[2];
static u32 eoi_word[2][16] __attribute__((aligned(64)));
static bool crowded;

static u64 hypercall(u64 number, u64 a0, u64 a1, u64 a2, u64 a3)
{
	__asm__ volatile("vmcall" : "+a"(number) : "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
	return number;
}

/* ---- Two CPUs, one of which does what the other says; none of them pauses, which would exit ----
 */

enum order { SPIN, READ, HALT, HALT_LATE, ECHO, STOP };
static enum order order;
static u32 ready, halted, woken, may_halt, ping, pong;

static u32 look(u32 *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void say(u32 *word, u32 value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static enum order ordered(void)
{
	return __atomic_load_n(&order, __ATOMIC_ACQUIRE);
}

static void give_order(enum order next)
{
	__atomic_store_n(&order, next, __ATOMIC_SEQ_CST);
}

/* Until the word has the value, at most `ms`. */
static bool comes(u32 *word, u32 value, u64 ms)
{
	u64 end = counter() + microseconds(1000 * ms);

	while (look(word) != value && counter() < end) {
	}
	return look(word) == value;
}

static void spin(u64 ms)
{
	u64 end = counter() + microseconds(1000 * ms);

	while (counter() < end) {
	}
}

/* ---- Asking for it ----------------------------------------------------------------------------
 */

static u32 refused(u32 msr, u64 value)
{
	fault_expect();
	write_msr(msr, value);
	return fault_end().vector == VECTOR_GP;
}

static void check_registers(void)
{
	u64 record = (u64)&steal[0], word = (u64)&eoi_word[0];

	check_equal("features", cpuid(LEAF_FEATURES, 0).a, FEATURES);
	check_equal("misplaced_records_are_refused",
		    refused(MSR_STEAL, (record + 32) | ENABLED) + refused(MSR_STEAL, record | 2) +
			    refused(MSR_STEAL, machine.ram_size | ENABLED) +
			    refused(MSR_STEAL, ~63ul | ENABLED) +
			    refused(MSR_EOI, (word + 2) | ENABLED) +
			    refused(MSR_EOI, machine.ram_size | ENABLED),
		    6);
	check_equal("refused_writes_change_nothing", read_msr(MSR_STEAL) | read_msr(MSR_EOI), 0);
	check_equal("no_such_call", hypercall(77, 0, 0, 0, 0), NOT_THERE);
	check_equal("poll", hypercall(CALL_POLL, 0, 0, 0, 0), 0);
}

static void sign_up(u32 cpu)
{
	write_msr(MSR_STEAL, (u64)&steal[cpu] | ENABLED);
	write_msr(MSR_EOI, (u64)&eoi_word[cpu] | ENABLED);
}

/* ---- Stolen time ------------------------------------------------------------------------------
 */

static u64 stolen(u32 cpu)
{
	return __atomic_load_n(&steal[cpu].steal, __ATOMIC_RELAXED);
}

static u8 preempted(u32 cpu)
{
	return __atomic_load_n(&steal[cpu].preempted, __ATOMIC_ACQUIRE);
}

static void check_steal(void)
{
	u64 mine = stolen(0), others = stolen(1), wrong = 0, ms = 1000000;

	for (u32 i = 0; i < 100; i++) {
		wrong += preempted(0) != 0 || preempted(1) != (crowded ? PREEMPTED : 0);
		spin(1);
	}
	mine = stolen(0) - mine;
	others = stolen(1) - others;
	if (crowded) {
		check("steal_time_grows", mine > 20 * ms && others > 20 * ms,
		      "by %lu and %lu us in at least 100 ms", mine / 1000, others / 1000);
	} else {
		check("no_time_is_stolen", mine < 5 * ms && others < 5 * ms,
		      "%lu and %lu us in at least 100 ms", mine / 1000, others / 1000);
	}
	check_equal("who_is_preempted_is_told_so", wrong, 0);
	check_equal("versions_are_even", (steal[0].version | steal[1].version) & 1, 0);
}

/* ---- A flush by the byte -----------------------------------------------------------------------
 */

#define WINDOW (4ul << 30) /* a linear address of which nothing is mapped yet */
#define PRESENT_WRITE 3u

static u64 window_directory[512] __attribute__((aligned(4096)));
static u64 window_table[512] __attribute__((aligned(4096)));
static u32 page[2][1024] __attribute__((aligned(4096)));
static u32 generation; /* odd: the mapping changes; else its half is odd or even as the page is */
static u32 seen, stale, flushed;

static void invalidate(u64 at)
{
	__asm__ volatile("invlpg (%0)" ::"r"(at) : "memory");
}

static void map_window(u32 which)
{
	__atomic_store_n(&window_table[0], (u64)page[which] | PRESENT_WRITE, __ATOMIC_SEQ_CST);
	invalidate(WINDOW);
}

static void make_window(void)
{
	u64 root;

	__asm__ volatile("mov %%cr3, %0" : "=r"(root));
	window_directory[0] = (u64)window_table | PRESENT_WRITE;
	page[0][0] = 0;
	page[1][0] = 1;
	((u64 *)(read64(root) & ~0xffful))[WINDOW >> 30] = (u64)window_directory | PRESENT_WRITE;
	map_window(0);
}

/* CPU 1: what the window shows must be what was said to be there, before and after. */
static void read_window(void)
{
	u32 before = look(&generation), value = *(volatile u32 *)WINDOW;

	if (before % 2 == 0 && look(&generation) == before) {
		stale += value != before / 2 % 2;
		say(&seen, before);
	}
}

__attribute__((interrupt)) static void take_flush(void *frame)
{
	(void)frame;
	invalidate(WINDOW);
	say(&flushed, flushed + 1);
	write_msr(MSR_X2APIC_EOI, 0);
}

/* True: by its byte. */
static bool flush_other(void)
{
	u8 state = preempted(1);
	u32 before = look(&flushed);

	if ((state & PREEMPTED) &&
	    __atomic_compare_exchange_n(&steal[1].preempted, &state, state | FLUSH, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		return true;
	}
	if (hypercall(CALL_IPI, 1, 0, 1, VECTOR_FLUSH) != 1) {
		check("interrupt_by_call", false, "nobody took it");
	}
	comes(&flushed, before + 1, 1000);
	return false;
}

static void check_flush(void)
{
	u32 by_byte = 0, unseen = 0, left = 0;

	give_order(READ);
	for (u32 i = 1; i <= ROUNDS; i++) {
		say(&generation, 2 * i - 1);
		map_window(i % 2);
		by_byte += flush_other();
		say(&generation, 2 * i);
		hypercall(CALL_YIELD, 1, 0, 0, 0);
		unseen += !comes(&seen, 2 * i, 1000);
		left += (preempted(1) & FLUSH) != 0;
	}
	give_order(SPIN);
	check_equal("every_mapping_was_seen", unseen, 0);
	check_equal("no_stale_translation_was_used", stale, 0);
	check_equal("flushes_that_were_asked_for_are_done", left, 0);
	check_equal("flushed_by_the_byte", by_byte, crowded ? ROUNDS : 0);
	check_equal("flushed_by_an_interrupt", look(&flushed), crowded ? 0 : ROUNDS);
}

/* ---- The end of an interrupt -------------------------------------------------------------------
 */

static u32 taken, ended_by_bit, in_service;

static void end_interrupt(void)
{
	bool was_set;

	__asm__ volatile("btrl $0, %0" : "+m"(eoi_word[0][0]), "=@ccc"(was_set));
	if (was_set) {
		ended_by_bit++;
	} else {
		write_msr(MSR_X2APIC_EOI, 0);
	}
}

static bool is_in_service(u32 vector)
{
	return read_msr(MSR_X2APIC_ISR + vector / 32) >> vector % 32 & 1;
}

__attribute__((interrupt)) static void take_plain(void *frame)
{
	(void)frame;
	taken++;
	end_interrupt();
}

__attribute__((interrupt)) static void take_looking(void *frame)
{
	(void)frame;
	taken++;
	in_service += is_in_service(VECTOR_LOOKS);
	end_interrupt();
}

static void send_to_self(u32 vector)
{
	taken = ended_by_bit = in_service = 0;
	irq_enable();
	for (u32 i = 0; i < IPIS; i++) {
		write_msr(MSR_X2APIC_SELF_IPI, vector);
	}
	irq_disable();
}

static void check_eoi(void)
{
	gate_set(VECTOR_PLAIN, take_plain);
	gate_set(VECTOR_LOOKS, take_looking);
	send_to_self(VECTOR_PLAIN);
	check_equal("each_interrupt_came", taken, IPIS);
	check_equal("each_ended_without_an_exit", ended_by_bit, IPIS);
	check_equal("the_apic_knows", is_in_service(VECTOR_PLAIN), 0);
	send_to_self(VECTOR_LOOKS);
	check_equal("each_was_in_service_where_one_looks", in_service, IPIS);
	check_equal("and_then_ended_by_the_register", taken - ended_by_bit, IPIS);
	write_msr(MSR_EOI, 0);
	send_to_self(VECTOR_PLAIN);
	check_equal("turned_off_each_came", taken, IPIS);
	check_equal("turned_off_none_ended_by_the_bit", ended_by_bit, 0);
}

/* ---- A kick ------------------------------------------------------------------------------------
 */

static void halt(void)
{
	__asm__ volatile("cli\n\thlt" ::: "memory");
	say(&woken, look(&woken) + 1);
}

static void kick_asleep(void)
{
	u32 before = look(&woken);

	say(&halted, 0);
	give_order(HALT);
	comes(&halted, 1, 1000);
	spin(50);
	check_equal("a_halted_cpu_sleeps", look(&woken), before);
	hypercall(CALL_KICK, 0, 1, 0, 0);
	check("a_kick_wakes_it", comes(&woken, before + 1, 1000), "not in a second");
}

static void check_kick(void)
{
	kick_asleep();
	say(&halted, 0);
	give_order(HALT_LATE);
	comes(&halted, 1, 1000);
	hypercall(CALL_KICK, 0, 1, 0, 0);
	say(&may_halt, 1);
	check("a_kick_before_the_halt_is_not_lost", comes(&woken, 2, 1000), "not in a second");
	kick_asleep();
}

/* ---- A turn ------------------------------------------------------------------------------------
 */

static void echo(void)
{
	u32 heard = look(&ping);

	if (heard != look(&pong)) {
		say(&pong, heard);
		hypercall(CALL_YIELD, 0, 0, 0, 0);
	}
}

static void check_yield(void)
{
	u64 from, took, answered = 0;

	give_order(ECHO);
	from = counter();
	for (u32 i = 1; i <= ROUNDS; i++) {
		say(&ping, i);
		hypercall(CALL_YIELD, 1, 0, 0, 0);
		answered += comes(&pong, i, 1000);
	}
	took = counter() - from;
	check_equal("each_turn_was_used", answered, ROUNDS);
	/* By slices of 10 ms each would take as long as one. */
	check("turns_come_at_once", took < microseconds(ROUNDS * 5000ul), "%u took %lu ticks",
	      ROUNDS, took);
}

/* ---- Both CPUs ---------------------------------------------------------------------------------
 */

/* Orders that are carried out once end in spinning. */
static void once(enum order was)
{
	__atomic_compare_exchange_n(&order, &was, SPIN, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void obey(enum order next)
{
	switch (next) {
	case READ:
		read_window();
		return;
	case HALT_LATE:
		say(&halted, 1);
		comes(&may_halt, 1, 10000);
		irq_disable();
		once(HALT_LATE);
		halt();
		return;
	case HALT:
		irq_disable();
		once(HALT);
		say(&halted, 1);
		halt();
		return;
	case ECHO:
		echo();
		return;
	default:
		return;
	}
}

static void second(u32 cpu)
{
	sign_up(cpu);
	irq_enable();
	say(&ready, 1);
	for (enum order next = ordered(); next != STOP; next = ordered()) {
		obey(next);
	}
	irq_disable();
	write_msr(MSR_STEAL, 0);
	write_msr(MSR_EOI, 0);
}

void guest_main(void)
{
	crowded = bootarg_word("crowded");
	apic_on();
	check_registers();
	sign_up(0);
	gate_set(VECTOR_FLUSH, take_flush);
	make_window();
	microseconds(1);
	cpu_start(1, second);
	comes(&ready, 1, 1000);
	check_steal();
	check_flush();
	check_eoi();
	check_kick();
	check_yield();
	give_order(STOP);
	cpu_wait_off(1);
}
