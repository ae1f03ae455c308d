/*
 * Copy-on-write: a space is cloned, a write gets its copy, and the last holder writes without one.
 *
 * The rule is that nobody writes a frame that has more than one reference. It is kept from two
 * sides:
 *
 *     fork, merge: takes a reference       fault of the last holder: gives write back
 *     -------------------------------      -------------------------------------------
 *     (the leaf's space is locked)         (no lock)
 *     reference += 1                       sees one reference
 *     fence                                leaf: withheld -> writable, by compare-and-swap
 *     leaf: writable -> withheld, if it    fence
 *       is writable                        sees two references -> withholds write again,
 *     invalidates, waits for walks           invalidates, and only then ends its walk
 *
 * Either the first sees that the leaf is writable, or the second sees the new reference; and the
 * first waits for the second. Nobody can take a reference but by a leaf that holds one, so a space
 * that sees its own leaves hold all there are is alone.
 *
 * A copy changes a leaf's frame, so it is break-before-make: the leaf makes place for a claim, the
 * old translation is invalidated, then the bytes are copied, then the new leaf is put. Not earlier:
 * CPUs of this space may write the old frame until then, when a fork is not yet closed. The other
 * holders cannot: this leaf's reference is kept until the copy is made, so they are not the last.
 * For holders of the lock a claimed leaf is still mapped, and they wait for it
 * (s2_cursor_descend_all, s2_load_settled); so a page cannot slip through unmap or protect. What a
 * claim waits for never waits for the lock. A larger leaf than the copy is replaced, in the same
 * round, by a table of its parts with the copy among them.
 */
#include "hyp/s2_share.h"

#include "hyp/log.h"
#include "hyp/s2_cursor.h"

#include <arch/cpu.h>
#include <arch/s2.h>

/* ---- Leaves -------------------------------------------------------------------------------- */

/* A guest that may not write anyhow needs no mark. That it wrote, as far as is known, stays known.
 */
u64 s2_withheld(const struct s2_format *f, u64 entry)
{
	u64 dirty = s2_entry_is_dirty(f, entry) ? f->dirty : 0;

	if (!(entry & (f->write | f->log | f->cow))) {
		return entry;
	}
	return (entry & ~(f->write | f->log)) | f->cow | dirty;
}

/* The guest is about to write, so where writes are logged this one is. */
static u64 writable(const struct s2 *s2, u64 entry)
{
	const struct s2_format *f = s2->format;

	return (entry & ~f->cow) | f->write | (load_relaxed(&s2->marks) & f->log);
}

/* Leaves in the cursor's table that lie in this block. */
static u64 leaves_in_block(const struct s2_cursor *c, const struct frame *frame)
{
	const struct s2_format *f = c->format;
	u64 start = frame_hpa(frame).v, count = 0;

	for (u64 i = 0; i < s2_table_entries(f); i++) {
		u64 entry = load_relaxed(&c->table[c->level][i]);

		count += s2_entry_is_leaf(f, entry, c->level) &&
			 s2_entry_hpa(f, entry).v - start < order_bytes(frame->order);
	}
	return count;
}

/* Does this space hold the cursor's leaf's memory alone? A large block may have been shared when
 * its leaf was split: then it is the neighbours that hold it, and they are of this space. */
static bool is_last_holder(const struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	hpa_t first = s2_entry_hpa(f, c->entry);
	struct frame *frame = frame_of(first);
	u32 refs;

	if (!frame || frame->order <= s2_level_order(f, c->level)) {
		return !s2_memory_is_shared(first, s2_span(f, c->level));
	}
	refs = load_acquire(&frame->refs);
	return refs == leaves_in_block(c, frame);
}

/* ---- Fork ---------------------------------------------------------------------------------- */

struct fork {
	struct s2_job job; /* first: the engine hands it to run_fork() */
	struct s2 *child;
};

u64 s2_share_leaf(struct s2_cursor *c, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	hpa_t first = s2_entry_hpa(f, c->entry);
	u64 span = s2_span(f, c->level), shared;

	if (!s2_memory_get(first, span)) {
		return c->entry;
	}
	fence_full();
	s2_cursor_reload(c);
	do {
		shared = s2_withheld(f, c->entry);
		if (!s2_entry_is_leaf(f, c->entry, c->level) ||
		    s2_entry_hpa(f, c->entry).v != first.v) {
			s2_memory_put(first, span);
			return 0;
		}
	} while (shared != c->entry && !s2_entry_set(c, shared, batch));
	return shared;
}

/* Both spaces are being walked, so what is behind the entry stays. AGAIN: lost a race. */
static enum status fork_entry(struct s2_cursor *from, struct s2 *child, struct s2_batch *batch)
{
	const struct s2_format *f = from->format;
	enum s2_kind kind = s2_entry_kind(f, from->entry, from->level);
	u64 entry = from->entry;
	struct s2_cursor to;
	enum status status;

	if (kind != S2_LEAF && kind != S2_STORED && kind != S2_MMIO) {
		return s2_entry_is_claim(f, entry) ? AGAIN : OK;
	}
	s2_cursor_start(&to, child, from->gpa);
	status = s2_reach_free_entry(&to, from->level, 0);
	if (status != OK) {
		return status;
	}
	if (kind == S2_LEAF && !(entry = s2_share_leaf(from, batch))) {
		return AGAIN;
	}
	if (!s2_entry_set(&to, entry, NULL)) {
		if (kind == S2_LEAF) {
			s2_memory_put(s2_entry_hpa(f, entry), s2_span(f, from->level));
		}
		return EXISTS;
	}
	return OK;
}

static void run_fork(struct s2_cursor *c, u64 count, struct s2_job *job)
{
	struct s2 *child = ((struct fork *)job)->child;
	struct s2_cursor from = *c;

	while (count > 0 && job->status == OK) {
		enum status status = OK;

		if (load_relaxed(from.slot) != from.format->empty) {
			u64 outer = s2_walk_begin(from.s2), outer_child = s2_walk_begin(child);

			s2_cursor_reload(&from);
			status = fork_entry(&from, child, job->batch);
			s2_walk_end(child, outer_child);
			s2_walk_end(from.s2, outer);
		}
		if (status == AGAIN) {
			cpu_relax();
			continue;
		}
		job->status = status;
		from.gpa.v += s2_span(from.format, from.level);
		from.slot++;
		count--;
	}
}

void s2_share_begin(struct s2 *s2)
{
	lock_take(&s2->lock);
	store_relaxed(&s2->marks, s2->marks | s2->format->cow);
	store_relaxed(&s2->undivided, true); /* leaves over one block may come with the copy */
	lock_drop(&s2->lock);
}

enum status s2_fork(struct s2 *parent, struct s2 *child, gpa_t at, u64 size, struct s2_batch *batch)
{
	struct fork fork = {.job = {.s2 = parent,
				    .start = at.v,
				    .end = at.v + size,
				    .batch = batch,
				    .run = run_fork,
				    .level_max = S2_LEVELS_MAX},
			    .child = child};
	enum status status;

	if (!s2_range_is_valid(parent, at, size) || parent == child ||
	    parent->format != child->format || parent->ipa_bits != child->ipa_bits) {
		return INVALID;
	}
	check(batch->s2 == parent);
	for (u32 i = 0; i < cpu_count; i++) {
		check(load_relaxed(&child->cpu[i].in_guest) == 0);
	}
	s2_share_begin(parent);
	s2_share_begin(child);
	status = s2_range_run(&fork.job);
	/* Faults that were about to give back what was withheld before. */
	s2_epoch_wait_walks(parent);
	return status;
}

/* ---- Claims -------------------------------------------------------------------------------- */

bool s2_claim(struct s2_cursor *c, struct s2_batch *batch)
{
	if (!s2_entry_set(c, s2_claim_entry(batch), NULL)) {
		return false;
	}
	s2_batch_note_range(batch, gpa(s2_cursor_first(c)), s2_span(c->format, c->level), c->level,
			    1);
	return true;
}

void s2_claim_await(struct s2_batch *batch)
{
	s2_batch_flush(batch);
	s2_epoch_wait_walks(batch->s2);
}

/* The claim keeps its table in use and from being folded, but dirty logging may have put it on
 * hold, and who unmaps or frees a table of level 0 as a whole takes what is claimed with it. */
bool s2_claim_settle(struct s2_batch *batch, gpa_t at, unsigned level, u64 entry)
{
	struct s2 *s2 = batch->s2;
	u64 outer = s2_walk_begin(s2);
	struct s2_cursor c;
	bool settled;

	s2_cursor_start(&c, s2, at);
	s2_cursor_descend(&c, level);
	while (c.level > level && s2_entry_is_held(c.format, c.entry)) {
		if (!s2_dirty_push(&c)) {
			cpu_relax(); /* another CPU is at it */
		}
		s2_cursor_descend(&c, level);
	}
	settled = c.level == level && c.entry == s2_claim_entry(batch) &&
		  s2_entry_set(&c, entry, NULL);
	s2_walk_end(s2, outer);
	return settled;
}

/* ---- The write fault: without a copy -------------------------------------------------------- */

/* A fork took a reference while write was given back: see the head of this file. */
static void withhold_again(struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	struct s2_batch batch = {.s2 = c->s2};
	u64 first = s2_entry_hpa(f, c->entry).v;

	while (s2_entry_is_leaf(f, c->entry, c->level) && (c->entry & f->write) &&
	       s2_entry_hpa(f, c->entry).v == first) {
		if (s2_entry_set(c, s2_withheld(f, c->entry), &batch)) {
			s2_batch_flush(&batch);
		}
	}
}

/* MORE: a copy is needed. */
static enum status give_back(struct s2_cursor *c)
{
	struct s2 *s2 = c->s2;

	if (!is_last_holder(c)) {
		return MORE;
	}
	if (!s2_entry_set(c, writable(s2, c->entry), NULL)) {
		return AGAIN;
	}
	fence_full();
	if (unlikely(!is_last_holder(c))) {
		withhold_again(c);
		return AGAIN;
	}
	/* Logging has begun meanwhile, and has passed this leaf already perhaps. */
	if (unlikely(load_relaxed(&s2->marks) & c->format->log & ~c->entry)) {
		s2_slot_set_flag(s2, c->slot, c->format->log);
	}
	return EXISTS;
}

static enum status write_without_copy(struct s2 *s2, gpa_t at)
{
	const struct s2_format *f = s2->format;
	u64 outer = s2_walk_begin(s2);
	enum status status;
	struct s2_cursor c;

	s2_cursor_start(&c, s2, at);
	s2_cursor_descend(&c, 0);
	switch (s2_entry_kind(f, c.entry, c.level)) {
	case S2_LEAF:
		status = c.entry & f->write ? EXISTS : c.entry & f->cow ? give_back(&c) : DENIED;
		break;
	case S2_TRANSIT:
		status = s2_entry_is_free(s2, c.entry) ? NOENT : AGAIN;
		break;
	case S2_BROKEN:
	case S2_HELD:
	case S2_POISON:
		status = AGAIN;
		break;
	default:
		status = NOENT;
	}
	s2_walk_end(s2, outer);
	return status;
}

/* ---- The write fault: with a copy ----------------------------------------------------------- */

struct copy {
	struct s2_batch batch;
	gpa_t at;
	hpa_t fresh;
	unsigned level;	     /* of the copy */
	unsigned leaf_level; /* of the leaf, as large or larger */
	u64 leaf;
	u64 *table; /* for the parts of a larger leaf, else NULL */
};

static enum status claim_leaf(struct copy *copy)
{
	struct s2 *s2 = copy->batch.s2;
	u64 outer = s2_walk_begin(s2);
	enum status status = OK;
	struct s2_cursor c;

	s2_cursor_start(&c, s2, copy->at);
	s2_cursor_descend(&c, 0);
	copy->leaf = c.entry;
	copy->leaf_level = c.level;
	if (!s2_entry_is_leaf(c.format, c.entry, c.level) || !(c.entry & c.format->cow) ||
	    c.level < copy->level) {
		status = AGAIN;
	} else if (c.level > copy->level && !(copy->table = s2_table_alloc(s2))) {
		status = NOMEM;
	} else if (!s2_claim(&c, &copy->batch)) {
		status = AGAIN;
	}
	s2_walk_end(s2, outer);
	if (status == AGAIN && copy->table) {
		s2_table_free(s2, copy->table);
	}
	return status;
}

/* The leaf that is to take the place of `old`, which is of the copy's level. */
static u64 copy_bytes(const struct copy *copy, u64 old)
{
	const struct s2 *s2 = copy->batch.s2;
	const struct s2_format *f = s2->format;
	u64 size = s2_span(f, copy->level);

	arch_copy(hpa_ptr(copy->fresh), hpa_ptr(s2_entry_hpa(f, old)), size);
	arch_publish_memory(hpa_ptr(copy->fresh), size);
	return (writable(s2, old) & ~(f->address | f->address_high)) | f->accessed |
	       s2_address_bits(f, copy->fresh);
}

static enum status put_leaf(struct copy *copy)
{
	const struct s2_format *f = copy->batch.s2->format;
	u64 entry = copy_bytes(copy, copy->leaf);
	bool settled = s2_claim_settle(&copy->batch, copy->at, copy->leaf_level, entry);

	s2_batch_note_frames(&copy->batch, s2_entry_hpa(f, copy->leaf), s2_span(f, copy->level));
	return settled ? OK : AGAIN;
}

/* A table of the leaf's parts, with the copy among them if it is as large as one; else MORE. */
static enum status put_parts(struct copy *copy)
{
	struct s2 *s2 = copy->batch.s2;
	const struct s2_format *f = s2->format;
	unsigned level = copy->leaf_level - 1;
	u64 *part = copy->table + s2_index(f, copy->at.v, level, S2_LEVELS_MAX), old;

	s2_parts_fill(s2, copy->leaf, copy->leaf_level, copy->table);
	s2_parts_share(s2, copy->leaf, copy->leaf_level);
	old = *part;
	if (level == copy->level) {
		*part = copy_bytes(copy, old);
		arch_s2_publish_table(part, sizeof(*part));
	}
	check(s2_claim_settle(&copy->batch, copy->at, copy->leaf_level,
			      s2_link_entry(s2, copy->table)));
	s2_count_leaves(s2, level, (s64)s2_table_entries(f));
	atomic_add(&s2->stats.splits, 1);
	if (level > copy->level) {
		return MORE;
	}
	s2_batch_note_frames(&copy->batch, s2_entry_hpa(f, old), s2_span(f, level));
	return OK;
}

static enum status write_with_copy(struct s2 *s2, gpa_t at, hpa_t fresh, unsigned level)
{
	struct copy copy = {.at = at, .fresh = fresh, .level = level};
	enum status status;

	s2_batch_open(&copy.batch, s2);
	status = claim_leaf(&copy);
	if (status == OK) {
		s2_claim_await(&copy.batch);
		status = copy.table ? put_parts(&copy) : put_leaf(&copy);
	}
	s2_batch_close(&copy.batch);
	return status;
}

enum status s2_cow_fault(struct s2 *s2, gpa_t at, hpa_t fresh, unsigned level)
{
	const struct s2_format *f = s2->format;
	enum status status = at.v >> s2->ipa_bits ? NOENT : write_without_copy(s2, at);

	if (status != MORE) {
		return status;
	}
	if (hpa_is_none(fresh)) {
		return NOMEM;
	}
	if (level > s2->root_level || !s2_level_may_be_leaf(f, level) ||
	    !is_aligned(fresh.v, s2_span(f, level)) ||
	    !s2_addresses_fit(f, fresh, s2_span(f, level))) {
		return INVALID;
	}
	if (!s2_memory_is_mappable(fresh, s2_span(f, level))) {
		return DENIED;
	}
	while (status == MORE) {
		status = write_with_copy(s2, at, fresh, level);
	}
	return status;
}
