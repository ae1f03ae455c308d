/*
 * Views: spaces whose leaves are another's, with other permissions.
 *
 * A view's leaves are a cache of two things, the base's leaves and the view's rules. Both change
 * first; whatever was derived from the old goes when the batch is flushed (s2_view_sweep): walks
 * are waited for, so no fault is under way that saw the old; then the view's leaves in the batch's
 * ranges are cleared; then one invalidation covers base and views. A fault that comes later sees
 * the new.
 *
 * No leaf of a view holds a reference: it is gone before the frames of the base's batch are given
 * back. Nor do cleared entries have to say that they are in transit (I9): what could be put there
 * is what the base says, and there it is in transit.
 *
 * Rules lie in a page (s2_rules.c), which nobody changes: new ones take its place as a whole.
 */
#include "hyp/s2_cursor.h"
#include "hyp/s2_rules.h"
#include "hyp/s2_view.h"

#include <arch/s2.h>

/* ---- Rules --------------------------------------------------------------------------------- */

/* Where nothing is allowed there is no leaf to say it. */
static bool is_rule(const struct s2 *s2, u8 perm)
{
	return perm == 0 || s2_says_perm(s2, perm);
}

enum status s2_view_protect(struct s2 *view, gpa_t at, u64 size, u8 perm, struct s2_batch *batch)
{
	struct s2_rule change = {.start = at.v, .end = at.v + size, .perm = perm};
	u64 *rules;

	if (!s2_range_is_valid(view, at, size) || !view->rules || !is_rule(view, perm)) {
		return INVALID;
	}
	rules = s2_table_alloc(view);
	if (!rules) {
		return NOMEM;
	}
	lock_take(&view->lock);
	if (!s2_rules_change(rules, view->rules, s2_table_entries(view->format), &change,
			     BIT(view->ipa_bits))) {
		lock_drop(&view->lock);
		s2_table_free(view, rules);
		return FULL;
	}
	s2_batch_note_table(batch, view->rules);
	s2_batch_note_range(batch, at, size, S2_LEVELS_MAX, 1);
	store_release(&view->rules, rules);
	lock_drop(&view->lock);
	return OK;
}

/* ---- Life ---------------------------------------------------------------------------------- */

static void end_view(struct s2 *view)
{
	s2_count_loans(view, 0);
	s2_destroy(view);
	if (view->rules) {
		frame_put(ptr_hpa(view->rules));
	}
	view->rules = NULL;
}

enum status s2_view_init(struct s2 *view, struct s2 *base, u8 perm)
{
	enum status status = is_rule(base, perm)
				     ? s2_init(view, base->format, base->ipa_bits, base->owner)
				     : INVALID;

	if (status != OK) {
		return status;
	}
	view->traits = base->traits;
	view->rules = s2_table_alloc(view);
	status = view->rules ? s2_depend(base, view) : NOMEM;
	if (status != OK) {
		end_view(view);
		return status;
	}
	s2_rules_begin(view->rules, s2_table_entries(view->format), perm);
	view->loans[0] = (struct s2_loan){.end = BIT(base->ipa_bits), .from = base};
	s2_count_loans(view, 1);
	return OK;
}

void s2_view_destroy(struct s2 *view)
{
	s2_depend_no_more(view->loans[0].from, view);
	end_view(view);
}

/* ---- Faults -------------------------------------------------------------------------------- */

/* Does hardware note in the base's leaf that it was written? What is written through a view it
 * would not. */
static bool hardware_notes_writes(const struct s2_cursor *c)
{
	const struct s2_format *f = c->format;

	return (c->s2->traits & S2_HARDWARE_DIRTY) &&
	       (c->entry & (f->log_is_hardware ? f->log : f->write));
}

/*
 * The base's leaf, for as long as the view's walk lasts: marked, for a write, as hardware would
 * mark it. Not through what dirty logging holds: that is for a fault of the base to look at.
 */
static enum status find_leaf(struct s2_cursor *c, struct s2 *base, gpa_t at, bool is_write)
{
	const struct s2_format *f = base->format;
	u64 mark = f->log_is_hardware ? f->write : f->dirty;

	s2_cursor_start(c, base, at);
	s2_cursor_descend(c, 0);
	if (!s2_entry_is_leaf(f, c->entry, c->level)) {
		return s2_entry_is_held(f, c->entry) ? NOENT : s2_absence(c);
	}
	if (is_write && hardware_notes_writes(c) && !s2_entry_set(c, c->entry | mark, NULL)) {
		return AGAIN;
	}
	return OK;
}

/* Puts the leaf, or gives the one that is there its permissions. */
static enum status put_leaf(struct s2 *view, u64 at, unsigned level, u64 entry)
{
	const struct s2_format *f = view->format;
	struct s2_cursor c;
	enum status status;

	s2_cursor_start(&c, view, gpa(align_down(at, s2_span(f, level))));
	status = s2_put_entry(&c, level, entry, 0);
	if (status != EXISTS || s2_entry_is_table(f, c.entry, c.level)) {
		return status;
	}
	if (c.level != level || s2_entry_hpa(f, c.entry).v != s2_entry_hpa(f, entry).v) {
		return AGAIN; /* from before a change whose batch is open */
	}
	if (!s2_entry_set(&c, (c.entry & ~f->perm_mask) | (entry & (f->perm_mask | f->accessed)),
			  NULL)) {
		return AGAIN;
	}
	if (arch_s2_broadcasts()) {
		/* A TLB may keep what faulted for want of permission (DDI 0487, D8.16). */
		arch_s2_flush_range(view, gpa(s2_cursor_first(&c)), s2_span(f, level), level);
		arch_s2_flush_tail(view);
	}
	return OK;
}

/* The largest leaf that lies in the base's and under one rule; smaller where smaller ones are. */
static enum status derive_leaf(struct s2 *view, const struct s2_cursor *from, struct s2_attr attr,
			       const struct s2_rule *rule)
{
	const struct s2_format *f = view->format;
	u64 at = from->gpa.v, base = s2_entry_hpa(f, from->entry).v - s2_cursor_first(from);
	enum status status = EXISTS;

	for (int level = (int)from->level; level >= 0 && status == EXISTS; level--) {
		u64 span = s2_span(f, (unsigned)level), first = align_down(at, span);

		if (s2_level_may_be_leaf(f, (unsigned)level) && rule->start <= first &&
		    rule->end - first >= span) {
			status = put_leaf(view, at, (unsigned)level,
					  s2_leaf_bits(view, attr, (unsigned)level) |
						  s2_address_bits(f, hpa(base + first)));
		}
	}
	return status;
}

/* In a walk section of the view's, for which closes of the base wait too. */
static enum status fault(struct s2 *view, gpa_t at, u8 access)
{
	struct s2_rule rule =
		s2_rule_at(load_acquire(&view->rules), s2_table_entries(view->format), at.v);
	struct s2_cursor c;
	struct s2_leaf leaf;
	enum status status;

	if (access & ~rule.perm) {
		return DENIED;
	}
	status = find_leaf(&c, view->loans[0].from, at, access & S2_WRITE);
	if (status != OK) {
		return status;
	}
	leaf = s2_leaf_present(view, (struct s2_found){c.entry, c.level}, at);
	if (hardware_notes_writes(&c) && !leaf.dirty) {
		leaf.attr.perm &= (u8)~S2_WRITE;
	}
	leaf.attr.perm &= rule.perm;
	if (access & ~leaf.attr.perm) {
		return NOENT;
	}
	return s2_says_perm(view, leaf.attr.perm) ? derive_leaf(view, &c, leaf.attr, &rule)
						  : DENIED;
}

enum status s2_view_fault(struct s2 *view, gpa_t at, u8 access)
{
	enum status status;
	u64 outer;

	if (at.v >> view->ipa_bits) {
		return NOENT;
	}
	outer = s2_walk_begin(view);
	status = fault(view, at, access);
	s2_walk_end(view, outer);
	return status;
}

/* ---- Sweeps -------------------------------------------------------------------------------- */

/* What the view has in one table, or one leaf, at `at`; returns where to go on. Tables that are
 * empty then go into `batch`, if it will be closed (see undo() in hyp/s2_map.c). */
static u64 sweep_table(struct s2 *view, u64 at, u64 end, struct s2_batch *batch)
{
	const struct s2_format *f = view->format;
	struct s2_batch gone = {.s2 = view, .transit = f->empty, .tables = batch->tables};
	struct s2_cursor c;
	u64 next;

	s2_cursor_start(&c, view, gpa(at));
	s2_cursor_descend(&c, 0);
	next = c.level > 0 ? s2_cursor_end(&c) : min_u64(s2_cursor_table_end(&c), end);
	s2_run_clear(&c, c.level > 0 ? 1 : (next - at) >> f->page_shift, &gone);
	if (batch->open) {
		s2_retire_empty(&c, &gone);
	}
	if (gone.tables != batch->tables) {
		batch->tables = gone.tables;
		s2_batch_note_range(batch, gpa(s2_cursor_first(&c)), s2_span(f, c.level),
				    S2_LEVELS_MAX, 0);
	}
	return next;
}

/* The lock is dropped between tables (I7). Sweeping notes ranges of its own, of tables, which have
 * nothing more to sweep. */
static void sweep_noted(struct s2 *view, struct s2_batch *batch)
{
	bool everything = batch->everything;
	u32 count = everything ? 1 : batch->range_count;

	for (u32 i = 0; i < count; i++) {
		u64 at = everything ? 0 : batch->ranges[i].start;
		u64 end = everything ? BIT(view->ipa_bits) : batch->ranges[i].end;

		while (at < end) {
			lock_take(&view->lock);
			at = sweep_table(view, at, end, batch);
			lock_drop(&view->lock);
		}
	}
}

void s2_view_sweep(struct s2_batch *batch)
{
	struct s2 *spaces[S2_SPACES_MAX];
	u32 count = s2_all_spaces(batch->s2, spaces);

	for (u32 i = 0; i < count; i++) {
		if (spaces[i]->rules) {
			s2_epoch_wait_own_walks(spaces[i]);
			sweep_noted(spaces[i], batch);
		}
	}
}
