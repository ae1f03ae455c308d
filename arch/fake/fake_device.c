/* Registers of devices that a test plays. */
#include "fake.h"

#include <arch/device.h>

struct fake_device_hook fake_device_hook;

u32 arch_device_read(u64 address)
{
	return fake_device_hook.read(fake_device_hook.context, address);
}

void arch_device_write(u64 address, u32 value)
{
	fake_device_hook.write(fake_device_hook.context, address, value);
}

void arch_device_irq_enable(u32 irq)
{
	fake_device_hook.enabled_irq = irq;
}
