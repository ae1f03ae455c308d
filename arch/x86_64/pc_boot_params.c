/*
 * The zero page of a Linux guest (boot.rst; zero-page.rst): all zero but the setup header, which is
 * the file's own, and the little that a loader has to say.
 */
#include "pc_boot.h"

#include <asm/bootparam.h>
#include <string.h>

static_assert(sizeof(struct boot_params) == PAGE_SIZE, "the zero page is one");

#define HEADER_AT offsetof(struct boot_params, hdr)
/* The header ends where the jump over it goes to, and never reaches what lies behind it here. */
#define JUMP_END_AT 0x202
#define JUMP_LENGTH_AT 0x201
#define HEADER_END_MAX offsetof(struct boot_params, edd_mbr_sig_buffer)

/* What loaders without a number of their own say. */
#define LOADER_UNDEFINED 0xff
#define VIDEO_NORMAL 0xffff

static_assert(PC_RANGES_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "the whole map has room");

/* The layout's maker has looked: the file is longer than any header can be. */
static void copy_header(const struct config_module *kernel, struct boot_params *params)
{
	u64 end = min_u64(JUMP_END_AT + kernel->bytes[JUMP_LENGTH_AT], HEADER_END_MAX);

	memcpy(&params->hdr, kernel->bytes + HEADER_AT, end - HEADER_AT);
}

/* No setup_data follows, and KASLR_FLAG is between the kernel and its own unpacker. */
static void fill_header(const struct pc_layout *layout, struct setup_header *header)
{
	header->vid_mode = VIDEO_NORMAL;
	header->type_of_loader = LOADER_UNDEFINED;
	header->loadflags = (header->loadflags | LOADED_HIGH) & ~(KASLR_FLAG | CAN_USE_HEAP);
	header->code32_start = (u32)layout->kernel.v;
	header->cmd_line_ptr = (u32)layout->command_line.v;
	header->setup_data = 0;
	if (layout->ramdisk_size != 0) {
		header->ramdisk_image = (u32)layout->ramdisk.v;
		header->ramdisk_size = (u32)layout->ramdisk_size;
	}
}

static void fill_memory_map(const struct pc_layout *layout, struct boot_params *params)
{
	struct pc_range ranges[PC_RANGES_MAX];

	params->e820_entries = (u8)pc_ram_ranges(layout->ram, ranges);
	for (u32 i = 0; i < params->e820_entries; i++) {
		params->e820_table[i] = (struct boot_e820_entry){
			.addr = ranges[i].start, .size = ranges[i].size, .type = ranges[i].type};
	}
}

enum status pc_boot_params_write(const struct pc_boot *boot, void *buffer, size_t size)
{
	struct boot_params *params = buffer;

	if (size < sizeof(*params)) {
		return FULL;
	}
	memset(buffer, 0, size);
	copy_header(boot->kernel, params);
	fill_header(boot->layout, &params->hdr);
	fill_memory_map(boot->layout, params);
	params->acpi_rsdp_addr = boot->layout->acpi.v;
	return OK;
}
