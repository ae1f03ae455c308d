/* What one address is translated to, without changing anything. */
#include "hyp/s2_cursor.h"

struct s2_leaf s2_leaf_absent(const struct s2 *s2, struct s2_found found)
{
	const struct s2_format *f = s2->format;
	struct s2_leaf leaf = {.level = (u8)found.level};

	if (s2_entry_is_pending(s2, found.entry)) {
		leaf.kind = S2_TRANSIT;
	} else if (s2_entry_is_typed(f, found.entry)) {
		leaf.kind = s2_entry_kind(f, found.entry, 0);
	} else {
		return leaf; /* empty */
	}
	leaf.payload = s2_absent_payload(f, found.entry);
	return leaf;
}

/* Whatever the format and wherever we are called from; and through tables that dirty logging holds,
 * which are real, and stay while a walk is on. Nothing in them was written. */
static __attribute__((noinline)) struct s2_found find_slowly(struct s2 *s2, gpa_t at)
{
	struct s2_found found = {.entry = s2->format->empty, .level = s2->root_level};
	u64 clean = 0, outer, *below;
	struct s2_cursor c;

	if (at.v >> s2->ipa_bits) {
		return found;
	}
	outer = s2_walk_to(&c, s2, at);
	while (c.level > 0 && s2_entry_kind(c.format, c.entry, c.level) == S2_HELD &&
	       (below = s2_entry_below(c.format, c.entry, c.level))) {
		clean = c.format->dirty;
		s2_cursor_enter(&c, below);
		s2_cursor_descend(&c, 0);
	}
	s2_walk_end(s2, outer);
	found.entry = s2_entry_present(c.format, c.entry) ? c.entry & ~clean : c.entry;
	found.level = c.level;
	return found;
}

/* No waiting here for what is in transit: whoever closes it waits for this walk to end. */
struct s2_found s2_find(struct s2 *s2, gpa_t at)
{
	u64 *walking = s2_walking(s2), *slot;
	struct s2_found found;
	unsigned level;
	bool walked;

	if (unlikely(load_relaxed(walking))) {
		return find_slowly(s2, at);
	}
	s2_walk_begin_at(s2, walking);
	walked = s2_walk_plain(s2, at, &level, &slot, &found.entry);
	store_release(walking, 0);
	if (unlikely(!walked || (level > 0 && s2_entry_is_held(s2->format, found.entry)))) {
		return find_slowly(s2, at);
	}
	found.level = level;
	return found;
}
