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

/* Where writes are logged, a leaf that is about to be written has this. Not any more while logging
 * ends: that has passed the leaf already perhaps. */
static u64 log_mark(const struct s2 *s2)
{
	bool is_ending = load_acquire(&s2->logging) == S2_LOG_ENDING;

	return is_ending ? 0 : load_relaxed(&s2->marks) & s2->format->log;
}

static u64 writable(const struct s2 *s2, u64 entry)
{
	return (entry & ~s2->format->cow) | s2->format->write | log_mark(s2);
}

/* The leaf under the cursor loses write as long as it is over this memory: false, it is not. */
static bool withhold(struct s2_cursor *c, hpa_t first, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;

	while (s2_entry_is_leaf(f, c->entry, c->level) && s2_entry_hpa(f, c->entry).v == first.v) {
		u64 entry = s2_withheld(f, c->entry);

		if (entry == c->entry || s2_entry_set(c, entry, batch)) {
			return true;
		}
	}
	return false;
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

	/* Whoever holds the block alone may retype it beside us, which leaves the order as it is.
	 */
	if (!frame || load_relaxed(&frame->order) <= s2_level_order(f, c->level)) {
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

bool s2_share_leaf(struct s2_cursor *c, struct s2_batch *batch)
{
	hpa_t first = s2_entry_hpa(c->format, c->entry);
	u64 span = s2_span(c->format, c->level);

	if (!s2_memory_get(first, span)) {
		return true;
	}
	fence_full();
	s2_cursor_reload(c);
	if (withhold(c, first, batch)) {
		return true;
	}
	s2_memory_put(first, span);
	return false;
}

/* Both spaces are being walked, so what is behind the entry stays. AGAIN: lost a race. */
static enum status fork_entry(struct s2_cursor *from, struct s2 *child, struct s2_batch *batch)
{
	const struct s2_format *f = from->format;
	bool is_leaf = s2_entry_is_leaf(f, from->entry, from->level);
	struct s2_cursor to;
	enum status status;

	if (!is_leaf && !s2_entry_is_typed(f, from->entry)) {
		return s2_entry_is_claim(f, from->entry) ? AGAIN : OK;
	}
	s2_cursor_start(&to, child, from->gpa);
	status = s2_reach_free_entry(&to, from->level, 0);
	if (status == OK && is_leaf && !s2_share_leaf(from, batch)) {
		return AGAIN;
	}
	if (status == OK && !s2_entry_set(&to, from->entry, NULL)) {
		if (is_leaf) {
			s2_memory_put(s2_entry_hpa(f, from->entry), s2_span(f, from->level));
		}
		return EXISTS;
	}
	return status;
}

/* Each entry in walks of its own, so that no close waits for long, nor this for a claim in one. */
static void run_fork(struct s2_cursor *c, u64 count, struct s2_job *job)
{
	struct s2 *child = ((struct fork *)job)->child;
	struct s2_cursor from = *c;

	for (; count > 0 && job->status == OK; count--) {
		while (load_relaxed(from.slot) != from.format->empty) {
			u64 outer = s2_walk_begin(from.s2), outer_child = s2_walk_begin(child);

			s2_cursor_reload(&from);
			job->status = fork_entry(&from, child, job->batch);
			s2_walk_end(child, outer_child);
			s2_walk_end(from.s2, outer);
			if (job->status != AGAIN) {
				break;
			}
			cpu_relax();
		}
		from.gpa.v += s2_span(from.format, from.level);
		from.slot++;
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
	struct fork fork = {.job = s2_job_of(parent, at, size, run_fork, batch), .child = child};
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

/*
 * A table with a claim in it is not folded, as its owner would not come to it through the fold. Who
 * folds judges a table and breaks the way to it; then either he sees that there are claims, or here
 * we see the fold, still in the walk that its close waits for.
 */
static bool claim_leaf(struct s2_cursor *c, const struct s2_batch *batch)
{
	struct s2_cursor above = *c;
	u64 leaf = c->entry;

	atomic_add(&c->s2->claims, 1);
	if (!s2_entry_is_hinted(c->format, leaf) && s2_entry_set(c, s2_claim_entry(batch), NULL)) {
		fence_full();
		if (c->level == c->s2->root_level) {
			return true;
		}
		s2_cursor_up(&above);
		if (!s2_entry_is_fold(c->format, above.entry, above.level)) {
			return true;
		}
		check(s2_entry_set(c, leaf, NULL));
	}
	atomic_sub(&c->s2->claims, 1);
	return false;
}

/* The claim keeps its table in use and from being folded, but dirty logging may have put it on
 * hold, or a hint comes or goes beside it; and who unmaps or frees a table of level 0 as a whole
 * takes what is claimed with it. */
static enum status settle(struct s2_change *change)
{
	struct s2 *s2 = change->batch.s2;
	u64 entry = change->replace(change), outer;
	struct s2_cursor c;
	bool settled;

	outer = s2_walk_to(&c, s2, change->at);
	do {
		s2_cursor_descend_held(&c, change->level);
	} while (s2_cursor_enter_broken(&c, false));
	settled = c.level == change->level && c.entry == s2_claim_entry(&change->batch) &&
		  s2_entry_set(&c, entry, NULL);
	s2_walk_end(s2, outer);
	check(settled || change->level == 0);
	if (!settled && entry == change->leaf) {
		s2_batch_note_frames(&change->batch, s2_entry_hpa(c.format, entry),
				     s2_span(c.format, 0));
	}
	return settled ? OK : AGAIN;
}

enum status s2_change_leaf(struct s2 *s2, struct s2_change *change)
{
	struct s2_batch *batch = &change->batch;
	struct s2_cursor c;
	enum status status;
	u64 outer;

	s2_batch_open(batch, s2);
	outer = s2_walk_to(&c, s2, change->at);
	change->leaf = c.entry;
	change->level = c.level;
	status = change->judge(change, &c);
	if (status == OK && !claim_leaf(&c, batch)) {
		status = AGAIN;
	}
	s2_walk_end(s2, outer);
	if (status == OK) {
		s2_batch_note_range(batch, gpa(s2_cursor_first(&c)), s2_span(c.format, c.level),
				    c.level, 1);
		s2_batch_flush(batch);
		s2_epoch_wait_walks(s2);
		status = settle(change);
		atomic_sub(&s2->claims, 1);
	}
	s2_batch_close(batch);
	return status;
}

/* ---- The write fault: without a copy -------------------------------------------------------- */

/* MORE: a copy is needed. */
static enum status give_back(struct s2_cursor *c, struct s2_batch *batch)
{
	struct s2 *s2 = c->s2;

	if (!is_last_holder(c)) {
		return MORE;
	}
	if (!s2_entry_set(c, writable(s2, c->entry), NULL)) {
		return AGAIN;
	}
	fence_full();
	/* A fork took a reference meanwhile: see the head of this file. */
	if (unlikely(!is_last_holder(c))) {
		withhold(c, s2_entry_hpa(c->format, c->entry), batch);
		if (batch->entries) {
			s2_batch_flush(batch);
		}
		return AGAIN;
	}
	/* Logging has begun meanwhile, and has passed this leaf already perhaps. */
	if (unlikely(log_mark(s2) & ~c->entry)) {
		s2_slot_set_flag(s2, c->slot, c->format->log);
	}
	return EXISTS;
}

/* ---- The write fault: with a copy ----------------------------------------------------------- */

struct copy {
	struct s2_change change; /* first: it is handed to judge_write() and copied() */
	hpa_t fresh;
	unsigned level;
	u64 *table; /* for the parts of a larger leaf, else NULL */
};

/* OK: the leaf is to be copied, and all is there for that. */
static enum status judge_copy(struct copy *copy, const struct s2_cursor *c)
{
	enum status status;
	u64 anywhere;

	if (hpa_is_none(copy->fresh)) {
		return NOMEM;
	}
	status = s2_leaf_for(c->s2, gpa(0), copy->level, copy->fresh, s2_ram(c->s2), &anywhere);
	if (status != OK || c->level == copy->level) {
		return status;
	}
	if (c->level < copy->level) {
		return AGAIN;
	}
	copy->table = s2_table_alloc(c->s2);
	return copy->table ? OK : NOMEM;
}

static enum status judge_write(struct s2_change *change, struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	enum status status = DENIED;

	if (!s2_entry_is_leaf(f, c->entry, c->level)) {
		status = s2_absence(c);
	} else if (c->entry & f->write) {
		status = EXISTS;
	} else if (c->entry & f->cow) {
		status = give_back(c, &change->batch);
	}
	return status == MORE ? judge_copy((struct copy *)change, c) : status;
}

/* The leaf that is to take the place of `old`, which is of the copy's level. */
static u64 copy_leaf(struct copy *copy, u64 old)
{
	struct s2_batch *batch = &copy->change.batch;
	const struct s2_format *f = batch->s2->format;
	hpa_t from = s2_entry_hpa(f, old);
	u64 size = s2_span(f, copy->level);

	arch_copy(hpa_ptr(copy->fresh), hpa_ptr(from), size);
	arch_publish_memory(hpa_ptr(copy->fresh), size);
	s2_batch_note_frames(batch, from, size);
	return s2_entry_over(f, writable(batch->s2, old), copy->fresh) | f->accessed;
}

/* A larger leaf becomes a table of its parts, with the copy among them if it is as large as one. */
static u64 copied(struct s2_change *change)
{
	struct copy *copy = (struct copy *)change;
	struct s2 *s2 = change->batch.s2;
	const struct s2_format *f = s2->format;
	unsigned level = change->level - 1;
	u64 *part;

	if (!copy->table) {
		return copy_leaf(copy, change->leaf);
	}
	s2_parts_fill(s2, change->leaf, change->level, copy->table);
	s2_parts_share(s2, change->leaf, change->level);
	if (level == copy->level) {
		part = copy->table + s2_index(f, change->at.v, level, S2_LEVELS_MAX);
		*part = copy_leaf(copy, *part);
		arch_s2_publish_table(part, sizeof(*part));
	}
	s2_count_leaves(s2, level, (s64)s2_table_entries(f));
	atomic_add(&s2->stats.splits, 1);
	return s2_link_entry(s2, copy->table);
}

enum status s2_cow_fault(struct s2 *s2, gpa_t at, hpa_t fresh, unsigned level)
{
	enum status status;
	struct copy copy;

	if (at.v >> s2->ipa_bits) {
		return NOENT;
	}
	do {
		copy = (struct copy){.fresh = fresh, .level = level};
		copy.change.at = at;
		copy.change.judge = judge_write;
		copy.change.replace = copied;
		status = s2_change_leaf(s2, &copy.change);
		if (status == AGAIN && copy.table) {
			s2_table_free(s2, copy.table);
		}
		/* A leaf that is larger than the copy by more than a level: by one in each round.
		 */
	} while (status == OK && copy.change.level > level + 1);
	return status;
}
