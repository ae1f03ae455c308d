/* Table pages: where they come from, and the reserve that an operation fills before it starts. */
#include "hyp/s2_cursor.h"

#include <arch/cpu.h>
#include <arch/s2.h>

u64 *s2_table_alloc(struct s2 *s2)
{
	hpa_t page = frame_alloc(ORDER_4K, FRAME_TABLE, s2->owner);
	u64 *table = (u64 *)hpa_ptr(page);

	if (hpa_is_none(page)) {
		return NULL;
	}
	frame_at(page)->live = 0;
	if (s2->format->empty == 0) {
		arch_zero(table, PAGE_SIZE);
	} else {
		for (u64 i = 0; i < s2_table_entries(s2->format); i++) {
			table[i] = s2->format->empty;
		}
	}
	atomic_add(&s2->stats.tables, 1);
	return table;
}

void s2_table_free(struct s2 *s2, u64 *table)
{
	atomic_sub(&s2->stats.tables, 1);
	frame_put(ptr_hpa(table));
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

u64 *s2_reserve_take(struct s2 *s2, struct s2_reserve *reserve)
{
	u64 *table = reserve->first;

	if (table) {
		reserve->first = (u64 *)(uintptr_t)table[0];
		table[0] = s2->format->empty;
	}
	return table;
}

void s2_reserve_drop(struct s2 *s2, struct s2_reserve *reserve)
{
	u64 *table;

	while ((table = s2_reserve_take(s2, reserve))) {
		s2_table_free(s2, table);
	}
}
