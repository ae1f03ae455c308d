/*
 * Stores: where the bytes of guest pages are that have no frame.
 *
 * A page goes to the first store that takes it:
 *
 *     zero    all bytes are zero: nothing is kept
 *     same    one 32-bit word over and over: the slot is the word
 *     zswap   lz4 makes it a quarter smaller at least: the pool has it (hyp/store_pool.h)
 *     disk    any; in clusters that take a while, so by who puts them away (hyp/store_disk.h)
 *
 * A slot is 40 bits, and says all that there is to know of where the page is. It belongs to whoever
 * put the page; nobody counts references to it. Any number of CPUs at once.
 */
#ifndef HYP_STORE_H
#define HYP_STORE_H

#include "hyp/status.h"
#include "hyp/types.h"

#define STORES(X)                                                                                  \
	X(zero)                                                                                    \
	X(same)                                                                                    \
	X(zswap)                                                                                   \
	X(disk)

enum store_kind {
#define X(name) STORE_##name,
	STORES(X)
#undef X
		STORE_KINDS
};

#define STORE_ALL (BIT(STORE_KINDS) - 1)
#define STORE_SLOT_BITS 40

const char *store_name(enum store_kind kind);

/* The kind that has this name; STORE_KINDS: none. */
enum store_kind store_find(const char *name);

/*
 * Once, when the CPUs are up: `allowed` has a bit for each enum store_kind that may be used;
 * `pages` is the most that will ever be stored at once, and `pool_max`, in bytes, what the pool may
 * take of the machine's memory. NOMEM: then nothing was taken.
 */
enum status store_init(u32 allowed, u64 pages, u64 pool_max);

/* Gives back what store_init() took; nothing is stored any more. For tests. */
void store_fini(void);

/*
 * Stores the 4 KiB at `page` in memory; it may change meanwhile: then what is stored is of no use,
 * and nothing worse. FULL: no store takes it, for what it is or for want of room; nothing has
 * changed.
 */
enum status store_put(const void *page, u64 *slot);

/* Writes the 4 KiB of the slot, which is not the disk's, to `page`; the slot stays. False: what was
 * stored is damaged. */
bool store_get(u64 slot, void *page);

/* The slot is free again. */
void store_free(u64 slot);

static inline u64 store_slot(enum store_kind kind, u32 number)
{
	return (u64)kind << 32 | number;
}

static inline enum store_kind store_kind_of(u64 slot)
{
	return (enum store_kind)(slot >> 32);
}

/* Pages that were refused, by why. Written with atomic_add. */
#define STORE_STATS(X)                                                                             \
	X(reject_compress_poor) /* lz4 does not make it small enough */                            \
	X(pool_limit_hit)	/* the pool is as large as it may be */                            \
	X(reject_alloc_fail)	/* there was no frame for the pool */

extern struct store_stats {
#define X(name) u64 name;
	STORE_STATS(X)
#undef X
} store_stats;

/* What tells a page's bytes from others: always if one word of 64 bits differs, else with a chance
 * of about 2^-64 to be wrong. */
u64 store_hash(const void *page);

/* The same in 32 bits. */
static inline u32 store_checksum(u64 hash)
{
	return (u32)hash;
}

#endif
