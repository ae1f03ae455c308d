/*
 * Entries that are not present and still say something: STORED and MMIO.
 *
 * Hardware faults on them like on anything not present, so putting and taking them needs no
 * invalidation; one compare-and-swap against the very entry, payload included, decides who of many
 * CPUs that fault on a stored page puts its frame there.
 */
#include "hyp/s2_cursor.h"

#define PAYLOAD_BITS 48
static_assert(S2_ABSENT_PAYLOAD >> 15 == BIT(PAYLOAD_BITS) - 1, "what a typed entry can hold");

enum status s2_set_typed(struct s2 *s2, gpa_t at, unsigned level, enum s2_kind kind, u64 payload,
			 const struct s2_batch *batch)
{
	if ((kind != S2_STORED && kind != S2_MMIO) || payload >> PAYLOAD_BITS ||
	    level > s2->root_level || !is_aligned(at.v, s2_span(s2->format, level)) ||
	    at.v >> s2->ipa_bits) {
		return INVALID;
	}
	return s2_entry_put(s2, at, level, s2_absent_entry(s2->format, kind, payload),
			    batch ? batch->transit : 0);
}

enum status s2_fill_stored(struct s2 *s2, gpa_t at, unsigned level, u64 payload, hpa_t a,
			   struct s2_attr attr)
{
	u64 stored = s2_absent_entry(s2->format, S2_STORED, payload), entry, outer;
	enum status status = s2_leaf_for(s2, at, level, a, attr, &entry);
	struct s2_cursor c;

	if (status != OK || payload >> PAYLOAD_BITS) {
		return status != OK ? status : INVALID;
	}
	outer = s2_walk_begin(s2);
	s2_cursor_start(&c, s2, at);
	s2_cursor_descend(&c, level);
	if (c.level == level && c.entry == stored && s2_entry_set(&c, entry, NULL)) {
		s2_mark_way(&c);
	} else {
		status = s2_entry_is_leaf(c.format, c.entry, c.level) ? EXISTS : s2_absence(&c);
	}
	s2_walk_end(s2, outer);
	return status;
}

/* Who starts to log writes waits for the walk that this is in: so what was written before is not
 * asked for, and what is written later is not taken. */
static bool may_be_stored(const struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	hpa_t a = s2_entry_hpa(f, c->entry);

	return load_relaxed(&c->s2->logging) == S2_LOG_OFF && !c->s2->rules &&
	       !s2_is_on_loan(c->s2, c->gpa.v, c->gpa.v + s2_span(f, 0)) &&
	       !(c->entry & (f->cow | f->contiguous)) && s2_lies_in_ram(a, s2_span(f, 0)) &&
	       s2_is_one_page(a) && !s2_memory_is_shared(a, s2_span(f, 0));
}

/* The cursor's entry, which is its leaf until hardware sets a flag in it, or somebody else takes
 * it. */
static enum status store_here(struct s2_cursor *c, u64 stored, struct s2_batch *batch,
			      struct s2_leaf *leaf)
{
	struct s2_found found;

	do {
		if (c->level != 0 || !s2_entry_is_leaf(c->format, c->entry, 0)) {
			return s2_absence(c);
		}
		if (!may_be_stored(c)) {
			return DENIED;
		}
		found = (struct s2_found){.entry = c->entry, .level = 0};
	} while (!s2_entry_set(c, stored, NULL));
	s2_batch_note_range(batch, c->gpa, s2_span(c->format, 0), 0, 1);
	*leaf = s2_leaf_present(c->s2, found, c->gpa);
	return OK;
}

enum status s2_store(struct s2 *s2, gpa_t at, u64 payload, struct s2_batch *batch,
		     struct s2_leaf *leaf)
{
	enum status status;
	struct s2_cursor c;
	u64 outer;

	if (payload >> PAYLOAD_BITS || (at.v & s2->inside[0]) || at.v >> s2->ipa_bits) {
		return INVALID;
	}
	outer = s2_walk_begin(s2);
	s2_cursor_start(&c, s2, at);
	s2_cursor_descend_held(&c, 0);
	status = store_here(&c, s2_absent_entry(s2->format, S2_STORED, payload), batch, leaf);
	s2_walk_end(s2, outer);
	return status;
}
