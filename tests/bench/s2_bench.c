/*
 * The work that the second-level tables are measured by, for callgrind to count.
 *
 *     s2_bench FORMAT nobody|counted [WORK...]
 *
 * Each workload is one function, and callgrind counts what runs inside it (tools/lib/bench_s2.py
 * has the bounds and the peers' figures). What prepares it and what holds its result against a walk
 * of its own lies outside. After each, a line on stdout: name, function, unit, operations, and what
 * the space counted of rounds, ranges and whole invalidations.
 *
 * Memory is `nobody`'s (outside the frame table, so no frame is looked after) or `counted` (each
 * leaf holds a frame of a guest). The machine's own answers to invalidations are not measured: here
 * they do nothing, and what is counted of them is what the core asks for.
 *
 * The sizes are those of the comparison: 1 GiB at guest-physical 4 GiB, as 262,144 pages or 512
 * blocks. Protect, harvest and collapse have no function in hyp/s2.h, so their workloads W4, W7 and
 * W8 are not here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/fake/fake.h"
#include "hyp/s2.h"

#include <arch/s2.h>

#define GUEST GIB(4) /* where the measured range begins */
#define SIZE GIB(1)
#define PAGES (SIZE / PAGE_SIZE)
#define BLOCKS (SIZE / BLOCK_SIZE)
#define IPA_BITS 40
#define OWNER 7
#define MACHINE GIB(4) /* RAM: two blocks of 1 GiB for the guest, the rest for tables */
#define NOBODYS GIB(8) /* host-physical, outside that RAM */
#define SEED 20260101
#define NOTHING (~0ull)

static const struct s2_attr rwx = {S2_RWX, S2_NORMAL};

static struct s2 s2;
static bool counted;
static hpa_t memory; /* 1 GiB and more behind it, at a boundary of 1 GiB */
static enum status status;
static u64 found; /* what the queries came to */
static u64 order_of_pages[PAGES];

static void demand(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "s2_bench: %s\n", what);
		exit(1);
	}
}

/* ---- The machine's part -------------------------------------------------------------------- */

void arch_s2_flush_range(unused const struct s2 *space, unused gpa_t start, unused u64 size,
			 unused unsigned level)
{
}

void arch_s2_flush_tail(unused const struct s2 *space)
{
}

void arch_s2_flush_space(unused const struct s2 *space)
{
}

void arch_s2_flush_local(unused const struct s2 *space)
{
}

void arch_s2_flush_idents(void)
{
}

/*
 * New tables are zeroed by this and not by the C library's, which takes what the host's CPU does
 * best; where that is a string instruction, callgrind counts each byte. Sixteen words at a time; a
 * table is 4 KiB.
 */
__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *memset(void *to, int byte,
									   size_t size)
{
	u64 word = (u8)byte * 0x0101010101010101ull;
	u64 *words = to;
	u8 *rest;

	for (; size >= 16 * sizeof(u64); size -= 16 * sizeof(u64), words += 16) {
#pragma GCC unroll 16
		for (unsigned i = 0; i < 16; i++) {
			words[i] = word;
		}
	}
	for (rest = (u8 *)words; size > 0; size--) {
		*rest++ = (u8)byte;
	}
	return to;
}

/* ---- The walk that results are held against ------------------------------------------------- */

/* As the manuals say, by the format's data and no function of the core; NOTHING where nothing is.
 */
static u64 walk(u64 at, unsigned *level)
{
	const struct s2_format *f = s2.format;
	const u64 *table = s2.root;

	for (*level = s2.root_level;; (*level)--) {
		unsigned shift = f->page_shift + *level * f->index_bits;
		u64 offset = at & (BIT(shift) - 1);
		u64 mask = *level == s2.root_level ? ~0ull : BIT(f->index_bits) - 1;
		u64 entry = table[(at >> shift) & mask];

		if (!(entry & f->present)) {
			return NOTHING;
		}
		if (*level == 0 || (entry & f->large_mask) == f->large_value) {
			return (entry & f->address) + offset;
		}
		table = (const u64 *)(uintptr_t)(entry & f->address);
	}
}

/* All of the range is mapped to `first` and on, by leaves of `level`. */
static void demand_mapped(hpa_t first, unsigned level)
{
	for (u64 i = 0; i < PAGES; i++) {
		unsigned at_level;
		u64 a = walk(GUEST + i * PAGE_SIZE, &at_level);

		demand(a == first.v + i * PAGE_SIZE, "a page is mapped to the wrong frame");
		demand(at_level == level, "a page is mapped by a leaf of the wrong size");
	}
}

/* Nothing is mapped, no table is left but the root, and no frame is a guest's. */
static void demand_nothing(void)
{
	unsigned level;

	for (u64 i = 0; i < PAGES; i++) {
		demand(walk(GUEST + i * PAGE_SIZE, &level) == NOTHING, "a page is still mapped");
	}
	demand(s2.stats.leaf_4k + s2.stats.leaf_2m + s2.stats.leaf_1g == 0, "leaves are counted");
	demand(s2.stats.tables == frame_count(FRAME_TABLE), "tables are counted wrongly");
	demand(s2.stats.tables == BIT(IPA_BITS) / BIT(s2.format->page_shift +
						      (s2.root_level + 1) * s2.format->index_bits),
	       "empty tables are left");
}

/* ---- Preparations -------------------------------------------------------------------------- */

/* Two neighbouring blocks of 1 GiB, as frames of the given order. */
static hpa_t take_guest_memory(unsigned order)
{
	hpa_t upper = frame_alloc(ORDER_1G, FRAME_GUEST, OWNER);
	hpa_t lower = frame_alloc(ORDER_1G, FRAME_GUEST, OWNER);

	demand(!hpa_is_none(lower) && lower.v + GIB(1) == upper.v, "no 2 GiB in one piece");
	frame_split(lower, order);
	frame_split(upper, order);
	return lower;
}

static void new_machine(const struct s2_format *format, unsigned order)
{
	fake_memory(MACHINE);
	memory = counted ? take_guest_memory(order) : hpa(NOBODYS);
	demand(s2_init(&s2, format, IPA_BITS, OWNER) == OK, "no space");
	status = OK;
}

static void map_all(u64 offset)
{
	demand(s2_map(&s2, gpa(GUEST), hpa_add(memory, offset), SIZE, rwx, S2_ERROR) == OK,
	       "preparing: s2_map failed");
}

static void prepare_nothing(void)
{
}

/* Off by a page, so that only pages fit. */
static void prepare_pages(void)
{
	map_all(PAGE_SIZE);
}

/* Off by a block, so that only blocks of 2 MiB fit. */
static void prepare_blocks(void)
{
	map_all(BLOCK_SIZE);
}

static void prepare_random(void)
{
	u64 random = SEED;

	prepare_pages();
	for (u64 i = 0; i < PAGES; i++) {
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		order_of_pages[i] = GUEST + (random >> 46) * PAGE_SIZE;
	}
	static_assert(PAGES == BIT(64 - 46), "the upper bits of the random number are a page");
}

/* ---- The workloads ------------------------------------------------------------------------- */

#define WORKLOAD static __attribute__((noinline, noclone)) void

WORKLOAD w1_map_one_page_a_call(void)
{
	for (u64 done = 0; done < SIZE; done += PAGE_SIZE) {
		status |= s2_map(&s2, gpa(GUEST + done), hpa_add(memory, done), PAGE_SIZE, rwx,
				 S2_ERROR);
	}
}

WORKLOAD w1f_fault_one_page_a_call(void)
{
	for (u64 done = 0; done < SIZE; done += PAGE_SIZE) {
		status |= s2_map_leaf(&s2, gpa(GUEST + done), 0, hpa_add(memory, done), rwx);
	}
}

WORKLOAD w2m_map_blocks_in_one_call(void)
{
	status = s2_map(&s2, gpa(GUEST), hpa_add(memory, BLOCK_SIZE), SIZE, rwx, S2_ERROR);
}

WORKLOAD w2c_map_one_block_a_call(void)
{
	for (u64 done = 0; done < SIZE; done += BLOCK_SIZE) {
		status |= s2_map(&s2, gpa(GUEST + done), hpa_add(memory, done), BLOCK_SIZE, rwx,
				 S2_ERROR);
	}
}

WORKLOAD w2s_map_pages_in_one_call(void)
{
	status = s2_map(&s2, gpa(GUEST), hpa_add(memory, PAGE_SIZE), SIZE, rwx, S2_ERROR);
}

WORKLOAD w3_unmap_one_page_a_call(void)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	for (u64 done = 0; done < SIZE; done += PAGE_SIZE) {
		status |= s2_unmap(&s2, gpa(GUEST + done), PAGE_SIZE, &batch);
	}
	s2_batch_close(&batch);
}

WORKLOAD w3r_unmap_in_one_call(void)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	status = s2_unmap(&s2, gpa(GUEST), SIZE, &batch);
	s2_batch_close(&batch);
}

/* Which page of the i-th block goes: a different one in each, with neighbours on both sides. */
static u64 hole_in_block(u64 i)
{
	return i * BLOCK_SIZE + (1 + i % (BLOCK_SIZE / PAGE_SIZE - 2)) * PAGE_SIZE;
}

WORKLOAD w5_unmap_one_page_of_each_block(void)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	for (u64 i = 0; i < BLOCKS; i++) {
		status |= s2_unmap(&s2, gpa(GUEST + hole_in_block(i)), PAGE_SIZE, &batch);
	}
	s2_batch_close(&batch);
}

WORKLOAD w6_query_a_random_page(void)
{
	for (u64 i = 0; i < PAGES; i++) {
		found += s2_query(&s2, gpa(order_of_pages[i])).hpa.v;
	}
}

/* ---- What must have come of them ----------------------------------------------------------- */

static void verify_pages(void)
{
	demand_mapped(memory, 0);
	demand(s2.stats.leaf_4k == PAGES, "pages are counted wrongly");
}

static void verify_pages_off_by_one(void)
{
	demand_mapped(hpa_add(memory, PAGE_SIZE), 0);
	demand(s2.stats.leaf_4k == PAGES, "pages are counted wrongly");
}

static void verify_blocks(void)
{
	demand_mapped(memory, 1);
	demand(s2.stats.leaf_2m == BLOCKS, "blocks are counted wrongly");
}

static void verify_blocks_off_by_one(void)
{
	demand_mapped(hpa_add(memory, BLOCK_SIZE), 1);
	demand(s2.stats.leaf_2m == BLOCKS, "blocks are counted wrongly");
}

static void verify_nothing(void)
{
	demand_nothing();
	demand(frame_count(FRAME_GUEST) == (counted ? PAGES : 0), "frames were not given back");
}

static void verify_holes(void)
{
	u64 holes = 0;

	for (u64 i = 0; i < PAGES; i++) {
		u64 at = i * PAGE_SIZE;
		unsigned level;
		u64 a = walk(GUEST + at, &level);

		if (at == hole_in_block(at / BLOCK_SIZE)) {
			demand(a == NOTHING, "a page is still mapped");
			holes++;
		} else {
			demand(a == memory.v + BLOCK_SIZE + at, "a neighbour was lost");
		}
	}
	demand(holes == BLOCKS && s2.stats.leaf_4k == PAGES - BLOCKS, "pages are counted wrongly");
}

static void verify_found(void)
{
	u64 expected = 0;

	for (u64 i = 0; i < PAGES; i++) {
		expected += memory.v + PAGE_SIZE + order_of_pages[i] - GUEST;
	}
	demand(found == expected, "a query found the wrong frame");
}

/* ---- The table of all ---------------------------------------------------------------------- */

struct work {
	const char *name, *function, *unit;
	u64 operations;
	unsigned order; /* of the guest's frames, where they are counted */
	void (*prepare)(void), (*run)(void), (*verify)(void);
};

#define WORK(name, unit, operations, order, prepare, run, verify)                                  \
	{                                                                                          \
		name, #run, unit, operations, order, prepare, run, verify                          \
	}

static const struct work works[] = {
	WORK("W1", "page", PAGES, ORDER_4K, prepare_nothing, w1_map_one_page_a_call, verify_pages),
	WORK("W1f", "page", PAGES, ORDER_4K, prepare_nothing, w1f_fault_one_page_a_call,
	     verify_pages),
	WORK("W2m", "block", BLOCKS, ORDER_2M, prepare_nothing, w2m_map_blocks_in_one_call,
	     verify_blocks_off_by_one),
	WORK("W2c", "block", BLOCKS, ORDER_2M, prepare_nothing, w2c_map_one_block_a_call,
	     verify_blocks),
	WORK("W2s", "page", PAGES, ORDER_4K, prepare_nothing, w2s_map_pages_in_one_call,
	     verify_pages_off_by_one),
	WORK("W3", "page", PAGES, ORDER_4K, prepare_pages, w3_unmap_one_page_a_call,
	     verify_nothing),
	WORK("W3r", "page", PAGES, ORDER_4K, prepare_pages, w3r_unmap_in_one_call, verify_nothing),
	WORK("W5", "split", BLOCKS, ORDER_2M, prepare_blocks, w5_unmap_one_page_of_each_block,
	     verify_holes),
	WORK("W6", "query", PAGES, ORDER_4K, prepare_random, w6_query_a_random_page, verify_found),
};

static void run_work(const struct work *work, const struct s2_format *format)
{
	struct s2_stats before;

	new_machine(format, work->order);
	work->prepare();
	before = s2.stats;
	work->run();
	demand(status == OK, "an operation was refused");
	work->verify();
	printf("%s %s %s %llu %llu %llu %llu\n", work->name, work->function, work->unit,
	       (unsigned long long)work->operations,
	       (unsigned long long)(s2.stats.batches - before.batches),
	       (unsigned long long)(s2.stats.flush_ranges - before.flush_ranges),
	       (unsigned long long)(s2.stats.flush_whole - before.flush_whole));
}

static bool is_wanted(const char *name, char **wanted, int count)
{
	for (int i = 0; i < count; i++) {
		if (strcmp(name, wanted[i]) == 0) {
			return true;
		}
	}
	return count == 0;
}

/* ---- The formats --------------------------------------------------------------------------- */

/* What the command line may name, and whether machines of that format broadcast invalidations. */
static const struct {
	const char *name;
	const struct s2_format *format;
	bool broadcasts;
} formats[] = {
	{"armv8", &s2_armv8_4k, true},
	{"armv8-fwb", &s2_armv8_4k_fwb, true},
};

static const struct s2_format *choose_format(const char *name)
{
	for (u64 i = 0; i < ARRAY_COUNT(formats); i++) {
		if (strcmp(name, formats[i].name) == 0) {
			fake_broadcasts = formats[i].broadcasts;
			return formats[i].format;
		}
	}
	fprintf(stderr, "s2_bench: no format is called %s; there are:", name);
	for (u64 i = 0; i < ARRAY_COUNT(formats); i++) {
		fprintf(stderr, " %s", formats[i].name);
	}
	fprintf(stderr, "\n");
	exit(2);
}

int main(int argc, char **argv)
{
	const struct s2_format *format;

	if (argc < 3 || (strcmp(argv[2], "nobody") != 0 && strcmp(argv[2], "counted") != 0)) {
		fprintf(stderr, "usage: s2_bench FORMAT nobody|counted [WORK...]\n");
		return 2;
	}
	format = choose_format(argv[1]);
	counted = strcmp(argv[2], "counted") == 0;
	for (u64 i = 0; i < ARRAY_COUNT(works); i++) {
		if (is_wanted(works[i].name, argv + 3, argc - 3)) {
			run_work(&works[i], format);
		}
	}
	return 0;
}
