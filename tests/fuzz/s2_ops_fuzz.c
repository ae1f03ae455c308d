/*
 * A stream of bytes as a program of operations on a space of any format, on the fake machine, whose
 * memory is so small that tables are often not to be had, and smaller when the program takes
 * frames.
 *
 * Beside the space stands a trivial map: for each page of three windows (the first pages, a 1 GiB
 * boundary, the last pages) what it should say. Each operation's status is held to what the header
 * promises, the map is changed by what the header says was done, and then the two are compared, and
 * the raw tables counted. Frames are beyond the frame table, so that none run out; the frames that
 * do are those of tables, and at the end all of them are free again.
 *
 * With S2_FUZZ_TRACE in the environment each operation is printed, by its number in the table
 * below.
 */
#include "s2_recount.h"

#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/fake/fake.h"
#include "../../arch/x86_64/s2_ept.h"
#include "../../arch/x86_64/s2_npt.h"
#include "hyp/s2_save.h"
#include <arch/s2.h>

#define WINDOWS 3
#define WINDOW_PAGES_MAX 1024
#define IPA_BITS 40
#define TABLES 24 /* that the machine has memory for */
#define OPS_MAX 200
#define FRAMES BIT(40)
#define POPULATED BIT(41)

enum page_kind { NONE, MAPPED, STORED, CLEARED };

struct page {
	u8 kind; /* CLEARED: by the open batch */
	u8 perm;
	u64 value; /* frame or payload */
};

static struct {
	struct s2 s2;
	const struct s2_format *f;
	struct s2_batch batch;
	bool open;
	struct page pages[WINDOWS][WINDOW_PAGES_MAX];
	u64 window[WINDOWS], window_pages;
	hpa_t held[TABLES * 4];
	unsigned held_count;
	unsigned take_fails; /* populate's source: every so many calls, 0: never */
	unsigned takes;
} m;

static struct {
	const u8 *next, *end;
} input;

static u8 byte(void)
{
	return input.next < input.end ? *input.next++ : 0;
}

static u64 page_size(void)
{
	return s2_span(m.f, 0);
}

/* Part of a window that an operation is about. */
struct part {
	unsigned window;
	u64 first, count; /* pages */
	u64 at, size;
	struct page *pages;
};

static struct part make_part(unsigned window, u64 first, u64 count)
{
	count = min_u64(count, m.window_pages - first);
	return (struct part){.window = window,
			     .first = first,
			     .count = count,
			     .at = m.window[window] + first * page_size(),
			     .size = count * page_size(),
			     .pages = &m.pages[window][first]};
}

static struct part next_part(void)
{
	u8 how = byte();
	u64 first = (byte() | byte() << 8) % m.window_pages, count = 1 + how / 16;

	if (how & 4) {
		first = align_down(first, s2_table_entries(m.f));
	}
	if (how & 8) {
		count = how & 16 ? m.window_pages : s2_table_entries(m.f);
	}
	return make_part(how % WINDOWS, first, count);
}

static judge_fn bool any(struct part p, u8 kind)
{
	for (u64 i = 0; i < p.count; i++) {
		if (p.pages[i].kind == kind) {
			return true;
		}
	}
	return false;
}

static u8 next_perm(void)
{
	static const u8 perms[] = {S2_RWX, S2_RW, S2_RX, S2_READ};
	u8 perm = perms[byte() % ARRAY_COUNT(perms)];

	return m.s2.perm_bits[perm] == S2_CANNOT ? S2_RWX : perm;
}

static struct s2_attr with_perm(u8 perm)
{
	return (struct s2_attr){.perm = perm, .memory = m.f->ram};
}

static struct s2_batch *batch(void)
{
	if (!m.open) {
		s2_batch_open(&m.batch, &m.s2);
		m.open = true;
	}
	m.batch.budget = ~0ull;
	return &m.batch;
}

static judge_fn void close_batch(void)
{
	if (!m.open) {
		return;
	}
	s2_batch_close(&m.batch);
	m.open = false;
	for (unsigned w = 0; w < WINDOWS; w++) {
		for (u64 i = 0; i < m.window_pages; i++) {
			if (m.pages[w][i].kind == CLEARED) {
				m.pages[w][i].kind = NONE;
			}
		}
	}
}

/* ---- The comparison ------------------------------------------------------------------------ */

static judge_fn void compare_page(u64 at, const struct page *page)
{
	struct s2_leaf leaf = s2_query(&m.s2, gpa(at));

	if (leaf.kind == S2_TRANSIT) {
		demand(m.open); /* cleared, or in what was split, or beside it in a table that went
				 */
		return;
	}
	switch (page->kind) {
	case NONE:
		demand(leaf.kind == S2_EMPTY);
		break;
	case MAPPED:
		demand(leaf.kind == S2_LEAF && leaf.hpa.v == page->value);
		demand(leaf.attr.perm == page->perm && leaf.attr.memory == m.f->ram);
		break;
	case STORED:
		demand(leaf.kind == S2_STORED && leaf.payload == page->value);
		break;
	default:
		demand(false);
	}
}

static judge_fn void compare(unsigned window)
{
	for (u64 i = 0; i < m.window_pages; i++) {
		compare_page(m.window[window] + i * page_size(), &m.pages[window][i]);
	}
}

/* ---- Operations ---------------------------------------------------------------------------- */

static void set_mapped(struct page *page, u64 frame, u8 perm)
{
	*page = (struct page){.kind = MAPPED, .perm = perm, .value = frame};
}

static void do_map(struct part p)
{
	u8 perm = next_perm(), how = byte();
	enum s2_if_mapped if_mapped = how % 3;
	u64 frame = FRAMES + p.at + (how & 128 ? page_size() : 0);
	enum status status =
		s2_map(&m.s2, gpa(p.at), hpa(frame), p.size, with_perm(perm), if_mapped);

	demand(status == OK || status == NOMEM || (status == AGAIN && m.open) ||
	       (status == EXISTS && (any(p, MAPPED) || any(p, STORED))));
	for (u64 i = 0; status == OK && i < p.count; i++, frame += page_size()) {
		struct page *page = &p.pages[i];

		demand(page->kind != CLEARED);
		demand(page->kind == NONE || if_mapped != S2_ERROR);
		if (page->kind == NONE) {
			set_mapped(page, frame, perm);
		} else if (if_mapped == S2_UPGRADE) {
			demand(page->kind == MAPPED && page->value == frame);
			page->perm |= perm;
		}
	}
}

static void do_map_leaf(struct part p)
{
	unsigned level = byte() % 2;
	u8 perm = next_perm();
	u64 leaf_pages = level ? s2_table_entries(m.f) : 1;
	struct part leaf = make_part(p.window, align_down(p.first, leaf_pages), leaf_pages);
	enum status status =
		s2_map_leaf(&m.s2, gpa(leaf.at), level, hpa(FRAMES + leaf.at), with_perm(perm));

	demand(status == OK || status == NOMEM || (status == AGAIN && m.open) ||
	       (status == EXISTS && (level == 1 || leaf.pages[0].kind != NONE)));
	for (u64 i = 0; status == OK && i < leaf.count; i++) {
		demand(leaf.pages[i].kind == NONE);
		set_mapped(&leaf.pages[i], FRAMES + leaf.at + i * page_size(), perm);
	}
}

static u64 pages_done(struct part p, enum status status)
{
	if (status == MORE) {
		demand(m.batch.budget == 0 && m.batch.next >= p.at && m.batch.next < p.at + p.size);
		return (m.batch.next - p.at) / page_size();
	}
	demand(status == OK || status == NOMEM);
	return status == OK ? p.count : 0;
}

static void do_unmap(struct part p)
{
	u8 how = byte();
	u64 done;

	batch()->budget = how & 1 ? how : ~0ull;
	done = pages_done(p, s2_unmap(&m.s2, gpa(p.at), p.size, &m.batch));
	for (u64 i = 0; i < done; i++) {
		p.pages[i].kind =
			p.pages[i].kind == MAPPED || p.pages[i].kind == CLEARED ? CLEARED : NONE;
	}
}

static void do_protect(struct part p)
{
	u8 perm = next_perm(), how = byte();
	u64 done;

	batch()->budget = how & 1 ? how : ~0ull;
	done = pages_done(p, s2_protect(&m.s2, gpa(p.at), p.size, perm, &m.batch));
	for (u64 i = 0; i < done; i++) {
		p.pages[i].perm = perm;
	}
}

static void do_split(struct part p)
{
	enum status status = s2_split(&m.s2, gpa(p.at), 0, batch());

	demand(status == OK || status == NOMEM ||
	       (status == NOENT && p.pages[0].kind != MAPPED && p.pages[0].kind != STORED));
}

static void do_split_range(struct part p)
{
	enum status status = s2_split_range(&m.s2, gpa(p.at), p.size, 0, batch());

	demand(status == OK || status == NOMEM);
}

static void do_collapse(struct part p)
{
	struct s2_collapsed report;

	demand(s2_collapse(&m.s2, gpa(p.at), p.size, 1, batch(), &report) == OK);
}

static void do_harvest(struct part p)
{
	u8 how = byte();
	struct s2_harvest harvest = {.clear = how & 1, .finest = how >> 1 & 1};

	demand(s2_harvest(&m.s2, gpa(p.at), p.size, &harvest) == OK);
	if (p.pages[0].kind == MAPPED) {
		enum status status = s2_mark_accessed(&m.s2, gpa(p.at));

		demand(status == OK || (status == NOENT && m.open));
	}
}

static void do_set_typed(struct part p)
{
	unsigned level = byte() % 2;
	u64 payload = byte(), pages = level ? s2_table_entries(m.f) : 1;
	struct part typed = make_part(p.window, align_down(p.first, pages), pages);
	enum status status = s2_set_typed(&m.s2, gpa(typed.at), level, S2_STORED, payload,
					  m.open ? &m.batch : NULL);

	demand(status == OK || status == NOMEM || (status == AGAIN && m.open) ||
	       (status == EXISTS && (level == 1 || typed.pages[0].kind != NONE)));
	for (u64 i = 0; status == OK && i < typed.count; i++) {
		demand(typed.pages[i].kind == NONE || typed.pages[i].kind == CLEARED);
		typed.pages[i] = (struct page){.kind = STORED, .value = payload};
	}
}

static void do_fill_stored(struct part p)
{
	u64 payload = byte();
	bool is_it = p.pages[0].kind == STORED && p.pages[0].value == payload;
	enum status status =
		s2_fill_stored(&m.s2, gpa(p.at), 0, payload, hpa(FRAMES + p.at), with_perm(S2_RWX));

	demand(status == OK || status == NOENT || (status == AGAIN && m.open) ||
	       (status == EXISTS && p.pages[0].kind == MAPPED));
	if (status == OK) {
		demand(is_it);
		set_mapped(&p.pages[0], FRAMES + p.at, S2_RWX);
	}
}

static hpa_t take(unused void *context, gpa_t at, unused unsigned level)
{
	m.takes++;
	return m.take_fails && m.takes % m.take_fails == 0 ? hpa_none() : hpa(POPULATED + at.v);
}

static void give(unused void *context, hpa_t frame, unused unsigned level)
{
	demand(frame.v >= POPULATED);
}

static void do_populate(struct part p)
{
	u8 how = byte();
	struct s2_populate job = {.s2 = &m.s2,
				  .gpa = gpa(p.at),
				  .size = p.size,
				  .attr = with_perm(S2_RWX),
				  .level = how & 1,
				  .smaller = how & 2,
				  .take = take,
				  .give = give};
	enum status status;
	u64 mapped = 0;

	close_batch();
	m.take_fails = how >> 2;
	status = s2_populate_work(&job);
	demand(status == OK || status == NOMEM);
	for (u64 i = 0; i < p.count; i++) {
		u64 at = p.at + i * page_size();

		if (p.pages[i].kind == NONE && s2_query(&m.s2, gpa(at)).kind == S2_LEAF) {
			set_mapped(&p.pages[i], POPULATED + at, S2_RWX);
			mapped++;
		}
		demand(status != OK || p.pages[i].kind != NONE);
	}
	demand(job.mapped_pages == mapped);
}

static void do_look(struct part p)
{
	u8 perm = next_perm();
	bool all = true;
	gpa_t gap;
	u64 i;

	close_batch(); /* or validate waits for it */
	for (i = 0; i < p.count; i++) {
		all = all && p.pages[i].kind == MAPPED && (p.pages[i].perm & perm) == perm;
	}
	demand(s2_validate(&m.s2, gpa(p.at), p.size, perm) == all);
	for (i = 0; i < p.count && p.pages[i].kind != NONE; i++) {
	}
	if (s2_find_gap(&m.s2, gpa(p.at), gpa(p.at + p.size), page_size(), 1, &gap) == OK) {
		demand(i < p.count && gap.v == p.at + i * page_size());
	} else {
		demand(i == p.count);
	}
}

static bool count_bytes(void *context, unused const void *bytes, u64 size)
{
	*(u64 *)context += size;
	return true;
}

static void do_save(void)
{
	struct s2_save save;
	u64 written = 0;
	enum status status;

	s2_save_begin(&save, &m.s2, count_bytes, &written);
	status = s2_save_step(&save, ~0ull);
	demand((status == OK && written >= 2 * S2_IMAGE_RECORD) || (status == AGAIN && m.open));
}

static void do_frames(void)
{
	for (u8 count = byte() % 16; count > 0; count--) {
		hpa_t frame = hpa_none();

		if (m.held_count < ARRAY_COUNT(m.held)) {
			frame = frame_alloc(0, FRAME_HYP, OWNER_NONE);
		}
		if (hpa_is_none(frame)) {
			return;
		}
		m.held[m.held_count++] = frame;
	}
}

static void give_frames(void)
{
	while (m.held_count > 0) {
		frame_put(m.held[--m.held_count]);
	}
}

static void (*const operations[])(struct part p) = {
	do_map,		do_map_leaf, do_unmap,	 do_protect,   do_split,
	do_split_range, do_collapse, do_harvest, do_set_typed, do_fill_stored,
	do_populate,	do_look,     do_map,	 do_unmap};

static void do_operation(void)
{
	u8 op = byte() % (ARRAY_COUNT(operations) + 4);
	struct part p = next_part();

	if (getenv("S2_FUZZ_TRACE")) {
		fprintf(stderr, "operation %u: window %u, pages %llu + %llu\n", op, p.window,
			(unsigned long long)p.first, (unsigned long long)p.count);
	}
	switch (op) {
	case ARRAY_COUNT(operations):
		close_batch();
		break;
	case ARRAY_COUNT(operations) + 1:
		do_frames();
		break;
	case ARRAY_COUNT(operations) + 2:
		give_frames();
		break;
	case ARRAY_COUNT(operations) + 3:
		do_save();
		break;
	default:
		operations[op](p);
	}
	recount(&m.s2, m.open);
	compare(p.window);
}

/* ---- The machine --------------------------------------------------------------------------- */

static void begin(u8 how)
{
	static const struct s2_format *const formats[] = {
		&s2_armv8_4k,	  &s2_ept, &s2_npt,	     &s2_ept5,
		&s2_armv8_4k_fwb, NULL,	   &s2_ept_software, &s2_armv8_4k_lpa2};
	static u64 memory;
	u64 needed;

	m.f = formats[how % 8] ? formats[how % 8] : arch_s2_format();
	needed = TABLES * page_size();
	fake_broadcasts = how & 8;
	fake_traits =
		(how & 16 ? S2_SIZE_CHANGE : 0) | (m.f->accessed_table ? S2_HARDWARE_ACCESSED : 0);
	if (memory != needed) {
		fake_memory(needed);
		memory = needed;
	}
	demand(s2_init(&m.s2, m.f, IPA_BITS, 1) == OK);
	m.window_pages = 2 * s2_table_entries(m.f);
	m.window[0] = 0;
	m.window[1] = s2_span(m.f, 2) - s2_span(m.f, 1);
	m.window[2] = BIT(IPA_BITS) - 2 * s2_span(m.f, 1);
	for (unsigned w = 0; w < WINDOWS; w++) {
		for (u64 i = 0; i < m.window_pages; i++) {
			m.pages[w][i].kind = NONE;
		}
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	input.next = data;
	input.end = data + size;
	begin(byte());
	u64 free_before = frame_count(FRAME_FREE);

	for (unsigned ops = 0; ops < OPS_MAX && input.next < input.end; ops++) {
		do_operation();
	}
	close_batch();
	for (unsigned w = 0; w < WINDOWS; w++) {
		compare(w);
	}
	recount(&m.s2, false);
	give_frames();
	batch();
	demand(s2_unmap(&m.s2, gpa(0), BIT(IPA_BITS), &m.batch) == OK);
	close_batch();
	demand(frame_count(FRAME_FREE) == free_before);
	s2_destroy(&m.s2);
	return 0;
}
