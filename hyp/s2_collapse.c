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

/* Marks in which the parts may differ. The whole has what any of them has, but not the hint. */
static u64 flags_of(const struct s2_format *f)
{
	return f->accessed | f->dirty | f->contiguous;
}

/* All bits in which some entry is not `first` + its index * `step`. Geometry comes as arguments, so
 * that it may be constant. */
static inline __attribute__((always_inline)) u64 differences(const u64 *table, u64 entries,
							     u64 first, u64 step)
{
	u64 differences = 0;

	unroll_loop(32)
	for (u64 i = 0; i < entries; i++) {
		differences |= load_relaxed(&table[i]) ^ (first + i * step);
	}
	return differences;
}

/* ---- Why not ------------------------------------------------------------------------------- */

enum s2_why s2_why_no_leaf(const struct s2 *s2, u64 entry, unsigned level)
{
	switch (s2_entry_kind(s2->format, entry, level)) {
	case S2_LEAF:
		return S2_LARGE_ALREADY;
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
}

/* Of the first entry that is not as it should be. */
static enum s2_why why_not(const struct s2 *s2, const u64 *slots, u64 count, unsigned level)
{
	const struct s2_format *f = s2->format;
	const u64 addresses = f->address | f->address_high;
	u64 first = load_relaxed(&slots[0]) & ~flags_of(f), start = s2_entry_hpa(f, first).v;

	for (u64 i = 0, offset = 0; i < count; i++, offset += s2_span(f, level)) {
		u64 entry = load_relaxed(&slots[i]);

		if (!s2_entry_is_leaf(f, entry, level)) {
			return s2_why_no_leaf(s2, entry, level);
		}
		entry &= ~flags_of(f);
		if (entry & f->cow) {
			return S2_IS_SHARED;
		}
		if (s2_entry_hpa(f, entry).v != start + offset) {
			return S2_SCATTERED;
		}
		if ((entry ^ first) & ~addresses) {
			return S2_MIXED;
		}
		if (entry != first + offset) {
			return S2_MISALIGNED; /* the address went over into its high bits */
		}
	}
	/* Else it has changed under our eyes. */
	return is_aligned(start, count << f->shift[level]) ? S2_IS_OPEN : S2_MISALIGNED;
}

enum s2_why s2_judge_leaves(const struct s2 *s2, const u64 *slots, u64 count, unsigned level,
			    u64 *flags)
{
	const struct s2_format *f = s2->format;
	u64 first = load_relaxed(&slots[0]), expected = first & ~(f->accessed | f->dirty);

	if (s2_table_is_linked(s2, s2_slot_table(f, slots))) {
		return S2_IS_LINKED;
	}
	if (load_relaxed(&s2->marks) & f->log) { /* else no leaf has `log` */
		return S2_IS_LOGGED;
	}
	*flags = f->plain && level == 0 && count == 512
			 ? differences(slots, 512, expected, KIB(4))
			 : differences(slots, count, expected, s2_span(f, level));
	if ((*flags & ~flags_of(f)) || !s2_entry_is_leaf(f, first, level) || (first & f->cow) ||
	    !is_aligned(s2_entry_hpa(f, first).v, count << f->shift[level])) {
		return why_not(s2, slots, count, level);
	}
	return S2_FOLDED;
}

/* ---- The operation ------------------------------------------------------------------------- */

static enum s2_why fold_region(struct s2 *s2, u64 at, unsigned level, struct s2_batch *batch)
{
	const struct s2_format *f = s2->format;
	struct s2_cursor c;
	enum s2_why why;
	u64 *table, flags, broken;

	s2_cursor_stand(&c, s2, at, level);
	if (!s2_entry_is_table(f, c.entry, c.level)) {
		return s2_why_no_leaf(s2, c.entry, c.level);
	}
	table = s2_entry_table(f, c.entry);
	why = s2_judge_leaves(s2, table, s2_table_entries(f), level - 1, &flags);
	if (why != S2_FOLDED) {
		return why;
	}
	broken = s2_leading_entry(f, S2_BROKEN, table, level, true);
	/* Nobody else unlinks the table: what fails is a race with hardware's flag. */
	while (!s2_slot_break(s2, c.slot, c.entry, broken)) {
		s2_cursor_reload(&c);
	}
	fence_full();
	if (load_relaxed(&s2->claims)) { /* perhaps in this table: see claim_leaf() in s2_fork.c */
		s2_slot_mend(s2, c.slot, broken, s2_link_entry(s2, table));
		return S2_IS_OPEN;
	}
	s2_batch_note_range(batch, c.gpa, s2_span(f, level), S2_LEVELS_MAX, 1);
	s2_batch_note_broken(batch, c.slot, table);
	return S2_FOLDED;
}

void s2_report_region(struct s2_collapsed *report, u64 at, enum s2_why why)
{
	report->count[why]++;
	if (why != S2_FOLDED && why != S2_LARGE_ALREADY) {
		report->last_refused = gpa(at);
		report->why = why;
	}
}

/* With the space's lock, which is dropped for others from time to time (I7). */
static enum status collapse_regions(struct s2 *s2, u64 at, u64 end, unsigned level,
				    struct s2_batch *batch, struct s2_collapsed *report)
{
	u64 span = s2_span(s2->format, level), cost = s2_table_entries(s2->format);

	for (u64 i = 1; at + span <= end; at += span, i++) {
		if (batch->budget < cost) {
			batch->next = at;
			return MORE;
		}
		batch->budget -= cost;
		s2_report_region(report, at,
				 s2_is_on_loan(s2, at, at + 1) ? S2_IS_LINKED
							       : fold_region(s2, at, level, batch));
		if (i % STEP_REGIONS == 0) {
			lock_drop(&s2->lock);
			lock_take(&s2->lock);
		}
	}
	batch->next = end;
	return OK;
}

enum status s2_collapse(struct s2 *s2, gpa_t at, u64 size, unsigned level, struct s2_batch *batch,
			struct s2_collapsed *report)
{
	const struct s2_format *f = s2->format;
	enum status status;

	*report = (struct s2_collapsed){.why = S2_FOLDED};
	if (!s2_range_is_valid(s2, at, size) || level == 0 || level >= S2_LEVELS_MAX) {
		return INVALID;
	}
	if (level > s2->root_level || !s2_level_may_be_leaf(f, level)) {
		batch->next = at.v + size;
		s2_report_region(report, at.v, S2_NO_SUCH_LEAF);
		return OK;
	}
	lock_take(&s2->lock);
	status = collapse_regions(s2, align_up(at.v, s2_span(f, level)), at.v + size, level, batch,
				  report);
	lock_drop(&s2->lock);
	return status;
}

/* ---- The close ----------------------------------------------------------------------------- */

void s2_fold_finish(struct s2_batch *batch, u64 *slot, u64 broken)
{
	struct s2 *s2 = batch->s2;
	const struct s2_format *f = s2->format;
	u64 payload = s2_absent_payload(f, broken), flags, leaf;
	u64 *table = s2_lead_table(payload);
	unsigned level = s2_lead_level(payload);

	if (s2_judge_leaves(s2, table, s2_table_entries(f), level - 1, &flags) != S2_FOLDED) {
		s2_slot_mend(s2, slot, broken, s2_link_entry(s2, table));
		atomic_add(&s2->stats.collapses_undone, 1);
		return;
	}
	leaf = s2_leaf_entry(f, s2_entry_hpa(f, table[0]), f->decode(table[0], level > 1), level);
	s2_slot_mend(s2, slot, broken, (leaf & ~flags_of(f)) | (flags & ~f->contiguous));
	s2_parts_join(s2, table[0], level);
	s2_count_leaves(s2, level - 1, -(s64)s2_table_entries(f));
	s2_count_leaves(s2, level, 1);
	atomic_add(&s2->stats.collapses, 1);
	s2_table_free(s2, table);
}
