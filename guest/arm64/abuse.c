/*
 * A guest that means no good: random calls, random accesses of every width to every device and to
 * holes, random system registers. Whatever comes back, this guest goes on to its last line; and the
 * guest beside it, pattern.c, must see nothing of it.
 *
 * Bootargs: seed=N, rounds=N (20000) of each kind. The seed is printed, so a failure can be had
 * again.
 */
#include "lib.h"

#define SMCCC_FAST 0x80000000u

static u64 state;

static u64 random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dul;
}

/* Numbers that break things more often than others do. */
static u64 random_value(void)
{
	static const u64 corners[] = {
		0,
		1,
		~0ul,
		1ul << 31,
		1ul << 32,
		1ul << 63,
		0x7ffffffffffffffful,
		0x40000000,
		0x40000001,
		GICD_BASE,
		UART_BASE,
		HOLE_BASE,
	};
	u64 r = random64();

	return r & 1 ? corners[(r >> 1) % ARRAY_SIZE(corners)] : random64() >> (r >> 1 & 63);
}

/* ---- Calls ---------------------------------------------------------------------------------- */

/* Those that would do what they say: end or reset this guest, or turn this CPU off. */
static bool is_fatal(u32 function)
{
	u32 number = function & 0xbfffffff;

	return number == PSCI_CPU_OFF || number == PSCI_SYSTEM_OFF || number == PSCI_SYSTEM_RESET ||
	       number == 0x84000012 /* SYSTEM_RESET2 */ || number == PSCI_CPU_SUSPEND32 ||
	       number == PSCI_CPU_ON32;
}

static u32 random_function(void)
{
	u64 r = random64();
	u32 function = (u32)(r >> 32);

	if (r & 1) { /* a service that exists, a number near those that do */
		function = SMCCC_FAST | (r & 2 ? 1u << 30 : 0) | (u32)(r >> 2 & 7) << 24 |
			   (u32)(r >> 8 & 0x7f);
	}
	return function;
}

static void abuse_calls(u64 rounds)
{
	for (u64 i = 0; i < rounds; i++) {
		u32 function = random_function();

		if (!is_fatal(function)) {
			hvc(function, random_value(), random_value(), random_value());
		}
	}
	check("calls_survived", true, "%s", "");
}

/* ---- Devices and holes ---------------------------------------------------------------------- */

static u64 random_place(void)
{
	static const struct {
		u64 base, size;
	} places[] = {
		{GICD_BASE, 0x20000},  {GICR_BASE, 0x60000}, {UART_BASE, 0x2000},
		{VIRTIO_BASE, 0x5000}, {HOLE_BASE, 0x10000}, {0, 0x1000},
	};
	u64 r = random64();

	return places[r % ARRAY_SIZE(places)].base + (r >> 8) % places[r % ARRAY_SIZE(places)].size;
}

static void access(u64 a, unsigned width, bool write, u64 value)
{
	switch (width | (write ? 4 : 0)) {
	case 0:
		read8(a);
		break;
	case 1:
		__asm__ volatile("ldrh w0, [%0]" ::"r"(a) : "x0", "memory");
		break;
	case 2:
		read32(a);
		break;
	case 3:
		read64(a);
		break;
	case 4:
		write8(a, (u8)value);
		break;
	case 5:
		__asm__ volatile("strh %w1, [%0]" ::"r"(a), "r"(value) : "memory");
		break;
	case 6:
		write32(a, (u32)value);
		break;
	default:
		write64(a, value);
		break;
	}
}

/* What is sent would be taken for this guest's words. */
static bool is_uart_data(u64 a)
{
	return a >= UART_BASE && a < UART_BASE + 8;
}

static void abuse_devices(u64 rounds)
{
	irq_disable();
	fault_expect();
	for (u64 i = 0; i < rounds; i++) {
		u64 r = random64(), a = random_place();

		a = r & 8 ? a & ~7ul : a;
		if (!is_uart_data(a)) {
			access(a, r & 3, r & 4, random_value());
		}
	}
	fault_end();
	check("devices_survived", true, "%s", "");
}

/* ---- System registers ----------------------------------------------------------------------- */

static u32 code[2] __attribute__((aligned(64)));

static void run_code(u32 instruction)
{
	code[0] = instruction;
	code[1] = 0xd65f03c0; /* ret */
	__asm__ volatile("dc cvau, %0\n\tdsb ish\n\tic ivau, %0\n\tdsb ish\n\tisb" ::"r"(code)
			 : "memory");
	__asm__ volatile("mov x0, xzr\n\tblr %0" ::"r"(code)
			 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
			   "x12", "x13", "x14", "x15", "x16", "x17", "x30", "memory");
}

/* MRS x0, of any register there may be: op0 is 2 or 3, and 15 bits say which. */
static void abuse_registers(u64 rounds)
{
	for (u64 i = 0; i < rounds; i++) {
		fault_expect();
		run_code(0xd5300000 | (u32)(random64() & 0xfffe0) |
			 (random64() & 1 ? 1u << 19 : 0));
		fault_end();
	}
	check("registers_survived", true, "%s", "");
}

/* ---- All of it ------------------------------------------------------------------------------ */

/* The GIC and the UART are in no state to be used after this, so it comes last but for the words.
 */
void guest_main(void)
{
	u64 rounds = bootarg("rounds", 20000);

	state = bootarg("seed", 1);
	print("seed %lu", state);
	mmu_on();
	abuse_calls(rounds);
	abuse_registers(rounds);
	abuse_devices(rounds);
}
