/*
 * Which memory was used, by accessed flags.
 *
 * The walk takes no lock: it stands in a walk section (s2_walk_begin), which it leaves after a
 * bounded number of entries so that no close waits long, and begins again from the address it came
 * to. Flags are cleared by compare-and-swap like everything else.
 *
 * A flag in a table entry says whether anything below it was used. It is cleared before the table
 * is looked into: what is used from then on sets it again, so nothing is missed. It is cleared only
 * where all of the table lies in the range, as nobody looked at the rest.
 *
 * Where such flags come from: EPT and NPT have them in hardware. If the first use of a page faults,
 * as on Arm and with EPT on old CPUs, s2_mark_accessed() sets a mark of ours on the way to it; if
 * hardware sets the leaf's flag by itself (Arm), nobody does, and every table is looked into.
 */
#include "hyp/s2_cursor.h"

#include "hyp/bitmap.h"
#include "hyp/log.h"

/* Entries that are looked at before the walk section is left for a moment. */
#define SECTION_ENTRIES 8192

struct job {
	struct s2 *s2;
	const struct s2_format *f;
	struct s2_harvest *h;
	u64 start, at, end;
	u64 flag;     /* of table entries; 0: they tell nothing */
	u64 left;     /* entries that may still be looked at in this section */
	u64 told;     /* the leaf, or its group, that was looked at last ends here */
	bool cleared; /* some flag was: CPUs owe a flush */
	bool free;    /* the table at `at` is to go */
};

/* ---- Leaves -------------------------------------------------------------------------------- */

static void report(struct job *job, u64 at, unsigned level)
{
	struct s2_harvest *h = job->h;

	h->young_count++;
	if (h->bitmap) {
		bitmap_set(h->bitmap, (max_u64(at, job->start) - job->start) >> job->f->page_shift);
	}
	if (h->young) {
		h->young(h->context, gpa(at), level);
	}
}

/* The flag `flag` is set in the entry at `slot`, as it seemed. Says whether it was. */
static bool take_flag(struct job *job, u64 *slot, u64 flag)
{
	bool taken;

	if (!job->h->clear) {
		return s2_entry_present(job->f, load_relaxed(slot));
	}
	taken = s2_slot_clear_flag(job->s2, slot, flag);
	job->cleared |= taken;
	return taken;
}

/*
 * Was the leaf at `at` used? If it has the contiguous hint any flag of its group tells of all of
 * it, so what lies of it in the range is told when the first leaf of that comes. The flags are
 * cleared when all of the group lies there: who asked for a part takes nothing from others that
 * they were not told.
 */
static __attribute__((noinline)) bool look_closer(struct job *job, u64 *slot, u64 at,
						  unsigned level)
{
	const struct s2_format *f = job->f;
	u64 count = s2_entry_is_hinted(f, load_relaxed(slot)) ? s2_group_entries(f, level) : 1;
	u64 span = s2_span(f, level), start = align_down(at, count * span);
	u64 end = start + count * span;
	bool may_take = count == 1 || (start >= job->start && end <= job->end), young = false;

	if (at < job->told) {
		return false;
	}
	job->told = end;
	slot -= (at - start) >> f->shift[level];
	for (; count > 0; count--, slot++) {
		young |= (load_relaxed(slot) & f->accessed) &&
			 (!may_take || take_flag(job, slot, f->accessed));
	}
	for (; young && level >= job->h->finest && at < min_u64(end, job->end); at += span) {
		report(job, at, level);
	}
	return young;
}

/*
 * A page without the hint, which is what most are, number `page` from the range's start on. It was
 * used, as it seemed. Working sets are large, so this is short, too.
 */
static inline bool look_at_young(struct job *job, u64 *slot, u64 page)
{
	struct s2_harvest *h = job->h;

	if (!take_flag(job, slot, job->f->accessed)) {
		return false;
	}
	if (h->finest > 0) {
		return true;
	}
	if (h->young) {
		report(job, job->start + (page << job->f->page_shift), 0);
	} else {
		h->young_count++;
		if (h->bitmap) {
			bitmap_set(h->bitmap, page);
		}
	}
	return true;
}

/* A run of pages from job->at on. Most were not used, so that is what the loop is made for. */
static bool look_at_pages(struct job *job, u64 *slot, u64 count)
{
	const u64 hint = job->f->contiguous, telling = job->f->accessed | hint;
	const u64 page_shift = job->f->page_shift, at = job->at;
	const u64 page = (at - job->start) >> page_shift;
	u64 *first = slot, *end = slot + count;
	bool any = false;

	job->left -= min_u64(job->left, count);
	job->h->looked_count += count;
	unroll_loop(8)
	for (; slot < end; slot++) {
		u64 entry = load_relaxed(slot);

		if (unlikely(entry & telling)) {
			u64 i = (u64)(slot - first);

			any |= entry & hint ? look_closer(job, slot, at + (i << page_shift), 0)
					    : look_at_young(job, slot, page + i);
		}
	}
	return any;
}

/* ---- Tables -------------------------------------------------------------------------------- */

/* The walk stands at the first of what the cursor's entry covers: is all of that in the range? */
static bool lies_in_range(const struct job *job, const struct s2_cursor *c)
{
	return s2_cursor_end(c) <= job->end;
}

/*
 * Does the flag of the cursor's table entry say what was used below it? Not where others come to
 * that table by entries of their own; nor in the middle of a table: perhaps the walk was here
 * before, and has cleared the flag then.
 */
static bool flag_tells(const struct job *job, const struct s2_cursor *c)
{
	return job->flag != 0 && s2_entry_present(job->f, c->entry) &&
	       c->level < job->s2->linked_level && job->at == s2_cursor_first(c);
}

/* Was anything used below the cursor's table entry? Begins to watch anew, where that is asked for.
 */
static bool table_is_young(struct job *job, struct s2_cursor *c)
{
	if (!flag_tells(job, c)) {
		return true;
	}
	if (!(c->entry & job->flag)) {
		/* Tables that are to go are of level 0: one looks for them. */
		return job->h->tables == S2_TABLES_FREE && c->level > 1;
	}
	if (lies_in_range(job, c)) {
		take_flag(job, c->slot, job->flag);
	}
	return true;
}

/* All pages of the table that the cursor's entry leads to, which counts as one. */
static bool any_page_is_young(struct job *job, const struct s2_cursor *c, u64 *table)
{
	u64 end = min_u64(job->end, s2_cursor_end(c));

	return look_at_pages(job, table + s2_index(job->f, job->at, 0, S2_LEVELS_MAX),
			     (end - job->at) >> job->f->page_shift);
}

/*
 * The cursor is at an entry that leads to `table`. True: the cursor is in that table now. False:
 * all of the entry is done with.
 */
static bool enter_table(struct job *job, struct s2_cursor *c, u64 *table)
{
	if (!table_is_young(job, c)) {
		job->h->skipped_count += s2_span(job->f, c->level - 1) >> job->f->page_shift;
		job->free =
			job->h->tables == S2_TABLES_FREE && c->level == 1 && lies_in_range(job, c);
		return false;
	}
	if (c->level > job->h->finest) {
		s2_cursor_enter(c, table);
		/* Its flag is gone: it is looked into, if only for one entry, before a section
		 * ends. */
		job->left = max_u64(job->left, 1);
		return true;
	}
	/* Hardware's flag says all that is asked, where it counts for all. Ours is set by faults,
	 * which the pages take again only when theirs are cleared too. */
	if ((job->f->accessed_table && flag_tells(job, c)) || any_page_is_young(job, c, table)) {
		report(job, s2_cursor_first(c), c->level);
	}
	return false;
}

/* ---- The walk ------------------------------------------------------------------------------ */

/* To the entry for job->at, climbing where a table ended. */
static void advance(const struct job *job, struct s2_cursor *c)
{
	unsigned level = c->level;

	c->gpa = gpa(job->at);
	while (level < job->s2->root_level &&
	       s2_index(job->f, job->at, level, S2_LEVELS_MAX) == 0) {
		level++;
	}
	s2_cursor_place(c, level);
}

static void look_at_run(struct job *job, struct s2_cursor *c)
{
	u64 end = min_u64(job->end, s2_cursor_table_end(c));
	u64 count = min_u64((end - job->at) >> job->f->page_shift, job->left);

	look_at_pages(job, c->slot, count);
	job->at += count << job->f->page_shift;
}

static void look_at_entry(struct job *job, struct s2_cursor *c)
{
	u64 *table = s2_entry_below(job->f, c->entry, c->level);
	bool leads = table && s2_entry_kind(job->f, c->entry, c->level) != S2_BROKEN;

	job->h->looked_count++;
	/* The way down costs no budget, so that any budget comes a step ahead. */
	if (leads && enter_table(job, c, table)) {
		return;
	}
	job->left -= min_u64(job->left, 1);
	if (!leads && !look_closer(job, c->slot, s2_cursor_first(c), c->level) &&
	    (table || (c->entry & job->f->accessed))) {
		/* Broken, or was just now. Nobody looks below, so it counts as used: the tables
		 * above must say so again. */
		s2_mark_way(c);
	}
	if (!job->free) {
		job->at = min_u64(s2_cursor_end(c), job->end);
	}
}

/* One walk section. */
static void walk_section(struct job *job)
{
	u64 outer = s2_walk_begin(job->s2);
	struct s2_cursor c;

	s2_cursor_start(&c, job->s2, gpa(job->at));
	while (job->at < job->end && job->left > 0 && !job->free) {
		u64 before = job->at;

		if (c.level == 0) {
			look_at_run(job, &c);
		} else {
			look_at_entry(job, &c);
		}
		if (job->at != before && job->at < job->end) {
			advance(job, &c);
		}
	}
	s2_walk_end(job->s2, outer);
}

/* Nothing of the table at job->at was used, unless since. */
static void free_table(struct job *job)
{
	struct s2_cursor c;

	lock_take(&job->s2->lock);
	s2_cursor_start(&c, job->s2, gpa(job->at));
	s2_cursor_descend(&c, 1);
	if (s2_entry_is_table(job->f, c.entry, c.level) && c.level == 1 && !(c.entry & job->flag)) {
		s2_table_retire(&c, job->h->batch);
	}
	lock_drop(&job->s2->lock);
	job->free = false;
	job->at = s2_cursor_end(&c);
}

u64 s2_table_flag(const struct s2 *s2)
{
	if (s2->format->accessed_table) {
		return s2->format->accessed_table;
	}
	return s2->traits & S2_HARDWARE_ACCESSED ? 0 : s2->format->accessed_table_mark;
}

/* Where tables have hardware's flags no first use faults, so if it does not set them nobody does.
 */
static bool can_tell(const struct s2 *s2)
{
	return s2->format->accessed_table == 0 || (s2->traits & S2_HARDWARE_ACCESSED);
}

enum status s2_harvest(struct s2 *s2, gpa_t at, u64 size, struct s2_harvest *h)
{
	struct job job = {.s2 = s2,
			  .f = s2->format,
			  .h = h,
			  .start = at.v,
			  .at = at.v,
			  .end = at.v + size,
			  .flag = h->tables == S2_TABLES_RETAIN ? 0 : s2_table_flag(s2)};
	u64 budget = h->budget ? h->budget : ~0ull;

	if (!s2_range_is_valid(s2, at, size) || h->finest > 1 ||
	    (h->tables == S2_TABLES_FREE) != (h->batch != NULL) || !can_tell(s2)) {
		return INVALID;
	}
	if ((h->clear || h->batch) && !s2->rules && s2_is_on_loan(s2, at.v, at.v + size)) {
		return DENIED;
	}
	if (h->clear && job.flag) {
		store_relaxed(&s2->quieted, true);
		fence_full(); /* see s2_mark_way_to() */
	}
	while (job.at < job.end && budget > 0) {
		u64 section = min_u64(SECTION_ENTRIES, budget);

		job.left = section;
		walk_section(&job);
		budget -= section - job.left;
		if (job.free) {
			free_table(&job);
		}
	}
	if (job.cleared) {
		s2_epoch_owe(s2);
	}
	h->next = min_u64(max_u64(job.at, job.told), job.end);
	return h->next < job.end ? MORE : OK;
}
