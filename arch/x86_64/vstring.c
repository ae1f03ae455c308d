#include "vstring.h"

#include "hyp/addr.h"

#include "vinject.h"

/* Of a segment's rights. */
#define RIGHTS_CODE BIT(3)
#define RIGHTS_EXPANDS_DOWN BIT(2) /* of data */
#define RIGHTS_WRITE BIT(1)	   /* of data; of code: may be read */
#define RIGHTS_BIG BIT(14)
#define RIGHTS_UNUSABLE BIT(16)

#define PAGE_OFFSET (PAGE_SIZE - 1)
#define CANONICAL_SHIFT 47

/* ---- Registers ------------------------------------------------------------------------------- */

/* What of a register the instruction uses. */
static u64 mask_of(const struct vstring *s)
{
	return BITS(8 * s->index_size - 1, 0);
}

u64 vstring_left(const struct vstring *s)
{
	return s->rep ? s->count & mask_of(s) : 1;
}

/* 16 bits leave the rest of their register; 32 bits clear the upper half. */
static u64 put(const struct vstring *s, u64 old, u64 value)
{
	return s->index_size == 2 ? (old & ~mask_of(s)) | (value & mask_of(s)) : value & mask_of(s);
}

void vstring_advance(struct vstring *s, u32 elements)
{
	u64 bytes = (u64)elements * s->size;

	s->index = put(s, s->index, s->down ? s->index - bytes : s->index + bytes);
	if (s->rep) {
		s->count = put(s, s->count, s->count - elements);
	}
}

/* ---- Segments -------------------------------------------------------------------------------- */

static bool is_canonical(u64 a)
{
	u64 top = a >> CANONICAL_SHIFT;

	return top == 0 || top == BITS(63 - CANONICAL_SHIFT, 0);
}

static bool is_of_right_type(const struct vstring *s)
{
	u32 rights = s->segment.rights;

	if (rights & RIGHTS_UNUSABLE) {
		return false;
	}
	return s->in ? !(rights & RIGHTS_CODE) && (rights & RIGHTS_WRITE)
		     : !(rights & RIGHTS_CODE) || (rights & RIGHTS_WRITE);
}

/* Offsets [first, last]; they do not wrap. */
static bool is_within_limit(const struct vstring_segment *segment, u64 first, u64 last)
{
	bool down = !(segment->rights & RIGHTS_CODE) && (segment->rights & RIGHTS_EXPANDS_DOWN);
	u64 end = segment->rights & RIGHTS_BIG ? BITS(31, 0) : BITS(15, 0);

	return down ? first > segment->limit && last <= end : last <= segment->limit;
}

static u64 linear(const struct vstring *s, u64 offset)
{
	u64 at = s->segment.base + offset;

	return s->long_mode ? at : (u32)at;
}

/* May `count` elements, of which the lowest begins at `offset`, be used? */
static bool is_allowed(const struct vstring *s, u64 offset, u64 count)
{
	u64 last = offset + count * s->size - 1;

	if (s->long_mode) {
		return is_canonical(linear(s, offset)) && is_canonical(linear(s, last));
	}
	return is_of_right_type(s) && is_within_limit(&s->segment, offset, last);
}

/* ---- Steps ----------------------------------------------------------------------------------- */

/* How many elements from `offset` on, which is the first's, lie in its page before it wraps. */
static u64 elements_in_page(const struct vstring *s, u64 offset)
{
	u64 in_page = linear(s, offset) & PAGE_OFFSET;
	u64 to_wrap = s->down ? offset : mask_of(s) - offset;
	u64 to_edge = s->down ? in_page : PAGE_SIZE - s->size - in_page;

	if (in_page + s->size > PAGE_SIZE) {
		return 1;
	}
	return min_u64(to_wrap, to_edge) / s->size + 1;
}

struct vstring_step vstring_next(const struct vstring *s)
{
	u64 offset = s->index & mask_of(s);
	u64 count =
		min_u64(min_u64(vstring_left(s), VSTRING_STEP_MAX), elements_in_page(s, offset));
	struct vstring_step step = {.elements = (u32)count};

	/* A segment may end within the page: up to there they are done, one by one. */
	if (!is_allowed(s, s->down ? offset - (count - 1) * s->size : offset, count)) {
		step.elements = 1;
		if (!is_allowed(s, offset, 1)) {
			step.fault = s->segment.is_stack ? EXCEPTION_SS : EXCEPTION_GP;
		}
	}
	if (s->down) {
		offset -= (u64)(step.elements - 1) * s->size;
	}
	step.at = linear(s, offset);
	step.next = linear(s, offset + vstring_first_bytes(s, &step));
	return step;
}

u32 vstring_bytes(const struct vstring *s, const struct vstring_step *step)
{
	return step->elements * s->size;
}

u32 vstring_first_bytes(const struct vstring *s, const struct vstring_step *step)
{
	return (u32)min_u64(vstring_bytes(s, step), PAGE_SIZE - (step->at & PAGE_OFFSET));
}
