/*
 * What a space's counters should say, counted from its raw tables. For fuzzers, on one CPU.
 *
 * A split or folded block counts by the table that its BROKEN entry leads to, and a table that
 * waits in a batch for the close is still one of the space's: so without open batches numbers are
 * equal.
 */
#ifndef S2_RECOUNT_H
#define S2_RECOUNT_H

#include <stdio.h>
#include <stdlib.h>

#include "hyp/s2_cursor.h"

/* What was demanded is the last thing that an input's run says. */
#define demand(condition)                                                                          \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: demanded: %s\n", __FILE__, __LINE__, #condition);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct recount {
	u64 leaves[S2_LEVELS_MAX];
	u64 tables;
};

/* Of the judges themselves the fuzzer need not learn which way they went. */
#define judge_fn __attribute__((no_sanitize("coverage")))

static judge_fn void recount_table(struct s2 *s2, const u64 *table, u64 entries, unsigned level,
				   struct recount *r)
{
	const struct s2_format *f = s2->format;
	u64 used = 0;

	for (u64 i = 0; i < entries; i++) {
		const u64 *below = level > 0 ? s2_entry_below(f, table[i], level) : NULL;

		used += s2_entry_in_use(f, table[i]);
		r->leaves[level] += s2_entry_is_leaf(f, table[i], level);
		if (below) {
			recount_table(s2, below, s2_table_entries(f), level - 1, r);
		}
	}
	r->tables++;
	demand(level == s2->root_level || s2_table_live(table) == used);
}

static void recount(struct s2 *s2, bool batch_is_open)
{
	const struct s2_format *f = s2->format;
	u64 entries = BIT(s2->ipa_bits) >> f->shift[s2->root_level];
	u64 root_tables = max_u64(entries / s2_table_entries(f), 1), crown = 0;
	struct recount r = {0};

	recount_table(s2, s2->root, entries, s2->root_level, &r);
	if (f->top_level > s2->root_level) {
		crown = f->top_level - s2->root_level;
	}
	r.tables += root_tables - 1 + crown;
	demand(r.leaves[0] == s2->stats.leaf_4k);
	demand(r.leaves[1] == s2->stats.leaf_2m);
	demand(r.leaves[2] + r.leaves[3] + r.leaves[4] == s2->stats.leaf_1g);
	demand(batch_is_open ? r.tables <= s2->stats.tables : r.tables == s2->stats.tables);
}

#endif
