/*
 * Invalidation of stage-2 translations, and which format this machine has.
 *
 * TLBI ...IS reaches every CPU. An invalidation by IPA acts on the VMID in VTTBR_EL2, so it is set
 * for the time; it forgets stage-2 translations only, and what stage 1 made of them goes with
 * VMALLE1IS, once a batch (DDI 0487, D8.13.5).
 */
#include <arch/s2.h>

#include "hyp/s2_ident.h"

#include "s2_machine.h"
#include "s2_armv8.h"
#include "s2_tlbi.h"
#include "s2_vtcr.h"
#include "sysreg.h"

#define VTTBR_VMID BITS(63, 48)
#define IPA_BITS_WANTED 40

static struct {
	const struct s2_format *format;
	struct s2_armv8_features features;
	bool range_tlbi;
	bool ttl;
	bool size_change; /* FEAT_BBM level 2 */
	unsigned ipa_bits;
} machine;

void s2_machine_init(void)
{
	u64 mmfr0 = read_sysreg(id_aa64mmfr0_el1), mmfr1 = read_sysreg(id_aa64mmfr1_el1);
	u64 mmfr2 = read_sysreg(SYS_ID_AA64MMFR2_EL1), isar0 = read_sysreg(id_aa64isar0_el1);
	unsigned range = field_get(mmfr0, ID_AA64MMFR0_PARANGE);

	machine.format = field_get(mmfr2, ID_AA64MMFR2_FWB)   ? &s2_armv8_4k_fwb
			 : field_get(mmfr1, ID_AA64MMFR1_XNX) ? &s2_armv8_4k_xnx
							      : &s2_armv8_4k;
	machine.features.pa_range = range;
	machine.features.hardware_access = field_get(mmfr1, ID_AA64MMFR1_HAFDBS) >= 1;
	machine.features.hardware_dirty = field_get(mmfr1, ID_AA64MMFR1_HAFDBS) >= 2;
	machine.features.vmid16 = field_get(mmfr1, ID_AA64MMFR1_VMIDBITS) == 2;
	machine.range_tlbi = field_get(isar0, ID_AA64ISAR0_TLB) >= 2;
	machine.ttl = field_get(mmfr2, ID_AA64MMFR2_TTL) >= 1;
	machine.size_change = field_get(mmfr2, ID_AA64MMFR2_BBM) == 2;
	machine.ipa_bits = min_u64(IPA_BITS_WANTED, parange_bits(range));
}

const struct s2_format *arch_s2_format(void)
{
	return machine.format;
}

unsigned arch_s2_ipa_bits(void)
{
	return machine.ipa_bits;
}

unsigned arch_s2_ident_bits(void)
{
	return machine.features.vmid16 ? 16 : 8;
}

u8 arch_s2_traits(void)
{
	return (machine.features.hardware_access ? S2_HARDWARE_ACCESSED : 0) |
	       (machine.features.hardware_dirty ? S2_HARDWARE_DIRTY : 0) |
	       (machine.size_change ? S2_SIZE_CHANGE : 0);
}

u64 s2_machine_vtcr(const struct s2 *s2)
{
	return s2_armv8_vtcr(s2, machine.features);
}

u64 s2_machine_vttbr(const struct s2 *s2)
{
	return ptr_hpa(s2->top).v |
	       field_set(S2_IDENT_NUMBER(load_relaxed(&s2->ident)), VTTBR_VMID);
}

/* Makes `s2` the space that TLBI acts on; returns what to put back. */
static u64 enter_space(const struct s2 *s2)
{
	u64 before = read_sysreg(vttbr_el2), vttbr = s2_machine_vttbr(s2);

	if (before != vttbr) {
		write_sysreg(vttbr_el2, vttbr);
		isb();
	}
	return before;
}

static void leave_space(u64 before)
{
	if (read_sysreg(vttbr_el2) != before) {
		write_sysreg(vttbr_el2, before);
		isb();
	}
}

static void tlbi_vmalls12e1is(void)
{
	__asm__ volatile("tlbi vmalls12e1is" ::: "memory");
}

static void issue(enum s2_armv8_tlbi tlbi, u64 operand)
{
	switch (tlbi) {
	case FLUSH_IPAS2E1IS:
		__asm__ volatile("tlbi ipas2e1is, %0" ::"r"(operand) : "memory");
		return;
	case FLUSH_RIPAS2E1IS: /* by encoding: the assembler knows it from ARMv8.4 on */
		__asm__ volatile("sys #4, c8, c0, #2, %0" ::"r"(operand) : "memory");
		return;
	case FLUSH_VMALLS12E1IS:
		tlbi_vmalls12e1is();
		return;
	case FLUSH_DONE:
		return;
	}
}

void arch_s2_flush_range(const struct s2 *s2, gpa_t start, u64 size, unsigned level)
{
	struct s2_armv8_flush flush = {
		.format = s2->format,
		.ipa = start.v,
		.end = start.v + size,
		.level = level,
		.by_range = machine.range_tlbi,
		.ttl = machine.ttl,
	};
	u64 before = enter_space(s2), operand;
	enum s2_armv8_tlbi tlbi;

	dsb(ishst); /* the cleared entries before the invalidation */
	while ((tlbi = s2_armv8_flush_next(&flush, &operand)) != FLUSH_DONE) {
		issue(tlbi, operand);
	}
	leave_space(before);
}

u64 arch_s2_flush_cost(const struct s2 *s2, u64 size, unsigned level)
{
	return s2_armv8_flush_cost(s2->format, size, level, machine.range_tlbi);
}

void arch_s2_flush_tail(const struct s2 *s2)
{
	u64 before = enter_space(s2);

	dsb(ish);
	__asm__ volatile("tlbi vmalle1is" ::: "memory");
	dsb(ish);
	isb();
	leave_space(before);
}

void arch_s2_flush_space(const struct s2 *s2)
{
	u64 before = enter_space(s2);

	dsb(ishst);
	tlbi_vmalls12e1is();
	dsb(ish);
	isb();
	leave_space(before);
}

void arch_s2_flush_local(const struct s2 *s2)
{
	u64 before = enter_space(s2);

	dsb(nshst);
	__asm__ volatile("tlbi vmalls12e1" ::: "memory");
	dsb(nsh);
	isb();
	leave_space(before);
}

void arch_s2_flush_idents(void)
{
	dsb(ishst);
	__asm__ volatile("tlbi alle1is" ::: "memory");
	dsb(ish);
	isb();
}

/* The walker is coherent: VTCR_EL2 says write-back, inner shareable. */
void arch_s2_clean(unused const void *start, unused u64 size)
{
}

void arch_s2_publish_table(unused const void *table, unused u64 size)
{
	dsb(ishst); /* the walker is coherent: VTCR_EL2 says write-back, inner shareable */
}
