/*
 * The manager's range operations: each decides under the space's lock, with all that can fail done
 * before the first visible change (I3), and then does, in steps that bound how long the lock is
 * held (I7). Stage-2 faults run beside them at any time; see s2_fault.c.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

#include <arch/s2.h>

/* Leaf tables that one hold of the lock may go through. */
#define STEP_TABLES 64

/* ---- Life ---------------------------------------------------------------------------------- */

/* The lowest level whose table, put side by side as often as the format allows, covers the space.
 */
static unsigned choose_root_level(const struct s2_format *f, unsigned ipa_bits, unsigned *tables)
{
	for (unsigned level = 1; level < f->levels; level++) {
		unsigned covered = f->page_shift + (level + 1) * f->index_bits;
		unsigned extra = ipa_bits > covered ? ipa_bits - covered : 0;

		if (BIT(extra) <= f->root_tables_max) {
			*tables = 1u << extra;
			return level;
		}
	}
	return S2_LEVELS_MAX;
}

static u64 *alloc_root(struct s2 *s2, unsigned tables)
{
	hpa_t root = frame_alloc(__builtin_ctz(tables), FRAME_TABLE, s2->owner);

	if (hpa_is_none(root)) {
		return NULL;
	}
	for (u64 i = 0; i < tables * s2_table_entries(s2->format); i++) {
		((u64 *)hpa_ptr(root))[i] = s2->format->empty;
	}
	arch_s2_publish_table(hpa_ptr(root), tables * PAGE_SIZE);
	atomic_add(&s2->stats.tables, tables);
	return hpa_ptr(root);
}

enum status s2_init(struct s2 *s2, const struct s2_format *format, unsigned ipa_bits, u16 owner)
{
	unsigned tables;
	unsigned root_level = choose_root_level(format, ipa_bits, &tables);

	unsigned widest = format->page_shift + format->levels * format->index_bits;

	if (root_level == S2_LEVELS_MAX || ipa_bits > widest ||
	    ipa_bits < format->page_shift + format->index_bits) {
		return INVALID;
	}
	*s2 = (struct s2){
		.format = format,
		.ipa_bits = ipa_bits,
		.root_level = root_level,
		.owner = owner,
		.generation = 1,
		.flush_generation = 1,
	};
	s2->root = alloc_root(s2, tables);
	return s2->root ? OK : NOMEM;
}

void s2_destroy(struct s2 *s2)
{
	struct s2_batch batch;

	s2_batch_open(&batch, s2);
	check(s2_unmap(s2, gpa(0), BIT(s2->ipa_bits), &batch) == OK);
	s2_batch_close(&batch);
	frame_put(ptr_hpa(s2->root));
	s2->root = NULL;
	s2->stats.tables = 0;
}

static bool range_is_valid(const struct s2 *s2, gpa_t at, u64 size)
{
	return size > 0 && is_aligned(at.v | size, s2_span(s2->format, 0)) && at.v + size > at.v &&
	       at.v + size <= BIT(s2->ipa_bits);
}

/* ---- Split --------------------------------------------------------------------------------- */

/* Fills `table` with leaves that together translate as the cursor's leaf does. */
static void fill_from_leaf(const struct s2_cursor *c, u64 *table)
{
	const struct s2_format *f = c->format;
	unsigned level = c->level - 1;
	u64 accessed = c->entry & f->accessed;
	struct s2_attr attr = f->decode(c->entry);
	u64 first = s2_leaf_entry(f, s2_entry_hpa(f, c->entry), attr, level);

	first = (first & ~f->accessed) | accessed;
	for (u64 i = 0; i < s2_table_entries(f); i++) {
		table[i] = first + i * s2_span(f, level);
	}
}

/* References are counted per block, and each smaller leaf now holds one of its own. */
static void split_frames(const struct s2_format *f, hpa_t first, unsigned level)
{
	struct frame *frame = frame_of(first);
	unsigned order = s2_level_order(f, level);

	if (frame && frame->type != FRAME_DEVICE && frame->order > order) {
		frame_split(frame_hpa(frame), order);
	}
}

/*
 * The space's lock is held, so this must not wait for a place among the open batches, whose owners
 * may be waiting for the lock. It needs none: nothing here is in transit, and nothing is freed.
 */
static void flush_entry(struct s2_cursor *c)
{
	struct s2_batch batch = {.s2 = c->s2};

	s2_batch_note_range(&batch, gpa(align_down(c->gpa.v, s2_span(c->format, c->level))),
			    s2_span(c->format, c->level), c->level);
	s2_batch_flush(&batch);
}

/*
 * Break-before-make (DDI 0487, D8.14.1): the leaf goes, every TLB forgets it, the table comes. A
 * fault in between finds BROKEN and looks again. Accessed bits that hardware sets before the break
 * fail the swap, and the table is filled anew.
 */
static void split_leaf(struct s2_cursor *c, u64 *table)
{
	const struct s2_format *f = c->format;
	unsigned below = c->level - 1;
	u64 old;

	do {
		old = c->entry;
		fill_from_leaf(c, table);
	} while (!s2_entry_set(c, s2_absent_entry(f, S2_BROKEN, 0), NULL));
	split_frames(f, s2_entry_hpa(f, old), below);
	s2_entry_count_filled(c->s2, table, below);
	arch_s2_publish_table(table, PAGE_SIZE);
	flush_entry(c);
	check(s2_entry_set(c, s2_table_entry(f, table), NULL));
	atomic_add(&c->s2->stats.splits, 1);
}

/* Splits what contains `at` down to `level`; the reserve has what is needed. */
static void split_to_level(struct s2 *s2, gpa_t at, unsigned level, struct s2_reserve *reserve)
{
	struct s2_cursor c;

	s2_cursor_start(&c, s2, at);
	s2_cursor_descend(&c, level);
	while (c.level > level && s2_entry_is_leaf(c.format, c.entry, c.level)) {
		split_leaf(&c, s2_reserve_take(s2, reserve));
		s2_cursor_descend(&c, level);
	}
}

/* How many tables split_to_level needs here; ~0 when there is no leaf. */
static u64 split_cost(struct s2 *s2, gpa_t at, unsigned level)
{
	struct s2_leaf leaf = s2_query(s2, at);

	if (leaf.kind != S2_LEAF) {
		return ~0ull;
	}
	return leaf.level > level ? leaf.level - level : 0;
}

enum status s2_split(struct s2 *s2, gpa_t at, unsigned level, struct s2_batch *batch)
{
	struct s2_reserve reserve = {0};
	enum status status = OK;
	u64 cost;

	(void)batch; /* each block is invalidated between break and make, so nothing is left to do
		      */
	if (at.v >> s2->ipa_bits || level > s2->root_level ||
	    !s2_level_may_be_leaf(s2->format, level)) {
		return INVALID;
	}
	lock_take(&s2->lock);
	cost = split_cost(s2, at, level);
	if (cost == ~0ull) {
		status = NOENT;
	} else if (!s2_reserve_fill(s2, &reserve, cost)) {
		status = NOMEM;
	} else {
		split_to_level(s2, at, level, &reserve);
	}
	lock_drop(&s2->lock);
	s2_reserve_drop(s2, &reserve);
	return status;
}

/* ---- Map ----------------------------------------------------------------------------------- */

struct map_job {
	struct s2 *s2;
	u64 start, at, end; /* guest-physical */
	u64 offset;	    /* host-physical = guest-physical + offset, modulo 2^64 */
	struct s2_attr attr;
	enum s2_if_mapped if_mapped;
	struct s2_reserve reserve;
};

static unsigned largest_level(const struct map_job *job, u64 at)
{
	const struct s2_format *f = job->s2->format;
	unsigned level = job->s2->root_level;

	while (level > 0 && !(s2_level_may_be_leaf(f, level) &&
			      is_aligned(at | (at + job->offset), s2_span(f, level)) &&
			      at + s2_span(f, level) <= job->end)) {
		level--;
	}
	return level;
}

/*
 * Stands the cursor at the deepest entry for `at`; returns the level that a leaf is to have there:
 * the largest that alignment allows, but a table that is already there stays, empty or not, and
 * gets smaller ones. So the cursor is at that level, or above it where tables are missing.
 */
static unsigned map_place(const struct map_job *job, struct s2_cursor *c, u64 at)
{
	unsigned level = largest_level(job, at);

	s2_cursor_start(c, job->s2, gpa(at));
	s2_cursor_descend(c, 0);
	return c->level < level ? c->level : level;
}

/* OK where something can be put. */
static enum status map_obstacle(const struct s2_cursor *c)
{
	if (s2_entry_is_free(c->s2, c->entry)) {
		return OK;
	}
	switch (s2_entry_kind(c->format, c->entry, c->level)) {
	case S2_TRANSIT:
	case S2_BROKEN:
	case S2_POISON:
		return AGAIN;
	default:
		return EXISTS;
	}
}

static u64 entry_end(const struct s2_cursor *c)
{
	u64 span = s2_span(c->format, c->level);

	return align_down(c->gpa.v, span) + span;
}

/*
 * Up to where free places for leaves of `level` go on: a larger one may fit at the next larger
 * boundary, and only smaller ones in what is left behind the last whole one.
 */
static u64 run_end(const struct map_job *job, const struct s2_cursor *c, unsigned level)
{
	const struct s2_format *f = job->s2->format;
	u64 span = s2_span(f, level), larger = s2_span(f, level + 1), at = c->gpa.v;
	u64 end = min_u64(align_down(job->end, span), align_down(at, larger) + larger);

	if (c->level > level) {
		return end;
	}
	for (u64 *slot = c->slot; at < end; at += span, slot++) {
		if (!s2_entry_is_free(c->s2, load_relaxed(slot))) {
			break;
		}
	}
	return at;
}

/* Counts the tables that are missing, and finds out what is in the way. */
static enum status map_plan(const struct map_job *job, u64 *tables)
{
	u64 counted_to[S2_LEVELS_MAX] = {0};
	u64 next;

	*tables = 0;
	for (u64 at = job->start; at < job->end; at = next) {
		struct s2_cursor c;
		unsigned level = map_place(job, &c, at);
		enum status status = map_obstacle(&c);

		if (status == EXISTS && job->if_mapped == S2_SKIP) {
			next = entry_end(&c);
			continue;
		}
		if (status != OK) {
			return status;
		}
		next = run_end(job, &c, level);
		for (unsigned l = level + 1; l <= c.level; l++) {
			if (at >= counted_to[l]) {
				(*tables)++;
				counted_to[l] =
					align_down(at, s2_span(c.format, l)) + s2_span(c.format, l);
			}
		}
	}
	return OK;
}

/* Links a table from the reserve; a fault may have been faster, which is as good. */
static void map_grow(struct map_job *job, struct s2_cursor *c)
{
	u64 *table = s2_reserve_take(job->s2, &job->reserve);

	check(table);
	if (!s2_entry_set(c, s2_table_entry(c->format, table), NULL)) {
		s2_reserve_give(&job->reserve, table);
	}
}

/* Puts one leaf at job->at; false when a fault put something there. The cursor is where it looked.
 */
static bool map_step(struct map_job *job, struct s2_cursor *c)
{
	for (;;) {
		unsigned level = map_place(job, c, job->at);
		enum status status = map_obstacle(c);

		/* Only range operations put what is to be looked at again, and the lock is ours. */
		check(status != AGAIN);
		if (status != OK) {
			return false;
		}
		if (c->level > level) {
			map_grow(job, c);
		} else if (s2_entry_set(c,
					s2_leaf_entry(c->format, hpa(job->at + job->offset),
						      job->attr, level),
					NULL)) {
			return true;
		}
	}
}

/* Replaces every leaf in [start, at), which are all this job's, and what break_leaves() made of
 * them. */
static void map_replace(struct map_job *job, u64 entry, struct s2_batch *batch)
{
	struct s2_cursor c;

	for (u64 at = job->start; at < job->at; at = entry_end(&c)) {
		s2_cursor_start(&c, job->s2, gpa(at));
		s2_cursor_descend(&c, 0);
		while (!s2_entry_set(&c, entry, NULL)) {
		}
		if (batch) {
			s2_batch_note_range(batch, c.gpa, s2_span(c.format, c.level), c.level);
		}
	}
}

/* A fault was faster than the commit: what this job mapped goes, and its frames stay the caller's.
 * Empty tables may stay. */
static void map_undo(struct map_job *job)
{
	const struct s2_format *f = job->s2->format;
	struct s2_batch batch = {.s2 = job->s2}; /* no place of its own: see flush_entry() */

	map_replace(job, s2_absent_entry(f, S2_BROKEN, 0), &batch);
	s2_batch_flush(&batch);
	map_replace(job, f->empty, NULL);
}

/* References are counted per block, and each leaf now holds one: so no block may be larger than its
 * leaf. Last of all, because a job that is undone leaves the caller's blocks as they were. */
static void map_split_frames(const struct map_job *job)
{
	struct s2_cursor c;

	for (s2_cursor_start(&c, job->s2, gpa(job->start)); c.gpa.v < job->end;
	     s2_cursor_side(&c)) {
		hpa_t a = hpa(c.gpa.v + job->offset);

		s2_cursor_descend(&c, 0);
		if (s2_entry_is_leaf(c.format, c.entry, c.level) &&
		    s2_entry_hpa(c.format, c.entry).v == a.v) {
			split_frames(c.format, a, c.level);
		}
	}
}

static enum status map_commit(struct map_job *job)
{
	struct s2_cursor c;

	for (job->at = job->start; job->at < job->end; job->at = entry_end(&c)) {
		if (!map_step(job, &c) && job->if_mapped == S2_ERROR) {
			map_undo(job);
			return EXISTS;
		}
	}
	map_split_frames(job);
	return OK;
}

/* Frames outside the frame table are nobody's, so any guest's. */
bool s2_memory_is_mappable(hpa_t first, u64 size)
{
	for (u64 done = 0; done < size;) {
		struct frame *f = frame_of(hpa_add(first, done));

		if (!f) {
			done += PAGE_SIZE;
			continue;
		}
		if (f->type != FRAME_GUEST && f->type != FRAME_SHARED && f->type != FRAME_DEVICE) {
			return false;
		}
		done = frame_hpa(f).v + order_bytes(f->order) - first.v;
	}
	return true;
}

enum status s2_map(struct s2 *s2, gpa_t at, hpa_t a, u64 size, struct s2_attr attr,
		   enum s2_if_mapped if_mapped)
{
	struct map_job job = {.s2 = s2,
			      .start = at.v,
			      .end = at.v + size,
			      .offset = a.v - at.v,
			      .attr = attr,
			      .if_mapped = if_mapped};
	enum status status;
	u64 tables;

	if (!range_is_valid(s2, at, size) || !is_aligned(a.v, s2_span(s2->format, 0)) ||
	    a.v + size < a.v || ((a.v + size - 1) & ~(s2->format->address | BITS(11, 0))) != 0) {
		return INVALID;
	}
	if (!s2_memory_is_mappable(a, size)) {
		return DENIED;
	}
	lock_take(&s2->lock);
	status = map_plan(&job, &tables);
	if (status == OK) {
		status = s2_reserve_fill(s2, &job.reserve, tables) ? map_commit(&job) : NOMEM;
	}
	lock_drop(&s2->lock);
	s2_reserve_drop(s2, &job.reserve);
	return status;
}

/* ---- Unmap --------------------------------------------------------------------------------- */

/* A range's end that may lie inside a leaf. */
struct edge {
	u64 at;
	unsigned from, to; /* the leaf's level, and the one to split down to; the same: no split */
};

static struct edge edge_at(struct s2 *s2, u64 at)
{
	const struct s2_format *f = s2->format;
	struct edge edge = {.at = at};
	struct s2_leaf leaf;

	if (at >> s2->ipa_bits) {
		return edge;
	}
	leaf = s2_query(s2, gpa(at));
	if (leaf.kind != S2_LEAF) {
		return edge;
	}
	edge.from = edge.to = leaf.level;
	while (!is_aligned(at, s2_span(f, edge.to)) || !s2_level_may_be_leaf(f, edge.to)) {
		edge.to--;
	}
	return edge;
}

/* Tables for both edges; what the first splits on its way, the second need not. */
static u64 edges_cost(const struct s2_format *f, const struct edge *first,
		      const struct edge *second)
{
	u64 cost = first->from - first->to;

	for (unsigned level = second->to + 1; level <= second->from; level++) {
		bool is_shared = level > first->to && level <= first->from &&
				 (first->at ^ second->at) < s2_span(f, level);

		cost += is_shared ? 0 : 1;
	}
	return cost;
}

/* Makes both ends of the range lie between leaves; all or nothing. */
static enum status split_edges(struct s2 *s2, u64 start, u64 end)
{
	struct edge first = edge_at(s2, start), second = edge_at(s2, end);
	struct s2_reserve reserve = {0};

	if (!s2_reserve_fill(s2, &reserve, edges_cost(s2->format, &first, &second))) {
		return NOMEM;
	}
	if (first.from > first.to) {
		split_to_level(s2, gpa(start), first.to, &reserve);
	}
	if (second.from > second.to) {
		split_to_level(s2, gpa(end), second.to, &reserve);
	}
	s2_reserve_drop(s2, &reserve);
	return OK;
}

/* Tables around `at` that became empty go, from the leaf up. */
static void retire_empty_tables(struct s2 *s2, u64 at, struct s2_batch *batch)
{
	const struct s2_format *f = s2->format;
	struct s2_cursor c;

	s2_cursor_start(&c, s2, gpa(at));
	s2_cursor_descend(&c, 1);
	if (!s2_entry_is_table(f, c.entry, c.level) && c.level < s2->root_level) {
		s2_cursor_up(&c);
	}
	while (s2_entry_is_table(f, c.entry, c.level) && s2_table_retire_if_empty(&c, batch) &&
	       c.level < s2->root_level) {
		s2_cursor_up(&c);
	}
}

/* Does the entry lie within [start, end)? A leaf that sticks out was mapped after the edges were
 * split: it counts as mapped after this operation. */
static bool entry_is_within(const struct s2_cursor *c, u64 start, u64 end)
{
	u64 span = s2_span(c->format, c->level);
	u64 first = align_down(c->gpa.v, span);

	return first >= start && first + span <= end;
}

/* Clears what lies in [start, end) from `at` on, for one step; returns where it came to. */
static u64 unmap_step(struct s2 *s2, u64 start, u64 at, u64 end, struct s2_batch *batch)
{
	const struct s2_format *f = s2->format;
	u64 step_end = min_u64(end, align_down(at, s2_span(f, 1)) + STEP_TABLES * s2_span(f, 1));
	u64 transit = s2_absent_entry(f, S2_TRANSIT, batch->generation);
	struct s2_cursor c;

	s2_cursor_start(&c, s2, gpa(at));
	while (c.gpa.v < step_end) {
		u64 here = c.gpa.v;
		unsigned level = c.level;

		if (s2_entry_is_table(f, c.entry, c.level)) {
			if (c.level > 1 || !entry_is_within(&c, start, end)) {
				s2_cursor_down(&c);
				continue;
			}
			if (!s2_table_retire(&c, batch)) {
				continue;
			}
		} else if (s2_entry_is_leaf(f, c.entry, c.level) &&
			   entry_is_within(&c, start, end) && !s2_entry_set(&c, transit, batch)) {
			continue;
		}
		s2_cursor_side(&c);
		if ((c.level > level || c.gpa.v >= step_end) && level < s2->root_level) {
			retire_empty_tables(s2, here, batch);
			if (c.gpa.v < step_end) {
				s2_cursor_start(&c, s2, c.gpa);
			}
		}
	}
	return c.gpa.v;
}

enum status s2_unmap(struct s2 *s2, gpa_t at, u64 size, struct s2_batch *batch)
{
	u64 end = at.v + size;
	enum status status;

	if (!range_is_valid(s2, at, size)) {
		return INVALID;
	}
	lock_take(&s2->lock);
	status = split_edges(s2, at.v, end);
	for (u64 next = at.v; status == OK && next < end;) {
		next = unmap_step(s2, at.v, next, end, batch);
		lock_drop(&s2->lock);
		lock_take(&s2->lock);
	}
	lock_drop(&s2->lock);
	return status;
}
