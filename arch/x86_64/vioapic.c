/*
 * The virtual IO-APIC's registers and its lines (82093AA data sheet, 3.1 and 3.2).
 *
 * One lock, held while a message is delivered, too: so an entry's Remote IRR is set before the end
 * of that interrupt can come from another CPU. Each operation sends at most one message a pin.
 */
#include "vioapic.h"

#include "hyp/vm.h"

/* Offsets of the registers that memory accesses reach; the others are behind the window. */
#define IOREGSEL 0x00
#define IOWIN 0x10
#define IOEOIR 0x40

#define INDEX_ID 0x00
#define INDEX_VERSION 0x01
#define INDEX_ARBITRATION 0x02
#define INDEX_ENTRIES 0x10 /* two each, low half first */

#define SELECT_INDEX BITS(7, 0)
#define ID_MASK BITS(27, 24)
#define VERSION (0x20u | (VIOAPIC_PINS - 1) << 16)

/* Redirection table entry, 3.2.4. */
#define ENTRY_VECTOR BITS(7, 0)
#define ENTRY_MODE BITS(10, 8)
#define ENTRY_LOGICAL BIT(11)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL BIT(15)
#define ENTRY_MASKED BIT(16)
#define ENTRY_DESTINATION BITS(63, 56)
#define ENTRY_POLARITY BIT(13)
/* Bit 12, delivery status, is always "idle". */
#define ENTRY_WRITABLE                                                                             \
	(ENTRY_VECTOR | ENTRY_MODE | ENTRY_LOGICAL | ENTRY_POLARITY | ENTRY_LEVEL | ENTRY_MASKED | \
	 ENTRY_DESTINATION)

static_assert(VIOAPIC_PINS <= 32, "a bit a line");

/* ---- Messages: the lock is held ---------------------------------------------------------------
 */

static struct vapic_message message_of(u64 entry)
{
	return (struct vapic_message){
		.destination = field_get(entry, ENTRY_DESTINATION),
		.vector = field_get(entry, ENTRY_VECTOR),
		.mode = field_get(entry, ENTRY_MODE),
		.shorthand = VAPIC_TO_DESTINATION,
		.logical = entry & ENTRY_LOGICAL,
		.level = entry & ENTRY_LEVEL,
	};
}

/* Only what a local APIC ends can be a level; all else is an edge, whatever its entry says. */
static bool is_level(u64 entry)
{
	struct vapic_message message = message_of(entry);

	return message.level && vapic_is_vector(&message);
}

static bool send(struct vioapic *io, u64 entry)
{
	struct vapic_message message = message_of(entry);

	message.level = is_level(entry);
	switch (message.mode) {
	case VAPIC_FIXED:
	case VAPIC_LOWEST:
	case VAPIC_NMI:
	case VAPIC_INIT:
		return io->send(io->context, &message);
	}
	return false;
}

/* What a level-triggered pin owes now is sent; nothing happens at others. */
static void send_level(struct vioapic *io, u32 pin)
{
	u64 *entry = &io->entries[pin];
	bool asserted = io->lines >> pin & 1;

	if (asserted && is_level(*entry) && !(*entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) &&
	    send(io, *entry)) {
		*entry |= ENTRY_REMOTE_IRR;
	}
}

static void end_vector(struct vioapic *io, u8 vector)
{
	for (u32 pin = 0; pin < VIOAPIC_PINS; pin++) {
		u64 *entry = &io->entries[pin];

		if ((*entry & ENTRY_REMOTE_IRR) && field_get(*entry, ENTRY_VECTOR) == vector) {
			*entry &= ~ENTRY_REMOTE_IRR;
			send_level(io, pin);
		}
	}
}

/* ---- From outside -----------------------------------------------------------------------------
 */

void vioapic_init(struct vioapic *io, vioapic_send_fn send_message, void *context)
{
	io->send = send_message;
	io->context = context;
	vioapic_reset(io);
}

void vioapic_reset(struct vioapic *io)
{
	lock_take(&io->lock);
	io->select = 0;
	io->id = 0;
	for (u32 pin = 0; pin < VIOAPIC_PINS; pin++) {
		io->entries[pin] = ENTRY_MASKED;
	}
	lock_drop(&io->lock);
}

void vioapic_set_line(struct vioapic *io, u32 pin, bool asserted)
{
	u32 bit = (u32)BIT(pin);
	bool rises;
	u64 entry;

	lock_take(&io->lock);
	rises = asserted && !(io->lines & bit);
	entry = io->entries[pin];
	io->lines = asserted ? io->lines | bit : io->lines & ~bit;
	if (is_level(entry)) {
		send_level(io, pin);
	} else if (rises && !(entry & ENTRY_MASKED)) {
		send(io, entry);
	}
	lock_drop(&io->lock);
}

void vioapic_eoi(struct vioapic *io, u8 vector)
{
	lock_take(&io->lock);
	end_vector(io, vector);
	lock_drop(&io->lock);
}

/* ---- Registers: the lock is held ---------------------------------------------------------------
 */

static u32 read_index(const struct vioapic *io, u32 index)
{
	u32 pin = (index - INDEX_ENTRIES) / 2;

	switch (index) {
	case INDEX_ID:
	case INDEX_ARBITRATION: /* loaded with the id whenever that is written */
		return io->id;
	case INDEX_VERSION:
		return VERSION;
	}
	if (index < INDEX_ENTRIES || pin >= VIOAPIC_PINS) {
		return 0;
	}
	return io->entries[pin] >> (index % 2 ? 32 : 0);
}

/*
 * Remote IRR means nothing for an edge, so becoming one clears it: that is how software that has no
 * end-of-interrupt register gets a stuck pin loose.
 */
static void write_entry(struct vioapic *io, u32 pin, u64 written, u64 value)
{
	u64 *entry = &io->entries[pin], mask = written & ENTRY_WRITABLE;

	*entry = (*entry & ~mask) | (value & mask);
	if (!is_level(*entry)) {
		*entry &= ~ENTRY_REMOTE_IRR;
	}
	send_level(io, pin);
}

static void write_index(struct vioapic *io, u32 index, u32 value)
{
	u32 pin = (index - INDEX_ENTRIES) / 2;

	if (index == INDEX_ID) {
		io->id = value & ID_MASK;
	} else if (index >= INDEX_ENTRIES && pin < VIOAPIC_PINS) {
		if (index % 2) {
			write_entry(io, pin, BITS(63, 32), (u64)value << 32);
		} else {
			write_entry(io, pin, BITS(31, 0), value);
		}
	}
}

static u64 read_register(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size)
{
	struct vioapic *io = device;
	u32 value = 0;

	if (size != 4) {
		return 0;
	}
	lock_take(&io->lock);
	if (offset == IOREGSEL) {
		value = io->select;
	} else if (offset == IOWIN) {
		value = read_index(io, io->select);
	}
	lock_drop(&io->lock);
	return value;
}

static void write_register(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size,
			   u64 value)
{
	struct vioapic *io = device;

	if (size != 4) {
		return;
	}
	lock_take(&io->lock);
	switch (offset) {
	case IOREGSEL:
		io->select = value & SELECT_INDEX;
		break;
	case IOWIN:
		write_index(io, io->select, value);
		break;
	case IOEOIR:
		end_vector(io, value);
		break;
	}
	lock_drop(&io->lock);
}

const struct mmio_ops vioapic_ops = {read_register, write_register};
