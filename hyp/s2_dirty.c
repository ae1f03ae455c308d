/*
 * Which memory was written.
 *
 * Two ways to tell. By flag, where hardware sets dirty flags in leaves. By write, everywhere else:
 * while logging is on, a leaf that has `write` was written. Taking `write` away makes it clean, and
 * leaves `log`, which says that the guest may have it back: from hardware (ARMv8's dirty state), or
 * by the fault that the first write takes. So a leaf that nobody prepared counts as written, and no
 * race loses a write. `dirty`, by hand there, says it of what may not be written now.
 *
 *     start:  root ---> HELD - - -> table     hardware stops here; all below is clean, whatever
 *                                             it says
 *     fault:  root ---> table' ---> HELD - - -> table     leaves of table' are cleaned
 *
 * A HELD entry is not present and leads to a real table. Who comes to one, fault or range
 * operation, pushes it down: claims it by compare-and-swap to HELD that leads nowhere, holds what
 * is below, which hardware cannot reach, and links the table again. Nothing that has to be told
 * apart from what was before is ever put below HELD: range operations push before they go on, and
 * who was already there when logging began is waited for by the close of start's batch, before
 * which nothing is promised.
 */
#include "hyp/s2_cursor.h"

#include "hyp/bitmap.h"
#include "hyp/log.h"

#include <arch/s2.h>

/* Entries that are looked at before the lock, or the walk section, is left for a moment. */
#define SECTION_ENTRIES 8192

struct job {
	struct s2 *s2;
	const struct s2_format *f;
	u64 start, at, end;
	u64 *bitmap;
	u64 written; /* a leaf with any of these bits was written */
	u64 left;    /* entries that may still be looked at in this section */
	/* What becomes of a leaf that the bitmap names (NULL: of any), with the space's lock; or
	 * NULL: the bitmap is to be written, in a walk. */
	u64 (*changed)(const struct s2 *s2, u64 entry);
	bool clears;		/* a large leaf is divided, or changed when all of it is named */
	unsigned finest;	/* clear's */
	struct s2_batch *batch; /* for what is to be invalidated, or NULL */
};

/* ---- Get ----------------------------------------------------------------------------------- */

static void get_pages(struct job *job, const u64 *slot, u64 first, u64 end)
{
	for (; first < end; first++, slot++) {
		u64 entry = load_relaxed(slot);

		if ((entry & job->written) && s2_entry_present(job->f, entry)) {
			bitmap_set(job->bitmap, first);
		}
	}
}

static void get_here(struct job *job, const struct s2_cursor *c, u64 first, u64 end)
{
	if (c->level == 0) {
		get_pages(job, c->slot, first, end);
	} else if (s2_entry_is_leaf(job->f, c->entry, c->level)
			   ? (c->entry & job->written) != 0
			   : s2_entry_kind(job->f, c->entry, c->level) == S2_BROKEN) {
		bitmap_set_range(job->bitmap, first, end); /* of a fold nobody knows yet */
	}
}

/* ---- Clear, set, restore ------------------------------------------------------------------- */

/* What is claimed comes back perhaps. */
static void change_leaf(const struct job *job, struct s2_cursor *c)
{
	u64 new;

	if (job->clears) {
		s2_hint_unfold(c, 1);
	}
	c->entry = s2_load_settled(job->f, c->slot);
	do {
		new = job->changed(job->s2, c->entry);
	} while (s2_entry_is_leaf(job->f, c->entry, c->level) && new != c->entry &&
		 !s2_entry_set(c, new, job->batch));
}

static void change_pages(const struct job *job, struct s2_cursor *c, u64 first, u64 end)
{
	u64 *slot = c->slot;

	for (u64 i = first; i < end; i++) {
		if (!job->bitmap || bitmap_has(job->bitmap, i)) {
			c->slot = slot + (i - first);
			c->gpa = gpa(job->start + (i << job->f->page_shift));
			change_leaf(job, c);
		}
	}
}

/* Tells smaller pages apart if memory allows. False: look again. */
static bool clear_large(struct job *job, struct s2_cursor *c, u64 first, u64 end)
{
	u64 pages = s2_span(job->f, c->level) >> job->f->page_shift, *table;

	if (!s2_entry_is_leaf(job->f, c->entry, c->level) || !(c->entry & job->written)) {
		return true;
	}
	table = c->level > job->finest ? s2_table_alloc(job->s2) : NULL;
	if (table) {
		job->left -= min_u64(job->left, s2_table_entries(job->f));
		if (!s2_split_leaf(c, table, job->batch)) {
			s2_table_free(job->s2, table);
		}
		return false;
	}
	if (end - first == pages && !bitmap_any_clear(job->bitmap, first, end)) {
		change_leaf(job, c);
	}
	return true;
}

/* False: look again. */
static bool change_here(struct job *job, struct s2_cursor *c, u64 first, u64 end)
{
	if (c->level == 0) {
		change_pages(job, c, first, end);
		return true;
	}
	if (job->bitmap && !bitmap_any_set(job->bitmap, first, end)) {
		return true;
	}
	if (job->clears) {
		return clear_large(job, c, first, end);
	}
	if (s2_entry_is_held(job->f, c->entry)) {
		s2_dirty_push(c);
		return false;
	}
	change_leaf(job, c);
	return !s2_entry_below(job->f, c->entry, c->level); /* a copy has divided the leaf */
}

/* ---- The walk ------------------------------------------------------------------------------ */

/* Not below what is HELD: it is clean. The table behind a fold may go while we hold no lock. */
static void go_down(const struct job *job, struct s2_cursor *c)
{
	s2_cursor_start(c, job->s2, gpa(job->at));
	do {
		s2_cursor_descend(c, 0);
	} while (s2_cursor_enter_broken(c, job->changed != NULL));
}

/* One entry; at level 0, as many as are in its table. */
static void step(struct job *job)
{
	struct s2_cursor c;
	u64 first = (job->at - job->start) >> job->f->page_shift, end, until;

	go_down(job, &c);
	until = min_u64(job->end, c.level > 0 ? s2_cursor_end(&c) : s2_cursor_table_end(&c));
	end = (until - job->start) >> job->f->page_shift;
	job->left -= min_u64(job->left, c.level > 0 ? 1 : end - first);
	if (!job->changed) {
		get_here(job, &c, first, end);
	} else if (!change_here(job, &c, first, end)) {
		return;
	}
	job->at = until;
}

static void walk(struct job *job)
{
	while (job->at < job->end) {
		u64 outer = 0;

		if (job->changed) {
			lock_take(&job->s2->lock);
		} else {
			outer = s2_walk_begin(job->s2);
		}
		for (job->left = SECTION_ENTRIES; job->at < job->end && job->left > 0;) {
			step(job);
		}
		if (job->changed) {
			lock_drop(&job->s2->lock);
		} else {
			s2_walk_end(job->s2, outer);
		}
	}
}

/* ---- The operations ------------------------------------------------------------------------ */

static struct job job_of(struct s2 *s2, gpa_t at, u64 size, const u64 *bitmap)
{
	return (struct job){
		.s2 = s2,
		.f = s2->format,
		.start = at.v,
		.at = at.v,
		.end = at.v + size,
		.bitmap = (u64 *)(uintptr_t)bitmap,
		.written = s2->format->dirty | (s2_dirty_is_flag(s2) ? 0 : s2->format->write),
	};
}

static bool may_ask(const struct s2 *s2, gpa_t at, u64 size)
{
	return load_acquire(&s2->logging) == S2_LOG_ON && s2_range_is_valid(s2, at, size);
}

static enum status walk_if_logged(struct job *job)
{
	if (!may_ask(job->s2, gpa(job->start), job->end - job->start)) {
		return INVALID;
	}
	walk(job);
	return OK;
}

enum status s2_dirty_get(struct s2 *s2, gpa_t at, u64 size, u64 *bitmap)
{
	struct job job = job_of(s2, at, size, bitmap);

	return walk_if_logged(&job);
}

enum status s2_dirty_clear(struct s2 *s2, gpa_t at, u64 size, const u64 *bitmap, unsigned finest,
			   struct s2_batch *batch)
{
	struct job job = job_of(s2, at, size, bitmap);

	job.changed = s2_entry_cleaned;
	job.clears = true;
	job.finest = finest;
	job.batch = batch;
	return walk_if_logged(&job);
}

static u64 marked_dirty(const struct s2 *s2, u64 entry)
{
	return entry | s2->format->dirty;
}

enum status s2_dirty_set(struct s2 *s2, gpa_t at, u64 size, const u64 *bitmap)
{
	struct job job = job_of(s2, at, size, bitmap);

	job.changed = marked_dirty;
	return walk_if_logged(&job);
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
			bitmap_set_range(bitmap, (first - at.v) >> f->page_shift,
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
	enum status status = EXISTS;

	lock_take(&s2->lock);
	if (s2->loan_count || s2->linked_level < S2_LEVELS_MAX) {
		status = DENIED;
	} else if (s2->logging == S2_LOG_OFF) {
		store_relaxed(&s2->marks, s2->marks | (s2_dirty_is_flag(s2) ? 0 : f->log));
		set_logging(s2, S2_LOG_ON, s2->new_leaf | f->dirty);
		s2_table_hold(s2, s2->root, size >> s2->root_shift, s2->root_level);
		s2_batch_note_range(batch, gpa(0), size, S2_LEVELS_MAX, 1);
		status = OK;
	}
	lock_drop(&s2->lock);
	return status;
}

/* What gets its write back is flushed: a CPU may remember that there was none, and fault by that.
 */
static u64 restored(const struct s2 *s2, u64 entry)
{
	const struct s2_format *f = s2->format;

	if (s2_dirty_is_flag(s2)) {
		return entry;
	}
	return (entry & ~(f->log | f->dirty)) | (entry & f->log ? f->write : 0);
}

/* While it is ending nobody sets `log` any more, but those who look for it still do; and HELD
 * tables are linked as they are. */
void s2_dirty_stop(struct s2 *s2)
{
	struct job job = job_of(s2, gpa(0), BIT(s2->ipa_bits), NULL);
	struct s2_batch batch;

	lock_take(&s2->lock);
	if (s2->logging != S2_LOG_ON) {
		lock_drop(&s2->lock);
		return;
	}
	set_logging(s2, S2_LOG_ENDING, s2->new_leaf & ~s2->format->dirty);
	lock_drop(&s2->lock);
	s2_epoch_wait_walks(s2); /* faults that set `log` yet; copies that do are waited for */
	job.changed = restored;
	job.batch = &batch;
	s2_batch_open(&batch, s2);
	walk(&job);
	s2_batch_close(&batch);
	lock_take(&s2->lock);
	store_relaxed(&s2->marks, s2->marks & ~s2->format->log);
	store_release(&s2->logging, S2_LOG_OFF);
	lock_drop(&s2->lock);
}

/* ---- Faults -------------------------------------------------------------------------------- */

void s2_dirty_push(struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	u64 *table = s2_entry_below(f, c->entry, c->level);

	if (!table) {
		cpu_relax();
	} else if (s2_entry_set(c, s2_absent_entry(f, S2_HELD, 0), NULL)) {
		/* Read after the claim: who ends logging meanwhile waits here, and then looks
		 * below.
		 */
		if (load_once(&c->s2->logging) == S2_LOG_ON) {
			s2_hint_unfold_below(c, table);
			s2_table_hold(c->s2, table, s2_table_entries(f), c->level - 1);
		}
		check(s2_entry_set(c, s2_link_entry(c->s2, table), NULL));
	}
}

/* Gives the guest its right to write the leaf, which is written then. NOENT: it has none. */
static enum status give_write(struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	u64 flag = s2_dirty_is_flag(c->s2) ? f->dirty : 0, new;

	do {
		if (!s2_entry_is_leaf(f, c->entry, c->level)) {
			return AGAIN;
		}
		if (!(c->entry & (f->write | f->log))) {
			return NOENT;
		}
		new = c->entry | f->write | flag;
	} while (new != c->entry && !s2_entry_set(c, new, NULL));
	return OK;
}

enum status s2_dirty_fault(struct s2 *s2, gpa_t at, bool is_write)
{
	struct s2_cursor c;
	enum status status;
	enum s2_kind kind;
	u64 outer;

	if (load_acquire(&s2->logging) == S2_LOG_OFF || at.v >> s2->ipa_bits) {
		return NOENT;
	}
	outer = s2_walk_to(&c, s2, at);
	status = s2_cursor_descend_held(&c, 0) ? OK : NOENT;
	kind = s2_entry_kind(c.format, c.entry, c.level);
	if (kind == S2_LEAF && is_write) {
		status = give_write(&c);
	} else if (kind == S2_BROKEN || kind == S2_POISON) {
		status = AGAIN;
	}
	s2_walk_end(s2, outer);
	/* Where a fault does not forget the translation that it met, this CPU does. */
	if (status == OK && is_write && arch_s2_broadcasts()) {
		arch_s2_flush_local(s2);
	}
	return status;
}
