/*
 * A guest's balloon.
 *
 *     inflate, reporting: buffers -> ranges -> given up, all in one batch -> buffers back
 *     deflate: counted; the next touch of a page brings it
 *     statistics: the guest's buffer is kept, and given back when it is to be filled again
 *
 * A buffer goes back after its pages are gone, and never while the batch is open: the ring may lie
 * in a page that the batch has cleared, and would not come back before the close.
 *
 * Which queue is where depends on what the driver took (5.5.2): those that it did not are left out.
 * MUST_TELL_HOST is not offered: a page of the balloon may be used before we hear of it. Neither is
 * PAGE_POISON: fresh bytes are what a page gets.
 *
 * Manual: virtio 1.2, 5.5.
 */
#include "hyp/dev_virtio_balloon.h"

#include "hyp/frame.h"
#include "hyp/time.h"
#include "hyp/vm_memory_give_up.h"

#include <arch/cpu.h>

#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <string.h>

#define INFLATE 0
#define DEFLATE 1
#define QUEUE_COUNT 4

#define PFNS_MAX 256 /* read at once; what Linux puts into a buffer */
/* Looked at in a buffer: one with more keeps the rest of its pages. */
#define PFNS_OF_BUFFER_MAX (VM_GIVE_UP_MAX / PAGE_SIZE)
#define RANGES_MAX 512 /* given up at once */
#define STATS_MAX 32   /* read of a buffer: twice as many as there are names */

struct gathered {
	struct vm_ram_range ranges[RANGES_MAX];
	u32 count;
	u64 bytes;
	u64 bytes_of_round;
	u16 heads[VIRTQ_SIZE_MAX]; /* buffers of which all is gathered, or given up already */
	u32 head_count;
};

struct virtio_balloon {
	struct virtio_device device; /* first */
	struct virtio_chain chain;   /* the worker's, as all that follows */
	struct gathered gathered;
	u32 pfns[PFNS_MAX];
	struct virtio_balloon_stat tags[STATS_MAX];
	u16 stats_head;	     /* the guest's buffer, if it is here */
	bool has_stats_head; /* atomic, as the next: for who does not work */
	u64 stats_due;	     /* ticks */

	struct virtio_balloon_stats stats; /* atomic */
};

static struct virtio_balloon *balloon_of(struct virtio_device *device)
{
	return (struct virtio_balloon *)device;
}

/* ---- Memory that goes ------------------------------------------------------------------------ */

/* What was gathered goes: one batch. */
static void give_up(struct virtio_balloon *b)
{
	struct gathered *g = &b->gathered;

	if (g->count > 0) {
		vm_memory_give_up(b->device.vm, g->ranges, g->count);
	}
	g->count = 0;
	g->bytes = 0;
}

static void give_back_buffers(struct virtio_balloon *b, u32 queue)
{
	struct gathered *g = &b->gathered;

	for (u32 i = 0; i < g->head_count; i++) {
		virtio_push(&b->device, queue, g->heads[i], 0);
	}
	g->head_count = 0;
}

/* Neighbours become one range, in either order. */
static bool joins(struct vm_ram_range *last, gpa_t at, u64 size)
{
	if (last->base.v + last->size == at.v) {
		last->size += size;
		return true;
	}
	if (at.v + size == last->base.v) {
		last->base = at;
		last->size += size;
		return true;
	}
	return false;
}

static void gather(struct virtio_balloon *b, gpa_t at, u64 size)
{
	struct gathered *g = &b->gathered;

	if (g->count > 0 && (g->bytes + size > VM_GIVE_UP_MAX || g->count == RANGES_MAX)) {
		give_up(b);
	}
	if (g->count == 0 || !joins(&g->ranges[g->count - 1], at, size)) {
		g->ranges[g->count++] = (struct vm_ram_range){.base = at, .size = size};
	}
	g->bytes += size;
	g->bytes_of_round += size;
}

/* ---- Inflate and deflate --------------------------------------------------------------------- */

/* The buffer's page numbers, a bounded number of them at once; 0: there are no more. */
static u32 read_pfns(struct virtio_balloon *b, u64 done)
{
	u64 all = min_u64(b->chain.readable_bytes, PFNS_OF_BUFFER_MAX * sizeof(u32));
	u64 bytes = align_down(all, sizeof(u32));
	u64 size = min_u64(bytes - min_u64(done, bytes), sizeof(b->pfns));

	if (virtio_chain_read(&b->chain, b->device.vm, done, b->pfns, size) != OK) {
		virtio_broken(&b->device, "a list of pages cannot be read");
		return 0;
	}
	return (u32)(size / sizeof(u32));
}

static void take_pages(struct virtio_balloon *b)
{
	u64 done = 0;
	u32 count;

	while ((count = read_pfns(b, done)) > 0) {
		for (u32 i = 0; i < count; i++) {
			gather(b, gpa((u64)b->pfns[i] << VIRTIO_BALLOON_PFN_SHIFT), PAGE_SIZE);
		}
		atomic_add(&b->device.vm->counters.balloon_inflate, count);
		done += (u64)count * sizeof(u32);
	}
}

static void release_pages(struct virtio_balloon *b)
{
	atomic_add(&b->device.vm->counters.balloon_deflate, b->chain.readable_bytes / sizeof(u32));
}

/* ---- Free page reporting --------------------------------------------------------------------- */

/* What the buffer's pieces are, is free (5.5.6.7). */
static void take_reported(struct virtio_balloon *b)
{
	const struct virtio_chain *chain = &b->chain;

	if (chain->writable_bytes > b->device.vm->ram.size) {
		virtio_broken(&b->device, "it reports more memory than there is");
		return;
	}
	for (u32 i = chain->readable; i < chain->count; i++) {
		for (u64 done = 0; done < chain->pieces[i].size;) {
			u64 part = min_u64(chain->pieces[i].size - done, VM_GIVE_UP_MAX);

			gather(b, gpa_add(chain->pieces[i].at, done), part);
			done += part;
		}
	}
	atomic_add(&b->device.vm->counters.free_page_reported_bytes, chain->writable_bytes);
}

/* ---- Buffers of one queue -------------------------------------------------------------------- */

/* Takes what the driver has made available, does `take` for each, and gives them back when the
 * memory is gone. True: there may be more. */
static bool take_buffers(struct virtio_balloon *b, u32 queue, void (*take)(struct virtio_balloon *))
{
	struct gathered *g = &b->gathered;
	bool is_full = false;

	g->bytes_of_round = 0;
	while (!is_full && virtio_pop(&b->device, queue, &b->chain) == OK) {
		take(b);
		g->heads[g->head_count++] = b->chain.head;
		is_full = g->head_count == VIRTQ_SIZE_MAX || g->bytes_of_round >= VM_GIVE_UP_MAX;
	}
	give_up(b);
	give_back_buffers(b, queue);
	return is_full;
}

/* ---- Statistics ------------------------------------------------------------------------------ */

static void note_stat(struct virtio_balloon *b, u32 tag, u64 value)
{
	static const u16 tags[] = {VIRTIO_BALLOON_S_SWAP_IN,	  VIRTIO_BALLOON_S_SWAP_OUT,
				   VIRTIO_BALLOON_S_MAJFLT,	  VIRTIO_BALLOON_S_MINFLT,
				   VIRTIO_BALLOON_S_MEMFREE,	  VIRTIO_BALLOON_S_MEMTOT,
				   VIRTIO_BALLOON_S_AVAIL,	  VIRTIO_BALLOON_S_CACHES,
				   VIRTIO_BALLOON_S_HTLB_PGALLOC, VIRTIO_BALLOON_S_HTLB_PGFAIL};
	u64 *places[] = {
#define X(name) &b->stats.name,
		VIRTIO_BALLOON_STATS(X)
#undef X
	};

	static_assert(ARRAY_COUNT(tags) == ARRAY_COUNT(places), "a tag for each name");
	for (u32 i = 0; i < ARRAY_COUNT(tags); i++) {
		if (tags[i] == tag) {
			store_relaxed(places[i], value);
		}
	}
}

static void read_stats(struct virtio_balloon *b)
{
	u64 size = min_u64(b->chain.readable_bytes, sizeof(b->tags));
	u64 count = size / sizeof(b->tags[0]);

	if (virtio_chain_read(&b->chain, b->device.vm, 0, b->tags, size) != OK) {
		virtio_broken(&b->device, "its statistics cannot be read");
		return;
	}
	for (u32 i = 0; i < count; i++) {
		note_stat(b, b->tags[i].tag, b->tags[i].val);
	}
}

static void ask_for_stats(struct virtio_balloon *b, u32 queue)
{
	if (b->has_stats_head) {
		store_relaxed(&b->has_stats_head, false);
		virtio_push(&b->device, queue, b->stats_head, 0);
	}
}

/* There is one buffer by the rules; a second one is answered as if it had been asked for. */
static void take_stats(struct virtio_balloon *b, u32 queue)
{
	for (u32 i = 0; i < VIRTQ_SIZE_MAX && virtio_pop(&b->device, queue, &b->chain) == OK; i++) {
		ask_for_stats(b, queue);
		read_stats(b);
		b->stats_head = b->chain.head;
		store_relaxed(&b->stats_due,
			      arch_now() + ns_to_ticks(VIRTIO_BALLOON_STATS_MS * 1000000ull));
		store_relaxed(&b->has_stats_head, true);
	}
}

static u32 balloon_tick(struct virtio_device *device, u64 now)
{
	struct virtio_balloon *b = balloon_of(device);
	u64 due = load_relaxed(&b->stats_due);

	if (load_relaxed(&b->has_stats_head) && now < due) {
		virtio_wake_at(device, due);
	}
	return load_relaxed(&b->has_stats_head) && now >= due ? VIRTIO_EVENT : 0;
}

/* ---- Work ------------------------------------------------------------------------------------ */

#define NO_QUEUE QUEUE_COUNT

/* 5.5.2: the queues of features that were not taken are left out. */
static u32 queue_of(const struct virtio_device *device, u32 feature)
{
	u64 taken = device->driver_features;

	if (!(taken & BIT(feature))) {
		return NO_QUEUE;
	}
	return feature == VIRTIO_BALLOON_F_REPORTING && (taken & BIT(VIRTIO_BALLOON_F_STATS_VQ))
		       ? DEFLATE + 2
		       : DEFLATE + 1;
}

static u32 balloon_work(struct virtio_device *device, u32 what)
{
	struct virtio_balloon *b = balloon_of(device);
	u32 stats = queue_of(device, VIRTIO_BALLOON_F_STATS_VQ);
	u32 reporting = queue_of(device, VIRTIO_BALLOON_F_REPORTING);
	u32 left = 0;

	if ((what & BIT(INFLATE)) && take_buffers(b, INFLATE, take_pages)) {
		left |= (u32)BIT(INFLATE);
	}
	if ((what & BIT(DEFLATE)) && take_buffers(b, DEFLATE, release_pages)) {
		left |= (u32)BIT(DEFLATE);
	}
	if (reporting != NO_QUEUE && (what & BIT(reporting))) {
		atomic_add(&device->vm->counters.free_page_reports, 1);
		if (take_buffers(b, reporting, take_reported)) {
			left |= (u32)BIT(reporting);
		}
	}
	if (stats != NO_QUEUE && (what & VIRTIO_EVENT)) {
		ask_for_stats(b, stats);
	}
	if (stats != NO_QUEUE && (what & BIT(stats))) {
		take_stats(b, stats);
		virtio_wake_at(device, b->stats_due);
	}
	return left;
}

/* ---- The configuration space ----------------------------------------------------------------- */

/* The driver says how many pages the balloon has; all else there is ours to say. */
static void balloon_config_written(struct virtio_device *device, u32 offset, u32 size, u32 value)
{
	if (offset == offsetof(struct virtio_balloon_config, actual) && size == sizeof(value)) {
		memcpy(device->config + offset, &value, size);
	}
}

static struct virtio_balloon *find(struct vm *vm);

enum status virtio_balloon_set_target(struct vm *vm, u32 pages)
{
	struct virtio_balloon *b = find(vm);

	if (!b) {
		return INVALID;
	}
	virtio_config_set(&b->device, offsetof(struct virtio_balloon_config, num_pages), &pages,
			  sizeof(pages));
	return OK;
}

enum status virtio_balloon_get(struct vm *vm, u32 *target, u32 *actual,
			       struct virtio_balloon_stats *stats)
{
	struct virtio_balloon *b = find(vm);
	struct virtio_balloon_config config;

	if (!b) {
		return INVALID;
	}
	lock_take(&b->device.lock);
	memcpy(&config, b->device.config, sizeof(config));
	lock_drop(&b->device.lock);
	*target = config.num_pages;
	*actual = config.actual;
#define X(name) stats->name = load_relaxed(&b->stats.name);
	VIRTIO_BALLOON_STATS(X)
#undef X
	return OK;
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* The target stays: it is the operator's. */
static void balloon_reset(struct virtio_device *device)
{
	struct virtio_balloon *b = balloon_of(device);
	u32 none = 0;

	store_relaxed(&b->has_stats_head, false);
	memcpy(device->config + offsetof(struct virtio_balloon_config, actual), &none,
	       sizeof(none));
	memset(&b->stats, 0xff, sizeof(b->stats));
}

static void balloon_end(struct virtio_device *device)
{
	hyp_free(device);
}

static const struct virtio_kind kind = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.queue_count = QUEUE_COUNT,
	.features = BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
		    BIT(VIRTIO_BALLOON_F_REPORTING),
	.work = balloon_work,
	.config_written = balloon_config_written,
	.reset = balloon_reset,
	.tick = balloon_tick,
	.end = balloon_end,
};

static struct virtio_balloon *find(struct vm *vm)
{
	for (u32 i = 0; i < VM_VIRTIO_MAX; i++) {
		if (vm->virtio[i] && vm->virtio[i]->kind == &kind) {
			return balloon_of(vm->virtio[i]);
		}
	}
	return NULL;
}

struct virtio_device *virtio_balloon_create(struct vm *vm, u32 irq)
{
	struct virtio_balloon *b = hyp_alloc(sizeof(*b));

	if (!b) {
		return NULL;
	}
	virtio_device_init(&b->device, &kind, vm, irq);
	b->device.config_size = sizeof(struct virtio_balloon_config);
	balloon_reset(&b->device);
	return &b->device;
}
