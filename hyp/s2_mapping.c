/*
 * Slots of mappings.
 *
 * The slots' lock guards words, never work (I7): a call claims its slot (BUSY) or its part (users),
 * lets go, has the space do the work, and says afterwards how far that came. Ranges of claimed
 * slots count as taken, so no two mappings ever overlap.
 */
#include "hyp/s2_mapping.h"

#include "hyp/log.h"

enum { SLOT_FREE, SLOT_BUSY, SLOT_LIVE };

static const struct {
	enum status status;
	const char *text;
} whys[] = {
#define X(name, status, text) {status, text},
	S2_MAPPING_WHYS(X)
#undef X
};

void s2_mapping_text(const struct s2_mapping_refusal *refusal, char *text, size_t size)
{
	int length = text_format(text, size, whys[refusal->why].text, refusal->slot);

	if (refusal->why == S2_MAPPING_SPACE && (size_t)length < size) {
		text_format(text + length, size - (size_t)length, "%s",
			    status_name(refusal->status));
	}
}

static enum status say(struct s2_mapping_refusal *refusal, enum s2_mapping_why why, unsigned slot)
{
	*refusal = (struct s2_mapping_refusal){why, (u16)slot, whys[why].status};
	return refusal->status;
}

static enum status say_space(struct s2_mapping_refusal *refusal, enum status status, unsigned slot)
{
	say(refusal, status == OK ? S2_MAPPING_DONE : S2_MAPPING_SPACE, slot);
	refusal->status = status;
	return status;
}

void s2_mappings_init(struct s2_mappings *m, struct s2 *s2)
{
	*m = (struct s2_mappings){.s2 = s2};
}

/* ---- What makes sense ---------------------------------------------------------------------- */

static enum s2_mapping_why judge_range(const struct s2 *s2, u64 start, u64 size)
{
	if (size == 0) {
		return S2_MAPPING_SIZE_ZERO;
	}
	if (size & s2->inside[0]) {
		return S2_MAPPING_SIZE_ODD;
	}
	return start & s2->inside[0] ? S2_MAPPING_OFFSET_ODD : S2_MAPPING_DONE;
}

static enum s2_mapping_why judge_handle(const struct s2_mappings *m, struct s2_mapping_handle h)
{
	const struct s2_mapping *slot;

	if (h.slot >= S2_MAPPING_SLOTS) {
		return S2_MAPPING_NO_SLOT;
	}
	slot = &m->slots[h.slot];
	if (slot->state == SLOT_FREE) {
		return S2_MAPPING_NOTHING;
	}
	if (slot->serial != h.serial) {
		return S2_MAPPING_STALE;
	}
	if (slot->type != h.type) {
		return S2_MAPPING_WRONG_TYPE;
	}
	return slot->state == SLOT_BUSY ? S2_MAPPING_BUSY : S2_MAPPING_DONE;
}

static bool frame_is_of(enum s2_mapping_type type, const struct frame *f)
{
	static const u8 types[] = {
		[S2_MAPPING_RAM] = FRAME_GUEST,
		[S2_MAPPING_SHARED] = FRAME_SHARED,
		[S2_MAPPING_DEVICE] = FRAME_DEVICE,
	};

	return f ? f->type == types[type] : type == S2_MAPPING_DEVICE;
}

/* Outside the frame table there is no need to look at each page. */
static bool frames_are_of(enum s2_mapping_type type, u64 at, u64 end)
{
	u64 ram = frame_table.ram_start;

	while (at < end) {
		const struct frame *f = frame_of(hpa(at));

		if (!frame_is_of(type, f)) {
			return false;
		}
		at = f ? frame_hpa(f).v + order_bytes(f->order) : at < ram ? ram : end;
	}
	return true;
}

/* The slot whose mapping has something left in [start, end), or S2_MAPPING_SLOTS. */
static unsigned overlapped(const struct s2_mappings *m, u64 start, u64 end)
{
	unsigned slot = 0;

	for (; slot < S2_MAPPING_SLOTS; slot++) {
		const struct s2_mapping *other = &m->slots[slot];

		if (other->state != SLOT_FREE && other->first < other->end &&
		    start < other->gpa.v + other->end && end > other->gpa.v + other->first) {
			break;
		}
	}
	return slot;
}

/* ---- Create -------------------------------------------------------------------------------- */

/* The caller's work on a whole slot is over; what is left of it begins at `first`. */
static void unclaim(struct s2_mappings *m, unsigned number, u64 first, u8 state)
{
	lock_take(&m->lock);
	m->slots[number].first = m->slots[number].left_first = first;
	m->slots[number].state = state;
	lock_drop(&m->lock);
}

/* The slot is the caller's to fill, and its range taken. */
static enum status claim_slot(struct s2_mappings *m, unsigned number, struct s2_mapping wanted,
			      struct s2_mapping_refusal *refusal)
{
	struct s2_mapping *slot = &m->slots[number];
	u64 start = wanted.gpa.v;
	unsigned other;

	if (slot->state != SLOT_FREE) {
		return say(refusal, S2_MAPPING_IN_USE, number);
	}
	other = overlapped(m, start, start + wanted.size);
	if (other < S2_MAPPING_SLOTS) {
		return say(refusal, S2_MAPPING_OVERLAPS, other);
	}
	wanted.serial = slot->serial + 1;
	*slot = wanted;
	return say(refusal, S2_MAPPING_DONE, number);
}

enum status s2_mapping_create(struct s2_mappings *m, unsigned number, enum s2_mapping_type type,
			      gpa_t at, hpa_t a, u64 size, struct s2_attr attr,
			      struct s2_mapping_handle *handle, struct s2_mapping_refusal *refusal)
{
	struct s2_mapping wanted = {.state = SLOT_BUSY,
				    .type = (u8)type,
				    .gpa = at,
				    .size = size,
				    .end = size,
				    .left_end = size};
	enum s2_mapping_why why = judge_range(m->s2, at.v, size);
	u64 space = BIT(m->s2->ipa_bits);
	enum status status;

	if (number >= S2_MAPPING_SLOTS) {
		return say(refusal, S2_MAPPING_NO_SLOT, number);
	}
	if (type > S2_MAPPING_DEVICE) {
		return say(refusal, S2_MAPPING_WRONG_TYPE, number);
	}
	if (why == S2_MAPPING_DONE && (at.v >= space || size > space - at.v)) {
		why = S2_MAPPING_OUTSIDE;
	}
	if (why == S2_MAPPING_DONE && (a.v + size < a.v || !frames_are_of(type, a.v, a.v + size))) {
		why = S2_MAPPING_WRONG_FRAMES;
	}
	if (why != S2_MAPPING_DONE) {
		return say(refusal, why, number);
	}
	lock_take(&m->lock);
	status = claim_slot(m, number, wanted, refusal);
	lock_drop(&m->lock);
	if (status != OK) {
		return status;
	}
	status = s2_map(m->s2, at, a, size, attr, S2_ERROR);
	if (status == OK) {
		*handle =
			(struct s2_mapping_handle){(u16)number, (u8)type, m->slots[number].serial};
	}
	unclaim(m, number, 0, status == OK ? SLOT_LIVE : SLOT_FREE);
	return say_space(refusal, status, number);
}

/* ---- Parts --------------------------------------------------------------------------------- */

/* What the mapping still has of a part: the rest may be another's by now. */
struct part {
	u64 at; /* guest-physical */
	u64 offset, size;
};

/* OK: the part is the caller's to work on until end_part(). */
static enum status begin_part(struct s2_mappings *m, struct s2_mapping_handle h, u64 offset,
			      u64 size, struct part *part, struct s2_mapping_refusal *refusal)
{
	enum s2_mapping_why why;

	lock_take(&m->lock);
	why = judge_handle(m, h);
	if (why == S2_MAPPING_DONE) {
		why = judge_range(m->s2, offset, size);
	}
	if (why == S2_MAPPING_DONE) {
		struct s2_mapping *slot = &m->slots[h.slot];
		u64 first = max_u64(offset, slot->first);
		u64 end = min_u64(offset + size, slot->end);

		if (offset > slot->size || size > slot->size - offset) {
			why = S2_MAPPING_BEYOND;
		} else {
			slot->users++;
			*part = (struct part){slot->gpa.v + first, first,
					      max_u64(end, first) - first};
		}
	}
	lock_drop(&m->lock);
	return say(refusal, why, h.slot);
}

/*
 * [offset, done) of the mapping is unmapped. What is gone at an end is no longer its own, but for
 * others who work on parts it still is: the last of them gives it up.
 */
static void end_part(struct s2_mappings *m, unsigned number, u64 offset, u64 done)
{
	struct s2_mapping *slot = &m->slots[number];

	lock_take(&m->lock);
	if (offset <= slot->left_first) {
		slot->left_first = max_u64(slot->left_first, done);
	}
	if (done >= slot->left_end) {
		slot->left_end = min_u64(slot->left_end, offset);
	}
	if (--slot->users == 0) {
		slot->first = slot->left_first;
		slot->end = slot->left_end;
	}
	lock_drop(&m->lock);
}

/* Up to which offset the operation came that was to go through the part. */
static u64 done_to(enum status status, const struct part *part, const struct s2_batch *batch)
{
	return status == OK	? part->offset + part->size
	       : status == MORE ? part->offset + (batch->next - part->at)
				: part->offset;
}

enum status s2_mapping_unmap(struct s2_mappings *m, struct s2_mapping_handle h, u64 offset,
			     u64 size, struct s2_batch *batch, struct s2_mapping_refusal *refusal)
{
	struct part part;
	enum status status = begin_part(m, h, offset, size, &part, refusal);

	if (status != OK) {
		return status;
	}
	if (part.size > 0) {
		status = s2_unmap(m->s2, gpa(part.at), part.size, batch);
	}
	end_part(m, h.slot, part.offset, done_to(status, &part, batch));
	return say_space(refusal, status, h.slot);
}

enum status s2_mapping_protect(struct s2_mappings *m, struct s2_mapping_handle h, u64 offset,
			       u64 size, u8 perm, struct s2_batch *batch,
			       struct s2_mapping_refusal *refusal)
{
	struct part part;
	enum status status = begin_part(m, h, offset, size, &part, refusal);

	if (status != OK) {
		return status;
	}
	if (part.size > 0) {
		status = s2_protect(m->s2, gpa(part.at), part.size, perm, batch);
	}
	end_part(m, h.slot, part.offset, part.offset);
	return say_space(refusal, status, h.slot);
}

/* ---- All of it ----------------------------------------------------------------------------- */

/* The whole slot is the caller's. */
static enum status claim_mapping(struct s2_mappings *m, struct s2_mapping_handle h,
				 struct s2_mapping_refusal *refusal)
{
	enum s2_mapping_why why;

	lock_take(&m->lock);
	why = judge_handle(m, h);
	if (why == S2_MAPPING_DONE && m->slots[h.slot].users > 0) {
		why = S2_MAPPING_BUSY;
	}
	if (why == S2_MAPPING_DONE) {
		m->slots[h.slot].state = SLOT_BUSY;
	}
	lock_drop(&m->lock);
	return say(refusal, why, h.slot);
}

enum status s2_mapping_destroy(struct s2_mappings *m, struct s2_mapping_handle h,
			       struct s2_batch *batch, struct s2_mapping_refusal *refusal)
{
	enum status status = claim_mapping(m, h, refusal);
	const struct s2_mapping *slot;
	struct part part;

	if (status != OK) {
		return status;
	}
	slot = &m->slots[h.slot];
	part.offset = slot->first;
	if (part.offset < slot->end) {
		part.at = slot->gpa.v + part.offset;
		part.size = slot->end - part.offset;
		status = s2_unmap(m->s2, gpa(part.at), part.size, batch);
		part.offset = done_to(status, &part, batch);
	}
	unclaim(m, h.slot, part.offset, status == OK ? SLOT_FREE : SLOT_LIVE);
	return say_space(refusal, status, h.slot);
}

enum status s2_mapping_left(struct s2_mappings *m, struct s2_mapping_handle h,
			    struct s2_mapping_left *left, struct s2_mapping_refusal *refusal)
{
	struct s2_mapping mapping;
	enum s2_mapping_why why;

	lock_take(&m->lock);
	why = judge_handle(m, h);
	mapping = why == S2_MAPPING_DONE ? m->slots[h.slot] : (struct s2_mapping){0};
	lock_drop(&m->lock);
	*left = (struct s2_mapping_left){.first = mapping.first,
					 .end = max_u64(mapping.first, mapping.end)};
	for (u64 at = left->first; at < left->end;) {
		struct s2_leaf leaf = s2_query(m->s2, gpa_add(mapping.gpa, at));
		u64 span = BIT(m->s2->format->shift[leaf.level]);
		u64 inside = (mapping.gpa.v + at) & (span - 1);
		u64 next = min_u64(at + span - inside, left->end);

		left->bytes += leaf.kind == S2_LEAF ? next - at : 0;
		at = next;
	}
	return say(refusal, why, h.slot);
}
