/*
 * The reverse map: which page of which space is behind a frame.
 *
 * One array of holders, each in two lists: of its bucket (frames that hash alike) and of its space.
 * So a space is forgotten at the price of its own holders. What the map says of a frame is a hint,
 * corrected when the page is merged: who asks is told only of holders whose table says the same,
 * and faults and range operations need not know of the map.
 */
#include "hyp/log.h"
#include "hyp/s2_share.h"

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

void s2_rmap_correct(struct s2_rmap *rmap, struct s2_holder *holder)
{
	u32 i = (u32)(holder - rmap->holders);

	lock_take(&rmap->lock);
	take_out(rmap, i, BY_FRAME, bucket_of(rmap, holder->frame));
	holder->frame = frame_at_page(holder->member->s2, holder->gpa);
	put_first(rmap, i, BY_FRAME, bucket_of(rmap, holder->frame));
	lock_drop(&rmap->lock);
}
