/*
 * The engine of range operations, and the two plain ones: unmap and protect.
 *
 * What can fail comes first (I3): tables are laid in for the leaves that stick out at the range's
 * two ends. Then come runs of entries in one table, in steps: after so many entries the lock is
 * dropped for others who wait (I7). What they changed meanwhile is found by walking anew. What a
 * run comes to that sticks out, or is too large, is split just before it.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

/* Entries that one hold of the lock may go through. */
#define STEP_ENTRIES 32768

enum status s2_lock_range(struct s2 *s2, u64 start, u64 end)
{
	lock_take(&s2->lock);
	return s2_is_on_loan(s2, start, end) ? DENIED : OK;
}

enum status s2_let_others(struct s2 *s2, u64 start, u64 end)
{
	lock_drop(&s2->lock);
	return s2_lock_range(s2, start, end);
}

/* ---- What has to be split ------------------------------------------------------------------ */

/*
 * To which level the cursor's entry has to be split so that an address inside it lies between two;
 * or several, when all of them are in `addresses`. Its own: not at all. Leaves are divided where
 * the range ends inside them, and typed entries where it forgets them.
 */
static unsigned level_between(const struct s2_job *job, const struct s2_cursor *c, u64 addresses)
{
	const struct s2_format *f = c->format;
	bool is_divisible = s2_entry_is_leaf(f, c->entry, c->level) ||
			    (job->retire && s2_entry_is_typed(f, c->entry));

	if (!is_divisible || is_aligned(addresses, s2_span(f, c->level))) {
		return c->level;
	}
	return s2_leaf_level(f, c->level, addresses, ~0ull);
}

/* The levels at which something is split so that the range may end at `at`: bit n for level n. */
static u64 levels_split(const struct s2_job *job, u64 at)
{
	struct s2_cursor c;

	if (at >> job->s2->ipa_bits) {
		return 0;
	}
	s2_cursor_stand(&c, job->s2, at, 0);
	return BIT(c.level + 1) - BIT(level_between(job, &c, at) + 1);
}

/* Tables for both ends; what the first splits on its way, the second need not. */
static u64 ends_cost(const struct s2_job *job)
{
	const struct s2_format *f = job->s2->format;
	u64 first = levels_split(job, job->start), last = first, apart = job->start ^ job->end;
	u64 cost = 0;

	if (!(first & BIT(1)) || apart >= s2_span(f, 1)) {
		last = levels_split(job, job->end); /* else the first splits all the way to it */
	}
	for (unsigned level = 1; level <= job->s2->root_level; level++) {
		u64 of_first = first >> level & 1, of_last = last >> level & 1;

		cost += apart < s2_span(f, level) ? of_first | of_last : of_first + of_last;
	}
	return cost;
}

/* Every end of the range that lies inside the cursor's entry is to lie between two. */
static unsigned level_wanted(const struct s2_job *job, const struct s2_cursor *c)
{
	u64 first = max_u64(s2_cursor_first(c), job->start);
	unsigned level = level_between(job, c, first | min_u64(s2_cursor_end(c), job->end));

	return s2_entry_is_leaf(c->format, c->entry, c->level) ? min_u64(level, job->level_max)
							       : level;
}

/* Goes down to what lies in the range, and is small enough. False: there is no memory for that. */
static bool split_to_fit(struct s2_job *job, struct s2_cursor *c)
{
	s2_cursor_descend_all(c, 0);
	while (c->level > level_wanted(job, c)) {
		if (s2_split_here(c, &job->reserve, job->batch)) {
			s2_cursor_descend_all(c, 0);
		} else if (job->enlarge) {
			job->start = min_u64(job->start, s2_cursor_first(c));
			job->end = max_u64(job->end, s2_cursor_end(c));
		} else {
			return false;
		}
	}
	return true;
}

/* ---- Steps --------------------------------------------------------------------------------- */

void s2_retire_empty(struct s2_cursor *c, struct s2_batch *batch)
{
	while (c->level < c->s2->root_level && s2_table_live(c->table[c->level]) == 0) {
		s2_cursor_up(c);
		if (!s2_entry_below(c->format, c->entry, c->level) ||
		    !s2_table_retire_empty(c, batch)) {
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

/* How many neighbours make a run: to the end of the table, the range or the step. Above level 0
 * entries are of many kinds, so they come one by one. */
static u64 run_length(const struct s2_job *job, const struct s2_cursor *c, u64 allowance)
{
	u64 end = min_u64(job->end, s2_cursor_table_end(c));
	u64 count = (end - c->gpa.v) >> c->format->page_shift;

	return c->level > 0 ? 1 : min_u64(count, allowance);
}

/* What lies at the cursor, as far as one table goes. Returns entries gone through, unless the job's
 * status says that it failed. */
static u64 take_run(struct s2_job *job, struct s2_cursor *c, u64 allowance)
{
	u64 count;

	do {
		if (!split_to_fit(job, c)) {
			job->status = NOMEM;
			return 0;
		}
		if (job->retire && c->level == 0 && retire_whole(job, c)) {
			return s2_table_entries(c->format);
		}
		count = run_length(job, c, allowance);
		/* What a fault puts into a free entry above level 0 meanwhile, a table perhaps, or
		 * a leaf that sticks out, is put there after us. */
		if (c->level == 0 || s2_entry_in_use(c->format, c->entry)) {
			s2_hint_unfold(c, count);
			job->run(c, count, job);
		}
		s2_cursor_reload(c);
		/* Again, if a copy has divided the leaf meanwhile. */
	} while (job->status == OK && c->level > 0 &&
		 s2_entry_below(c->format, c->entry, c->level));
	return count;
}

/* Under the lock. */
static void run_all(struct s2_job *job)
{
	struct s2_batch *batch = job->batch;
	u64 at = job->start, left = STEP_ENTRIES;

	while (job->status == OK && at < job->end && batch->budget > 0) {
		struct s2_cursor c;
		u64 count;

		s2_cursor_start(&c, job->s2, gpa(at));
		count = take_run(job, &c, min_u64(left, batch->budget));
		if (job->status != OK) {
			break;
		}
		at = c.level == 0 ? at + (count << c.format->page_shift) : s2_cursor_end(&c);
		if (job->retire) {
			s2_retire_empty(&c, batch);
		}
		batch->budget -= min_u64(batch->budget, count);
		left -= min_u64(left, count);
		if (left == 0 && at < job->end) {
			job->status = s2_let_others(job->s2, at, job->end);
			left = STEP_ENTRIES;
		}
	}
	batch->next = at;
}

enum status s2_range_run(struct s2_job *job)
{
	if (!s2_range_is_valid(job->s2, gpa(job->start), job->end - job->start)) {
		return INVALID;
	}
	job->status = s2_lock_range(job->s2, job->start, job->end);
	if (job->status == OK && !s2_reserve_fill(job->s2, &job->reserve, ends_cost(job)) &&
	    !job->enlarge) {
		job->status = NOMEM;
	}
	run_all(job);
	lock_drop(&job->s2->lock);
	s2_reserve_drop(job->s2, &job->reserve);
	return job->status == OK && job->batch->next < job->end ? MORE : job->status;
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
	    s2_entry_present(s2->format, entry) && !(entry & s2->format->contiguous)) {
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
	job.enlarge = batch->enlarge;
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
	return s2_says_perm(s2, perm) ? s2_range_run(&job) : INVALID;
}
