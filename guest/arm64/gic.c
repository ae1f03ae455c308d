/*
 * The interrupt controller as software sees it: SGIs to oneself, to others and to all others;
 * priorities and masking; pending and active bits; more interrupts at once than there are list
 * registers; SPIs; end of interrupt in two steps; the UART's level-sensitive line. Wants two CPUs
 * or more.
 *
 * All of it polled with PSTATE.I set, so that order is exact, but for one part with real
 * interrupts. Manual: Arm IHI 0069.
 */
#include "lib.h"

#define SGI_COUNT 16
#define SPI_FIRST 40 /* SPIs where no device of ours is */
#define SPI_COUNT 6
#define UART_IMSC (UART_BASE + 0x38)
#define UART_ICR (UART_BASE + 0x44)
#define UART_CR (UART_BASE + 0x30)
#define UART_TX_INTERRUPT 0x20
#define GICD_ICFGR (GICD_BASE + 0xc00)
#define GICD_IROUTER (GICD_BASE + 0x6000)
#define GICD_IPRIORITYR (GICD_BASE + 0x400)
#define REG_ENABLE 0x100
#define EOI_MODE_1 2

/* Acknowledges what comes within the time, else INTID_SPURIOUS. */
static u32 take(u64 ms)
{
	u64 end = counter() + microseconds(ms * 1000);
	u32 intid;

	do {
		intid = gic_acknowledge();
	} while (intid == INTID_SPURIOUS && counter() < end);
	return intid;
}

static void nothing_more(const char *name)
{
	u32 intid = take(5);

	if (intid != INTID_SPURIOUS) {
		gic_end(intid);
	}
	check(name, intid == INTID_SPURIOUS, "%u came", intid);
}

/* ---- SGIs ---- */

static void check_self_sgi(void)
{
	gic_send_sgi(0, 5);
	check("sgi_is_signalled", wait_until(irq_is_signalled(), 1000), "ISR_EL1 stays clear");
	check_equal("sgi_highest_pending", read_sysreg(s3_0_c12_c12_2), 5); /* ICC_HPPIR1_EL1 */
	check_equal("sgi_is_pending", gic_is_pending(5), true);
	check_equal("sgi_acknowledged", take(1000), 5);
	check_equal("sgi_is_pending_no_more", gic_is_pending(5), false);
	check_equal("sgi_is_active", gic_is_active(5), true);
	check_equal("running_priority", read_sysreg(s3_0_c12_c11_3) & 0xf8, 0xa0); /* ICC_RPR_EL1 */
	gic_end(5);
	check_equal("sgi_is_active_no_more", gic_is_active(5), false);
	check_equal("idle_priority", read_sysreg(s3_0_c12_c11_3), 0xff);
	nothing_more("sgi_comes_once");
}

/* More than any implementation has list registers for, raised from the least urgent on. */
static void check_sixteen_sgis(void)
{
	u32 wrong = 0;

	for (u32 i = 0; i < SGI_COUNT; i++) {
		gic_enable(i);
		gic_set_priority(i, (u8)(8 * (SGI_COUNT - 1 - i)));
	}
	for (u32 i = 0; i < SGI_COUNT; i++) {
		gic_send_sgi(0, i);
	}
	for (u32 i = SGI_COUNT; i-- > 0;) {
		u32 intid = take(1000);

		if (intid != i) {
			wrong++;
			print("got SGI %u, want %u", intid, i);
		}
		if (intid < SGI_COUNT) {
			gic_end(intid);
		}
	}
	check_equal("sixteen_sgis_in_order_of_priority", wrong, 0);
	nothing_more("sixteen_sgis_once_each");
}

/* All active at once, each more urgent than the one before; ended in reverse. */
static void check_sixteen_nested(void)
{
	u32 wrong = 0, active = 0;

	for (u32 i = 0; i < SGI_COUNT; i++) {
		gic_send_sgi(0, i);
		wrong += take(1000) != i;
	}
	for (u32 i = 0; i < SGI_COUNT; i++) {
		active += gic_is_active(i);
	}
	check_equal("sixteen_nested_acknowledged", wrong, 0);
	check_equal("sixteen_nested_active", active, SGI_COUNT);
	for (u32 i = SGI_COUNT; i-- > 0;) {
		gic_end(i);
	}
	active = 0;
	for (u32 i = 0; i < SGI_COUNT; i++) {
		active += gic_is_active(i);
	}
	check_equal("sixteen_nested_ended", active, 0);
	nothing_more("sixteen_nested_leave_nothing");
}

static void check_priorities(void)
{
	gic_set_priority(1, 0x80);
	gic_set_priority(2, 0x40);
	gic_set_priority(3, 0x80);
	gic_send_sgi(0, 1);
	check_equal("less_urgent_first", take(1000), 1);
	gic_send_sgi(0, 3);
	nothing_more("equal_priority_does_not_preempt");
	gic_send_sgi(0, 2);
	check_equal("more_urgent_preempts", take(1000), 2);
	gic_end(2);
	gic_end(1);
	check_equal("equal_priority_comes_after_the_end", take(1000), 3);
	gic_end(3);
}

static void check_mask(void)
{
	gic_set_priority(4, 0x80);
	gic_set_mask(0x80);
	gic_send_sgi(0, 4);
	nothing_more("mask_holds_equal_priority");
	check_equal("masked_is_not_signalled", irq_is_signalled(), false);
	check_equal("masked_stays_pending", gic_is_pending(4), true);
	gic_set_mask(0xf0);
	check_equal("unmasked_comes", take(1000), 4);
	gic_end(4);
	gic_set_mask(0xff);
	write_sysreg(s3_0_c12_c12_7, 0); /* ICC_IGRPEN1_EL1 */
	gic_send_sgi(0, 4);
	nothing_more("group_disabled_holds");
	write_sysreg(s3_0_c12_c12_7, 1);
	check_equal("group_enabled_comes", take(1000), 4);
	gic_end(4);
}

/* Enable and pending bits changed under an interrupt that may already be on its way. */
static void check_disable_while_pending(void)
{
	gic_send_sgi(0, 6);
	gic_disable(6);
	nothing_more("disabled_does_not_come");
	check_equal("disabled_stays_pending", gic_is_pending(6), true);
	gic_enable(6);
	check_equal("enabled_again_comes", take(1000), 6);
	gic_end(6);
	gic_send_sgi(0, 6);
	gic_clear_pending(6);
	check_equal("cleared_is_not_pending", gic_is_pending(6), false);
	nothing_more("cleared_does_not_come");
	gic_set_pending(6);
	check_equal("set_pending_comes", take(1000), 6);
	gic_set_pending(6); /* again, while active */
	check("active_and_pending", gic_is_active(6) && gic_is_pending(6), "active %u pending %u",
	      gic_is_active(6), gic_is_pending(6));
	nothing_more("active_does_not_come_again");
	gic_end(6);
	check_equal("pending_while_active_comes_after_the_end", take(1000), 6);
	gic_clear_active(6);
	check_equal("active_was_cleared", gic_is_active(6), false);
	gic_end(6);
	nothing_more("cleared_active_leaves_nothing");
}

/* ---- End of interrupt in two steps ---- */

static void check_eoi_mode_1(void)
{
	write_sysreg(s3_0_c12_c12_4, EOI_MODE_1);
	gic_send_sgi(0, 7);
	check_equal("eoi_mode_1_comes", take(1000), 7);
	gic_end(7);
	check_equal("dropped_but_active", gic_is_active(7), true);
	gic_send_sgi(0, 8);
	check_equal("another_comes_after_the_drop", take(1000), 8);
	gic_end(8);
	gic_send_sgi(0, 7);
	nothing_more("same_one_waits_for_deactivation");
	gic_deactivate(7);
	check_equal("comes_after_deactivation", take(1000), 7);
	gic_end(7);
	gic_deactivate(7);
	gic_deactivate(8);
	check("nothing_is_active", !gic_is_active(7) && !gic_is_active(8), "still");
	write_sysreg(s3_0_c12_c12_4, 0);
	nothing_more("eoi_mode_1_leaves_nothing");
}

/* Split end and deactivation with more interrupts active than there are list registers. */
static void check_eoi_mode_1_many(void)
{
	u32 wrong = 0, active = 0;

	write_sysreg(s3_0_c12_c12_4, EOI_MODE_1);
	for (u32 i = 0; i < SGI_COUNT; i++) {
		gic_send_sgi(0, i);
		wrong += take(1000) != i;
		gic_end(i);
	}
	for (u32 i = 0; i < SGI_COUNT; i++) {
		active += gic_is_active(i);
	}
	check_equal("many_dropped_in_turn", wrong, 0);
	check_equal("many_dropped_are_active", active, SGI_COUNT);
	for (u32 i = 0; i < SGI_COUNT; i++) {
		gic_deactivate(i);
		active -= !gic_is_active(i);
	}
	check_equal("many_deactivated", active, 0);
	write_sysreg(s3_0_c12_c12_4, 0);
	nothing_more("many_leave_nothing");
}

/* ---- SPIs ---- */

static void check_spis(void)
{
	u32 wrong = 0;

	for (u32 i = SPI_FIRST; i < SPI_FIRST + SPI_COUNT; i++) {
		u64 config = GICD_ICFGR + i / 16 * 4;

		gic_disable(i);
		write32(config, read32(config) | 2u << 2 * (i % 16)); /* edge */
		gic_set_priority(i, (u8)(0x40 + 8 * (i - SPI_FIRST)));
		gic_enable(i);
		gic_set_pending(i);
	}
	for (u32 i = SPI_FIRST; i < SPI_FIRST + SPI_COUNT; i++) {
		u32 intid = take(1000);

		wrong += intid != i;
		if (intid < 1020) {
			gic_end(intid);
		}
	}
	check_equal("spis_in_order_of_priority", wrong, 0);
	nothing_more("spis_once_each");
	check_equal("spi_priority_reads_back", read8(GICD_IPRIORITYR + SPI_FIRST + 1), 0x48);
	check_equal("spi_route_reads_back", read64(GICD_IROUTER + 8 * SPI_FIRST),
		    machine.cpu_ids[0]);
	check_equal("spi_is_enabled", read32(gic_bank(SPI_FIRST, REG_ENABLE)) >> 8 & 1, 1);
}

/* The UART's transmit interrupt holds its line while enabled: level-sensitive. */
static void check_uart_level(void)
{
	gic_enable(INTID_UART);
	write32(UART_CR, 0x301);
	write32(UART_ICR, 0x7ff);
	print("one line, so that a transmit interrupt is owed");
	write32(UART_IMSC, UART_TX_INTERRUPT);
	check_equal("uart_level_comes", take(1000), INTID_UART);
	check_equal("uart_is_pending_while_high", gic_is_pending(INTID_UART), true);
	gic_end(INTID_UART);
	check_equal("uart_comes_again_while_high", take(1000), INTID_UART);
	write32(UART_IMSC, 0);
	check_equal("uart_is_not_pending_when_low", gic_is_pending(INTID_UART), false);
	gic_end(INTID_UART);
	nothing_more("uart_stops_when_low");
	gic_disable(INTID_UART);
}

/* ---- Other CPUs, with real interrupts ---- */

static struct {
	volatile u32 count[1020], ready, release;
} seen[CPUS_MAX];

static void handle_irq(void)
{
	u32 intid = gic_acknowledge();

	if (intid < 1020) {
		seen[cpu_number()].count[intid]++;
		gic_end(intid);
	}
}

static void listen(u32 cpu)
{
	gic_init_cpu();
	for (u32 i = 0; i < SGI_COUNT; i++) {
		gic_enable(i);
	}
	irq_enable();
	seen[cpu].ready = 1;
	while (!seen[cpu].release) {
		__asm__ volatile("wfi" ::: "memory");
	}
	irq_disable();
}

static void check_sgi_to_each(u32 intid, u32 rounds)
{
	u32 lost = 0;

	for (u32 r = 1; r <= rounds; r++) {
		for (u32 cpu = 1; cpu < machine.cpu_count; cpu++) {
			gic_send_sgi(cpu, intid);
			lost += !wait_until(seen[cpu].count[intid] >= r, 2000);
		}
	}
	check_equal("sgis_to_others_all_arrive", lost, 0);
	for (u32 cpu = 1; cpu < machine.cpu_count; cpu++) {
		check_equal("sgis_to_others_once_each", seen[cpu].count[intid], rounds);
	}
}

static void check_sgi_to_all_others(void)
{
	gic_send_sgi_others(10);
	for (u32 cpu = 1; cpu < machine.cpu_count; cpu++) {
		check("sgi_to_all_others_arrives", wait_until(seen[cpu].count[10] == 1, 2000),
		      "CPU %u has %u", cpu, seen[cpu].count[10]);
	}
	check_equal("sgi_to_all_others_is_not_mine", gic_is_pending(10), false);
}

static void check_spi_to_another(void)
{
	u32 last = machine.cpu_count - 1;

	write64(GICD_IROUTER + 8 * SPI_FIRST, machine.cpu_ids[last]);
	gic_set_pending(SPI_FIRST);
	check("spi_goes_where_it_is_routed", wait_until(seen[last].count[SPI_FIRST] == 1, 2000),
	      "CPU %u has %u", last, seen[last].count[SPI_FIRST]);
	nothing_more("spi_is_not_mine");
}

static void check_others(void)
{
	irq_handler = handle_irq;
	for (u32 cpu = 1; cpu < machine.cpu_count; cpu++) {
		check_equal("cpu_on", (u32)cpu_start(cpu, listen), 0);
		check("cpu_listens", wait_until(seen[cpu].ready, 2000), "CPU %u", cpu);
	}
	check_sgi_to_each(9, 200);
	check_sgi_to_all_others();
	check_spi_to_another();
	for (u32 cpu = 1; cpu < machine.cpu_count; cpu++) {
		seen[cpu].release = 1;
		gic_send_sgi(cpu, 11);
		cpu_wait_off(cpu);
	}
}

void guest_main(void)
{
	check("two_cpus", machine.cpu_count >= 2, "this guest is configured with one");
	gic_init_distributor();
	gic_init_cpu();
	for (u32 i = 0; i < SGI_COUNT; i++) {
		gic_enable(i);
	}
	check_self_sgi();
	check_sixteen_sgis();
	check_sixteen_nested();
	check_eoi_mode_1_many();
	check_priorities();
	check_mask();
	check_disable_while_pending();
	check_eoi_mode_1();
	check_spis();
	check_uart_level();
	check_others();
}
