/* Lamina's own tables: four levels, as every architecture here has them, out of a fixed pool. */
#include "hyp/own.h"

#define POOL_TABLES 32

static u64 pool[POOL_TABLES][OWN_TABLE_ENTRIES] __attribute__((aligned(4096)));
static u32 pool_used;

u64 *own_map_new(void)
{
	if (pool_used == POOL_TABLES) {
		boot_refuse("memory and devices need more than %d table pages", POOL_TABLES);
	}
	return pool[pool_used++]; /* in bss, so zero */
}

static u64 level_size(unsigned level)
{
	return PAGE_SIZE << (level * OWN_LEVEL_BITS);
}

static u64 *entry_at(u64 *table, u64 address, unsigned level)
{
	return &table[(address / level_size(level)) % OWN_TABLE_ENTRIES];
}

static void map_one(u64 *root, u64 address, unsigned level, enum own_kind kind)
{
	u64 *table = root, *entry;

	for (unsigned at = OWN_ROOT_LEVEL; at > level; at--) {
		entry = entry_at(table, address, at);
		if (*entry == 0) {
			*entry = arch_own_table(own_map_new());
		}
		table = arch_own_table_of(*entry, at);
		if (table == NULL) {
			boot_refuse("two things are at address 0x%llx",
				    (unsigned long long)address);
		}
	}
	entry = entry_at(table, address, level);
	if (*entry != 0) {
		boot_refuse("two things are at address 0x%llx", (unsigned long long)address);
	}
	*entry = arch_own_leaf(address, level, kind);
}

void own_map_range(u64 *root, u64 start, u64 end, enum own_kind kind)
{
	while (start < end) {
		unsigned level = arch_own_leaf_level_max();

		while (!is_aligned(start, level_size(level)) || end - start < level_size(level)) {
			level--;
		}
		map_one(root, start, level, kind);
		start += level_size(level);
	}
}

void own_map_device(u64 *root, struct boot_range device)
{
	own_map_range(root, align_down(device.start, PAGE_SIZE), align_up(device.end, PAGE_SIZE),
		      OWN_DEVICE);
}

static void map_stacks(u64 *root)
{
	for (u32 cpu = 0; cpu < STACK_SLOTS; cpu++) {
		u64 emergency = own_emergency_top(cpu), stack = own_stack_top(cpu);

		own_map_range(root, emergency - STACK_EMERGENCY_SIZE, emergency, OWN_DATA);
		own_map_range(root, stack - STACK_SIZE, stack, OWN_DATA);
	}
}

static void map_image(u64 *root)
{
	own_map_range(root, (u64)(uintptr_t)image_start, (u64)(uintptr_t)text_end, OWN_TEXT);
	own_map_range(root, (u64)(uintptr_t)text_end, (u64)(uintptr_t)rodata_end, OWN_CONSTANT);
	own_map_range(root, (u64)(uintptr_t)data_start, (u64)(uintptr_t)data_end, OWN_DATA);
	map_stacks(root);
}

void own_map_memory(u64 *root, const struct boot_info *info, unsigned address_bits)
{
	const struct boot_range image = {(u64)(uintptr_t)image_start, (u64)(uintptr_t)image_end};
	bool image_seen = false;

	for (u32 i = 0; i < info->bank_count; i++) {
		struct boot_range bank = info->banks[i];

		if (bank.end > BIT(address_bits)) {
			boot_refuse("memory bank [0x%llx, 0x%llx) is beyond %u address bits",
				    (unsigned long long)bank.start, (unsigned long long)bank.end,
				    address_bits);
		}
		if (bank.start <= image.start && image.end <= bank.end) {
			own_map_range(root, bank.start, image.start, OWN_DATA);
			bank.start = image.end;
			image_seen = true;
		}
		own_map_range(root, bank.start, bank.end, OWN_DATA);
	}
	if (!image_seen) {
		boot_refuse("Lamina's image [0x%llx, 0x%llx) is in no memory bank",
			    (unsigned long long)image.start, (unsigned long long)image.end);
	}
	map_image(root);
}
