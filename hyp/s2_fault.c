/*
 * What a stage-2 fault does to the table: put one leaf, or mark one accessed. No lock; any number
 * of CPUs at once, beside range operations. The loser of a race gives its table back and looks
 * again.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

/* I4: a guest may be given its frames and devices, never Lamina's frames or tables. Mostly the leaf
 * is one block. */
static bool leaf_is_mappable(const struct s2_format *f, hpa_t a, unsigned level)
{
	const struct frame *frame = frame_at(a);

	if (likely(frame && frame->type == FRAME_GUEST &&
		   frame->order >= s2_level_order(f, level))) {
		return true;
	}
	return s2_memory_is_mappable(a, s2_span(f, level));
}

/* An empty table takes the place of an empty entry. False: no memory for it. */
static bool grow_down(struct s2_cursor *c)
{
	u64 *table = s2_table_alloc(c->s2);

	if (!table) {
		return false;
	}
	if (!s2_entry_set(c, s2_table_entry(c->format, table), NULL)) {
		s2_table_free(c->s2, table);
	}
	return true;
}

/* Walks to `level`, making tables on the way. OK: the cursor stands on a free entry of that level.
 */
static enum status reach_free_entry(struct s2_cursor *c, unsigned level)
{
	for (;;) {
		s2_cursor_descend(c, level);
		switch (s2_entry_kind(c->format, c->entry, c->level)) {
		case S2_LEAF:
		case S2_TABLE:
			return EXISTS;
		case S2_BROKEN:
		case S2_POISON:
			return AGAIN;
		default:
			break;
		}
		if (!s2_entry_is_free(c->s2, c->entry)) {
			return AGAIN;
		}
		if (c->level == level) {
			return OK;
		}
		if (!grow_down(c)) {
			return NOMEM;
		}
	}
}

static enum status map_leaf(struct s2_cursor *c, unsigned level, u64 entry)
{
	for (;;) {
		enum status status = reach_free_entry(c, level);

		if (status != OK) {
			return status;
		}
		if (s2_entry_set(c, entry, NULL)) {
			return OK;
		}
		atomic_add(&c->s2->stats.map_races, 1);
	}
}

enum status s2_map_leaf(struct s2 *s2, gpa_t at, unsigned level, hpa_t a, struct s2_attr attr)
{
	const struct s2_format *f = s2->format;
	u64 span = s2_span(f, level);
	struct s2_cursor c;
	u64 outer;
	enum status status;

	if (level > s2->root_level || !s2_level_may_be_leaf(f, level) ||
	    !is_aligned(at.v | a.v, span) || at.v >> s2->ipa_bits || (a.v & ~f->address) != 0) {
		return INVALID;
	}
	if (!leaf_is_mappable(f, a, level)) {
		return DENIED;
	}
	outer = s2_walk_begin(s2);
	s2_cursor_start(&c, s2, at);
	status = map_leaf(&c, level, s2_leaf_entry(f, a, attr, level));
	s2_walk_end(s2, outer);
	return status;
}

enum status s2_mark_accessed(struct s2 *s2, gpa_t at)
{
	enum status status = NOENT;
	struct s2_cursor c;
	u64 outer;

	if (at.v >> s2->ipa_bits) {
		return NOENT;
	}
	outer = s2_walk_begin(s2);
	s2_cursor_start(&c, s2, at);
	s2_cursor_descend(&c, 0);
	if (s2_entry_is_leaf(c.format, c.entry, c.level)) {
		/* No flush: no TLB holds an entry whose accessed flag is clear (DDI 0487, D8.5.1).
		 */
		status = s2_entry_set(&c, c.entry | c.format->accessed, NULL) ? OK : AGAIN;
	}
	s2_walk_end(s2, outer);
	return status;
}
