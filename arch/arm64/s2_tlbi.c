#include "s2_tlbi.h"

#include "hyp/s2_cursor.h"

#include "s2_armv8.h"

#define TLBI_BASE BITS(36, 0)
#define TLBI_TTL BITS(38, 37)
#define TLBI_NUM BITS(43, 39)
#define TLBI_SCALE BITS(45, 44)
#define TLBI_TG BITS(47, 46)
#define TLBI_BASE_SHIFT_LPA2 16

/* Levels as the manual counts them, for leaves; 0 = not said. Only leaves of one level may say it.
 */
static unsigned level_hint(unsigned level)
{
	return level < 3 ? 3 - level : 0;
}

/* One instruction covers (NUM + 1) * 2^(5 * SCALE + 1) pages. With LPA2 it begins at a multiple of
 * 64 KiB, whatever the granule: then it begins early, and forgets more than it must. */
u64 s2_armv8_range_operand(const struct s2_format *f, u64 ipa, u64 pages, unsigned level,
			   u64 *taken)
{
	unsigned base_shift = s2_armv8_is_lpa2(f) ? TLBI_BASE_SHIFT_LPA2 : f->page_shift;
	u64 base = ipa >> base_shift;
	u64 early = (ipa - (base << base_shift)) >> f->page_shift;
	unsigned scale = 3, hint = level_hint(level);
	u64 unit, num;

	/* A hint that does not go with the first address is UNPREDICTABLE. */
	if (hint && !is_aligned(base << base_shift, s2_span(f, level))) {
		hint = 0;
	}
	pages += early;
	while (scale > 0 && pages < BIT(5 * scale + 1)) {
		scale--;
	}
	unit = BIT(5 * scale + 1);
	num = min_u64((pages + unit - 1) / unit, 32);
	if (num * unit > pages && (num - 1) * unit > early) {
		num--; /* the rest goes with a smaller scale */
	}
	*taken = min_u64(num * unit, pages) - early;
	return field_set(base, TLBI_BASE) | field_set(hint, TLBI_TTL) |
	       field_set(num - 1, TLBI_NUM) | field_set(scale, TLBI_SCALE) |
	       field_set(s2_armv8_granule(f), TLBI_TG);
}

#define TLBI_IPA BITS(39, 0) /* in 4 KiB, whatever the granule */
#define TLBI_IPA_LEVEL BITS(45, 44)
#define TLBI_IPA_TG BITS(47, 46)

static u64 single_operand(const struct s2_armv8_flush *flush)
{
	unsigned hint = flush->ttl ? level_hint(flush->level) : 0;

	return field_set(flush->ipa >> 12, TLBI_IPA) | field_set(hint, TLBI_IPA_LEVEL) |
	       field_set(hint ? s2_armv8_granule(flush->format) : 0, TLBI_IPA_TG);
}

/* The longest operand is of 2^21 pages; shorter ones make up the rest, one for each scale. */
#define TLBI_RANGE_PAGES BIT(21)
#define TLBI_SCALES 4

u64 s2_armv8_flush_cost(const struct s2_format *f, u64 size, unsigned level, bool by_range)
{
	u64 step = s2_span(f, level < S2_LEVELS_MAX ? level : 0);

	return by_range ? (size >> f->page_shift) / TLBI_RANGE_PAGES + TLBI_SCALES : size / step;
}

enum s2_armv8_tlbi s2_armv8_flush_next(struct s2_armv8_flush *flush, u64 *operand)
{
	const struct s2_format *f = flush->format;
	u64 size = flush->end - flush->ipa, taken;
	u64 step = s2_span(f, flush->level < S2_LEVELS_MAX ? flush->level : 0);

	*operand = 0;
	if (size == 0) {
		return FLUSH_DONE;
	}
	if (flush->by_range) {
		*operand = s2_armv8_range_operand(f, flush->ipa, size >> f->page_shift,
						  flush->level, &taken);
		flush->ipa += taken << f->page_shift;
		return FLUSH_RIPAS2E1IS;
	}
	/* Whose levels are not known are pages, so they may be more than the batch has reckoned
	 * with. Fewer are left with every step, so the choice is made once, at the first. */
	if (size / step > S2_FLUSH_WHOLE_COST) {
		flush->ipa = flush->end;
		return FLUSH_VMALLS12E1IS;
	}
	*operand = single_operand(flush);
	flush->ipa += step;
	return FLUSH_IPAS2E1IS;
}
