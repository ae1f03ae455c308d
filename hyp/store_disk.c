#include "hyp/store_disk.h"

#include "hyp/atomic.h"
#include "hyp/bitmap.h"
#include "hyp/frame.h"
#include "hyp/lock.h"
#include "hyp/log.h"

#include <arch/cpu.h>

#include <string.h>

#define SLOT_SECTORS (PAGE_SIZE / BLOCK_SECTOR_SIZE)

enum outcome { UNDER_WAY, GOOD, BAD };

static struct {
	struct block *block; /* NULL: there is none */
	u64 *hashes;	     /* by slot: whose owner writes it */
	u32 failures;	     /* writes in a row; atomic */
	bool closed;	     /* atomic */

	struct lock lock; /* pool */
	/* Guarded by the lock. */
	u64 *used; /* a bit for each slot */
	u32 next;  /* where to look first: behind what was handed out last */
} disk;

struct store_disk_stats store_disk_stats;

/* ---- Life ----------------------------------------------------------------------------------- */

enum status store_disk_init(struct block *block)
{
	u64 slots = min_u64(block->sectors / SLOT_SECTORS, STORE_DISK_SLOTS_MAX);

	if (slots == 0 || block->read_only) {
		return slots == 0 ? INVALID : DENIED;
	}
	memset(&disk, 0, sizeof(disk));
	memset(&store_disk_stats, 0, sizeof(store_disk_stats));
	disk.used = hyp_alloc(bitmap_bytes(slots));
	disk.hashes = hyp_alloc(slots * sizeof(*disk.hashes));
	if (!disk.used || !disk.hashes) {
		store_disk_fini();
		return NOMEM;
	}
	store_disk_stats.disk_slots = slots;
	disk.block = block;
	return OK;
}

void store_disk_fini(void)
{
	hyp_free(disk.used);
	hyp_free(disk.hashes);
	memset(&disk, 0, sizeof(disk));
}

bool store_disk_is_on(void)
{
	return disk.block && !load_relaxed(&disk.closed);
}

/* ---- Slots ---------------------------------------------------------------------------------- */

/* The first free slot from `from` on, before `end`; `end`: there is none. */
static u32 find_free(u32 from, u32 end)
{
	while (from < end && bitmap_has(disk.used, from)) {
		bool is_word_full = from % 64 == 0 && disk.used[from / 64] == ~0ull;

		from += is_word_full ? 64 : 1;
	}
	return (u32)min_u64(from, end);
}

static u32 run_at(u32 first, u32 end, u32 wanted)
{
	u32 count = 0;

	while (count < wanted && first + count < end && !bitmap_has(disk.used, first + count)) {
		count++;
	}
	return count;
}

struct run {
	u32 first, count;
};

/* The first run of `wanted` slots in [from, end), else the longest; a bounded number of them is
 * looked at, as any is better than none. */
static struct run find_run(u32 from, u32 end, u32 wanted)
{
	struct run best = {0, 0};

	for (u32 tries = 0; tries < 64 && best.count < wanted; tries++) {
		struct run run = {.first = find_free(from, end)};

		if (run.first == end) {
			break;
		}
		run.count = run_at(run.first, end, wanted);
		if (run.count > best.count) {
			best = run;
		}
		from = run.first + run.count;
	}
	return best;
}

/* From where the last one ended, then from the start. */
static struct run find_any_run(u32 wanted)
{
	u32 slots = (u32)store_disk_stats.disk_slots;
	struct run run = find_run(disk.next, slots, wanted);

	return run.count == wanted || disk.next == 0 ? run : find_run(0, slots, wanted);
}

enum status store_disk_alloc(u32 wanted, u32 *first, u32 *count)
{
	struct run run;

	lock_take(&disk.lock);
	run = find_any_run((u32)min_u64(wanted, STORE_DISK_RUN_MAX));
	if (run.count > 0) {
		bitmap_set_range(disk.used, run.first, run.first + run.count);
		disk.next = run.first + run.count;
		count_add(&store_disk_stats.disk_used, run.count);
	}
	lock_drop(&disk.lock);
	*first = run.first;
	*count = run.count;
	return run.count > 0 ? OK : FULL;
}

void store_disk_free(u32 slot)
{
	lock_take(&disk.lock);
	bitmap_clear(disk.used, slot);
	count_add(&store_disk_stats.disk_used, -1);
	lock_drop(&disk.lock);
}

bool store_disk_is_roomy(void)
{
	return load_relaxed(&store_disk_stats.disk_used) < store_disk_stats.disk_slots / 2;
}

void store_disk_note(u32 slot, u64 hash)
{
	disk.hashes[slot] = hash;
}

bool store_disk_holds(u32 slot, u64 hash)
{
	return disk.hashes[slot] == hash;
}

/* ---- Transfers ------------------------------------------------------------------------------- */

static void done(struct block_request *request, bool ok)
{
	struct store_disk_io *io = request->context;

	store_release(&io->outcome, ok ? GOOD : BAD);
}

static void fill(struct store_disk_io *io, enum block_operation operation, void *const *pages)
{
	io->request = (struct block_request){
		.operation = operation,
		.sector = (u64)io->first * SLOT_SECTORS,
		.piece_count = io->count,
		.done = done,
		.context = io,
	};
	for (u32 i = 0; i < io->count; i++) {
		io->request.pieces[i] = (struct block_piece){.bytes = pages[i], .size = PAGE_SIZE};
	}
}

void store_disk_begin(struct store_disk_io *io, enum block_operation operation, u32 first,
		      u32 count, void *const *pages)
{
	enum status status;

	io->first = first;
	io->count = count;
	store_relaxed(&io->outcome, UNDER_WAY);
	fill(io, operation, pages);
	atomic_add(operation == BLOCK_READ ? &store_disk_stats.disk_reads
					   : &store_disk_stats.disk_writes,
		   1);
	while ((status = disk.block->submit(disk.block, &io->request)) == FULL) {
		disk.block->poll(disk.block);
		cpu_relax();
	}
	check(status == OK); /* slots lie on the disk, and it is not read-only */
}

bool store_disk_is_over(struct store_disk_io *io)
{
	disk.block->poll(disk.block);
	return load_acquire(&io->outcome) != UNDER_WAY;
}

static void note_write(const struct store_disk_io *io, bool ok)
{
	if (ok) {
		store_relaxed(&disk.failures, 0);
		return;
	}
	atomic_add(&store_disk_stats.disk_write_errors, 1);
	log_warn("disk \"%s\": %u sectors from %llu on cannot be written, and are left alone",
		 disk.block->name, io->count * (u32)SLOT_SECTORS,
		 (unsigned long long)io->request.sector);
	if (atomic_add(&disk.failures, 1) == STORE_DISK_FAILURES_MAX) {
		store_relaxed(&disk.closed, true);
		log_error("disk \"%s\": %u writes in a row failed: no page is written there any "
			  "more",
			  disk.block->name, STORE_DISK_FAILURES_MAX);
	}
}

bool store_disk_wait(struct store_disk_io *io)
{
	bool ok;

	while (!store_disk_is_over(io)) {
		cpu_relax();
	}
	ok = io->outcome == GOOD;
	if (io->request.operation == BLOCK_WRITE) {
		note_write(io, ok);
	} else if (!ok) {
		atomic_add(&store_disk_stats.disk_read_errors, 1);
	}
	return ok;
}
