/*
 * The guest's UART on a PC: an NS16550A, as far as software can tell it from a real one. Manual:
 * National Semiconductor PC16550D, June 1995; a comment that names a register means its section.
 *
 * The transmitter is never busy and its FIFO always empty: a byte is gone when it was written. So
 * its interrupt (THRE) becomes pending with every byte, and when it is enabled, as the holding
 * register is empty then. Bytes are the hot path, and take no lock while the interrupt is already
 * pending. Keys go into a receive FIFO of 16 bytes; no time passes between them, so the receive
 * timeout is due as soon as a byte lies in the FIFO, and until it is empty: a single key reaches
 * the guest although the FIFO's trigger level was not reached.
 *
 * Deliberate differences: the UART works at any rate and with any format of characters, and a break
 * reaches nobody; the modem's lines (carrier, data set ready, clear to send) are always on, so that
 * nobody waits for them; in loopback keys wait until it is over.
 *
 * Locking: uart->lock guards everything; the interrupt line is told with it dropped (dev_line.h).
 */
#include "hyp/dev_16550.h"

#include "hyp/console.h"
#include "hyp/dev_fifo.h"
#include "hyp/dev_line.h"
#include "hyp/frame.h"
#include "hyp/lock.h"
#include "hyp/vm.h"

/* While LCR.DLAB is set, 0 and 1 are the divisor. */
enum {
	REG_DATA, /* read: RBR, write: THR */
	REG_IER,
	REG_IIR, /* write: FCR */
	REG_LCR,
	REG_MCR,
	REG_LSR,
	REG_MSR,
	REG_SCR,
	REG_NONE,
};
static_assert(REG_NONE == UART16550_SIZE, "a device of eight registers");

#define IER_DATA BIT(0) /* received data, and timeout */
#define IER_THRE BIT(1)
#define IER_LINE BIT(2)
#define IER_MODEM BIT(3)
#define IER_ALL BITS(3, 0)

/* Which interrupt is pending, the highest priority first. Bits 7 and 6: FIFOs are on. */
#define IIR_LINE 0x06
#define IIR_DATA 0x04
#define IIR_TIMEOUT 0x0c
#define IIR_THRE 0x02
#define IIR_MODEM 0x00
#define IIR_NONE 0x01
#define IIR_FIFOS BITS(7, 6)

#define FCR_ENABLE BIT(0)
#define FCR_RESET_RX BIT(1)
#define FCR_TRIGGER BITS(7, 6)

#define LCR_DLAB BIT(7)

#define MCR_DTR BIT(0)
#define MCR_RTS BIT(1)
#define MCR_OUT1 BIT(2)
#define MCR_OUT2 BIT(3) /* on a PC: lets the interrupt through */
#define MCR_LOOP BIT(4)
#define MCR_ALL BITS(4, 0)

#define LSR_DATA BIT(0)
#define LSR_OVERRUN BIT(1)
#define LSR_THRE BIT(5)
#define LSR_EMPTY BIT(6) /* and so is the shift register */

#define MSR_CTS BIT(4)
#define MSR_DSR BIT(5)
#define MSR_RI BIT(6)
#define MSR_DCD BIT(7)
#define MSR_DELTA_SHIFT 4 /* what happened to a line lies four bits below it */

#define FIFO_DEPTH 16
static_assert(FIFO_DEPTH <= DEV_FIFO_MAX, "the FIFO has room for what it may hold");

#define NOTHING 0xff /* what a bus reads where nobody answers */

/*
 * 115200 baud. The chip itself leaves the divisor undefined; but a driver that asks for the rate of
 * the firmware divides by it.
 */
#define DIVISOR_RESET 1

struct uart16550 {
	struct console_device console; /* first, see console.h */

	struct lock lock; /* device */

	/* Guarded by lock; the transmitter reads the first three without it. */
	bool thre; /* the transmit interrupt is pending */
	u8 lcr, mcr;
	u8 ier, fcr, scr;
	u8 divisor[2];
	u8 deltas;    /* of the modem's lines, as MSR shows them */
	bool overrun; /* a byte was lost, and LSR has not been read since */
	struct dev_fifo fifo;
	struct dev_line line;
};

/* ---- Interrupts: the lock is held ---------------------------------------------------------- */

static bool has_fifos(const struct uart16550 *uart)
{
	return uart->fcr & FCR_ENABLE;
}

/* How many bytes make the receive interrupt pending. Without FIFOs one fills the register. */
static u32 fifo_trigger(const struct uart16550 *uart)
{
	static const u8 bytes[4] = {1, 4, 8, 14};

	return has_fifos(uart) ? bytes[field_get(uart->fcr, FCR_TRIGGER)] : 1;
}

/* The interrupt of the highest priority that is pending and enabled, as IIR names it. */
static u8 pending_interrupt(const struct uart16550 *uart)
{
	if ((uart->ier & IER_LINE) && uart->overrun) {
		return IIR_LINE;
	}
	if ((uart->ier & IER_DATA) && uart->fifo.count != 0) {
		return uart->fifo.count >= fifo_trigger(uart) ? IIR_DATA : IIR_TIMEOUT;
	}
	if ((uart->ier & IER_THRE) && uart->thre) {
		return IIR_THRE;
	}
	if ((uart->ier & IER_MODEM) && uart->deltas != 0) {
		return IIR_MODEM;
	}
	return IIR_NONE;
}

/*
 * Drops the lock: what changed may have changed the interrupt line. On a PC the pin OUT2 gates it.
 * In loopback that pin is off, but it is the register's bit that counts here, as in chips that have
 * the gate inside: so a driver can test its interrupt in loopback.
 */
static void unlock_and_tell(struct uart16550 *uart)
{
	bool level = (uart->mcr & MCR_OUT2) && pending_interrupt(uart) != IIR_NONE;

	dev_line_drop(&uart->line, &uart->lock, level);
}

/* ---- Receiver: the lock is held ------------------------------------------------------------ */

static u32 fifo_depth(const struct uart16550 *uart)
{
	return has_fifos(uart) ? FIFO_DEPTH : 1;
}

/* A byte too many: a FIFO keeps what it has, the single register takes the new one (LSR, bit 1). */
static void receive(struct uart16550 *uart, u8 byte)
{
	if (uart->fifo.count >= fifo_depth(uart)) {
		uart->overrun = true;
		if (has_fifos(uart)) {
			return;
		}
		dev_fifo_clear(&uart->fifo);
	}
	dev_fifo_put(&uart->fifo, byte);
}

/* Turning FIFOs on or off forgets what is in them, and without bit 0 no other bit counts (FCR). */
static void set_fifo_control(struct uart16550 *uart, u8 value)
{
	u8 next = value & FCR_ENABLE ? value & (FCR_ENABLE | FCR_TRIGGER) : 0;
	bool toggled = (uart->fcr ^ next) & FCR_ENABLE;

	if (toggled || (next != 0 && (value & FCR_RESET_RX))) {
		dev_fifo_clear(&uart->fifo);
	}
	uart->fcr = next;
}

/* ---- Transmitter --------------------------------------------------------------------------- */

static void transmit(struct uart16550 *uart, u8 byte)
{
	bool loopback = load_relaxed(&uart->mcr) & MCR_LOOP;

	if (likely(!loopback)) {
		console_guest_byte(uart->line.vm, byte);
		/* Already pending: nothing changes. Against a racing read of IIR this came first.
		 */
		if (likely(load_relaxed(&uart->thre))) {
			return;
		}
	}
	lock_take(&uart->lock);
	if (unlikely(loopback)) {
		receive(uart, byte);
	}
	uart->thre = true;
	unlock_and_tell(uart);
}

/* ---- Modem's lines: the lock is held ------------------------------------------------------- */

/* In loopback the four outputs are the four inputs (MCR, bit 4). */
static u8 modem_lines(const struct uart16550 *uart)
{
	u8 mcr = uart->mcr;

	if (likely(!(mcr & MCR_LOOP))) {
		return MSR_CTS | MSR_DSR | MSR_DCD;
	}
	return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
	       (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

/* Every change counts but that of the ring indicator, where only its end does (MSR). */
static void set_modem_control(struct uart16550 *uart, u8 value)
{
	u8 before = modem_lines(uart);

	uart->mcr = value & MCR_ALL;

	u8 after = modem_lines(uart);
	u8 rings = after & MSR_RI;

	uart->deltas |= ((before ^ after) & ~rings) >> MSR_DELTA_SHIFT;
}

/* ---- Registers: the lock is held ----------------------------------------------------------- */

/* Reading IIR takes the transmit interrupt back, if that is what it tells (IIR). */
static u8 read_interrupt(struct uart16550 *uart)
{
	u8 pending = pending_interrupt(uart);

	if (pending == IIR_THRE) {
		uart->thre = false;
	}
	return pending | (has_fifos(uart) ? IIR_FIFOS : 0);
}

static u8 read_line_status(struct uart16550 *uart)
{
	u8 value = LSR_THRE | LSR_EMPTY | (uart->fifo.count != 0 ? LSR_DATA : 0) |
		   (uart->overrun ? LSR_OVERRUN : 0);

	uart->overrun = false;
	return value;
}

static u8 read_modem_status(struct uart16550 *uart)
{
	u8 value = modem_lines(uart) | uart->deltas;

	uart->deltas = 0;
	return value;
}

static bool is_divisor(const struct uart16550 *uart, u64 reg)
{
	return reg <= REG_IER && (load_relaxed(&uart->lcr) & LCR_DLAB);
}

static u8 take_register(struct uart16550 *uart, u64 reg)
{
	switch (reg) {
	case REG_DATA:
		return (u8)dev_fifo_take(&uart->fifo);
	case REG_IER:
		return uart->ier;
	case REG_IIR:
		return read_interrupt(uart);
	case REG_LCR:
		return uart->lcr;
	case REG_MCR:
		return uart->mcr;
	case REG_LSR:
		return read_line_status(uart);
	case REG_MSR:
		return read_modem_status(uart);
	case REG_SCR:
		return uart->scr;
	}
	return NOTHING;
}

/* The holding register is always empty: whoever begins to want its interrupt has it at once. */
static void set_interrupt_enable(struct uart16550 *uart, u8 value)
{
	if (value & ~uart->ier & IER_THRE) {
		uart->thre = true;
	}
	uart->ier = value & IER_ALL;
}

static void put_register(struct uart16550 *uart, u64 reg, u8 value)
{
	switch (reg) {
	case REG_IER:
		set_interrupt_enable(uart, value);
		break;
	case REG_IIR:
		set_fifo_control(uart, value);
		break;
	case REG_LCR:
		uart->lcr = value;
		break;
	case REG_MCR:
		set_modem_control(uart, value);
		break;
	case REG_SCR:
		uart->scr = value;
		break;
	}
}

/* ---- Accesses ------------------------------------------------------------------------------ */

static u8 read_byte(struct uart16550 *uart, u64 reg)
{
	lock_take(&uart->lock);

	u8 value = is_divisor(uart, reg) ? uart->divisor[reg] : take_register(uart, reg);

	unlock_and_tell(uart);
	if (reg == REG_DATA) {
		console_device_has_room();
	}
	return value;
}

static void write_byte(struct uart16550 *uart, u64 reg, u8 value)
{
	if (likely(reg == REG_DATA && !is_divisor(uart, reg))) {
		transmit(uart, value);
		return;
	}
	lock_take(&uart->lock);
	if (is_divisor(uart, reg)) {
		uart->divisor[reg] = value;
	} else {
		put_register(uart, reg, value);
	}
	unlock_and_tell(uart);
	console_device_has_room(); /* FIFOs may be empty now, or loopback over */
}

static u64 uart16550_read(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size)
{
	u64 value = 0;

	for (unsigned i = 0; i < size; i++) {
		value |= (u64)read_byte(device, offset + i) << (8 * i);
	}
	return value;
}

static void uart16550_write(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size,
			    u64 value)
{
	for (unsigned i = 0; i < size; i++) {
		write_byte(device, offset + i, (u8)(value >> (8 * i)));
	}
}

const struct mmio_ops uart16550_ops = {.read = uart16550_read, .write = uart16550_write};

/* ---- Keys ---------------------------------------------------------------------------------- */

static bool uart16550_key(struct console_device *console, u8 key)
{
	struct uart16550 *uart = (struct uart16550 *)console;

	lock_take(&uart->lock);

	/* No overrun: the key is not lost, whoever has it comes again. */
	bool has_room = !(uart->mcr & MCR_LOOP) && uart->fifo.count < fifo_depth(uart);

	if (has_room) {
		receive(uart, key);
	}
	unlock_and_tell(uart);
	return has_room;
}

/* ---- Life ---------------------------------------------------------------------------------- */

/* As after master reset. The lock is held, or nobody has the UART yet. */
static void set_reset_values(struct uart16550 *uart)
{
	uart->thre = false;
	uart->overrun = false;
	uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->scr = uart->deltas = 0;
	uart->divisor[0] = DIVISOR_RESET;
	uart->divisor[1] = 0;
	dev_fifo_clear(&uart->fifo);
}

struct uart16550 *uart16550_create(struct vm *vm, u32 irq)
{
	struct uart16550 *uart = hyp_alloc(sizeof(*uart));

	if (uart != NULL) {
		uart->console.key = uart16550_key;
		uart->line = (struct dev_line){.vm = vm, .irq = irq};
		set_reset_values(uart);
	}
	return uart;
}

void uart16550_destroy(struct uart16550 *uart)
{
	hyp_free(uart);
}

void uart16550_reset(struct uart16550 *uart)
{
	lock_take(&uart->lock);
	set_reset_values(uart);
	unlock_and_tell(uart);
}

struct console_device *uart16550_console(struct uart16550 *uart)
{
	return &uart->console;
}
