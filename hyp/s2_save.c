/*
 * Tables to streams and back (the drawing is in the header).
 *
 * Saving is a row of queries, one for each entry, so it may stop and go on at any address, and
 * stands in no table in between. Restoring believes nothing: a record is used only when its
 * checksum, which goes on over the whole stream, is right; that tells of accidents. Against malice
 * each field is held to what the space and its format can be, addresses must rise, and what a frame
 * of the image is on this machine is the caller's to say. The first thing that is wrong empties the
 * space.
 */
#include "hyp/s2_image.h"

#include "hyp/log.h"

enum { RECORD_HEADER = 1, RECORD_LEAF, RECORD_STORED, RECORD_MMIO, RECORD_END };

/* What the ranges of a record are made of. */
static const u8 kind_of[] = {
	[RECORD_LEAF] = S2_LEAF, [RECORD_STORED] = S2_STORED, [RECORD_MMIO] = S2_MMIO};

#define WORDS 4
#define CHECKED (S2_IMAGE_RECORD - 4) /* bytes of a record that its CRC is of */

#define PLACE BITS(63, 12)
#define MEMORY BITS(11, 8)
#define LEVEL BITS(7, 4)
#define RECORD BITS(3, 0)

#define ATTR BITS(11, 0)
#define NOTHING BITS(11, 8)
#define SHARED BIT(7)
#define DIRTY BIT(6)
#define ACCESSED BIT(5)
#define NOTIFY BIT(4)
#define PERM BITS(3, 0)

#define PAYLOAD BITS(47, 0)

const char *s2_restore_text(enum s2_restore_why why)
{
	static const char *const texts[] = {
#define X(name, text) text,
		S2_RESTORE_WHYS(X)
#undef X
	};

	return why < ARRAY_COUNT(texts) ? texts[why] : "no such reason";
}

/* Of IEEE 802.3, four bits at a time; begins with 0, and goes on with what it returned. */
static u32 crc32_of(u32 crc, const u8 *bytes, u64 size)
{
	static const u32 of_four[] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
		0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};

	crc = ~crc;
	for (u64 i = 0; i < size; i++) {
		crc = of_four[(crc ^ bytes[i]) & 15] ^ (crc >> 4);
		crc = of_four[(crc ^ bytes[i] >> 4) & 15] ^ (crc >> 4);
	}
	return ~crc;
}

static u64 geometry(const struct s2 *s2)
{
	return s2->format->page_shift | s2->format->index_bits << 8 | s2->ipa_bits << 16;
}

/* ---- Save ---------------------------------------------------------------------------------- */

static void write_record(struct s2_save *save, u64 word0, u64 word1, u64 word2)
{
	u64 words[WORDS] = {word0, word1, word2, save->number++};
	u8 bytes[S2_IMAGE_RECORD];

	for (unsigned i = 0; i < CHECKED; i++) {
		bytes[i] = (u8)(words[i / 8] >> i % 8 * 8);
	}
	save->crc = crc32_of(save->crc, bytes, CHECKED);
	for (unsigned i = 0; i < 4; i++) {
		bytes[CHECKED + i] = (u8)(save->crc >> i * 8);
	}
	save->failed = save->failed || !save->write(save->context, bytes, sizeof(bytes));
}

static void write_run(struct s2_save *save)
{
	const struct s2_image_range *r = &save->run;
	u64 attr = r->attr.perm | (r->attr.notify ? NOTIFY : 0) | (r->accessed ? ACCESSED : 0) |
		   (r->dirty ? DIRTY : 0) | (r->shared ? SHARED : 0);
	u64 record = RECORD_LEAF;

	if (r->size == 0) {
		return;
	}
	while (kind_of[record] != r->kind) {
		record++;
	}
	write_record(save,
		     r->gpa.v | field_set(r->attr.memory, MEMORY) | field_set(r->level, LEVEL) |
			     record,
		     r->size | attr, r->value);
	save->ranges++;
	save->run.size = 0;
}

static bool continues(const struct s2_image_range *a, const struct s2_image_range *b)
{
	return a->kind == b->kind && a->level == b->level && a->gpa.v + a->size == b->gpa.v &&
	       a->attr.perm == b->attr.perm && a->attr.memory == b->attr.memory &&
	       a->attr.notify == b->attr.notify && a->accessed == b->accessed &&
	       a->dirty == b->dirty && a->shared == b->shared &&
	       b->value == (a->kind == S2_LEAF ? a->value + a->size : a->value);
}

/* False: it is not to be told yet. */
static bool save_entry(struct s2_save *save)
{
	struct s2_image_range range = s2_image_look(save->s2, save->at);

	if (range.kind == S2_TRANSIT) {
		return false;
	}
	save->at += range.size;
	if (save->run.size > 0 && continues(&save->run, &range)) {
		save->run.size += range.size;
		return true;
	}
	write_run(save);
	if (range.kind != S2_EMPTY) {
		save->run = range;
	}
	return true;
}

void s2_save_begin(struct s2_save *save, struct s2 *s2, s2_save_fn write, void *context)
{
	*save = (struct s2_save){.s2 = s2, .write = write, .context = context};
	write_record(save, S2_IMAGE_MAGIC << 12 | S2_IMAGE_VERSION << 8 | RECORD_HEADER,
		     geometry(s2), 0);
}

enum status s2_save_step(struct s2_save *save, u64 budget)
{
	while (save->at >> save->s2->ipa_bits == 0 && !save->failed) {
		if (budget-- == 0) {
			return MORE;
		}
		if (!save_entry(save)) {
			return AGAIN;
		}
	}
	write_run(save);
	if (!save->ended && !save->failed) {
		save->ended = true;
		write_record(save, RECORD_END, 0, save->ranges);
	}
	return save->failed ? FULL : OK;
}

/* ---- Restore: one record ------------------------------------------------------------------- */

static enum s2_restore_why judge_header(const struct s2_restore *r, const u64 *words)
{
	u64 ours = geometry(r->s2), ipa_bits = words[1] >> 16;

	if (words[2] != 0) {
		return S2_RESTORE_RECORD;
	}
	return (words[1] ^ ours) & BITS(15, 0) || ipa_bits > r->s2->ipa_bits ? S2_RESTORE_GEOMETRY
									     : S2_RESTORE_FINE;
}

static bool attr_is_sayable(const struct s2_format *f, const struct s2_image_range *range)
{
	struct s2_attr attr = range->attr;
	bool is_large = range->level > 0;

	return s2_format_says(f, attr) &&
	       f->decode(f->encode(attr, is_large), is_large).notify == attr.notify &&
	       (f->cow || !range->shared);
}

/* Can the space hold the range, as far as its shape and its format tell? */
static enum s2_restore_why judge_range(const struct s2_restore *r,
				       const struct s2_image_range *range)
{
	const struct s2_format *f = r->s2->format;
	u64 whole = BIT(r->s2->ipa_bits), inside;
	bool is_leaf = range->kind == S2_LEAF;

	if (range->level > r->s2->root_level ||
	    (is_leaf && !s2_level_may_be_leaf(f, range->level))) {
		return S2_RESTORE_LEVEL;
	}
	inside = BIT(f->shift[range->level]) - 1;
	if (range->size == 0 || (range->gpa.v | range->size) & inside) {
		return S2_RESTORE_ALIGNMENT;
	}
	if (range->gpa.v >= whole || range->size > whole - range->gpa.v) {
		return S2_RESTORE_OUTSIDE;
	}
	if (range->gpa.v < r->next) {
		return S2_RESTORE_ORDER;
	}
	if (is_leaf && !attr_is_sayable(f, range)) {
		return S2_RESTORE_ATTR;
	}
	if (is_leaf && (range->value & inside || range->value + range->size < range->value)) {
		return S2_RESTORE_ALIGNMENT;
	}
	return S2_RESTORE_FINE;
}

/* The record is a range's, and its checksum right. */
static enum s2_restore_why take_range(struct s2_restore *r, const u64 *words)
{
	struct s2_image_range range = {
		.kind = (enum s2_kind)kind_of[field_get(words[0], RECORD)],
		.level = (u8)field_get(words[0], LEVEL),
		.gpa = gpa(words[0] & PLACE),
		.size = words[1] & PLACE,
		.attr = {.perm = (u8)field_get(words[1], PERM),
			 .memory = (u8)field_get(words[0], MEMORY),
			 .notify = words[1] & NOTIFY},
		.accessed = words[1] & ACCESSED,
		.dirty = words[1] & DIRTY,
		.shared = words[1] & SHARED,
		.value = words[2],
	};
	u64 not_used = range.kind == S2_LEAF
			       ? words[1] & NOTHING
			       : (words[1] & ATTR) | (words[0] & MEMORY) | (words[2] & ~PAYLOAD);
	enum s2_restore_why why = not_used ? S2_RESTORE_RECORD : judge_range(r, &range);

	if (why == S2_RESTORE_FINE) {
		r->run = range;
		r->next = range.gpa.v + range.size;
	}
	return why;
}

static enum s2_restore_why take_end(struct s2_restore *r, const u64 *words)
{
	r->ended = words[0] == RECORD_END && words[1] == 0 && words[2] == r->number - 1;
	return r->ended ? S2_RESTORE_FINE : S2_RESTORE_RECORD;
}

/* r->partial is a whole record. */
static enum s2_restore_why take_record(struct s2_restore *r)
{
	u64 words[WORDS] = {0}, begins = S2_IMAGE_MAGIC << 12 | RECORD_HEADER;
	enum s2_restore_why why;

	for (unsigned i = 0; i < S2_IMAGE_RECORD; i++) {
		words[i / 8] |= (u64)r->partial[i] << i % 8 * 8;
	}
	if (r->number == 0 && (words[0] & ~MEMORY) != begins) {
		return S2_RESTORE_NO_IMAGE;
	}
	if (r->number == 0 && field_get(words[0], MEMORY) != S2_IMAGE_VERSION) {
		return S2_RESTORE_VERSION;
	}
	r->crc = crc32_of(r->crc, r->partial, CHECKED);
	if (words[3] != ((u64)r->crc << 32 | r->number)) {
		return S2_RESTORE_CORRUPT;
	}
	switch (field_get(words[0], RECORD)) {
	case RECORD_HEADER:
		why = r->number == 0 ? judge_header(r, words) : S2_RESTORE_RECORD;
		break;
	case RECORD_LEAF:
	case RECORD_STORED:
	case RECORD_MMIO:
		why = take_range(r, words);
		break;
	default:
		why = take_end(r, words);
	}
	r->number += why == S2_RESTORE_FINE;
	return why;
}

/* ---- Restore: one entry -------------------------------------------------------------------- */

static enum s2_restore_why why_of(enum status status)
{
	static const u8 whys[] = {
		[OK] = S2_RESTORE_FINE,	      [NOMEM] = S2_RESTORE_MEMORY,
		[AGAIN] = S2_RESTORE_TAKEN,   [EXISTS] = S2_RESTORE_TAKEN,
		[DENIED] = S2_RESTORE_DENIED, [INVALID] = S2_RESTORE_FRAME,
	};

	return (enum s2_restore_why)whys[status];
}

/* The first entry of r->run. */
static enum s2_restore_why put_entry(struct s2_restore *r)
{
	u64 span = BIT(r->s2->format->shift[r->run.level]);
	struct s2_image_range one = r->run, asked = r->run;
	enum status status;

	asked.size = span;
	if (!r->take(r->context, &asked)) {
		return S2_RESTORE_FRAME;
	}
	one.value = asked.value;
	one.shared = asked.shared;
	status = s2_image_put(r->s2, &one);
	if (status != OK && one.kind == S2_LEAF) {
		r->give(r->context, hpa(one.value), one.level);
	}
	r->run.gpa.v += span;
	r->run.size -= span;
	r->run.value += one.kind == S2_LEAF ? span : 0;
	if (status == OK && load_relaxed(&r->s2->stats.tables) > r->tables_max) {
		return S2_RESTORE_TABLES;
	}
	return why_of(status);
}

/* ---- Restore: the stream ------------------------------------------------------------------- */

/* Empties the space. Nothing is split on the way, so nothing can fail. */
static enum status refuse(struct s2_restore *r, enum s2_restore_why why)
{
	struct s2_batch batch;

	r->why = why;
	r->run.size = 0;
	s2_batch_open(&batch, r->s2);
	check(s2_unmap(r->s2, gpa(0), BIT(r->s2->ipa_bits), &batch) == OK);
	s2_batch_close(&batch);
	return INVALID;
}

enum status s2_restore_begin(struct s2_restore *r)
{
	u64 whole = BIT(r->s2->ipa_bits);
	gpa_t gap;

	r->why = S2_RESTORE_FINE;
	r->number = r->crc = r->partial_size = 0;
	r->run = (struct s2_image_range){0};
	r->next = 0;
	r->ended = false;
	return s2_find_gap(r->s2, gpa(0), gpa(whole), whole, whole, &gap) == OK ? OK : INVALID;
}

/* What it can of the bytes goes into r->partial; *taken counts them. Then the record may be whole.
 */
static enum s2_restore_why gather(struct s2_restore *r, const u8 *bytes, u64 size, u64 *taken)
{
	while (*taken < size && r->partial_size < S2_IMAGE_RECORD) {
		r->partial[r->partial_size++] = bytes[(*taken)++];
	}
	if (r->partial_size < S2_IMAGE_RECORD) {
		return S2_RESTORE_FINE;
	}
	r->partial_size = 0;
	return take_record(r);
}

enum status s2_restore_feed(struct s2_restore *r, const void *bytes, u64 size, u64 budget,
			    u64 *taken)
{
	enum s2_restore_why why = r->why;

	*taken = 0;
	while (why == S2_RESTORE_FINE) {
		if (r->run.size > 0) {
			if (budget-- == 0) {
				return MORE;
			}
			why = put_entry(r);
		} else if (*taken == size) {
			return OK;
		} else if (r->ended) {
			why = S2_RESTORE_BEHIND_END;
		} else {
			why = gather(r, bytes, size, taken);
		}
	}
	return r->why == S2_RESTORE_FINE ? refuse(r, why) : INVALID;
}

enum status s2_restore_end(struct s2_restore *r)
{
	if (r->why != S2_RESTORE_FINE) {
		return INVALID;
	}
	return r->ended ? OK : refuse(r, S2_RESTORE_TRUNCATED);
}
