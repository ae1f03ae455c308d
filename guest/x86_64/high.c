/*
 * RAM that goes on behind the devices: as much as the memory map tells lies from 4 GiB on, byte for
 * byte apart from what is below, and in between nothing answers.
 *
 * Bootargs: low=MiB high=MiB, what is to be found.
 */
#include "lib.h"

#define MIB (1ul << 20)
#define GIB (1ul << 30)
#define HIGH_BASE (4 * GIB)
#define HAS_RANGES 0x40u
#define RANGE_USABLE 1
#define ENTRY_PRESENT_WRITE 3ul
#define ENTRY_LARGE 0x80ul
#define ENTRY_ADDRESS 0x000ffffffffff000ul
#define GIGABYTES 4 /* of high RAM that can be looked at */
#define EDGE_PAGES 64
#define STEP (64 * MIB)

struct information {
	u32 flags, others[10];
	u32 map_length, map;
};

struct __attribute__((packed)) map_range {
	u32 size; /* of what follows */
	u64 start, length;
	u32 type;
};

static u64 low_end, high_size;

/* ---- What was told --------------------------------------------------------------------------- */

static void note_range(const struct map_range *r)
{
	if (r->type != RANGE_USABLE) {
		return;
	}
	if (r->start >= HIGH_BASE) {
		check_equal("high_ram_begins_at_4_gib", r->start, HIGH_BASE);
		high_size += r->length;
	} else if (r->start + r->length > low_end) {
		low_end = r->start + r->length;
	}
}

static void read_map(void)
{
	const struct information *info = (const void *)(u64)entry_state.ebx;
	u64 end = (u64)info->map + info->map_length;

	check("a_memory_map_is_told", info->flags & HAS_RANGES, "flags 0x%x", info->flags);
	for (u64 at = info->map; at < end;) {
		const struct map_range *r = (const void *)at;

		note_range(r);
		at += sizeof(r->size) + r->size;
	}
	check_equal("low_ram_ends_where_it_should", low_end, bootarg("low", 3072) * MIB);
	check_equal("high_ram_is_as_large_as_it_should", high_size, bootarg("high", 0) * MIB);
}

/* ---- Reaching it ----------------------------------------------------------------------------- */

/* The library's map ends at 4 GiB: it goes on. */
static void map_high(void)
{
	static u64 blocks[GIGABYTES][512] __attribute__((aligned(4096)));
	u64 *root, *pointers, cr3;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	root = (u64 *)(cr3 & ENTRY_ADDRESS);
	pointers = (u64 *)(root[0] & ENTRY_ADDRESS);
	for (u64 i = 0; i < GIGABYTES; i++) {
		for (u64 j = 0; j < 512; j++) {
			blocks[i][j] = (HIGH_BASE + i * GIB + j * BLOCK_SIZE) |
				       ENTRY_PRESENT_WRITE | ENTRY_LARGE;
		}
		pointers[HIGH_BASE / GIB + i] = (u64)blocks[i] | ENTRY_PRESENT_WRITE;
	}
}

/* ---- Touching it ----------------------------------------------------------------------------- */

typedef void (*page_fn)(u64 page);

static void edge(u64 first, page_fn fn)
{
	for (u64 i = 0; i < EDGE_PAGES; i++) {
		fn(first + i * PAGE_SIZE);
	}
}

/* Both sides of the hole, the end of all, what differs from them by 4 GiB, and some of the rest. */
static void for_pages(page_fn fn)
{
	edge(low_end - EDGE_PAGES * PAGE_SIZE, fn);
	edge(HIGH_BASE, fn);
	edge(HIGH_BASE + high_size - EDGE_PAGES * PAGE_SIZE, fn);
	for (u64 offset = STEP; offset + STEP <= high_size; offset += STEP) {
		fn(offset);
		fn(HIGH_BASE + offset);
	}
}

static u64 fresh_wrong, kept_wrong;

static void fill(u64 page)
{
	fresh_wrong += read64(page) != 0 || read64(page + PAGE_SIZE - 8) != 0;
	write64(page, page ^ 0x5555);
	write64(page + PAGE_SIZE - 8, ~page);
}

static void verify(u64 page)
{
	kept_wrong += read64(page) != (page ^ 0x5555) || read64(page + PAGE_SIZE - 8) != ~page;
}

static void look_into_hole(u64 first, u64 last)
{
	check_equal("the_first_page_of_the_hole_is_ones", read64(first), ~0ul);
	check_equal("the_last_page_of_the_hole_is_ones", read64(last), ~0ul);
}

void guest_main(void)
{
	read_map();
	map_high();
	for_pages(fill);
	for_pages(verify);
	check_equal("fresh_pages_are_zero", fresh_wrong, 0);
	check_equal("every_page_keeps_its_own", kept_wrong, 0);
	look_into_hole(low_end, HIGH_BASE - PAGE_SIZE);
	check_equal("nothing_is_behind_the_end", read64(HIGH_BASE + high_size), ~0ul);
}
