/*
 * What the files of the frame table share: the table, the words of its entries, the buddy's and the
 * caches' functions. Nobody else includes this.
 *
 * Blocks are aligned by address, and the table's RAM may begin anywhere, so two numbers are in use:
 * a pfn is an address divided by 4 KiB; a frame number counts from the table's first entry.
 */
#ifndef HYP_FRAME_INTERNAL_H
#define HYP_FRAME_INTERNAL_H

#include "hyp/atomic.h"
#include "hyp/cpu.h"
#include "hyp/frame.h"

#define FRAME_NUMBER_NONE (~0u)

/* Owner of a free frame that lies in a CPU's cache: unlike a listed one, no neighbour may merge it.
 */
#define OWNER_CACHE 0xfffe

/*
 * What one CPU alone writes. The cache is a stack of frame numbers; the first line holds all that a
 * hit touches besides the number itself.
 */
#define FRAME_CACHE_MAX 112
#define FRAME_CACHE_BATCH (FRAME_CACHE_MAX / 2)

struct frame_cpu {
	s64 used[FRAME_TYPES]; /* frames taken less frames freed here, by type: the sum counts */
	u32 cached;	       /* how many numbers there are */
	u32 numbers[FRAME_CACHE_MAX];
} __attribute__((aligned(64)));

/* By pointers, because compilers compute the place in an array of structs anew at every access. */
extern struct frame_cpu *frame_cpu_at[CPU_MAX];

static inline struct frame_cpu *frame_this_cpu(void)
{
	return frame_cpu_at[this_cpu_id()];
}

/*
 *   63        48 47    40 39   32 31                 0
 *   |  owner    | order  | type  |       refs         |
 */
#define STATE_REFS BITS(31, 0)
#define STATE_TYPE BITS(39, 32)
#define STATE_ORDER BITS(47, 40)
#define STATE_OWNER BITS(63, 48)
static_assert(offsetof(struct frame, type) - offsetof(struct frame, refs) == 4 &&
		      offsetof(struct frame, order) - offsetof(struct frame, refs) == 5 &&
		      offsetof(struct frame, owner) - offsetof(struct frame, refs) == 6,
	      "the fields lie where the masks say");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the masks count from the low end");

static inline u64 frame_state(u32 refs, u8 type, unsigned order, u16 owner)
{
	return refs | field_set(type, STATE_TYPE) | field_set(order, STATE_ORDER) |
	       field_set(owner, STATE_OWNER);
}

static inline u64 frame_state_listed(unsigned order)
{
	return frame_state(0, FRAME_FREE, order, OWNER_NONE);
}

/* Free, but in no list: in a CPU's cache, or on its way. */
static inline u64 frame_state_taken(unsigned order)
{
	return frame_state(0, FRAME_FREE, order, OWNER_CACHE);
}

static inline enum frame_type state_type(u64 state)
{
	return (enum frame_type)field_get(state, STATE_TYPE);
}

static inline unsigned state_order(u64 state)
{
	return (unsigned)field_get(state, STATE_ORDER);
}

/* Outside the table's RAM the number is frame_table.count or more. */
static inline u64 frame_number(hpa_t a)
{
	return (a.v >> PAGE_SHIFT) - frame_table.base_pfn;
}

static inline hpa_t frame_number_hpa(u64 number)
{
	return hpa((frame_table.base_pfn + number) << PAGE_SHIFT);
}

/* ---- frame_buddy.c: free blocks, under one lock ------------------------------------------- */

void frame_buddy_init(void);

/* A block of that order, out of the lists; FRAME_NUMBER_NONE when there is none. Takes the lock. */
u32 frame_buddy_take(unsigned order);
/* Frees a block; merges it with free neighbours. Takes the lock. */
void frame_buddy_give(u32 number, unsigned order);

/* Up to `want` single frames at once, as frame_state_taken(0). Returns how many. Takes the lock. */
u32 frame_buddy_take_singles(u32 *numbers, u32 want);
void frame_buddy_give_singles(const u32 *numbers, u32 count);

/* ---- frame_cache.c: what happens when a CPU's cache is empty or full ----------------------- */

/* Into an empty cache; false when the buddy is empty too. */
bool frame_cache_refill(struct frame_cpu *cpu);
/* Makes room in a full cache. */
void frame_cache_spill(struct frame_cpu *cpu);

/* The cache is not empty. */
static inline u32 frame_cache_take(struct frame_cpu *cpu)
{
	u32 top = cpu->cached - 1;

	cpu->cached = top;
	return cpu->numbers[top];
}

/* The cache is not full. `f` is the entry of `number`. */
static inline void frame_cache_give(struct frame_cpu *cpu, struct frame *f, u32 number)
{
	u32 top = cpu->cached;

	cpu->numbers[top] = number;
	cpu->cached = top + 1;
	store_relaxed(&f->state, frame_state_taken(0));
}

#endif
