/*
 * The one walk through a table: a cursor that stands on an entry and has read it once.
 *
 * Three moves: down (into the table this entry leads to), side (to the next address at this level,
 * climbing where a table ends), up. Operations are short loops over these; they can stop at any
 * entry and start again from an address. For the files of s2 only.
 *
 * Also here: what an entry says, in words, by the format's masks; and what the files of s2 share.
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

/* The order of a frame block as large as a leaf of `level`. */
static inline unsigned s2_level_order(const struct s2_format *f, unsigned level)
{
	return f->shift[level] - PAGE_SHIFT;
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

/* Every table entry that we write has all bits of f->table, so one comparison tells. */
static inline bool s2_entry_is_table(const struct s2_format *f, u64 entry, unsigned level)
{
	return level != 0 && (entry & (f->table | f->large_mask)) == f->table;
}

/* Was the leaf written, as far as its marks tell? With `log`, having got `write` says so. */
static inline bool s2_entry_is_dirty(const struct s2_format *f, u64 entry)
{
	return (entry & f->dirty) || ((entry & f->log) && (entry & f->write));
}

/* A leaf that its neighbours are grouped with: see s2_hint.c. */
static inline bool s2_entry_is_hinted(const struct s2_format *f, u64 entry)
{
	return (entry & f->contiguous) && s2_entry_present(f, entry);
}

/* Leaves of `level` in a group that can have the hint; 1: none can. */
static inline u64 s2_group_entries(const struct s2_format *f, unsigned level)
{
	return BIT(f->contiguous_log2[level]);
}

static inline u64 s2_group_span(const struct s2_format *f, unsigned level)
{
	return s2_group_entries(f, level) << f->shift[level];
}

static inline hpa_t s2_entry_hpa(const struct s2_format *f, u64 entry)
{
	return hpa((entry & f->address) | ((entry & f->address_high) << f->address_high_shift));
}

/* The bits of an entry that say where `a` is. */
static inline u64 s2_address_bits(const struct s2_format *f, hpa_t a)
{
	return (a.v & f->address) | ((a.v >> f->address_high_shift) & f->address_high);
}

/* The leaf `entry`, over other memory. */
static inline u64 s2_entry_over(const struct s2_format *f, u64 entry, hpa_t a)
{
	return (entry & ~(f->address | f->address_high)) | s2_address_bits(f, a);
}

/* Can entries hold the addresses of [a, a + size), page by page? */
static inline bool s2_addresses_fit(const struct s2_format *f, hpa_t a, u64 size)
{
	u64 held = f->address | f->address_high << f->address_high_shift;
	u64 last = a.v + size - BIT(f->page_shift);

	return ((a.v | last) & ~held) == 0 && last >= a.v;
}

static inline u64 *s2_entry_table(const struct s2_format *f, u64 entry)
{
	return (u64 *)hpa_ptr(s2_entry_hpa(f, entry));
}

static inline u64 s2_leaf_entry(const struct s2_format *f, hpa_t a, struct s2_attr attr,
				unsigned level)
{
	return s2_address_bits(f, a) | f->encode(attr, level > 0) |
	       (level > 0 ? f->large : f->page);
}

/* Can a leaf have these permissions? (s2_format_says() asks for a memory type, too.) */
static inline bool s2_says_perm(const struct s2 *s2, u8 perm)
{
	return perm <= S2_RWX && s2->perm_bits[perm] != S2_CANNOT;
}

/* All of a new leaf but its address; S2_CANNOT when the format cannot say it. */
static inline u64 s2_leaf_bits(const struct s2 *s2, struct s2_attr attr, unsigned level)
{
	u64 bits;

	if (unlikely(attr.perm > S2_RWX || attr.memory >= S2_MEMORY_TYPES)) {
		return S2_CANNOT;
	}
	bits = load_relaxed(&s2->perm_bits[attr.perm]) |
	       load_relaxed(&s2->memory_bits[level > 0][attr.memory]);
	if (unlikely(attr.notify && bits != S2_CANNOT)) {
		return s2_leaf_entry(s2->format, hpa(0), attr, level) | load_relaxed(&s2->new_leaf);
	}
	return bits;
}

/* Hardware's flag, or our mark, that something below a table was used; 0: there is none. */
u64 s2_table_flag(const struct s2 *s2);

static inline u64 s2_table_entry(const struct s2_format *f, const void *table)
{
	return s2_address_bits(f, ptr_hpa(table)) | f->table;
}

/*
 * Where hardware does not say of tables that something below was used, software does, when it makes
 * a leaf that counts as used, or finds one used: in all entries on the cursor's way down.
 */
void s2_mark_way(const struct s2_cursor *c);
/* The same for a leaf that was just made, and for who has no cursor. */
void s2_mark_way_to(struct s2 *s2, gpa_t at);

/* The link to a table that holds leaves from the start: a fresh leaf counts as used, so the table
 * does too. */
static inline u64 s2_link_entry(const struct s2 *s2, const void *table)
{
	return s2_table_entry(s2->format, table) | s2_table_flag(s2);
}

/*
 * A typed entry that is not present:  63 format's | 62..15 payload | 14..11 kind | 10..0 zero.
 * No format's `present` bits are above bit 10.
 */
#define S2_ABSENT_PAYLOAD BITS(62, 15)
#define S2_ABSENT_KIND BITS(14, 11)

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

/* Do leaves' dirty flags say what was written (EPT, NPT)? Else, while writes are logged, it is that
 * they are writable, or were: `dirty` is software's mark then. */
static inline bool s2_dirty_is_flag(const struct s2 *s2)
{
	return (s2->traits & S2_HARDWARE_DIRTY) && !s2->format->log_is_hardware;
}

/* The leaf as it is when its writes are logged and there was none yet. */
static inline u64 s2_entry_cleaned(const struct s2 *s2, u64 entry)
{
	const struct s2_format *f = s2->format;

	if (!s2_dirty_is_flag(s2) && (entry & f->write)) {
		entry = (entry & ~f->write) | f->log;
	}
	return entry & ~f->dirty;
}

/*
 * BROKEN and HELD entries lead to a table that hardware does not reach through them. Payload:
 *
 *     47..4 the table's address, in 4 KiB | 3..1 level of the entry | 0 a fold: back to a leaf
 *
 * Without a level it leads nowhere: the entry is BROKEN for a moment, look again, or the HELD table
 * is just looked into. If a BROKEN one has a payload then, it is a claim: a CPU without the lock
 * has taken a leaf out of the table, and will put another leaf or a table of parts there (see
 * s2_fork.c). For holders of the lock that leaf is still mapped, so they wait; but never within a
 * walk, as the claim's owner waits for those.
 */
static inline u64 s2_leading_entry(const struct s2_format *f, enum s2_kind kind, const u64 *table,
				   unsigned level, bool fold)
{
	return s2_absent_entry(f, kind, ptr_hpa(table).v >> PAGE_SHIFT << 4 | level << 1 | fold);
}

static inline u64 *s2_lead_table(u64 payload)
{
	return (u64 *)hpa_ptr(hpa(payload >> 4 << PAGE_SHIFT));
}

static inline bool s2_lead_is_fold(u64 payload)
{
	return payload & 1;
}

static inline unsigned s2_lead_level(u64 payload)
{
	return (unsigned)(payload >> 1 & 7);
}

/* A claim's payload is its batch's generation: no other claim ever looks the same. */
static inline u64 s2_claim_entry(const struct s2_batch *batch)
{
	return s2_absent_entry(batch->s2->format, S2_BROKEN, batch->generation << 4);
}

static inline bool s2_entry_is_claim(const struct s2_format *f, u64 entry)
{
	u64 payload = s2_absent_payload(f, entry);

	return !s2_entry_present(f, entry) && field_get(entry, S2_ABSENT_KIND) == S2_BROKEN &&
	       payload != 0 && s2_lead_level(payload) == 0;
}

/* The table that software finds below this entry, or NULL. */
static inline u64 *s2_entry_below(const struct s2_format *f, u64 entry, unsigned level)
{
	u64 payload = s2_absent_payload(f, entry);

	switch (s2_entry_kind(f, entry, level)) {
	case S2_TABLE:
		return s2_entry_table(f, entry);
	case S2_BROKEN:
	case S2_HELD:
		return s2_lead_level(payload) ? s2_lead_table(payload) : NULL;
	default:
		return NULL;
	}
}

/* Not present, and leads to a table that dirty logging holds? */
static inline bool s2_entry_is_held(const struct s2_format *f, u64 entry)
{
	return !s2_entry_present(f, entry) && entry != f->empty &&
	       field_get(entry, S2_ABSENT_KIND) == S2_HELD;
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

/* Is something on its way there, or on its way from there? Then one looks again. */
static inline bool s2_entry_is_pending(const struct s2 *s2, u64 entry)
{
	switch (s2_entry_kind(s2->format, entry, 1)) {
	case S2_BROKEN:
	case S2_HELD:
	case S2_POISON:
		return true;
	case S2_TRANSIT:
		return s2_transit_is_open(s2, entry);
	default:
		return false;
	}
}

/* Not mapped, and yet it says something of its owner's. */
static inline bool s2_entry_is_typed(const struct s2_format *f, u64 entry)
{
	enum s2_kind kind = s2_entry_kind(f, entry, 0);

	return !s2_entry_present(f, entry) && (kind == S2_STORED || kind == S2_MMIO);
}

/* Does it keep its table from being empty? What is free or in transit does not. */
static inline bool s2_entry_in_use(const struct s2_format *f, u64 entry)
{
	if (s2_entry_present(f, entry)) {
		return true;
	}
	switch (s2_entry_kind(f, entry, 1)) {
	case S2_BROKEN:
	case S2_HELD:
	case S2_STORED:
	case S2_MMIO:
		return true;
	default:
		return false;
	}
}

/* ---- Moves --------------------------------------------------------------------------------- */

static inline u64 s2_index(const struct s2_format *f, u64 address, unsigned level,
			   unsigned root_level)
{
	u64 index = address >> f->shift[level];

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
	c->level = s2->root_level;
	c->table[c->level] = s2->root;
	c->slot = s2->root + (at.v >> s2->root_shift);
	c->entry = load_acquire(c->slot);
}

/* Reads the slot again: another CPU may have changed it. */
static inline void s2_cursor_reload(struct s2_cursor *c)
{
	c->entry = load_acquire(c->slot);
}

/* Into `below`, which the entry leads to. */
static inline void s2_cursor_enter(struct s2_cursor *c, u64 *below)
{
	c->table[c->level - 1] = below;
	s2_cursor_place(c, c->level - 1);
}

static inline void s2_cursor_up(struct s2_cursor *c)
{
	s2_cursor_place(c, c->level + 1);
}

/* First address of the entry, and the first behind it. */
static inline u64 s2_cursor_first(const struct s2_cursor *c)
{
	return align_down(c->gpa.v, s2_span(c->format, c->level));
}

static inline u64 s2_cursor_end(const struct s2_cursor *c)
{
	return s2_cursor_first(c) + s2_span(c->format, c->level);
}

/* First address behind the table that the entry stands in. */
static inline u64 s2_cursor_table_end(const struct s2_cursor *c)
{
	u64 span = s2_span(c->format, c->level + 1);

	return c->level == c->s2->root_level ? BIT(c->s2->ipa_bits)
					     : align_down(c->gpa.v, span) + span;
}

/*
 * The loop that every operation walks in: from *slot, of *level, for address `at`, down as far as
 * tables lead that hardware sees, not below `floor`. Where the way was goes to `table`, if there is
 * one. Returns the entry at *slot. Geometry comes as arguments, so that it may be constant.
 */
static inline __attribute__((always_inline)) u64
s2_descend_by(const struct s2 *s2, unsigned page_shift, unsigned index_bits, u64 high, u64 at,
	      unsigned floor, unsigned *level, u64 **slot, u64 **table)
{
	const u64 mask = s2->walk.mask, leads = s2->walk.table, address = s2->walk.address;
	unsigned l = *level;
	u64 *place = *slot, entry = load_acquire(place);

	while (l > floor && (entry & mask) == leads) {
		u64 a = high ? s2_entry_hpa(s2->format, entry).v : entry & address;
		u64 *below = (u64 *)hpa_ptr(hpa(a));
		unsigned shift = page_shift - index_bits + l * index_bits;

		if (table) {
			table[l - 1] = below;
		}
		place = below + ((at >> shift) & (BIT(index_bits) - 1));
		entry = load_acquire(place);
		l--;
	}
	*level = l;
	*slot = place;
	return entry;
}

static inline void s2_cursor_descend(struct s2_cursor *c, unsigned floor)
{
	const struct s2_format *f = c->format;

	if (likely(f->plain)) {
		c->entry = s2_descend_by(c->s2, 12, 9, 0, c->gpa.v, floor, &c->level, &c->slot,
					 c->table);
	} else {
		c->entry = s2_descend_by(c->s2, f->page_shift, f->index_bits, f->address_high,
					 c->gpa.v, floor, &c->level, &c->slot, c->table);
	}
}

/*
 * For short cuts: the entry that `at` ends at for hardware, and where, in a space of a plain
 * format with tables of its own alone. False: it is no such space, or `at` is outside of it.
 */
static inline __attribute__((always_inline)) bool
s2_walk_plain(const struct s2 *s2, gpa_t at, unsigned *level, u64 **slot, u64 *entry)
{
	u64 index = at.v >> s2->root_shift;

	*level = s2->root_level;
	*slot = s2->root + index;
	if (unlikely(index >= load_relaxed(&s2->walk.plain_root_entries))) {
		return false;
	}
	if (*level == 0) {
		__builtin_unreachable(); /* a root is above the pages */
	}
	*entry = s2_descend_by(s2, 12, 9, 0, at.v, 0, level, slot, NULL);
	return true;
}

/* For faults, in a walk: was nothing ever in the slot that `at` ends at, of *level? False: it is
 * not so simple. */
static inline __attribute__((always_inline)) bool s2_find_empty(const struct s2 *s2, gpa_t at,
								unsigned *level, u64 **slot)
{
	u64 entry;

	return s2_walk_plain(s2, at, level, slot, &entry) && entry == s2->format->empty;
}

/*
 * s2_dirty.c. The cursor stands on a HELD entry: the table becomes real, as dirty logging wants it,
 * unless another CPU is at it, which waits for nothing and is done soon. Look again, from the entry
 * on.
 */
void s2_dirty_push(struct s2_cursor *c);

/* Goes down also through HELD tables, which become real. Were there any? */
static inline bool s2_cursor_descend_held(struct s2_cursor *c, unsigned level)
{
	bool held = false;

	s2_cursor_descend(c, level);
	while (unlikely(s2_entry_is_held(c->format, c->entry))) {
		held = true;
		s2_dirty_push(c);
		s2_cursor_descend(c, level);
	}
	return held;
}

/*
 * Goes down also through entries that lead on although hardware does not follow them. For holders
 * of the space's lock: the tables behind BROKEN are theirs alone, and claims are waited for. HELD
 * tables become real before anything in them is changed.
 */
static inline void s2_cursor_descend_all(struct s2_cursor *c, unsigned level)
{
	s2_cursor_descend(c, level);
	while (unlikely(c->level > level)) {
		u64 *below = s2_entry_below(c->format, c->entry, c->level);

		if (s2_entry_is_held(c->format, c->entry)) {
			s2_dirty_push(c);
		} else if (below) {
			s2_cursor_enter(c, below);
		} else if (s2_entry_is_claim(c->format, c->entry)) {
			cpu_relax();
		} else {
			return;
		}
		s2_cursor_descend(c, level);
	}
}

/* Is it BROKEN, and leads to a table that is to become a leaf? */
static inline bool s2_entry_is_fold(const struct s2_format *f, u64 entry, unsigned level)
{
	return s2_entry_kind(f, entry, level) == S2_BROKEN &&
	       s2_lead_is_fold(s2_absent_payload(f, entry));
}

/* Into the table that a BROKEN entry leads to, which is not for hardware now. Not of a fold, unless
 * the caller holds the space's lock (`folds`): else that table may go. False: it leads nowhere. */
static inline bool s2_cursor_enter_broken(struct s2_cursor *c, bool folds)
{
	u64 *below = s2_entry_below(c->format, c->entry, c->level);

	if (!below || s2_entry_kind(c->format, c->entry, c->level) != S2_BROKEN ||
	    (!folds && s2_entry_is_fold(c->format, c->entry, c->level))) {
		return false;
	}
	s2_cursor_enter(c, below);
	return true;
}

/* Stands it at the entry for `at`, of `level` or above that where tables are missing. Likewise. */
static inline void s2_cursor_stand(struct s2_cursor *c, struct s2 *s2, u64 at, unsigned level)
{
	s2_cursor_start(c, s2, gpa(at));
	s2_cursor_descend_all(c, level);
}

/* What the slot holds when no claim is on it. For holders of the space's lock. */
static inline u64 s2_load_settled(const struct s2_format *f, const u64 *slot)
{
	u64 entry = load_relaxed(slot);

	while (unlikely(s2_entry_is_claim(f, entry))) {
		cpu_relax();
		entry = load_acquire(slot);
	}
	return entry;
}

/* ---- s2_entry.c: every write to a table that somebody can reach (I2) ------------------------- */

/*
 * Puts `entry` where the cursor stands if it still holds what the cursor read; keeps the counts;
 * notes in `batch` what dies (NULL: nothing does, or the caller notes it). False: somebody was
 * faster; the cursor has read the slot again.
 */
bool s2_entry_set(struct s2_cursor *c, u64 entry, struct s2_batch *batch);

/*
 * The slot holds `entry`, a leaf that is split or the link of a table that is folded: `broken`,
 * which leads to the same memory, takes its place. False: somebody was faster. Both are in use, so
 * only leaves are to be counted, by the caller.
 */
bool s2_slot_break(struct s2 *s2, u64 *slot, u64 entry, u64 broken);

/* The slot holds `broken`, a BROKEN entry of the caller's batch: `entry` takes its place. Counts
 * are the caller's. */
void s2_slot_mend(struct s2 *s2, u64 *slot, u64 broken, u64 entry);

/*
 * Runs: the same for up to `count` neighbours in one table, from the cursor on, all of one kind.
 *
 * fill: leaves `entry`, `entry` + `step`, ... into free entries; stops at the first that is not,
 * and returns how many it filled. clear: whatever leaf or typed entry is there goes, noted in
 * `batch`; leaves become TRANSIT. protect: each leaf's permissions become `perm`; what changed is
 * noted in `batch`.
 */
u64 s2_run_fill(struct s2_cursor *c, u64 count, u64 entry, u64 step);

/*
 * The one page at `at` of a plain format, whose slot in a table of level 0 was read as empty, or as
 * the leaf `entry`: fill and clear as above. False, or S2_NOT_CLEARED: somebody was faster. Clear
 * says how many entries of the table are in use still.
 */
#define S2_NOT_CLEARED (~0ull)
bool s2_page_fill(struct s2 *s2, u64 *slot, u64 entry);
u64 s2_page_clear(struct s2 *s2, u64 *slot, u64 entry, gpa_t at, struct s2_batch *batch);
void s2_run_clear(struct s2_cursor *c, u64 count, struct s2_batch *batch);
void s2_run_protect(struct s2_cursor *c, u64 count, u8 perm, struct s2_batch *batch);

/* Clears or sets `flag` in the entry at `slot`, if it is present, whatever hardware does to it
 * meanwhile. Was it set? */
bool s2_slot_clear_flag(struct s2 *s2, u64 *slot, u64 flag);
void s2_slot_set_flag(struct s2 *s2, u64 *slot, u64 flag);

/*
 * For dirty logging: tables that the entries lead to become HELD, and leaves cleaned. Of a root, or
 * of a table that hardware does not reach.
 */
void s2_table_hold(struct s2 *s2, u64 *table, u64 entries, unsigned level);

/*
 * Unlinks the table that the cursor's entry leads to, of level 0 and whatever is in it (false: lost
 * a race, look again); or of any level, which was seen empty (false: it is in use again). Not one
 * that is linked.
 */
bool s2_table_retire(struct s2_cursor *c, struct s2_batch *batch);
bool s2_table_retire_empty(struct s2_cursor *c, struct s2_batch *batch);
/* s2_range.c. Of all that became empty, from the one that the cursor stands in up. */
void s2_retire_empty(struct s2_cursor *c, struct s2_batch *batch);

/* Also for leaves in tables that nobody can reach yet, or any more. */
static inline void s2_count_leaves(struct s2 *s2, unsigned level, s64 count)
{
	u64 *counter = level == 0   ? &s2->stats.leaf_4k
		       : level == 1 ? &s2->stats.leaf_2m
				    : &s2->stats.leaf_1g;

	atomic_add(counter, (u64)count);
}

/* ---- s2_table.c: table pages ----------------------------------------------------------------- */

/* An unlinked table with nothing of use in it, or NULL; and back. */
u64 *s2_table_alloc(struct s2 *s2);
void s2_table_free(struct s2 *s2, u64 *table);

/*
 * Fills an unlinked table: `count` leaves `entry`, `entry` + `step`, ... from index `first` on, and
 * nothing around them. Makes it visible to table walkers.
 */
void s2_table_fill(struct s2 *s2, u64 *table, u64 first, u64 count, u64 entry, u64 step);

/*
 * What the frame table says of a table page: how many of its entries are in use, and, while it is
 * behind a BROKEN entry, the slot of the batch's next one.
 *
 *     63..14 the slot's address / 8 | 13..0 entries in use
 */
#define S2_TABLE_LIVE BITS(13, 0)

static inline u64 *s2_table_word(const u64 *table)
{
	return &frame_table.entries[(ptr_hpa(table).v >> PAGE_SHIFT) - frame_table.base_pfn].table;
}

/* The table that a slot is in, the first of them in a root. */
static inline u64 *s2_slot_table(const struct s2_format *f, const u64 *slot)
{
	return (u64 *)hpa_ptr(hpa(align_down(ptr_hpa(slot).v, BIT(f->page_shift))));
}

static inline u64 s2_table_live(const u64 *table)
{
	return load_relaxed(s2_table_word(table)) & S2_TABLE_LIVE;
}

/* Do other spaces' entries lead to it too? Then it stays: what is in it goes entry by entry. */
static inline bool s2_table_is_linked(const struct s2 *s2, const u64 *table)
{
	return unlikely(s2->linked_level < S2_LEVELS_MAX) &&
	       load_relaxed(&frame_at(ptr_hpa(table))->refs) > 1;
}

/* Tables in reserve, so that what can fail is over before anything changes (I3). */
struct s2_reserve {
	u64 *first; /* linked by their first words */
};
bool s2_reserve_fill(struct s2 *s2, struct s2_reserve *reserve, u64 count);
/* One more when there is none left, as others may have changed what was counted; or NULL. */
u64 *s2_reserve_take(struct s2 *s2, struct s2_reserve *reserve);
void s2_reserve_give(struct s2_reserve *reserve, u64 *table);
void s2_reserve_drop(struct s2 *s2, struct s2_reserve *reserve);

/* ---- s2_batch.c, s2_epoch.c ------------------------------------------------------------------ */

/* A range has to be invalidated, made of leaves of `level` (S2_LEVELS_MAX: of any, and tables
 * above); `entries` of it changed. */
void s2_batch_note_range(struct s2_batch *batch, gpa_t at, u64 size, unsigned level, u64 entries);

/* The frames of a leaf that went: they go back at the close, or before it when the box for shared
 * ones is full: then this invalidates and waits for walks. */
void s2_batch_note_frames(struct s2_batch *batch, hpa_t first, u64 size);

/* A table is unlinked. */
void s2_batch_note_table(struct s2_batch *batch, u64 *table);

/* The slot holds a BROKEN entry that leads to `table`: made whole again at the close. */
void s2_batch_note_broken(struct s2_batch *batch, u64 *slot, const u64 *table);
/* The last one noted is not to be made whole. False: it is not the last, or not this batch's. */
bool s2_batch_forget_broken(struct s2_batch *batch, const u64 *slot, const u64 *table);

/* s2_collapse.c, at the close, with the space's lock: `slot` holds `broken`, a fold of the table
 * that it leads to. Nobody else has that table any more. */
void s2_fold_finish(struct s2_batch *batch, u64 *slot, u64 broken);

/*
 * s2_collapse.c. May `count` neighbours, leaves of `level` from `slots` on, translate as one larger
 * leaf would (S2_FOLDED)? *flags: what any of them has of accessed and dirty, and the hint if some
 * have it and some do not. And what to say of an entry that is no table of theirs; and of a region,
 * to who asked.
 */
enum s2_why s2_judge_leaves(const struct s2 *s2, const u64 *slots, u64 count, unsigned level,
			    u64 *flags);
enum s2_why s2_why_no_leaf(const struct s2 *s2, u64 entry, unsigned level);
void s2_report_region(struct s2_collapsed *report, u64 at, enum s2_why why);

/* Invalidates what was noted so far. Walks are not waited for, and nothing is given back. */
void s2_batch_flush(struct s2_batch *batch);

/*
 * A software walk that takes no lock stands between these two: what it finds (tables, and frames
 * behind leaves) is not freed in between. May be nested; pass what begin returned to end.
 */
static inline u64 *s2_walking(struct s2 *s2)
{
	return &s2->cpu[this_cpu_id()].walking;
}

/* The outermost: nothing of this CPU's is under way. */
static inline void s2_walk_begin_at(struct s2 *s2, u64 *walking)
{
	store_relaxed(walking, load_relaxed(&s2->generation));
	fence_full();
}

static inline u64 s2_walk_begin(struct s2 *s2)
{
	u64 *walking = s2_walking(s2), outer = load_relaxed(walking);

	if (likely(outer == 0)) {
		s2_walk_begin_at(s2, walking);
	}
	return outer;
}

static inline void s2_walk_end(struct s2 *s2, u64 outer)
{
	store_release(s2_walking(s2), outer);
}

/* The space and its dependents; how many. */
#define S2_SPACES_MAX (1 + S2_DEPENDENTS_MAX)
u32 s2_all_spaces(struct s2 *s2, struct s2 *spaces[S2_SPACES_MAX]);

/* Begins a walk: the cursor stands where `at` ends at for hardware. */
static inline u64 s2_walk_to(struct s2_cursor *c, struct s2 *s2, gpa_t at)
{
	u64 outer = s2_walk_begin(s2);

	s2_cursor_start(c, s2, at);
	s2_cursor_descend(c, 0);
	return outer;
}

/* Makes every CPU forget what the batch noted, in its space and those that depend on it, and waits
 * until that is so. */
void s2_epoch_flush(struct s2_batch *batch);

/* Waits until every walk that began before this call has ended, also of dependents; or of this
 * space alone. */
void s2_epoch_wait_walks(struct s2 *s2);
void s2_epoch_wait_own_walks(struct s2 *s2);

/* Every CPU flushes at its next natural entry, of dependents too. */
void s2_epoch_owe(struct s2 *s2);

/* ---- s2_link.c, s2_view.c: several roots over one memory ---------------------------------------
 */

/* The closes of `s2` cover `dependent` from now on, until the call that takes this one back: no
 * batch of the caller's is open then. FULL; INVALID: one of the two is on the wrong side already.
 */
enum status s2_depend(struct s2 *s2, struct s2 *dependent);
void s2_depend_no_more(struct s2 *s2, struct s2 *dependent);

/* Is any of [start, end) another space's to change? */
struct s2_loan *s2_loan_in(struct s2 *s2, u64 start, u64 end);
static inline bool s2_is_on_loan(struct s2 *s2, u64 start, u64 end)
{
	return unlikely(load_relaxed(&s2->loan_count) != 0) && s2_loan_in(s2, start, end);
}

/* At a flush: what views derived from what the batch noted goes before it is invalidated. A walk of
 * the batch's space may be under way, none of a view's. */
void s2_view_sweep(struct s2_batch *batch);

/* s2_fault.c. Puts a leaf of `level` where the cursor, at its start, is to come to; as
 * s2_map_leaf(). EXISTS: the cursor stands at what is there. In a walk section. */
enum status s2_put_entry(struct s2_cursor *c, unsigned level, u64 entry, u64 transit);

/* ---- What the files of s2 do for each other ---------------------------------------------------
 */

/* s2.c. After new_leaf has changed: new leaves have it. */
void s2_set_memory_bits(struct s2 *s2);
/* Under the lock, or while nobody else knows the space. */
void s2_count_loans(struct s2 *s2, u32 count);

/*
 * s2_map.c. The next block of frames that lies in the memory, of which `done` bytes, from 0 on, are
 * done with; NULL: there is none. Not device memory, nor what is outside of the frame table: those
 * are nobody's, so any guest's, and nobody counts who holds them.
 */
struct frame *s2_next_block(hpa_t first, u64 size, u64 *done);
/* I4: all of it is memory that a guest may have. */
bool s2_memory_is_mappable(hpa_t first, u64 size);
/* It is a guest's block of frames that need not be divided for a page. */
bool s2_is_one_page(hpa_t a);
/* Some of it is in the frame table. */
static inline bool s2_lies_in_ram(hpa_t first, u64 size)
{
	return first.v + size > frame_table.ram_start &&
	       first.v < frame_table.ram_start + frame_table.ram_bytes;
}

/* Does any of it have holders besides the leaf that asks? */
bool s2_memory_is_shared(hpa_t first, u64 size);
/* One more leaf holds it, or one less. False: there is nothing to count. */
bool s2_memory_get(hpa_t first, u64 size);
void s2_memory_put(hpa_t first, u64 size);

/* s2_fault.c. Nothing is mapped by the cursor's entry. AGAIN: something is on its way there, or
 * goes from there. NOENT: nothing is. */
enum status s2_absence(const struct s2_cursor *c);

/* s2_fault.c. Walks to `level`, making tables on the way. OK: the cursor stands on an entry of that
 * level which is free, or `transit`. EXISTS: on a leaf, or a table where a leaf should go. AGAIN,
 * NOMEM. In a walk. */
enum status s2_reach_free_entry(struct s2_cursor *c, unsigned level, u64 transit);

/*
 * s2_fault.c. Puts `entry` at `at`, of `level`, where something is free, making tables on the way;
 * as free counts what is `transit` there (0: nothing does). No lock. EXISTS, AGAIN, NOMEM.
 */
enum status s2_entry_put(struct s2 *s2, gpa_t at, unsigned level, u64 entry, u64 transit);
/* The entry of a leaf as s2_map_leaf() makes it; INVALID, DENIED. */
enum status s2_leaf_for(struct s2 *s2, gpa_t at, unsigned level, hpa_t a, struct s2_attr attr,
			u64 *entry);
/*
 * s2_fault.c. s2_map_leaf() for the page at `at`, whose slot s2_find_empty() has found in the walk
 * that is still on. AGAIN: another CPU was faster. INVALID, DENIED: it is not so simple.
 */
enum status s2_page_put(struct s2 *s2, u64 *slot, gpa_t at, hpa_t a, struct s2_attr attr);

/* s2_split.c. Replaces the cursor's leaf by `table`, which it fills with leaves of the next level
 * that translate alike: at the close of `batch`, or at once where the space needs no break. A
 * typed entry becomes a table of the same at once. False: a fault was faster with a claim on the
 * leaf; look again, the table is still the caller's. */
bool s2_split_leaf(struct s2_cursor *c, u64 *table, struct s2_batch *batch);
/* The same with a table of the reserve's, whoever was faster. False: there is no memory for one. */
bool s2_split_here(struct s2_cursor *c, struct s2_reserve *reserve, struct s2_batch *batch);
/* The same in two parts, for who has taken `leaf` of `level` out himself: fills the table, and
 * gives each of the parts in it a reference of its own. And the parts' references become one again.
 */
void s2_parts_fill(struct s2 *s2, u64 leaf, unsigned level, u64 *table);
void s2_parts_share(struct s2 *s2, u64 leaf, unsigned level);
void s2_parts_join(struct s2 *s2, u64 leaf, unsigned level);

/* s2_fork.c. The leaf `entry` when its frame gets another holder: the guest that might write it may
 * no longer, until it has a copy. */
u64 s2_withheld(const struct s2_format *f, u64 entry);

/* Before any leaf of a space is shared. */
void s2_share_begin(struct s2 *s2);

/* The memory of the cursor's leaf gets another holder, and the leaf, which the other's is to be
 * like, loses write, which is noted in `batch`. False: lost a race. In a walk, with the space's
 * lock; afterwards, and before anybody relies on the memory's bytes, walks are to be waited for. */
bool s2_share_leaf(struct s2_cursor *c, struct s2_batch *batch);

/*
 * A leaf changes its frame without the lock: it is claimed, which nobody can do twice; then no CPU
 * uses the old translation any more; then something else takes its place. Not in a walk, nor with a
 * batch of this CPU's open.
 *
 * OK; what `judge` said; AGAIN: lost a race, or the table that the leaf was in, of level 0, is
 * gone, and with it the leaf that was to be put back.
 */
struct s2_change {
	gpa_t at;
	/* May the cursor's leaf be claimed? In a walk. */
	enum status (*judge)(struct s2_change *change, struct s2_cursor *c);
	/* What takes its place: `leaf` again, or another entry. The old memory is as the guest left
	 * it, and unless the leaf is put back its references are the caller's. */
	u64 (*replace)(struct s2_change *change);

	struct s2_batch batch; /* its own, closed in the end */
	u64 leaf;	       /* what was claimed */
	unsigned level;
};
enum status s2_change_leaf(struct s2 *s2, struct s2_change *change);

/*
 * s2_hint.c. Groups that any of `count` neighbours in one table, from the cursor on, belong to lose
 * the hint; or, when there is a report, get it if they can. With the space's lock, or when nobody
 * else comes to the table. Reads the slot again.
 */
void s2_hint_change(struct s2_cursor *c, u64 count, struct s2_collapsed *report);

/* Before any of them is changed. */
static inline void s2_hint_unfold(struct s2_cursor *c, u64 count)
{
	if (unlikely(load_relaxed(&c->s2->hinted))) {
		s2_hint_change(c, count, NULL);
	}
}

/* The same of all of `table`, to which the cursor's entry leads, or led. */
static inline void s2_hint_unfold_below(const struct s2_cursor *c, u64 *table)
{
	struct s2_cursor below = *c;

	below.gpa = gpa(s2_cursor_first(c));
	s2_cursor_enter(&below, table);
	s2_hint_unfold(&below, s2_table_entries(c->format));
}

/* Takes the space's lock for a range operation; in any case. DENIED: some of the range is another
 * space's to change. And for a moment drops it, as who waits for it goes first (I7). */
enum status s2_lock_range(struct s2 *s2, u64 start, u64 end);
enum status s2_let_others(struct s2 *s2, u64 start, u64 end);

/*
 * s2_range.c. Goes through [start, end) in runs, in steps that bound how long the lock is held
 * (I7). `run` is called for up to `count` entries from the cursor on, all in one table and none
 * leading further down; leaves among them lie inside the range and are of level_max or below, as
 * what sticks out or is larger is split before. INVALID: the range is.
 *
 * INVALID: it is no range of the space. NOMEM before anything was changed, when the range's two
 * ends need splits; NOMEM with batch->next when level_max does. A run that sets job->status ends it
 * with that, and batch->next is where the run began. MORE: the batch's budget is used up, and
 * batch->next is where to go on.
 */
struct s2_job;
typedef void (*s2_run_fn)(struct s2_cursor *c, u64 count, struct s2_job *job);

struct s2_job {
	struct s2 *s2;
	u64 start, end;
	struct s2_batch *batch;
	s2_run_fn run;
	unsigned level_max; /* S2_LEVELS_MAX: any */
	bool retire;	    /* tables that lie in the range go as one, and so do empty ones */
	bool enlarge;	    /* without memory for a split it is whole leaves that go */
	u8 perm;	    /* protect's */
	enum status status; /* set by `run`, OK before */
	struct s2_reserve reserve; /* its own */
};

enum status s2_range_run(struct s2_job *job);

static inline struct s2_job s2_job_of(struct s2 *s2, gpa_t at, u64 size, s2_run_fn run,
				      struct s2_batch *batch)
{
	return (struct s2_job){.s2 = s2,
			       .start = at.v,
			       .end = at.v + size,
			       .batch = batch,
			       .run = run,
			       .level_max = S2_LEVELS_MAX};
}

#endif
