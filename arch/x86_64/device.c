/* Device registers: x86 keeps accesses to uncached memory in order with those before them. */
#include "arch/device.h"

u32 arch_device_read(u64 address)
{
	return *(volatile const u32 *)address;
}

void arch_device_write(u64 address, u32 value)
{
	__asm__ volatile("" ::: "memory");
	*(volatile u32 *)address = value;
}

/* No device of this machine's is driven, so nobody asks. */
void arch_device_irq_enable(unused u32 irq)
{
}
