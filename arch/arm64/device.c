/* Device registers. The barriers order them with memory that the device reads and writes itself. */
#include "arch/device.h"

#include "sysreg.h"

u32 arch_device_read(u64 address)
{
	u32 value = *(volatile const u32 *)address;

	__asm__ volatile("dmb oshld" ::: "memory");
	return value;
}

void arch_device_write(u64 address, u32 value)
{
	__asm__ volatile("dmb oshst" ::: "memory");
	*(volatile u32 *)address = value;
}
