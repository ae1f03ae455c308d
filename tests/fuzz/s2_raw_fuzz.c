/*
 * What nobody should trust, given to those who read it: raw tables to query, dump, find_gap,
 * harvest and save; bytes as an image to restore.
 *
 * Raw tables: the root and four table pages are filled with words made of the input. A word may
 * lead to any of the pages, so to its own or back to one above: walks are bounded by the level,
 * which falls with each step, and not by what they find; it may be any leaf, any typed entry, a
 * kind that there is none of, or 8 bytes of the input. In one thing the core trusts its tables,
 * here as everywhere: where an entry leads, there is a table. Entries that lead are written by the
 * core alone (hyp/s2_entry.c), a guest has no way to them, and a pointer that leads out of memory
 * could be noticed by nobody. So words that happen to lead are made to lead to one of the pages.
 * s2_validate() is left out, as it waits for what is in transit, which nobody here will close.
 *
 * Images: the input's records get numbers and checksums that are right, unless it asks for its own,
 * as no mutation would find them. What comes of an image is held to this: either the space holds
 * what the raw tables say it counts, or it is empty again and every frame is back.
 */
#include "s2_recount.h"

#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/fake/fake.h"
#include "../../arch/x86_64/s2_ept.h"
#include "../../arch/x86_64/s2_npt.h"
#include "hyp/s2_save.h"
#include <arch/s2.h>
#include <string.h>

#define IPA_BITS 40
#define PAGES 4
#define MEMORY MIB(1)
#define DUMP_PAGES 1500
#define RESTORE_BUDGET 3000

static struct s2 s2;
static u64 *pages[PAGES];

static struct {
	const u8 *next, *end;
} input;

static u8 byte(void)
{
	return input.next < input.end ? *input.next++ : 0;
}

static u64 eight_bytes(void)
{
	u64 word = 0;

	for (unsigned i = 0; i < 8; i++) {
		word |= (u64)byte() << i * 8;
	}
	return word;
}

/* ---- Raw tables ---------------------------------------------------------------------------- */

/* A word that leads somewhere leads to a page of ours, at whatever level it is found. */
static u64 tamed(u64 word, const u64 *page)
{
	const struct s2_format *f = s2.format;

	for (unsigned level = 1; level < S2_LEVELS_MAX; level++) {
		enum s2_kind kind = s2_entry_kind(f, word, level);
		const u64 *below = s2_entry_below(f, word, level);
		bool is_ours = !below && kind != S2_TABLE && kind != S2_HELD;

		for (unsigned i = 0; i < PAGES; i++) {
			is_ours = is_ours || below == pages[i];
		}
		if (!is_ours) {
			return s2_table_entry(f, page);
		}
	}
	return word;
}

static u64 next_word(void)
{
	const struct s2_format *f = s2.format;
	u8 what = byte(), how = byte();
	const u64 *page = pages[how % PAGES];
	struct s2_attr attr = {.perm = S2_RW, .memory = f->ram};

	switch (what % 8) {
	case 0:
	case 1:
		return s2_table_entry(f, page) | (how & 128 ? s2_table_flag(&s2) : 0);
	case 2:
		return s2_leading_entry(f, how & 64 ? S2_HELD : S2_BROKEN, page, how >> 3 & 7,
					how & 128);
	case 3: /* on some formats a small leaf leads, where a large one could be */
		return tamed(s2_leaf_entry(f, hpa(BIT(40) + how * GIB(1)), attr, how & 1), page);
	case 4:
		return tamed(s2_leaf_entry(f, hpa(how * GIB(1)), attr, how & 1) | f->cow | f->log |
				     f->dirty,
			     page);
	case 5:
		return tamed(s2_absent_entry(f, what >> 4, how),
			     page); /* of kinds that are none, too */
	case 6:
		return f->empty;
	default:
		return tamed(eight_bytes(), page);
	}
}

/* Where the input ends, its words are said again from the beginning of the table. */
static void fill_table(u64 *table, u64 entries)
{
	u64 words = 1 + byte() % 64;

	for (u64 i = 0; i < entries; i++) {
		table[i] = i < words ? next_word() : table[i % words];
	}
}

static void see_region(void *context, const struct s2_region *region)
{
	u64 *end = context;

	demand(region->size > 0 && region->gpa.v >= *end);
	demand(region->kind != S2_TABLE && region->kind != S2_HELD && region->kind != S2_EMPTY);
	*end = region->gpa.v + region->size;
}

static bool drop_bytes(unused void *context, unused const void *bytes, unused u64 size)
{
	return true;
}

/* All that only looks, from one address on. */
static void look_from(u64 at)
{
	u64 size = DUMP_PAGES << s2.format->page_shift, end = at;
	struct s2_harvest harvest = {
		.budget = DUMP_PAGES, .clear = at & BIT(20), .finest = at >> 21 & 1};
	struct s2_leaf leaf = s2_query(&s2, gpa(at));
	struct s2_save save;
	gpa_t gap;

	demand(leaf.kind != S2_TABLE && leaf.kind != S2_HELD && leaf.kind != S2_BROKEN);
	demand(leaf.level <= s2.root_level);
	at = min_u64(align_down(at, s2_span(s2.format, 0)), BIT(IPA_BITS) - size);
	end = at;
	s2_dump(&s2, gpa(at), size, see_region, &end);
	demand(end <= at + size);
	if (s2_find_gap(&s2, gpa(at), gpa(at + size), s2_span(s2.format, 0), 1, &gap) == OK) {
		demand(gap.v >= at && gap.v < at + size);
		demand(s2_query(&s2, gap).kind == S2_EMPTY);
	}
	demand(s2_harvest(&s2, gpa(at), size, &harvest) <= MORE);
	s2_save_begin(&save, &s2, drop_bytes, NULL);
	save.at = at;
	demand(s2_save_step(&save, DUMP_PAGES) != FULL);
}

static void raw_tables(void)
{
	u64 entries = BIT(IPA_BITS) >> s2.root_shift;

	for (unsigned i = 0; i < PAGES; i++) {
		pages[i] = s2_table_alloc(&s2);
		s2_table_fill(&s2, pages[i], 0, 0, 0, 0);
	}
	fill_table(s2.root, entries);
	for (unsigned i = 0; i < PAGES; i++) {
		fill_table(pages[i], s2_table_entries(s2.format));
	}
	look_from(0);
	look_from(BIT(IPA_BITS) - 1);
	for (unsigned i = 0; i < 3; i++) {
		look_from(eight_bytes() & (BIT(IPA_BITS) - 1));
	}
	/* Unmapping would follow the circles in it: the space is emptied by hand. */
	for (u64 i = 0; i < entries; i++) {
		s2.root[i] = s2.format->empty;
	}
	for (unsigned i = 0; i < PAGES; i++) {
		s2_table_free(&s2, pages[i]);
	}
}

/* ---- Images -------------------------------------------------------------------------------- */

static bool take(void *context, struct s2_image_range *range)
{
	u64 *taken = context;

	demand(range->size == s2_span(s2.format, range->level));
	demand(is_aligned(range->gpa.v, range->size) && range->gpa.v >> IPA_BITS == 0);
	demand(range->kind == S2_LEAF || range->kind == S2_STORED || range->kind == S2_MMIO);
	*taken += range->kind == S2_LEAF;
	range->shared = range->shared || range->value & PAGE_SIZE;
	return (range->value >> 12 & 0xff) != 0x5a;
}

static void give(void *context, unused hpa_t frame, unused unsigned level)
{
	u64 *taken = context;

	demand(*taken > 0);
	--*taken;
}

static u32 crc_of(u32 crc, const u8 *bytes, size_t size)
{
	crc = ~crc;
	for (size_t i = 0; i < size; i++) {
		crc ^= bytes[i];
		for (unsigned bit = 0; bit < 8; bit++) {
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
		}
	}
	return ~crc;
}

/* Gives the input's records what they need to be looked at. */
static void dress_up(u8 *image, size_t size)
{
	u64 header[] = {S2_IMAGE_MAGIC << 12 | S2_IMAGE_VERSION << 8 | 1,
			IPA_BITS << 16 | (u64)s2.format->index_bits << 8 | s2.format->page_shift,
			0};
	u32 crc = 0;

	memcpy(image, header, size < sizeof(header) ? size : sizeof(header));
	for (u32 i = 0; (i + 1) * S2_IMAGE_RECORD <= size; i++) {
		u8 *record = image + i * S2_IMAGE_RECORD;

		memcpy(record + 24, &i, 4);
		crc = crc_of(crc, record, 28);
		memcpy(record + 28, &crc, 4);
	}
}

static void feed(struct s2_restore *r, const u8 *image, size_t size, u8 piece)
{
	u64 budget = RESTORE_BUDGET, taken, at = 0;
	enum status status = OK;

	while (at < size && status == OK) {
		u64 count = piece ? min_u64(piece, size - at) : size - at;

		status = s2_restore_feed(r, image + at, count, budget, &taken);
		demand(taken <= count && (status != OK || taken == count));
		at += taken;
	}
}

static void raw_image(u8 how)
{
	size_t size = (size_t)(input.end - input.next);
	u8 *image = malloc(size + 1);
	u64 taken = 0, whole = BIT(IPA_BITS), tables = s2.stats.tables;
	struct s2_restore r = {
		.s2 = &s2, .take = take, .give = give, .context = &taken, .tables_max = 40};
	enum status status;
	gpa_t gap;

	memcpy(image, input.next, size);
	if (how & 64) {
		dress_up(image, size);
	}
	demand(s2_restore_begin(&r) == OK);
	feed(&r, image, size, how & 128 ? 13 : 0);
	status = s2_restore_end(&r);
	demand((status == OK) == (r.why == S2_RESTORE_FINE));
	recount(&s2, false);
	if (status == OK) {
		demand(s2.stats.leaf_4k + s2.stats.leaf_2m + s2.stats.leaf_1g == taken);
	} else {
		demand(s2_find_gap(&s2, gpa(0), gpa(whole), whole, whole, &gap) == OK);
		demand(s2.stats.tables == tables);
	}
	free(image);
}

/* ---- The machine --------------------------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const struct s2_format *const formats[] = {NULL,	    &s2_armv8_4k,  &s2_ept,
							  &s2_npt,  &s2_ept5_mbec, &s2_armv8_4k_fwb,
							  &s2_npt5, &s2_armv8_16k};
	static bool begun;
	const struct s2_format *f;
	u64 free_before;
	u8 how;

	input.next = data;
	input.end = data + size;
	how = byte();
	if (!begun) {
		fake_memory(MEMORY);
		begun = true;
	}
	free_before = frame_count(FRAME_FREE);
	f = formats[how % 8] ? formats[how % 8] : arch_s2_format();
	f = f == &s2_ept && (how & 16) ? &s2_ept_software : f;
	demand(s2_init(&s2, f, IPA_BITS, 1) == OK);
	s2.traits |= s2.format->accessed_table ? S2_HARDWARE_ACCESSED : 0;
	if (how & 8) {
		raw_image(how);
	} else {
		raw_tables();
	}
	s2_destroy(&s2);
	demand(frame_count(FRAME_FREE) == free_before);
	return 0;
}
