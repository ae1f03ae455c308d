#include "hyp/store_pool.h"

#include <string.h>

#include "hyp/frame.h"
#include "hyp/lock.h"
#include "hyp/log.h"

#define CHUNK 64
#define CHUNKS (PAGE_SIZE / CHUNK)
#define HEAD_CHUNK BIT(0)
#define BINS CHUNKS
#define FEW_FRAMES 8

/* At the start of each of the pool's frames, in its chunk 0. */
struct pool_frame {
	u64 used; /* a bit for each chunk */
	struct pool_frame *next, *prev;
	u32 bin; /* its longest free run: the list that it is in */
};

/* In front of an object's bytes. */
struct object {
	u32 handle;
	u32 size;
	u8 bytes[];
};

static_assert(sizeof(struct pool_frame) <= CHUNK, "a head is a chunk");
static_assert(STORE_POOL_OBJECT_MAX + sizeof(struct object) <= PAGE_SIZE - CHUNK, "it fits");

static struct {
	struct lock lock;
	struct pool_frame *bins[BINS];
	u64 filled_bins;	 /* a bit for each list that is not empty */
	struct object **objects; /* by handle; of a free one the next free handle, odd */
	u64 capacity;
	u64 free_handle; /* or `capacity`: none */
} pool;

struct store_pool_stats store_pool_stats;

/* ---- Handles -------------------------------------------------------------------------------- */

static struct object *free_link(u64 next)
{
	return (struct object *)(uintptr_t)(next << 1 | 1);
}

enum status store_pool_init(u64 objects, u64 frames)
{
	if (objects >> 32) {
		return INVALID;
	}
	memset(&pool, 0, sizeof(pool));
	pool.objects = hyp_alloc(objects * sizeof(*pool.objects));
	if (!pool.objects) {
		return NOMEM;
	}
	pool.capacity = objects;
	for (u64 i = 0; i < objects; i++) {
		pool.objects[i] = free_link(i + 1);
	}
	store_pool_stats = (struct store_pool_stats){.mem_limit = frames * PAGE_SIZE};
	return OK;
}

void store_pool_fini(void)
{
	check(store_pool_stats.objects == 0 && store_pool_stats.mem_used_total == 0);
	hyp_free(pool.objects);
	pool.objects = NULL;
}

static u32 take_handle(struct object *object)
{
	u64 handle = pool.free_handle;

	pool.free_handle = (u64)(uintptr_t)pool.objects[handle] >> 1;
	pool.objects[handle] = object;
	return (u32)handle;
}

static void give_handle(u32 handle)
{
	pool.objects[handle] = free_link(pool.free_handle);
	pool.free_handle = handle;
}

static struct object *object_of(u32 handle)
{
	struct object *object = handle < pool.capacity ? pool.objects[handle] : NULL;

	check(object && !((uintptr_t)object & 1));
	return object;
}

/* ---- Frames by their longest free run -------------------------------------------------------- */

static u32 longest_run(u64 free)
{
	u32 length = 0;

	for (; free; free &= free << 1) {
		length++;
	}
	return length;
}

/* The first chunk of the first run that is long enough. There is one. */
static u32 find_run(u64 free, u32 chunks)
{
	u64 starts = free;

	for (u32 i = 1; i < chunks; i++) {
		starts &= free >> i;
	}
	return (u32)__builtin_ctzll(starts);
}

static void link_frame(struct pool_frame *frame)
{
	u32 bin = longest_run(~frame->used);

	frame->bin = bin;
	frame->prev = NULL;
	frame->next = pool.bins[bin];
	if (frame->next) {
		frame->next->prev = frame;
	}
	pool.bins[bin] = frame;
	pool.filled_bins |= BIT(bin);
}

static void unlink_frame(struct pool_frame *frame)
{
	if (frame->next) {
		frame->next->prev = frame->prev;
	}
	if (frame->prev) {
		frame->prev->next = frame->next;
	} else {
		pool.bins[frame->bin] = frame->next;
	}
	if (!pool.bins[frame->bin]) {
		pool.filled_bins &= ~BIT(frame->bin);
	}
}

static struct pool_frame *frame_with_room(u32 chunks)
{
	u64 bins = pool.filled_bins & ~(BIT(chunks) - 1);

	return bins ? pool.bins[__builtin_ctzll(bins)] : NULL;
}

static enum status add_frame(struct pool_frame **frame)
{
	u64 used = store_pool_stats.mem_used_total + PAGE_SIZE;
	hpa_t fresh;

	if (used > store_pool_stats.mem_limit) {
		return FULL;
	}
	fresh = frame_alloc(ORDER_4K, FRAME_HYP, OWNER_NONE);
	if (hpa_is_none(fresh)) {
		return NOMEM;
	}
	*frame = hpa_ptr(fresh);
	(*frame)->used = HEAD_CHUNK;
	link_frame(*frame);
	store_relaxed(&store_pool_stats.mem_used_total, used);
	store_relaxed(&store_pool_stats.mem_used_max, max_u64(used, store_pool_stats.mem_used_max));
	return OK;
}

/* It is in no list. */
static void give_frame(struct pool_frame *frame)
{
	frame_put(ptr_hpa(frame));
	store_relaxed(&store_pool_stats.mem_used_total,
		      store_pool_stats.mem_used_total - PAGE_SIZE);
}

/* ---- Objects -------------------------------------------------------------------------------- */

static u32 chunks_of(u32 size)
{
	return (u32)(align_up(size + sizeof(struct object), CHUNK) / CHUNK);
}

static u64 chunk_bits(const struct object *object)
{
	u64 first = (uintptr_t)object % PAGE_SIZE / CHUNK;

	return (BIT(chunks_of(object->size)) - 1) << first;
}

static struct pool_frame *frame_around(const struct object *object)
{
	return (struct pool_frame *)align_down((uintptr_t)object, PAGE_SIZE);
}

static struct object *place(struct pool_frame *frame, u32 size)
{
	u32 chunk = find_run(~frame->used, chunks_of(size));
	struct object *object = (struct object *)((u8 *)frame + chunk * CHUNK);

	unlink_frame(frame);
	object->size = size;
	frame->used |= chunk_bits(object);
	link_frame(frame);
	return object;
}

static void remove(struct object *object)
{
	struct pool_frame *frame = frame_around(object);

	unlink_frame(frame);
	frame->used &= ~chunk_bits(object);
	if (frame->used == HEAD_CHUNK) {
		give_frame(frame);
	} else {
		link_frame(frame);
	}
}

static enum status put(const void *bytes, u32 size, u32 *handle)
{
	struct pool_frame *frame = frame_with_room(chunks_of(size));
	struct object *object;

	if (pool.free_handle == pool.capacity) {
		return FULL;
	}
	if (!frame) {
		enum status status = add_frame(&frame);

		if (status != OK) {
			return status;
		}
	}
	object = place(frame, size);
	memcpy(object->bytes, bytes, size);
	*handle = take_handle(object);
	object->handle = *handle;
	store_relaxed(&store_pool_stats.objects, store_pool_stats.objects + 1);
	store_relaxed(&store_pool_stats.compr_data_size, store_pool_stats.compr_data_size + size);
	return OK;
}

enum status store_pool_put(const void *bytes, u32 size, u32 *handle)
{
	enum status status;

	check(size > 0 && size <= STORE_POOL_OBJECT_MAX);
	lock_take(&pool.lock);
	status = put(bytes, size, handle);
	lock_drop(&pool.lock);
	return status;
}

u32 store_pool_get(u32 handle, void *bytes)
{
	const struct object *object;
	u32 size;

	lock_take(&pool.lock);
	object = object_of(handle);
	size = object->size;
	memcpy(bytes, object->bytes, size);
	lock_drop(&pool.lock);
	return size;
}

void store_pool_free(u32 handle)
{
	struct object *object;

	lock_take(&pool.lock);
	object = object_of(handle);
	store_relaxed(&store_pool_stats.objects, store_pool_stats.objects - 1);
	store_relaxed(&store_pool_stats.compr_data_size,
		      store_pool_stats.compr_data_size - object->size);
	remove(object);
	give_handle(handle);
	lock_drop(&pool.lock);
}

/* ---- Compaction ----------------------------------------------------------------------------- */

/* Where the object can go: not into its own frame, which is in no list now. */
static bool move(struct object *object)
{
	struct pool_frame *frame = frame_with_room(chunks_of(object->size));
	struct object *to;

	if (!frame) {
		return false;
	}
	to = place(frame, object->size);
	to->handle = object->handle;
	memcpy(to->bytes, object->bytes, object->size);
	pool.objects[to->handle] = to;
	return true;
}

/* An object of the frame's, or NULL: there is none. The first chunk in use begins one. */
static struct object *first_object(struct pool_frame *frame)
{
	u64 used = frame->used & ~HEAD_CHUNK;

	return used ? (struct object *)((u8 *)frame + __builtin_ctzll(used) * CHUNK) : NULL;
}

/* Moves all that is in the frame elsewhere. False: some of it fits nowhere, and stays. */
static bool empty_frame(struct pool_frame *frame)
{
	struct object *object;

	unlink_frame(frame);
	while ((object = first_object(frame))) {
		if (!move(object)) {
			link_frame(frame);
			return false;
		}
		frame->used &= ~chunk_bits(object);
	}
	give_frame(frame);
	return true;
}

bool store_pool_is_sparse(void)
{
	u64 data = load_relaxed(&store_pool_stats.compr_data_size);
	u64 used = load_relaxed(&store_pool_stats.mem_used_total);

	return used > data + data / 3 + FEW_FRAMES * PAGE_SIZE;
}

u32 store_pool_compact(u32 frames)
{
	u32 given = 0;
	bool moved = true;

	for (; frames > 0 && moved; frames--) {
		lock_take(&pool.lock);
		moved = pool.filled_bins &&
			empty_frame(pool.bins[63 - __builtin_clzll(pool.filled_bins)]);
		given += moved;
		lock_drop(&pool.lock);
	}
	atomic_add(&store_pool_stats.pages_compacted, given);
	return given;
}
