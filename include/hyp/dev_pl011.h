/* The guest's UART: an Arm PL011 (DDI 0183), which is what `console=ttyAMA0` drives. */
#ifndef HYP_DEV_PL011_H
#define HYP_DEV_PL011_H

#include "hyp/types.h"

struct vm;
struct console_device;
struct mmio_ops;

#define PL011_SIZE 0x1000ull

extern const struct mmio_ops pl011_ops; /* device = struct pl011 */

/*
 * A UART of `vm`, whose interrupt is line `irq` (told to arch_vm_set_irq). Bytes the guest sends go
 * to console_guest_byte; pl011_console() is what puts keys into its receive FIFO. NULL when out
 * of memory.
 */
struct pl011 *pl011_create(struct vm *vm, u32 irq);
void pl011_destroy(struct pl011 *uart); /* NULL is fine */
void pl011_reset(struct pl011 *uart);
struct console_device *pl011_console(struct pl011 *uart);

#endif
