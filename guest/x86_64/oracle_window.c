/* The guest's own page tables, for the range that begins at WINDOW. */
#include "oracle.h"

#define ROOT_INDEX (WINDOW >> 39)
#define TABLE_FLAGS (PAGE_PRESENT | PAGE_WRITE | PAGE_USER)

#define ALIGNED __attribute__((aligned(4096)))
u64 window_leaves[WINDOW_PAGES] ALIGNED;
u64 window_directory[512] ALIGNED;
static u64 pointers[512] ALIGNED;

u64 *window_entry(enum window_level level)
{
	u64 *root = (u64 *)(read_register("cr3") & ~(PAGE_SIZE - 1));

	switch (level) {
	case WINDOW_LEAF:
		return &window_leaves[0];
	case WINDOW_DIRECTORY:
		return &window_directory[0];
	case WINDOW_POINTERS:
		return &pointers[0];
	default:
		return &root[ROOT_INDEX];
	}
}

void window_open(void)
{
	memset(window_leaves, 0, sizeof(window_leaves));
	memset(window_directory, 0, sizeof(window_directory));
	entry_set(window_entry(WINDOW_DIRECTORY), (u64)window_leaves | TABLE_FLAGS);
	entry_set(window_entry(WINDOW_POINTERS), (u64)window_directory | TABLE_FLAGS);
	entry_set(window_entry(WINDOW_ROOT), (u64)pointers | TABLE_FLAGS);
	flush_all();
}

void window_close(void)
{
	entry_set(window_entry(WINDOW_ROOT), 0);
	flush_all();
}

void flush_page(u64 at)
{
	__asm__ volatile("invlpg (%0)" ::"r"(at) : "memory");
}

/* Global ones, too (SDM volume 3A, 4.10.4.1): a change of CR4.PGE does it. */
void flush_all(void)
{
	u64 cr4 = read_register("cr4");

	write_register("cr4", cr4 ^ CR4_PGE);
	write_register("cr4", cr4);
}

u64 window_set(u32 n, u64 entry)
{
	u64 at = WINDOW + n * PAGE_SIZE;

	entry_set(&window_leaves[n], entry);
	flush_page(at);
	return at;
}
