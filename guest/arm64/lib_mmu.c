/*
 * An identity map, so that caches and atomics work: 48-bit addresses, 4 KiB granule, 1 GiB blocks.
 *
 *	top[0] -> low[0]       device memory, never executed (GIC, UART, virtio)
 *	          low[1..511]  normal memory, write-back, inner shareable (RAM, and holes above it)
 *	top[1..511]            nothing, until a guest says otherwise
 *
 * Manual: Arm ARM D8.3 (VMSAv8-64 descriptors).
 */
#include "lib.h"

#define DESC_BLOCK 1ul
#define DESC_TABLE 3ul
#define DESC_ATTR(n) ((u64)(n) << 2)
#define DESC_INNER_SHAREABLE (3ul << 8)
#define DESC_ACCESSED (1ul << 10)
#define DESC_EL0 (1ul << 6)
#define DESC_NOT_GLOBAL (1ul << 11)
#define DESC_XN (3ul << 53)
#define ATTR_DEVICE 0
#define ATTR_NORMAL 1
#define MAIR_VALUE 0xff00ul /* 0: Device-nGnRnE, 1: normal write-back */

#define SCTLR_M (1u << 0)
#define SCTLR_C (1u << 2)
#define SCTLR_I (1u << 12)
/* T0SZ 16; walks inner and outer write-back, inner shareable; no TTBR1. */
#define TCR_VALUE (16ul | 1ul << 8 | 1ul << 10 | 3ul << 12 | 1ul << 23)
#define TCR_IPS_SHIFT 32
#define IPS_48_BITS 5

static u64 top[512] __attribute__((aligned(4096)));
static u64 low[512] __attribute__((aligned(4096)));

static void tables_build(void)
{
	for (u64 i = 0; i < 512; i++) {
		low[i] = i << 30 | DESC_BLOCK | DESC_ACCESSED |
			 (i ? DESC_ATTR(ATTR_NORMAL) | DESC_INNER_SHAREABLE
			    : DESC_ATTR(ATTR_DEVICE) | DESC_XN);
	}
	top[0] = (u64)low | DESC_TABLE;
}

void mmu_flush(void)
{
	__asm__ volatile("dsb ishst\n\ttlbi vmalle1is\n\tdsb ish\n\tisb" ::: "memory");
}

void mmu_set_top(u32 index, u64 entry)
{
	((volatile u64 *)top)[index] = entry;
	mmu_flush();
}

void mmu_map_user(u32 index, u64 pa)
{
	((volatile u64 *)low)[index] = pa | DESC_BLOCK | DESC_ACCESSED | DESC_EL0 |
				       DESC_NOT_GLOBAL | DESC_ATTR(ATTR_NORMAL) |
				       DESC_INNER_SHAREABLE;
	mmu_flush();
}

void mmu_on(void)
{
	u64 ips = read_sysreg(id_aa64mmfr0_el1) & 0xf;

	if (!top[0]) {
		tables_build();
	}
	write_sysreg(mair_el1, MAIR_VALUE);
	write_sysreg(tcr_el1, TCR_VALUE | (ips < IPS_48_BITS ? ips : IPS_48_BITS) << TCR_IPS_SHIFT);
	write_sysreg(ttbr0_el1, top);
	__asm__ volatile("dsb sy\n\ttlbi vmalle1\n\tic iallu\n\tdsb sy\n\tisb" ::: "memory");
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | SCTLR_M | SCTLR_C | SCTLR_I);
}

void mmu_off(void)
{
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) & ~(u64)(SCTLR_M | SCTLR_C | SCTLR_I));
	__asm__ volatile("dsb sy\n\ttlbi vmalle1\n\tdsb sy\n\tisb" ::: "memory");
}
