/*
 * The virtual IO-APIC: 24 input lines, each with an entry that says which message its interrupt is.
 *
 * As software sees it, an 82093AA with the end-of-interrupt register of its successors (version
 * 0x20). An edge is a message, or is lost where its entry is masked. A level is one message, then
 * silence until its end is told (Remote IRR), then another if the line is still asserted.
 *
 * Lines are asserted or not; an entry's polarity is kept and means nothing, as nobody here has
 * wires. Not there: SMI and external interrupts, which go nowhere.
 *
 * Manuals: Intel 82093AA data sheet (290566), chapter 3; SDM volume 3A, 10.8.5 for the end of
 * interrupts.
 */
#ifndef VIOAPIC_H
#define VIOAPIC_H

#include "hyp/lock.h"
#include "hyp/types.h"

#include "vapic_message.h"

struct mmio_ops;

#define VIOAPIC_PINS 24
#define VIOAPIC_SIZE 0x1000ull

/*
 * Delivers `message`: FIXED or LOWEST of any vector, NMI or INIT; no shorthand, never wide. False:
 * nobody took it, and a level stays to be sent by the next change of its line or its entry. Called
 * with the IO-APIC's lock held, so it takes only locks that come after it, and calls nothing here.
 */
typedef bool (*vioapic_send_fn)(void *context, const struct vapic_message *message);

struct vioapic {
	/* Constant once initialised. */
	vioapic_send_fn send;
	void *context;

	/* In the order of locks: the interrupt controller. Guards what follows. */
	struct lock lock;
	u32 select; /* IOREGSEL */
	u32 id;	    /* as its register reads */
	u32 lines;  /* bit n: pin n is asserted */
	u64 entries[VIOAPIC_PINS];
};

/* As after power-up; `io` is zeroed memory. */
void vioapic_init(struct vioapic *io, vioapic_send_fn send, void *context);
/* The same again. Lines stay as they are: they are their devices'. */
void vioapic_reset(struct vioapic *io);

/* Registers, for vm_mmio_add; device = struct vioapic. Only accesses of 32 bits do something. */
extern const struct mmio_ops vioapic_ops;

/* Any CPU. `pin` below VIOAPIC_PINS. An edge is told as true, then false. */
void vioapic_set_line(struct vioapic *io, u32 pin, bool asserted);

/* A local APIC ended level-triggered `vector`; any CPU. */
void vioapic_eoi(struct vioapic *io, u8 vector);

#endif
