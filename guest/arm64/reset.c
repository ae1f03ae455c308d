/*
 * A guest that resets its machine: RAM, CPUs and devices must be as new each time.
 *
 * Nothing of the guest's own survives a reset, which is the point; so it asks the physical counter,
 * which goes on: when it is started within `ms` (6000) of power-on it resets, later it ends. In
 * between it soils all that it can: RAM, the interrupt controller, a second CPU that runs.
 */
#include "lib.h"

#define SPI 40
#define UART_IBRD (UART_BASE + 0x24)

static u64 first_dirty;

/* A page that holds nothing of what was loaded (guest/touch.c looks at those to the byte). */
static bool is_free(u64 page)
{
	bool image = page + PAGE_SIZE > (u64)image_start && page < (u64)image_end;
	bool tree =
		page + PAGE_SIZE > machine.tables && page < machine.tables + machine.tables_size;

	return !image && !tree && !(guest_is_bare() && page == machine.ram_base);
}

static u64 count_dirty(void)
{
	u64 end = machine.ram_base + machine.ram_size, dirty = 0;

	for (u64 page = machine.ram_base; page < end; page += PAGE_SIZE) {
		for (u64 a = page; is_free(page) && a < page + PAGE_SIZE; a += 8) {
			if (read64(a)) {
				first_dirty = dirty++ ? first_dirty : a;
			}
		}
	}
	return dirty;
}

static void soil_interrupts(void)
{
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(SPI);
	gic_set_pending(SPI);
	gic_enable(3);
	gic_send_sgi(0, 3);
	write_sysreg(cntv_cval_el0, 0);
	write_sysreg(cntv_ctl_el0, 1);
	gic_enable(INTID_VTIMER);
	(void)wait_until(irq_is_signalled(), 100);
}

static void soil(void)
{
	u64 end = machine.ram_base + machine.ram_size;

	for (u64 page = machine.ram_base; page < end; page += PAGE_SIZE) {
		for (u64 a = page; is_free(page) && a < page + PAGE_SIZE; a += 8) {
			write64(a, ~a);
		}
	}
	write32(UART_IBRD, 0x77);
	soil_interrupts();
}

static volatile u32 other_runs;

static void spin_forever(u32 cpu)
{
	(void)cpu;
	other_runs = 1;
	for (;;) {
		__asm__ volatile("yield" ::: "memory");
	}
}

static void check_as_new(void)
{
	static u32 marker = 0x5eed;

	check_equal("data_is_as_loaded", marker, 0x5eed);
	marker = 1;
	check("ram_is_zero", count_dirty() == 0, "as 0x%lx", first_dirty);
	check_equal("no_interrupt_is_signalled", irq_is_signalled(), false);
	check_equal("nothing_is_pending", gic_is_pending(SPI) || gic_is_pending(3), false);
	check_equal("timer_is_off", read_sysreg(cntv_ctl_el0) & 1, 0);
	check_equal("uart_is_as_new", read32(UART_IBRD), 0);
	check_equal("entered_masked", entry_state.daif, 0x3c0);
	check_equal("entered_with_mmu_off", entry_state.sctlr & 0x1005, 0);
	check_equal("cpu_1_is_off", (u32)psci(PSCI_AFFINITY_INFO, machine.cpu_ids[1], 0, 0),
		    AFFINITY_OFF);
	cpu_start(1, spin_forever);
	check("cpu_1_starts", wait_until(other_runs, 1000), "it does not");
}

void guest_main(void)
{
	u64 limit = microseconds(1000 * bootarg("ms", 6000)), now = read_sysreg(cntpct_el0);

	check_as_new();
	if (now >= limit) {
		return;
	}
	soil();
	while (read_sysreg(cntpct_el0) < limit / 2) { /* a few times are enough */
	}
	print("resetting");
	psci(PSCI_SYSTEM_RESET, 0, 0, 0);
	check("system_reset", false, "it returned");
}
