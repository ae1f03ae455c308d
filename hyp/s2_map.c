/*
 * Mapping of ranges, contiguous or from a list of frames.
 *
 * A range is cut into runs: neighbours of one level in one table. First all of it is gone through
 * to find what is in the way and to count the tables that are missing, which are then laid in (I3).
 * Then the runs are made. A run whose table is missing is written into a new table out of sight,
 * which is linked once. Both passes go in steps that bound how long the lock is held (I7); a fault,
 * or whoever comes in between two steps, may be faster, and then what was made is undone.
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

/* The largest leaf that may begin at `at`: both addresses are aligned to it, and it ends in the
 * range. */
static unsigned largest_level(const struct map_job *job, u64 at)
{
	const struct s2 *s2 = job->s2;

	return job->frames ? 0
			   : s2_leaf_level(s2->format, s2->root_level, at | (at + job->offset),
					   job->end - at);
}

/*
 * Stands the cursor at the deepest entry for `at`; returns the level that leaves are to have there:
 * the largest that alignment allows, but a table that is already there stays, empty or not, and
 * gets smaller ones. So the cursor is at that level, or above it where tables are missing.
 */
static unsigned map_place(const struct map_job *job, struct s2_cursor *c, u64 at)
{
	unsigned level = largest_level(job, at);

	s2_cursor_stand(c, job->s2, at, 0);
	return c->level < level ? c->level : level;
}

/* How many leaves of `level` come one after another in the table that the cursor's address belongs
 * to. A larger leaf cannot follow before that table's end. */
static u64 run_length(const struct map_job *job, const struct s2_cursor *c, unsigned level)
{
	const struct s2_format *f = job->s2->format;
	u64 above = s2_span(f, level + 1);
	u64 table_end = level == job->s2->root_level ? BIT(job->s2->ipa_bits)
						     : align_down(c->gpa.v, above) + above;

	u64 size = min_u64(job->end, table_end) - c->gpa.v;

	if (unlikely(f->address_high)) {
		/* Entries count on without a carry from the low bits of an address to the high. */
		u64 carry = BIT(64 - __builtin_clzll(f->address));

		size = min_u64(size, carry - hpa_for(job, c->gpa.v).v % carry);
	}
	return size >> f->shift[level];
}

/* What stands in the way of a leaf at the cursor. */
static enum status obstacle(const struct s2_cursor *c)
{
	if (s2_entry_is_free(c->s2, c->entry)) {
		return OK;
	}
	return s2_entry_is_pending(c->s2, c->entry) ? AGAIN : EXISTS;
}

/* ---- The plan ------------------------------------------------------------------------------ */

/* Is what is there already what the job would put there, permissions aside? */
static bool is_the_same(const struct map_job *job, const struct s2_cursor *c)
{
	u64 inside = c->gpa.v - s2_cursor_first(c);

	return s2_entry_is_leaf(c->format, c->entry, c->level) &&
	       s2_entry_hpa(c->format, c->entry).v + inside == hpa_for(job, c->gpa.v).v;
}

/* Where to go on behind what was passed. A list says of each page of its own where it should be. */
static u64 behind(const struct map_job *job, const struct s2_cursor *c)
{
	if (job->frames) {
		return c->gpa.v + s2_span(c->format, 0);
	}
	return min_u64(s2_cursor_end(c), job->end);
}

/* More rights are for the range alone: a leaf that sticks out has to have them already. Write that
 * a mark withholds it has, and the mark stays. */
static bool may_upgrade(const struct map_job *job, const struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	u8 has = f->decode(c->entry, c->level > 0).perm;

	if (s2_cursor_first(c) >= job->start && s2_cursor_end(c) <= job->end) {
		return true;
	}
	has |= c->entry & (f->cow | f->log) ? S2_WRITE : 0;
	return (job->attr.perm & ~has) == 0;
}

/* May the job go on past what the cursor stands at? */
static enum status may_pass(const struct map_job *job, const struct s2_cursor *c)
{
	enum status status = obstacle(c);

	if (status != EXISTS || job->if_mapped == S2_ERROR) {
		return status;
	}
	if (job->if_mapped == S2_SKIP) {
		return OK;
	}
	return is_the_same(job, c) && may_upgrade(job, c) ? OK : EXISTS;
}

/* How many tables a range lacks, gone through in order of address. */
struct plan {
	u64 tables;
	u64 counted_to[S2_LEVELS_MAX]; /* up to which address, by level of the entry above them */
};

/* Counts those between the cursor's entry and entries of `level`. */
static void count_missing(struct plan *plan, const struct s2_cursor *c, unsigned level)
{
	for (unsigned l = level + 1; l <= c->level; l++) {
		if (c->gpa.v >= plan->counted_to[l]) {
			u64 span = s2_span(c->format, l);

			plan->tables++;
			plan->counted_to[l] = align_down(c->gpa.v, span) + span;
		}
	}
}

/* From the cursor's entry on; *next is behind what was looked at. */
static enum status plan_run(const struct map_job *job, struct plan *plan, struct s2_cursor *c,
			    unsigned level, u64 *next)
{
	u64 count = run_length(job, c, level), span = s2_span(c->format, level);

	if (c->level > level && s2_entry_is_free(c->s2, c->entry)) {
		count_missing(plan, c, level);
		*next = c->gpa.v + count * span;
		return OK;
	}
	for (; count > 0; count--) {
		enum status status;

		/* A typed entry or a leaf of a higher level covers more than one place. */
		*next = c->level > level ? behind(job, c) : c->gpa.v + span;
		if (c->entry != c->format->empty) {
			if (s2_entry_below(c->format, c->entry, c->level)) {
				*next = c->gpa.v; /* what is in there is a run of its own */
				return OK;
			}
			status = may_pass(job, c);
			if (status != OK) {
				return status;
			}
		}
		if (c->level > level || *next >= job->end || count == 1) {
			break;
		}
		c->gpa = gpa(*next);
		c->slot++;
		s2_cursor_reload(c);
	}
	return OK;
}

/* Who waits for the lock goes first. Afterwards the range may be another space's. */
static enum status let_others(const struct map_job *job)
{
	lock_drop(&job->s2->lock);
	lock_take(&job->s2->lock);
	return s2_is_on_loan(job->s2, job->start, job->end) ? DENIED : OK;
}

static enum status plan_map(const struct map_job *job, u64 *tables)
{
	struct plan plan = {0};
	u64 next = job->start, runs = 0;

	for (u64 at = next; at < job->end; at = next) {
		struct s2_cursor c;
		unsigned level = map_place(job, &c, at);
		enum status status = plan_run(job, &plan, &c, level, &next);

		if (status != OK) {
			return status;
		}
		if (++runs % STEP_RUNS == 0 && let_others(job) != OK) {
			return DENIED;
		}
	}
	*tables = plan.tables;
	return OK;
}

/* ---- The making ---------------------------------------------------------------------------- */

/* The bits of leaves of `level`, all but the address. */
static u64 leaf_bits(const struct map_job *job, unsigned level)
{
	return s2_leaf_bits(job->s2, job->attr, level);
}

static void fill_list(const struct map_job *job, u64 *table, u64 at, u64 first, u64 count)
{
	u64 bits = leaf_bits(job, 0);

	for (u64 i = 0; i < count; i++, at += s2_span(job->s2->format, 0)) {
		table[first + i] = bits | s2_address_bits(job->s2->format, hpa_for(job, at));
	}
}

/*
 * Puts a table under the cursor's free entry: with a run of `count` leaves in it when they are of
 * the level below, else empty. Returns how many leaves are mapped by it. A fault may have been
 * faster with a table of its own, which is as good: the caller looks again.
 */
static enum status link_table(struct map_job *job, struct s2_cursor *c, unsigned level, u64 count,
			      u64 *mapped)
{
	const struct s2_format *f = c->format;
	u64 at = c->gpa.v, span = s2_span(f, level);
	u64 first = s2_index(f, at, c->level - 1, S2_LEVELS_MAX);
	u64 *table = s2_reserve_take(job->s2, &job->reserve);

	if (!table) {
		return NOMEM;
	}
	*mapped = c->level == level + 1 ? count : 0;
	s2_table_fill(job->s2, table, first, *mapped,
		      leaf_bits(job, level) | s2_address_bits(f, hpa_for(job, at)), span);
	if (job->frames && *mapped) {
		fill_list(job, table, at, first, count);
	}
	if (!s2_entry_set(c, s2_link_entry(job->s2, table), NULL)) {
		s2_reserve_give(&job->reserve, table);
		*mapped = 0;
		return OK;
	}
	s2_count_leaves(job->s2, level, (s64)*mapped);
	return OK;
}

/* Up to `count` leaves where tables are; how many it could. */
static u64 fill_run(struct map_job *job, struct s2_cursor *c, u64 count)
{
	const struct s2_format *f = c->format;
	u64 bits = leaf_bits(job, c->level) | s2_address_bits(f, hpa_for(job, c->gpa.v));

	return s2_run_fill(c, job->frames ? 1 : count, bits, s2_span(f, c->level));
}

/*
 * The leaf at the cursor gets the rights that it lacks; write stays withheld where it is, or has to
 * be. A TLB may keep the entry that a fault for want of rights came from (DDI 0487, D8.13.1), so on
 * machines that broadcast it is forgotten in the end. On x86 such a fault forgets it by itself.
 */
static enum status upgrade(struct map_job *job, struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	u64 span = s2_span(f, c->level), first = s2_cursor_first(c), entry, bits;

	bits = job->s2->perm_bits[f->decode(c->entry, c->level > 0).perm | job->attr.perm];
	if (bits == S2_CANNOT) {
		return INVALID;
	}
	if (c->entry & (f->cow | f->log)) {
		bits &= ~f->write | c->entry;
	}
	entry = (c->entry & ~f->perm_mask) | bits;
	if ((job->s2->marks & f->cow) && !(c->entry & f->write) &&
	    s2_memory_is_shared(s2_entry_hpa(f, entry), span)) {
		entry = s2_withheld(f, entry);
	}
	if (entry == c->entry) {
		return OK;
	}
	s2_batch_note_range(&job->upgraded, gpa(first), span, c->level, 1);
	return s2_entry_set(c, entry, NULL) ? OK : AGAIN;
}

/* Something is at the cursor. OK: the job passes it, having upgraded it perhaps. */
static enum status pass(struct map_job *job, struct s2_cursor *c)
{
	enum status status = may_pass(job, c);

	return status == OK && job->if_mapped == S2_UPGRADE ? upgrade(job, c) : status;
}

/* Makes what comes next; *at moves on over what was mapped or passed. */
static enum status make_run(struct map_job *job, struct s2_cursor *c, u64 *at)
{
	unsigned level = map_place(job, c, *at);
	u64 count = run_length(job, c, level), made = 0;
	enum status status = OK;

	if (!s2_entry_is_free(job->s2, c->entry)) {
		status = pass(job, c);
		*at = status == OK ? behind(job, c) : *at;
		return status;
	}
	if (c->level > level) {
		status = link_table(job, c, level, count, &made);
	} else {
		made = fill_run(job, c, count);
	}
	if (made) {
		s2_mark_way(c); /* a fresh leaf counts as used */
	}
	*at += made * s2_span(c->format, level);
	return status;
}

/* ---- Undoing ------------------------------------------------------------------------------- */

/* The cursor's entry is a leaf of this job's; in between two steps others may have changed it. */
static bool is_ours(const struct map_job *job, const struct s2_cursor *c)
{
	return s2_entry_is_leaf(c->format, c->entry, c->level) &&
	       s2_entry_hpa(c->format, c->entry).v == hpa_for(job, s2_cursor_first(c)).v;
}

/* Leaves of this job in [start, end) become `broken`, or what is `broken` there becomes empty. */
static void replace_leaves(struct map_job *job, u64 end, u64 broken, struct s2_batch *batch)
{
	struct s2_cursor c;

	for (u64 at = job->start; at < end; at = s2_cursor_end(&c)) {
		s2_cursor_stand(&c, job->s2, at, 0);
		if (!batch) {
			check(c.entry != broken || s2_entry_set(&c, c.format->empty, NULL));
			continue;
		}
		while (is_ours(job, &c) && !s2_entry_set(&c, broken, NULL)) {
		}
		if (c.entry == broken) {
			s2_batch_note_range(batch, gpa(s2_cursor_first(&c)),
					    s2_span(c.format, c.level), c.level, 1);
		}
	}
}

/*
 * Somebody was faster: what this job mapped up to `end` goes, and its frames stay the caller's.
 * Empty tables may stay. The space's lock is held, so this must not wait for a place among the open
 * batches, whose owners may be waiting for the lock. It needs none: nothing here is in transit.
 */
static void undo(struct map_job *job, u64 end)
{
	u64 broken = s2_absent_entry(job->s2->format, S2_BROKEN, 0);
	struct s2_batch batch = {.s2 = job->s2};

	replace_leaves(job, end, broken, &batch);
	if (batch.entries) {
		s2_batch_flush(&batch);
		replace_leaves(job, end, broken, NULL);
	}
}

/* ---- The whole ----------------------------------------------------------------------------- */

static void split_block(hpa_t a, unsigned order)
{
	struct frame *frame = frame_of(a);

	if (frame && frame->type != FRAME_DEVICE && frame->order > order && frame->refs == 1) {
		frame_split(frame_hpa(frame), order);
	}
}

/*
 * References are counted per block, and each leaf now holds one: so no block may be larger than its
 * leaf. Last of all, because a job that is undone leaves the caller's blocks as they were; but
 * under the lock, as whoever takes it next may unmap, and give back, what was mapped.
 */
static void split_blocks(const struct map_job *job)
{
	u64 leaves = 0;
	struct s2_cursor c;

	if (!job->frames && !s2_lies_in_ram(hpa_for(job, job->start), job->end - job->start)) {
		return;
	}
	for (u64 at = job->start; at < job->end; at = s2_cursor_end(&c)) {
		s2_cursor_stand(&c, job->s2, at, 0);
		if (is_the_same(job, &c)) {
			split_block(hpa_for(job, at), s2_level_order(c.format, c.level));
		}
		if (++leaves % STEP_LEAVES == 0) {
			lock_drop(&job->s2->lock);
			lock_take(&job->s2->lock);
		}
	}
}

static enum status make_map(struct map_job *job)
{
	enum status status = OK;
	struct s2_cursor c;
	u64 runs = 0;

	for (u64 at = job->start; at < job->end;) {
		status = make_run(job, &c, &at);
		if (status == OK && ++runs % STEP_RUNS == 0) {
			status = let_others(job);
		}
		if (status != OK) {
			if (job->if_mapped == S2_ERROR) {
				undo(job, at);
			}
			return status;
		}
	}
	return OK;
}

/* Under the lock. */
static enum status map_locked(struct map_job *job)
{
	u64 tables;
	enum status status =
		s2_is_on_loan(job->s2, job->start, job->end) ? DENIED : plan_map(job, &tables);

	if (status == OK && !s2_reserve_fill(job->s2, &job->reserve, tables)) {
		status = NOMEM;
	}
	if (status == OK) {
		status = make_map(job);
	}
	if (status == OK) {
		split_blocks(job);
	}
	return status;
}

static enum status map(struct map_job *job)
{
	enum status status;

	job->upgraded.s2 = job->s2;
	lock_take(&job->s2->lock);
	status = map_locked(job);
	lock_drop(&job->s2->lock);
	if (job->upgraded.entries && arch_s2_broadcasts()) {
		s2_batch_flush(&job->upgraded);
	}
	s2_reserve_drop(job->s2, &job->reserve);
	return status;
}

static __attribute__((noinline)) void mark_way_to(struct s2 *s2, gpa_t at)
{
	u64 outer = s2_walk_begin(s2);
	struct s2_cursor c;

	s2_cursor_start(&c, s2, at);
	s2_cursor_descend(&c, 0);
	s2_mark_way(&c);
	s2_walk_end(s2, outer);
}

/*
 * One page, outside the frame table, whose table is there and whose place is free: neither plan nor
 * reserve nor frames to look after. False: it is not so simple.
 */
static inline bool map_page(struct s2 *s2, gpa_t at, hpa_t a, struct s2_attr attr)
{
	const struct s2_format *f = s2->format;
	u64 bits, entry, *slot;
	bool mapped = false;
	unsigned level;

	if (((at.v & s2->inside[0]) | (a.v & ~f->address)) != 0 ||
	    a.v - frame_table.ram_start < frame_table.ram_bytes) {
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
		mark_way_to(s2, at);
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

	if (!s2_range_is_valid(s2, at, size) || !s2_addresses_fit(s2->format, a, size) ||
	    s2_leaf_bits(s2, attr, 0) == S2_CANNOT) {
		return INVALID;
	}
	return s2_memory_is_mappable(a, size) ? map(&job) : DENIED;
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

	if (size / page != count || !s2_range_is_valid(s2, at, size) ||
	    s2_leaf_bits(s2, attr, 0) == S2_CANNOT) {
		return INVALID;
	}
	for (u64 i = 0; i < count; i++) {
		if (!s2_addresses_fit(s2->format, frames[i], page)) {
			return INVALID;
		}
		if (!s2_memory_is_mappable(frames[i], page)) {
			return DENIED;
		}
	}
	return map(&job);
}
