/*
 * Lamina's own address space: four levels of 4 KiB tables, no-execute, write protection for
 * everybody (CR0.WP). What is mapped is told by hyp/own.h. Manual: SDM volume 3A, 4.5.
 */
#include "layout.h"
#include "machine.h"

#define ENTRY_PRESENT BIT(0)
#define ENTRY_WRITE BIT(1)
#define ENTRY_UNCACHED (BIT(3) | BIT(4)) /* PWT and PCD: UC, as the PAT is after reset */
#define ENTRY_ACCESSED BIT(5)
#define ENTRY_DIRTY BIT(6)
#define ENTRY_LARGE BIT(7)
#define ENTRY_ADDRESS BITS(51, 12)
#define ENTRY_NO_EXECUTE BIT(63)

#define LEAF (ENTRY_PRESENT | ENTRY_ACCESSED)
#define LEAF_WRITABLE (LEAF | ENTRY_WRITE | ENTRY_DIRTY)

#define CPUID_EXTENDED 0x80000001
#define CPUID_EXTENDED_GIB_PAGES BIT(26) /* edx */
#define CPUID_ADDRESS_SIZES 0x80000008

u64 arch_own_leaf(u64 address, unsigned level, enum own_kind kind)
{
	static const u64 attributes[] = {
		[OWN_DATA] = LEAF_WRITABLE | ENTRY_NO_EXECUTE,
		[OWN_CONSTANT] = LEAF | ENTRY_NO_EXECUTE,
		[OWN_TEXT] = LEAF,
		[OWN_DEVICE] = LEAF_WRITABLE | ENTRY_UNCACHED | ENTRY_NO_EXECUTE,
		[OWN_EARLY] = LEAF_WRITABLE,
	};

	return address | attributes[kind] | (level > 0 ? ENTRY_LARGE : 0);
}

u64 arch_own_table(const u64 *table)
{
	return (u64)table | ENTRY_PRESENT | ENTRY_WRITE;
}

u64 *arch_own_table_of(u64 entry, unused unsigned level)
{
	return entry & ENTRY_LARGE ? NULL : (u64 *)(entry & ENTRY_ADDRESS);
}

unsigned arch_own_leaf_level_max(void)
{
	return cpuid(CPUID_EXTENDED, 0).d & CPUID_EXTENDED_GIB_PAGES ? 2 : 1;
}

u64 mmu_build(void)
{
	u64 *root = own_map_new();

	own_map_memory(root, &machine.info, cpuid(CPUID_ADDRESS_SIZES, 0).a & 0xff);
	own_map_range(root, SMP_ENTRY_PAGE, SMP_ENTRY_PAGE + PAGE_SIZE, OWN_TEXT);
	acpi_local_devices(root);
	return (u64)root;
}
