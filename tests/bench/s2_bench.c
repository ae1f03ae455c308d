/*
 * The work that the second-level tables are measured by, for callgrind to count.
 *
 *     s2_bench FORMAT nobody|counted [WORK...]      s2_bench formats: their names
 *
 * Each workload is one function, and callgrind counts what runs inside it (tools/lib/bench_s2.py
 * has the bounds and the peers' figures). What prepares it and what holds its result against a walk
 * of its own lies outside. After each, a line on stdout: name, function, unit, operations, rounds
 * of invalidation that the machine was asked for, and what the space counted of ranges and of whole
 * invalidations.
 *
 * Memory is `nobody`'s (outside the frame table, so no frame is looked after) or `counted` (each
 * leaf holds a frame of a guest). The machine's own answers to invalidations are not measured: here
 * they do nothing but count.
 *
 * The sizes are those of the comparison: 1 GiB at guest-physical 4 GiB, as 262,144 pages or 512
 * blocks; W7c and W7d have 64 GiB there, of nobody's memory. All that is random follows from SEED.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/fake/fake.h"
#include "../../arch/x86_64/s2_ept.h"
#include "hyp/s2.h"

#include <arch/s2.h>

#define GUEST GIB(4) /* where the measured range begins */
#define SIZE GIB(1)
#define LARGE_SIZE GIB(64)
#define PAGES (SIZE / PAGE_SIZE)
#define BLOCKS (SIZE / BLOCK_SIZE)
#define LARGE_PAGES (LARGE_SIZE / PAGE_SIZE)
#define PAGES_OF_TABLE (BLOCK_SIZE / PAGE_SIZE)
#define IPA_BITS 40
#define OWNER 7
#define MACHINE GIB(4) /* RAM: two blocks of 1 GiB for the guest, the rest for tables */
#define NOBODYS GIB(8) /* host-physical, outside that RAM */
#define SEED 20260101
#define NOTHING (~0ull)

static const struct s2_attr rwx = {.perm = S2_RWX, .memory = S2_NORMAL};

/*
 * What the MMU makes of an entry, by the manuals: EPT, SDM volume 3, tables 29-1 to 29-6; stage 2,
 * DDI 0487, D8.3.2. Both have 4 KiB tables of 512 entries.
 */
struct mmu {
	const char *name;
	const struct s2_format *format;
	bool broadcasts; /* do such machines tell all CPUs of an invalidation? */
	u64 present;	 /* any of these */
	u64 large_mask, large_value;
	u64 address;
	u64 write;
	u64 leaf_accessed;
	u64 table_accessed; /* the MMU's flag; on stage 2 the mark that the fault of a first use
			       sets */
	unsigned top_level; /* 0: the root's */
	u8 traits;
};

static const struct mmu mmus[] = {
	{"stage2", &s2_armv8_4k, true, BIT(0), BIT(1), 0, BITS(47, 12), BIT(7), BIT(10), BIT(57), 0,
	 0},
	{"ept", &s2_ept, false, BITS(2, 0), BIT(7), BIT(7), BITS(51, 12), BIT(1), BIT(8), BIT(8), 3,
	 S2_HARDWARE_ACCESSED | S2_HARDWARE_DIRTY},
};

static const struct mmu *mmu;
static struct s2 s2;
static u64 rounds_asked; /* of the machine, where it broadcasts */
static bool counted;
static hpa_t memory; /* 1 GiB and more behind it, at a boundary of 1 GiB */
static enum status status;
static u64 random_state;
static u64 tables_at_start;
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

u64 arch_s2_flush_cost(unused const struct s2 *space, u64 size, unused unsigned level)
{
	return size / BLOCK_SIZE; /* as a machine without ranges, which counts blocks */
}

void arch_s2_flush_tail(unused const struct s2 *space)
{
	rounds_asked++;
}

void arch_s2_flush_space(unused const struct s2 *space)
{
	rounds_asked++;
}

void arch_s2_flush_local(unused const struct s2 *space)
{
}

void arch_s2_flush_idents(void)
{
}

/* Where nothing is broadcast, the core asks by a new generation. */
static u64 rounds(void)
{
	return mmu->broadcasts ? rounds_asked : s2.flush_generation;
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

typedef void (*visit_fn)(u64 *table_entry);

/* The entry that `at` ends at, which is not present where nothing is mapped; `visit` may be NULL.
 */
static u64 *walk_to(u64 at, unsigned *level, visit_fn visit)
{
	unsigned top = mmu->top_level ? mmu->top_level : s2.root_level;
	u64 *table = s2.top;

	for (*level = top;; (*level)--) {
		u64 index = at >> (12 + *level * 9);
		/* Arm's root is of several tables side by side. */
		u64 *entry = &table[*level == top ? index : index & 511];

		if (!(*entry & mmu->present) || *level == 0 ||
		    (*entry & mmu->large_mask) == mmu->large_value) {
			return entry;
		}
		if (visit) {
			visit(entry);
		}
		table = (u64 *)(uintptr_t)(*entry & mmu->address);
	}
}

/* Where `at` is mapped to; NOTHING where it is not. */
static u64 walk(u64 at, unsigned *level)
{
	u64 entry = *walk_to(at, level, NULL), size = BIT(12 + *level * 9);

	if (!(entry & mmu->present)) {
		return NOTHING;
	}
	return (entry & mmu->address & ~(size - 1)) | (at & (size - 1));
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
	demand(s2.stats.tables == tables_at_start, "empty tables are left");
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

static void new_machine(unsigned order)
{
	fake_memory(MACHINE);
	memory = counted ? take_guest_memory(order) : hpa(NOBODYS);
	demand(s2_init(&s2, mmu->format, IPA_BITS, OWNER) == OK, "no space");
	s2.traits = mmu->traits;
	tables_at_start = s2.stats.tables;
	status = OK;
	random_state = SEED;
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

static u64 random_below(u64 limit)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (random_state >> 32) * limit >> 32;
}

static void prepare_random(void)
{
	prepare_pages();
	for (u64 i = 0; i < PAGES; i++) {
		order_of_pages[i] = GUEST + random_below(PAGES) * PAGE_SIZE;
	}
}

/* Pages that could be blocks: each is mapped by a call of its own. */
static void prepare_small_pages(void)
{
	for (u64 done = 0; done < SIZE; done += PAGE_SIZE) {
		demand(s2_map(&s2, gpa(GUEST + done), hpa_add(memory, BLOCK_SIZE + done), PAGE_SIZE,
			      rwx, S2_ERROR) == OK,
		       "preparing: s2_map failed");
	}
}

static u64 young[LARGE_PAGES / 64];	     /* what the harvest reports: bit i, page i */
static u64 expected_young[LARGE_PAGES / 64]; /* what was accessed */

static void set_accessed(u64 *table_entry)
{
	*table_entry |= mmu->table_accessed;
}

static void clear_accessed(u64 *table_entry)
{
	*table_entry &= ~mmu->table_accessed;
}

/* As the MMU does it for an access to the page. */
static void access_page(u64 page)
{
	unsigned level;

	*walk_to(GUEST + page * PAGE_SIZE, &level, set_accessed) |= mmu->leaf_accessed;
	expected_young[page / 64] |= BIT(page % 64);
}

/* Of `pages` mapped pages none was accessed, but perhaps their tables. */
static void make_all_old(u64 pages, visit_fn tables)
{
	memset(young, 0, sizeof(young));
	memset(expected_young, 0, sizeof(expected_young));
	for (u64 first = 0; first < pages; first += PAGES_OF_TABLE) {
		unsigned level;
		u64 *entry = walk_to(GUEST + first * PAGE_SIZE, &level, tables);

		demand(level == 0, "preparing: no pages");
		for (u64 i = 0; i < PAGES_OF_TABLE; i++) {
			entry[i] &= ~mmu->leaf_accessed;
		}
	}
}

/* W7a: one page of a hundred, anywhere. */
static void prepare_young(void)
{
	prepare_pages();
	make_all_old(PAGES, set_accessed);
	for (u64 i = 0; i < PAGES / 100; i++) {
		access_page(random_below(PAGES));
	}
}

/* W7c, W7d: one page of a thousand. Those of a guest's working set are no strangers to each other:
 * all lie in one of ten tables. */
static void prepare_young_of_large(visit_fn tables)
{
	demand(s2_map(&s2, gpa(GUEST), hpa_add(memory, PAGE_SIZE), LARGE_SIZE, rwx, S2_ERROR) == OK,
	       "preparing: s2_map failed");
	make_all_old(LARGE_PAGES, tables);
	for (u64 i = 0; i < LARGE_PAGES / 1000; i++) {
		u64 table = random_below(LARGE_PAGES / PAGES_OF_TABLE / 10) * 10;

		access_page(table * PAGES_OF_TABLE + random_below(PAGES_OF_TABLE));
	}
}

static void prepare_young_all_tables(void)
{
	prepare_young_of_large(set_accessed);
}

static void prepare_young_true_tables(void)
{
	prepare_young_of_large(clear_accessed);
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
	return i * BLOCK_SIZE + (1 + i % (PAGES_OF_TABLE - 2)) * PAGE_SIZE;
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

WORKLOAD w4_drop_write_in_one_call(void)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	status = s2_protect(&s2, gpa(GUEST), SIZE, S2_READ | S2_EXEC, &batch);
	s2_batch_close(&batch);
}

WORKLOAD w8_collapse_in_one_call(void)
{
	struct s2_collapsed report = {0};
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	status = s2_collapse(&s2, gpa(GUEST), SIZE, 1, &batch, &report);
	s2_batch_close(&batch);
}

static inline void harvest(u64 size)
{
	struct s2_harvest harvest = {.bitmap = young, .clear = true};

	status = s2_harvest(&s2, gpa(GUEST), size, &harvest);
}

WORKLOAD w7a_harvest_pages(void)
{
	harvest(SIZE);
}

WORKLOAD w7c_harvest_much(void)
{
	harvest(LARGE_SIZE);
}

WORKLOAD w7d_harvest_much_of_few_tables(void)
{
	harvest(LARGE_SIZE);
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

static void verify_protected(void)
{
	verify_pages_off_by_one();
	for (u64 i = 0; i < PAGES; i++) {
		unsigned level;

		demand(!(*walk_to(GUEST + i * PAGE_SIZE, &level, NULL) & mmu->write),
		       "a page can still be written");
	}
}

/* Exactly what was accessed is reported, and is cleared. */
static void verify_young(void)
{
	demand(memcmp(young, expected_young, sizeof(young)) == 0, "the wrong pages are young");
	for (u64 i = 0; i < LARGE_PAGES; i++) {
		unsigned level;

		if ((expected_young[i / 64] >> (i % 64)) & 1) {
			demand(!(*walk_to(GUEST + i * PAGE_SIZE, &level, NULL) &
				 mmu->leaf_accessed),
			       "a page stays young");
		}
	}
}

/* ---- The table of all ---------------------------------------------------------------------- */

#define NOBODYS_ALONE 0xff /* in place of an order: too much memory to count */

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
	WORK("W4", "page", PAGES, ORDER_4K, prepare_pages, w4_drop_write_in_one_call,
	     verify_protected),
	WORK("W5", "split", BLOCKS, ORDER_2M, prepare_blocks, w5_unmap_one_page_of_each_block,
	     verify_holes),
	WORK("W6", "query", PAGES, ORDER_4K, prepare_random, w6_query_a_random_page, verify_found),
	WORK("W7a", "page", PAGES, ORDER_4K, prepare_young, w7a_harvest_pages, verify_young),
	WORK("W7c", "page", LARGE_PAGES, NOBODYS_ALONE, prepare_young_all_tables, w7c_harvest_much,
	     verify_young),
	WORK("W7d", "page", LARGE_PAGES, NOBODYS_ALONE, prepare_young_true_tables,
	     w7d_harvest_much_of_few_tables, verify_young),
	WORK("W8", "block", BLOCKS, ORDER_4K, prepare_small_pages, w8_collapse_in_one_call,
	     verify_blocks_off_by_one),
};

static bool is_possible(const struct work *work)
{
	return !(counted && work->order == NOBODYS_ALONE);
}

static void run_work(const struct work *work)
{
	struct s2_stats before;
	u64 rounds_before;

	new_machine(work->order);
	work->prepare();
	before = s2.stats;
	rounds_before = rounds();
	work->run();
	demand(status == OK, "an operation was refused");
	work->verify();
	printf("%s %s %s %llu %llu %llu %llu\n", work->name, work->function, work->unit,
	       (unsigned long long)work->operations, (unsigned long long)(rounds() - rounds_before),
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

static void choose_format(const char *name)
{
	for (u64 i = 0; i < ARRAY_COUNT(mmus); i++) {
		if (strcmp(name, mmus[i].name) == 0) {
			mmu = &mmus[i];
			fake_broadcasts = mmu->broadcasts;
			return;
		}
	}
	fprintf(stderr, "s2_bench: no format is called %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "formats") == 0) {
		for (u64 i = 0; i < ARRAY_COUNT(mmus); i++) {
			printf("%s\n", mmus[i].name);
		}
		return 0;
	}
	if (argc < 3 || (strcmp(argv[2], "nobody") != 0 && strcmp(argv[2], "counted") != 0)) {
		fprintf(stderr, "usage: s2_bench FORMAT nobody|counted [WORK...] | formats\n");
		return 2;
	}
	choose_format(argv[1]);
	counted = strcmp(argv[2], "counted") == 0;
	for (u64 i = 0; i < ARRAY_COUNT(works); i++) {
		if (is_wanted(works[i].name, argv + 3, argc - 3) && is_possible(&works[i])) {
			run_work(&works[i]);
		}
	}
	return 0;
}
