/* Records of pages, and who may have how many: what the other files of swap stand on. */
#include "swap_internal.h"

#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/store_disk.h"
#include "hyp/store_pool.h"

#include <string.h>

/* What CPUs that charge at once may exceed a limit by for a moment: each a page, and one of the
 * pool's. */
#define SLACK (2 * CPU_MAX)

static struct {
	u64 max; /* pages for all guests; 0: no overcommit */
	const struct reclaim_policy *policy;
	u64 charged; /* atomic */
} machine;

/* What is no guest's: the pool's frames, and those that guests share. */
static u64 not_charged(void)
{
	return load_relaxed(&store_pool_stats.mem_used_total) / PAGE_SIZE + swap_machine_shared();
}

u64 swap_machine_max(void)
{
	return machine.max;
}

u64 swap_machine_charged(void)
{
	return load_relaxed(&machine.charged) + not_charged();
}

/* ---- Life ----------------------------------------------------------------------------------- */

static u64 pages_of_all(const struct config *config)
{
	u64 bytes = 0;

	for (u32 i = 0; i < config->vm_count; i++) {
		bytes += config->vms[i].valid ? config->vms[i].memory : 0;
	}
	return bytes / PAGE_SIZE;
}

enum status swap_init(const struct config *config)
{
	enum status status;

	memset(&machine, 0, sizeof(machine));
	if (config->guest_memory == 0) {
		return INVALID;
	}
	status = store_init(config->stores, pages_of_all(config), config->zswap_max);
	if (status == OK) {
		machine.max = config->guest_memory / PAGE_SIZE;
		machine.policy = config->reclaim;
	}
	return status;
}

/* What is left says how it went. */
static void free_tables(struct swap *swap)
{
	void *tables[] = {swap->pages,	 swap->choice.pages, swap->blocks.pages, swap->is_whole,
			  swap->victims, swap->writes,	     swap->kept};

	for (u32 i = 0; i < ARRAY_COUNT(tables); i++) {
		hyp_free(tables[i]);
	}
	swap_age_free(swap);
}

static bool alloc_for_disk(struct swap *swap)
{
	if (!store_disk_is_on()) {
		return true;
	}
	swap->writes = swap_writes_create();
	swap->kept = hyp_alloc(swap->page_count * sizeof(*swap->kept));
	return swap->writes && swap->kept;
}

static bool alloc_tables(struct swap *swap)
{
	u64 pages = swap->page_count, blocks = pages / SWAP_BLOCK_PAGES;

	swap->pages = hyp_alloc(pages * sizeof(*swap->pages));
	swap->choice.pages = hyp_alloc(pages * sizeof(*swap->choice.pages));
	swap->blocks.pages = hyp_alloc(blocks * sizeof(*swap->blocks.pages));
	swap->is_whole = hyp_alloc(blocks);
	swap->victims = hyp_alloc(SWAP_RUN_MAX * sizeof(*swap->victims));
	return swap_age_init(swap) && alloc_for_disk(swap) && swap->pages && swap->choice.pages &&
	       swap->blocks.pages && swap->is_whole && swap->victims;
}

static u64 limit_pages(u64 bytes, u64 pages)
{
	return bytes ? bytes / PAGE_SIZE : pages;
}

static void begin_choice(struct swap *swap)
{
	u64 pages = swap->page_count, blocks = pages / SWAP_BLOCK_PAGES;

	reclaim_init(&swap->choice, machine.policy, swap->choice.pages, (u32)pages, (u32)pages);
	reclaim_init(&swap->blocks, &reclaim_clock, swap->blocks.pages, (u32)blocks, (u32)blocks);
}

enum status swap_begin(struct vm *vm, const struct config_vm *config)
{
	struct swap *swap;

	if (machine.max == 0) {
		return OK;
	}
	swap = hyp_alloc(sizeof(*swap));
	if (!swap) {
		return NOMEM;
	}
	swap->vm = vm;
	swap->page_count = vm->ram.size / PAGE_SIZE;
	swap->min = config->memory_min / PAGE_SIZE;
	swap->high = limit_pages(config->memory_high, swap->page_count);
	swap->max = limit_pages(config->memory_max, swap->page_count);
	if (!alloc_tables(swap)) {
		free_tables(swap);
		hyp_free(swap);
		return NOMEM;
	}
	begin_choice(swap);
	vm->swap = swap;
	return OK;
}

void swap_discard_slot(struct swap *swap, u64 slot)
{
	store_free(slot);
	atomic_sub(&swap->stored[store_kind_of(slot)], 1);
	atomic_add(&swap->totals.counters.pgdiscard, 1);
}

void swap_drop_kept(struct swap *swap, u64 page)
{
	if (swap->kept && swap->kept[page] != 0) {
		store_disk_free(swap->kept[page] - 1);
		swap->kept[page] = 0;
	}
}

/* Whatever the page was; nobody else comes to it. */
static void forget_page(struct swap *swap, u64 number)
{
	struct swap_page *page = &swap->pages[number];
	u64 word = load_relaxed(&page->word);

	if (swap_state(word) == SWAP_STORED) {
		swap_discard_slot(swap, swap_slot(word));
	} else if (swap_state(word) == SWAP_RESIDENT) {
		swap_uncharge(swap, 1);
	} else if (swap_state(word) == SWAP_SHARED) {
		swap_count_sharing(-1);
	}
	swap_drop_kept(swap, number);
	page->newcomer = 0;
	swap_release(page, SWAP_UNTOUCHED);
}

/* With the lock: a run that was on has ended, so nothing is in flight. */
static void forget_all(struct swap *swap)
{
	for (u64 i = 0; i < swap->page_count; i++) {
		forget_page(swap, i);
	}
	swap->newcomers = 0;
}

void swap_forget(struct vm *vm)
{
	struct swap *swap = vm->swap;

	if (!swap) {
		return;
	}
	lock_take(&swap->lock);
	forget_all(swap);
	memset(swap->is_whole, 0, swap->page_count / SWAP_BLOCK_PAGES);
	swap_age_forget(swap);
	begin_choice(swap);
	lock_drop(&swap->lock);
}

void swap_end(struct vm *vm)
{
	struct swap *swap = vm->swap;

	if (!swap) {
		return;
	}
	lock_take(&swap->lock);
	forget_all(swap);
	swap->has_ended = true;
	free_tables(swap);
	lock_drop(&swap->lock);
}

/* ---- Pages ---------------------------------------------------------------------------------- */

gpa_t swap_gpa(const struct swap *swap, u64 page)
{
	return vm_ram_piece(&swap->vm->ram, page * PAGE_SIZE).base;
}

void swap_became_resident(struct swap *swap, u64 page)
{
	struct swap_page *p = &swap->pages[page];
	u32 before;

	swap_release(p, SWAP_RESIDENT);
	do {
		before = load_relaxed(&swap->newcomers);
		p->newcomer = before;
	} while (!cas_u32(&swap->newcomers, before, (u32)page + 1));
}

/* With the lock nothing is in flight; and no fault has a record. */
static void stop_faults(struct swap *swap)
{
	lock_take(&swap->lock);
	store_relaxed(&swap->is_counted, true);
	fence_full(); /* either a fault sees that, or we see the fault */
	while (load_acquire(&swap->faulting) > 0) {
		cpu_relax();
	}
}

static void let_faults(struct swap *swap)
{
	store_release(&swap->is_counted, false);
	lock_drop(&swap->lock);
}

static void take_census(const struct swap *swap, struct swap_census *c)
{
	*c = (struct swap_census){.total = swap->page_count};
	if (swap->has_ended) {
		c->untouched = c->total;
		return;
	}
	for (u64 i = 0; i < swap->page_count; i++) {
		u64 word = load_relaxed(&swap->pages[i].word);

		c->untouched += swap_state(word) == SWAP_UNTOUCHED;
		c->resident += swap_state(word) == SWAP_RESIDENT;
		c->shared += swap_state(word) == SWAP_SHARED;
		if (swap_state(word) == SWAP_STORED) {
			c->stored[store_kind_of(swap_slot(word))]++;
		}
	}
}

void swap_count(struct swap *swap, struct swap_census *census, struct swap_totals *totals)
{
	stop_faults(swap);
	take_census(swap, census);
	*totals = swap->totals;
	let_faults(swap);
}

/* ---- Charges -------------------------------------------------------------------------------- */

bool swap_charge(struct swap *swap, u64 pages)
{
	u64 own = atomic_add(&swap->charged, pages);
	u64 all = atomic_add(&machine.charged, pages);

	if (own <= load_relaxed(&swap->max) && all + not_charged() + SLACK <= machine.max) {
		return true;
	}
	swap_uncharge(swap, pages);
	return false;
}

void swap_uncharge(struct swap *swap, u64 pages)
{
	atomic_sub(&swap->charged, pages);
	atomic_sub(&machine.charged, pages);
}

u64 swap_room(void)
{
	u64 charged = swap_machine_charged() + SLACK;

	return charged < machine.max ? machine.max - charged : 0;
}
