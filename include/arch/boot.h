/*
 * What the firmware said about the machine, checked and in neutral words.
 *
 * Each architecture reads its own tables (arm64: the device tree) before hyp_main() and refuses,
 * with one line that names the thing and the reason, what it cannot boot on. After that all of it
 * is constant.
 *
 * All RAM is mapped at its own address, readable and writable, never executable; Lamina's own image
 * lies in it with its text read-only and executable, its constants read-only, its data never
 * executable, and holes under its stacks.
 */
#ifndef ARCH_BOOT_H
#define ARCH_BOOT_H

#include "hyp/config.h"
#include "hyp/cpu.h"

#define BOOT_BANKS_MAX 8
#define BOOT_MODULES_MAX 64
#define BOOT_RESERVED_MAX 64
#define BOOT_VIRTIO_MAX 64

/* [start, end) */
struct boot_range {
	u64 start, end;
};

struct boot_info {
	/* RAM, ascending, disjoint, whole pages. */
	struct boot_range banks[BOOT_BANKS_MAX];
	u32 bank_count;

	/* Parts of RAM that are taken: Lamina's image, the machine's tables, modules. Whole pages;
	 * may overlap. */
	struct boot_range reserved[BOOT_RESERVED_MAX];
	u32 reserved_count;

	/* Files that came with Lamina, in ascending order of address. name is "" where none was
	 * given. */
	struct config_module modules[BOOT_MODULES_MAX];
	u32 module_count;

	/* Transports of virtio-mmio, with a device behind them or none. More than BOOT_VIRTIO_MAX
	 * are ignored. */
	struct boot_virtio {
		u64 registers;
		u32 irq; /* for arch_device_irq_enable() */
	} virtio[BOOT_VIRTIO_MAX];
	u32 virtio_count;

	/* What the person who started Lamina wrote; "" when nothing. */
	const char *command_line;

	/* CPUs that the machine has; [0] is the one that boots. */
	u64 cpu_hw_ids[CPU_MAX];
	u32 cpu_count;
	u32 cpus_ignored; /* more than CPU_MAX */
};

const struct boot_info *arch_boot_info(void);

/* Answered by hyp/main.c: where the architecture's own boot ends, on CPU 0 and on all others. */
noreturn_fn void hyp_main(void);
noreturn_fn void cpu_main(struct cpu *cpu);

#endif
