/*
 * From the first C function to hyp_main(): own stack and vectors, a first small address space, the
 * machine's device tree, the final address space, interrupts.
 *
 * The first address space exists because nothing but registers and the image is dependable before:
 * with the MMU off all memory is Device memory, where an unaligned access faults, and libfdt makes
 * some.
 */
#include "arch/cpu.h"
#include "hyp/log.h"
#include "hyp/summary.h"

#include <libfdt.h>

#include "boot_tree.h"
#include "machine.h"
#include "s2_machine.h"
#include "sysreg.h"

#define DEVICE_TREE_ALIGN 8 /* Linux's boot protocol */
#define DEVICE_TREE_SIZE_MAX MIB(2)

struct machine machine;

/* Canary of code that was compiled with stack protection elsewhere (libfdt). */
u64 __stack_chk_guard;

noreturn_fn void __stack_chk_fail(void);

void __stack_chk_fail(void)
{
	panic("a function's stack frame was overrun (canary is gone)");
}

const struct boot_info *arch_boot_info(void)
{
	return &machine.info;
}

/* The tree's extent, from the two words of its header that can be read with the MMU off. */
static struct boot_range device_tree_range(u64 address)
{
	const fdt32_t *header = (const fdt32_t *)address;
	u32 size;

	if (address == 0 || !is_aligned(address, DEVICE_TREE_ALIGN)) {
		boot_refuse("x0 = 0x%lx at entry is no device tree", address);
	}
	if (fdt32_to_cpu(header[0]) != FDT_MAGIC) {
		boot_refuse("no device tree at 0x%lx: magic is 0x%08x, not 0x%08x", address,
			    fdt32_to_cpu(header[0]), FDT_MAGIC);
	}
	size = fdt32_to_cpu(header[1]);
	if (size < sizeof(struct fdt_header) || size > DEVICE_TREE_SIZE_MAX) {
		boot_refuse("the device tree at 0x%lx says it has %u bytes", address, size);
	}
	return (struct boot_range){address, address + size};
}

/*
 * Called with the MMU off and all data accesses uncached. Returns what mmu_switch() is to load.
 */
const struct mmu_registers *boot_early(u64 device_tree);

const struct mmu_registers *boot_early(u64 device_tree)
{
	cpu_init(&cpus[0], 0, read_sysreg(mpidr_el1) & MPIDR_AFFINITY);
	write_sysreg(tpidr_el2, (u64)&cpus[0]);
	cpus[0].arch.emergency_top = own_emergency_top(0);
	el2_init();
	machine.device_tree = device_tree_range(device_tree);
	return mmu_build_early(&machine.device_tree);
}

/* CPU 0, in the first address space. */
noreturn_fn void boot_main(void);

void boot_main(void)
{
	__stack_chk_guard = arch_now() * 0x9e3779b97f4a7c15ull;
	boot_tree_read((const void *)machine.device_tree.start);
	mmu_switch(mmu_build());
	uart_init();
	timer_init();
	timer_init_cpu();
	publish_init();
	s2_machine_init();
	gic_init_distributor();
	gic_init_cpu();
	cpus[0].online = true;
	hyp_main();
}
