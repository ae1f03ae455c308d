/*
 * A batch: gather what dies, invalidate it at once, then give back frames and tables.
 *
 * The box for ranges is fixed and overflows honestly: one range too many turns the batch into
 * "everything". Frames are linked through the frame table and tables through their own first entry
 * (as the payload of a POISON, for walkers that still stand there), so nothing here allocates.
 * Frames with other holders have a box of their own; when it is full the batch does its work at
 * once.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

#include <arch/s2.h>

void s2_batch_open(struct s2_batch *batch, struct s2 *s2)
{
	*batch = (struct s2_batch){.s2 = s2, .budget = ~0ull};
	batch->generation = atomic_add(&s2->generation, 1);
	batch->transit = s2_absent_entry(s2->format, S2_TRANSIT, batch->generation);
	for (unsigned i = 0;; i = (i + 1) % S2_OPEN_MAX) {
		if (load_relaxed(&s2->open[i]) == 0 &&
		    cas_u64(&s2->open[i], 0, batch->generation)) {
			batch->open = &s2->open[i];
			return;
		}
		cpu_relax();
	}
}

/* ---- Ranges -------------------------------------------------------------------------------- */

static __attribute__((noinline)) void note_apart(struct s2_batch *batch, u64 start, u64 end,
						 unsigned level)
{
	struct s2_batch_range *last = batch->last;

	if (batch->everything ||
	    (last && start >= last->start && end <= last->end && last->level == S2_LEVELS_MAX)) {
		return;
	}
	if (last && start == last->end) {
		last->end = end;
		last->level = S2_LEVELS_MAX;
	} else if (batch->range_count == S2_BATCH_RANGES) {
		batch->everything = true;
		batch->last = NULL;
	} else {
		batch->last = &batch->ranges[batch->range_count++];
		*batch->last = (struct s2_batch_range){.start = start, .end = end, .level = level};
	}
}

/* Mostly it goes on where the last range ended. */
void s2_batch_note_range(struct s2_batch *batch, gpa_t at, u64 size, unsigned level, u64 entries)
{
	struct s2_batch_range *last = batch->last;

	batch->entries += entries;
	if (last && last->end == at.v && last->level == level) {
		last->end += size;
	} else {
		note_apart(batch, at.v, at.v + size, level);
	}
}

/* ---- Frames -------------------------------------------------------------------------------- */

/* A head's address, and in the bits below a frame's size how many more references to it go. */
static void free_shared(struct s2_batch *batch)
{
	while (batch->shared_count > 0) {
		u64 head = batch->shared[--batch->shared_count];

		for (u64 go = head % PAGE_SIZE + 1; go > 0; go--) {
			frame_put(hpa(align_down(head, PAGE_SIZE)));
		}
	}
}

/* The box is full. A run of entries notes its range when all of it is cleared, so what was noted so
 * far is not all that was cleared: everything is invalidated, and again at the close. */
static void empty_box(struct s2_batch *batch)
{
	batch->everything = true;
	s2_batch_flush(batch);
	s2_epoch_wait_walks(batch->s2);
	free_shared(batch);
	batch->everything = true;
}

/* One more reference to a block goes. The parts of a block that is shared come one by one. */
static void note_shared(struct s2_batch *batch, u64 head)
{
	u64 *end = &batch->shared[batch->shared_count];
	bool again = batch->shared_count > 0 && align_down(end[-1], PAGE_SIZE) == head &&
		     end[-1] % PAGE_SIZE < PAGE_SIZE - 1;

	if (again) {
		end[-1]++;
		return;
	}
	if (batch->shared_count == S2_BATCH_SHARED) {
		empty_box(batch);
	}
	batch->shared[batch->shared_count++] = head;
}

/*
 * A block that this leaf alone holds is linked through its entry. One with other holders is not
 * ours to link, as it may be on another's list, or on this one already: it goes into a box.
 */
static void note_block(struct s2_batch *batch, struct frame *frame)
{
	if (load_relaxed(&frame->refs) != 1) {
		note_shared(batch, frame_hpa(frame).v);
		return;
	}
	frame->link = batch->frames;
	batch->frames = frame_hpa(frame).v;
}

/* Every block in the leaf. A frame outside the frame table is nobody's to give back, and what a
 * view shows is its base's. */
void s2_batch_note_frames(struct s2_batch *batch, hpa_t first, u64 size)
{
	struct frame *frame;
	u64 done = 0;

	while (likely(!batch->s2->rules) && (frame = s2_next_block(first, size, &done))) {
		note_block(batch, frame);
	}
}

static void free_frames(struct s2_batch *batch)
{
	while (batch->frames) {
		hpa_t head = hpa(batch->frames);

		batch->frames = frame_of(head)->link;
		frame_put(head);
	}
}

/* ---- Tables -------------------------------------------------------------------------------- */

void s2_batch_note_table(struct s2_batch *batch, u64 *table)
{
	u64 next = batch->tables >> PAGE_SHIFT;

	atomic_sub(&batch->s2->stats.tables, 1);
	store_release(&table[0], s2_absent_entry(batch->s2->format, S2_POISON, next));
	batch->tables = ptr_hpa(table).v;
}

static void free_tables(struct s2_batch *batch)
{
	while (batch->tables) {
		u64 *table = hpa_ptr(hpa(batch->tables));

		batch->tables = s2_absent_payload(batch->s2->format, table[0]) << PAGE_SHIFT;
		frame_put(ptr_hpa(table));
	}
}

/* ---- What is broken until the close --------------------------------------------------------- */

/* The word of the table behind the slot links to the slot before it: see s2_cursor.h. */
void s2_batch_note_broken(struct s2_batch *batch, u64 *slot, const u64 *table)
{
	u64 next = (u64)(uintptr_t)batch->broken;

	atomic_or(s2_table_word(table), field_set(next / sizeof(*slot), ~S2_TABLE_LIVE));
	batch->broken = slot;
}

static u64 *take_broken(struct s2_batch *batch, const u64 *table)
{
	u64 *slot = batch->broken;
	u64 word = atomic_and(s2_table_word(table), S2_TABLE_LIVE);

	batch->broken = (u64 *)(uintptr_t)(field_get(word, ~S2_TABLE_LIVE) * sizeof(*slot));
	return slot;
}

bool s2_batch_forget_broken(struct s2_batch *batch, const u64 *slot, const u64 *table)
{
	if (batch->broken != slot) {
		return false;
	}
	take_broken(batch, table);
	return true;
}

/* All that is broken was invalidated, and no walk stands in what it leads to. */
static void mend_broken(struct s2_batch *batch)
{
	struct s2 *s2 = batch->s2;

	while (batch->broken) {
		u64 broken = load_acquire(batch->broken);
		u64 payload = s2_absent_payload(s2->format, broken);
		const u64 *table = s2_lead_table(payload);
		u64 *slot = take_broken(batch, table);

		if (s2_lead_is_fold(payload)) {
			lock_take(&s2->lock);
			s2_fold_finish(batch, slot, broken);
			lock_drop(&s2->lock);
		} else { /* the table of a leaf's parts becomes real */
			s2_slot_mend(s2, slot, broken, s2_link_entry(s2, table));
		}
	}
}

/* ---- The close ----------------------------------------------------------------------------- */

void s2_batch_flush(struct s2_batch *batch)
{
	struct s2 *s2 = batch->s2;

	atomic_add(&s2->stats.batches, 1);
	atomic_add(&s2->stats.flush_entries, batch->entries);
	/* Who comes to depend on the space sees what was changed, or we see that it does. */
	fence_full();
	if (unlikely(s2->rules || load_relaxed(&s2->dependent_count))) {
		s2_view_sweep(batch);
	}
	s2_epoch_flush(batch);
	batch->entries = 0;
	batch->range_count = 0;
	batch->last = NULL;
	batch->everything = false;
}

void s2_batch_close(struct s2_batch *batch)
{
	struct s2 *s2 = batch->s2;

	check(s2);
	if (batch->entries) {
		u64 since = arch_now();

		s2_batch_flush(batch);
		s2_epoch_wait_walks(s2);
		atomic_add(&s2->stats.epoch_ticks, arch_now() - since);
	}
	mend_broken(batch);
	store_release(batch->open, 0);
	free_frames(batch);
	free_shared(batch);
	free_tables(batch);
	batch->s2 = NULL;
}
