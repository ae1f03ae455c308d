/*
 * The buddy: free blocks of 2^order frames, one list an order, one lock for all.
 *
 * A block's buddy is the block of the same order whose pfn differs in one bit. Two free buddies are
 * one free block of the next order. A free block in a list has exactly the state word
 * frame_state_listed(order) in its head and FRAME_NONE in all its other entries; the word appears
 * and disappears under the lock only, so comparing one word tells whether a neighbour may be
 * merged, while other CPUs change theirs without the lock. Holes of RAM are FRAME_NONE for ever:
 * the comparison fails there, and nothing merges across them.
 *
 * Small blocks are used up first, so that large ones last.
 */
#include "frame_internal.h"

#include "hyp/lock.h"

static struct {
	struct lock lock;
	u32 filled;		  /* bit n: the list of order n is not empty */
	u32 heads[ORDER_MAX + 1]; /* frame numbers, or FRAME_NUMBER_NONE */
	u64 free;		  /* frames in all lists */
} buddy;

void frame_buddy_init(void)
{
	buddy.lock = (struct lock){0};
	buddy.filled = 0;
	buddy.free = 0;
	for (unsigned order = 0; order <= ORDER_MAX; order++) {
		buddy.heads[order] = FRAME_NUMBER_NONE;
	}
}

static void buddy_link(u32 number, unsigned order)
{
	struct frame *f = &frame_table.entries[number];
	u32 next = buddy.heads[order];

	f->next = next;
	f->prev = FRAME_NUMBER_NONE;
	if (next != FRAME_NUMBER_NONE) {
		frame_table.entries[next].prev = number;
	}
	buddy.heads[order] = number;
	buddy.filled |= (u32)BIT(order);
	store_relaxed(&f->state, frame_state_listed(order));
}

/* The entry keeps its state: the caller writes what it becomes. */
static void buddy_unlink(u32 number, unsigned order)
{
	struct frame *f = &frame_table.entries[number];

	if (f->next != FRAME_NUMBER_NONE) {
		frame_table.entries[f->next].prev = f->prev;
	}
	if (f->prev != FRAME_NUMBER_NONE) {
		frame_table.entries[f->prev].next = f->next;
		return;
	}
	buddy.heads[order] = f->next;
	if (f->next == FRAME_NUMBER_NONE) {
		buddy.filled &= ~(u32)BIT(order);
	}
}

/*
 * Unlinks a block of exactly `order`; what is too much of a larger one goes back to the lists. The
 * block loses its listed state here, under the lock: left for later, a neighbour that is freed
 * meanwhile would merge with it.
 */
static u32 buddy_take(unsigned order)
{
	u32 candidates = buddy.filled & (u32)BITS(31, order);
	u32 number;

	if (candidates == 0) {
		return FRAME_NUMBER_NONE;
	}
	unsigned from = (unsigned)__builtin_ctz(candidates);

	number = buddy.heads[from];
	buddy_unlink(number, from);
	while (from > order) {
		from--;
		buddy_link(number + (u32)BIT(from), from);
	}
	store_relaxed(&frame_table.entries[number].state, frame_state_taken(order));
	buddy.free -= BIT(order);
	return number;
}

static void buddy_give(u32 number, unsigned order)
{
	buddy.free += BIT(order);
	for (; order < ORDER_MAX; order++) {
		u64 pfn = (frame_table.base_pfn + number) ^ BIT(order);
		u64 other = pfn - frame_table.base_pfn;

		if (other >= frame_table.count ||
		    load_relaxed(&frame_table.entries[other].state) != frame_state_listed(order)) {
			break;
		}
		buddy_unlink((u32)other, order);
		u32 upper = number > other ? number : (u32)other;

		store_relaxed(&frame_table.entries[upper].state, 0);
		number = number < other ? number : (u32)other;
	}
	buddy_link(number, order);
}

u32 frame_buddy_take(unsigned order)
{
	lock_take(&buddy.lock);
	u32 number = buddy_take(order);

	lock_drop(&buddy.lock);
	return number;
}

void frame_buddy_give(u32 number, unsigned order)
{
	lock_take(&buddy.lock);
	buddy_give(number, order);
	lock_drop(&buddy.lock);
}

/*
 * The largest order worth taking for `want` frames: a list's own block when one is small enough, so
 * that scraps are used up, else a piece cut off a larger block.
 */
static unsigned buddy_order_for(u32 want)
{
	unsigned order = 31 - (unsigned)__builtin_clz(want);
	u32 scraps = buddy.filled & (u32)BITS(order, 0);

	return scraps != 0 ? (unsigned)__builtin_ctz(scraps) : order;
}

/*
 * When memory is short a CPU takes only its share of what is left: the last frames of the machine
 * should not lie in the cache of a CPU that does not need them.
 */
static u32 buddy_share(u32 want)
{
	u64 share = buddy.free / (2 * max_u64(cpu_count, 1)) + 1;

	return (u32)min_u64(want, share);
}

/* Highest first: the numbers are used as a stack, so frames are handed out in ascending order. */
u32 frame_buddy_take_singles(u32 *numbers, u32 want)
{
	u32 count = 0;

	lock_take(&buddy.lock);
	want = buddy_share(want);
	while (count < want) {
		unsigned order = buddy_order_for(want - count);
		u32 first = buddy_take(order);

		if (first == FRAME_NUMBER_NONE) {
			break; /* no scraps and nothing larger: nothing at all */
		}
		for (u32 i = (u32)BIT(order); i-- > 0;) {
			store_relaxed(&frame_table.entries[first + i].state, frame_state_taken(0));
			numbers[count++] = first + i;
		}
	}
	lock_drop(&buddy.lock);
	return count;
}

void frame_buddy_give_singles(const u32 *numbers, u32 count)
{
	lock_take(&buddy.lock);
	for (u32 i = 0; i < count; i++) {
		buddy_give(numbers[i], 0);
	}
	lock_drop(&buddy.lock);
}
