/*
 * A guest's disk.
 *
 *     queue -> a request of ours is free -> header read, judged
 *           -> write: guest's bytes into its bounce buffer -> submitted -> done, perhaps later and
 *              on another CPU -> read: bounce buffer into the guest's RAM -> the next step, or
 *              status byte, used ring, interrupt
 *
 * No address of the host's for guest RAM is kept while the block works: it works on the bounce
 * buffer, whatever becomes of the guest's pages. done() only leaves word: it may be called from
 * where guest memory must not fault in, and a vCPU of the guest goes on with it. After a reset what
 * the block still has belongs to an older generation, and is dropped when it comes back.
 *
 * Manual: virtio 1.2, 5.2.
 */
#include "hyp/dev_virtio_blk.h"

#include "hyp/frame.h"
#include "hyp/time.h"

#include <arch/cpu.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <string.h>

#define QUEUE 0
#define HEADER_SIZE sizeof(struct virtio_blk_outhdr)
#define STATUS_SIZE 1
/* Of a chain, the header and the status byte are not data. */
#define SEGMENTS_MAX (VIRTQ_SIZE_MAX - 2)
/* Where the block had no room, and none of ours comes back that would make some. */
#define RETRY_NS 1000000ull

struct virtio_blk;

struct blk_request {
	struct block_request io;
	struct virtio_blk *disk;
	struct blk_request *next; /* in one of the disk's lists */
	struct virtio_chain chain;
	u32 type;   /* VIRTIO_BLK_T_* */
	u64 sector; /* where it begins */
	u64 bytes;  /* of data; and how many are done, and how many this step is about */
	u64 done, step;
	u64 generation; /* the disk's when it began */
	bool ok;	/* the block's answer */
	u8 *bounce;
};

struct virtio_blk {
	struct virtio_device device; /* first */
	struct block *block;

	/* Guarded by the device's lock. */
	struct blk_request *ended; /* the block has done with them */
	u32 outstanding;	   /* the block has them */
	u64 generation;

	/* The worker's. */
	struct blk_request *idle;
	struct blk_request *refused; /* the block had no room for them */
	bool has_refused;	     /* some; atomic, for who does not work */

	struct blk_request requests[VIRTIO_BLK_REQUESTS];
};

static struct virtio_blk *disk_of(struct virtio_device *device)
{
	return (struct virtio_blk *)device;
}

static void put(struct blk_request **list, struct blk_request *r)
{
	r->next = *list;
	*list = r;
}

static struct blk_request *take(struct blk_request **list)
{
	struct blk_request *r = *list;

	if (r) {
		*list = r->next;
	}
	return r;
}

/* ---- The end of a request -------------------------------------------------------------------- */

static void finish(struct blk_request *r, u8 status, u32 written)
{
	struct virtio_blk *disk = r->disk;
	struct virtio_device *device = &disk->device;

	if (virtio_chain_write(&r->chain, device->vm, r->chain.writable_bytes - STATUS_SIZE,
			       &status, STATUS_SIZE) != OK) {
		virtio_broken(device, "a request's status cannot be written");
	}
	virtio_push(device, QUEUE, r->chain.head, written + STATUS_SIZE);
	put(&disk->idle, r);
}

/* ---- Steps ----------------------------------------------------------------------------------- */

/* Any CPU, at any time, perhaps within submit(). */
static void done(struct block_request *io, bool ok)
{
	struct blk_request *r = io->context;
	struct virtio_blk *disk = r->disk;
	struct virtio_device *device = &disk->device;

	r->ok = ok;
	lock_take(&device->lock);
	put(&disk->ended, r);
	disk->outstanding--;
	virtio_happened_unlock(device, VIRTIO_EVENT);
}

static void count_outstanding(struct virtio_blk *disk, int change)
{
	lock_take(&disk->device.lock);
	disk->outstanding += (u32)change;
	lock_drop(&disk->device.lock);
}

static void submit(struct blk_request *r)
{
	struct virtio_blk *disk = r->disk;
	enum status status;

	count_outstanding(disk, 1); /* before: done() may come first */
	status = disk->block->submit(disk->block, &r->io);
	if (status == OK) {
		return;
	}
	count_outstanding(disk, -1);
	if (status == FULL) {
		put(&disk->refused, r);
		store_relaxed(&disk->has_refused, true);
		virtio_wake_at(&disk->device, arch_now() + ns_to_ticks(RETRY_NS));
	} else {
		finish(r, VIRTIO_BLK_S_IOERR, 0);
	}
}

static void fill_io(struct blk_request *r)
{
	r->io = (struct block_request){
		.operation = r->type == VIRTIO_BLK_T_IN	   ? BLOCK_READ
			     : r->type == VIRTIO_BLK_T_OUT ? BLOCK_WRITE
							   : BLOCK_FLUSH,
		.sector = r->sector + r->done / BLOCK_SECTOR_SIZE,
		.piece_count = r->step > 0,
		.pieces = {{.bytes = r->bounce, .size = (u32)r->step}},
		.done = done,
		.context = r,
	};
}

/* What fits into the bounce buffer of what is left. */
static void begin_step(struct blk_request *r)
{
	struct vm *vm = r->disk->device.vm;

	r->step = min_u64(r->bytes - r->done, VIRTIO_BLK_BOUNCE);
	if (r->type == VIRTIO_BLK_T_OUT &&
	    virtio_chain_read(&r->chain, vm, HEADER_SIZE + r->done, r->bounce, r->step) != OK) {
		finish(r, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	fill_io(r);
	submit(r);
}

/* The block has done its part of the step. */
static void end_step(struct blk_request *r)
{
	struct vm *vm = r->disk->device.vm;
	bool is_read = r->type == VIRTIO_BLK_T_IN;

	if (!r->ok ||
	    (is_read && virtio_chain_write(&r->chain, vm, r->done, r->bounce, r->step) != OK)) {
		finish(r, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	r->done += r->step;
	if (r->done < r->bytes) {
		begin_step(r);
	} else {
		finish(r, VIRTIO_BLK_S_OK, is_read ? (u32)r->bytes : 0);
	}
}

/* ---- The beginning of a request -------------------------------------------------------------- */

static void begin_transfer(struct blk_request *r, u64 bytes)
{
	const struct block *block = r->disk->block;
	u64 sectors = bytes / BLOCK_SECTOR_SIZE;
	bool is_denied = r->type == VIRTIO_BLK_T_OUT && block->read_only;

	if (is_denied || bytes % BLOCK_SECTOR_SIZE != 0 || r->sector > block->sectors ||
	    sectors > block->sectors - r->sector) {
		finish(r, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	r->bytes = bytes;
	if (bytes == 0) {
		finish(r, VIRTIO_BLK_S_OK, 0);
	} else {
		begin_step(r);
	}
}

static void give_id(struct blk_request *r)
{
	char id[VIRTIO_BLK_ID_BYTES] = {0};
	u64 size = min_u64(sizeof(id), r->chain.writable_bytes - STATUS_SIZE);
	enum status status;

	memcpy(id, r->disk->block->name, min_u64(strlen(r->disk->block->name), sizeof(id)));
	status = virtio_chain_write(&r->chain, r->disk->device.vm, 0, id, size);
	finish(r, status == OK ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR, (u32)size);
}

static void begin(struct blk_request *r)
{
	struct virtio_device *device = &r->disk->device;
	struct virtio_blk_outhdr header;

	if (r->chain.readable_bytes < HEADER_SIZE || r->chain.writable_bytes < STATUS_SIZE ||
	    virtio_chain_read(&r->chain, device->vm, 0, &header, HEADER_SIZE) != OK) {
		virtio_broken(device, "a request has no header, or no place for its status");
		put(&r->disk->idle, r);
		return;
	}
	r->type = header.type;
	r->sector = header.sector;
	r->bytes = r->done = 0;
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		begin_transfer(r, r->chain.writable_bytes - STATUS_SIZE);
		break;
	case VIRTIO_BLK_T_OUT:
		begin_transfer(r, r->chain.readable_bytes - HEADER_SIZE);
		break;
	case VIRTIO_BLK_T_FLUSH:
		begin_step(r);
		break;
	case VIRTIO_BLK_T_GET_ID:
		give_id(r);
		break;
	default:
		finish(r, VIRTIO_BLK_S_UNSUPP, 0);
	}
}

/* ---- Work ------------------------------------------------------------------------------------ */

/* Those of before a reset are dropped. */
static void go_on(struct virtio_blk *disk)
{
	struct blk_request *r, *ended;
	u64 generation;

	lock_take(&disk->device.lock);
	ended = disk->ended;
	disk->ended = NULL;
	generation = disk->generation;
	lock_drop(&disk->device.lock);
	while ((r = take(&ended))) {
		if (r->generation == generation) {
			end_step(r);
		} else {
			put(&disk->idle, r);
		}
	}
}

static void try_again(struct virtio_blk *disk)
{
	struct blk_request *r, *refused = disk->refused;

	disk->refused = NULL;
	store_relaxed(&disk->has_refused, false);
	if (refused) {
		disk->block->poll(disk->block);
	}
	while ((r = take(&refused))) {
		submit(r);
	}
}

/* Bounded by what a queue can hold. What waits while no request is idle is looked for again when
 * one comes back. */
static u32 blk_work(struct virtio_device *device, unused u32 what)
{
	struct virtio_blk *disk = disk_of(device);

	go_on(disk);
	try_again(disk);
	for (u32 i = 0; i < VIRTQ_SIZE_MAX; i++) {
		struct blk_request *r = take(&disk->idle);

		if (!r) {
			return 0;
		}
		if (virtio_pop(device, QUEUE, &r->chain) != OK) {
			put(&disk->idle, r);
			return 0;
		}
		r->generation = disk->generation;
		begin(r);
	}
	return (u32)BIT(QUEUE);
}

static bool is_outstanding(struct virtio_blk *disk)
{
	bool is;

	lock_take(&disk->device.lock);
	is = disk->outstanding > 0;
	lock_drop(&disk->device.lock);
	return is;
}

/* The block may have been left by its device: it notices when it is polled. */
static u32 blk_tick(struct virtio_device *device, unused u64 now)
{
	struct virtio_blk *disk = disk_of(device);

	if (is_outstanding(disk)) {
		disk->block->poll(disk->block);
	}
	return load_relaxed(&disk->has_refused) ? VIRTIO_EVENT : 0;
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* What the block has comes back as of an older generation. */
static void blk_reset(struct virtio_device *device)
{
	struct virtio_blk *disk = disk_of(device);
	struct blk_request *r;

	disk->generation++;
	while ((r = take(&disk->refused))) {
		put(&disk->idle, r);
	}
}

static void free_disk(struct virtio_blk *disk)
{
	for (u32 i = 0; i < VIRTIO_BLK_REQUESTS; i++) {
		hyp_free(disk->requests[i].bounce);
	}
	hyp_free(disk);
}

/* The block writes into our buffers as long as it has requests. */
static void blk_end(struct virtio_device *device)
{
	struct virtio_blk *disk = disk_of(device);

	while (is_outstanding(disk)) {
		disk->block->poll(disk->block);
		cpu_relax();
	}
	free_disk(disk);
}

static const struct virtio_kind kind = {
	.name = "disk",
	.id = VIRTIO_ID_BLOCK,
	.queue_count = 1,
	.features =
		BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH),
	.work = blk_work,
	.reset = blk_reset,
	.tick = blk_tick,
	.end = blk_end,
};

static void fill_config(struct virtio_device *device, const struct block *block)
{
	struct virtio_blk_config config = {
		.capacity = block->sectors, .seg_max = SEGMENTS_MAX, .blk_size = BLOCK_SECTOR_SIZE};

	static_assert(sizeof(config) <= VIRTIO_CONFIG_MAX, "it fits");
	memcpy(device->config, &config, sizeof(config));
	device->config_size = sizeof(config);
}

static bool make_requests(struct virtio_blk *disk)
{
	for (u32 i = 0; i < VIRTIO_BLK_REQUESTS; i++) {
		struct blk_request *r = &disk->requests[i];

		r->disk = disk;
		r->bounce = hyp_alloc(VIRTIO_BLK_BOUNCE);
		if (!r->bounce) {
			return false;
		}
		put(&disk->idle, r);
	}
	return true;
}

struct virtio_device *virtio_blk_create(struct vm *vm, u32 irq, struct block *block)
{
	struct virtio_blk *disk = hyp_alloc(sizeof(*disk));

	if (!disk) {
		return NULL;
	}
	if (!make_requests(disk)) {
		free_disk(disk);
		return NULL;
	}
	disk->block = block;
	virtio_device_init(&disk->device, &kind, vm, irq);
	if (block->read_only) {
		disk->device.features |= BIT(VIRTIO_BLK_F_RO);
	}
	fill_config(&disk->device, block);
	return &disk->device;
}
