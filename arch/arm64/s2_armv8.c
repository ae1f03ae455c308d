#include "s2_armv8.h"

#include "hyp/s2_cursor.h"

/* MemAttr without FWB (D8-76): outer and inner, write-back; non-cacheable; Device-nGnRE. */
#define MEMATTR_WB 0xf
#define MEMATTR_NC 0x5
#define MEMATTR_DEVICE 0x1
/* With FWB (D8-78) write-back is forced, whatever stage 1 says. */
#define MEMATTR_FWB_WB 0x6

#define SH_INNER 3
#define XN_NONE 0 /* execute at EL1 and EL0 */
#define XN_ALL 2  /* bit 54 set: at neither, with FEAT_XNX and without */

static u64 encode_common(struct s2_attr attr, u64 memattr)
{
	u64 bits = S2_PTE_VALID | S2_PTE_AF | field_set(memattr, S2_PTE_MEMATTR);

	if (attr.memory == S2_NORMAL) {
		bits |= field_set(SH_INNER, S2_PTE_SH);
	}
	if (attr.perm & S2_READ) {
		bits |= S2_PTE_READ;
	}
	if (attr.perm & S2_WRITE) {
		bits |= S2_PTE_WRITE;
	}
	return bits | field_set(attr.perm & S2_EXEC ? XN_NONE : XN_ALL, S2_PTE_XN);
}

static u64 memattr_of(enum s2_memory memory, u64 write_back)
{
	switch (memory) {
	case S2_UNCACHED:
		return MEMATTR_NC;
	case S2_DEVICE:
		return MEMATTR_DEVICE;
	default:
		return write_back;
	}
}

static u64 encode(struct s2_attr attr, unused bool large)
{
	return encode_common(attr, memattr_of((enum s2_memory)attr.memory, MEMATTR_WB));
}

static u64 encode_fwb(struct s2_attr attr, unused bool large)
{
	return encode_common(attr, memattr_of((enum s2_memory)attr.memory, MEMATTR_FWB_WB));
}

static struct s2_attr decode(u64 entry)
{
	u64 memattr = field_get(entry, S2_PTE_MEMATTR);
	struct s2_attr attr = {.perm = 0, .memory = S2_NORMAL};

	if (entry & S2_PTE_READ) {
		attr.perm |= S2_READ;
	}
	if (entry & S2_PTE_WRITE) {
		attr.perm |= S2_WRITE;
	}
	if (field_get(entry, S2_PTE_XN) == XN_NONE) {
		attr.perm |= S2_EXEC;
	}
	if (memattr == MEMATTR_NC) {
		attr.memory = S2_UNCACHED;
	} else if (memattr == MEMATTR_DEVICE) {
		attr.memory = S2_DEVICE;
	}
	return attr;
}

#define ARMV8_4K                                                                                   \
	.page_shift = 12, .index_bits = 9, .levels = 4, .leaf_levels = BIT(0) | BIT(1) | BIT(2),   \
	.root_tables_max = 16, .present = S2_PTE_VALID, .table = S2_PTE_VALID | S2_PTE_TYPE,       \
	.page = S2_PTE_TYPE, .large = 0, .large_mask = S2_PTE_TYPE, .large_value = 0,              \
	.address = S2_PTE_ADDRESS, .accessed = S2_PTE_AF, .write = S2_PTE_WRITE, .empty = 0,       \
	.absent = 0, .absent_invert = 0, .decode = decode

const struct s2_format s2_armv8_4k = {ARMV8_4K, .name = "ARMv8 4K", .encode = encode};
const struct s2_format s2_armv8_4k_fwb = {ARMV8_4K, .name = "ARMv8 4K FWB", .encode = encode_fwb};

#define VTCR_T0SZ BITS(5, 0)
#define VTCR_SL0 BITS(7, 6)
#define VTCR_IRGN0 BITS(9, 8)
#define VTCR_ORGN0 BITS(11, 10)
#define VTCR_SH0 BITS(13, 12)
#define VTCR_TG0 BITS(15, 14)
#define VTCR_PS BITS(18, 16)
#define VTCR_VS BIT(19)
#define VTCR_HA BIT(21)
#define VTCR_RES1 BIT(31)

#define VTCR_WRITE_BACK 1
#define VTCR_TG0_4K 0
/* 48 bits is what entries of this format can hold. */
#define VTCR_PS_MAX 5

u64 s2_armv8_vtcr(const struct s2 *s2, struct s2_armv8_features features)
{
	u64 vtcr = VTCR_RES1;

	vtcr |= field_set(64 - s2->ipa_bits, VTCR_T0SZ);
	vtcr |= field_set(s2->root_level - 1, VTCR_SL0); /* 4K: our level 1, 2, 3 is 0, 1, 2 */
	vtcr |= field_set(VTCR_WRITE_BACK, VTCR_IRGN0);
	vtcr |= field_set(VTCR_WRITE_BACK, VTCR_ORGN0);
	vtcr |= field_set(SH_INNER, VTCR_SH0);
	vtcr |= field_set(VTCR_TG0_4K, VTCR_TG0);
	vtcr |= field_set(min_u64(features.pa_range, VTCR_PS_MAX), VTCR_PS);
	vtcr |= features.vmid16 ? VTCR_VS : 0;
	vtcr |= features.hardware_access ? VTCR_HA : 0;
	return vtcr;
}

#define TLBI_BASE BITS(36, 0)
#define TLBI_TTL BITS(38, 37)
#define TLBI_NUM BITS(43, 39)
#define TLBI_SCALE BITS(45, 44)
#define TLBI_TG BITS(47, 46)
#define TLBI_TG_4K 1

/* One instruction covers (NUM + 1) * 2^(5 * SCALE + 1) pages. */
u64 s2_armv8_range_operand(u64 ipa, u64 pages, unsigned level, u64 *taken)
{
	unsigned scale = 3;
	u64 unit, num;

	while (scale > 0 && pages < BIT(5 * scale + 1)) {
		scale--;
	}
	unit = BIT(5 * scale + 1);
	num = min_u64((pages + unit - 1) / unit, 32);
	if (num * unit > pages && num > 1) {
		num--; /* the rest goes with a smaller scale */
	}
	*taken = min_u64(num * unit, pages);
	return field_set(ipa >> PAGE_SHIFT, TLBI_BASE) |
	       /* TTL counts as the manual does, 0 = not said; only leaves of one level may say it.
		*/
	       field_set(level < 3 ? 3 - level : 0, TLBI_TTL) | field_set(num - 1, TLBI_NUM) |
	       field_set(scale, TLBI_SCALE) | field_set(TLBI_TG_4K, TLBI_TG);
}

#define TLBI_IPA_TTL BITS(47, 44)
#define TLBI_IPA_TTL_4K 4 /* bits 3..2 say the granule, 1..0 the level */
/* Beyond this many single invalidations it is cheaper to forget the whole VM. */
#define TLBI_SINGLE_MAX 512

static u64 single_operand(u64 ipa, unsigned level, bool ttl)
{
	u64 hint = ttl && level < 3 ? TLBI_IPA_TTL_4K | (3 - level) : 0;

	return (ipa >> PAGE_SHIFT) | field_set(hint, TLBI_IPA_TTL);
}

enum s2_armv8_tlbi s2_armv8_flush_next(struct s2_armv8_flush *flush, u64 *operand)
{
	u64 size = flush->end - flush->ipa, taken;
	u64 step = flush->level < S2_LEVELS_MAX ? s2_span(&s2_armv8_4k, flush->level) : PAGE_SIZE;

	*operand = 0;
	if (size == 0) {
		return FLUSH_DONE;
	}
	if (flush->by_range) {
		*operand = s2_armv8_range_operand(flush->ipa, size >> PAGE_SHIFT, flush->level,
						  &taken);
		flush->ipa += taken << PAGE_SHIFT;
		return FLUSH_RIPAS2E1IS;
	}
	/* Fewer are left with every step, so the choice is made once, at the first. */
	if (size / step > TLBI_SINGLE_MAX) {
		flush->ipa = flush->end;
		return FLUSH_VMALLS12E1IS;
	}
	*operand = single_operand(flush->ipa, flush->level, flush->ttl);
	flush->ipa += step;
	return FLUSH_IPAS2E1IS;
}
