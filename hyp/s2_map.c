/*
 * Mapping of ranges, contiguous or from a list of frames.
 *
 * A range is gone through twice, in runs: neighbours of one level in one table. The first pass
 * plans: it finds what is in the way, and counts the tables that are missing, which are then laid
 * in (I3). The second makes: a run whose table is missing is written into a new table out of sight,
 * which is linked once. Both go in steps that bound how long the lock is held (I7); a fault, or
 * whoever comes in between two steps, may be faster, and then what was made is undone.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

/* Runs that one hold of the lock may go through. */
#define STEP_RUNS 64
/* Leaves, when nothing is written but the frame table. */
#define STEP_LEAVES 4096

struct map_job {
	struct s2 *s2;
	u64 start, end;	     /* guest-physical */
	u64 offset;	     /* host-physical = guest-physical + offset, modulo 2^64 */
	const hpa_t *frames; /* or else a list, one for each page from `start` on */
	struct s2_attr attr;
	enum s2_if_mapped if_mapped;

	u64 at;	    /* where the pass has come to */
	bool makes; /* it is the second one */
	u64 tables; /* that are missing, says the first */
	struct s2_reserve reserve;
	struct s2_batch upgraded; /* without a place among the open ones: nothing is in transit */
};

/* ---- Frames -------------------------------------------------------------------------------- */

struct frame *s2_next_block(hpa_t first, u64 size, u64 *done)
{
	u64 ram = frame_table.ram_start;
	struct frame *f;

	*done = max_u64(*done, first.v < ram ? ram - first.v : 0);
	do {
		f = *done < size ? frame_of(hpa_add(first, *done)) : NULL;
		*done = f ? frame_hpa(f).v + order_bytes(f->order) - first.v : size;
	} while (f && f->type == FRAME_DEVICE);
	return f;
}

bool s2_memory_is_mappable(hpa_t first, u64 size)
{
	struct frame *f = frame_at(first);
	bool is_one = f && f->type == FRAME_GUEST && order_bytes(f->order) >= size;
	u64 done = 0;

	/* Mostly it is one block, or a part of one from its beginning; or none. */
	if (likely(is_one || !s2_lies_in_ram(first, size))) {
		return true;
	}
	do {
		f = s2_next_block(first, size, &done);
	} while (f && (f->type == FRAME_GUEST || f->type == FRAME_SHARED));
	return !f;
}

/* Out of line for map_page(), which then needs few registers. */
__attribute__((noinline)) bool s2_is_one_page(hpa_t a)
{
	const struct frame *frame = frame_at(a);

	return frame && frame->type == FRAME_GUEST && frame->order == 0;
}

bool s2_memory_is_shared(hpa_t first, u64 size)
{
	struct frame *f;
	u64 done = 0;

	do {
		f = s2_next_block(first, size, &done);
	} while (f && load_relaxed(&f->refs) <= 1);
	return f != NULL;
}

bool s2_memory_get(hpa_t first, u64 size)
{
	struct frame *f;
	bool any = false;

	for (u64 done = 0; (f = s2_next_block(first, size, &done)); any = true) {
		frame_get(frame_hpa(f));
	}
	return any;
}

void s2_memory_put(hpa_t first, u64 size)
{
	struct frame *f;

	for (u64 done = 0; (f = s2_next_block(first, size, &done));) {
		frame_put(frame_hpa(f));
	}
}

/* ---- Places -------------------------------------------------------------------------------- */

static hpa_t hpa_for(const struct map_job *job, u64 at)
{
	if (job->frames) {
		return job->frames[(at - job->start) >> job->s2->format->page_shift];
	}
	return hpa(at + job->offset);
}

/*
 * Stands the cursor at the deepest entry for `at`; returns the level that leaves are to have there:
 * the largest that alignment and the range's end allow, but a table that is already there stays,
 * empty or not, and gets smaller ones. So the cursor is at that level, or above it where tables are
 * missing.
 */
static unsigned map_place(const struct map_job *job, struct s2_cursor *c, u64 at)
{
	const struct s2 *s2 = job->s2;
	unsigned level = job->frames ? 0
				     : s2_leaf_level(s2->format, s2->root_level,
						     at | (at + job->offset), job->end - at);

	s2_cursor_stand(c, job->s2, at, 0);
	return c->level < level ? c->level : level;
}

/* How many leaves of `level` come one after another in the table that the cursor's address belongs
 * to. A larger leaf cannot follow before that table's end. */
static u64 run_length(const struct map_job *job, const struct s2_cursor *c, unsigned level)
{
	const struct s2_format *f = job->s2->format;
	u64 above = s2_span(f, level + 1);
	u64 size = min_u64(job->end, align_down(c->gpa.v, above) + above) - c->gpa.v;

	if (unlikely(f->address_high)) {
		/* Entries count on without a carry from the low bits of an address to the high. */
		u64 carry = BIT(64 - __builtin_clzll(f->address));

		size = min_u64(size, carry - hpa_for(job, c->gpa.v).v % carry);
	}
	return size >> f->shift[level];
}

/* Is what is there already what the job would put there, permissions aside? */
static bool is_the_same(const struct map_job *job, const struct s2_cursor *c)
{
	u64 inside = c->gpa.v - s2_cursor_first(c);

	return s2_entry_is_leaf(c->format, c->entry, c->level) &&
	       s2_entry_hpa(c->format, c->entry).v + inside == hpa_for(job, c->gpa.v).v;
}

/* The leaf of `level` that belongs at `at`. */
static u64 leaf_for(const struct map_job *job, u64 at, unsigned level)
{
	return s2_leaf_bits(job->s2, job->attr, level) |
	       s2_address_bits(job->s2->format, hpa_for(job, at));
}

/* ---- What is mapped already ---------------------------------------------------------------- */

/*
 * The leaf at the cursor gets the rights that it lacks; write stays withheld where it is, or has to
 * be. More rights are for the range alone, so a leaf that sticks out must not lack any. Every
 * format can say what two of its permissions are together.
 *
 * A TLB may keep the entry that a fault for want of rights came from (DDI 0487, D8.13.1), so on
 * machines that broadcast it is forgotten in the end. On x86 such a fault forgets it by itself.
 */
static enum status upgrade(struct map_job *job, struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	u64 first = s2_cursor_first(c), span = s2_span(f, c->level), entry;
	bool is_withheld = c->entry & (f->cow | f->log);
	u8 has = f->decode(c->entry, c->level > 0).perm | (is_withheld ? S2_WRITE : 0);

	if ((job->attr.perm & ~has) == 0) {
		return OK;
	}
	if (first < job->start || s2_cursor_end(c) > job->end) {
		return EXISTS;
	}
	if (!job->makes) {
		return OK;
	}
	s2_hint_unfold(c, 1);
	if (!is_the_same(job, c)) {
		return AGAIN;
	}
	entry = (c->entry & ~f->perm_mask) | job->s2->perm_bits[has | job->attr.perm];
	if (is_withheld) {
		entry &= ~f->write | c->entry;
	}
	if ((job->s2->marks & f->cow) && !(c->entry & f->write) &&
	    s2_memory_is_shared(s2_entry_hpa(f, entry), span)) {
		entry = s2_withheld(f, entry);
	}
	s2_batch_note_range(&job->upgraded, gpa(first), span, c->level, 1);
	return s2_entry_set(c, entry, NULL) ? OK : AGAIN;
}

/* Something is at the cursor: does the job go on past it? A list says of each page of its own where
 * it should be. */
static enum status pass(struct map_job *job, struct s2_cursor *c)
{
	enum status status = job->if_mapped == S2_SKIP ? OK : EXISTS;

	if (job->if_mapped == S2_UPGRADE && is_the_same(job, c)) {
		status = upgrade(job, c);
	}
	if (status == OK) {
		job->at = job->frames ? job->at + s2_span(c->format, 0)
				      : min_u64(s2_cursor_end(c), job->end);
	}
	return status;
}

/* ---- The plan ------------------------------------------------------------------------------ */

/* How many of the places are free. Below a free entry all are; each table that is missing there is
 * counted when its first place comes. */
static u64 plan_run(struct map_job *job, const struct s2_cursor *c, unsigned level, u64 count)
{
	u64 free = 1;

	for (unsigned l = level + 1; l <= c->level; l++) {
		job->tables += job->at == job->start || is_aligned(job->at, s2_span(c->format, l));
	}
	if (c->level > level) {
		return count;
	}
	while (free < count && s2_entry_is_free(c->s2, load_acquire(&c->slot[free]))) {
		free++;
	}
	return free;
}

/* ---- The making ---------------------------------------------------------------------------- */

/*
 * Puts a table under the cursor's free entry: with the run in it when that is of the level below,
 * else empty. *count says how many leaves are mapped by it. A fault may have been faster with a
 * table of its own, which is as good: the caller looks again.
 */
static enum status link_table(struct map_job *job, struct s2_cursor *c, unsigned level, u64 *count)
{
	const struct s2_format *f = c->format;
	u64 at = c->gpa.v, span = s2_span(f, level);
	u64 first = s2_index(f, at, c->level - 1, S2_LEVELS_MAX);
	u64 *table = s2_reserve_take(job->s2, &job->reserve);

	if (!table) {
		return NOMEM; /* others emptied one since the plan */
	}
	*count = c->level == level + 1 ? *count : 0;
	s2_table_fill(job->s2, table, first, *count, leaf_for(job, at, level), span);
	for (u64 i = 0; job->frames && i < *count; i++) {
		table[first + i] = leaf_for(job, at + i * span, level);
	}
	if (!s2_entry_set(c, s2_link_entry(job->s2, table), NULL)) {
		s2_reserve_give(&job->reserve, table);
		*count = 0;
	}
	s2_count_leaves(job->s2, level, (s64)*count);
	return OK;
}

/* *count says how many leaves were made. */
static enum status make_run(struct map_job *job, struct s2_cursor *c, unsigned level, u64 *count)
{
	enum status status = OK;

	if (c->level > level) {
		status = link_table(job, c, level, count);
	} else {
		*count = s2_run_fill(c, job->frames ? 1 : *count, leaf_for(job, job->at, level),
				     s2_span(c->format, level));
	}
	if (status == OK && *count > 0) {
		s2_mark_way(c); /* a fresh leaf counts as used */
	}
	return status;
}

/* ---- A pass -------------------------------------------------------------------------------- */

static enum status take_run(struct map_job *job)
{
	struct s2_cursor c;
	unsigned level = map_place(job, &c, job->at);
	u64 count = run_length(job, &c, level);
	enum status status = OK;

	if (s2_entry_is_pending(job->s2, c.entry)) {
		return AGAIN;
	}
	if (!s2_entry_is_free(job->s2, c.entry)) {
		return pass(job, &c);
	}
	if (job->makes) {
		status = make_run(job, &c, level, &count);
	} else {
		count = plan_run(job, &c, level, count);
	}
	if (status == OK) {
		job->at += count << c.format->shift[level];
	}
	return status;
}

static enum status go_through(struct map_job *job, bool makes)
{
	enum status status = OK;

	job->makes = makes;
	job->at = job->start;
	for (u64 runs = 1; job->at < job->end && status == OK; runs++) {
		status = take_run(job);
		if (status == OK && runs % STEP_RUNS == 0) {
			status = s2_let_others(job->s2, job->start, job->end);
		}
	}
	return status;
}

/* ---- The end ------------------------------------------------------------------------------- */

/* Leaves of this job become `broken`, or what is `broken` there becomes empty. */
static void replace_leaves(struct map_job *job, u64 broken, struct s2_batch *batch)
{
	struct s2_cursor c;

	for (u64 at = job->start; at < job->at; at = s2_cursor_end(&c)) {
		s2_cursor_stand(&c, job->s2, at, 0);
		if (!batch) {
			check(c.entry != broken || s2_entry_set(&c, c.format->empty, NULL));
			continue;
		}
		s2_hint_unfold(&c, 1);
		while (is_the_same(job, &c) && !s2_entry_set(&c, broken, NULL)) {
		}
		if (c.entry == broken) {
			s2_batch_note_range(batch, gpa(s2_cursor_first(&c)),
					    s2_span(c.format, c.level), c.level, 1);
		}
	}
}

/*
 * Somebody was faster: what this job has mapped goes, and its frames stay the caller's. Empty
 * tables may stay. The space's lock is held, so this must not wait for a place among the open
 * batches, whose owners may be waiting for the lock. It needs none: nothing here is in transit.
 */
static void undo(struct map_job *job)
{
	u64 broken = s2_absent_entry(job->s2->format, S2_BROKEN, 0);
	struct s2_batch batch = {.s2 = job->s2};

	replace_leaves(job, broken, &batch);
	if (batch.entries) {
		s2_batch_flush(&batch);
		replace_leaves(job, broken, NULL);
	}
}

/* A block of frames that this job's leaf, of 2^order frames, alone holds a part of. */
static struct frame *block_to_split(hpa_t a, unsigned order)
{
	struct frame *frame = frame_of(a);
	bool is_larger = frame && frame->order > order;

	return is_larger && frame->type != FRAME_DEVICE && frame->refs == 1 ? frame : NULL;
}

/* At the leaf for `at`; returns where the next one begins, or may. */
static u64 split_block(const struct map_job *job, u64 at)
{
	const struct s2_format *f = job->s2->format;
	struct s2_cursor c;
	struct frame *block;

	if (!block_to_split(hpa_for(job, at), s2_level_order(f, 0))) {
		return at + s2_span(f, 0);
	}
	s2_cursor_stand(&c, job->s2, at, 0);
	block = block_to_split(hpa_for(job, at), s2_level_order(f, c.level));
	if (block && is_the_same(job, &c)) {
		frame_split(frame_hpa(block), s2_level_order(f, c.level));
	}
	return s2_cursor_end(&c);
}

/*
 * References are counted per block, and each leaf now holds one: so no block may be larger than its
 * leaf. Last of all, because a job that is undone leaves the caller's blocks as they were; but
 * under the lock, as whoever takes it next may unmap, and give back, what was mapped.
 */
static void split_blocks(const struct map_job *job)
{
	u64 at = job->start;

	if (!job->frames && !s2_lies_in_ram(hpa_for(job, at), job->end - at)) {
		return;
	}
	for (u64 leaves = 1; at < job->end; leaves++) {
		at = split_block(job, at);
		if (leaves % STEP_LEAVES == 0) {
			s2_let_others(job->s2, at, job->end);
		}
	}
}

/* ---- The whole ----------------------------------------------------------------------------- */

static enum status make(struct map_job *job)
{
	enum status status = go_through(job, true);

	if (status == OK) {
		split_blocks(job);
	} else if (job->if_mapped == S2_ERROR) {
		undo(job);
	}
	return status;
}

/* What of the caller's can be told before the lock is taken; of a list, page by page. */
static enum status judge(const struct map_job *job)
{
	const struct s2 *s2 = job->s2;
	u64 size = job->end - job->start, piece = job->frames ? s2_span(s2->format, 0) : size;

	if (!s2_range_is_valid(s2, gpa(job->start), size) ||
	    s2_leaf_bits(s2, job->attr, 0) == S2_CANNOT) {
		return INVALID;
	}
	for (u64 at = job->start; at < job->end; at += piece) {
		if (!s2_addresses_fit(s2->format, hpa_for(job, at), piece)) {
			return INVALID;
		}
		if (!s2_memory_is_mappable(hpa_for(job, at), piece)) {
			return DENIED;
		}
	}
	return OK;
}

static enum status map(struct map_job *job)
{
	struct s2 *s2 = job->s2;
	enum status status = judge(job);

	if (status != OK) {
		return status;
	}
	job->upgraded.s2 = s2;
	status = s2_lock_range(s2, job->start, job->end);
	if (status == OK) {
		status = go_through(job, false);
	}
	if (status == OK && !s2_reserve_fill(s2, &job->reserve, job->tables)) {
		status = NOMEM;
	}
	if (status == OK) {
		status = make(job);
	}
	lock_drop(&s2->lock);
	if (job->upgraded.entries && arch_s2_broadcasts()) {
		s2_batch_flush(&job->upgraded);
	}
	s2_reserve_drop(s2, &job->reserve);
	return status;
}

/*
 * One page whose table is there and whose place is free: neither plan nor reserve nor blocks to
 * divide. False: it is not so simple.
 */
static inline bool map_page(struct s2 *s2, gpa_t at, hpa_t a, struct s2_attr attr)
{
	const struct s2_format *f = s2->format;
	u64 bits, entry, *slot;
	bool mapped = false;
	unsigned level;

	if (((at.v & s2->inside[0]) | (a.v & ~f->address)) != 0 ||
	    (a.v - frame_table.ram_start < frame_table.ram_bytes && !s2_is_one_page(a))) {
		return false;
	}
	lock_take(&s2->lock);
	bits = s2_leaf_bits(s2, attr, 0);
	if (bits != S2_CANNOT && s2_walk_plain(s2, at, &level, &slot, &entry) && level == 0 &&
	    entry == f->empty) {
		mapped = s2_page_fill(s2, slot, a.v | bits);
	}
	lock_drop(&s2->lock);
	if (mapped && !f->accessed_table) {
		s2_mark_way_to(s2, at);
	}
	return mapped;
}

static __attribute__((noinline)) enum status map_range(struct s2 *s2, gpa_t at, hpa_t a, u64 size,
						       struct s2_attr attr,
						       enum s2_if_mapped if_mapped)
{
	struct map_job job = {.s2 = s2,
			      .start = at.v,
			      .end = at.v + size,
			      .offset = a.v - at.v,
			      .attr = attr,
			      .if_mapped = if_mapped};

	return map(&job);
}

enum status s2_map(struct s2 *s2, gpa_t at, hpa_t a, u64 size, struct s2_attr attr,
		   enum s2_if_mapped if_mapped)
{
	if (size - 1 == s2->inside[0] && map_page(s2, at, a, attr)) {
		return OK;
	}
	return map_range(s2, at, a, size, attr, if_mapped);
}

enum status s2_map_list(struct s2 *s2, gpa_t at, const hpa_t *frames, u64 count,
			struct s2_attr attr, enum s2_if_mapped if_mapped)
{
	u64 page = s2_span(s2->format, 0), size = count * page;
	struct map_job job = {.s2 = s2,
			      .start = at.v,
			      .end = at.v + size,
			      .frames = frames,
			      .attr = attr,
			      .if_mapped = if_mapped};

	return size / page == count ? map(&job) : INVALID;
}
