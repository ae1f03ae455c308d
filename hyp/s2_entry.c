/*
 * The one place that writes an entry which hardware or another CPU can see.
 *
 * Every write is a compare-and-swap against the value that the cursor read (I2), so an accessed or
 * dirty bit that hardware set meanwhile is never lost: the swap fails, and the caller looks again.
 * With the write go, inseparably, the number of entries in use in the table, the numbers of leaves,
 * and the note in the batch of what has to be invalidated.
 *
 * Legal changes of a live entry: to a not-present one; or to the same translation with other
 * permissions or flags. A leaf is never replaced by a table, nor a table by a leaf, without a
 * not-present entry and an invalidation in between: that is break-before-make (DDI 0487, D8.14.1),
 * and one sequence for every format (I6).
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

static bool change_is_legal(const struct s2_format *f, u64 old, u64 new, unsigned level)
{
	if (!s2_entry_present(f, old) || !s2_entry_present(f, new)) {
		return true;
	}
	return s2_entry_is_leaf(f, old, level) == s2_entry_is_leaf(f, new, level) &&
	       s2_entry_hpa(f, old).v == s2_entry_hpa(f, new).v;
}

static u64 *leaf_count(struct s2 *s2, unsigned level)
{
	return level == 0   ? &s2->stats.leaf_4k
	       : level == 1 ? &s2->stats.leaf_2m
			    : &s2->stats.leaf_1g;
}

/* Entries in use keep their table; a transit entry whose batch is open does not, see retire below.
 */
static void count_change(struct s2_cursor *c, u64 old, u64 new)
{
	const struct s2_format *f = c->format;
	bool was = s2_entry_present(f, old), is = s2_entry_present(f, new);

	if (was == is) {
		return;
	}
	if (c->level != c->s2->root_level) {
		struct frame *table = frame_at(ptr_hpa(c->table[c->level]));

		atomic_add(&table->live, is ? 1u : -1u);
	}
	if (s2_entry_is_leaf(f, is ? new : old, c->level)) {
		atomic_add(leaf_count(c->s2, c->level), is ? 1ull : -1ull);
	}
}

bool s2_entry_set(struct s2_cursor *c, u64 entry, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	u64 old = c->entry;

	check(change_is_legal(f, old, entry, c->level));
	if (!cas_u64(c->slot, old, entry)) {
		s2_cursor_reload(c);
		return false;
	}
	c->entry = entry;
	count_change(c, old, entry);
	if (s2_entry_is_leaf(f, old, c->level) && batch) {
		gpa_t at = gpa(align_down(c->gpa.v, s2_span(f, c->level)));

		if (s2_entry_present(f, entry)) {
			s2_batch_note_range(batch, at, s2_span(f, c->level), c->level);
		} else {
			s2_batch_note_leaf(batch, at, c->level, old);
		}
	}
	return true;
}

void s2_entry_count_filled(struct s2 *s2, u64 *table, unsigned level)
{
	u64 count = s2_table_entries(s2->format);

	frame_at(ptr_hpa(table))->live = count;
	atomic_add(leaf_count(s2, level), count);
}

/*
 * Nobody comes to `table` from the root any more, but a walker that was on its way may stand in it:
 * each entry is swapped for POISON, which fails that walker's compare-and-swap and sends it back
 * (I10).
 */
static void poison_leaves(struct s2 *s2, u64 *table, gpa_t start, struct s2_batch *batch)
{
	const struct s2_format *f = s2->format;
	u64 poison = s2_absent_entry(f, S2_POISON, 0);

	for (u64 i = 0; i < s2_table_entries(f); i++) {
		u64 old = atomic_swap(&table[i], poison);

		if (s2_entry_present(f, old)) {
			atomic_sub(leaf_count(s2, 0), 1);
			s2_batch_note_leaf(batch, gpa_add(start, i * s2_span(f, 0)), 0, old);
		}
	}
	s2_batch_note_table(batch, table);
}

bool s2_table_retire(struct s2_cursor *c, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	u64 *table = s2_entry_table(f, c->entry);
	gpa_t at = gpa(align_down(c->gpa.v, s2_span(f, c->level)));

	check(c->level == 1);
	if (!s2_entry_set(c, s2_absent_entry(f, S2_TRANSIT, batch->generation), NULL)) {
		return false;
	}
	s2_batch_note_range(batch, at, s2_span(f, c->level), S2_LEVELS_MAX);
	poison_leaves(c->s2, table, at, batch);
	return true;
}

/* Can this entry be dropped with its table? Another batch's open transit may not (I9). */
static bool entry_is_droppable(struct s2 *s2, u64 entry, const struct s2_batch *batch)
{
	const struct s2_format *f = s2->format;

	return s2_entry_is_free(s2, entry) || (s2_entry_kind(f, entry, 1) == S2_TRANSIT &&
					       s2_absent_payload(f, entry) == batch->generation);
}

/* Poisons all entries of an empty table, or none: true when all. */
static bool poison_empty(struct s2 *s2, u64 *table, const struct s2_batch *batch)
{
	const struct s2_format *f = s2->format;
	u64 poison = s2_absent_entry(f, S2_POISON, 0);
	u64 i;

	for (i = 0; i < s2_table_entries(f); i++) {
		u64 entry = load_relaxed(&table[i]);

		if (!entry_is_droppable(s2, entry, batch) || !cas_u64(&table[i], entry, poison)) {
			break;
		}
	}
	if (i == s2_table_entries(f)) {
		return true;
	}
	/* What was dropped may be still open in this very batch, so it comes back as that. */
	while (i-- > 0) {
		store_release(&table[i], s2_absent_entry(f, S2_TRANSIT, batch->generation));
	}
	return false;
}

bool s2_table_retire_if_empty(struct s2_cursor *c, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	u64 *table = s2_entry_table(f, c->entry);
	u64 linked = c->entry;

	if (load_relaxed(&frame_at(ptr_hpa(table))->live) != 0) {
		return false;
	}
	/* New walkers wait at the parent while the entries are poisoned. */
	if (!s2_entry_set(c, s2_absent_entry(f, S2_BROKEN, 0), NULL)) {
		return false;
	}
	if (!poison_empty(c->s2, table, batch)) {
		/* A walker that was already inside used the table: it stays. */
		check(s2_entry_set(c, linked, NULL));
		return false;
	}
	check(s2_entry_set(c, s2_absent_entry(f, S2_TRANSIT, batch->generation), NULL));
	s2_batch_note_range(batch, gpa(align_down(c->gpa.v, s2_span(f, c->level))),
			    s2_span(f, c->level), S2_LEVELS_MAX);
	s2_batch_note_table(batch, table);
	return true;
}
