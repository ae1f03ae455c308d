/*
 * Which memory was written.
 *
 * Two ways to tell. By flag, where hardware sets dirty flags in leaves. By write, everywhere else:
 * while logging is on, a leaf that has `write` was written. Taking `write` away makes it clean, and
 * leaves `log`, which says that the guest may have it back: from hardware (ARMv8's dirty state), or
 * by the fault that the first write takes. So a leaf that nobody prepared counts as written, and no
 * race loses a write. `dirty`, by hand there, says it of what may not be written now.
 *
 *   start: root ---> HELD - - -> table       hardware stops here; all below is clean, whatever it
 * says fault: root ---> table' ---> HELD - - -> table       leaves of table' are cleaned
 *
 * A HELD entry is not present and leads to a real table. Who comes to one, fault or range
 * operation, pushes it down: claims it by compare-and-swap to HELD that leads nowhere, holds what
 * is below, which hardware cannot reach, and links the table again. Nothing that has to be told
 * apart from what was before is ever put below HELD: range operations push before they go on, and
 * who was already there when logging began is waited for by the close of start's batch, before
 * which nothing is promised.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

#include <arch/s2.h>

/* Entries that are looked at before the lock, or the walk section, is left for a moment. */
#define SECTION_ENTRIES 8192

struct job {
	struct s2 *s2;
	const struct s2_format *f;
	u64 start, at, end;
	u64 *bitmap;
	u64 written;		/* a leaf with any of these bits was written */
	u64 left;		/* entries that may still be looked at in this section */
	unsigned finest;	/* clear's */
	struct s2_batch *batch; /* clear's, else NULL */
	/* What the cursor stands on, pages [first, end) of the range: one entry, or as many as
	 * there are in its table of level 0. False: look at it again. */
	bool (*visit)(struct job *job, struct s2_cursor *c, u64 first, u64 end);
};

/* ---- Bits ---------------------------------------------------------------------------------- */

/* Bits [first, end) as far as they lie in first's word. */
static u64 word_part(u64 first, u64 end)
{
	return BITS(min_u64(end - 1, first | 63) % 64, first % 64);
}

static void set_bits(u64 *bitmap, u64 first, u64 end)
{
	for (; first < end; first = (first | 63) + 1) {
		bitmap[first / 64] |= word_part(first, end);
	}
}

/* Of the bits [first, end): are any set, are all? */
static bool test_bits(const u64 *bitmap, u64 first, u64 end, bool *all)
{
	bool any = false;

	*all = true;
	for (; first < end; first = (first | 63) + 1) {
		u64 part = word_part(first, end), set = bitmap[first / 64] & part;

		any |= set != 0;
		*all &= set == part;
	}
	return any;
}

/* ---- The walk ------------------------------------------------------------------------------ */

/* Not below what is HELD: it is clean. The table behind a fold may go while we hold no lock. */
static void go_down(const struct job *job, struct s2_cursor *c, bool locked)
{
	s2_cursor_descend(c, 0);
	while (c->level > 0 && s2_entry_kind(job->f, c->entry, c->level) == S2_BROKEN) {
		u64 *below = s2_entry_below(job->f, c->entry, c->level);

		if (!below || (!locked && s2_lead_is_fold(s2_absent_payload(job->f, c->entry)))) {
			return;
		}
		s2_cursor_enter(c, below);
		s2_cursor_descend(c, 0);
	}
}

static void spend(struct job *job, u64 entries)
{
	job->left -= min_u64(job->left, entries);
}

static void walk_section(struct job *job, bool locked)
{
	const unsigned page_shift = job->f->page_shift;

	job->left = SECTION_ENTRIES;
	while (job->at < job->end && job->left > 0) {
		struct s2_cursor c;
		u64 first = (job->at - job->start) >> page_shift, end, until;

		s2_cursor_start(&c, job->s2, gpa(job->at));
		go_down(job, &c, locked);
		until = min_u64(job->end,
				c.level > 0 ? s2_cursor_end(&c) : s2_cursor_table_end(&c));
		end = (until - job->start) >> page_shift;
		spend(job, c.level > 0 ? 1 : end - first);
		if (job->visit(job, &c, first, end)) {
			job->at = until;
		}
	}
}

/* ---- Get ----------------------------------------------------------------------------------- */

static void get_pages(struct job *job, const u64 *slot, u64 first, u64 end)
{
	for (; first < end; first++, slot++) {
		u64 entry = load_relaxed(slot);

		if ((entry & job->written) && s2_entry_present(job->f, entry)) {
			job->bitmap[first / 64] |= BIT(first % 64);
		}
	}
}

static bool get_here(struct job *job, struct s2_cursor *c, u64 first, u64 end)
{
	bool is_leaf = s2_entry_is_leaf(job->f, c->entry, c->level);

	if (c->level == 0) {
		get_pages(job, c->slot, first, end);
	} else if (is_leaf ? (c->entry & job->written) != 0
			   : s2_entry_kind(job->f, c->entry, c->level) == S2_BROKEN) {
		set_bits(job->bitmap, first, end); /* of a fold nobody knows yet */
	}
	return true;
}

/* ---- Clear and set ------------------------------------------------------------------------- */

static void change_leaf(const struct job *job, struct s2_cursor *c)
{
	for (;;) {
		u64 new =
			job->batch ? s2_entry_cleaned(job->s2, c->entry) : c->entry | job->f->dirty;

		if (!s2_entry_is_leaf(job->f, c->entry, c->level) || new == c->entry ||
		    s2_entry_set(c, new, job->batch)) {
			return;
		}
	}
}

static void change_pages(const struct job *job, struct s2_cursor *c, u64 first, u64 end)
{
	u64 *slot = c->slot;

	for (u64 i = first; i < end; i++) {
		if (job->bitmap[i / 64] >> i % 64 & 1) {
			c->slot = slot + (i - first);
			c->gpa = gpa(job->start + (i << job->f->page_shift));
			s2_cursor_reload(c);
			change_leaf(job, c);
		}
	}
}

static bool set_here(struct job *job, struct s2_cursor *c, u64 first, u64 end)
{
	bool all;

	if (c->level == 0) {
		change_pages(job, c, first, end);
		return true;
	}
	if (!test_bits(job->bitmap, first, end, &all)) {
		return true;
	}
	if (s2_entry_kind(job->f, c->entry, c->level) == S2_HELD) {
		if (!s2_dirty_push(c)) {
			cpu_relax();
		}
		return false;
	}
	change_leaf(job, c);
	return true;
}

/* True: the leaf under the cursor is a table now. Tells smaller pages apart if memory allows. */
static bool refine(struct job *job, struct s2_cursor *c)
{
	u64 *table = c->level > job->finest ? s2_table_alloc(job->s2) : NULL;

	if (table) {
		s2_split_leaf(c, table, job->batch);
		spend(job, s2_table_entries(job->f));
	}
	return table;
}

static bool clear_here(struct job *job, struct s2_cursor *c, u64 first, u64 end)
{
	u64 pages;
	bool all;

	if (c->level == 0) {
		change_pages(job, c, first, end);
		return true;
	}
	if (!s2_entry_is_leaf(job->f, c->entry, c->level) || !(c->entry & job->written) ||
	    !test_bits(job->bitmap, first, end, &all)) {
		return true;
	}
	if (refine(job, c)) {
		return false;
	}
	pages = s2_span(job->f, c->level) >> job->f->page_shift;
	if (all && end - first == pages) {
		change_leaf(job, c);
	}
	return true;
}

/* ---- The operations ------------------------------------------------------------------------ */

static struct job job_of(struct s2 *s2, gpa_t at, u64 size, const u64 *bitmap)
{
	const struct s2_format *f = s2->format;

	return (struct job){
		.s2 = s2,
		.f = f,
		.start = at.v,
		.at = at.v,
		.end = at.v + size,
		.bitmap = (u64 *)(uintptr_t)bitmap,
		.written = f->dirty | (s2_dirty_is_flag(s2) ? 0 : f->write),
	};
}

static bool may_ask(const struct s2 *s2, gpa_t at, u64 size)
{
	return load_acquire(&s2->logging) == S2_LOG_ON && s2_range_is_valid(s2, at, size);
}

enum status s2_dirty_get(struct s2 *s2, gpa_t at, u64 size, u64 *bitmap)
{
	struct job job = job_of(s2, at, size, bitmap);

	if (!may_ask(s2, at, size)) {
		return INVALID;
	}
	job.visit = get_here;
	while (job.at < job.end) {
		u64 outer = s2_walk_begin(s2);

		walk_section(&job, false);
		s2_walk_end(s2, outer);
	}
	return OK;
}

static enum status change(struct job *job)
{
	if (!may_ask(job->s2, gpa(job->start), job->end - job->start)) {
		return INVALID;
	}
	while (job->at < job->end) {
		lock_take(&job->s2->lock);
		walk_section(job, true);
		lock_drop(&job->s2->lock);
	}
	return OK;
}

enum status s2_dirty_clear(struct s2 *s2, gpa_t at, u64 size, const u64 *bitmap, unsigned finest,
			   struct s2_batch *batch)
{
	struct job job = job_of(s2, at, size, bitmap);

	job.visit = clear_here;
	job.finest = finest;
	job.batch = batch;
	return change(&job);
}

enum status s2_dirty_set(struct s2 *s2, gpa_t at, u64 size, const u64 *bitmap)
{
	struct job job = job_of(s2, at, size, bitmap);

	job.visit = set_here;
	return change(&job);
}

/* A large leaf is logged once, by whichever address was first. */
enum status s2_dirty_log(struct s2 *s2, gpa_t at, u64 size, const u64 *addresses, u64 count,
			 u64 *bitmap)
{
	const struct s2_format *f = s2->format;

	if (!may_ask(s2, at, size)) {
		return INVALID;
	}
	for (; count > 0; count--, addresses++) {
		u64 span, first, end;

		if (*addresses >> s2->ipa_bits) {
			continue;
		}
		span = s2_span(f, (unsigned)s2_find(s2, gpa(*addresses)).level);
		first = max_u64(align_down(*addresses, span), at.v);
		end = min_u64(align_down(*addresses, span) + span, at.v + size);
		if (first < end) {
			set_bits(bitmap, (first - at.v) >> f->page_shift,
				 (end - at.v) >> f->page_shift);
		}
	}
	return OK;
}

/* ---- Start, stop --------------------------------------------------------------------------- */

static void set_logging(struct s2 *s2, enum s2_logging logging, u64 new_leaf)
{
	store_release(&s2->logging, (u8)logging);
	store_relaxed(&s2->new_leaf, new_leaf);
	s2_set_memory_bits(s2);
}

enum status s2_dirty_start(struct s2 *s2, struct s2_batch *batch)
{
	const struct s2_format *f = s2->format;
	u64 size = BIT(s2->ipa_bits);

	lock_take(&s2->lock);
	if (s2->logging != S2_LOG_OFF) {
		lock_drop(&s2->lock);
		return EXISTS;
	}
	store_relaxed(&s2->marks, s2->marks | (s2_dirty_is_flag(s2) ? 0 : f->log));
	set_logging(s2, S2_LOG_ON, s2->new_leaf | f->dirty);
	s2_table_hold(s2, s2->root, size >> s2->root_shift, s2->root_level);
	s2_batch_note_range(batch, gpa(0), size, S2_LEVELS_MAX, 1);
	lock_drop(&s2->lock);
	return OK;
}

/* What gets its write back is flushed: a CPU may remember that there was none, and fault by that. A
 * leaf that was claimed comes back with `log` perhaps. */
static void run_restore(struct s2_cursor *c, u64 count, struct s2_job *job)
{
	const struct s2_format *f = c->format;
	u64 marks = s2_dirty_is_flag(c->s2) ? 0 : f->log | f->dirty;
	u64 *slot = c->slot, at = c->gpa.v, write;

	for (u64 i = 0; i < count; i++) {
		c->slot = slot + i;
		c->gpa = gpa(at + (i << f->page_shift));
		c->entry = s2_load_settled(f, c->slot);
		do {
			write = c->entry & f->log ? f->write : 0;
		} while (s2_entry_is_leaf(f, c->entry, c->level) && (c->entry & marks) &&
			 !s2_entry_set(c, (c->entry & ~marks) | write, job->batch));
	}
}

/* While it is ending nobody sets `log` any more, but those who look for it still do; and HELD
 * tables are linked as they are. */
void s2_dirty_stop(struct s2 *s2)
{
	struct s2_batch batch;
	struct s2_job job = {.s2 = s2,
			     .end = BIT(s2->ipa_bits),
			     .batch = &batch,
			     .run = run_restore,
			     .level_max = S2_LEVELS_MAX};
	bool is_on;

	lock_take(&s2->lock);
	is_on = s2->logging == S2_LOG_ON;
	if (is_on) {
		set_logging(s2, S2_LOG_ENDING, s2->new_leaf & ~s2->format->dirty);
	}
	lock_drop(&s2->lock);
	if (!is_on) {
		return;
	}
	s2_batch_open(&batch, s2);
	check(s2_range_run(&job) == OK); /* a space's ends need no split */
	s2_batch_close(&batch);
	lock_take(&s2->lock);
	store_relaxed(&s2->marks, s2->marks & ~s2->format->log);
	store_release(&s2->logging, S2_LOG_OFF);
	lock_drop(&s2->lock);
}

/* ---- Faults -------------------------------------------------------------------------------- */

bool s2_dirty_push(struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	u64 *table = s2_entry_below(f, c->entry, c->level);

	if (!table) {
		return false;
	}
	if (!s2_entry_set(c, s2_absent_entry(f, S2_HELD, 0), NULL)) {
		return true;
	}
	/* Read after the claim: who ends logging meanwhile waits here, and then looks below. */
	if (load_once(&c->s2->logging) == S2_LOG_ON) {
		s2_table_hold(c->s2, table, s2_table_entries(f), c->level - 1);
	}
	check(s2_entry_set(c, s2_link_entry(c->s2, table), NULL));
	return true;
}

/* Gives the guest its right to write the leaf, which is written then. NOENT: it has none. */
static enum status give_write(struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	u64 flag = s2_dirty_is_flag(c->s2) ? f->dirty : 0;

	while (s2_entry_is_leaf(f, c->entry, c->level)) {
		u64 new = c->entry | f->write | flag;

		if (!(c->entry & (f->write | f->log))) {
			return NOENT;
		}
		if (new == c->entry || s2_entry_set(c, new, NULL)) {
			return OK;
		}
	}
	return AGAIN;
}

static enum status fault(struct s2_cursor *c, bool is_write)
{
	enum status status = NOENT;

	s2_cursor_descend(c, 0);
	while (c->level > 0 && s2_entry_kind(c->format, c->entry, c->level) == S2_HELD) {
		if (!s2_dirty_push(c)) {
			break;
		}
		status = OK;
		s2_cursor_descend(c, 0);
	}
	switch (s2_entry_kind(c->format, c->entry, c->level)) {
	case S2_LEAF:
		return is_write ? give_write(c) : status;
	case S2_HELD:
	case S2_BROKEN:
	case S2_POISON:
		return AGAIN;
	default:
		return status;
	}
}

enum status s2_dirty_fault(struct s2 *s2, gpa_t at, bool is_write)
{
	struct s2_cursor c;
	enum status status;
	u64 outer;

	if (load_acquire(&s2->logging) == S2_LOG_OFF || at.v >> s2->ipa_bits) {
		return NOENT;
	}
	outer = s2_walk_begin(s2);
	s2_cursor_start(&c, s2, at);
	status = fault(&c, is_write);
	s2_walk_end(s2, outer);
	/* Where a fault does not forget the translation that it met, this CPU does. */
	if (status == OK && is_write && arch_s2_broadcasts()) {
		arch_s2_flush_local(s2);
	}
	return status;
}
