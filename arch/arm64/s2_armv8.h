/*
 * ARMv8 stage-2, 4 KiB granule: the facts (DDI 0487, D8.3.2 figures D8-14, D8-15 and table D8-52).
 *
 *   63..59   58..55  54..53 52   51  50..48 47......12 11 10 9..8 7..6 5..2    1    0
 *   ignored  soft.   XN     cont DBM 0      address    0  AF SH   S2AP MemAttr type valid
 *
 *   type 1 at level 0: page; 0 above level 0: block; 1 above level 0: table (address only).
 */
#ifndef S2_ARMV8_H
#define S2_ARMV8_H

#include "hyp/s2.h"

#define S2_PTE_VALID BIT(0)
#define S2_PTE_TYPE BIT(1)
#define S2_PTE_MEMATTR BITS(5, 2)
#define S2_PTE_READ BIT(6)
#define S2_PTE_WRITE BIT(7)
#define S2_PTE_SH BITS(9, 8)
#define S2_PTE_AF BIT(10)
#define S2_PTE_ADDRESS BITS(47, 12)
#define S2_PTE_XN BITS(54, 53)

/* Without FEAT_S2FWB the guest can make memory less cacheable than this; with it, it cannot. */
extern const struct s2_format s2_armv8_4k;
extern const struct s2_format s2_armv8_4k_fwb;

/* VTCR_EL2 for a space of this shape, on a CPU with these features. */
struct s2_armv8_features {
	unsigned pa_range;    /* ID_AA64MMFR0_EL1.PARange */
	bool hardware_access; /* FEAT_HAFDBS at stage 2 */
	bool vmid16;
};
u64 s2_armv8_vtcr(const struct s2 *s2, struct s2_armv8_features features);

/*
 * Operands of range invalidation (D8.13, TLBI RIPAS2E1IS): as many pages from `pages` as one
 * instruction takes, in *taken.
 */
u64 s2_armv8_range_operand(u64 ipa, u64 pages, unsigned level, u64 *taken);

/*
 * Which invalidations forget [ipa, ipa + size), made of leaves of `level` (S2_LEVELS_MAX: of any,
 * and tables above): by range where the CPU can, else one by one, else all of the space. One call
 * of s2_armv8_flush_next() is one instruction; FLUSH_DONE after the last.
 */
enum s2_armv8_tlbi { FLUSH_DONE, FLUSH_IPAS2E1IS, FLUSH_RIPAS2E1IS, FLUSH_VMALLS12E1IS };
struct s2_armv8_flush {
	u64 ipa, end;
	unsigned level;
	bool by_range; /* FEAT_TLBIRANGE */
	bool ttl;      /* FEAT_TTL: single invalidations may say the level */
};
enum s2_armv8_tlbi s2_armv8_flush_next(struct s2_armv8_flush *flush, u64 *operand);

#endif
