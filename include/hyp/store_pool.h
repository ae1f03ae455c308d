/*
 * The pool of compressed pages: objects of 1 to STORE_POOL_OBJECT_MAX bytes, packed into frames.
 *
 * A frame has a head and 63 chunks of 64 bytes; an object is a run of chunks in one frame. Frames
 * stand in 64 lists by their longest free run, so the one that fits best is found at once. An
 * object is known by a handle, so that it may be moved: compaction empties the frames that hold
 * least, and gives them back.
 *
 * One lock, held for a copy of an object at most. Frames are FRAME_HYP.
 */
#ifndef HYP_STORE_POOL_H
#define HYP_STORE_POOL_H

#include "hyp/status.h"
#include "hyp/types.h"

#define STORE_POOL_OBJECT_MAX 3072

/* For `objects` at once, in `frames` of 4 KiB at most. NOMEM, INVALID (2^32 objects or more). */
enum status store_pool_init(u64 objects, u64 frames);
/* The pool is empty. */
void store_pool_fini(void);

/* Takes `size` bytes. FULL: the limit in frames, or in objects; NOMEM: no frame could be had. */
enum status store_pool_put(const void *bytes, u32 size, u32 *handle);

/* Copies the object to `bytes`, which has room for the largest; returns its size. */
u32 store_pool_get(u32 handle, void *bytes);

void store_pool_free(u32 handle);

/* Do frames have a third more than objects need, and more than a few of them? */
bool store_pool_is_sparse(void);

/* Empties up to `frames` frames whose objects fit into others, and gives them back; how many. */
u32 store_pool_compact(u32 frames);

/* In Linux's words for zram's mm_stat; bytes, but for the last two. Read by anyone. */
#define STORE_POOL_STATS(X)                                                                        \
	X(compr_data_size) /* of objects */                                                        \
	X(mem_used_total)  /* of frames */                                                         \
	X(mem_limit)                                                                               \
	X(mem_used_max)                                                                            \
	X(objects)                                                                                 \
	X(pages_compacted) /* frames that compaction has given back */

extern struct store_pool_stats {
#define X(name) u64 name;
	STORE_POOL_STATS(X)
#undef X
} store_pool_stats;

#endif
