/*
 * What a multiboot-1 kernel is told, in one page (Multiboot Specification 0.6.96, 3.3):
 *
 *     [information][module 0][memory map][the loader's name][the ramdisk's name]
 */
#include "pc_boot.h"

#include <string.h>

#include "pc_multiboot.h"

#define LOADER_NAME "Lamina"

struct info_page {
	struct multiboot_info info;
	struct multiboot_module module;
	struct multiboot_range ranges[PC_RANGES_MAX];
	char loader_name[sizeof(LOADER_NAME)];
	char ramdisk_name[]; /* to the end */
};
#define NAME_AT offsetof(struct info_page, ramdisk_name)

static u32 address_of(const struct pc_layout *layout, size_t offset)
{
	return (u32)(layout->boot_info.v + offset);
}

static void fill_memory(const struct pc_layout *layout, struct info_page *page)
{
	struct multiboot_info *info = &page->info;
	struct pc_range ranges[PC_RANGES_MAX];
	u32 count = pc_ram_ranges(layout->ram, ranges);

	for (u32 i = 0; i < count; i++) {
		page->ranges[i] = (struct multiboot_range){
			.size = sizeof(page->ranges[i]) - sizeof(page->ranges[i].size),
			.addr = ranges[i].start,
			.len = ranges[i].size,
			.type = ranges[i].type,
		};
	}
	info->flags |= MULTIBOOT_INFO_MEMORY | MULTIBOOT_INFO_RANGES;
	info->mem_lower = (u32)(PC_CONVENTIONAL_END / KIB(1));
	info->mem_upper = (u32)((layout->ram.low - PC_EXTENDED_BASE) / KIB(1));
	info->mmap_addr = address_of(layout, offsetof(struct info_page, ranges));
	info->mmap_length = count * (u32)sizeof(page->ranges[0]);
}

static void fill_module(const struct pc_layout *layout, struct info_page *page)
{
	page->info.flags |= MULTIBOOT_INFO_MODULES;
	page->info.mods_addr = address_of(layout, offsetof(struct info_page, module));
	if (layout->ramdisk_size == 0) {
		return;
	}
	page->info.mods_count = 1;
	page->module.mod_start = (u32)layout->ramdisk.v;
	page->module.mod_end = (u32)(layout->ramdisk.v + layout->ramdisk_size);
	page->module.string = address_of(layout, NAME_AT);
}

static void fill_texts(const struct pc_layout *layout, struct info_page *page)
{
	struct multiboot_info *info = &page->info;

	info->flags |= MULTIBOOT_INFO_COMMAND_LINE | MULTIBOOT_INFO_LOADER;
	info->cmdline = (u32)layout->command_line.v;
	info->boot_loader_name = address_of(layout, offsetof(struct info_page, loader_name));
	memcpy(page->loader_name, LOADER_NAME, sizeof(LOADER_NAME));
}

enum status pc_multiboot_info_write(const struct pc_boot *boot, void *buffer, size_t size)
{
	u64 name = boot->layout->ramdisk_size != 0 ? strlen(boot->ramdisk_name) : 0;
	struct info_page *page = buffer;

	if (size < NAME_AT || name >= size - NAME_AT) {
		return FULL;
	}
	memset(buffer, 0, size);
	fill_memory(boot->layout, page);
	fill_module(boot->layout, page);
	fill_texts(boot->layout, page);
	if (name != 0) {
		memcpy(page->ramdisk_name, boot->ramdisk_name, name);
	}
	return OK;
}
