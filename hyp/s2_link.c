/*
 * Sub-tables in several roots: links, and who depends on whom.
 *
 * An entry of the linking space leads to a table of the shared one, whose frame gets one more
 * reference. That is what marks a table as linked: nobody unlinks it, so the entry stays good
 * whatever the shared space does inside. Counts of leaves and tables are the shared space's alone.
 *
 * The linking space must never write through such an entry, as it has neither the lock nor the open
 * batches that go with those tables. So the loan is made known first; then its walks are waited
 * for. From there on its faults in the range are refused, and its range operations, which look
 * under the lock, too. What can fail comes before the first entry: tables are made on both sides,
 * all empty, and translate nothing (I3).
 *
 * Locks: the shared space's before the linking one's.
 */
#include "hyp/s2_cursor.h"
#include "hyp/s2_view.h"

#include "hyp/log.h"

/* Entries that one hold of the locks may make. */
#define LINK_ENTRIES_MAX 32768

/* ---- Dependents ---------------------------------------------------------------------------- */

static struct s2_dependent *find_dependent(struct s2 *s2, const struct s2 *space)
{
	for (u32 i = 0; i < S2_DEPENDENTS_MAX; i++) {
		if (s2->dependents[i].space == space) {
			return &s2->dependents[i];
		}
	}
	return NULL;
}

enum status s2_depend(struct s2 *s2, struct s2 *space)
{
	struct s2_dependent *d;
	enum status status = OK;

	if (s2 == space || s2->loan_count || space->dependent_count) {
		return INVALID;
	}
	lock_take(&s2->lock);
	d = find_dependent(s2, space);
	if (!d) {
		d = find_dependent(s2, NULL);
	}
	if (!d) {
		status = FULL;
	} else if (d->uses++ == 0) {
		store_release(&d->space, space);
		atomic_add(&s2->dependent_count, 1);
	}
	lock_drop(&s2->lock);
	return status;
}

/* A batch that is open may still have `space` in mind; so may a harvest, which walks. */
static void wait_until_forgotten(struct s2 *s2)
{
	fence_full();
	for (u32 i = 0; i < S2_OPEN_MAX; i++) {
		u64 generation = load_acquire(&s2->open[i]);

		while (generation && load_acquire(&s2->open[i]) == generation) {
			cpu_relax();
		}
	}
	s2_epoch_wait_walks(s2);
}

void s2_depend_no_more(struct s2 *s2, struct s2 *space)
{
	struct s2_dependent *d;
	bool last;

	lock_take(&s2->lock);
	d = find_dependent(s2, space);
	last = --d->uses == 0;
	if (last) {
		store_release(&d->space, NULL);
		if (atomic_sub(&s2->dependent_count, 1) == 0) {
			s2->linked_level = S2_LEVELS_MAX;
		}
	}
	lock_drop(&s2->lock);
	if (last) {
		wait_until_forgotten(s2);
	}
}

/* ---- Loans --------------------------------------------------------------------------------- */

struct s2_loan *s2_loan_in(struct s2 *s2, u64 start, u64 end)
{
	for (u32 i = 0; i < S2_LOANS_MAX; i++) {
		struct s2_loan *loan = &s2->loans[i];

		if (load_acquire(&loan->end) > start && loan->start < end) {
			return loan;
		}
	}
	return NULL;
}

struct s2 *s2_source(struct s2 *s2, gpa_t at)
{
	struct s2_loan *loan = s2_loan_in(s2, at.v, at.v + 1);

	return loan ? loan->from : s2;
}

static struct s2_loan *free_loan(struct s2 *s2)
{
	for (u32 i = 0; i < S2_LOANS_MAX; i++) {
		if (s2->loans[i].end == 0) {
			return &s2->loans[i];
		}
	}
	return NULL;
}

/* No walk that began before it was known is still under way afterwards. */
static void make_known(struct s2 *s2, struct s2_loan *at, struct s2_loan loan)
{
	at->start = loan.start;
	at->from = loan.from;
	at->level = loan.level;
	store_release(&at->end, loan.end);
	atomic_add(&s2->loan_count, 1);
	s2_epoch_wait_walks(s2);
}

static void withdraw(struct s2 *s2, struct s2_loan *loan)
{
	store_release(&loan->end, 0);
	if (atomic_sub(&s2->loan_count, 1) == 0) {
		s2->linked_level = S2_LEVELS_MAX;
	}
}

/* ---- Linking ------------------------------------------------------------------------------- */

struct link_job {
	struct s2 *unified, *shared;
	u64 start, end, span;
	unsigned level;		   /* of the entries */
	struct s2_reserve reserve; /* both spaces' */
};

static unsigned link_level(const struct s2 *unified, const struct s2 *shared, u64 both)
{
	unsigned level = min_u64(unified->root_level, shared->root_level);

	while (level > 0 && !is_aligned(both, s2_span(shared->format, level))) {
		level--;
	}
	return level;
}

/* At the entry for `at`, or above it where tables are missing. */
static void stand_at(struct s2_cursor *c, struct s2 *s2, u64 at, unsigned level)
{
	s2_cursor_start(c, s2, gpa(at));
	s2_cursor_descend_all(c, level);
}

/* May a table be linked from here, or be made here? */
static enum status shared_obstacle(const struct s2_cursor *c)
{
	return s2_entry_is_table(c->format, c->entry, c->level) ? OK : s2_obstacle(c);
}

static enum status plan_side(struct s2 *s2, const struct link_job *job, unsigned level,
			     enum status (*obstacle)(const struct s2_cursor *c), u64 *tables)
{
	struct s2_plan plan = {0};

	for (u64 at = job->start; at < job->end; at += job->span) {
		struct s2_cursor c;
		enum status status;

		stand_at(&c, s2, at, job->level);
		status = obstacle(&c);
		if (status != OK) {
			return status;
		}
		if (!s2_entry_is_table(c.format, c.entry, c.level)) {
			s2_plan_count(&plan, &c, level);
		}
	}
	*tables = plan.tables;
	return OK;
}

/* Empty tables down to `level`, where there are none. */
static enum status grow_to(struct s2_cursor *c, unsigned level, struct s2_reserve *reserve)
{
	for (;;) {
		u64 *table;

		s2_cursor_descend_all(c, level);
		if (c->level == level) {
			return OK;
		}
		if (!s2_entry_is_free(c->s2, c->entry)) {
			return s2_obstacle(c);
		}
		table = s2_reserve_take(reserve);
		check(table);
		s2_table_fill(c->s2, table, 0, 0, 0, 0);
		if (!s2_entry_set(c, s2_link_entry(c->s2, table), NULL)) {
			s2_reserve_give(reserve, table);
		}
	}
}

/* All of one side's tables; a fault may have been faster with a leaf. */
static enum status grow_side(struct s2 *s2, const struct link_job *job, unsigned level,
			     struct s2_reserve *reserve)
{
	enum status status = OK;

	for (u64 at = job->start; at < job->end && status == OK; at += job->span) {
		struct s2_cursor c;

		s2_cursor_start(&c, s2, gpa(at));
		status = grow_to(&c, level, reserve);
	}
	return status;
}

static enum status make_tables(struct link_job *job)
{
	struct s2_reserve for_shared = {0}, for_unified = {0};
	u64 shared_lacks, unified_lacks;
	enum status status =
		plan_side(job->shared, job, job->level - 1, shared_obstacle, &shared_lacks);

	if (status == OK) {
		status = plan_side(job->unified, job, job->level, s2_obstacle, &unified_lacks);
	}
	if (status != OK) {
		return status;
	}
	status = NOMEM;
	if (s2_reserve_fill(job->shared, &for_shared, shared_lacks) &&
	    s2_reserve_fill(job->unified, &for_unified, unified_lacks)) {
		status = grow_side(job->shared, job, job->level - 1, &for_shared);
	}
	if (status == OK) {
		status = grow_side(job->unified, job, job->level, &for_unified);
	}
	s2_reserve_drop(job->shared, &for_shared);
	s2_reserve_drop(job->unified, &for_unified);
	return status;
}

static void link_entries(const struct link_job *job)
{
	for (u64 at = job->start; at < job->end; at += job->span) {
		struct s2_cursor from, to;
		u64 *table;

		stand_at(&from, job->shared, at, job->level);
		stand_at(&to, job->unified, at, job->level);
		table = s2_entry_table(from.format, from.entry);
		frame_get(ptr_hpa(table));
		check(s2_entry_set(&to, s2_link_entry(job->unified, table), NULL));
	}
}

static void note_level(struct s2 *s2, unsigned level)
{
	s2->linked_level = (u8)min_u64(s2->linked_level, level);
}

/* Under both locks. */
static enum status link_locked(struct link_job *job)
{
	struct s2_loan *loan = free_loan(job->unified);
	enum status status;

	if (s2_loan_in(job->unified, job->start, job->end)) {
		return EXISTS;
	}
	if (!loan) {
		return FULL;
	}
	make_known(job->unified, loan,
		   (struct s2_loan){job->start, job->end, job->shared, (u8)job->level});
	status = make_tables(job);
	if (status != OK) {
		withdraw(job->unified, loan);
		return status;
	}
	note_level(job->shared, job->level);
	note_level(job->unified, job->level);
	link_entries(job);
	return OK;
}

enum status s2_link(struct s2 *unified, struct s2 *shared, gpa_t at, u64 size)
{
	struct link_job job = {
		.unified = unified, .shared = shared, .start = at.v, .end = at.v + size};
	enum status status;

	if (unified->format != shared->format || unified->rules ||
	    !s2_range_is_valid(unified, at, size) || !s2_range_is_valid(shared, at, size)) {
		return INVALID;
	}
	job.level = link_level(unified, shared, at.v | size);
	job.span = s2_span(shared->format, job.level);
	if (job.level == 0 || size / job.span > LINK_ENTRIES_MAX) {
		return INVALID;
	}
	status = s2_depend(shared, unified);
	if (status != OK) {
		return status;
	}
	lock_take(&shared->lock);
	lock_take(&unified->lock);
	status = link_locked(&job);
	lock_drop(&unified->lock);
	lock_drop(&shared->lock);
	if (status != OK) {
		s2_depend_no_more(shared, unified);
	}
	return status;
}

/* ---- Unlinking ----------------------------------------------------------------------------- */

static void unlink_entries(struct s2 *s2, const struct s2_loan *loan, struct s2_batch *batch)
{
	u64 span = s2_span(s2->format, loan->level);

	lock_take(&s2->lock);
	for (u64 at = loan->start; at < loan->end; at += span) {
		struct s2_cursor c;

		stand_at(&c, s2, at, loan->level);
		while (!s2_entry_set(&c, batch->transit, NULL)) { /* hardware set a flag */
		}
		s2_batch_note_range(batch, gpa(at), span, S2_LEVELS_MAX, 1);
		s2_retire_empty(&c, batch);
	}
	lock_drop(&s2->lock);
}

/* Nobody comes to the tables by the link any more. */
static void put_tables(struct s2 *shared, const struct s2_loan *loan)
{
	lock_take(&shared->lock);
	for (u64 at = loan->start; at < loan->end; at += s2_span(shared->format, loan->level)) {
		struct s2_cursor c;

		stand_at(&c, shared, at, loan->level);
		frame_put(ptr_hpa(s2_entry_below(c.format, c.entry, c.level)));
	}
	lock_drop(&shared->lock);
}

enum status s2_unlink(struct s2 *unified, gpa_t at, u64 size)
{
	struct s2_loan *loan = s2_loan_in(unified, at.v, at.v + size);
	struct s2_batch batch;
	struct s2 *shared;

	if (!loan || unified->rules || loan->start != at.v || loan->end != at.v + size) {
		return NOENT;
	}
	shared = loan->from;
	s2_batch_open(&batch, unified);
	unlink_entries(unified, loan, &batch);
	s2_batch_close(&batch);
	put_tables(shared, loan);
	lock_take(&unified->lock);
	withdraw(unified, loan);
	lock_drop(&unified->lock);
	s2_depend_no_more(shared, unified);
	return OK;
}
