/* What TLBI instructions are told of stage-2 translations that die (DDI 0487, D8.13). */
#ifndef S2_TLBI_H
#define S2_TLBI_H

#include "hyp/s2.h"

/*
 * Operands of range invalidation (D8.13, TLBI RIPAS2E1IS): as many of the format's pages from
 * `pages` as one instruction takes, in *taken. It may forget up to 60 KiB before `ipa` too.
 */
u64 s2_armv8_range_operand(const struct s2_format *format, u64 ipa, u64 pages, unsigned level,
			   u64 *taken);

/*
 * Which invalidations forget [ipa, ipa + size), made of leaves of `level` (S2_LEVELS_MAX: of any,
 * and tables above): by range where the CPU can, else one by one, else all of the space. One call
 * of s2_armv8_flush_next() is one instruction; FLUSH_DONE after the last.
 */
enum s2_armv8_tlbi { FLUSH_DONE, FLUSH_IPAS2E1IS, FLUSH_RIPAS2E1IS, FLUSH_VMALLS12E1IS };
struct s2_armv8_flush {
	const struct s2_format *format;
	u64 ipa, end;
	unsigned level;
	bool by_range; /* FEAT_TLBIRANGE */
	bool ttl;      /* FEAT_TTL: single invalidations may say the level */
};
/* How many there are, or a few less. */
u64 s2_armv8_flush_cost(const struct s2_format *f, u64 size, unsigned level, bool by_range);
enum s2_armv8_tlbi s2_armv8_flush_next(struct s2_armv8_flush *flush, u64 *operand);

#endif
