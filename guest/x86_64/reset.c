/*
 * Ways to restart or to end a PC; the bootargs name one:
 *
 *	register		the reset register that ACPI tells of
 *	processor		a jump, in real mode, to where a PC's processor begins
 *	no-gates		a fault without a gate, and none for what comes of that: the end
 *	gates-nowhere		gates where nobody answers, who reads as ones: the end
 *	stack-nowhere		no fault can be delivered, as the stack swallows it: the end
 *
 * Who is restarted asks whether its machine is as new: RAM, interrupt controllers, the UART, the
 * other CPU. Nothing of the guest's own survives a reset, which is the point; so it asks the TSC:
 * started within ms=N (5500) of power-on it resets. Firmware and loader take 4000 of them in Bochs.
 */
#include "lib.h"

#define RESET_PORT 0x604
#define RESET_VALUE 1
#define UART_IER (COM1 + 1)
#define UART_SCRATCH (COM1 + 7)
#define LAPIC_TPR (LAPIC_BASE + 0x80)
#define LAPIC_SVR (LAPIC_BASE + 0xf0)
#define LAPIC_IRR_2 (LAPIC_BASE + 0x220)
#define LAPIC_TIMER (LAPIC_BASE + 0x320)
#define LAPIC_INITIAL (LAPIC_BASE + 0x380)
#define MSR_X2APIC_TPR 0x808u
#define MSR_X2APIC_TIMER 0x832u
#define MSR_X2APIC_SELF 0x83fu
#define MSR_DEADLINE 0x6e0u
#define TIMER_DEADLINE (2u << 17)
#define PENDING_VECTOR 0x41 /* a bit of the third word of requests */
#define PIN 9
#define PIN_MASKED (1u << 16)
#define REAL_MODE_PAGE 0x9000ul

static u64 first_dirty;

static u64 count_dirty(void)
{
	u64 end = machine.ram_base + machine.ram_size, dirty = 0;

	for (u64 page = machine.ram_base; page < end; page += PAGE_SIZE) {
		for (u64 a = page; page_is_ours(page) && a < page + PAGE_SIZE; a += 8) {
			if (read64(a)) {
				first_dirty = dirty++ ? first_dirty : a;
			}
		}
	}
	return dirty;
}

static void soil_memory(void)
{
	u64 end = machine.ram_base + machine.ram_size;

	for (u64 page = machine.ram_base; page < end; page += PAGE_SIZE) {
		for (u64 a = page; page_is_ours(page) && a < page + PAGE_SIZE; a += 8) {
			write64(a, ~a);
		}
	}
}

static u32 ioapic_pin(void)
{
	write32(IOAPIC_BASE, 0x10 + 2 * PIN);
	return read32(IOAPIC_BASE + 0x10);
}

static void soil_devices(void)
{
	apic_on();
	write_msr(MSR_X2APIC_TPR, 0x20);
	write_msr(MSR_X2APIC_SELF, PENDING_VECTOR);
	write_msr(MSR_X2APIC_TIMER, TIMER_DEADLINE | PENDING_VECTOR);
	write_msr(MSR_DEADLINE, counter() + microseconds(1000));
	(void)ioapic_pin();
	write32(IOAPIC_BASE + 0x10, PENDING_VECTOR);
	out8(UART_IER, 0xf);
	out8(UART_SCRATCH, 0x77);
}

static volatile u32 other_runs;

static void spin_forever(u32 cpu)
{
	(void)cpu;
	other_runs = 1;
	for (;;) {
		cpu_relax();
	}
}

static void check_as_new(void)
{
	static u32 marker = 0x5eed;

	check_equal("data_is_as_loaded", marker, 0x5eed);
	marker = 1;
	check("ram_is_zero", count_dirty() == 0, "as 0x%lx", first_dirty);
	check_equal("apic_is_no_x2apic", read_msr(MSR_APIC_BASE), LAPIC_BASE | 0x900);
	check_equal("apic_is_disabled_by_software", read32(LAPIC_SVR), 0xff);
	check_equal("priority_is_zero", read32(LAPIC_TPR), 0);
	check_equal("nothing_is_requested", read32(LAPIC_IRR_2), 0);
	check_equal("timer_is_masked", read32(LAPIC_TIMER), 1u << 16);
	check_equal("timer_is_off", read32(LAPIC_INITIAL) | read_msr(MSR_DEADLINE), 0);
	check_equal("pin_is_masked", ioapic_pin(), PIN_MASKED);
	check_equal("uart_is_as_new", in8(UART_SCRATCH) | in8(UART_IER), 0);
	check_equal("entered_without_paging", entry_state.cr0 & 0x80000001, 1);
	cpu_start(1, spin_forever);
	check("cpu_1_starts", wait_until(other_runs, 1000), "it does not");
}

/* ---- Ways ------------------------------------------------------------------------------------ */

/* The other CPU begins in real mode: jmp 0xf000:0xfff0. */
static void jump_to_start(void)
{
	static const u8 jump[] = {0xea, 0xf0, 0xff, 0x00, 0xf0};

	memcpy((void *)REAL_MODE_PAGE, jump, sizeof(jump));
	write_msr(MSR_X2APIC_ICR, machine.cpu_ids[1] << 32 | 0x4500);
	wait_microseconds(10000);
	write_msr(MSR_X2APIC_ICR, machine.cpu_ids[1] << 32 | 0x4600 | REAL_MODE_PAGE >> 12);
}

static void restart(void)
{
	u64 limit = microseconds(1000 * bootarg("ms", 5500));

	print("started %lu ms after power-on", counter() / microseconds(1000));
	check_as_new();
	if (counter() >= limit) {
		return;
	}
	soil_memory();
	soil_devices();
	print("resetting");
	if (bootarg_word("processor")) {
		jump_to_start();
	} else {
		out8(RESET_PORT, RESET_VALUE);
	}
	wait_microseconds(1000000);
	check("reset", false, "the guest goes on");
}

static void load_gates(u64 base, u16 limit)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) pointer = {limit, base};

	__asm__ volatile("lidt %0" ::"m"(pointer) : "memory");
}

static void fail_for_good(void)
{
	if (bootarg_word("stack-nowhere")) {
		__asm__ volatile("mov %0, %%rsp\n\tud2" ::"r"(HOLE_BASE + PAGE_SIZE) : "memory");
	} else if (bootarg_word("gates-nowhere")) {
		load_gates(HOLE_BASE, 0xfff);
	} else {
		load_gates(0, 0);
	}
	__asm__ volatile("ud2");
}

void guest_main(void)
{
	if (bootarg_word("register") || bootarg_word("processor")) {
		restart();
		return;
	}
	print("the last words");
	fail_for_good();
	check("ended", false, "the guest goes on");
}
