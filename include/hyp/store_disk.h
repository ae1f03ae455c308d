/*
 * The store on a disk: slots of 4 KiB, any number of them side by side read or written at once.
 *
 * Whoever has bytes there knows the slot, below STORE_DISK_SLOTS_MAX. What is begun goes on while
 * the CPU does something else, and is waited for by polling. Any number of CPUs at once; slots that
 * are in use are their owner's.
 *
 * A slot that a write failed on is not handed out again. After STORE_DISK_FAILURES_MAX writes in a
 * row that failed nothing is written any more; what is stored can still be read.
 */
#ifndef HYP_STORE_DISK_H
#define HYP_STORE_DISK_H

#include "hyp/block.h"

#define STORE_DISK_SLOTS_MAX 0xffffffffull
#define STORE_DISK_RUN_MAX BLOCK_PIECES_MAX /* slots read or written at once */
#define STORE_DISK_FAILURES_MAX 16

/* Slots on all of the disk, STORE_DISK_SLOTS_MAX at most. INVALID: not one fits; DENIED: the disk
 * is read-only; NOMEM. */
enum status store_disk_init(struct block *disk);
/* Nothing is stored there any more. */
void store_disk_fini(void);

/* Is there a disk that takes pages? */
bool store_disk_is_on(void);

/*
 * Slots side by side, `wanted` of them or as many as there are in the longest run that was found:
 * 1 to STORE_DISK_RUN_MAX. FULL.
 */
enum status store_disk_alloc(u32 wanted, u32 *first, u32 *count);
void store_disk_free(u32 slot);

/* Is less than half of the disk in use? Then slots may be kept for bytes that are in memory, too.
 */
bool store_disk_is_roomy(void);

/* What the slot has, by its hash (store_hash); so that it need not be written again. */
void store_disk_note(u32 slot, u64 hash);
bool store_disk_holds(u32 slot, u64 hash);

/* A transfer that is under way; its memory, and the pages', is the disk's until it was waited for.
 */
struct store_disk_io {
	struct block_request request;
	u32 first, count;
	u32 outcome; /* atomic */
};

/* Where the pages of a transfer are: `pages[i]`, of 4 KiB, is that of slot first + i. */
void store_disk_begin(struct store_disk_io *io, enum block_operation operation, u32 first,
		      u32 count, void *const *pages);
/* Is it over? Polls the disk. */
bool store_disk_is_over(struct store_disk_io *io);
/* Until it is over. False: it failed, which was counted, and of writes logged. */
bool store_disk_wait(struct store_disk_io *io);

#define STORE_DISK_STATS(X)                                                                        \
	X(disk_slots) /* pages that fit there */                                                   \
	X(disk_used)  /* slots in use, bad ones too */                                             \
	X(disk_reads) /* transfers */                                                              \
	X(disk_writes)                                                                             \
	X(disk_read_errors)                                                                        \
	X(disk_write_errors)

extern struct store_disk_stats {
#define X(name) u64 name;
	STORE_DISK_STATS(X)
#undef X
} store_disk_stats;

#endif
