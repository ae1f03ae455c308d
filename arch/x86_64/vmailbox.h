/*
 * The multiprocessor wakeup mailbox (ACPI 6.4, 5.2.12.19): a page by which a guest starts its other
 * CPUs in 64-bit mode, where it cannot, or does not want to, by INIT and startup interrupts.
 *
 *     0 command (16 bits: 0 nothing, 1 wake up)   4 APIC id   8 where to begin
 *
 * The page is a device: nobody waits in a loop for what the guest writes. A command is done at
 * once, and is 0 again when the guest next looks, which is how the CPU that was woken acknowledges
 * it. A CPU is woken once; later commands for it, and those for nobody, change nothing.
 */
#ifndef VMAILBOX_H
#define VMAILBOX_H

#include "hyp/vm.h"

#define VMAILBOX_SIZE PAGE_SIZE

struct vmailbox {
	/* Constant. The guest wants its CPU with this id to begin at `vector`. */
	void (*wake)(void *context, u32 apic_id, u64 vector);
	void *context;

	struct lock lock;
	u8 words[16]; /* guarded by it */
};

/* Accesses to the page; the device is a struct vmailbox. Behind its words it reads as zero. */
extern const struct mmio_ops vmailbox_ops;

/* As after power-on. */
void vmailbox_reset(struct vmailbox *mailbox);

#endif
