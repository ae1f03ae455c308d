/*
 * The one place that writes an entry which hardware or another CPU can see.
 *
 * Every write is a compare-and-swap against the value that was read (I2), so an accessed or dirty
 * bit that hardware set meanwhile is never lost: the swap fails, and one looks again. With the
 * write go, inseparably, the number of entries in use in the table, the numbers of leaves, and the
 * note in the batch of what has to be invalidated.
 *
 * Legal changes of a live entry: to a not-present one; or to the same translation with other
 * permissions or flags. A leaf is never replaced by a table, nor a table by a leaf, without a
 * not-present entry and an invalidation in between: that is break-before-make (DDI 0487, D8.14.1),
 * and one sequence for every format (I6). Where the CPU allows it (S2_SIZE_CHANGE) a leaf may
 * become a table of equal leaves at once.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

#include <arch/s2.h>

/* Walkers that do not snoop: each line that was written goes to memory once. */
static inline void written(const struct s2 *s2, const u64 *slot, u64 count)
{
	if (unlikely(s2->traits & S2_NONCOHERENT)) {
		arch_s2_clean(slot, count * sizeof(*slot));
	}
}

/* ---- Counts -------------------------------------------------------------------------------- */

/* The root is never empty to us, so nobody counts what is in it. */
static inline void count_used(const struct s2_cursor *c, s64 count)
{
	if (c->level != c->s2->root_level) {
		atomic_add(s2_table_word(s2_slot_table(c->format, c->slot)), (u64)count);
	}
}

static void count_change(const struct s2_cursor *c, u64 old, u64 new)
{
	const struct s2_format *f = c->format;
	int used = s2_entry_in_use(f, new) - s2_entry_in_use(f, old);
	int leaves = s2_entry_is_leaf(f, new, c->level) - s2_entry_is_leaf(f, old, c->level);

	if (used) {
		count_used(c, used);
	}
	if (leaves) {
		s2_count_leaves(c->s2, c->level, leaves);
	}
}

/* ---- One entry ----------------------------------------------------------------------------- */

/* The frames of `entry`, a leaf that went. Mostly the frame table has none of memory outside of
 * RAM. */
static inline void note_frames(struct s2_batch *batch, u64 entry, u64 span)
{
	hpa_t first = s2_entry_hpa(batch->s2->format, entry);

	if (s2_lies_in_ram(first, span)) {
		s2_batch_note_frames(batch, first, span);
	}
}

static bool change_is_legal(const struct s2_cursor *c, u64 old, u64 new)
{
	const struct s2_format *f = c->format;

	if (!s2_entry_present(f, old) || !s2_entry_present(f, new)) {
		return true;
	}
	if (s2_entry_is_leaf(f, old, c->level) != s2_entry_is_leaf(f, new, c->level)) {
		return s2_entry_is_leaf(f, old, c->level) && (c->s2->traits & S2_SIZE_CHANGE);
	}
	return s2_entry_hpa(f, old).v == s2_entry_hpa(f, new).v;
}

bool s2_entry_set(struct s2_cursor *c, u64 entry, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	u64 old = c->entry;

	check(change_is_legal(c, old, entry));
	if (!cas_u64(c->slot, old, entry)) {
		s2_cursor_reload(c);
		return false;
	}
	c->entry = entry;
	count_change(c, old, entry);
	written(c->s2, c->slot, 1);
	if (batch && s2_entry_is_leaf(f, old, c->level)) {
		u64 span = s2_span(f, c->level);

		s2_batch_note_range(batch, gpa(s2_cursor_first(c)), span, c->level, 1);
		if (!s2_entry_present(f, entry)) {
			note_frames(batch, old, span);
		}
	}
	return true;
}

/* Was it changed? */
static inline bool change_flag(struct s2 *s2, u64 *slot, u64 flag, bool set)
{
	u64 old, new;

	do {
		old = load_relaxed(slot);
		new = set ? old | flag : old & ~flag;
		if (!s2_entry_present(s2->format, old) || new == old) {
			return false;
		}
	} while (!cas_u64(slot, old, new));
	written(s2, slot, 1);
	return true;
}

bool s2_slot_clear_flag(struct s2 *s2, u64 *slot, u64 flag)
{
	return change_flag(s2, slot, flag, false);
}

void s2_slot_set_flag(struct s2 *s2, u64 *slot, u64 flag)
{
	change_flag(s2, slot, flag, true);
}

bool s2_slot_break(struct s2 *s2, u64 *slot, u64 entry, u64 broken)
{
	if (!cas_u64(slot, entry, broken)) {
		return false;
	}
	written(s2, slot, 1);
	return true;
}

void s2_slot_mend(struct s2 *s2, u64 *slot, u64 broken, u64 entry)
{
	check(s2_entry_kind(s2->format, broken, 1) == S2_BROKEN);
	/* A slot that leads somewhere is written by the owner of its batch alone. */
	check(s2_slot_break(s2, slot, broken, entry));
}

/* ---- Runs ---------------------------------------------------------------------------------- */

u64 s2_run_fill(struct s2_cursor *c, u64 count, u64 entry, u64 step)
{
	const u64 empty = c->format->empty;
	u64 *slot = c->slot, *end = slot + count;
	u64 filled;

	for (; slot < end; slot++, entry += step) {
		u64 old = load_relaxed(slot);

		if (old != empty && !s2_entry_is_free(c->s2, old)) {
			break;
		}
		if (!cas_u64(slot, old, entry)) {
			break;
		}
	}
	filled = (u64)(slot - c->slot);
	count_used(c, (s64)filled);
	s2_count_leaves(c->s2, c->level, (s64)filled);
	written(c->s2, c->slot, filled);
	return filled;
}

/* What remains of an entry that is cleared: leaves are in transit until the batch is closed, and
 * what hardware never saw is forgotten at once. */
static inline u64 cleared(const struct s2_format *f, u64 entry, u64 transit)
{
	if (likely(s2_entry_present(f, entry))) {
		return transit;
	}
	return s2_entry_is_typed(f, entry) ? f->empty : entry;
}

/* Not what a copy has divided meanwhile: the caller looks again. */
static void clear_large(struct s2_cursor *c, struct s2_batch *batch)
{
	u64 new;

	do {
		c->entry = s2_load_settled(c->format, c->slot);
		new = cleared(c->format, c->entry, batch->transit);
	} while (!s2_entry_is_table(c->format, c->entry, c->level) && new != c->entry &&
		 !s2_entry_set(c, new, batch));
}

void s2_run_clear(struct s2_cursor *c, u64 count, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	u64 span = s2_span(f, 0), leaves = 0, used = 0;

	if (c->level > 0) {
		clear_large(c, batch);
		return;
	}
	for (u64 *slot = c->slot, *end = slot + count; slot < end; slot++) {
		u64 old, new;

		do {
			old = s2_load_settled(f, slot);
			new = cleared(f, old, batch->transit);
		} while (new != old && !cas_u64(slot, old, new));
		used += new != old;
		if (s2_entry_present(f, old)) {
			leaves++;
			note_frames(batch, old, span);
		}
	}
	if (used) {
		count_used(c, -(s64)used);
		written(c->s2, c->slot, count);
	}
	if (leaves) {
		s2_count_leaves(c->s2, 0, -(s64)leaves);
		s2_batch_note_range(batch, c->gpa, count * span, 0, leaves);
	}
}

/*
 * The slow half of protect, for spaces where write may be withheld. A page whose writes are logged
 * has been written if it has `write`: that is not forgotten when it loses it, and `log` with it. A
 * frame with other holders has `cow` instead of `write`. Neither mark stays where the guest may not
 * write at all, so that a mark always means: the guest may, once we have looked.
 */
static u64 protect_marked(const struct s2_cursor *c, u64 old, u64 new)
{
	const struct s2_format *f = c->format;
	bool written_before = (c->s2->marks & f->log) && (old & f->write);

	new &= ~(f->cow | f->log);
	if (!(new & f->write)) {
		return written_before ? new | f->dirty : new;
	}
	if ((c->s2->marks & f->cow) &&
	    s2_memory_is_shared(s2_entry_hpa(f, old), s2_span(f, c->level))) {
		return (new & ~f->write) | f->cow;
	}
	if ((c->s2->marks & f->log) && c->s2->logging == S2_LOG_ON) {
		return (written_before ? new : new & ~f->write) | f->log;
	}
	return new;
}

/* The same for one entry that is not as it should be, or was not a moment ago. Was it changed? */
static __attribute__((noinline)) bool protect_entry(const struct s2_cursor *c, u64 *slot, u64 bits)
{
	const struct s2_format *f = c->format;
	u64 old, new;

	do {
		old = s2_load_settled(f, slot);
		new = (old & ~f->perm_mask) | bits;
		if (c->s2->marks) {
			new = protect_marked(c, old, new);
		}
		if (!s2_entry_is_leaf(f, old, c->level) || new == old) {
			return false;
		}
	} while (!cas_u64(slot, old, new));
	return true;
}

/* Where nothing is withheld one look does; flags that hardware sets meanwhile are rare. All else is
 * protect_entry()'s: so each entry of a space with marks. */
void s2_run_protect(struct s2_cursor *c, u64 count, u8 perm, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	const u64 bits = c->s2->perm_bits[perm], keep = ~f->perm_mask;
	const u64 simple = c->s2->marks ? 0 : f->present;
	u64 *slot = c->slot, *end = slot + count, same = 0;

	unroll_loop(8)
	for (; slot < end; slot++) {
		u64 old = load_relaxed(slot), new = (old & keep) | bits;

		if (unlikely(new == old || !(old & simple)) || unlikely(!cas_u64(slot, old, new))) {
			same += !protect_entry(c, slot, bits);
		}
	}
	if (same < count) {
		written(c->s2, c->slot, count);
		s2_batch_note_range(batch, c->gpa, count << f->shift[c->level], c->level,
				    count - same);
	}
}

/* The entry as dirty logging holds it. What is BROKEN is its batch's: it counts as written. */
static u64 held(const struct s2 *s2, u64 entry, unsigned level)
{
	const struct s2_format *f = s2->format;

	if (s2_entry_is_leaf(f, entry, level)) {
		return s2_entry_cleaned(s2, entry);
	}
	return s2_entry_present(f, entry)
		       ? s2_leading_entry(f, S2_HELD, s2_entry_table(f, entry), level, false)
		       : entry;
}

void s2_table_hold(struct s2 *s2, u64 *table, u64 entries, unsigned level)
{
	for (u64 *slot = table, *end = table + entries; slot < end; slot++) {
		u64 old, new;

		do {
			old = load_acquire(slot);
			new = held(s2, old, level);
		} while (new != old && !cas_u64(slot, old, new));
	}
	written(s2, table, entries);
}

/* ---- One page, which is what most calls are about -------------------------------------------- */

/* Plain tables are of 4 KiB, so any of a table's slots finds its word. */

bool s2_page_fill(struct s2 *s2, u64 *slot, u64 entry)
{
	if (!cas_u64(slot, s2->format->empty, entry)) {
		return false;
	}
	atomic_add(s2_table_word(slot), 1);
	atomic_add(&s2->stats.leaf_4k, 1);
	written(s2, slot, 1);
	return true;
}

u64 s2_page_clear(struct s2 *s2, u64 *slot, u64 entry, gpa_t at, struct s2_batch *batch)
{
	u64 a = entry & s2->format->address, page = s2->inside[0] + 1, word;

	if (!cas_u64(slot, entry, batch->transit)) {
		return S2_NOT_CLEARED;
	}
	word = atomic_sub(s2_table_word(slot), 1);
	atomic_sub(&s2->stats.leaf_4k, 1);
	written(s2, slot, 1);
	if (a - frame_table.ram_start < frame_table.ram_bytes) {
		s2_batch_note_frames(batch, hpa(a), page);
	}
	s2_batch_note_range(batch, at, page, 0, 1);
	return word & S2_TABLE_LIVE;
}

/* ---- Tables that go ------------------------------------------------------------------------ */

/*
 * Nobody comes to `table` from the root any more, but a walker that was on its way may stand in it:
 * each entry is swapped for POISON, which fails that walker's compare-and-swap and sends it back
 * (I10). Typed entries are forgotten with the table.
 */
static void poison_leaves(struct s2 *s2, u64 *table, struct s2_batch *batch)
{
	const struct s2_format *f = s2->format;
	const u64 poison = s2_absent_entry(f, S2_POISON, 0), span = s2_span(f, 0);
	const u64 present = f->present, address = f->address, ram = frame_table.ram_start;
	/* Where addresses have high bits of their own every page may be RAM. */
	const u64 ram_bytes = f->address_high ? ~0ull : frame_table.ram_bytes;
	u64 *slot = table, *end = table + s2_table_entries(f), absent = 0, leaves;

	unroll_loop(8)
	for (; slot < end; slot++) {
		u64 old = atomic_swap(slot, poison);

		if (!(old & present)) {
			absent++;
		} else if ((old & address) - ram < ram_bytes) {
			s2_batch_note_frames(batch, s2_entry_hpa(f, old), span);
		}
	}
	leaves = s2_table_entries(f) - absent;
	s2_count_leaves(s2, 0, -(s64)leaves);
	batch->entries += leaves;
}

/* The cursor's entry led to `table`, which leaves nothing behind. */
static void note_unlinked(const struct s2_cursor *c, u64 *table, struct s2_batch *batch)
{
	s2_batch_note_range(batch, gpa(s2_cursor_first(c)), s2_span(c->format, c->level),
			    S2_LEVELS_MAX, 1);
	s2_batch_note_table(batch, table);
}

bool s2_table_retire(struct s2_cursor *c, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	u64 *table = s2_entry_below(f, c->entry, c->level);

	check(c->level == 1 && table);
	if (s2_table_is_linked(c->s2, table) || !s2_entry_set(c, batch->transit, NULL)) {
		return false;
	}
	poison_leaves(c->s2, table, batch);
	note_unlinked(c, table, batch);
	return true;
}

/* What this batch has in transit may go with its table; another's may not (I9). */
static bool may_be_dropped(const struct s2 *s2, u64 entry, u64 transit)
{
	return entry == transit || s2_entry_is_free(s2, entry);
}

/* Poisons all entries of an empty table, or none: true when all. */
static bool poison_empty(struct s2 *s2, u64 *table, u64 transit)
{
	u64 poison = s2_absent_entry(s2->format, S2_POISON, 0);
	u64 i, entries = s2_table_entries(s2->format);

	for (i = 0; i < entries; i++) {
		if (!may_be_dropped(s2, load_relaxed(&table[i]), transit)) {
			return false;
		}
	}
	for (i = 0; i < entries; i++) {
		u64 entry = load_relaxed(&table[i]);

		if (may_be_dropped(s2, entry, transit) && cas_u64(&table[i], entry, poison)) {
			continue;
		}
		/* A fault was faster. What was dropped may be still open in this very batch, so it
		 * comes back as that. */
		while (i-- > 0) {
			store_release(&table[i], transit);
		}
		return false;
	}
	return true;
}

/* The parts of a leaf that was split for this batch are all gone before they became real. Walkers
 * without the lock never come into such a table. */
static bool retire_parts(struct s2_cursor *c, u64 *table, struct s2_batch *batch)
{
	if (!s2_batch_forget_broken(batch, c->slot, table)) {
		return false; /* it becomes an empty table at the close */
	}
	check(s2_entry_set(c, batch->transit, NULL));
	note_unlinked(c, table, batch);
	return true;
}

bool s2_table_retire_empty(struct s2_cursor *c, struct s2_batch *batch)
{
	const struct s2_format *f = c->format;
	u64 *table = s2_entry_below(f, c->entry, c->level);
	u64 linked = c->entry;

	if (s2_table_is_linked(c->s2, table)) {
		return false;
	}
	if (s2_entry_kind(f, linked, c->level) == S2_BROKEN) {
		return retire_parts(c, table, batch);
	}
	/* New walkers wait at the parent while the entries are poisoned. */
	if (!s2_entry_set(c, s2_absent_entry(f, S2_BROKEN, 0), NULL)) {
		return false;
	}
	if (!poison_empty(c->s2, table, batch->transit)) {
		/* A walker that was already inside used the table: it stays. */
		check(s2_entry_set(c, linked, NULL));
		return false;
	}
	check(s2_entry_set(c, batch->transit, NULL));
	note_unlinked(c, table, batch);
	return true;
}
