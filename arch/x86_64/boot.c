/*
 * From the first C function to hyp_main(), in two address spaces: the first one of start.S, in
 * which the lowest 4 GiB can be read as they are, and the final one.
 */
#include "arch/cpu.h"
#include "hyp/log.h"

#include "arch_enter.h"
#include "machine.h"
#include "s2_machine.h"
#include "vmx.h"
#include "xstate.h"

struct machine machine;

const struct boot_info *arch_boot_info(void)
{
	return &machine.info;
}

noreturn_fn void boot_main(u32 magic, const void *information);

void boot_main(u32 magic, const void *information)
{
	u64 root;

	cpu_init(&cpus[0], 0, 0);
	tables_init_cpu(&cpus[0]);
	uart_init();
	lapic_init();
	cpus[0].hw_id = lapic_id();
	multiboot_read(magic, information);
	acpi_read();
	boot_check(&machine.info, (struct boot_range){0, MIB(1)});
	root = mmu_build();
	smp_prepare(root);
	write_cr(3, root);
	timer_init();
	exit_init();
	lapic_init_cpu();
	ioapic_init();
	vmx_init();
	s2_machine_init();
	xstate_init_cpu();
	vmx_init_cpu();
	cpus[0].online = true;
	vmx_log_features();
	hyp_main();
}
