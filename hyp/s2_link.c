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
 * all empty, and translate nothing (I3); when one is missing those that were made go again.
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

/* From now on the range is not to be changed by the space: no walk that began before it was known
 * is still under way afterwards. */
static enum status make_known(struct s2 *s2, const struct s2_loan *loan)
{
	struct s2_loan *place = s2->loans;
	enum status status = OK;

	lock_take(&s2->lock);
	while (place < s2->loans + S2_LOANS_MAX && place->end != 0) {
		place++;
	}
	if (s2_loan_in(s2, loan->start, loan->end)) {
		status = EXISTS;
	} else if (place == s2->loans + S2_LOANS_MAX) {
		status = FULL;
	} else {
		place->start = loan->start;
		place->from = loan->from;
		place->level = loan->level;
		store_release(&place->end, loan->end);
		s2_count_loans(s2, s2->loan_count + 1);
		s2_epoch_wait_walks(s2);
	}
	lock_drop(&s2->lock);
	return status;
}

static void withdraw(struct s2 *s2, const struct s2_loan *loan)
{
	lock_take(&s2->lock);
	store_release(&s2_loan_in(s2, loan->start, loan->end)->end, 0);
	s2_count_loans(s2, s2->loan_count - 1);
	if (s2->loan_count == 0) {
		s2->linked_level = S2_LEVELS_MAX;
	}
	lock_drop(&s2->lock);
}

/* ---- Linking ------------------------------------------------------------------------------- */

/* Of the entries of the linking space: the highest whose tables make up the range. 0: none. */
static unsigned link_level(const struct s2 *unified, const struct s2 *shared, u64 both)
{
	unsigned level = min_u64(unified->root_level, shared->root_level);

	while (level > 0 && !is_aligned(both, s2_span(shared->format, level))) {
		level--;
	}
	return level;
}

static u64 loan_span(const struct s2_loan *loan)
{
	return s2_span(loan->from->format, loan->level);
}

/* Empty tables where there are none: the shared space's to be linked, and above the linking
 * space's entries, which have to be free. */
static enum status make_tables(struct s2 *unified, const struct s2_loan *loan)
{
	enum status status = OK;

	for (u64 at = loan->start; at < loan->end && status == OK; at += loan_span(loan)) {
		struct s2_cursor c;

		s2_cursor_start(&c, loan->from, gpa(at));
		status = s2_reach_free_entry(&c, loan->level - 1, 0);
		if (status == OK || c.level < loan->level) { /* what is in the table is as it is */
			s2_cursor_start(&c, unified, gpa(at));
			status = s2_reach_free_entry(&c, loan->level, 0);
		}
	}
	return status;
}

/* Tables of a link that came to nothing. Others may have put something into them. */
static void drop_empty_tables(struct s2 *s2, const struct s2_loan *loan)
{
	struct s2_batch batch;

	s2_batch_open(&batch, s2);
	lock_take(&s2->lock);
	for (u64 at = loan->start; at < loan->end; at += loan_span(loan)) {
		struct s2_cursor c;

		s2_cursor_stand(&c, s2, at, loan->level - 1);
		s2_retire_empty(&c, &batch);
	}
	lock_drop(&s2->lock);
	s2_batch_close(&batch);
}

static void link_entries(struct s2 *unified, const struct s2_loan *loan)
{
	for (u64 at = loan->start; at < loan->end; at += loan_span(loan)) {
		struct s2_cursor from, to;
		u64 *table;

		s2_cursor_stand(&from, loan->from, at, loan->level);
		s2_cursor_stand(&to, unified, at, loan->level);
		table = s2_entry_table(from.format, from.entry);
		/* Hints go by the one entry that leads to a table: now is the last time. */
		s2_hint_unfold_below(&from, table);
		frame_get(ptr_hpa(table));
		check(s2_entry_set(&to, s2_link_entry(unified, table), NULL));
	}
}

/* The range is the linking space's no more, so nothing else comes there. It is again when this
 * fails. */
static enum status link_tables(struct s2 *unified, const struct s2_loan *loan)
{
	struct s2 *shared = loan->from;
	enum status status;

	lock_take(&shared->lock);
	lock_take(&unified->lock);
	status = shared->logging || unified->logging ? INVALID : make_tables(unified, loan);
	if (status == OK) {
		shared->linked_level = (u8)min_u64(shared->linked_level, loan->level);
		unified->linked_level = (u8)min_u64(unified->linked_level, loan->level);
		link_entries(unified, loan);
	}
	lock_drop(&unified->lock);
	lock_drop(&shared->lock);
	if (status != OK) {
		drop_empty_tables(shared, loan);
		drop_empty_tables(unified, loan);
		withdraw(unified, loan);
	}
	return status;
}

enum status s2_link(struct s2 *unified, struct s2 *shared, gpa_t at, u64 size)
{
	struct s2_loan loan = {.start = at.v, .end = at.v + size, .from = shared};
	enum status status;

	if (unified->format != shared->format || unified->rules ||
	    !s2_range_is_valid(unified, at, size) || !s2_range_is_valid(shared, at, size)) {
		return INVALID;
	}
	loan.level = (u8)link_level(unified, shared, at.v | size);
	if (loan.level == 0 || size / loan_span(&loan) > LINK_ENTRIES_MAX) {
		return INVALID;
	}
	status = s2_depend(shared, unified);
	if (status != OK) {
		return status;
	}
	status = make_known(unified, &loan);
	if (status == OK) {
		status = link_tables(unified, &loan);
	}
	if (status != OK) {
		s2_depend_no_more(shared, unified);
	}
	return status;
}

/* ---- Unlinking ----------------------------------------------------------------------------- */

static void unlink_entries(struct s2 *s2, const struct s2_loan *loan, struct s2_batch *batch)
{
	lock_take(&s2->lock);
	for (u64 at = loan->start; at < loan->end; at += loan_span(loan)) {
		struct s2_cursor c;

		s2_cursor_stand(&c, s2, at, loan->level);
		while (!s2_entry_set(&c, batch->transit, NULL)) { /* hardware set a flag */
		}
		s2_batch_note_range(batch, gpa(at), loan_span(loan), S2_LEVELS_MAX, 1);
		s2_retire_empty(&c, batch);
	}
	lock_drop(&s2->lock);
}

/* Nobody comes to the tables by the link any more. */
static void put_tables(const struct s2_loan *loan)
{
	lock_take(&loan->from->lock);
	for (u64 at = loan->start; at < loan->end; at += loan_span(loan)) {
		struct s2_cursor c;

		s2_cursor_stand(&c, loan->from, at, loan->level);
		frame_put(ptr_hpa(s2_entry_below(c.format, c.entry, c.level)));
	}
	lock_drop(&loan->from->lock);
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
	put_tables(loan);
	withdraw(unified, loan);
	s2_depend_no_more(shared, unified);
	return OK;
}
