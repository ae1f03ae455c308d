/*
 * A leaf becomes a table of smaller leaves that translate alike.
 *
 * Break-before-make (DDI 0487, D8.14.1), spread over a batch so that many splits share one round of
 * invalidation: the table is filled out of sight, the leaf makes place for a BROKEN entry that
 * leads to it, and when the batch is closed, after the invalidation, the table becomes real.
 * Holders of the space's lock see through BROKEN and may go on below it at once; a fault waits for
 * the close.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

/* Leaves that together translate as `leaf` does, with its marks. */
void s2_parts_fill(struct s2 *s2, u64 leaf, unsigned level, u64 *table)
{
	const struct s2_format *f = s2->format;
	u64 marks = f->accessed | f->dirty | f->log | f->cow;
	struct s2_attr attr = f->decode(leaf, true);
	u64 first = s2_leaf_entry(f, s2_entry_hpa(f, leaf), attr, level - 1);

	first = (first & ~marks) | (leaf & marks);
	s2_table_fill(s2, table, 0, s2_table_entries(f), first, s2_span(f, level - 1));
}

/* Hardware sees nothing in the whole nor in its parts, so nothing is broken. False: a fault has
 * put a leaf there. */
static bool split_typed(struct s2_cursor *c, u64 *table)
{
	s2_table_fill(c->s2, table, 0, s2_table_entries(c->format), c->entry, 0);
	return s2_entry_set(c, s2_table_entry(c->format, table), NULL);
}

/* ---- References ---------------------------------------------------------------------------- */

/*
 * References are counted per block of frames, and each leaf holds one to every block it lies in. So
 * nothing changes for blocks that are no larger than a part. A larger one that lies in the leaf,
 * and that the leaf alone holds, is divided; any other is kept, and has a reference of each part.
 */
static void share_block(struct s2 *s2, struct frame *frame, u64 parts, unsigned order)
{
	if (BIT(frame->order) == parts << order && load_acquire(&frame->refs) == 1) {
		frame_split(frame_hpa(frame), order);
		return;
	}
	for (; parts > 1; parts--) {
		frame_get(frame_hpa(frame));
	}
	store_relaxed(&s2->undivided, true);
}

/* For each block of frames that lies in the leaf, of `level`, and is larger than its parts. */
static void recount(struct s2 *s2, u64 leaf, unsigned level, bool join)
{
	const struct s2_format *f = s2->format;
	u64 part = s2_span(f, level - 1), at = s2_entry_hpa(f, leaf).v, parts;
	u64 end = s2_lies_in_ram(hpa(at), s2_span(f, level)) ? at + s2_span(f, level) : at;

	for (u64 next; at < end; at = next) {
		struct frame *frame = frame_of(hpa(at));

		next = at + part;
		if (!frame || order_bytes(frame->order) <= part || frame->type == FRAME_DEVICE) {
			continue;
		}
		next = min_u64(end, frame_hpa(frame).v + order_bytes(frame->order));
		parts = (next - at) / part;
		if (!join) {
			share_block(s2, frame, parts, s2_level_order(f, level - 1));
		}
		for (; join && parts > 1; parts--) {
			frame_put(frame_hpa(frame));
		}
	}
}

void s2_parts_share(struct s2 *s2, u64 leaf, unsigned level)
{
	recount(s2, leaf, level, false);
}

void s2_parts_join(struct s2 *s2, u64 part, unsigned level)
{
	if (load_relaxed(&s2->undivided)) {
		recount(s2, part, level, true);
	}
}

/* ---- One leaf ------------------------------------------------------------------------------ */

/* A leaf whose write is withheld for its frame's other holders is never split at once: a fault that
 * saw a part before its reference was counted would take the frame for its own. */
static bool splits_at_once(const struct s2_cursor *c)
{
	return (c->s2->traits & S2_SIZE_CHANGE) && !(c->entry & c->format->cow);
}

bool s2_split_leaf(struct s2_cursor *c, u64 *table, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	struct s2 *s2 = c->s2;
	u64 link, old;
	bool at_once;

	s2_hint_unfold(c, 1);
	for (;;) {
		old = c->entry;
		if (s2_entry_is_typed(f, old)) {
			return split_typed(c, table);
		}
		if (!s2_entry_is_leaf(f, old, c->level)) {
			return false;
		}
		at_once = splits_at_once(c);
		link = at_once ? s2_link_entry(s2, table)
			       : s2_leading_entry(f, S2_BROKEN, table, c->level, false);
		s2_parts_fill(s2, old, c->level, table);
		if (s2_slot_break(s2, c->slot, old, link)) {
			break;
		}
		s2_cursor_reload(c); /* hardware set a flag, or a fault claims the leaf */
	}
	s2_parts_share(s2, old, c->level);
	s2_count_leaves(s2, c->level, -1);
	s2_count_leaves(s2, c->level - 1, (s64)s2_table_entries(f));
	s2_batch_note_range(batch, gpa(s2_cursor_first(c)), s2_span(f, c->level), c->level, 1);
	if (!at_once) {
		s2_batch_note_broken(batch, c->slot, table);
	}
	c->entry = link;
	atomic_add(&s2->stats.splits, 1);
	return true;
}

bool s2_split_here(struct s2_cursor *c, struct s2_reserve *reserve, struct s2_batch *batch)
{
	u64 *table = s2_reserve_take(c->s2, reserve);

	if (table && !s2_split_leaf(c, table, batch)) {
		s2_reserve_give(reserve, table);
	}
	return table != NULL;
}

/* ---- The operations ------------------------------------------------------------------------ */

static bool can_split_to(const struct s2 *s2, unsigned level)
{
	return level <= s2->root_level && s2_level_may_be_leaf(s2->format, level);
}

enum status s2_split(struct s2 *s2, gpa_t at, unsigned level, struct s2_batch *batch)
{
	struct s2_reserve reserve = {0};
	enum status status;
	struct s2_cursor c;

	if (at.v >> s2->ipa_bits || !can_split_to(s2, level)) {
		return INVALID;
	}
	status = s2_lock_range(s2, at.v, at.v + 1);
	s2_cursor_stand(&c, s2, at.v, 0);
	if (status == OK && !s2_entry_is_leaf(c.format, c.entry, c.level) &&
	    !s2_entry_is_typed(c.format, c.entry)) {
		status = NOENT;
	}
	if (status == OK && c.level > level && !s2_reserve_fill(s2, &reserve, c.level - level)) {
		status = NOMEM;
	}
	while (status == OK && c.level > level) {
		s2_split_here(&c, &reserve, batch);
		s2_cursor_descend_all(&c, level);
	}
	lock_drop(&s2->lock);
	s2_reserve_drop(s2, &reserve);
	return status;
}

/* The engine has split what is too large: that was all. */
static void run_nothing(unused struct s2_cursor *c, unused u64 count, unused struct s2_job *job)
{
}

enum status s2_split_range(struct s2 *s2, gpa_t at, u64 size, unsigned level,
			   struct s2_batch *batch)
{
	struct s2_job job = s2_job_of(s2, at, size, run_nothing, batch);

	job.level_max = level;
	return can_split_to(s2, level) ? s2_range_run(&job) : INVALID;
}
