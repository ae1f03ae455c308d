/* Looking at a space without changing it: one address, a range's permissions, a picture of it all.
 */
#include "hyp/s2_cursor.h"

/* What the cursor's entry says to a caller. */
static struct s2_leaf leaf_at(const struct s2_cursor *c, gpa_t at)
{
	const struct s2_format *f = c->format;
	struct s2_leaf leaf = {.kind = s2_entry_kind(f, c->entry, c->level), .level = c->level};

	switch (leaf.kind) {
	case S2_LEAF:
		leaf.attr = f->decode(c->entry);
		leaf.accessed = (c->entry & f->accessed) != 0;
		leaf.hpa = hpa_add(s2_entry_hpa(f, c->entry), at.v & (s2_span(f, c->level) - 1));
		break;
	case S2_STORED:
	case S2_MMIO:
		leaf.payload = s2_absent_payload(f, c->entry);
		break;
	case S2_TRANSIT:
		leaf.payload = s2_absent_payload(f, c->entry);
		if (!s2_transit_is_open(c->s2, c->entry)) {
			leaf.kind = S2_EMPTY;
		}
		break;
	case S2_BROKEN:
	case S2_POISON:
		leaf.kind = S2_TRANSIT;
		break;
	default:
		leaf.kind = S2_EMPTY;
		break;
	}
	return leaf;
}

struct s2_leaf s2_query(struct s2 *s2, gpa_t at)
{
	struct s2_leaf nothing = {.kind = S2_EMPTY, .level = s2->root_level};
	struct s2_cursor c;
	u64 outer;

	if (unlikely(at.v >> s2->ipa_bits)) {
		return nothing;
	}
	outer = s2_walk_begin(s2);
	/* No waiting here for what is in transit: whoever closes it waits for this walk to end. */
	s2_cursor_start(&c, s2, at);
	s2_cursor_descend(&c, 0);
	s2_walk_end(s2, outer);
	return leaf_at(&c, at);
}

bool s2_validate(struct s2 *s2, gpa_t at, u64 size, u8 perm)
{
	u64 end = at.v + size;

	if (end < at.v) {
		return false;
	}
	while (at.v < end) {
		struct s2_leaf leaf = s2_query(s2, at);

		if (leaf.kind == S2_TRANSIT) {
			cpu_relax();
			continue;
		}
		if (leaf.kind != S2_LEAF || (leaf.attr.perm & perm) != perm) {
			return false;
		}
		at.v = align_down(at.v, s2_span(s2->format, leaf.level)) +
		       s2_span(s2->format, leaf.level);
	}
	return true;
}

static bool region_continues(const struct s2_region *a, const struct s2_region *b)
{
	return a->kind == b->kind && a->gpa.v + a->size == b->gpa.v &&
	       (a->kind != S2_LEAF ||
		(a->level == b->level && a->attr.perm == b->attr.perm &&
		 a->attr.memory == b->attr.memory && a->accessed == b->accessed));
}

void s2_dump(struct s2 *s2, gpa_t at, u64 size, s2_region_fn fn, void *context)
{
	u64 end = at.v + min_u64(size, BIT(s2->ipa_bits) - at.v);
	struct s2_region run = {.size = 0};

	while (at.v < end && !(at.v >> s2->ipa_bits)) {
		struct s2_leaf leaf = s2_query(s2, at);
		u64 span = s2_span(s2->format, leaf.level);
		u64 next = min_u64(align_down(at.v, span) + span, end);
		struct s2_region region = {
			.gpa = at,
			.size = next - at.v,
			.level = leaf.level,
			.kind = leaf.kind,
			.attr = leaf.attr,
			.accessed = leaf.accessed,
			.hpa = leaf.hpa,
		};

		if (run.size > 0 && region_continues(&run, &region)) {
			run.size += region.size;
		} else {
			if (run.size > 0 && run.kind != S2_EMPTY) {
				fn(context, &run);
			}
			run = region;
		}
		at.v = next;
	}
	if (run.size > 0 && run.kind != S2_EMPTY) {
		fn(context, &run);
	}
}
