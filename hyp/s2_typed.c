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
