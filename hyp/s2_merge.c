/*
 * Merging: two pages with equal bytes become one frame, which both write no more.
 *
 * First `a`: its frame gets a second reference, which is to be b's, and write is withheld as for a
 * fork (see s2_fork.c). From then on its bytes stay, whatever happens to `a`. Then `b`: its leaf is
 * claimed, so nobody can use its frame at all. Now bytes are compared, and the claim makes place
 * for a leaf of a's frame, or for the one that was there. A page's hash is somebody else's
 * business: here nothing is merged that is not equal, byte for byte.
 *
 * The reverse map is one array of holders, each in two lists: of its bucket (frames that hash
 * alike) and of its space. So a space is forgotten at the price of its own holders. What it says of
 * a frame is a hint, corrected when the page is merged: who asks is told only of holders whose
 * table says the same, and faults and range operations need not know of the map.
 */
#include "hyp/log.h"
#include "hyp/s2_cursor.h"
#include "hyp/s2_share.h"

#include <string.h>

/* ---- The reverse map ------------------------------------------------------------------------- */

enum status s2_rmap_init(struct s2_rmap *rmap, u32 capacity)
{
	u32 bits = 1;
	u64 bytes;

	while (BIT(bits) < capacity && bits < 31) {
		bits++;
	}
	bytes = ((u64)capacity + 1) * sizeof(*rmap->holders) + BIT(bits) * sizeof(*rmap->buckets);
	if (capacity == 0 || bytes > order_bytes(ORDER_MAX)) {
		return INVALID;
	}
	*rmap = (struct s2_rmap){.bucket_bits = bits, .holders = hyp_alloc(bytes)};
	if (!rmap->holders) {
		return NOMEM;
	}
	rmap->buckets = (u32 *)(rmap->holders + capacity + 1);
	for (u32 i = capacity; i > 0; i--) {
		rmap->holders[i].by_frame.next = rmap->free;
		rmap->free = i;
	}
	return OK;
}

void s2_rmap_destroy(struct s2_rmap *rmap)
{
	hyp_free(rmap->holders);
}

static u32 *bucket_of(struct s2_rmap *rmap, u64 frame)
{
	return &rmap->buckets[frame * 0x9e3779b97f4a7c15ull >> (64 - rmap->bucket_bits)];
}

/* Links of one kind, by their place in a holder. */
static struct s2_holder_link *link_of(struct s2_rmap *rmap, u32 i, size_t kind)
{
	return (struct s2_holder_link *)((char *)&rmap->holders[i] + kind);
}

#define BY_FRAME offsetof(struct s2_holder, by_frame)
#define BY_MEMBER offsetof(struct s2_holder, by_member)

static void put_first(struct s2_rmap *rmap, u32 i, size_t kind, u32 *first)
{
	*link_of(rmap, i, kind) = (struct s2_holder_link){.next = *first};
	link_of(rmap, *first, kind)->prev = i; /* of holder 0 nobody asks */
	*first = i;
}

static void take_out(struct s2_rmap *rmap, u32 i, size_t kind, u32 *first)
{
	struct s2_holder_link link = *link_of(rmap, i, kind);

	if (link.prev) {
		link_of(rmap, link.prev, kind)->next = link.next;
	} else {
		*first = link.next;
	}
	link_of(rmap, link.next, kind)->prev = link.prev;
}

static u64 frame_at_page(struct s2 *s2, gpa_t at)
{
	struct s2_leaf leaf = s2_query(s2, at);

	return leaf.kind == S2_LEAF ? leaf.hpa.v >> PAGE_SHIFT : 0;
}

struct s2_holder *s2_offer(struct s2_rmap *rmap, struct s2_member *member, gpa_t at)
{
	struct s2_holder *holder = NULL;
	u32 i;

	lock_take(&rmap->lock);
	i = rmap->free;
	if (i) {
		holder = &rmap->holders[i];
		rmap->free = holder->by_frame.next;
		holder->member = member;
		holder->gpa = at;
		holder->frame = frame_at_page(member->s2, at);
		put_first(rmap, i, BY_FRAME, bucket_of(rmap, holder->frame));
		put_first(rmap, i, BY_MEMBER, &member->first);
	}
	lock_drop(&rmap->lock);
	return holder;
}

void s2_withdraw(struct s2_rmap *rmap, struct s2_holder *holder)
{
	u32 i = (u32)(holder - rmap->holders);

	lock_take(&rmap->lock);
	check(holder->member);
	take_out(rmap, i, BY_FRAME, bucket_of(rmap, holder->frame));
	take_out(rmap, i, BY_MEMBER, &holder->member->first);
	holder->member = NULL;
	holder->by_frame.next = rmap->free;
	rmap->free = i;
	lock_drop(&rmap->lock);
}

void s2_rmap_forget(struct s2_rmap *rmap, struct s2_member *member)
{
	while (member->first) {
		s2_withdraw(rmap, &rmap->holders[member->first]);
	}
}

struct s2_holder *s2_next_holder(struct s2_rmap *rmap, hpa_t frame, struct s2_holder *holder)
{
	u64 number = frame.v >> PAGE_SHIFT;
	u32 i;

	lock_take(&rmap->lock);
	i = holder ? holder->by_frame.next : *bucket_of(rmap, number);
	for (; i; i = rmap->holders[i].by_frame.next) {
		holder = &rmap->holders[i];
		if (holder->frame == number &&
		    frame_at_page(holder->member->s2, holder->gpa) == number) {
			break;
		}
	}
	lock_drop(&rmap->lock);
	return i ? holder : NULL;
}

static void found_at(struct s2_rmap *rmap, struct s2_holder *holder, u64 frame)
{
	u32 i = (u32)(holder - rmap->holders);

	lock_take(&rmap->lock);
	take_out(rmap, i, BY_FRAME, bucket_of(rmap, holder->frame));
	holder->frame = frame;
	put_first(rmap, i, BY_FRAME, bucket_of(rmap, frame));
	lock_drop(&rmap->lock);
}

/* ---- Merge ---------------------------------------------------------------------------------- */

/* In a walk: may the page be merged? The cursor stands on its leaf then. */
static enum status find_page(struct s2_cursor *c, const struct s2_holder *holder)
{
	struct s2 *s2 = holder->member->s2;
	struct frame *frame;

	s2_cursor_start(c, s2, holder->gpa);
	s2_cursor_descend(c, 0);
	switch (s2_entry_kind(c->format, c->entry, c->level)) {
	case S2_LEAF:
		break;
	case S2_EMPTY:
	case S2_STORED:
	case S2_MMIO:
		return NOENT;
	default:
		return s2_entry_is_free(s2, c->entry) ? NOENT : AGAIN;
	}
	frame = frame_of(s2_entry_hpa(c->format, c->entry));
	return c->level > 0 || !frame || frame->type == FRAME_DEVICE ? INVALID : OK;
}

/* Takes a reference to a's frame, whose bytes then stay as they are. */
static enum status share_page(const struct s2_holder *a, hpa_t *shared)
{
	struct s2 *s2 = a->member->s2;
	struct s2_batch batch;
	enum status status;
	struct s2_cursor c;
	u64 outer, entry;

	s2_batch_open(&batch, s2);
	lock_take(&s2->lock);
	outer = s2_walk_begin(s2);
	status = find_page(&c, a);
	if (status == OK) {
		entry = s2_share_leaf(&c, &batch);
		*shared = s2_entry_hpa(c.format, entry);
		status = entry ? OK : AGAIN;
	}
	s2_walk_end(s2, outer);
	lock_drop(&s2->lock);
	s2_batch_close(&batch);
	s2_epoch_wait_walks(s2);
	return status;
}

/* Takes b's leaf out of the table, for now. */
static enum status claim_page(const struct s2_holder *b, hpa_t shared, struct s2_batch *batch,
			      u64 *leaf)
{
	u64 outer = s2_walk_begin(batch->s2);
	enum status status;
	struct s2_cursor c;

	status = find_page(&c, b);
	if (status == OK) {
		*leaf = c.entry;
		if (s2_entry_hpa(c.format, c.entry).v == shared.v) {
			status = EXISTS;
		} else if (!s2_claim(&c, batch)) {
			status = AGAIN;
		}
	}
	s2_walk_end(batch->s2, outer);
	return status;
}

/* The claim makes place for a leaf of `shared`, if that is equal to what `leaf` has. */
static enum status settle_page(const struct s2_holder *b, hpa_t shared, struct s2_batch *batch,
			       u64 leaf)
{
	const struct s2_format *f = batch->s2->format;
	hpa_t own = s2_entry_hpa(f, leaf);
	u64 size = s2_span(f, 0);
	bool equal = memcmp(hpa_ptr(shared), hpa_ptr(own), size) == 0, settled;

	if (equal) {
		leaf = (s2_withheld(f, leaf) & ~(f->address | f->address_high)) |
		       s2_address_bits(f, shared);
	}
	settled = s2_claim_settle(batch, b->gpa, 0, leaf);
	if (equal || !settled) {
		s2_batch_note_frames(batch, own, size);
	}
	return !settled ? AGAIN : equal ? OK : DENIED;
}

static enum status replace_page(const struct s2_holder *b, hpa_t shared)
{
	struct s2_batch batch;
	enum status status;
	u64 leaf;

	s2_batch_open(&batch, b->member->s2);
	status = claim_page(b, shared, &batch, &leaf);
	if (status == OK) {
		s2_claim_await(&batch);
		status = settle_page(b, shared, &batch, leaf);
	}
	s2_batch_close(&batch);
	return status;
}

enum status s2_merge(struct s2_rmap *rmap, struct s2_holder *a, struct s2_holder *b)
{
	struct s2 *s2_a = a->member->s2, *s2_b = b->member->s2;
	enum status status;
	hpa_t shared;

	if (a == b || s2_a->inside[0] != s2_b->inside[0]) {
		return INVALID;
	}
	s2_share_begin(s2_a);
	s2_share_begin(s2_b);
	status = share_page(a, &shared);
	if (status != OK) {
		return status;
	}
	status = replace_page(b, shared);
	if (status == OK || status == EXISTS) {
		found_at(rmap, a, shared.v >> PAGE_SHIFT);
		found_at(rmap, b, shared.v >> PAGE_SHIFT);
	}
	if (status != OK) {
		s2_memory_put(shared, s2_a->inside[0] + 1);
		/* If it is the last holder again, it need not fault for that. */
		s2_cow_fault(s2_a, a->gpa, hpa_none(), 0);
	}
	return status;
}
