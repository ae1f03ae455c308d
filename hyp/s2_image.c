/* What the entries of an image are in the tables. */
#include "hyp/s2_image.h"
#include "hyp/s2_cursor.h"

struct s2_image_range s2_image_look(struct s2 *s2, u64 at)
{
	const struct s2_format *f = s2->format;
	struct s2_found found = s2_find(s2, gpa(at));
	bool present = s2_entry_present(f, found.entry);
	struct s2_leaf leaf =
		present ? s2_leaf_present(s2, found, gpa(at)) : s2_leaf_absent(s2, found);
	u64 span = s2_span(f, leaf.level);
	struct s2_image_range range = {
		.kind = leaf.kind,
		.level = leaf.level,
		.gpa = gpa(at),
		.size = align_down(at, span) + span - at,
		.value = present ? leaf.hpa.v : leaf.payload,
	};

	while (!is_aligned(at, s2_span(f, range.level)) ||
	       (present && !s2_level_may_be_leaf(f, range.level))) {
		range.level--;
	}
	if (present) {
		range.attr = leaf.attr;
		/* What the guest may do, when nothing is withheld. */
		range.attr.perm |= found.entry & (f->cow | f->log) ? S2_WRITE : 0;
		range.accessed = leaf.accessed;
		range.dirty = leaf.dirty;
		range.shared = leaf.shared;
	}
	return range;
}

/* The leaf with the flags that it had. Who shares its frame must not write to it: nor may hardware
 * give write back by itself, as where it logs. */
static u64 with_marks(struct s2 *s2, const struct s2_image_range *range, u64 entry)
{
	const struct s2_format *f = s2->format;

	entry = (entry & ~f->accessed) | (range->accessed ? f->accessed : 0);
	entry |= range->dirty ? f->dirty : 0;
	if (range->shared) {
		s2_share_begin(s2);
		entry = entry & f->write ? (entry & ~(f->write | f->log)) | f->cow : entry;
	}
	return entry;
}

enum status s2_image_put(struct s2 *s2, const struct s2_image_range *range)
{
	enum status status;
	u64 entry;

	if (range->kind != S2_LEAF) {
		return s2_set_typed(s2, range->gpa, range->level, range->kind, range->value, NULL);
	}
	status = s2_leaf_for(s2, range->gpa, range->level, hpa(range->value), range->attr, &entry);
	if (status != OK) {
		return status;
	}
	return s2_entry_put(s2, range->gpa, range->level, with_marks(s2, range, entry), 0);
}
