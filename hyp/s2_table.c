/* Table pages: where they come from, how they are filled, and the reserve that an operation lays in
 * before it starts. */
#include "hyp/s2_cursor.h"

#include <arch/s2.h>

u64 *s2_table_alloc(struct s2 *s2)
{
	hpa_t page = frame_alloc(s2_level_order(s2->format, 0), FRAME_TABLE, s2->owner);

	if (hpa_is_none(page)) {
		return NULL;
	}
	atomic_add(&s2->stats.tables, 1);
	return hpa_ptr(page);
}

void s2_table_free(struct s2 *s2, u64 *table)
{
	atomic_sub(&s2->stats.tables, 1);
	frame_put(ptr_hpa(table));
}

/* Writes `count` words; returns the first behind them. */
static u64 *fill_words(u64 *to, u64 count, u64 word, u64 step)
{
	u64 *end = to + count;

	unroll_loop(8)
	for (; to < end; to++) {
		*to = word;
		word += step;
	}
	return to;
}

void s2_table_fill(struct s2 *s2, u64 *table, u64 first, u64 count, u64 entry, u64 step)
{
	u64 entries = s2_table_entries(s2->format), empty = s2->format->empty;
	u64 *at = fill_words(table, first, empty, 0);

	at = fill_words(at, count, entry, step);
	fill_words(at, entries - first - count, empty, 0);
	*s2_table_word(table) = count;
	arch_s2_publish_table(table, entries * sizeof(*table));
}

void s2_reserve_give(struct s2_reserve *reserve, u64 *table)
{
	table[0] = (u64)(uintptr_t)reserve->first;
	reserve->first = table;
}

bool s2_reserve_fill(struct s2 *s2, struct s2_reserve *reserve, u64 count)
{
	for (; count > 0; count--) {
		u64 *table = s2_table_alloc(s2);

		if (!table) {
			s2_reserve_drop(s2, reserve);
			return false;
		}
		s2_reserve_give(reserve, table);
	}
	return true;
}

static u64 *take_reserved(struct s2_reserve *reserve)
{
	u64 *table = reserve->first;

	if (table) {
		reserve->first = (u64 *)(uintptr_t)table[0];
	}
	return table;
}

u64 *s2_reserve_take(struct s2 *s2, struct s2_reserve *reserve)
{
	u64 *table = take_reserved(reserve);

	return table ? table : s2_table_alloc(s2);
}

void s2_reserve_drop(struct s2 *s2, struct s2_reserve *reserve)
{
	u64 *table;

	while ((table = take_reserved(reserve))) {
		s2_table_free(s2, table);
	}
}
