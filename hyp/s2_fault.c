/*
 * What a stage-2 fault does to the table: put one leaf, or mark one accessed. No lock; any number
 * of CPUs at once, beside range operations. The loser of a race gives its table back and looks
 * again.
 */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

/* An empty table takes the place of an empty entry. False: no memory for it. */
static bool grow_down(struct s2_cursor *c)
{
	u64 *table = s2_table_alloc(c->s2);

	if (!table) {
		return false;
	}
	s2_table_fill(c->s2, table, 0, 0, 0, 0);
	if (!s2_entry_set(c, s2_link_entry(c->s2, table), NULL)) {
		s2_table_free(c->s2, table);
	}
	return true;
}

enum status s2_absence(const struct s2_cursor *c)
{
	return s2_entry_is_pending(c->s2, c->entry) ? AGAIN : NOENT;
}

enum status s2_reach_free_entry(struct s2_cursor *c, unsigned level, u64 transit)
{
	for (;;) {
		s2_cursor_descend_held(c, level);
		if (s2_absence(c) == AGAIN) {
			return c->level == level && c->entry == transit ? OK : AGAIN;
		}
		if (s2_entry_in_use(c->format, c->entry)) {
			return EXISTS;
		}
		if (c->level == level) {
			return OK;
		}
		if (!grow_down(c)) {
			return NOMEM;
		}
	}
}

/* Where hardware does not say of tables that something below was used, we do: at the fault that the
 * first use takes. */
void s2_mark_way(const struct s2_cursor *c)
{
	struct s2 *s2 = c->s2;
	u64 flag = s2_table_flag(s2);

	if (flag == 0 || flag == c->format->accessed_table) {
		return;
	}
	for (unsigned level = c->level + 1; level <= s2->root_level; level++) {
		u64 index = s2_index(c->format, c->gpa.v, level, s2->root_level);

		s2_slot_set_flag(s2, c->table[level] + index, flag);
	}
}

/* Tables count as used until a harvest says otherwise, which finds the leaf unless it is seen here.
 */
void s2_mark_way_to(struct s2 *s2, gpa_t at)
{
	struct s2_cursor c;
	u64 outer;

	fence_full();
	if (load_relaxed(&s2->quieted)) {
		outer = s2_walk_to(&c, s2, at);
		s2_mark_way(&c);
		s2_walk_end(s2, outer);
	}
}

enum status s2_put_entry(struct s2_cursor *c, unsigned level, u64 entry, u64 transit)
{
	enum status status;

	while ((status = s2_reach_free_entry(c, level, transit)) == OK &&
	       !s2_entry_set(c, entry, NULL)) {
		atomic_add(&c->s2->stats.map_races, 1);
	}
	return status;
}

enum status s2_entry_put(struct s2 *s2, gpa_t at, unsigned level, u64 entry, u64 transit)
{
	u64 outer = s2_walk_begin(s2);
	enum status status;
	struct s2_cursor c;
	bool is_leaf = s2_entry_present(s2->format, entry);

	s2_cursor_start(&c, s2, at);
	/* Marks that came since are seen inside the walk, or their owner waits for it to end. */
	entry |= is_leaf ? load_relaxed(&s2->new_leaf) : 0;
	status = s2_is_on_loan(s2, at.v, at.v + s2_span(s2->format, level))
			 ? DENIED
			 : s2_put_entry(&c, level, entry, transit);
	if (status == OK && is_leaf) {
		s2_mark_way(&c);
	}
	s2_walk_end(s2, outer);
	return status;
}

enum status s2_leaf_for(struct s2 *s2, gpa_t at, unsigned level, hpa_t a, struct s2_attr attr,
			u64 *entry)
{
	const struct s2_format *f = s2->format;
	u64 bits = s2_leaf_bits(s2, attr, level);

	if (level > s2->root_level || !s2_level_may_be_leaf(f, level) || bits == S2_CANNOT ||
	    !is_aligned(at.v | a.v, s2_span(f, level)) || at.v >> s2->ipa_bits ||
	    !s2_addresses_fit(f, a, s2_span(f, level))) {
		return INVALID;
	}
	*entry = bits | s2_address_bits(f, a);
	/* I4: a guest may be given its frames and devices, never Lamina's frames or tables. */
	return s2_memory_is_mappable(a, s2_span(f, level)) ? OK : DENIED;
}

enum status s2_page_put(struct s2 *s2, u64 *slot, gpa_t at, hpa_t a, struct s2_attr attr)
{
	const struct s2_format *f = s2->format;
	u64 bits = s2_leaf_bits(s2, attr, 0);

	if (unlikely(bits == S2_CANNOT || (a.v & ~f->address))) {
		return INVALID;
	}
	if (a.v - frame_table.ram_start < frame_table.ram_bytes && !s2_is_one_page(a)) {
		return DENIED;
	}
	if (unlikely(!s2_page_fill(s2, slot, a.v | bits))) {
		atomic_add(&s2->stats.map_races, 1);
		return AGAIN;
	}
	if (!f->accessed_table) {
		s2_mark_way_to(s2, at);
	}
	return OK;
}

/* The usual one: NOENT, if it is another. */
static enum status map_page(struct s2 *s2, gpa_t at, hpa_t a, struct s2_attr attr)
{
	u64 outer = s2_walk_begin(s2), *slot;
	enum status status = NOENT;
	unsigned level;

	if (s2_find_empty(s2, at, &level, &slot) && level == 0) {
		status = s2_page_put(s2, slot, at, a, attr);
	}
	s2_walk_end(s2, outer);
	return status;
}

enum status s2_map_leaf(struct s2 *s2, gpa_t at, unsigned level, hpa_t a, struct s2_attr attr)
{
	enum status status;
	u64 entry;

	if (level == 0 && (at.v & s2->inside[0]) == 0 && map_page(s2, at, a, attr) == OK) {
		return OK;
	}
	status = s2_leaf_for(s2, at, level, a, attr, &entry);
	return status == OK ? s2_entry_put(s2, at, level, entry, 0) : status;
}

enum status s2_mark_accessed(struct s2 *s2, gpa_t at)
{
	enum status status = NOENT;
	struct s2_cursor c;
	u64 outer;

	if (at.v >> s2->ipa_bits) {
		return NOENT;
	}
	outer = s2_walk_to(&c, s2, at);
	s2_cursor_descend_held(&c, 0);
	if (s2_entry_is_leaf(c.format, c.entry, c.level)) {
		/* No flush: no TLB holds an entry whose accessed flag is clear (DDI 0487, D8.5.1;
		 * a misconfigured one, SDM 29.4.2). */
		status = s2_entry_set(&c, c.entry | c.format->accessed, NULL) ? OK : AGAIN;
		s2_mark_way(&c);
	}
	s2_walk_end(s2, outer);
	return status;
}
