/*
 * EL2's own address space: 4 KiB granule, 48 bits, four levels; SCTLR_EL2.WXN makes sure of W^X.
 * What is mapped is told by hyp/own.h. Manual: DDI 0487, D8.
 */
#include "hyp/log.h"

#include "layout.h"
#include "machine.h"
#include "sysreg.h"

#define VA_BITS 48

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

#define BLOCK_LEVEL_MAX 2

static struct mmu_registers early_registers, final_registers;

u64 arch_own_leaf(u64 address, unsigned level, enum own_kind kind)
{
	const u64 attributes[] = {
		[OWN_DATA] = LEAF_NORMAL | ENTRY_XN,
		[OWN_CONSTANT] = LEAF_NORMAL | ENTRY_XN | ENTRY_READ_ONLY,
		[OWN_TEXT] = LEAF_NORMAL | ENTRY_READ_ONLY,
		[OWN_DEVICE] = LEAF_DEVICE | ENTRY_XN,
		[OWN_EARLY] = LEAF_NORMAL,
	};

	return address | attributes[kind] | (level == 0 ? ENTRY_TABLE : 0);
}

u64 arch_own_table(const u64 *table)
{
	return (u64)table | ENTRY_TABLE | ENTRY_VALID;
}

u64 *arch_own_table_of(u64 entry, unused unsigned level)
{
	return entry & ENTRY_TABLE ? (u64 *)(entry & ENTRY_ADDRESS) : NULL;
}

unsigned arch_own_leaf_level_max(void)
{
	return BLOCK_LEVEL_MAX;
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
	u64 *root = own_map_new();

	own_map_range(root, (u64)image_start, (u64)image_end, OWN_EARLY);
	own_map_range(root, align_down(device_tree->start, PAGE_SIZE),
		      align_up(device_tree->end, PAGE_SIZE), OWN_CONSTANT);
	own_map_range(root, UART_DEFAULT_BASE, UART_DEFAULT_BASE + PAGE_SIZE, OWN_DEVICE);
	fill_registers(&early_registers, root, 0);
	return &early_registers;
}

/* Transports are smaller than a page: each page once. */
static void map_virtio(u64 *root)
{
	u64 last = 0;

	for (u32 i = 0; i < machine.info.virtio_count; i++) {
		u64 page = align_down(machine.info.virtio[i].registers, PAGE_SIZE);

		if (page != last) {
			own_map_range(root, page, page + PAGE_SIZE, OWN_DEVICE);
		}
		last = page;
	}
}

const struct mmu_registers *mmu_build(void)
{
	u64 *root = own_map_new();

	own_map_memory(root, &machine.info, (unsigned)min_u64(physical_bits(), VA_BITS));
	own_map_device(root, machine.gicd);
	for (u32 i = 0; i < machine.gicr_count; i++) {
		own_map_device(root, machine.gicr[i]);
	}
	own_map_device(root, machine.uart);
	map_virtio(root);
	fill_registers(&final_registers, root, SCTLR_WXN);
	return &final_registers;
}

const struct mmu_registers *mmu_registers(void)
{
	return &final_registers;
}
