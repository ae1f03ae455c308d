/*
 * Work on a guest's stage-2 table while the guest runs: a test of the table against a real MMU.
 *
 * The guest's RAM stays what it was: it is split and folded, its rights are withheld until a fault
 * takes them back, its accessed flags are cleared, its frames are taken out and put in again, or
 * its bytes moved to others and the old ones wiped, which shows every CPU that still goes there.
 * The guest checks every byte (guest/tables.c).
 *
 * vCPUs come here on their own CPUs, in parallel: so operations race with each other, as well as
 * with faults and with hardware. Two kinds exclude each other by `moving`: frames that are out have
 * no leaf that a fold could be made of, and are out one range at a time (vm_memory_hold).
 */
#include "hyp/exercise.h"

#include "hyp/bitmap.h"
#include "hyp/console.h"
#include "hyp/log.h"
#include "hyp/s2_cursor.h"
#include "hyp/s2_share.h"
#include "hyp/units.h"
#include "hyp/vm_dirty.h"

#include <arch/cpu.h>

#include <string.h>

#define EXITS_A_STEP 4
#define PAGES_MAX 64 /* of a range that is not made of blocks */
#define BLOCKS_MAX 4
#define LOG_SIZE MIB(2)
#define LOG_ROUNDS 16  /* on average, from start to stop */
#define LOG_PAUSE 48   /* and from stop to the next start: that long leaves can be folded */
#define ROUND_PAGES 64 /* of a sender's round */
#define PAGE_WORDS (PAGE_SIZE / 8)
#define BLOCK_PAGES (BLOCK_SIZE / PAGE_SIZE)

struct range {
	gpa_t at;
	u64 size;
};

/* Memory of a range: one block, or pages; with a reference to each. */
struct pieces {
	hpa_t frames[BLOCK_PAGES];
	u64 count, size; /* size: of each, in bytes */
};

/* Writes are logged, and those to some of the RAM are held against a copy of it. */
struct log {
	bool is_on;
	gpa_t first;
	u64 pages;
	u64 known[LOG_SIZE / PAGE_SIZE / 64]; /* a bit for each page: it was copied */
	u64 copy[LOG_SIZE / 8];
	u64 page[PAGE_WORDS];
};

struct exercise {
	bool steps; /* of its own accord */

	/* Each vCPU's own. */
	struct {
		u64 random;
		u64 exits;
	} vcpus[VM_VCPUS_MAX];

	struct lock moving;
	/* Guarded by it. */
	struct pieces old, fresh;
	struct s2 *clone; /* of `forked`, whose bytes came to `sum` */
	struct range forked;
	u64 sum;

	struct lock logging;
	struct log log; /* guarded by it */

	/* Written with atomic_add. */
	struct exercise_count counts[EXERCISE_KINDS];
	u64 collapsed[S2_WHY_COUNT];
};

bool exercise_begin(struct vm *vm, u32 seed)
{
	struct exercise *x = hyp_alloc(sizeof(*x));

	if (!x) {
		return false;
	}
	x->steps = seed != 0;
	for (u32 i = 0; i < VM_VCPUS_MAX; i++) {
		x->vcpus[i].random = (u64)seed * VM_VCPUS_MAX + i;
	}
	vm->exercise = x;
	return true;
}

/* ---- Choosing ------------------------------------------------------------------------------ */

/* SplitMix64 (Steele, Lea, Flood 2014): good numbers from any seed. */
static u64 next_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* One page, some pages, a block, some blocks: each as often. */
static struct range choose_range(const struct vm *vm, u64 random)
{
	u64 pages = vm->ram.size / PAGE_SIZE, blocks = vm->ram.size / BLOCK_SIZE;
	bool small = random & 1, single = random & 2;
	u64 unit = small ? PAGE_SIZE : BLOCK_SIZE, units = small ? pages : blocks;
	u64 most = small ? PAGES_MAX : BLOCKS_MAX;
	u64 first = (random >> 32) % units, count = single ? 1 : 1 + (random >> 8) % most;
	struct vm_ram_range piece = vm_ram_piece(&vm->ram, first * unit);

	return (struct range){piece.base, min_u64(count, piece.size / unit) * unit};
}

static struct range whole_blocks(struct range r)
{
	u64 end = align_up(r.at.v + r.size, BLOCK_SIZE);

	r.at = gpa(align_down(r.at.v, BLOCK_SIZE));
	r.size = end - r.at.v;
	return r;
}

/* ---- Operations: each says how much it changed ----------------------------------------------- */

static u64 close(struct s2_batch *batch)
{
	u64 changed = batch->entries;

	s2_batch_close(batch);
	return changed;
}

static u64 do_split(struct vm *vm, struct range r, unused u64 random)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &vm->s2);
	if (r.size == PAGE_SIZE) {
		s2_split(&vm->s2, r.at, 0, &batch);
	} else {
		s2_split_range(&vm->s2, r.at, r.size, 0, &batch);
	}
	return close(&batch);
}

static u64 do_collapse(struct vm *vm, struct range r, unused u64 random)
{
	struct exercise *x = vm->exercise;
	struct s2_collapsed report;
	struct s2_batch batch;

	if (!lock_try(&x->moving)) {
		return 0;
	}
	r = whole_blocks(r);
	s2_batch_open(&batch, &vm->s2);
	s2_collapse(&vm->s2, r.at, r.size, 1, &batch, &report);
	s2_batch_close(&batch);
	lock_drop(&x->moving);
	for (u32 why = 0; why < S2_WHY_COUNT; why++) {
		atomic_add(&x->collapsed[why], report.count[why]);
	}
	return report.count[S2_FOLDED];
}

/* Pages, or blocks. What else is done to parts of a group takes the hint from it. */
static u64 do_hint(struct vm *vm, struct range r, u64 random)
{
	struct s2_collapsed report;

	r = whole_blocks(r);
	s2_hint(&vm->s2, r.at, r.size, random & 1, &report);
	return report.count[S2_FOLDED];
}

static u64 do_protect(struct vm *vm, struct range r, u64 random)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &vm->s2);
	s2_protect(&vm->s2, r.at, r.size, random & 1 ? S2_READ : S2_RX, &batch);
	return close(&batch);
}

static u64 do_harvest(struct vm *vm, struct range r, u64 random)
{
	struct s2_harvest harvest = {.clear = random & 3, .finest = random >> 2 & 1};

	s2_harvest(&vm->s2, r.at, r.size, &harvest);
	return harvest.young_count;
}

/* ---- Frames are taken out; they or others are mapped in their place ----------------------------
 */

static void put_block(hpa_t head)
{
	frame_put(head);
}

static void for_blocks(hpa_t first, u64 size, void (*fn)(hpa_t head))
{
	for (u64 done = 0; done < size;) {
		const struct frame *f = frame_of(hpa_add(first, done));
		hpa_t head = frame_hpa(f);

		done = head.v + order_bytes(f->order) - first.v;
		fn(head);
	}
}

static void put_pieces(struct pieces *p)
{
	for (; p->count > 0; p->count--) {
		for_blocks(p->frames[p->count - 1], p->size, put_block);
	}
}

/*
 * One reference more to what each leaf of the range holds: either one leaf of a whole block, or
 * pages. False when it is neither, or in part not there, or a clone holds some of it: a mark does
 * not always say that, as a leaf without the right to write has none. Under the space's lock, so
 * that no block of frames is divided in between; and the range is held, or else a write would see
 * our reference, and copy the page behind our back.
 */
static bool take_pieces(struct vm *vm, struct range r, struct pieces *p)
{
	u64 done = 0;

	p->count = 0;
	lock_take(&vm->s2.lock);
	while (done < r.size) {
		struct s2_leaf leaf = s2_query(&vm->s2, gpa_add(r.at, done));
		u64 size = leaf.level ? BLOCK_SIZE : PAGE_SIZE;

		if (leaf.kind != S2_LEAF || size > r.size || s2_memory_is_shared(leaf.hpa, size)) {
			put_pieces(p);
			break;
		}
		p->size = size;
		p->frames[p->count++] = leaf.hpa;
		for_blocks(leaf.hpa, size, frame_get);
		done += size;
	}
	lock_drop(&vm->s2.lock);
	return p->count > 0;
}

/* As much anew: one block for a block, whatever it was mapped by. */
static bool alloc_pieces(struct vm *vm, struct range r, struct pieces *p)
{
	bool whole = r.size == BLOCK_SIZE;

	p->size = whole ? BLOCK_SIZE : PAGE_SIZE;
	for (p->count = 0; p->count * p->size < r.size; p->count++) {
		hpa_t frame = frame_alloc(whole ? ORDER_2M : ORDER_4K, FRAME_GUEST, vm->number);

		if (hpa_is_none(frame)) {
			put_pieces(p);
			return false;
		}
		frame_at(frame)->gfn = (r.at.v + p->count * p->size) >> PAGE_SHIFT;
		p->frames[p->count] = frame;
	}
	return true;
}

/* Nobody can write to the old ones any more. Who still reads there finds nothing. */
static void copy_and_wipe(const struct pieces *old, const struct pieces *fresh)
{
	for (u64 i = 0; i < old->count; i++) {
		u64 done = i * old->size;
		u8 *from = hpa_ptr(old->frames[i]);
		u8 *to = hpa_ptr(hpa_add(fresh->frames[done / fresh->size], done % fresh->size));

		arch_copy(to, from, old->size);
		arch_publish_memory(to, old->size);
		arch_zero(from, old->size);
		arch_publish_memory(from, old->size);
	}
}

static enum status unmap(struct vm *vm, struct range r)
{
	struct s2_batch batch;
	enum status status;

	s2_batch_open(&batch, &vm->s2);
	status = s2_unmap(&vm->s2, r.at, r.size, &batch);
	s2_batch_close(&batch);
	return status;
}

static void map(struct vm *vm, struct range r, struct pieces *p)
{
	struct s2_attr attr = s2_ram(&vm->s2);
	enum status status;

	do { /* until others have closed what they have open around here */
		status = p->size == BLOCK_SIZE
				 ? s2_map(&vm->s2, r.at, p->frames[0], r.size, attr, S2_ERROR)
				 : s2_map_list(&vm->s2, r.at, p->frames, p->count, attr, S2_ERROR);
	} while (status == AGAIN);
	if (status != OK) {
		put_pieces(p);
		vm_crash(vm, "the exercise could not map 0x%lx again: %s", r.at.v,
			 status_name(status));
	}
}

/* The range is held. With `fresh` the bytes move into other frames. */
static u64 move(struct vm *vm, struct range r, struct pieces *old, struct pieces *fresh)
{
	u64 count;

	if (!take_pieces(vm, r, old)) {
		return 0;
	}
	count = old->count;
	if ((fresh && !alloc_pieces(vm, r, fresh)) || unmap(vm, r) != OK) {
		count = 0; /* no memory for it, and nothing was changed */
		if (fresh) {
			put_pieces(fresh);
		}
	} else if (fresh) {
		copy_and_wipe(old, fresh);
		map(vm, r, fresh);
	} else {
		map(vm, r, old);
		old->count = 0; /* the leaves have the references now */
	}
	put_pieces(old);
	return count;
}

static u64 move_if_alone(struct vm *vm, struct range r, bool migrate)
{
	struct exercise *x = vm->exercise;
	u64 count = 0;

	r.size = min_u64(r.size, BLOCK_SIZE);
	if (lock_try(&x->moving)) {
		if (r.size < BLOCK_SIZE) {
			do_split(vm, r, 0);
		}
		vm_memory_hold(vm, r.at, r.size);
		count = move(vm, r, &x->old, migrate ? &x->fresh : NULL);
		vm_memory_release(vm);
		lock_drop(&x->moving);
	}
	return count;
}

static u64 do_remap(struct vm *vm, struct range r, unused u64 random)
{
	return move_if_alone(vm, r, false);
}

static u64 do_migrate(struct vm *vm, struct range r, unused u64 random)
{
	return move_if_alone(vm, r, true);
}

/* ---- Dirty: is every write told of? --------------------------------------------------------- */

static void begin_log(struct vm *vm, struct log *log, u64 random)
{
	u64 windows = max_u64(vm->ram.size / LOG_SIZE, 1);
	struct vm_ram_range piece = vm_ram_piece(&vm->ram, random % windows * LOG_SIZE);

	log->first = piece.base;
	if (s2_query(&vm->s2, log->first).kind != S2_LEAF) {
		return; /* nobody writes there */
	}
	log->pages = min_u64(piece.size, LOG_SIZE) / PAGE_SIZE;
	memset(log->known, 0, sizeof(log->known));
	log->is_on = vm_dirty_start(vm) == OK;
}

/* While the guest may write to it. False: it is not there just now. */
static bool read_page(struct vm *vm, gpa_t at, u64 *to)
{
	u64 outer = s2_walk_begin(&vm->s2);
	struct s2_leaf leaf = s2_query(&vm->s2, at);
	bool is_there = leaf.kind == S2_LEAF;

	for (u64 i = 0; is_there && i < PAGE_WORDS; i++) {
		to[i] = load_relaxed((u64 *)hpa_ptr(leaf.hpa) + i);
	}
	s2_walk_end(&vm->s2, outer);
	return is_there;
}

/* What differs from the copy was written before it was read here, so it is told of by now. */
static void verify_page(struct vm *vm, struct log *log, u64 page)
{
	gpa_t at = gpa_add(log->first, page * PAGE_SIZE);
	u64 is_written = 0;

	if (!bitmap_has(log->known, page) || !read_page(vm, at, log->page) ||
	    memcmp(log->page, log->copy + page * PAGE_WORDS, PAGE_SIZE) == 0) {
		return;
	}
	s2_dirty_get(&vm->s2, at, PAGE_SIZE, &is_written);
	if (!is_written) {
		vm_crash(vm, "the exercise found a write to 0x%lx that was not logged", at.v);
	}
}

/* Held, so that nothing is out, or half copied, when it is asked for what it says of itself. */
static void verify_pages(struct vm *vm, struct log *log, u64 first)
{
	struct exercise *x = vm->exercise;

	if (!lock_try(&x->moving)) {
		return;
	}
	vm_memory_hold(vm, gpa_add(log->first, first * PAGE_SIZE), ROUND_PAGES * PAGE_SIZE);
	for (u64 i = 0; i < ROUND_PAGES; i++) {
		verify_page(vm, log, first + i);
	}
	vm_memory_release(vm);
	lock_drop(&x->moving);
}

static void copy_page(struct vm *vm, struct log *log, u64 page)
{
	gpa_t at = gpa_add(log->first, page * PAGE_SIZE);

	if (read_page(vm, at, log->copy + page * PAGE_WORDS)) {
		bitmap_set(log->known, page);
	} else {
		bitmap_clear(log->known, page);
	}
}

/* As who sends pages elsewhere: which were written, by the CPUs' logs or by the tables, watch them
 * anew, and only then read them. */
static u64 log_round(struct vm *vm, struct log *log, u64 random)
{
	u64 first = align_down(random % log->pages, ROUND_PAGES), written = 0, count = 0;
	gpa_t at = gpa_add(log->first, first * PAGE_SIZE);
	struct s2_batch batch;

	verify_pages(vm, log, first);
	if (random >> 32 & 1 || vm_dirty_take(vm, at, ROUND_PAGES * PAGE_SIZE, &written) != OK) {
		vm_dirty_get(vm, at, ROUND_PAGES * PAGE_SIZE, &written);
	}
	s2_batch_open(&batch, &vm->s2);
	s2_dirty_clear(&vm->s2, at, ROUND_PAGES * PAGE_SIZE, &written, 0, &batch);
	s2_batch_close(&batch);
	for (u64 i = 0; i < ROUND_PAGES; i++) {
		if (bitmap_has(&written, i) || !bitmap_has(log->known, first + i)) {
			copy_page(vm, log, first + i);
		}
		count += bitmap_has(&written, i);
	}
	return count;
}

/* Some of the time nothing is logged, so that leaves can be folded. */
static u64 dirty(struct vm *vm, struct log *log, u64 random)
{
	if (!log->is_on) {
		if (random % LOG_PAUSE == 0) {
			begin_log(vm, log, random >> 16);
		}
	} else if (random % LOG_ROUNDS == 0) {
		vm_dirty_stop(vm);
		log->is_on = false;
	} else {
		return log_round(vm, log, random >> 16);
	}
	return 0;
}

static u64 do_dirty(struct vm *vm, unused struct range r, u64 random)
{
	struct exercise *x = vm->exercise;
	u64 written = 0;

	if (lock_try(&x->logging)) {
		written = dirty(vm, &x->log, random);
		lock_drop(&x->logging);
	}
	return written;
}

/* ---- Fork ---------------------------------------------------------------------------------- */

/* Of all bytes that the clone maps. */
static u64 sum_of_clone(const struct exercise *x, u64 *pages)
{
	u64 sum = 0;

	*pages = 0;
	for (u64 done = 0; done < x->forked.size; done += PAGE_SIZE) {
		struct s2_leaf leaf = s2_query(x->clone, gpa_add(x->forked.at, done));
		const u64 *words = hpa_ptr(leaf.hpa);

		for (u64 i = 0; leaf.kind == S2_LEAF && i < PAGE_SIZE / sizeof(*words); i++) {
			sum = sum * 31 + words[i];
		}
		*pages += leaf.kind == S2_LEAF;
	}
	return sum;
}

static void drop_clone(struct exercise *x)
{
	s2_destroy(x->clone);
	hyp_free(x->clone);
	x->clone = NULL;
}

/* Few pages: they are read while the guest waits. */
static void make_clone(struct vm *vm, struct range r)
{
	struct exercise *x = vm->exercise;
	struct s2 *clone = hyp_alloc(sizeof(*clone));
	struct s2_batch batch;
	u64 pages;

	if (!clone) {
		return;
	}
	if (s2_init(clone, vm->s2.format, vm->s2.ipa_bits, vm->number) != OK) {
		hyp_free(clone);
		return;
	}
	x->forked = (struct range){r.at, min_u64(r.size, PAGES_MAX * PAGE_SIZE)};
	s2_batch_open(&batch, &vm->s2);
	s2_fork(&vm->s2, clone, x->forked.at, x->forked.size, &batch);
	s2_batch_close(&batch);
	x->clone = clone;
	x->sum = sum_of_clone(x, &pages);
}

/* A clone is made at one step and judged at the next: in between the guest writes. */
static u64 do_fork(struct vm *vm, struct range r, unused u64 random)
{
	struct exercise *x = vm->exercise;
	u64 pages = 0;

	if (!lock_try(&x->moving)) {
		return 0;
	}
	if (!x->clone) {
		make_clone(vm, r);
	} else {
		if (sum_of_clone(x, &pages) != x->sum) {
			vm_crash(vm, "what was forked at 0x%lx has changed", x->forked.at.v);
		}
		drop_clone(x);
	}
	lock_drop(&x->moving);
	return pages;
}

void exercise_end(struct vm *vm)
{
	if (vm->exercise && vm->exercise->clone) {
		drop_clone(vm->exercise);
	}
}

/* ---- Steps --------------------------------------------------------------------------------- */

static const struct {
	const char *name, *unit;
	u64 (*fn)(struct vm *vm, struct range r, u64 random);
} operations[] = {
#define X(name, unit) {#name, unit, do_##name},
	EXERCISES(X)
#undef X
};

u64 exercise_do(struct vm *vm, enum exercise_kind kind, gpa_t at, u64 size, u64 random)
{
	u64 changed = operations[kind].fn(vm, (struct range){at, size}, random);

	atomic_add(&vm->exercise->counts[kind].times, changed != 0);
	atomic_add(&vm->exercise->counts[kind].changed, changed);
	return changed;
}

void exercise_step(struct vcpu *vcpu)
{
	struct exercise *x = vcpu->vm->exercise;
	u64 *random = &x->vcpus[vcpu->id].random;
	struct range r;

	if (!x->steps || ++x->vcpus[vcpu->id].exits % EXITS_A_STEP != 0) {
		return;
	}
	r = choose_range(vcpu->vm, next_random(random));
	exercise_do(vcpu->vm, (enum exercise_kind)(next_random(random) % EXERCISE_KINDS), r.at,
		    r.size, next_random(random));
}

/* ---- What was done ------------------------------------------------------------------------- */

struct exercise_count exercise_count(const struct vm *vm, enum exercise_kind kind)
{
	return vm->exercise->counts[kind];
}

void exercise_print(const struct vm *vm)
{
	const struct exercise *x = vm->exercise;

	if (!x) {
		return;
	}
	for (u32 i = 0; i < EXERCISE_KINDS; i++) {
		if (x->counts[i].times == 0) {
			continue;
		}
		console_print("d%u exercise: %s %s times, %s %s\n", vm->number, operations[i].name,
			      units_grouped(x->counts[i].times).text,
			      units_grouped(x->counts[i].changed).text, operations[i].unit);
	}
	for (u32 why = 0; why < S2_WHY_COUNT; why++) {
		if (why != S2_FOLDED && x->collapsed[why]) {
			console_print("d%u exercise: %s blocks not collapsed: %s\n", vm->number,
				      units_grouped(x->collapsed[why]).text, s2_why_text(why));
		}
	}
	console_print("d%u exercise: %s permission faults, %s access flag faults\n", vm->number,
		      units_grouped(vm->counters.permission_faults).text,
		      units_grouped(vm->counters.access_flag_faults).text);
}
