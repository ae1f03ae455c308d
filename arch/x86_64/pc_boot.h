/*
 * What an x86 guest's kernel reads on its way up: the boot area, five things in pages side by side.
 *
 *     PC_BOOT_AREA        PC_BOOT_INFO           PC_COMMAND_LINE    PC_PAGE_TABLES
 *     [GDT               ][boot_params, or       ][text and a zero][PML4][PDPT][4 directories]
 *                          multiboot's
 *                          information
 *
 * The registers that go with them, by the layout's kind:
 *
 *     PC_LINUX      64-bit mode; CR3 = page_tables, GDTR = gdt, CS = PC_BOOT_CODE64, DS = ES = SS =
 *                   PC_BOOT_DATA, RSI = boot_info, RIP = entry, interrupts off
 *     PC_MULTIBOOT  32-bit mode, paging off; CS = PC_BOOT_CODE32, DS = ES = FS = GS = SS =
 *                   PC_BOOT_DATA, EAX = MULTIBOOT_LOADER_MAGIC, EBX = boot_info, RIP = entry
 *
 * All writers are pure. Buffers lie at a multiple of 8; what of them is not used is zeroed. A FULL
 * leaves their content undefined.
 */
#ifndef PC_BOOT_H
#define PC_BOOT_H

#include "pc_image.h"

/* Selectors in the GDT, at the numbers that boot.rst asks for; all bases are 0. */
#define PC_BOOT_CODE32 0x08
#define PC_BOOT_CODE64 0x10
#define PC_BOOT_DATA 0x18
#define PC_BOOT_GDT_SIZE 0x20

/* What is told, besides the layout that was made of the same files. */
struct pc_boot {
	const struct pc_layout *layout;
	const struct config_module *kernel;
	const char *command_line;
	const char *ramdisk_name; /* not looked at when there is none */
};

#define PC_BOOT_AREA_SIZE (PC_BOOT_AREA_END - PC_BOOT_AREA)

/*
 * Writes the whole boot area, which is for PC_BOOT_AREA, into [buffer, buffer + size). FULL when it
 * does not fit, or the command line or the ramdisk's name is longer than its room or the kernel's.
 */
enum status pc_boot_write(const struct pc_boot *boot, void *buffer, size_t size);

/*
 * Its parts. Each is for its place in the layout, and FULL when it does not fit.
 *
 * The zero page: the setup header out of the file, memory map, command line, ramdisk, RSDP.
 */
enum status pc_boot_params_write(const struct pc_boot *boot, void *buffer, size_t size);
/* Memory sizes and map, command line, the ramdisk as module 0 with its name as string. */
enum status pc_multiboot_info_write(const struct pc_boot *boot, void *buffer, size_t size);
/* Null, 32-bit code, 64-bit code, data: PC_BOOT_GDT_SIZE bytes. */
enum status pc_boot_gdt_write(void *buffer, size_t size);
/*
 * The first 4 GiB at their own addresses, writable and executable, in pages of 2 MiB: not every
 * CPU has those of 1 GiB. The tables lie at `at`, on a page.
 */
enum status pc_boot_page_tables_write(gpa_t at, void *buffer, size_t size);

/*
 * What lies at the reset vector, for all kinds: it turns a jump there into a reset by ACPI's port.
 * Linux does not reset by the port of its own accord where there is hardware-reduced ACPI and no
 * EFI; it jumps into the BIOS instead. "reboot=acpi" among its arguments spares it the way.
 */
#define PC_RESET_CODE_SIZE 9
extern const u8 pc_reset_code[PC_RESET_CODE_SIZE];

#endif
