/*
 * Merging: two pages with equal bytes become one frame, which both write no more.
 *
 * First `a`: its frame gets a second reference, which is to be b's, and write is withheld as for a
 * fork (see s2_fork.c). From then on its bytes stay, whatever happens to `a`. Then `b`: its leaf is
 * claimed, so nobody can use its frame at all. Now bytes are compared, and the claim makes place
 * for a leaf of a's frame, or for the one that was there. A page's hash is somebody else's
 * business: here nothing is merged that is not equal, byte for byte.
 */
#include "hyp/log.h"
#include "hyp/s2_cursor.h"
#include "hyp/s2_share.h"

#include <string.h>

struct merge {
	struct s2_change change; /* first: it is handed to judge_other() and merged() */
	hpa_t shared;
	bool equal;
};

/* In a walk: may the cursor's page be merged? */
static enum status judge_page(const struct s2_cursor *c)
{
	struct frame *frame;

	if (!s2_entry_is_leaf(c->format, c->entry, c->level)) {
		return s2_absence(c);
	}
	frame = frame_of(s2_entry_hpa(c->format, c->entry));
	return c->level > 0 || !frame || frame->type == FRAME_DEVICE ? INVALID : OK;
}

/* Takes a reference to a's frame, whose bytes then stay as they are. */
static enum status share_page(struct s2_place a, hpa_t *shared)
{
	struct s2 *s2 = a.s2;
	struct s2_batch batch;
	enum status status;
	struct s2_cursor c;
	u64 outer;

	s2_batch_open(&batch, s2);
	lock_take(&s2->lock);
	outer = s2_walk_to(&c, s2, a.gpa);
	s2_hint_unfold(&c, 1);
	*shared = s2_entry_hpa(c.format, c.entry);
	status = judge_page(&c);
	if (status == OK && !s2_share_leaf(&c, &batch)) {
		status = AGAIN;
	}
	s2_walk_end(s2, outer);
	lock_drop(&s2->lock);
	s2_batch_close(&batch);
	s2_epoch_wait_walks(s2);
	return status;
}

static enum status judge_other(struct s2_change *change, struct s2_cursor *c)
{
	const struct merge *merge = (const struct merge *)change;
	enum status status = judge_page(c);

	return status == OK && s2_entry_hpa(c->format, c->entry).v == merge->shared.v ? EXISTS
										      : status;
}

/* A leaf of `shared`, if that is equal to what the old one has. */
static u64 merged(struct s2_change *change)
{
	struct merge *merge = (struct merge *)change;
	const struct s2_format *f = change->batch.s2->format;
	hpa_t own = s2_entry_hpa(f, change->leaf);
	u64 size = s2_span(f, 0);

	merge->equal = memcmp(hpa_ptr(merge->shared), hpa_ptr(own), size) == 0;
	if (!merge->equal) {
		return change->leaf;
	}
	s2_batch_note_frames(&change->batch, own, size);
	return s2_entry_over(f, s2_withheld(f, change->leaf), merge->shared);
}

enum status s2_merge_pages(struct s2_place a, struct s2_place b)
{
	struct merge merge = {.change = {.at = b.gpa, .judge = judge_other, .replace = merged}};
	enum status status;

	if ((a.s2 == b.s2 && a.gpa.v == b.gpa.v) || a.s2->inside[0] != b.s2->inside[0]) {
		return INVALID;
	}
	if (load_relaxed(&b.s2->hinted)) { /* no leaf that has the hint is claimed */
		s2_unhint(b.s2, b.gpa, b.s2->inside[0] + 1);
	}
	s2_share_begin(a.s2);
	s2_share_begin(b.s2);
	status = share_page(a, &merge.shared);
	if (status != OK) {
		return status;
	}
	status = s2_change_leaf(b.s2, &merge.change);
	if (status == OK && !merge.equal) {
		status = DENIED;
	}
	if (status != OK) {
		s2_memory_put(merge.shared, a.s2->inside[0] + 1);
		/* If it is the last holder again, it need not fault for that. */
		s2_cow_fault(a.s2, a.gpa, hpa_none(), 0);
	}
	return status;
}

static struct s2_place place_of(const struct s2_holder *holder)
{
	return (struct s2_place){.s2 = holder->member->s2, .gpa = holder->gpa};
}

enum status s2_merge(struct s2_rmap *rmap, struct s2_holder *a, struct s2_holder *b)
{
	enum status status = s2_merge_pages(place_of(a), place_of(b));

	if (status == OK || status == EXISTS) {
		s2_rmap_correct(rmap, a);
		s2_rmap_correct(rmap, b);
	}
	return status;
}
