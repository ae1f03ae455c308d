/* A view's rules (see s2_view.h): which permissions it allows where, in one page of `words` words.
 * Addresses are guest-physical, in bytes, and page-aligned. No lock, no memory of its own. */
#ifndef HYP_S2_RULES_H
#define HYP_S2_RULES_H

#include "hyp/types.h"

/* At most `perm` (bits of enum s2_perm; 0: nothing) in [start, end). */
struct s2_rule {
	u64 start, end;
	u8 perm;
};

/* One rule for all. */
void s2_rules_begin(u64 *rules, u64 words, u8 perm);

/* The rule that `at` is under. */
struct s2_rule s2_rule_at(const u64 *rules, u64 words, u64 at);

/* Writes to `to`, a page of the same size, what `rules` say up to `limit`, but with `change`, which
 * lies below that; neighbours that are alike are joined. False: they do not fit. */
bool s2_rules_change(u64 *to, const u64 *rules, u64 words, const struct s2_rule *change, u64 limit);

#endif
