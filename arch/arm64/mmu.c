/*
 * EL2's own address space: VA = PA, 4 KiB granule, 48 bits, four levels.
 *
 * RAM is data: writable, never executable. The image is in it with its own permissions, W^X
 * throughout (SCTLR_EL2.WXN makes sure). Devices are mapped where the device tree has them, and
 * nothing else is: neither page 0 nor the guard pages under the stacks.
 *
 * The tables are built once, out of sight, and never change afterwards. Pages for them come from a
 * fixed pool; a machine that needs more is refused. Manual: DDI 0487, D8.
 */
#include "hyp/log.h"

#include "layout.h"
#include "machine.h"
#include "sysreg.h"

#define ENTRIES 512
#define INDEX_BITS 9
#define ROOT_LEVEL 3 /* counted from the leaf, as everywhere in Lamina */
#define BLOCK_LEVEL_MAX 2
#define VA_BITS 48
#define POOL_TABLES 32

#define ENTRY_VALID BIT(0)
#define ENTRY_TABLE BIT(1) /* at level 0: a page; above: a table, not a block */
#define ENTRY_ATTR BITS(4, 2)
#define ENTRY_AP_RES1 BIT(6) /* EL2 has no EL0 below it */
#define ENTRY_READ_ONLY BIT(7)
#define ENTRY_SH BITS(9, 8)
#define ENTRY_ACCESSED BIT(10)
#define ENTRY_XN BIT(54)
#define ENTRY_ADDRESS BITS(47, 12)

enum { SH_OUTER = 2, SH_INNER = 3 };
enum { ATTR_DEVICE, ATTR_NORMAL };
#define MAIR_DEVICE_nGnRE 0x04ull
#define MAIR_NORMAL_WB 0xffull

#define LEAF (ENTRY_VALID | ENTRY_ACCESSED | ENTRY_AP_RES1)
#define LEAF_NORMAL (LEAF | field_set(ATTR_NORMAL, ENTRY_ATTR) | field_set(SH_INNER, ENTRY_SH))
#define LEAF_DEVICE (LEAF | field_set(ATTR_DEVICE, ENTRY_ATTR) | field_set(SH_OUTER, ENTRY_SH))

#define MAP_DATA (LEAF_NORMAL | ENTRY_XN)
#define MAP_CONSTANT (LEAF_NORMAL | ENTRY_XN | ENTRY_READ_ONLY)
#define MAP_TEXT (LEAF_NORMAL | ENTRY_READ_ONLY)
#define MAP_DEVICE (LEAF_DEVICE | ENTRY_XN)
#define MAP_EARLY_IMAGE LEAF_NORMAL

static u64 pool[POOL_TABLES][ENTRIES] __attribute__((aligned(4096)));
static u32 pool_used;
static struct mmu_registers early_registers, final_registers;

static u64 *table_new(void)
{
	if (pool_used == POOL_TABLES) {
		boot_refuse("memory and devices need more than %d table pages", POOL_TABLES);
	}
	return pool[pool_used++]; /* in bss, so zero */
}

static u64 level_size(unsigned level)
{
	return PAGE_SIZE << (level * INDEX_BITS);
}

static u64 *entry_at(u64 *table, u64 address, unsigned level)
{
	return &table[(address / level_size(level)) % ENTRIES];
}

static void map_one(u64 *root, u64 address, unsigned level, u64 attributes)
{
	u64 *table = root;
	u64 *entry;

	for (unsigned at = ROOT_LEVEL; at > level; at--) {
		entry = entry_at(table, address, at);
		if (*entry == 0) {
			*entry = (u64)table_new() | ENTRY_TABLE | ENTRY_VALID;
		}
		if ((*entry & ENTRY_TABLE) == 0) {
			boot_refuse("two things are at address 0x%lx", address);
		}
		table = (u64 *)(*entry & ENTRY_ADDRESS);
	}
	entry = entry_at(table, address, level);
	if (*entry != 0) {
		boot_refuse("two things are at address 0x%lx", address);
	}
	*entry = address | attributes | (level == 0 ? ENTRY_TABLE : 0);
}

/* Maps [start, end), whole pages, with the largest leaves that fit. Nothing may be there. */
static void map_range(u64 *root, u64 start, u64 end, u64 attributes)
{
	while (start < end) {
		unsigned level = BLOCK_LEVEL_MAX;

		while (!is_aligned(start, level_size(level)) || end - start < level_size(level)) {
			level--;
		}
		map_one(root, start, level, attributes);
		start += level_size(level);
	}
}

static unsigned physical_bits(void)
{
	return parange_bits(field_get(read_sysreg(id_aa64mmfr0_el1), ID_AA64MMFR0_PARANGE));
}

static u64 make_tcr(void)
{
	enum { PS_48 = 5, WRITE_BACK = 1, GRANULE_4K = 0 };
	u64 range = field_get(read_sysreg(id_aa64mmfr0_el1), ID_AA64MMFR0_PARANGE);
	u64 tcr = TCR_RES1;

	tcr |= field_set(64 - VA_BITS, TCR_T0SZ);
	tcr |= field_set(WRITE_BACK, TCR_IRGN0);
	tcr |= field_set(WRITE_BACK, TCR_ORGN0);
	tcr |= field_set(SH_INNER, TCR_SH0);
	tcr |= field_set(GRANULE_4K, TCR_TG0);
	tcr |= field_set(min_u64(range, PS_48), TCR_PS);
	return tcr;
}

static void fill_registers(struct mmu_registers *registers, const u64 *root, u64 sctlr_extra)
{
	u64 sctlr = SCTLR_EL2_OFF;

	sctlr |= SCTLR_M;
	sctlr |= SCTLR_C;
	sctlr |= SCTLR_I;
	sctlr |= SCTLR_SA;
	sctlr |= sctlr_extra;
	registers->sctlr = sctlr;
	registers->mair = MAIR_DEVICE_nGnRE << (8 * ATTR_DEVICE);
	registers->mair |= MAIR_NORMAL_WB << (8 * ATTR_NORMAL);
	registers->tcr = make_tcr();
	registers->ttbr0 = (u64)root;
}

const struct mmu_registers *mmu_build_early(const struct boot_range *device_tree)
{
	u64 *root = table_new();

	map_range(root, (u64)image_start, (u64)image_end, MAP_EARLY_IMAGE);
	map_range(root, align_down(device_tree->start, PAGE_SIZE),
		  align_up(device_tree->end, PAGE_SIZE), MAP_CONSTANT);
	map_range(root, UART_DEFAULT_BASE, UART_DEFAULT_BASE + PAGE_SIZE, MAP_DEVICE);
	fill_registers(&early_registers, root, 0);
	return &early_registers;
}

static void map_stacks(u64 *root)
{
	for (u32 i = 0; i < STACK_SLOTS; i++) {
		u64 emergency = (u64)stacks_start + i * STACK_SLOT_SIZE + STACK_GUARD_SIZE;
		u64 stack = emergency + STACK_EMERGENCY_SIZE + STACK_GUARD_SIZE;

		map_range(root, emergency, emergency + STACK_EMERGENCY_SIZE, MAP_DATA);
		map_range(root, stack, stack + STACK_SIZE, MAP_DATA);
	}
}

static void map_image(u64 *root)
{
	map_range(root, (u64)image_start, (u64)text_end, MAP_TEXT);
	map_range(root, (u64)text_end, (u64)rodata_end, MAP_CONSTANT);
	map_range(root, (u64)data_start, (u64)data_end, MAP_DATA);
	map_stacks(root);
}

static void map_memory(u64 *root)
{
	const struct boot_range image = {(u64)image_start, (u64)image_end};
	bool image_seen = false;

	for (u32 i = 0; i < machine.info.bank_count; i++) {
		struct boot_range bank = machine.info.banks[i];

		if (bank.end > BIT(physical_bits()) || bank.end > BIT(VA_BITS)) {
			boot_refuse("memory bank [0x%lx, 0x%lx) is beyond %u address bits",
				    bank.start, bank.end, physical_bits());
		}
		if (bank.start <= image.start && image.end <= bank.end) {
			map_range(root, bank.start, image.start, MAP_DATA);
			bank.start = image.end;
			image_seen = true;
		}
		map_range(root, bank.start, bank.end, MAP_DATA);
	}
	if (!image_seen) {
		boot_refuse("Lamina's image [0x%lx, 0x%lx) is in no memory bank", image.start,
			    image.end);
	}
}

static void map_device(u64 *root, struct boot_range device)
{
	map_range(root, align_down(device.start, PAGE_SIZE), align_up(device.end, PAGE_SIZE),
		  MAP_DEVICE);
}

const struct mmu_registers *mmu_build(void)
{
	u64 *root = table_new();

	map_memory(root);
	map_image(root);
	map_device(root, machine.gicd);
	for (u32 i = 0; i < machine.gicr_count; i++) {
		map_device(root, machine.gicr[i]);
	}
	map_device(root, machine.uart);
	fill_registers(&final_registers, root, SCTLR_WXN);
	return &final_registers;
}

const struct mmu_registers *mmu_registers(void)
{
	return &final_registers;
}
