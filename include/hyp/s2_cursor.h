/*
 * The one walk through a table: a cursor that stands on an entry and has read it once.
 *
 * Three moves: down (into the table this entry points to), side (to the next address at this level,
 * climbing where a table ends), up. Operations are short loops over these; they can stop at
 * any entry and start again from an address. For the files of s2 only.
 *
 * Also here: what an entry says, in words, by the format's masks.
 */
#ifndef HYP_S2_CURSOR_H
#define HYP_S2_CURSOR_H

#include "hyp/s2.h"

struct s2_cursor {
	struct s2 *s2;
	const struct s2_format *format;
	gpa_t gpa; /* first address of the entry, once moved; the address asked for, at start */
	unsigned level;
	u64 *slot;
	u64 entry;		   /* *slot as it was read; every change is against this value */
	u64 *table[S2_LEVELS_MAX]; /* the way down: the table that holds the slot, by level */
};

/* ---- What an entry says -------------------------------------------------------------------- */

/* Bytes that one entry of `level` covers. */
static inline u64 s2_span(const struct s2_format *f, unsigned level)
{
	return BIT(f->page_shift + level * f->index_bits);
}

/* The order of a frame block as large as a leaf of `level`. */
static inline unsigned s2_level_order(const struct s2_format *f, unsigned level)
{
	return f->page_shift - PAGE_SHIFT + level * f->index_bits;
}

static inline bool s2_level_may_be_leaf(const struct s2_format *f, unsigned level)
{
	return (f->leaf_levels >> level) & 1;
}

static inline u64 s2_table_entries(const struct s2_format *f)
{
	return BIT(f->index_bits);
}

static inline bool s2_entry_present(const struct s2_format *f, u64 entry)
{
	return (entry & f->present) != 0;
}

static inline bool s2_entry_is_leaf(const struct s2_format *f, u64 entry, unsigned level)
{
	return s2_entry_present(f, entry) &&
	       (level == 0 || (entry & f->large_mask) == f->large_value);
}

static inline bool s2_entry_is_table(const struct s2_format *f, u64 entry, unsigned level)
{
	return s2_entry_present(f, entry) && level != 0 &&
	       (entry & f->large_mask) != f->large_value;
}

static inline hpa_t s2_entry_hpa(const struct s2_format *f, u64 entry)
{
	return hpa(entry & f->address);
}

static inline u64 *s2_entry_table(const struct s2_format *f, u64 entry)
{
	return (u64 *)hpa_ptr(s2_entry_hpa(f, entry));
}

static inline u64 s2_leaf_entry(const struct s2_format *f, hpa_t a, struct s2_attr attr,
				unsigned level)
{
	return a.v | f->encode(attr, level > 0) | (level > 0 ? f->large : f->page);
}

static inline u64 s2_table_entry(const struct s2_format *f, const void *table)
{
	return ptr_hpa(table).v | f->table;
}

/*
 * A typed entry that is not present:  63..56 format's | 55..8 payload | 7..4 kind | 3..0 zero.
 * No format's `present` bits are above bit 2.
 */
#define S2_ABSENT_PAYLOAD BITS(55, 8)
#define S2_ABSENT_KIND BITS(7, 4)

static inline u64 s2_absent_entry(const struct s2_format *f, enum s2_kind kind, u64 payload)
{
	u64 word = field_set(payload, S2_ABSENT_PAYLOAD) | field_set(kind, S2_ABSENT_KIND);

	return (word ^ f->absent_invert) | f->absent;
}

static inline u64 s2_absent_payload(const struct s2_format *f, u64 entry)
{
	return field_get(entry ^ f->absent_invert, S2_ABSENT_PAYLOAD);
}

static inline enum s2_kind s2_entry_kind(const struct s2_format *f, u64 entry, unsigned level)
{
	if (s2_entry_present(f, entry)) {
		return s2_entry_is_leaf(f, entry, level) ? S2_LEAF : S2_TABLE;
	}
	if (entry == f->empty) {
		return S2_EMPTY;
	}
	return (enum s2_kind)field_get(entry, S2_ABSENT_KIND);
}

/* Is the batch that cleared this TRANSIT entry still open? */
static inline bool s2_transit_is_open(const struct s2 *s2, u64 entry)
{
	u64 generation = s2_absent_payload(s2->format, entry);

	for (unsigned i = 0; i < S2_OPEN_MAX; i++) {
		if (load_acquire(&s2->open[i]) == generation) {
			return true;
		}
	}
	return false;
}

/* May something be put here: nothing known, or cleared and closed (I9)? */
static inline bool s2_entry_is_free(const struct s2 *s2, u64 entry)
{
	const struct s2_format *f = s2->format;

	if (entry == f->empty) {
		return true;
	}
	return s2_entry_kind(f, entry, 1) == S2_TRANSIT && !s2_transit_is_open(s2, entry);
}

/* ---- Moves --------------------------------------------------------------------------------- */

static inline unsigned s2_index(const struct s2_format *f, u64 address, unsigned level,
				unsigned root_level)
{
	u64 index = address >> (f->page_shift + level * f->index_bits);

	/* Root tables lie side by side, so there the index is not cut. */
	return level == root_level ? index : index & (s2_table_entries(f) - 1);
}

static inline void s2_cursor_place(struct s2_cursor *c, unsigned level)
{
	c->level = level;
	c->slot = c->table[level] + s2_index(c->format, c->gpa.v, level, c->s2->root_level);
	c->entry = load_acquire(c->slot);
}

static inline void s2_cursor_start(struct s2_cursor *c, struct s2 *s2, gpa_t at)
{
	c->s2 = s2;
	c->format = s2->format;
	c->gpa = at;
	c->table[s2->root_level] = s2->root;
	s2_cursor_place(c, s2->root_level);
}

/* Reads the slot again: another CPU may have changed it. */
static inline void s2_cursor_reload(struct s2_cursor *c)
{
	c->entry = load_acquire(c->slot);
}

/* The entry points to a table. */
static inline void s2_cursor_down(struct s2_cursor *c)
{
	c->table[c->level - 1] = s2_entry_table(c->format, c->entry);
	s2_cursor_place(c, c->level - 1);
}

static inline void s2_cursor_up(struct s2_cursor *c)
{
	s2_cursor_place(c, c->level + 1);
}

/*
 * To the first address behind this entry. Climbs out of a table that ends there, but not out of the
 * root: past the end of the space gpa is 2^ipa_bits and the slot must not be touched.
 */
static inline void s2_cursor_side(struct s2_cursor *c)
{
	const struct s2_format *f = c->format;
	unsigned root = c->s2->root_level;
	unsigned level = c->level;

	c->gpa.v = align_down(c->gpa.v, s2_span(f, level)) + s2_span(f, level);
	if (c->gpa.v >> c->s2->ipa_bits) {
		return;
	}
	while (level < root && s2_index(f, c->gpa.v, level, root) == 0) {
		level++;
	}
	s2_cursor_place(c, level);
}

/*
 * Goes down as far as tables lead, not below `level`. The same steps as s2_cursor_down(), with the
 * format's masks in registers: every fault walks here.
 */
static inline void s2_cursor_descend(struct s2_cursor *c, unsigned level)
{
	const struct s2_format *f = c->format;
	const u64 present = f->present, address = f->address, at = c->gpa.v;
	const u64 large_mask = f->large_mask, large_value = f->large_value;
	const unsigned index_bits = f->index_bits;
	const u64 index_mask = BIT(index_bits) - 1;
	unsigned l = c->level, shift = f->page_shift + l * index_bits;
	u64 *slot = c->slot, entry = c->entry;

	while (l > level && (entry & present) && (entry & large_mask) != large_value) {
		u64 *table = (u64 *)hpa_ptr(hpa(entry & address));

		c->table[--l] = table;
		shift -= index_bits;
		slot = table + ((at >> shift) & index_mask);
		entry = load_acquire(slot);
	}
	c->level = l;
	c->slot = slot;
	c->entry = entry;
}

/* ---- Shared by the files of s2 ------------------------------------------------------------- */

/*
 * s2_entry.c: the one write to a live table (I2). Puts `entry` where the cursor stands if it still
 * holds what the cursor read; keeps the counts; notes in `batch` what dies. False: somebody was
 * faster; the cursor has read the slot again. `batch` may be NULL when nothing dies.
 */
bool s2_entry_set(struct s2_cursor *c, u64 entry, struct s2_batch *batch);

/*
 * Unlinks the table of level 0 that the cursor's entry points to; its leaves die. False: lost a
 * race, look again.
 */
bool s2_table_retire(struct s2_cursor *c, struct s2_batch *batch);

/* The same for a table of any level, but only when it has nothing in it. */
bool s2_table_retire_if_empty(struct s2_cursor *c, struct s2_batch *batch);

/* Counts 2^index_bits new leaves of `level`, in a table that is about to be linked. */
void s2_entry_count_filled(struct s2 *s2, u64 *table, unsigned level);

/* s2_table.c: an unlinked table page full of empty entries, or NULL; and back. */
u64 *s2_table_alloc(struct s2 *s2);
void s2_table_free(struct s2 *s2, u64 *table);

/* Tables in reserve, so that what can fail is over before anything changes (I3). */
struct s2_reserve {
	u64 *first; /* linked by their first words */
};
bool s2_reserve_fill(struct s2 *s2, struct s2_reserve *reserve, u64 count);
u64 *s2_reserve_take(struct s2 *s2, struct s2_reserve *reserve);
void s2_reserve_give(struct s2_reserve *reserve, u64 *table);
void s2_reserve_drop(struct s2 *s2, struct s2_reserve *reserve);

/*
 * s2_batch.c. A leaf of `level` at `at` is gone, its frames go back at the close, or before it when
 * the box for shared ones is full: then this invalidates and waits for walks. A range has to be
 * invalidated, made of leaves of `level` (S2_LEVELS_MAX: of any, and tables above). A table is
 * unlinked.
 */
void s2_batch_note_leaf(struct s2_batch *batch, gpa_t at, unsigned level, u64 entry);
void s2_batch_note_range(struct s2_batch *batch, gpa_t at, u64 size, unsigned level);
void s2_batch_note_table(struct s2_batch *batch, u64 *table);

/* Invalidates what was noted so far. Walks are not waited for, and nothing is given back. */
void s2_batch_flush(struct s2_batch *batch);

/* s2.c. I4: all of it is memory that a guest may have. */
bool s2_memory_is_mappable(hpa_t first, u64 size);

/*
 * s2_epoch.c. A software walk that takes no lock stands between these two: what it finds (tables,
 * and frames behind leaves) is not freed in between. May be nested; pass what begin returned to
 * end.
 */
u64 s2_walk_begin(struct s2 *s2);
void s2_walk_end(struct s2 *s2, u64 outer);

/* Makes every CPU forget what the batch noted, and waits until that is so. */
void s2_epoch_flush(struct s2_batch *batch);

/* Waits until every walk that began before this call has ended. */
void s2_epoch_wait_walks(struct s2 *s2);

#endif
