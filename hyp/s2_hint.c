/*
 * The contiguous hint (DDI 0487, D8.7): neighbours in one table that translate as one larger leaf
 * would may say so, and a TLB then holds all of such a group by one entry. Which groups there are
 * is the format's to say; a format without the bit has none.
 *
 * A group has the hint as a whole or not at all, and while it has it all of it is alike, flags
 * aside. So who changes a part of it takes the hint away first (s2_hint_unfold); and what faults do
 * without the lock never changes a leaf that has it, but for setting accessed. The use of any part
 * sets one entry's flag, whichever hardware likes: it counts for all of the group, and goes to each
 * leaf when the hint goes.
 *
 * To change the hint is to change the size of what a TLB holds: break-before-make (D8.14.1). What
 * is broken is the entry that leads to the group's table, so that one write and one invalidation
 * serve all groups in it, and no walker ever sees half of one:
 *
 *     entry ---> table        BROKEN - - -> table        entry ---> table
 *                                invalidated; then hints change
 *
 * All of that is over before the lock is dropped, and no batch has to do with it: what is done to
 * the leaves afterwards finds plain ones. Faults that come in between come again. Where the CPU
 * allows sizes to change (S2_SIZE_CHANGE) nothing is invalidated: what reaches any address of a
 * group's entry in a TLB reaches that entry.
 *
 * A fault that was in the table before it was cut off may still claim a leaf, but none that has the
 * hint: so a group is judged again when all of it has it, and what is good then stays so.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

/*
 * Hardware does not come to the cursor's table any more, and has forgotten it: the cursor goes up
 * to the entry that leads there. False: that was cut off before, by who is to link it again. Walks
 * are not waited for, as software in the table changes entries by compare-and-swap.
 */
static bool cut_off(struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	struct s2_batch batch = {.s2 = c->s2};
	bool cut = false;

	s2_cursor_up(c);
	while (!cut && s2_entry_is_table(f, c->entry, c->level)) {
		u64 *table = s2_entry_table(f, c->entry);

		cut = s2_entry_set(c, s2_leading_entry(f, S2_BROKEN, table, c->level, false), NULL);
	}
	if (!(c->s2->traits & S2_SIZE_CHANGE)) {
		s2_batch_note_range(&batch, gpa(s2_cursor_first(c)), s2_span(f, c->level),
				    S2_LEVELS_MAX, 1);
		/* Who comes to depend on the space sees the cut, or we see that it does. */
		fence_full();
		s2_epoch_flush(&batch);
	}
	return cut;
}

/* All of the group gets the hint, and is dirty if any of it was; or loses it, and counts as used if
 * any of it was. */
static void set_group(struct s2 *s2, u64 *slot, unsigned level, bool give)
{
	const struct s2_format *f = s2->format;
	u64 flags = give ? f->contiguous : 0, *end = slot + s2_group_entries(f, level);

	for (u64 *s = slot; s < end; s++) {
		s2_slot_clear_flag(s2, s, f->contiguous);
		flags |= load_relaxed(s) & (give ? f->dirty : f->accessed);
	}
	for (; slot < end; slot++) {
		s2_slot_set_flag(s2, slot, flags);
	}
}

/* May the group have the hint, as a whole? S2_IS_OPEN: a claim in it came and went meanwhile. */
static enum s2_why judge_group(const struct s2_cursor *c, const u64 *slot)
{
	u64 flags, group = s2_group_entries(c->format, c->level);
	enum s2_why why = s2_judge_leaves(c->s2, slot, group, c->level, &flags);

	return why == S2_FOLDED && (flags & c->format->contiguous) ? S2_IS_OPEN : why;
}

void s2_hint_change(struct s2_cursor *c, u64 count, struct s2_collapsed *report)
{
	const struct s2_format *f = c->format;
	u64 group = s2_group_entries(f, c->level), size = s2_group_span(f, c->level);
	u64 at = align_down(c->gpa.v, size), *end = c->slot + count;
	u64 *slot = c->slot - ((c->gpa.v - at) >> f->shift[c->level]);
	bool give = report != NULL, cut = false;
	struct s2_cursor way = *c;

	for (; slot < end; slot += group, at += size) {
		bool changes = s2_entry_is_hinted(f, load_relaxed(slot)) != give;
		enum s2_why why = changes && give ? judge_group(c, slot) : S2_LARGE_ALREADY;

		if (changes && (!give || why == S2_FOLDED)) {
			cut = way.level == c->level ? cut_off(&way) : cut;
			set_group(c->s2, slot, c->level, give);
			why = give ? judge_group(c, slot) : S2_FOLDED;
			if (why != S2_FOLDED) {
				set_group(c->s2, slot, c->level, false);
			}
		}
		if (give) {
			atomic_add(&c->s2->stats.hints, why == S2_FOLDED);
			s2_report_region(report, at, why);
		}
	}
	if (cut) { /* as used, since flags for what is below had no place meanwhile */
		u64 *table = s2_entry_below(f, way.entry, way.level);

		check(s2_entry_set(&way, s2_link_entry(c->s2, table), NULL));
	}
	s2_cursor_reload(c);
}

/* ---- The operations ------------------------------------------------------------------------ */

/* Leaves of `level` from `at` on in one table; or what is there instead, which is the reason that
 * all groups in it have no hint. Returns where to go on. */
static u64 change_table(struct s2 *s2, u64 at, u64 end, unsigned level, struct s2_collapsed *report)
{
	unsigned shift = s2->format->shift[level];
	u64 group = s2_group_span(s2->format, level);
	struct s2_cursor c;
	enum s2_why why;

	/* What is BROKEN for a split is linked without the lock: no hint comes into it. */
	s2_cursor_stand(&c, s2, at, report ? level + 1 : level);
	s2_cursor_descend(&c, level);
	end = min_u64(end, c.level > level ? s2_cursor_end(&c) : s2_cursor_table_end(&c));
	if (c.level == level) {
		s2_hint_change(&c, ((end - 1) >> shift) - (at >> shift) + 1, report);
	} else if (report) {
		why = s2_why_no_leaf(s2, c.entry, c.level);
		s2_report_region(report, end - group, why);
		report->count[why] += (end - at) / group - 1;
	}
	return end;
}

static enum status change_range(struct s2 *s2, u64 at, u64 end, unsigned level,
				struct s2_collapsed *report)
{
	enum status status = OK;

	while (at < end && status == OK) {
		status = s2_lock_range(s2, at, end);
		at = status == OK ? change_table(s2, at, end, level, report) : at;
		lock_drop(&s2->lock);
	}
	return status;
}

enum status s2_hint(struct s2 *s2, gpa_t at, u64 size, unsigned level, struct s2_collapsed *report)
{
	const struct s2_format *f = s2->format;
	u64 group;

	*report = (struct s2_collapsed){.why = S2_FOLDED};
	if (!s2_range_is_valid(s2, at, size) || level >= S2_LEVELS_MAX) {
		return INVALID;
	}
	if (level >= s2->root_level || s2_group_entries(f, level) == 1) {
		s2_report_region(report, at.v, S2_NO_SUCH_LEAF);
		return OK;
	}
	store_relaxed(&s2->hinted, true);
	group = s2_group_span(f, level);
	return change_range(s2, align_up(at.v, group), align_down(at.v + size, group), level,
			    report);
}

enum status s2_unhint(struct s2 *s2, gpa_t at, u64 size)
{
	enum status status = s2_range_is_valid(s2, at, size) ? OK : INVALID;

	for (unsigned level = 0; level < s2->root_level && status == OK; level++) {
		status = change_range(s2, at.v, at.v + size, level, NULL);
	}
	return status;
}
