#include "hyp/boot_info.h"

#include "hyp/own.h"

void boot_reserve(struct boot_info *info, u64 start, u64 end)
{
	if (info->reserved_count == BOOT_RESERVED_MAX) {
		boot_refuse("more than %d reserved ranges", BOOT_RESERVED_MAX);
	}
	info->reserved[info->reserved_count++] =
		(struct boot_range){align_down(start, PAGE_SIZE), align_up(end, PAGE_SIZE)};
}

void boot_add_bank(struct boot_info *info, struct boot_range bank)
{
	u32 at;

	bank.start = align_up(bank.start, PAGE_SIZE);
	bank.end = align_down(bank.end, PAGE_SIZE);
	if (bank.start >= bank.end) {
		return;
	}
	if (info->bank_count == BOOT_BANKS_MAX) {
		boot_refuse("more than %d banks of memory", BOOT_BANKS_MAX);
	}
	for (at = info->bank_count++; at > 0 && info->banks[at - 1].start > bank.start; at--) {
		info->banks[at] = info->banks[at - 1];
	}
	info->banks[at] = bank;
}

void boot_add_module(struct boot_info *info, struct config_module module)
{
	u64 start = (u64)(uintptr_t)module.bytes;
	u32 at;

	if (info->module_count == BOOT_MODULES_MAX) {
		boot_refuse("more than %d modules", BOOT_MODULES_MAX);
	}
	for (at = info->module_count++; at > 0; at--) {
		if (info->modules[at - 1].bytes < module.bytes) {
			break;
		}
		info->modules[at] = info->modules[at - 1];
	}
	info->modules[at] = module;
	boot_reserve(info, start, start + module.size);
}

static bool has_cpu(const struct boot_info *info, u64 hw_id)
{
	for (u32 i = 0; i < info->cpu_count; i++) {
		if (info->cpu_hw_ids[i] == hw_id) {
			return true;
		}
	}
	return false;
}

void boot_add_cpu(struct boot_info *info, u64 hw_id)
{
	if (has_cpu(info, hw_id)) {
		return;
	}
	if (info->cpu_count == CPU_MAX) {
		info->cpus_ignored++;
		return;
	}
	info->cpu_hw_ids[info->cpu_count++] = hw_id;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static bool overlaps(struct boot_range a, struct boot_range b)
{
	return a.start < b.end && b.start < a.end;
}

static bool in_memory(const struct boot_info *info, struct boot_range range)
{
	for (u32 i = 0; i < info->bank_count; i++) {
		if (info->banks[i].start <= range.start && range.end <= info->banks[i].end) {
			return true;
		}
	}
	return false;
}

static void check_banks(const struct boot_info *info)
{
	if (info->bank_count == 0) {
		boot_refuse("the firmware tells of no memory");
	}
	for (u32 i = 1; i < info->bank_count; i++) {
		if (overlaps(info->banks[i - 1], info->banks[i])) {
			boot_refuse("memory banks at 0x%llx and 0x%llx overlap",
				    (unsigned long long)info->banks[i - 1].start,
				    (unsigned long long)info->banks[i].start);
		}
	}
}

static void check_modules(const struct boot_info *info, struct boot_range image,
			  struct boot_range tables)
{
	struct boot_range before = tables;

	for (u32 i = 0; i < info->module_count; i++) {
		u64 start = (u64)(uintptr_t)info->modules[i].bytes;
		struct boot_range module = {start, start + info->modules[i].size};

		if (!in_memory(info, module)) {
			boot_refuse("module '%s' [0x%llx, 0x%llx) is not in memory",
				    info->modules[i].name, (unsigned long long)module.start,
				    (unsigned long long)module.end);
		}
		if (overlaps(module, image) || overlaps(module, tables) ||
		    overlaps(module, before)) {
			boot_refuse("module '%s' at 0x%llx overlaps what is there already",
				    info->modules[i].name, (unsigned long long)module.start);
		}
		before = module;
	}
}

void boot_check(struct boot_info *info, struct boot_range tables)
{
	struct boot_range image = {(u64)(uintptr_t)image_start, (u64)(uintptr_t)image_end};

	boot_reserve(info, image.start, image.end);
	check_banks(info);
	check_modules(info, image, tables);
}
