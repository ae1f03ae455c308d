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
	*batch = (struct s2_batch){.s2 = s2};
	batch->generation = atomic_add(&s2->generation, 1);
	for (unsigned i = 0;; i = (i + 1) % S2_OPEN_MAX) {
		if (load_relaxed(&s2->open[i]) == 0 &&
		    cas_u64(&s2->open[i], 0, batch->generation)) {
			batch->open = &s2->open[i];
			return;
		}
		cpu_relax();
	}
}

void s2_batch_note_range(struct s2_batch *batch, gpa_t at, u64 size, unsigned level)
{
	u64 start = at.v, end = at.v + size;

	batch->entries++;
	if (batch->everything) {
		return;
	}
	if (batch->range_count > 0) {
		typeof(batch->ranges[0]) *last = &batch->ranges[batch->range_count - 1];

		if (start >= last->start && end <= last->end && last->level == S2_LEVELS_MAX) {
			return;
		}
		if (start == last->end) {
			last->end = end;
			last->level = last->level == level ? level : S2_LEVELS_MAX;
			return;
		}
	}
	if (batch->range_count == S2_BATCH_RANGES) {
		batch->everything = true;
		return;
	}
	batch->ranges[batch->range_count++] =
		(typeof(batch->ranges[0])){.start = start, .end = end, .level = level};
}

static void free_shared(struct s2_batch *batch)
{
	while (batch->shared_count > 0) {
		frame_put(hpa(batch->shared[--batch->shared_count]));
	}
}

/*
 * A block that this leaf alone holds is linked through its entry. One with other holders is not
 * ours to link, as it may be on another's list, or on this one already: it goes into a box.
 */
static void note_block(struct s2_batch *batch, struct frame *frame)
{
	if (load_relaxed(&frame->refs) == 1) {
		frame->link = batch->frames;
		batch->frames = frame_hpa(frame).v;
		return;
	}
	if (batch->shared_count == S2_BATCH_SHARED) {
		s2_batch_flush(batch);
		s2_epoch_wait_walks(batch->s2);
		free_shared(batch);
	}
	batch->shared[batch->shared_count++] = frame_hpa(frame).v;
}

/* Every block of frames in the leaf. A frame outside the frame table is nobody's to give back. */
void s2_batch_note_leaf(struct s2_batch *batch, gpa_t at, unsigned level, u64 entry)
{
	const struct s2_format *f = batch->s2->format;
	u64 span = s2_span(f, level), ram = frame_table.base_pfn << PAGE_SHIFT;
	hpa_t first = s2_entry_hpa(f, entry);

	s2_batch_note_range(batch, at, span, level);
	for (u64 done = first.v < ram ? ram - first.v : 0; done < span;) {
		struct frame *frame = frame_of(hpa_add(first, done));

		if (!frame) {
			return; /* behind the RAM */
		}
		if (frame->type != FRAME_DEVICE) {
			note_block(batch, frame);
		}
		done = frame_hpa(frame).v + order_bytes(frame->order) - first.v;
	}
}

void s2_batch_note_table(struct s2_batch *batch, u64 *table)
{
	u64 next = batch->tables >> PAGE_SHIFT;

	store_release(&table[0], s2_absent_entry(batch->s2->format, S2_POISON, next));
	batch->tables = ptr_hpa(table).v;
}

static void free_frames(struct s2_batch *batch)
{
	while (batch->frames) {
		hpa_t head = hpa(batch->frames);

		batch->frames = frame_of(head)->link;
		frame_put(head);
	}
}

static void free_tables(struct s2_batch *batch)
{
	while (batch->tables) {
		u64 *table = (u64 *)hpa_ptr(hpa(batch->tables));

		batch->tables = s2_absent_payload(batch->s2->format, table[0]) << PAGE_SHIFT;
		s2_table_free(batch->s2, table);
	}
}

void s2_batch_flush(struct s2_batch *batch)
{
	atomic_add(&batch->s2->stats.batches, 1);
	atomic_add(&batch->s2->stats.flush_entries, batch->entries);
	s2_epoch_flush(batch);
	batch->entries = 0;
	batch->range_count = 0;
	batch->everything = false;
}

void s2_batch_close(struct s2_batch *batch)
{
	struct s2 *s2 = batch->s2;

	check(s2);
	if (batch->entries) {
		s2_batch_flush(batch);
		s2_epoch_wait_walks(s2);
	}
	store_release(batch->open, 0);
	free_frames(batch);
	free_shared(batch);
	free_tables(batch);
	batch->s2 = NULL;
}
