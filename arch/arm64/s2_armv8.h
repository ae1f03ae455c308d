/*
 * ARMv8 stage-2: the facts (DDI 0487, D8.3.1, D8.3.2; memory types D8.6.5, D8.6.6).
 *
 *   63..59   58..55    54..53 52         51  50..48 47..12  11 10       9..8 7..6 5..2    1    0
 *   ignored  software  XN     contiguous DBM 0      address 0  accessed SH   WR   MemAttr type
 * valid
 *
 *   type: 1 in a page (level 0) and in a table, 0 in a block (a leaf above level 0). A table has
 *   nothing but its address besides; hardware ignores its bits 58..51.
 *   address: from the granule's size up. Addresses of 52 bits have their high ones, with 4 and
 *   16 KiB (FEAT_LPA2, VTCR_EL2.DS), 49..48 at their places and 51..50 in 9..8, where SH had been;
 *   with 64 KiB (FEAT_LPA) 51..48 in 15..12.
 *   DBM: a write that finds WR's bit 7 clear sets it (VTCR_EL2.HD).
 *   XN: who may not execute. 0 nobody, 2 EL1 and EL0; with FEAT_XNX also 1 EL1, 3 EL0.
 */
#ifndef S2_ARMV8_H
#define S2_ARMV8_H

#include "hyp/s2.h"

/*
 * By granule, size of addresses, and features of the CPU: XNX, S2FWB. What has S2FWB has XNX (which
 * ARMv8.2 has to have), and so has what has addresses of 52 bits.
 */
extern const struct s2_format s2_armv8_4k, s2_armv8_4k_xnx, s2_armv8_4k_fwb;
extern const struct s2_format s2_armv8_16k, s2_armv8_16k_xnx, s2_armv8_16k_fwb;
extern const struct s2_format s2_armv8_64k, s2_armv8_64k_xnx, s2_armv8_64k_fwb;
extern const struct s2_format s2_armv8_4k_lpa2, s2_armv8_4k_lpa2_fwb;
extern const struct s2_format s2_armv8_16k_lpa2, s2_armv8_16k_lpa2_fwb;
extern const struct s2_format s2_armv8_64k_lpa, s2_armv8_64k_lpa_fwb;

/* Do addresses have 52 bits with 4 or 16 KiB (FEAT_LPA2)? */
#define S2_ARMV8_LPA2_HIGH BITS(9, 8)
static inline bool s2_armv8_is_lpa2(const struct s2_format *format)
{
	return format->address_high == S2_ARMV8_LPA2_HIGH;
}

/* 4, 16, 64 KiB as invalidations number them: 1, 2, 3. VTCR_EL2 has numbers of its own. */
static inline unsigned s2_armv8_granule(const struct s2_format *format)
{
	return (format->page_shift - 10) / 2;
}

#endif
