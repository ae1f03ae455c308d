/*
 * A table of leaves that translate as one larger leaf would becomes that leaf, in place.
 *
 * The table is looked through; then its entry makes place for a BROKEN one, a fold. When the batch
 * is closed, after the invalidation and when every walk has ended, the table is nobody's any more:
 * it is looked through again, now with what holders of the lock and hardware put there last, and
 * the leaf takes its place. If it is not uniform any more, it is linked again as it is. So the
 * table needs no poison (I10), and accessed and dirty flags that hardware set until the very end
 * are not lost.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

const char *s2_why_text(enum s2_why why)
{
	static const char *const texts[] = {
#define X(name, text) text,
		S2_WHYS(X)
#undef X
	};

	return why < S2_WHY_COUNT ? texts[why] : "no such reason";
}

/* Regions that one hold of the lock may look through. */
#define STEP_REGIONS 64

/* Marks in which the parts may differ: the whole has what any of them has. */
static u64 flags_of(const struct s2_format *f)
{
	return f->accessed | f->dirty;
}

/* All bits in which some entry is not `first` + its index * `step`. */
static u64 differences(const u64 *table, u64 entries, u64 first, u64 step)
{
	u64 differences = 0;

	unroll_loop(16) for (const u64 *end = table + entries; table < end; table++)
	{
		differences |= load_relaxed(table) ^ first;
		first += step;
	}
	return differences;
}

/* The same of a whole table whose first entry is right; flags count as clear in what is expected.
 */
static u64 table_differences(const struct s2_format *f, const u64 *table, u64 first, unsigned level)
{
	return differences(table, s2_table_entries(f), first & ~flags_of(f), s2_span(f, level));
}

/* ---- Why not ------------------------------------------------------------------------------- */

/* The entry that is not what the table's first one lets expect. */
static enum s2_why why_differs(const struct s2 *s2, u64 first, u64 index, u64 entry, unsigned level)
{
	const struct s2_format *f = s2->format;
	u64 expected = s2_entry_hpa(f, first).v + index * s2_span(f, level);

	switch (s2_entry_kind(f, entry, level)) {
	case S2_LEAF:
		break;
	case S2_TABLE:
		return S2_MIXED;
	case S2_TRANSIT:
		return s2_transit_is_open(s2, entry) ? S2_IS_OPEN : S2_HAS_HOLES;
	case S2_BROKEN:
		return S2_IS_OPEN;
	case S2_HELD:
		return S2_IS_LOGGED;
	default:
		return S2_HAS_HOLES;
	}
	if (entry & f->cow) {
		return S2_IS_SHARED;
	}
	if (s2_entry_hpa(f, entry).v != expected) {
		return S2_SCATTERED;
	}
	/* Alike in all but the address, which is right: it went over into high bits of its own. */
	return (entry ^ first) & ~(f->address | f->address_high | flags_of(f)) ? S2_MIXED
									       : S2_MISALIGNED;
}

static enum s2_why why_scattered(const struct s2 *s2, const u64 *table, unsigned level)
{
	const struct s2_format *f = s2->format;
	u64 step = s2_span(f, level), flags = flags_of(f), first = load_relaxed(&table[0]);

	for (u64 i = 0; i < s2_table_entries(f); i++) {
		u64 entry = load_relaxed(&table[i]);

		if ((entry & ~flags) != (first & ~flags) + i * step ||
		    !s2_entry_is_leaf(f, entry, level)) {
			return why_differs(s2, first, i, entry, level);
		}
	}
	return S2_IS_OPEN; /* it has changed under our eyes */
}

/* `table` holds entries of `level`; may it be one leaf of the level above, and with which flags? */
static enum s2_why judge_table(struct s2 *s2, const u64 *table, unsigned level, u64 *flags)
{
	const struct s2_format *f = s2->format;
	u64 first = load_relaxed(&table[0]), found;

	if (load_relaxed(&s2->marks) & f->log) {
		return S2_IS_LOGGED;
	}
	if (!s2_entry_is_leaf(f, first, level)) {
		return why_differs(s2, first, 0, first, level);
	}
	if (first & f->cow) {
		return S2_IS_SHARED;
	}
	if (first & f->log) {
		return S2_IS_LOGGED;
	}
	found = table_differences(f, table, first, level);
	*flags = found & flags_of(f);
	if (found != *flags) {
		return why_scattered(s2, table, level);
	}
	return is_aligned(s2_entry_hpa(f, first).v, s2_span(f, level + 1)) ? S2_FOLDED
									   : S2_MISALIGNED;
}

/* ---- The operation ------------------------------------------------------------------------- */

/* The cursor is at the region's entry, or above it when there is no table. */
static enum s2_why fold_region(struct s2_cursor *c, unsigned level, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	enum s2_why why;
	u64 *table, flags;

	if (!s2_entry_is_table(f, c->entry, c->level)) {
		return s2_entry_is_leaf(f, c->entry, c->level)
			       ? S2_LARGE_ALREADY
			       : why_differs(c->s2, c->entry, 0, c->entry, c->level);
	}
	table = s2_entry_table(f, c->entry);
	if (s2_table_is_linked(c->s2, table)) {
		return S2_IS_LINKED;
	}
	why = judge_table(c->s2, table, level - 1, &flags);
	if (why != S2_FOLDED) {
		return why;
	}
	/* Nobody else unlinks the table: what fails is a race with hardware's flag. */
	while (!s2_slot_break(c->s2, c->slot, c->entry,
			      s2_leading_entry(f, S2_BROKEN, table, level, true))) {
		s2_cursor_reload(c);
	}
	s2_batch_note_range(batch, c->gpa, s2_span(f, level), S2_LEVELS_MAX, 1);
	s2_batch_note_broken(batch, c->slot, table);
	return S2_FOLDED;
}

static void report_region(struct s2_collapsed *report, u64 at, enum s2_why why)
{
	report->count[why]++;
	if (why != S2_FOLDED && why != S2_LARGE_ALREADY) {
		report->last_refused = gpa(at);
		report->why = why;
	}
}

/* To the region at `at`: the neighbour's entry, unless that was the last of its table. */
static void go_to_region(struct s2_cursor *c, u64 at, unsigned level)
{
	if (c->slot && c->level == level && at < s2_cursor_table_end(c)) {
		c->gpa = gpa(at);
		s2_cursor_place(c, level);
		return;
	}
	s2_cursor_start(c, c->s2, gpa(at));
	s2_cursor_descend_all(c, level);
}

/* Regions from `at` on, under one hold of the lock; returns where it came to. */
static u64 collapse_step(struct s2 *s2, u64 at, u64 end, unsigned level, struct s2_batch *batch,
			 struct s2_collapsed *report)
{
	u64 span = s2_span(s2->format, level), entries = s2_table_entries(s2->format);
	struct s2_cursor c = {.s2 = s2};

	lock_take(&s2->lock);
	for (u64 i = 0; i < STEP_REGIONS && at + span <= end && batch->budget >= entries; i++) {
		go_to_region(&c, at, level);
		report_region(report, at,
			      s2_is_on_loan(s2, at, at + 1) ? S2_IS_LINKED
							    : fold_region(&c, level, batch));
		batch->budget -= entries;
		at += span;
	}
	lock_drop(&s2->lock);
	return at;
}

enum status s2_collapse(struct s2 *s2, gpa_t at, u64 size, unsigned level, struct s2_batch *batch,
			struct s2_collapsed *report)
{
	const struct s2_format *f = s2->format;
	u64 end = at.v + size, span, here;

	*report = (struct s2_collapsed){.why = S2_FOLDED};
	if (!s2_range_is_valid(s2, at, size) || level == 0 || level >= S2_LEVELS_MAX) {
		return INVALID;
	}
	batch->next = end;
	if (level > s2->root_level || !s2_level_may_be_leaf(f, level)) {
		report_region(report, at.v, S2_NO_SUCH_LEAF);
		return OK;
	}
	span = s2_span(f, level);
	for (here = align_up(at.v, span); here + span <= end;) {
		if (batch->budget < s2_table_entries(f)) {
			batch->next = here;
			return MORE;
		}
		here = collapse_step(s2, here, end, level, batch, report);
	}
	return OK;
}

/* ---- The close ----------------------------------------------------------------------------- */

/* The leaf that stands for all of the table, with whatever flag any entry has. */
static u64 folded_leaf(const struct s2 *s2, const u64 *table, unsigned level, u64 flags)
{
	const struct s2_format *f = s2->format;
	u64 leaf = s2_leaf_bits(s2, f->decode(table[0], level > 1), level);

	leaf |= s2_address_bits(f, s2_entry_hpa(f, table[0]));
	return (leaf & ~flags_of(f)) | flags;
}

void s2_fold_finish(struct s2_batch *batch, u64 *slot, u64 broken)
{
	struct s2 *s2 = batch->s2;
	const struct s2_format *f = s2->format;
	u64 payload = s2_absent_payload(f, broken);
	u64 *table = s2_lead_table(payload);
	unsigned level = s2_lead_level(payload);
	u64 flags;

	if (judge_table(s2, table, level - 1, &flags) != S2_FOLDED) {
		s2_slot_mend(s2, slot, broken, s2_link_entry(s2, table));
		atomic_add(&s2->stats.collapses_undone, 1);
		return;
	}
	s2_slot_mend(s2, slot, broken, folded_leaf(s2, table, level, flags));
	s2_parts_join(s2, table[0], level);
	s2_count_leaves(s2, level - 1, -(s64)s2_table_entries(f));
	s2_count_leaves(s2, level, 1);
	atomic_add(&s2->stats.collapses, 1);
	s2_table_free(s2, table);
}
