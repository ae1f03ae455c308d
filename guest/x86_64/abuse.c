/*
 * A guest that means no good: random MSRs, random ports, random hypercalls, random moves of every
 * size to every device and to where nobody is. Whatever comes back, this guest goes on to its last
 * line; and the guests beside it must see nothing of it. What would end it, or overwrite it by its
 * own order, is left out.
 *
 * Bootargs: seed=N, rounds=N (3000) of each kind. The seed is printed, so a failure can be had
 * again.
 */
#include "lib.h"

#define UART_IER (COM1 + 1)
#define UART_FCR (COM1 + 2)
#define UART_LCR (COM1 + 3)
#define UART_MCR (COM1 + 4)
#define POWER_PORT 0x600
#define POWER_PORTS 8
#define LAPIC_COMMAND (LAPIC_BASE + 0x300)

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
		0xff,
		1ul << 31,
		0xffffffff,
		1ul << 32,
		1ul << 63,
		~0ul,
		0x7ffffffffffffffful,
		LAPIC_BASE | 0x800,
		HOLE_BASE,
		0x10000,
	};
	u64 r = random64();

	return r & 1 ? corners[(r >> 1) % ARRAY_SIZE(corners)] : random64() >> (r >> 1 & 63);
}

/* ---- MSRs ----------------------------------------------------------------------------------- */

struct range {
	u32 first, last;
};

/* Segment bases, long mode and its like; the TSC, which this guest waits by; KVM's, by which memory
 * is written; the x2APIC's command. */
static bool is_left_out(u32 msr)
{
	static const struct range ranges[] = {
		{0x10, 0x12},
		{0x3b, 0x3b},
		{0x174, 0x176},
		{0x1d9, 0x1d9},
		{0x277, 0x277},
		{0x830, 0x830},
		{0x4b564d00, 0x4b564dff},
		{0xc0000080, 0xc0000084},
		{0xc0000100, 0xc0000103},
	};

	for (u32 i = 0; i < ARRAY_SIZE(ranges); i++) {
		if (msr >= ranges[i].first && msr <= ranges[i].last) {
			return true;
		}
	}
	return false;
}

static u32 random_msr(void)
{
	static const struct range ranges[] = {
		{0, 0x1fff},  {0x800, 0x8ff},  {0xc0000000, 0xc0001fff}, {0x40000000, 0x400000ff},
		{0x1b, 0x1b}, {0, 0xffffffff},
	};
	u64 r = random64();
	struct range range = ranges[r % ARRAY_SIZE(ranges)];

	return range.first + (u32)((r >> 8) % (range.last - range.first + 1ul));
}

static void abuse_msrs(u64 rounds)
{
	fault_expect();
	for (u64 i = 0; i < rounds; i++) {
		u32 msr = random_msr();

		read_msr(msr);
		if (!is_left_out(msr)) {
			write_msr(msr, random_value());
		}
	}
	check("msrs_survived", fault_end().count > 0, "no fault at all");
}

/* ---- Hypercalls ----------------------------------------------------------------------------- */

static void abuse_hypercalls(u64 rounds)
{
	for (u64 i = 0; i < rounds; i++) {
		u64 a = random_value() | 1ul << 20; /* KVM's, which may write memory, are below */

		__asm__ volatile("vmcall"
				 : "+a"(a)
				 : "b"(random_value()), "c"(random_value()), "d"(random_value()),
				   "S"(random_value())
				 : "memory");
	}
	check("hypercalls_survived", true, " ");
}

/* ---- Ports ---------------------------------------------------------------------------------- */

static bool meets(u32 port, u32 first, u32 count)
{
	return port + 4 > first && port < first + count;
}

/* What would print, or turn this machine off. */
static bool may_write(u32 port)
{
	return !meets(port, COM1, 1) && !meets(port, DEBUG_EXIT_PORT, 4) &&
	       !meets(port, POWER_PORT, POWER_PORTS);
}

static u16 random_port(void)
{
	static const u16 near[] = {COM1, DEBUG_EXIT_PORT, POWER_PORT, 0, 0xcf8, 0xfffc};
	u64 r = random64();

	return r & 1 ? (u16)(r >> 48) : (u16)(near[(r >> 1) % ARRAY_SIZE(near)] + (r >> 8 & 15));
}

static void write_port(u16 port, unsigned size, u32 value)
{
	if (size == 0) {
		out8(port, (u8)value);
	} else if (size == 1) {
		__asm__ volatile("outw %%ax, %%dx" ::"a"(value), "d"(port) : "memory");
	} else {
		__asm__ volatile("outl %%eax, %%dx" ::"a"(value), "d"(port) : "memory");
	}
}

static void read_port(u16 port, unsigned size)
{
	u32 value = 0;

	if (size == 0) {
		in8(port);
	} else if (size == 1) {
		__asm__ volatile("inw %%dx, %%ax" : "+a"(value) : "d"(port) : "memory");
	} else {
		__asm__ volatile("inl %%dx, %%eax" : "+a"(value) : "d"(port) : "memory");
	}
}

static void abuse_ports(u64 rounds)
{
	for (u64 i = 0; i < rounds; i++) {
		u16 port = random_port();
		unsigned size = (unsigned)(random64() % 3);

		read_port(port, size);
		if (may_write(port)) {
			write_port(port, size, (u32)random_value());
		}
	}
	/* Out of loopback and back from the divisor: this is to be read. */
	out8(UART_LCR, 3);
	out8(UART_IER, 0);
	out8(UART_FCR, 0);
	out8(UART_MCR, 0);
	check("ports_survived", true, " ");
}

/* ---- Memory --------------------------------------------------------------------------------- */

static u64 random_place(void)
{
	static const struct {
		u64 base, size;
	} places[] = {
		{IOAPIC_BASE, 0x1000}, {LAPIC_BASE, 0x1000},	       {VIRTIO_BASE, 0x2000},
		{HOLE_BASE, 0x10000},  {IOAPIC_BASE - 0x1000, 0x3000},
	};
	u64 r = random64();
	u64 a = places[r % ARRAY_SIZE(places)].base +
		(r >> 8) % places[r % ARRAY_SIZE(places)].size;

	return r >> 60 & 1 ? a & ~15ul : a;
}

/* Each is as long as the others, so one that faults is passed over by what all are long. */
static void access(u64 a, unsigned kind, u64 value)
{
	switch (kind) {
	case 0:
		__asm__ volatile("movl (%%rcx), %%eax" ::"c"(a) : "rax", "memory");
		break;
	case 1:
		__asm__ volatile("movb (%%rcx), %%ah" ::"c"(a) : "rax", "memory");
		break;
	case 2:
		__asm__ volatile("movl %%eax, (%%rcx)" ::"c"(a), "a"(value) : "memory");
		break;
	case 3:
		__asm__ volatile("movb %%ah, (%%rcx)" ::"c"(a), "a"(value) : "memory");
		break;
	case 4:
		__asm__ volatile("xchgl %%eax, (%%rcx)" : "+a"(value) : "c"(a) : "memory");
		break;
	default:
		__asm__ volatile("orl %%eax, (%%rcx)" ::"c"(a), "a"(value) : "memory", "cc");
		break;
	}
}

static void abuse_devices(u64 rounds)
{
	fault_expect();
	for (u64 i = 0; i < rounds; i++) {
		u64 a = random_place();

		if (a + 4 <= LAPIC_COMMAND || a >= LAPIC_COMMAND + 4) {
			access(a, (unsigned)(random64() % 6), random_value());
		}
	}
	fault_end();
	check("devices_survived", true, " ");
}

void guest_main(void)
{
	u64 rounds = bootarg("rounds", 3000);

	state = bootarg("seed", 1);
	print("seed %lu", state);
	abuse_devices(rounds); /* before the page of the local APIC may be gone */
	abuse_ports(rounds);
	abuse_hypercalls(rounds);
	abuse_msrs(rounds);
}
