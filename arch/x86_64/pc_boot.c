/*
 * The boot area, put together: what both kinds of kernels get. What only one kind reads is in
 * pc_boot_params.c and pc_multiboot_info.c.
 */
#include "pc_boot.h"

#include <string.h>

#include "vacpi.h"

/* Segments over all addresses, marked as used: VMX wants that of those it enters a guest with. */
#define SEGMENT_CODE32 0x00cf9b000000ffffull
#define SEGMENT_CODE64 0x00af9b000000ffffull
#define SEGMENT_DATA 0x00cf93000000ffffull

/* Entries of page tables (SDM volume 3A, 4.5.4). */
#define ENTRY_PRESENT BIT(0)
#define ENTRY_WRITE BIT(1)
#define ENTRY_LARGE BIT(7)
#define ENTRIES (PAGE_SIZE / sizeof(u64))
#define DIRECTORIES (PC_PAGE_TABLES_COUNT - 2)
static_assert(DIRECTORIES * ENTRIES * BLOCK_SIZE == GIB(4), "directories for the first 4 GiB");

/* mov dx, port; mov al, value; out dx, al; halt: hlt; jmp halt: of 16 bits (SDM volume 2). */
const u8 pc_reset_code[] = {
	0xba,
	VACPI_RESET_PORT & 0xff,
	VACPI_RESET_PORT >> 8,
	0xb0,
	VACPI_RESET_VALUE,
	0xee,
	0xf4,
	0xeb,
	0xfd,
};
static_assert(PC_RESET_VECTOR + PC_RESET_CODE_SIZE <= PC_EXTENDED_BASE, "it ends below 1 MiB");

static void put_entry(u8 *table, u64 index, u64 entry)
{
	memcpy(table + index * sizeof(entry), &entry, sizeof(entry));
}

enum status pc_boot_gdt_write(void *buffer, size_t size)
{
	static const u64 segments[] = {
		[PC_BOOT_CODE32 / 8] = SEGMENT_CODE32,
		[PC_BOOT_CODE64 / 8] = SEGMENT_CODE64,
		[PC_BOOT_DATA / 8] = SEGMENT_DATA,
	};
	static_assert(sizeof(segments) == PC_BOOT_GDT_SIZE, "a limit for GDTR");

	if (size < sizeof(segments)) {
		return FULL;
	}
	memset(buffer, 0, size);
	memcpy(buffer, segments, sizeof(segments));
	return OK;
}

enum status pc_boot_page_tables_write(gpa_t at, void *buffer, size_t size)
{
	u8 *root = buffer, *pointers = root + PAGE_SIZE, *directories = pointers + PAGE_SIZE;
	u64 flags = ENTRY_PRESENT | ENTRY_WRITE;

	if (size < PC_PAGE_TABLES_COUNT * PAGE_SIZE) {
		return FULL;
	}
	memset(buffer, 0, size);
	put_entry(root, 0, (at.v + PAGE_SIZE) | flags);
	for (u64 i = 0; i < DIRECTORIES; i++) {
		put_entry(pointers, i, (at.v + (2 + i) * PAGE_SIZE) | flags);
	}
	for (u64 i = 0; i < DIRECTORIES * ENTRIES; i++) {
		put_entry(directories, i, i * BLOCK_SIZE | flags | ENTRY_LARGE);
	}
	return OK;
}

/* Of the one kind or the other. */
static enum status write_info(const struct pc_boot *boot, void *buffer, size_t size)
{
	if (boot->layout->kind == PC_LINUX) {
		return pc_boot_params_write(boot, buffer, size);
	}
	return pc_multiboot_info_write(boot, buffer, size);
}

enum status pc_boot_write(const struct pc_boot *boot, void *buffer, size_t size)
{
	u64 length = strlen(boot->command_line);
	u8 *area = buffer;

	if (size < PC_BOOT_AREA_SIZE || length >= PAGE_SIZE ||
	    length > boot->layout->command_line_max) {
		return FULL;
	}
	memset(area, 0, size);
	memcpy(area + (PC_COMMAND_LINE - PC_BOOT_AREA), boot->command_line, length);
	pc_boot_gdt_write(area + (PC_GDT - PC_BOOT_AREA), PAGE_SIZE);
	pc_boot_page_tables_write(gpa(PC_PAGE_TABLES), area + (PC_PAGE_TABLES - PC_BOOT_AREA),
				  PC_PAGE_TABLES_COUNT * PAGE_SIZE);
	return write_info(boot, area + (PC_BOOT_INFO - PC_BOOT_AREA), PAGE_SIZE);
}
