/*
 * The guest's UART on a PC: an NS16550A (National Semiconductor, PC16550D), which is what
 * `console=ttyS0` and `earlyprintk=serial` drive.
 */
#ifndef HYP_DEV_16550_H
#define HYP_DEV_16550_H

#include "hyp/types.h"

struct console_device;
struct mmio_ops;
struct uart16550;
struct vm;

#define UART16550_SIZE 8

/*
 * device = struct uart16550, offset = a register's number, for ports and for memory alike.
 * Registers are bytes: a wider access is one of each byte, from the lowest. Behind the last
 * register nothing is: ones, and writes have no effect. Any CPU.
 */
extern const struct mmio_ops uart16550_ops;

/*
 * A UART of `vm`, whose interrupt is line `irq` (told to arch_vm_set_irq; high while OUT2 is on and
 * an interrupt is pending). Bytes the guest sends go to console_guest_byte; uart16550_console() is
 * what puts keys into its receive FIFO. NULL when out of memory.
 */
struct uart16550 *uart16550_create(struct vm *vm, u32 irq);
void uart16550_destroy(struct uart16550 *uart); /* NULL is fine */
void uart16550_reset(struct uart16550 *uart);
struct console_device *uart16550_console(struct uart16550 *uart);

#endif
