/*
 * What one operation costs that only a hypervisor makes dear: an instruction count for each.
 *
 *	bench NAME N		N: instructions, from before the operation to the guest's next one
 *	detail NAME min mean max
 *
 * Meaningful only where one tick of the virtual counter is one instruction (QEMU with -icount
 *shift=0 and a counter of 1 GHz); each figure is a difference of two readings less what two
 *readings differ by with nothing between. N is the least of many where nothing varies but the
 *hypervisor's own ticks, and the mean where the work itself varies from page to page.
 *
 * Bootargs: "page=4k" measures only first touches, in a guest that is backed by 4 KiB pages.
 *delay_ms=N sleeps first, so that two of these guests in one configuration measure one after the
 *other.
 */
#include "lib_bench.h"

#define SELF_SGI 3
#define WFI_WAIT 100000
#define INTERRUPT_PATIENCE 100000

static u64 reading; /* what two readings of the counter differ by */

/* Two readings around `body`; asm has nothing between them but that. */
#define TIMED(body, ...)                                                                           \
	({                                                                                         \
		u64 from_, to_;                                                                    \
		__asm__ volatile(                                                                  \
			"isb\n\tmrs %[from], cntvct_el0\n\t" body "\n\tmrs %[to], cntvct_el0"      \
			: [from] "=&r"(from_), [to] "=&r"(to_)                                     \
			: __VA_ARGS__                                                              \
			: "memory", "cc", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8",    \
			  "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17");           \
		to_ - from_ - reading;                                                             \
	})

static void measure_reading(void)
{
	u64 least = ~0ul;

	for (u32 i = 0; i < BENCH_REPEAT; i++) {
		u64 n = TIMED("", "r"(0));

		least = n < least ? n : least;
	}
	reading = least;
	print("one reading of the counter: %lu ticks", reading);
}

/* ---- Traps ---- */

static u64 once_hvc(void)
{
	u64 from, to;

	__asm__ volatile("mov w0, %w2\n\t"
			 "isb\n\t"
			 "mrs %0, cntvct_el0\n\t"
			 "hvc #0\n\t"
			 "mrs %1, cntvct_el0"
			 : "=&r"(from), "=&r"(to)
			 : "r"(PSCI_VERSION)
			 : "memory", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9",
			   "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17");
	return to - from - reading;
}

static u64 once_id_register(void)
{
	return TIMED("mrs x0, id_aa64mmfr1_el1", "r"(0));
}

static u64 once_gicd_typer(void)
{
	return TIMED("ldr w0, [%[a]]", [a] "r"(GICD_BASE + 4));
}

static u64 once_uart_flag(void)
{
	return TIMED("ldr w0, [%[a]]", [a] "r"(UART_BASE + 0x18));
}

/* ---- Interrupts: polled with PSTATE.I set, so that no vector of the guest's is counted ---- */

/* Ends with the interrupt taken and ended, or gives up: then x0 is spurious and the caller sees it.
 */
#define ACKNOWLEDGE_LOOP                                                                           \
	"mov x1, %[patience]\n"                                                                    \
	"1:	mrs x0, s3_0_c12_c12_0\n\t" /* ICC_IAR1_EL1 */                                     \
	"cmp w0, %w[want]\n\t"                                                                     \
	"b.eq 2f\n\t"                                                                              \
	"subs x1, x1, #1\n\t"                                                                      \
	"b.ne 1b\n"                                                                                \
	"2:\n\t"

static void must_have_come(u64 patience_left, const char *what)
{
	if (!patience_left) {
		check(what, false, "the interrupt never came");
		guest_end();
	}
}

static u64 once_self_sgi(void)
{
	u64 from, to, left;

	__asm__ volatile("isb\n\t"
			 "mrs %[from], cntvct_el0\n\t"
			 "msr s3_0_c12_c11_5, %[sgi]\n\t" /* ICC_SGI1R_EL1 */
			 "isb\n\t" ACKNOWLEDGE_LOOP "msr s3_0_c12_c12_1, x0\n\t"
			 "mrs %[to], cntvct_el0\n\t"
			 "mov %[left], x1"
			 : [from] "=&r"(from), [to] "=&r"(to), [left] "=&r"(left)
			 : [sgi] "r"(1ul | (u64)SELF_SGI << 24), [want] "r"(SELF_SGI),
			   [patience] "r"(INTERRUPT_PATIENCE)
			 : "memory", "cc", "x0", "x1");
	must_have_come(left, "self_sgi");
	return to - from - reading;
}

static u64 once_vtimer(void)
{
	u64 from, to, left;

	__asm__ volatile("mov x2, #1\n\t"
			 "isb\n\t"
			 "mrs %[from], cntvct_el0\n\t"
			 "msr cntv_cval_el0, %[from]\n\t"
			 "msr cntv_ctl_el0, x2\n\t"
			 "isb\n\t" ACKNOWLEDGE_LOOP "msr cntv_ctl_el0, xzr\n\t"
			 "isb\n\t"
			 "msr s3_0_c12_c12_1, x0\n\t"
			 "mrs %[to], cntvct_el0\n\t"
			 "mov %[left], x1"
			 : [from] "=&r"(from), [to] "=&r"(to), [left] "=&r"(left)
			 : [want] "r"(INTID_VTIMER), [patience] "r"(INTERRUPT_PATIENCE)
			 : "memory", "cc", "x0", "x1", "x2");
	must_have_come(left, "vtimer");
	return to - from - reading;
}

/* The interrupt that a WFI waited for or found is taken away again. */
static void vtimer_finish(const char *what)
{
	u64 patience = INTERRUPT_PATIENCE;
	u32 intid;

	do {
		intid = gic_acknowledge();
	} while (intid != INTID_VTIMER && --patience);
	must_have_come(patience, what);
	write_sysreg(cntv_ctl_el0, 0);
	gic_end(INTID_VTIMER);
}

/* From the moment the timer is due to the instruction behind WFI. */
static u64 once_wfi_wake(void)
{
	u64 due = counter() + WFI_WAIT, woken;

	write_sysreg(cntv_cval_el0, due);
	write_sysreg(cntv_ctl_el0, 1);
	do {
		__asm__ volatile("wfi\n\tmrs %0, cntvct_el0" : "=r"(woken)::"memory");
	} while (woken < due);
	vtimer_finish("wfi_wake");
	return woken - due - reading;
}

/* WFI that need not wait. */
static u64 once_wfi_pending(void)
{
	u64 cost;

	write_sysreg(cntv_cval_el0, counter());
	write_sysreg(cntv_ctl_el0, 1);
	if (!wait_until(irq_is_signalled(), 100)) {
		must_have_come(0, "wfi_pending");
	}
	cost = TIMED("wfi", "r"(0));
	vtimer_finish("wfi_pending");
	return cost;
}

/* ---- First touches ---- */

static u64 touch_page(u64 page)
{
	return TIMED("str xzr, [%[a]]", [a] "r"(page));
}

/* One store in each 4 KiB of a block; the loop's own three instructions are counted with it. */
static u64 touch_block(u64 block)
{
	return TIMED("mov x0, %[a]\n"
		     "1:	str xzr, [x0]\n\t"
		     "add x0, x0, #4096\n\t"
		     "cmp x0, %[end]\n\t"
		     "b.ne 1b",
		     [a] "r"(block), [end] "r"(block + BLOCK_SIZE));
}

static void bench_traps(void)
{
	bench_measure("hvc_psci_version", once_hvc);
	bench_measure("id_register", once_id_register);
	bench_measure("gicd_typer_read", once_gicd_typer);
	bench_measure("uart_flag_read", once_uart_flag);
}

static void bench_interrupts(void)
{
	bench_measure("self_sgi", once_self_sgi);
	bench_measure("vtimer", once_vtimer);
	bench_measure("wfi_wake", once_wfi_wake);
	bench_measure("wfi_pending", once_wfi_pending);
}

static void sleep_first(void)
{
	u64 end = counter() + microseconds(1000 * bootarg("delay_ms", 0));

	write_sysreg(cntv_cval_el0, end);
	write_sysreg(cntv_ctl_el0, 1);
	while (counter() < end) {
		__asm__ volatile("wfi" ::: "memory");
	}
	vtimer_finish("delay");
}

void guest_main(void)
{
	u64 cursor = machine.ram_base;

	gic_init_distributor();
	gic_init_cpu();
	gic_enable(SELF_SGI);
	gic_enable(INTID_VTIMER);
	sleep_first();
	measure_reading();
	if (bootarg_word("page")) {
		bench_touch_4k(&cursor, touch_page);
	} else {
		bench_traps();
		bench_touch_2m(&cursor, touch_block);
		bench_interrupts();
	}
	check("all_measured", true, " ");
}
