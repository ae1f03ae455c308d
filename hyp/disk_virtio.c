/*
 * One queue, cut into as many chains as fit: request n has the descriptors from n * CHAIN on, for
 * its header, its pieces and its status byte. So nothing is allocated while the disk works, and a
 * chain that comes back says by its head which request is over.
 */
#include "hyp/disk_virtio.h"

#include "hyp/atomic.h"
#include "hyp/frame.h"
#include "hyp/lock.h"
#include "hyp/log.h"
#include "hyp/time.h"

#include <arch/cpu.h>
#include <arch/device.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>

#define QUEUE 0
#define QUEUE_SIZE_MAX 1024
#define CHAIN (BLOCK_PIECES_MAX + 2) /* descriptors */
#define REQUESTS_MAX (QUEUE_SIZE_MAX / CHAIN)
#define VERSION_MODERN 2
#define MAGIC 0x74726976 /* "virt" */
/* A reset, and the question for a name, are answered soon or never. */
#define ANSWER_NS 5000000000ull

/* What only the device and its request use. */
struct wire {
	struct virtio_blk_outhdr header;
	u8 id[VIRTIO_BLK_ID_BYTES];
	u8 status;
};

struct disk {
	struct block block; /* first */
	char name[DISK_VIRTIO_NAME + 1];
	u64 registers;
	u32 queue_size, request_count;
	bool has_flush;

	struct vring_desc *descriptors;
	struct vring_avail *available;
	struct vring_used *used;
	struct wire *wires; /* by request */

	struct lock lock; /* device */

	/* Guarded by the lock. */
	bool gone;
	u16 next_used;
	struct under_way {
		struct block_request *request; /* NULL: it is free */
		u64 since;		       /* ticks */
	} under_way[REQUESTS_MAX];
};

static struct disk *disk_of(struct block *block)
{
	return (struct disk *)block;
}

/* ---- Registers (4.2.2) ----------------------------------------------------------------------- */

static u32 read_register(const struct disk *disk, u32 offset)
{
	return arch_device_read(disk->registers + offset);
}

static void write_register(const struct disk *disk, u32 offset, u32 value)
{
	arch_device_write(disk->registers + offset, value);
}

static void write_address(const struct disk *disk, u32 low, const void *bytes)
{
	u64 address = ptr_hpa(bytes).v;

	write_register(disk, low, (u32)address);
	write_register(disk, low + 4, (u32)(address >> 32));
}

static void add_status(const struct disk *disk, u32 bits)
{
	write_register(disk, VIRTIO_MMIO_STATUS, read_register(disk, VIRTIO_MMIO_STATUS) | bits);
}

/* The device has let go of all memory once it reads 0 (2.1.2). */
static void reset(const struct disk *disk)
{
	u64 deadline = arch_now() + ns_to_ticks(ANSWER_NS);

	write_register(disk, VIRTIO_MMIO_STATUS, 0);
	while (read_register(disk, VIRTIO_MMIO_STATUS) != 0) {
		if (arch_now() > deadline) {
			panic("the disk \"%s\" does not let go of memory: it cannot be reset",
			      disk->name);
		}
		cpu_relax();
	}
}

/* ---- Requests, on the wire ------------------------------------------------------------------- */

static void describe(struct disk *disk, u32 at, const void *bytes, u32 size, u16 flags)
{
	disk->descriptors[at] = (struct vring_desc){
		.addr = ptr_hpa(bytes).v,
		.len = size,
		.flags = flags,
		.next = flags & VRING_DESC_F_NEXT ? (u16)(at + 1) : 0,
	};
}

/* Sector and pieces mean nothing to a flush. */
static void write_chain(struct disk *disk, u32 n, u32 type, u64 sector,
			const struct block_piece *pieces, u32 count)
{
	struct wire *wire = &disk->wires[n];
	u16 direction = type == VIRTIO_BLK_T_OUT ? 0 : VRING_DESC_F_WRITE;
	u32 at = n * CHAIN;

	wire->header = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	wire->status = VIRTIO_BLK_S_IOERR;
	describe(disk, at++, &wire->header, sizeof(wire->header), VRING_DESC_F_NEXT);
	for (u32 i = 0; i < count; i++) {
		describe(disk, at++, pieces[i].bytes, pieces[i].size,
			 VRING_DESC_F_NEXT | direction);
	}
	describe(disk, at, &wire->status, 1, VRING_DESC_F_WRITE);
}

/* With the lock. */
static void make_available(struct disk *disk, u32 n)
{
	u16 index = disk->available->idx;

	disk->available->ring[index % disk->queue_size] = (u16)(n * CHAIN);
	store_release(&disk->available->idx, (u16)(index + 1));
	fence_full(); /* the device sees the index when it hears of it */
	write_register(disk, VIRTIO_MMIO_QUEUE_NOTIFY, QUEUE);
}

/* With the lock: the next request that the device is done with; false: there is none. */
static bool take_used(struct disk *disk, u32 *n)
{
	u32 head;

	if (load_acquire(&disk->used->idx) == disk->next_used) {
		return false;
	}
	head = disk->used->ring[disk->next_used++ % disk->queue_size].id;
	*n = head / CHAIN;
	return true;
}

/* ---- Requests, as block.h has them ------------------------------------------------------------
 */

static u32 type_of(const struct block_request *request)
{
	static const u32 types[] = {
		[BLOCK_READ] = VIRTIO_BLK_T_IN,
		[BLOCK_WRITE] = VIRTIO_BLK_T_OUT,
		[BLOCK_FLUSH] = VIRTIO_BLK_T_FLUSH,
	};

	return types[request->operation];
}

/* With the lock. FULL: all are under way. */
static enum status begin(struct disk *disk, struct block_request *request)
{
	u32 n = 0;

	while (n < disk->request_count && disk->under_way[n].request) {
		n++;
	}
	if (n == disk->request_count) {
		return FULL;
	}
	disk->under_way[n] = (struct under_way){.request = request, .since = arch_now()};
	write_chain(disk, n, type_of(request), request->sector, request->pieces,
		    request->operation == BLOCK_FLUSH ? 0 : request->piece_count);
	make_available(disk, n);
	return OK;
}

/* A device without a cache of its own need not be flushed (5.2.6.2). */
static enum status submit(struct block *block, struct block_request *request)
{
	struct disk *disk = disk_of(block);
	enum status status = block_judge(block, request);
	bool ends_at_once, gone;

	if (status != OK) {
		return status;
	}
	lock_take(&disk->lock);
	gone = disk->gone;
	ends_at_once = gone || (request->operation == BLOCK_FLUSH && !disk->has_flush);
	if (!ends_at_once) {
		status = begin(disk, request);
	}
	lock_drop(&disk->lock);
	if (ends_at_once) {
		request->done(request, !gone);
	}
	return status;
}

static void put_ended(struct block_request **list, struct under_way *u)
{
	u->request->next = *list;
	*list = u->request;
	u->request = NULL;
}

/* With the lock: those that are over, by how they ended. What the device says is not believed: a
 * request that it does not have is none. */
static void collect(struct disk *disk, struct block_request **good, struct block_request **bad)
{
	u32 n;

	while (take_used(disk, &n)) {
		if (n < disk->request_count && disk->under_way[n].request) {
			put_ended(disk->wires[n].status == VIRTIO_BLK_S_OK ? good : bad,
				  &disk->under_way[n]);
		}
	}
}

static bool is_overdue(const struct disk *disk)
{
	u64 now = arch_now(), patience = ns_to_ticks(DISK_VIRTIO_PATIENCE_NS);

	for (u32 i = 0; i < disk->request_count; i++) {
		const struct under_way *u = &disk->under_way[i];

		if (u->request && now - u->since > patience) {
			return true;
		}
	}
	return false;
}

/* With the lock. */
static void give_up(struct disk *disk, struct block_request **bad)
{
	log_error("disk: \"%s\" has not answered for %llu s: it is not used any more", disk->name,
		  DISK_VIRTIO_PATIENCE_NS / 1000000000);
	reset(disk);
	disk->gone = true;
	for (u32 i = 0; i < disk->request_count; i++) {
		if (disk->under_way[i].request) {
			put_ended(bad, &disk->under_way[i]);
		}
	}
}

static void tell(struct block_request *list, bool ok)
{
	while (list) {
		struct block_request *request = list;

		list = list->next;
		request->done(request, ok);
	}
}

static void poll(struct block *block)
{
	struct disk *disk = disk_of(block);
	struct block_request *good = NULL, *bad = NULL;

	lock_take(&disk->lock);
	if (!disk->gone) {
		collect(disk, &good, &bad);
		if (is_overdue(disk)) {
			give_up(disk, &bad);
		}
	}
	lock_drop(&disk->lock);
	tell(good, true);
	tell(bad, false);
}

void disk_virtio_listen(struct block *block)
{
	store_release(&disk_of(block)->available->flags, 0);
}

void disk_virtio_interrupt(struct block *block)
{
	struct disk *disk = disk_of(block);

	write_register(disk, VIRTIO_MMIO_INTERRUPT_ACK,
		       read_register(disk, VIRTIO_MMIO_INTERRUPT_STATUS));
	poll(block);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void free_disk(struct disk *disk)
{
	hyp_free(disk->descriptors);
	hyp_free(disk->available);
	hyp_free(disk->used);
	hyp_free(disk->wires);
	hyp_free(disk);
}

/* Rings of the largest size that there may be (2.7: alignment, and sizes); all of it is zero. */
static struct disk *make_disk(u64 registers)
{
	struct disk *disk = hyp_alloc(sizeof(*disk));

	if (!disk) {
		return NULL;
	}
	disk->registers = registers;
	disk->descriptors = hyp_alloc(QUEUE_SIZE_MAX * sizeof(*disk->descriptors));
	disk->available = hyp_alloc(sizeof(*disk->available) + (QUEUE_SIZE_MAX + 1) * sizeof(u16));
	disk->used = hyp_alloc(sizeof(*disk->used) +
			       QUEUE_SIZE_MAX * sizeof(struct vring_used_elem) + sizeof(u16));
	disk->wires = hyp_alloc(REQUESTS_MAX * sizeof(*disk->wires));
	if (!disk->descriptors || !disk->available || !disk->used || !disk->wires) {
		free_disk(disk);
		return NULL;
	}
	return disk;
}

static u64 offered_features(const struct disk *disk)
{
	u64 low, high;

	write_register(disk, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	low = read_register(disk, VIRTIO_MMIO_DEVICE_FEATURES);
	write_register(disk, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	high = read_register(disk, VIRTIO_MMIO_DEVICE_FEATURES);
	return high << 32 | low;
}

static void take_features(const struct disk *disk, u64 features)
{
	write_register(disk, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	write_register(disk, VIRTIO_MMIO_DRIVER_FEATURES, (u32)features);
	write_register(disk, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	write_register(disk, VIRTIO_MMIO_DRIVER_FEATURES, (u32)(features >> 32));
}

/* 3.1.1, steps 4 to 6. Returns why not, or NULL. */
static const char *negotiate(struct disk *disk)
{
	u64 wanted = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_FLUSH) |
		     BIT(VIRTIO_BLK_F_RO);
	u64 taken = offered_features(disk) & wanted;

	if (!(taken & BIT(VIRTIO_F_VERSION_1))) {
		return "it is no modern device";
	}
	if (!(taken & BIT(VIRTIO_BLK_F_SEG_MAX))) {
		return "it does not say how many pieces a request may have";
	}
	take_features(disk, taken);
	add_status(disk, VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(read_register(disk, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK)) {
		return "it does not work with the features that it offers";
	}
	disk->has_flush = taken & BIT(VIRTIO_BLK_F_FLUSH);
	disk->block.read_only = taken & BIT(VIRTIO_BLK_F_RO);
	return NULL;
}

static u32 read_config(const struct disk *disk, u32 offset)
{
	return read_register(disk, VIRTIO_MMIO_CONFIG + offset);
}

/* 4.2.2.2: the two halves are of one moment if the generation is the same before and after. */
static u64 read_capacity(const struct disk *disk)
{
	u32 generation;
	u64 capacity;

	do {
		generation = read_register(disk, VIRTIO_MMIO_CONFIG_GENERATION);
		capacity = read_config(disk, 0) | (u64)read_config(disk, 4) << 32;
	} while (read_register(disk, VIRTIO_MMIO_CONFIG_GENERATION) != generation);
	return capacity;
}

static u32 queue_size(u32 max)
{
	u32 size = 1;

	while (size * 2 <= min_u64(max, QUEUE_SIZE_MAX)) {
		size *= 2;
	}
	return size;
}

/* 4.2.3.2. Returns why not, or NULL. */
static const char *begin_queue(struct disk *disk)
{
	write_register(disk, VIRTIO_MMIO_QUEUE_SEL, QUEUE);
	disk->queue_size = queue_size(read_register(disk, VIRTIO_MMIO_QUEUE_NUM_MAX));
	disk->request_count = disk->queue_size / CHAIN;
	if (disk->request_count == 0) {
		return "its queue is too short for one request";
	}
	if (read_config(disk, offsetof(struct virtio_blk_config, seg_max)) < BLOCK_PIECES_MAX) {
		return "its requests have too few pieces";
	}
	disk->available->flags = VRING_AVAIL_F_NO_INTERRUPT;
	write_register(disk, VIRTIO_MMIO_QUEUE_NUM, disk->queue_size);
	write_address(disk, VIRTIO_MMIO_QUEUE_DESC_LOW, disk->descriptors);
	write_address(disk, VIRTIO_MMIO_QUEUE_AVAIL_LOW, disk->available);
	write_address(disk, VIRTIO_MMIO_QUEUE_USED_LOW, disk->used);
	write_register(disk, VIRTIO_MMIO_QUEUE_READY, 1);
	return NULL;
}

/* Before anybody else has the disk. A device that knows no names leaves it without one. False: it
 * does not answer. */
static bool read_name(struct disk *disk)
{
	struct block_piece piece = {.bytes = disk->wires[0].id, .size = VIRTIO_BLK_ID_BYTES};
	u64 deadline = arch_now() + ns_to_ticks(ANSWER_NS);
	u32 n;

	write_chain(disk, 0, VIRTIO_BLK_T_GET_ID, 0, &piece, 1);
	make_available(disk, 0);
	while (!take_used(disk, &n)) {
		if (arch_now() > deadline) {
			return false;
		}
		cpu_relax();
	}
	if (disk->wires[0].status == VIRTIO_BLK_S_OK) {
		memcpy(disk->name, piece.bytes, DISK_VIRTIO_NAME);
	}
	return true;
}

static void fill_block(struct disk *disk)
{
	disk->block.name = disk->name;
	disk->block.sectors = read_capacity(disk);
	disk->block.submit = submit;
	disk->block.poll = poll;
}

/* Returns why not, or NULL. */
static const char *begin_disk(struct disk *disk)
{
	const char *why;

	reset(disk);
	add_status(disk, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(disk, VIRTIO_CONFIG_S_DRIVER);
	why = negotiate(disk);
	if (!why) {
		why = begin_queue(disk);
	}
	if (why) {
		add_status(disk, VIRTIO_CONFIG_S_FAILED);
		return why;
	}
	add_status(disk, VIRTIO_CONFIG_S_DRIVER_OK);
	if (!read_name(disk)) {
		reset(disk);
		return "it does not answer";
	}
	fill_block(disk);
	return NULL;
}

static bool is_disk(u64 registers)
{
	return arch_device_read(registers + VIRTIO_MMIO_MAGIC_VALUE) == MAGIC &&
	       arch_device_read(registers + VIRTIO_MMIO_DEVICE_ID) == VIRTIO_ID_BLOCK;
}

enum status disk_virtio_open(u64 registers, struct block **block)
{
	struct disk *disk;
	const char *why;

	if (!is_disk(registers)) {
		return NOENT;
	}
	disk = make_disk(registers);
	if (!disk) {
		log_error("disk at 0x%llx: no memory for its queue", (unsigned long long)registers);
		return NOMEM;
	}
	why = arch_device_read(registers + VIRTIO_MMIO_VERSION) == VERSION_MODERN
		      ? begin_disk(disk)
		      : "it is no modern device";
	if (why) {
		log_error("disk at 0x%llx: %s", (unsigned long long)registers, why);
		free_disk(disk);
		return INVALID;
	}
	*block = &disk->block;
	return OK;
}

void disk_virtio_close(struct block *block)
{
	struct disk *disk = disk_of(block);

	reset(disk);
	free_disk(disk);
}
