/* Looking at a range without changing it: its permissions, room for something new, a picture of it
 * all. Made of queries, each from the root, so whatever changes meanwhile they stand in no table
 * for longer than one. */
#include "hyp/s2.h"

/* ---- Permissions --------------------------------------------------------------------------- */

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
		at.v = (at.v | s2->inside[leaf.level]) + 1;
	}
	return true;
}

/* ---- Gaps ---------------------------------------------------------------------------------- */

/* An empty entry speaks for all that it covers, so where nothing is mapped the steps are large. */
enum status s2_find_gap(struct s2 *s2, gpa_t from, gpa_t end, u64 size, u64 align, gpa_t *gap)
{
	u64 stop = min_u64(end.v, BIT(s2->ipa_bits)), start, at;

	if (size == 0 || (size & s2->inside[0]) || align == 0 || !is_aligned(align, align)) {
		return INVALID;
	}
	align = max_u64(align, s2->inside[0] + 1);
	start = at = align_up(min_u64(from.v, stop), align);
	while (start < stop && stop - start >= size) {
		struct s2_leaf leaf = s2_query(s2, gpa(at));

		at = (at | s2->inside[leaf.level]) + 1;
		if (leaf.kind != S2_EMPTY) {
			start = at = align_up(at, align);
		} else if (at - start >= size) {
			*gap = gpa(start);
			return OK;
		}
	}
	return NOENT;
}

/* ---- The picture --------------------------------------------------------------------------- */

static bool region_continues(const struct s2_region *a, const struct s2_region *b)
{
	return a->kind == b->kind && a->gpa.v + a->size == b->gpa.v &&
	       (a->kind != S2_LEAF ||
		(a->level == b->level && a->attr.perm == b->attr.perm &&
		 a->attr.memory == b->attr.memory && a->attr.notify == b->attr.notify &&
		 a->accessed == b->accessed && a->hinted == b->hinted));
}

/* What is empty is not told of. */
static void tell(const struct s2_region *run, s2_region_fn fn, void *context)
{
	if (run->kind != S2_EMPTY) {
		fn(context, run);
	}
}

void s2_dump(struct s2 *s2, gpa_t at, u64 size, s2_region_fn fn, void *context)
{
	u64 end = at.v + min_u64(size, BIT(s2->ipa_bits) - at.v);
	struct s2_region run = {.kind = S2_EMPTY};

	while (at.v < end && !(at.v >> s2->ipa_bits)) {
		struct s2_leaf leaf = s2_query(s2, at);
		u64 next = min_u64((at.v | s2->inside[leaf.level]) + 1, end);
		struct s2_region region = {
			.gpa = at,
			.size = next - at.v,
			.level = leaf.level,
			.kind = leaf.kind,
			.attr = leaf.attr,
			.accessed = leaf.accessed,
			.hinted = leaf.hinted,
			.hpa = leaf.hpa,
		};

		if (region_continues(&run, &region)) {
			run.size += region.size;
		} else {
			tell(&run, fn, context);
			run = region;
		}
		at.v = next;
	}
	tell(&run, fn, context);
}
