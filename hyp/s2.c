/* A space: how it begins and ends, and what all of its range operations ask first. */
#include "hyp/s2_cursor.h"

#include "hyp/log.h"

#include <arch/s2.h>

/* The lowest level whose table, put side by side as often as the format allows, covers the space.
 */
static unsigned choose_root_level(const struct s2_format *f, unsigned ipa_bits, unsigned *tables)
{
	for (unsigned level = f->root_level_min; level < f->levels; level++) {
		unsigned covered = f->shift[level + 1];
		unsigned extra = ipa_bits > covered ? ipa_bits - covered : 0;

		if (BIT(extra) <= f->root_tables_max) {
			*tables = 1u << extra;
			return level;
		}
	}
	return S2_LEVELS_MAX;
}

/* Side by side, in one block of frames; all entries empty. */
static u64 *alloc_root(struct s2 *s2, unsigned tables)
{
	u64 entries = tables * s2_table_entries(s2->format);
	hpa_t block = frame_alloc(s2_level_order(s2->format, 0) + __builtin_ctz(tables),
				  FRAME_TABLE, s2->owner);
	u64 *table = hpa_ptr(block);

	if (hpa_is_none(block)) {
		return NULL;
	}
	for (u64 i = 0; i < entries; i++) {
		table[i] = s2->format->empty;
	}
	arch_s2_publish_table(table, entries * sizeof(*table));
	atomic_add(&s2->stats.tables, tables);
	return table;
}

/* The root, and above it the tables which hardware walks and nobody changes again: each leads to
 * one below, the lowest to all of the root's. False: no memory. */
static bool build_top(struct s2 *s2, unsigned root_tables)
{
	const struct s2_format *f = s2->format;
	unsigned below = root_tables;

	s2->root = s2->top = alloc_root(s2, root_tables);
	for (unsigned level = s2->root_level + 1; s2->top && level <= f->top_level; level++) {
		u64 *table = s2_table_alloc(s2);

		if (!table) {
			return false;
		}
		s2_table_fill(s2, table, 0, below, s2_table_entry(f, s2->top), s2_span(f, 0));
		s2->top = table;
		below = 1;
	}
	return s2->top != NULL;
}

static void free_crown(struct s2 *s2)
{
	const struct s2_format *f = s2->format;

	for (u64 *table = s2->top; table && table != s2->root;) {
		u64 *below = s2_entry_table(f, table[0]);

		frame_put(ptr_hpa(table));
		table = below;
	}
	if (s2->root) {
		frame_put(ptr_hpa(s2->root));
	}
	s2->root = s2->top = NULL;
	s2->stats.tables = 0;
}

/* What new leaves are made of. No attribute sets bits that another one's permissions are in. */
static void set_perm_bits(struct s2 *s2)
{
	const struct s2_format *f = s2->format;

	for (u8 perm = 0; perm <= S2_RWX; perm++) {
		struct s2_attr attr = {.perm = perm, .memory = (u8)__builtin_ctz(f->memories)};

		s2->perm_bits[perm] =
			f->perms >> perm & 1 ? f->encode(attr, false) & f->perm_mask : S2_CANNOT;
	}
}

void s2_set_memory_bits(struct s2 *s2)
{
	const struct s2_format *f = s2->format;
	u8 some = (u8)__builtin_ctz(f->perms);

	for (u8 memory = 0; memory < S2_MEMORY_TYPES; memory++) {
		struct s2_attr attr = {.perm = some, .memory = memory};
		bool can = f->memories >> memory & 1;

		for (unsigned large = 0; large < 2; large++) {
			u64 bits = can ? s2_leaf_entry(f, hpa(0), attr, large) : S2_CANNOT;

			store_relaxed(&s2->memory_bits[large][memory],
				      can ? (bits & ~f->perm_mask) | s2->new_leaf : S2_CANNOT);
		}
	}
}

/* The short walk does not see what is another space's, so it is shut where anything is. */
void s2_count_loans(struct s2 *s2, u32 count)
{
	u64 entries = s2->format->plain && count == 0 ? BIT(s2->ipa_bits) >> s2->root_shift : 0;

	store_relaxed(&s2->loan_count, count);
	store_relaxed(&s2->walk.plain_root_entries, entries);
}

/* Not wider than the levels, nor than what an entry can hold: hardware takes no more (D8.1.9). */
static bool width_is_valid(const struct s2_format *f, unsigned ipa_bits)
{
	return ipa_bits >= f->shift[1] && ipa_bits <= f->shift[f->levels] &&
	       s2_addresses_fit(f, hpa(0), BIT(ipa_bits));
}

enum status s2_init(struct s2 *s2, const struct s2_format *format, unsigned ipa_bits, u16 owner)
{
	unsigned tables;
	unsigned root_level = choose_root_level(format, ipa_bits, &tables);

	if (root_level == S2_LEVELS_MAX || !width_is_valid(format, ipa_bits)) {
		return INVALID;
	}
	*s2 = (struct s2){
		.format = format,
		.ipa_bits = ipa_bits,
		.root_level = root_level,
		.root_shift = format->shift[root_level],
		.walk = {.mask = format->table | format->large_mask,
			 .table = format->table,
			 .address = format->address},
		.traits = arch_s2_traits(),
		.owner = owner,
		.generation = 1,
		.flush_generation = 1,
		.linked_level = S2_LEVELS_MAX,
	};
	for (unsigned level = 0; level < format->levels; level++) {
		s2->inside[level] = s2_span(format, level) - 1;
	}
	s2_count_loans(s2, 0);
	set_perm_bits(s2);
	s2_set_memory_bits(s2);
	if (!build_top(s2, tables)) {
		free_crown(s2);
		return NOMEM;
	}
	return OK;
}

void s2_destroy(struct s2 *s2)
{
	struct s2_batch batch;

	check(s2->dependent_count == 0 && s2->loan_count == 0);
	s2_batch_open(&batch, s2);
	check(s2_unmap(s2, gpa(0), BIT(s2->ipa_bits), &batch) == OK);
	s2_batch_close(&batch);
	free_crown(s2);
}
