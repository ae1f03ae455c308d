/*
 * The guest's UART: an Arm PL011 r1p5 (DDI 0183), as far as software can tell it from a real one.
 *
 * The transmitter is never busy and its FIFO always empty: a byte is gone when it was written, so
 * the transmit interrupt becomes pending with every write, and polling for room succeeds at once.
 * That is the hot path (a boot prints tens of thousands of bytes), and takes no lock while the
 * interrupt is already pending. Keys go into a receive FIFO of 32 bytes; no time passes between
 * them, so the receive timeout is due as soon as a byte lies in the FIFO: a single key reaches the
 * guest although the FIFO's trigger level was not reached.
 *
 * Deliberate differences: the UART works before it is enabled and at any baud rate, because
 * payloads that ran under a boot loader rely on that; the modem's lines (carrier, data set ready,
 * clear to send) are always on, so that nobody waits for them.
 *
 * Locking: uart->lock guards everything; the interrupt line is told with it dropped (dev_line.h).
 */
#include "hyp/dev_pl011.h"

#include "hyp/console.h"
#include "hyp/dev_fifo.h"
#include "hyp/dev_line.h"
#include "hyp/frame.h"
#include "hyp/lock.h"
#include "hyp/vm.h"

/* Registers, DDI 0183 table 3-1. */
#define UARTDR 0x000
#define UARTRSR 0x004 /* write: UARTECR */
#define UARTFR 0x018
#define UARTILPR 0x020
#define UARTIBRD 0x024
#define UARTFBRD 0x028
#define UARTLCR_H 0x02c
#define UARTCR 0x030
#define UARTIFLS 0x034
#define UARTIMSC 0x038
#define UARTRIS 0x03c
#define UARTMIS 0x040
#define UARTICR 0x044
#define UARTDMACR 0x048
#define UARTPERIPHID0 0xfe0

#define DR_OVERRUN BIT(11)
#define RSR_OVERRUN BIT(3)

#define FR_CTS BIT(0)
#define FR_DSR BIT(1)
#define FR_DCD BIT(2)
#define FR_RXFE BIT(4)
#define FR_RXFF BIT(6)
#define FR_TXFE BIT(7)

#define LCR_H_FEN BIT(4)
#define CR_LBE BIT(7)
#define CR_RESET 0x300 /* TXE and RXE */
#define IFLS_RX BITS(5, 3)
#define IFLS_RESET 0x12 /* both FIFOs at a half */

#define INT_RX BIT(4)
#define INT_TX BIT(5)
#define INT_RT BIT(6) /* receive timeout */
#define INT_OE BIT(10)
#define INT_ALL BITS(10, 0)

/* r1p5 (PeriphID2 = 0x3.) is the revision whose FIFOs are 32 bytes deep; DDI 0183 3.3.14. */
#define FIFO_DEPTH 32
static_assert(FIFO_DEPTH <= DEV_FIFO_MAX, "the FIFO has room for what it may hold");
static const u8 ids[8] = {0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1};

struct pl011 {
	struct console_device console; /* first, see console.h */

	struct lock lock; /* device */

	/* Guarded by lock; ris is also read without it. */
	u32 ris, imsc;
	u32 ilpr, ibrd, fbrd, lcr_h, cr, ifls, dmacr;
	u32 rsr;
	bool overrun;	      /* the next byte that comes in says that some were lost before it */
	struct dev_fifo fifo; /* byte and error flags, as UARTDR shows them */
	struct dev_line line;
};

/* Called with the lock held, drops it: what changed may have changed the interrupt line. */
static void unlock_and_tell(struct pl011 *uart)
{
	dev_line_drop(&uart->line, &uart->lock, (uart->ris & uart->imsc) != 0);
}

/* ---- Receiver: the lock is held ------------------------------------------------------------ */

/* Without FIFOs there is a holding register of one byte. */
static u32 fifo_depth(const struct pl011 *uart)
{
	return uart->lcr_h & LCR_H_FEN ? FIFO_DEPTH : 1;
}

/* How many bytes make the receive interrupt pending; DDI 0183 3.3.9. Reserved values: as 7/8. */
static u32 fifo_trigger(const struct pl011 *uart)
{
	static const u8 eighths[8] = {1, 2, 4, 6, 7, 7, 7, 7};

	if (!(uart->lcr_h & LCR_H_FEN)) {
		return 1;
	}
	return FIFO_DEPTH / 8 * eighths[field_get(uart->ifls, IFLS_RX)];
}

static void receive(struct pl011 *uart, u8 byte)
{
	if (uart->fifo.count >= fifo_depth(uart)) {
		uart->overrun = true;
		uart->rsr |= RSR_OVERRUN;
		uart->ris |= INT_OE;
		return;
	}
	dev_fifo_put(&uart->fifo, byte | (uart->overrun ? DR_OVERRUN : 0));
	uart->overrun = false;
	uart->ris |= INT_RT;
	if (uart->fifo.count >= fifo_trigger(uart)) {
		uart->ris |= INT_RX;
	}
}

/* An empty FIFO reads as zero: no byte, no error. */
static u32 take(struct pl011 *uart)
{
	u32 data = 0;

	if (uart->fifo.count != 0) {
		data = dev_fifo_take(&uart->fifo);
		uart->rsr = data & DR_OVERRUN ? RSR_OVERRUN : 0;
	}
	if (uart->fifo.count < fifo_trigger(uart)) {
		uart->ris &= ~INT_RX;
	}
	if (uart->fifo.count == 0) {
		uart->ris &= ~INT_RT;
	}
	return data;
}

/* Turning FIFOs on or off forgets what is in them: DDI 0183 2.4.3. */
static void set_line_control(struct pl011 *uart, u32 value)
{
	if ((uart->lcr_h ^ value) & LCR_H_FEN) {
		dev_fifo_clear(&uart->fifo);
		uart->ris &= ~(INT_RX | INT_RT);
	}
	uart->lcr_h = value & 0xff;
}

/* ---- Transmitter --------------------------------------------------------------------------- */

static void transmit(struct pl011 *uart, u8 byte)
{
	if (unlikely(uart->cr & CR_LBE)) {
		lock_take(&uart->lock);
		receive(uart, byte);
		uart->ris |= INT_TX;
		unlock_and_tell(uart);
		return;
	}
	console_guest_byte(uart->line.vm, byte);
	/* Already pending: nothing changes. Against a racing UARTICR this write came first. */
	if (likely(load_relaxed(&uart->ris) & INT_TX)) {
		return;
	}
	lock_take(&uart->lock);
	uart->ris |= INT_TX;
	unlock_and_tell(uart);
}

/* ---- Registers ----------------------------------------------------------------------------- */

static u32 flags(const struct pl011 *uart)
{
	u32 count = load_relaxed(&uart->fifo.count);
	u32 value = FR_TXFE | FR_CTS | FR_DSR | FR_DCD;

	if (count == 0) {
		return value | FR_RXFE;
	}
	return count >= fifo_depth(uart) ? value | FR_RXFF : value;
}

static u32 read_data(struct pl011 *uart)
{
	lock_take(&uart->lock);

	u32 data = take(uart);

	unlock_and_tell(uart);
	console_device_has_room();
	return data;
}

/* Registers whose reading changes nothing. */
static u32 peek_register(const struct pl011 *uart, u64 reg)
{
	switch (reg) {
	case UARTRSR:
		return uart->rsr;
	case UARTFR:
		return flags(uart);
	case UARTILPR:
		return uart->ilpr;
	case UARTIBRD:
		return uart->ibrd;
	case UARTFBRD:
		return uart->fbrd;
	case UARTLCR_H:
		return uart->lcr_h;
	case UARTCR:
		return uart->cr;
	case UARTIFLS:
		return uart->ifls;
	case UARTIMSC:
		return uart->imsc;
	case UARTRIS:
		return uart->ris;
	case UARTMIS:
		return uart->ris & uart->imsc;
	case UARTDMACR:
		return uart->dmacr;
	}
	return reg >= UARTPERIPHID0 ? ids[(reg - UARTPERIPHID0) / 4 % ARRAY_COUNT(ids)] : 0;
}

/* What a write merges with where it is narrower than the register; commands merge with nothing. */
static u32 stored_register(const struct pl011 *uart, u64 reg)
{
	bool is_command = reg == UARTRSR || reg == UARTICR;

	return is_command ? 0 : peek_register(uart, reg);
}

static void poke_register(struct pl011 *uart, u64 reg, u32 value)
{
	switch (reg) {
	case UARTRSR: /* UARTECR: any value clears all errors */
		uart->rsr = 0;
		break;
	case UARTILPR:
		uart->ilpr = value & 0xff;
		break;
	case UARTIBRD:
		uart->ibrd = value & 0xffff;
		break;
	case UARTFBRD:
		uart->fbrd = value & 0x3f;
		break;
	case UARTLCR_H:
		set_line_control(uart, value);
		break;
	case UARTCR:
		uart->cr = value & 0xff87;
		break;
	case UARTIFLS:
		uart->ifls = value & 0x3f;
		break;
	case UARTIMSC:
		uart->imsc = value & INT_ALL;
		break;
	case UARTICR:
		uart->ris &= ~value;
		break;
	case UARTDMACR: /* no DMA: kept, without effect */
		uart->dmacr = value & 0x7;
		break;
	}
}

static u32 read_word(struct pl011 *uart, u64 reg)
{
	return reg == UARTDR ? read_data(uart) : peek_register(uart, reg);
}

/* `lanes`: the bits that the access covers; `value` is in place. */
static void write_word(struct pl011 *uart, u64 reg, u32 value, u32 lanes)
{
	if (reg == UARTDR) {
		if (lanes & 0xff) {
			transmit(uart, (u8)value);
		}
		return;
	}
	lock_take(&uart->lock);
	poke_register(uart, reg, (stored_register(uart, reg) & ~lanes) | (value & lanes));
	unlock_and_tell(uart);
}

/*
 * Registers are words, four bytes apart. Narrower accesses see their part of a word, and wider ones
 * are two accesses, as a bus of 32 bits makes of them. An access that straddles words has no
 * meaning on that bus: it sees the first word's part alone.
 */
static u64 pl011_read(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size)
{
	struct pl011 *uart = device;
	u64 reg = align_down(offset, 4);
	unsigned shift = 8 * (offset & 3);
	u64 value = read_word(uart, reg) >> shift;

	if (unlikely(size == 8 && shift == 0)) {
		value |= (u64)read_word(uart, reg + 4) << 32;
	}
	return size == 8 ? value : value & BITS(8 * size - 1, 0);
}

static void pl011_write(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size,
			u64 value)
{
	struct pl011 *uart = device;
	u64 reg = align_down(offset, 4);
	unsigned shift = 8 * (offset & 3);

	if (likely(offset == UARTDR && size <= 4)) {
		transmit(uart, (u8)value);
		return;
	}
	write_word(uart, reg, (u32)(value << shift), (u32)(BITS(8 * size - 1, 0) << shift));
	if (unlikely(size == 8 && shift == 0)) {
		write_word(uart, reg + 4, (u32)(value >> 32), ~0u);
	}
}

const struct mmio_ops pl011_ops = {.read = pl011_read, .write = pl011_write};

/* ---- Keys ---------------------------------------------------------------------------------- */

static bool pl011_key(struct console_device *console, u8 key)
{
	struct pl011 *uart = (struct pl011 *)console;

	lock_take(&uart->lock);

	/* No overrun: the key is not lost, whoever has it comes again. */
	bool has_room = uart->fifo.count < fifo_depth(uart);

	if (has_room) {
		receive(uart, key);
	}
	unlock_and_tell(uart);
	return has_room;
}

/* ---- Life ---------------------------------------------------------------------------------- */

/* The lock is held, or nobody has the UART yet. */
static void set_reset_values(struct pl011 *uart)
{
	uart->ris = 0;
	uart->imsc = 0;
	uart->ilpr = uart->ibrd = uart->fbrd = uart->lcr_h = uart->dmacr = 0;
	uart->cr = CR_RESET;
	uart->ifls = IFLS_RESET;
	uart->rsr = 0;
	uart->overrun = false;
	dev_fifo_clear(&uart->fifo);
}

struct pl011 *pl011_create(struct vm *vm, u32 irq)
{
	struct pl011 *uart = hyp_alloc(sizeof(*uart));

	if (uart != NULL) {
		uart->console.key = pl011_key;
		uart->line = (struct dev_line){.vm = vm, .irq = irq};
		set_reset_values(uart);
	}
	return uart;
}

void pl011_destroy(struct pl011 *uart)
{
	hyp_free(uart);
}

void pl011_reset(struct pl011 *uart)
{
	lock_take(&uart->lock);
	set_reset_values(uart);
	unlock_and_tell(uart);
}

struct console_device *pl011_console(struct pl011 *uart)
{
	return &uart->console;
}
