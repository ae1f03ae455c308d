#include "s2_vtcr.h"

#include "s2_armv8.h"

#define VTCR_T0SZ BITS(5, 0)
#define VTCR_SL0 BITS(7, 6)
#define VTCR_IRGN0 BITS(9, 8)
#define VTCR_ORGN0 BITS(11, 10)
#define VTCR_SH0 BITS(13, 12)
#define VTCR_TG0 BITS(15, 14)
#define VTCR_PS BITS(18, 16)
#define VTCR_VS BIT(19)
#define VTCR_HA BIT(21)
#define VTCR_HD BIT(22)
#define VTCR_RES1 BIT(31)
#define VTCR_DS BIT(32)
#define VTCR_SL2 BIT(33)

#define VTCR_WRITE_BACK 1
#define VTCR_INNER 3
#define VTCR_PS_48 5
#define VTCR_PS_52 6

/* Where the walk begins. 4 KiB: our levels 1, 2, 3 are 0, 1, 2, and level 4 has a bit of its own;
 * 16 and 64 KiB: our levels as they are. */
static u64 vtcr_start(const struct s2 *s2)
{
	if (s2->format->page_shift != 12) {
		return field_set(s2->root_level, VTCR_SL0);
	}
	return s2->root_level == 4 ? VTCR_SL2 : field_set(s2->root_level - 1, VTCR_SL0);
}

u64 s2_armv8_vtcr(const struct s2 *s2, struct s2_armv8_features features)
{
	static const u8 tg0_of_granule[] = {[1] = 0, [2] = 2, [3] = 1};
	const struct s2_format *f = s2->format;
	/* No more than entries of the format can hold. */
	u64 ps_max = f->address_high ? VTCR_PS_52 : VTCR_PS_48;
	u64 hardware = (features.hardware_access ? VTCR_HA : 0) |
		       (features.hardware_access && features.hardware_dirty ? VTCR_HD : 0);

	return VTCR_RES1 | vtcr_start(s2) | field_set(64 - s2->ipa_bits, VTCR_T0SZ) |
	       field_set(VTCR_WRITE_BACK, VTCR_IRGN0) | field_set(VTCR_WRITE_BACK, VTCR_ORGN0) |
	       field_set(VTCR_INNER, VTCR_SH0) |
	       field_set(tg0_of_granule[s2_armv8_granule(f)], VTCR_TG0) |
	       field_set(min_u64(features.pa_range, ps_max), VTCR_PS) |
	       (features.vmid16 ? VTCR_VS : 0) | hardware | (s2_armv8_is_lpa2(f) ? VTCR_DS : 0);
}
