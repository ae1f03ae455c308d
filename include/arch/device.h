/* The machine's own devices: registers of 32 bits, and interrupts. */
#ifndef ARCH_DEVICE_H
#define ARCH_DEVICE_H

#include "hyp/types.h"

/* `address` lies in a device that boot_info tells of. What memory said before a write, the device
 * sees before the write; what it said before a read was answered, the CPU sees after the read. */
u32 arch_device_read(u64 address);
void arch_device_write(u64 address, u32 value);

/* From now on some CPU calls disks_interrupt() while the device holds its line. */
void arch_device_irq_enable(u32 irq);

#endif
