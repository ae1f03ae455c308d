/*
 * Frames: every 4 KiB of the machine's RAM, what it is, and who holds it.
 *
 * The table has 16 bytes a frame. Blocks are powers of two of frames (order 0 = 4 KiB, 9 = 2 MiB,
 * 18 = 1 GiB); the entry of a block's first frame, its head, speaks for the whole block, and all
 * other entries of the block are FRAME_NONE. So neither allocating nor freeing a block touches more
 * than one entry of it.
 *
 *   type          whose bytes         a reference is              may become
 *   FRAME_NONE    -                   -                           (part of a block, or not RAM)
 *   FRAME_FREE    nobody's            none                        any, by frame_alloc
 *   FRAME_HYP     Lamina's            its owner's pointer         FREE
 *   FRAME_TABLE   one s2 space's      the entry that points here  FREE
 *   FRAME_GUEST   a guest's           each leaf that maps it      SHARED, FREE
 *   FRAME_SHARED  every guest's       each leaf that maps it      GUEST, FREE
 *   FRAME_DEVICE  hardware's          each leaf that maps it      - (never allocated, never freed)
 *
 * A block with more than one reference is shared, whatever its type, and no guest writes it
 * (hyp/s2_share.h). GUEST and `owner` tell for whom it was allocated: a clone may hold it for
 * longer than that guest lives. SHARED is for bytes that are no single guest's.
 *
 * I4: a type changes only when the references are gone (or, GUEST <-> SHARED, by the last holder);
 * a FRAME_TABLE or FRAME_HYP is never mapped for a guest: s2_map refuses it.
 */
#ifndef HYP_FRAME_H
#define HYP_FRAME_H

#include "hyp/addr.h"
#include "hyp/status.h"

enum frame_type {
	FRAME_NONE,
	FRAME_FREE,
	FRAME_HYP,
	FRAME_TABLE,
	FRAME_GUEST,
	FRAME_SHARED,
	FRAME_DEVICE,
	FRAME_TYPES,
};

#define ORDER_4K 0
#define ORDER_2M 9
#define ORDER_1G 18
#define ORDER_MAX ORDER_1G

#define OWNER_NONE 0xffff /* belongs to no VM */

struct frame {
	union {
		struct {
			u32 next, prev; /* FREE: neighbours in the buddy's list, as frame numbers */
		};
		u64 gfn;   /* GUEST: the guest frame number that maps it (reverse map) */
		u64 link;  /* on a batch's list: host-physical address of the next head, or 0 */
		u64 table; /* TABLE: the space's word on it (hyp/s2_cursor.h) */
	};
	union {
		struct {
			u32 refs;
			u8 type; /* enum frame_type; changed by frame_retype alone */
			u8 order;
			u16 owner; /* VM number, or OWNER_NONE */
		};
		u64 state; /* the four as one word: they change together, for all who look */
	};
};
static_assert(sizeof(struct frame) == 16, "16 bytes of metadata a frame");

static inline u64 order_bytes(unsigned order)
{
	return PAGE_SIZE << order;
}

/*
 * Starts the frame table for RAM in [base, base + bytes); both multiples of 4 KiB. The table itself
 * is placed at `table`, frame_table_bytes(bytes) long and zeroed here. No frame is free yet.
 * Called once, before any other function of this file.
 */
void frame_init(hpa_t base, u64 bytes, void *table);
u64 frame_table_bytes(u64 bytes);

/* Gives [start, end) to the allocator. Inside the table's range, 4 KiB aligned, not given before.
 */
void frame_give(hpa_t start, hpa_t end);

/*
 * Takes a block of 2^order frames, aligned to its size, its bytes undefined, its entry's first word
 * (gfn, link, table) zero, with one reference. Order 0 comes from this CPU's cache, so the common
 * case takes no lock. hpa_none() when no block of that order is free; the caller may try a smaller
 * one. Frames in other CPUs' caches are out of reach: few, and fewer still when memory is short.
 */
hpa_t frame_alloc(unsigned order, enum frame_type type, u16 owner);

/* One more reference to the block that contains `a`. */
void frame_get(hpa_t a);

/*
 * One reference less to the block whose head is at `a`; the last one frees the block. Returns true
 * when it was the last. Panics when no referenced block begins at `a` (a double free, or a part of
 * a block).
 */
bool frame_put(hpa_t a);

/*
 * GUEST becomes SHARED or SHARED becomes GUEST, and `owner` whose it is; the caller holds the only
 * reference. The first word (gfn) is left to the caller.
 */
void frame_retype(hpa_t head, enum frame_type type, u16 owner);

/*
 * Makes each 2^order part of the block at `head` a block of its own, with the block's type and
 * owner and one reference each. The block has one reference. Needs no memory, cannot fail.
 */
void frame_split(hpa_t head, unsigned order);

/* The head entry of the block that contains `a`; NULL where `a` is no RAM of the table. */
struct frame *frame_of(hpa_t a);

/* Constant after frame_init, but for `given`, which only grows while the machine boots. */
struct frame_table {
	struct frame *entries;
	u64 base_pfn;
	u64 count;
	u64 ram_start, ram_bytes; /* the same in bytes */
	u64 given;		  /* frames that frame_give was told of */
};
extern struct frame_table frame_table;

/* The entry of this very frame, which speaks for a block only if `a` is in the block's first frame:
 * a few instructions for those who know that. NULL where `a` is no RAM of the table. */
static inline struct frame *frame_at(hpa_t a)
{
	u64 number = (a.v >> PAGE_SHIFT) - frame_table.base_pfn;

	return number < frame_table.count ? &frame_table.entries[number] : NULL;
}

/* The address of the block whose head `f` is. */
hpa_t frame_hpa(const struct frame *f);

/*
 * Zeroed memory for Lamina itself, for good or until hyp_free: one block of FRAME_HYP, so the size
 * is rounded up to a power of two of pages. NULL when there is no such block, or bytes exceed 1
 * GiB.
 */
void *hyp_alloc(u64 bytes);
void hyp_free(void *p);

/*
 * Numbers of 4 KiB frames, caches included: all that were given (frame_total), and those of `type`,
 * the inner frames of a block counted with their head. FRAME_NONE: frames of the table never given.
 * Exact when no other CPU allocates or frees meanwhile.
 */
u64 frame_count(enum frame_type type);
u64 frame_total(void);

/* Frames of `type` that belong to `owner`: for leak checks and summaries; walks the whole table. */
u64 frame_count_owned(enum frame_type type, u16 owner);

/* Gives this CPU's cached frames back to the buddy, so that they can merge. */
void frame_drain_cache(void);

#endif
