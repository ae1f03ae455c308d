/*
 * An x86 guest's physical memory: a PC's, as far as software still relies on it.
 *
 *     0        0x1000     0xa000    0x9fc00     0xd0000     0xe0000       0xffff0     1 MiB
 *     |page 0  |boot area |free     |reserved   |page tables |ACPI tables |reset code |free ...
 *
 *     1 MiB                  3 GiB   0xd0000000   0xfec00000 0xfed20000 0xfee00000  4 GiB
 *     |kernel, ramdisk, free |nothing|virtio-mmio |I/O APIC  |mailbox   |local APIC |rest of RAM
 *
 * All of [0, 1 MiB) is RAM; what is called reserved is so in the memory map that a guest is told.
 * The boot area is plain RAM which a kernel reads on its way up, and then has back.
 */
#ifndef PC_MAP_H
#define PC_MAP_H

#include "hyp/addr.h"

/* RAM below the devices, and where what does not fit there goes on. */
#define PC_LOW_RAM_MAX GIB(3)
#define PC_HIGH_RAM_BASE GIB(4)

#define PC_CONVENTIONAL_END 0x9fc00ull /* where a PC's BIOS keeps its own from */
#define PC_EXTENDED_BASE 0x100000ull

/* The boot area (pc_boot.h): pages side by side, so that one image fills them. */
#define PC_BOOT_AREA 0x1000ull
#define PC_GDT 0x1000ull
#define PC_BOOT_INFO 0x2000ull /* boot_params, or multiboot's information */
#define PC_COMMAND_LINE 0x3000ull
#define PC_PAGE_TABLES 0x4000ull
#define PC_PAGE_TABLES_COUNT 6 /* a PML4, a PDPT, and four page directories of 2 MiB pages */
#define PC_BOOT_AREA_END 0xa000ull
static_assert(PC_PAGE_TABLES + PC_PAGE_TABLES_COUNT * PAGE_SIZE == PC_BOOT_AREA_END,
	      "the page tables end the boot area");

/* Where a BIOS has its tables, and old kernels look for them (ACPI 6.4, 5.2.5.1). */
#define PC_ACPI 0xe0000ull
#define PC_ACPI_END 0xf0000ull

/* For CPUs that start by ACPI's mailbox: the page itself is a device, and they begin in page tables
 * that lie in what is reserved, as a kernel has the boot area back by then. */
#define PC_MAILBOX 0xfed20000ull
#define PC_MAILBOX_PAGE_TABLES 0xd0000ull

/* Where a PC's processor begins, and where who wants to reset one jumps, in real mode. */
#define PC_RESET_VECTOR 0xffff0ull

#define PC_VIRTIO_BASE 0xd0000000ull
#define PC_VIRTIO_SLOTS 8
#define PC_VIRTIO_IRQ_FIRST 16 /* one a slot; level, active high */
#define PC_IOAPIC_BASE 0xfec00000ull
#define PC_LOCAL_APIC_BASE 0xfee00000ull
#define PC_COM1_PORT 0x3f8
#define PC_COM1_IRQ 4

/* The two parts of RAM: [0, low) and [PC_HIGH_RAM_BASE, PC_HIGH_RAM_BASE + high), in bytes. */
struct pc_ram {
	u64 low;
	u64 high; /* 0 unless low is PC_LOW_RAM_MAX */
};

/* Where `memory` bytes lie, a multiple of 2 MiB and not 0. */
struct pc_ram pc_ram_split(u64 memory);

/* A row of the memory map, as BIOSes (e820), boot_params and multiboot number them. */
enum pc_range_type { PC_RANGE_USABLE = 1, PC_RANGE_RESERVED = 2 };

struct pc_range {
	u64 start, size; /* guest-physical, bytes; never empty */
	enum pc_range_type type;
};

#define PC_RANGES_MAX 4

/* Fills `ranges` in the order of their addresses, without overlap; returns how many. */
u32 pc_ram_ranges(struct pc_ram ram, struct pc_range ranges[PC_RANGES_MAX]);

#endif
