/*
 * The engine of range operations, and the two plain ones: unmap and protect.
 *
 * What can fail comes first (I3): leaves that stick out at the range's two ends are split with
 * tables that were laid in before. Then come runs of entries in one table, in steps: after so many
 * entries the lock is dropped for others who wait (I7). What they changed meanwhile is found by
 * walking anew.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

/* Entries that one hold of the lock may go through. */
#define STEP_ENTRIES 32768

/* ---- The two ends -------------------------------------------------------------------------- */

/* Leaves are divided where the range ends inside them, and typed entries where it forgets them. */
static bool is_divisible(const struct s2_job *job, const struct s2_cursor *c)
{
	return s2_entry_is_leaf(c->format, c->entry, c->level) ||
	       (job->retire && s2_entry_is_typed(c->format, c->entry));
}

/* A range's end that may lie inside a leaf. */
struct edge {
	u64 at;
	unsigned from, to; /* the leaf's level, and the one to split down to; the same: no split */
	u64 first, end;	   /* the leaf */
};

static struct edge edge_at(const struct s2_job *job, struct s2_cursor *c, u64 at)
{
	struct edge edge = {.at = at};

	if (at >> c->s2->ipa_bits) {
		return edge;
	}
	s2_cursor_stand(c, c->s2, at, 0);
	edge.from = c->level;
	edge.to = is_divisible(job, c) ? s2_split_level(c, at) : c->level;
	edge.first = s2_cursor_first(c);
	edge.end = s2_cursor_end(c);
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

static void split_edge(const struct s2_job *job, struct s2_cursor *c, const struct edge *edge,
		       struct s2_reserve *reserve)
{
	if (edge->from == edge->to) {
		return;
	}
	s2_cursor_start(c, c->s2, gpa(edge->at));
	for (;;) {
		u64 *table;

		s2_cursor_descend_all(c, edge->to);
		if (c->level == edge->to || !is_divisible(job, c)) {
			return;
		}
		table = s2_reserve_take(reserve);
		if (!s2_split_leaf(c, table, job->batch)) {
			s2_reserve_give(reserve, table);
		}
	}
}

/* No memory for a split: the caller would rather lose the whole leaves than keep the range. */
static void enlarge(struct s2_job *job, const struct edge *first, const struct edge *second)
{
	if (first->from != first->to) {
		job->start = first->first;
	}
	if (second->from != second->to) {
		job->end = second->end;
	}
}

/* Both ends of the range lie between leaves afterwards; all or nothing. */
static enum status split_edges(struct s2_job *job, struct s2_cursor *c)
{
	struct edge first = edge_at(job, c, job->start), second = edge_at(job, c, job->end);
	struct s2_reserve reserve = {0};
	u64 cost = edges_cost(c->format, &first, &second);

	if (s2_reserve_fill(job->s2, &reserve, cost)) {
		split_edge(job, c, &first, &reserve);
		split_edge(job, c, &second, &reserve);
		s2_reserve_drop(job->s2, &reserve);
	} else if (job->batch->enlarge && job->retire) {
		enlarge(job, &first, &second);
	} else {
		return NOMEM;
	}
	s2_cursor_start(c, job->s2, gpa(job->start));
	return OK;
}

/* ---- Steps --------------------------------------------------------------------------------- */

void s2_retire_empty(struct s2_cursor *c, struct s2_batch *batch)
{
	while (c->level < c->s2->root_level && s2_table_live(c->table[c->level]) == 0) {
		s2_cursor_up(c);
		if (!s2_entry_below(c->format, c->entry, c->level) ||
		    !s2_table_retire_if_empty(c, batch)) {
			return;
		}
	}
}

/* The cursor stands at the first entry of a table of level 0 that lies in the range, and that
 * hardware reaches: it goes as one. False: it does not; the cursor is where it was. */
static bool retire_whole(struct s2_job *job, struct s2_cursor *c)
{
	u64 *table;

	if (!is_aligned(c->gpa.v, s2_span(c->format, 1)) || job->end < s2_cursor_table_end(c)) {
		return false;
	}
	s2_cursor_up(c);
	while ((table = s2_entry_below(c->format, c->entry, c->level)) &&
	       s2_entry_kind(c->format, c->entry, c->level) != S2_BROKEN &&
	       !s2_table_is_linked(c->s2, table)) {
		if (s2_table_retire(c, job->batch)) {
			return true;
		}
	}
	s2_cursor_descend_all(c, 0);
	return false;
}

/* To which level the leaf under the cursor has to be split; its own: not. */
static unsigned level_wanted(const struct s2_job *job, const struct s2_cursor *c)
{
	unsigned level = c->level;

	if (!is_divisible(job, c)) {
		return level;
	}
	if (level > job->level_max) {
		level = job->level_max;
	}
	if (s2_cursor_first(c) < job->start) {
		level = min_u64(level, s2_split_level(c, job->start));
	}
	if (s2_cursor_end(c) > job->end) {
		level = min_u64(level, s2_split_level(c, job->end));
	}
	return level;
}

/* How many neighbours make a run: to the end of the table, the range or the step. Above level 0
 * entries are of many kinds, so they come one by one. */
static u64 run_length(const struct s2_job *job, const struct s2_cursor *c, u64 allowance)
{
	u64 end = min_u64(job->end, s2_cursor_table_end(c));
	u64 count = (end - c->gpa.v) >> c->format->page_shift;

	return c->level > 0 ? 1 : min_u64(count, allowance);
}

/* What lies at the cursor, as far as one table goes. Returns entries gone through, 0: a split needs
 * a table, and there is none, or the run has failed. */
static u64 take_run(struct s2_job *job, struct s2_cursor *c, u64 allowance)
{
	u64 count;

	s2_cursor_descend_all(c, 0);
	while (c->level > level_wanted(job, c)) {
		u64 *table = s2_table_alloc(job->s2);

		if (!table) {
			return 0;
		}
		if (!s2_split_leaf(c, table, job->batch)) {
			s2_table_free(job->s2, table);
		}
		s2_cursor_descend_all(c, 0);
	}
	if (job->retire && c->level == 0 && retire_whole(job, c)) {
		return s2_table_entries(c->format);
	}
	count = run_length(job, c, allowance);
	/* What a fault puts into a free entry above level 0 meanwhile, a table perhaps, or a leaf
	 * that sticks out, is put there after us. */
	if (c->level == 0 || s2_entry_in_use(c->format, c->entry)) {
		job->run(c, count, job);
	}
	s2_cursor_reload(c);
	if (job->status == OK && c->level > 0 && s2_entry_below(c->format, c->entry, c->level)) {
		return take_run(job, c, allowance); /* a copy has divided the leaf meanwhile */
	}
	return job->status == OK ? count : 0;
}

/* One hold of the lock, from the cursor's address on; *at is where it came to. */
static enum status take_step(struct s2_job *job, struct s2_cursor *c, u64 *at)
{
	u64 allowance = min_u64(STEP_ENTRIES, job->batch->budget), left = allowance;

	while (*at < job->end && left > 0) {
		u64 count = take_run(job, c, left);

		if (count == 0) {
			return job->status == OK ? NOMEM : job->status;
		}
		*at = c->level == 0 ? *at + (count << c->format->page_shift) : s2_cursor_end(c);
		left -= min_u64(left, count);
		if (*at < min_u64(s2_cursor_table_end(c), job->end)) {
			c->gpa = gpa(*at);
			s2_cursor_place(c, c->level);
			continue;
		}
		if (job->retire) {
			s2_retire_empty(c, job->batch);
		}
		if (*at < job->end) {
			s2_cursor_start(c, job->s2, gpa(*at));
		}
	}
	job->batch->budget -= allowance - left;
	return *at < job->end && job->batch->budget == 0 ? MORE : OK;
}

/* Under the lock. */
static __attribute__((noinline)) enum status run_steps(struct s2_job *job)
{
	struct s2_cursor cursor = {.s2 = job->s2}, *c = &cursor;
	enum status status = job->batch->budget > 0 ? split_edges(job, c) : MORE;
	u64 at = job->start;

	while (status == OK && at < job->end) {
		status = take_step(job, c, &at);
		if (status == OK && at < job->end) {
			lock_drop(&job->s2->lock);
			lock_take(&job->s2->lock);
			status = s2_is_on_loan(job->s2, at, job->end) ? DENIED : OK;
			s2_cursor_start(c, job->s2, gpa(at));
		}
	}
	job->batch->next = at;
	return status;
}

/* The range lies in the cursor's leaf of level 1, which is split. False: it does not, or there is
 * no memory, which the long way has an answer to. */
static bool split_around(struct s2_job *job, struct s2_cursor *c)
{
	u64 *table;

	if (c->level != 1 || !s2_entry_is_leaf(c->format, c->entry, 1)) {
		return false;
	}
	table = s2_table_alloc(job->s2);
	if (!table) {
		return false;
	}
	if (!s2_split_leaf(c, table, job->batch)) {
		s2_table_free(job->s2, table);
		return false;
	}
	s2_cursor_enter(c, table);
	return true;
}

/*
 * Most ranges are short: all in one table of level 0, or in what becomes one, so one run does it.
 * False: the range is longer, or there is no such table.
 */
static inline bool run_short(struct s2_job *job)
{
	struct s2 *s2 = job->s2;
	const struct s2_format *f = s2->format;
	u64 last = job->end - 1, count = (job->end - job->start) >> f->page_shift;
	struct s2_cursor c;

	if ((job->start ^ last) >> f->shift[1] || count == s2_table_entries(f) ||
	    count > job->batch->budget) {
		return false;
	}
	s2_cursor_start(&c, s2, gpa(job->start));
	s2_cursor_descend(&c, 0);
	if (c.level > 0 && !split_around(job, &c)) {
		return false;
	}
	job->run(&c, count, job);
	if (unlikely(job->status != OK)) {
		job->batch->next = job->start;
		return true;
	}
	if (job->retire && s2_table_live(s2_slot_table(f, c.slot)) == 0) {
		s2_retire_empty(&c, job->batch);
	}
	job->batch->budget -= count;
	job->batch->next = job->end;
	return true;
}

enum status s2_range_run(struct s2_job *job)
{
	enum status status;

	if (!s2_range_is_valid(job->s2, gpa(job->start), job->end - job->start)) {
		return INVALID;
	}
	lock_take(&job->s2->lock);
	if (s2_is_on_loan(job->s2, job->start, job->end)) {
		status = DENIED;
	} else {
		status = run_short(job) ? job->status : run_steps(job);
	}
	lock_drop(&job->s2->lock);
	return status;
}

/* ---- The operations ------------------------------------------------------------------------ */

static void run_clear(struct s2_cursor *c, u64 count, struct s2_job *job)
{
	s2_run_clear(c, count, job->batch);
}

/* The page at `at` was the last of its table. */
static __attribute__((noinline)) void retire_around(struct s2 *s2, gpa_t at, struct s2_batch *batch)
{
	struct s2_cursor c;

	s2_cursor_stand(&c, s2, at.v, 0);
	s2_retire_empty(&c, batch);
}

/* One page that is mapped. False: it is not so simple. */
static inline bool unmap_page(struct s2 *s2, gpa_t at, struct s2_batch *batch)
{
	u64 *slot, entry, left = S2_NOT_CLEARED;
	unsigned level;

	if ((at.v & s2->inside[0]) || batch->budget == 0) {
		return false;
	}
	lock_take(&s2->lock);
	if (s2_walk_plain(s2, at, &level, &slot, &entry) && level == 0 &&
	    s2_entry_present(s2->format, entry)) {
		left = s2_page_clear(s2, slot, entry, at, batch);
		if (unlikely(left == 0)) {
			retire_around(s2, at, batch);
		}
	}
	lock_drop(&s2->lock);
	if (left == S2_NOT_CLEARED) {
		return false;
	}
	batch->budget--;
	batch->next = at.v + s2->inside[0] + 1;
	return true;
}

static __attribute__((noinline)) enum status unmap_range(struct s2 *s2, gpa_t at, u64 size,
							 struct s2_batch *batch)
{
	struct s2_job job = s2_job_of(s2, at, size, run_clear, batch);

	job.retire = true;
	return s2_range_run(&job);
}

enum status s2_unmap(struct s2 *s2, gpa_t at, u64 size, struct s2_batch *batch)
{
	if (size - 1 == s2->inside[0] && unmap_page(s2, at, batch)) {
		return OK;
	}
	return unmap_range(s2, at, size, batch);
}

static void run_protect(struct s2_cursor *c, u64 count, struct s2_job *job)
{
	s2_run_protect(c, count, job->perm, job->batch);
}

enum status s2_protect(struct s2 *s2, gpa_t at, u64 size, u8 perm, struct s2_batch *batch)
{
	struct s2_job job = s2_job_of(s2, at, size, run_protect, batch);

	job.perm = perm;
	return perm > S2_RWX || s2->perm_bits[perm] == S2_CANNOT ? INVALID : s2_range_run(&job);
}
