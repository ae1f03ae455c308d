/*
 * arch_publish_memory: bytes that Lamina wrote through its caches, for a guest that may read them
 * with its own off, or execute them.
 *
 * Data: a guest with its MMU off reads past the caches, so lines are cleaned to the point of
 * coherency, and a guest never sees what another one left in memory. Not owed where stage 2 can
 * force cacheability (FEAT_S2FWB; the stage-2 format uses it wherever it is there). Code: an
 * instruction cache may hold what the frame had before; CTR_EL0.DIC says when it cannot. FWB
 * implies IDC, so no clean to the point of unification is owed without the first one. Manual: DDI
 * 0487, B2.7.4.2 and D7.5.
 */
#include "arch/cpu.h"

#include "machine.h"
#include "sysreg.h"

static u64 line_size;
static bool clean_data;
static bool invalidate_code;

void publish_init(void)
{
	u64 ctr = read_sysreg(ctr_el0);

	line_size = 4ull << field_get(ctr, CTR_DMINLINE);
	clean_data = field_get(read_sysreg(SYS_ID_AA64MMFR2_EL1), ID_AA64MMFR2_FWB) == 0;
	invalidate_code = (ctr & CTR_DIC) == 0;
}

static void clean(const void *start, u64 size)
{
	u64 end = (u64)start + size;

	for (u64 at = align_down((u64)start, line_size); at < end; at += line_size) {
		__asm__ volatile("dc cvac, %0" ::"r"(at) : "memory");
	}
}

void arch_publish_memory(const void *start, u64 size)
{
	if (clean_data) {
		clean(start, size);
	}
	dsb(ish);
	if (invalidate_code) {
		__asm__ volatile("ic ialluis" ::: "memory");
		dsb(ish);
	}
	isb();
}
