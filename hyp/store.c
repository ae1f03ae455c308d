#include "hyp/store.h"

/* For the call that does not clear its 16 KiB of state each time. */
#define LZ4_STATIC_LINKING_ONLY
#include <lz4.h>
#include <string.h>

#include "hyp/atomic.h"
#include "hyp/cpu.h"
#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/store_disk.h"
#include "hyp/store_pool.h"

#include <arch/cpu.h>

#define WORDS (PAGE_SIZE / sizeof(u64))

/* Each CPU's own. */
struct workspace {
	void *lz4_state;
	u8 object[STORE_POOL_OBJECT_MAX];
};

static struct {
	u32 allowed;
	u8 *workspaces; /* by CPU */
	u64 workspace_size;
} store;

struct store_stats store_stats;

/* ---- Life ----------------------------------------------------------------------------------- */

enum status store_init(u32 allowed, u64 pages, u64 pool_max)
{
	enum status status;

	memset(&store_stats, 0, sizeof(store_stats));
	store.allowed = allowed;
	store.workspaces = NULL;
	if (!(allowed & BIT(STORE_zswap))) {
		return OK;
	}
	store.workspace_size =
		align_up(sizeof(struct workspace) + (u64)LZ4_sizeofState(), PAGE_SIZE);
	store.workspaces = hyp_alloc(cpu_count * store.workspace_size);
	if (!store.workspaces) {
		return NOMEM;
	}
	status = store_pool_init(pages, pool_max / PAGE_SIZE);
	if (status != OK) {
		hyp_free(store.workspaces);
	}
	return status;
}

void store_fini(void)
{
	if (store.workspaces) {
		store_pool_fini();
		hyp_free(store.workspaces);
		store.workspaces = NULL;
	}
}

static struct workspace *my_workspace(void)
{
	u8 *mine = store.workspaces + this_cpu_id() * store.workspace_size;
	struct workspace *w = (struct workspace *)mine;

	w->lz4_state = mine + align_up(sizeof(*w), 16);
	return w;
}

/* ---- Pages that say little ------------------------------------------------------------------- */

static bool is_filled(const u64 *words, u64 word)
{
	u64 i = 0;

	while (i < WORDS && words[i] == word) {
		i++;
	}
	return i == WORDS;
}

static enum status put_filled(const u64 *words, u64 *slot)
{
	u64 word = words[0], half = (u32)word;
	enum store_kind kind = word ? STORE_same : STORE_zero;

	if (!(store.allowed & BIT(kind)) || word != (half | half << 32) ||
	    !is_filled(words, word)) {
		return NOENT;
	}
	*slot = store_slot(kind, (u32)half);
	return OK;
}

static void get_filled(u64 slot, u64 *words)
{
	u64 half = (u32)slot;

	for (u64 i = 0; i < WORDS; i++) {
		words[i] = half | half << 32;
	}
}

/* ---- Compressed pages ------------------------------------------------------------------------ */

/* Returns the size of what is in `object`; 0: it is not small enough. */
static u32 compress(const void *page, struct workspace *w)
{
	int size;

	arch_fp_borrow();
	/* The state was zero once, and is lz4's own since. */
	size = LZ4_compress_fast_extState_fastReset(w->lz4_state, page, (char *)w->object,
						    PAGE_SIZE, STORE_POOL_OBJECT_MAX, 1);
	arch_fp_return();
	return (u32)size;
}

static enum status put_compressed(const void *page, u64 *slot)
{
	struct workspace *w = my_workspace();
	u32 size = compress(page, w), handle = 0;
	enum status status;

	if (size == 0) {
		atomic_add(&store_stats.reject_compress_poor, 1);
		return FULL;
	}
	status = store_pool_put(w->object, size, &handle);
	if (status != OK) {
		atomic_add(status == NOMEM ? &store_stats.reject_alloc_fail
					   : &store_stats.pool_limit_hit,
			   1);
		return FULL;
	}
	*slot = store_slot(STORE_zswap, handle);
	return OK;
}

static bool get_compressed(u32 handle, void *page)
{
	struct workspace *w = my_workspace();
	u32 size = store_pool_get(handle, w->object);
	int got;

	arch_fp_borrow();
	got = LZ4_decompress_safe((const char *)w->object, page, (int)size, PAGE_SIZE);
	arch_fp_return();
	return got == PAGE_SIZE;
}

/* ---- Any page ------------------------------------------------------------------------------- */

enum status store_put(const void *page, u64 *slot)
{
	if (put_filled(page, slot) == OK) {
		return OK;
	}
	return store.allowed & BIT(STORE_zswap) ? put_compressed(page, slot) : FULL;
}

bool store_get(u64 slot, void *page)
{
	if (store_kind_of(slot) == STORE_zswap) {
		return get_compressed((u32)slot, page);
	}
	get_filled(slot, page);
	return true;
}

void store_free(u64 slot)
{
	if (store_kind_of(slot) == STORE_zswap) {
		store_pool_free((u32)slot);
	} else if (store_kind_of(slot) == STORE_disk) {
		store_disk_free((u32)slot);
	}
}

/*
 * For a given sum each step is one to one in the word, and for a given word in the sum: so what
 * differs in one word stays different. Multiplication carries bits upwards only, so the halves are
 * mixed.
 */
u64 store_hash(const void *page)
{
	const u64 *words = page;
	u64 sum = 0;

	for (u64 i = 0; i < WORDS; i++) {
		sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15ull;
		sum ^= sum >> 32;
	}
	return sum;
}
