/*
 * When pages are to go, and whose: watermarks, limits, and faults that find no room.
 *
 * The tick keeps some room free, so that faults find it; a fault that finds none makes some itself.
 */
#include "swap_internal.h"

#include "hyp/store_pool.h"
#include "hyp/swap_pressure.h"

/* Of what all guests may have: below LOW the tick takes pages until HIGH are free. */
#define LOW(max) ((max) / 64)
#define HIGH(max) ((max) / 32)

/* What one run is asked for: a round of invalidation is worth so many pages. */
#define RUN_PAGES 1024
/* Ticks between two looks at blocks that might be put together again: nothing waits for that. */
#define REFOLD_TICKS 10
/* Of the pool's frames, how many a tick may empty. */
#define COMPACT_FRAMES 8
/* Faults that could not make room, one after the other, before their guest is told. */
#define FAILURES_MAX 256

/* What the guest is held to, in pages. */
static u64 bound_of(const struct swap *swap)
{
	return min_u64(load_relaxed(&swap->high), load_relaxed(&swap->max));
}

static u64 room_of(const struct swap *swap)
{
	u64 charged = load_relaxed(&swap->charged), most = bound_of(swap);

	return charged < most ? most - charged : 0;
}

bool swap_is_roomy(const struct swap *swap)
{
	u64 wanted = HIGH(swap_machine_max()) + SWAP_BLOCK_PAGES;

	return swap_room() > wanted && room_of(swap) > SWAP_BLOCK_PAGES;
}

/* ---- Whose ----------------------------------------------------------------------------------- */

static struct pressure_guest pressure_of(const struct vm *vm)
{
	const struct swap *swap = vm->swap;

	if (!swap || vm_has_ended(vm)) {
		return (struct pressure_guest){.is_out = true};
	}
	return (struct pressure_guest){
		.current = load_relaxed(&swap->charged),
		.min = swap->min,
		.weight = vm->weight,
		.active_permille = (u32)load_relaxed(&swap->active_permille),
	};
}

/*
 * Asks guests one after the other until one gives something. OK: one did. AGAIN: nobody did, but
 * another CPU is at one of them. NOMEM: nobody has anything to give.
 */
static enum status take_from_guests(u64 pages)
{
	struct pressure_guest guests[VM_MAX];
	u32 count = load_acquire(&vm_count), chosen;
	enum status status = NOMEM;

	for (u32 i = 0; i < count; i++) {
		guests[i] = pressure_of(vms[i]);
	}
	while ((chosen = pressure_choose(guests, count)) != PRESSURE_NOBODY) {
		u64 freed;

		if (swap_out(vms[chosen]->swap, pages, &freed) == AGAIN) {
			status = AGAIN;
		} else if (freed > 0) {
			return OK;
		}
		guests[chosen].is_out = true;
	}
	return status;
}

/* The same of one guest that has as much as it may. */
static enum status take_from(struct swap *swap, u64 pages)
{
	u64 freed;
	enum status status = swap_out(swap, pages, &freed);

	return status == OK && freed == 0 ? NOMEM : status;
}

/* ---- When ------------------------------------------------------------------------------------ */

enum status swap_make_room(struct swap *swap)
{
	bool is_its_own = load_relaxed(&swap->charged) + 1 > load_relaxed(&swap->max);
	enum status status = is_its_own ? take_from(swap, RUN_PAGES) : take_from_guests(RUN_PAGES);

	if (status == OK) {
		store_relaxed(&swap->failures, 0);
		return AGAIN;
	}
	if (status == AGAIN) {
		return AGAIN;
	}
	return atomic_add(&swap->failures, 1) < FAILURES_MAX ? AGAIN : NOMEM;
}

/* A guest above its `high`, or a `max` that was lowered, gives up what it has too much of. */
static void hold_down(struct swap *swap)
{
	u64 charged = load_relaxed(&swap->charged), most = bound_of(swap), freed;

	if (charged > most) {
		swap_out(swap, max_u64(charged - most, RUN_PAGES), &freed);
	}
}

/* The pool's frames are charged to all guests: what it does not need is room. */
static void compact_pool(void)
{
	if (store_pool_is_sparse()) {
		store_pool_compact(COMPACT_FRAMES);
	}
}

void swap_tick(void)
{
	static bool is_short; /* one CPU at a time is here: see hyp/sched.c */
	static u32 ticks;
	u64 max = swap_machine_max(), room = swap_room();

	for (u32 i = 0; i < load_acquire(&vm_count); i++) {
		if (vms[i]->swap && !vm_has_ended(vms[i])) {
			hold_down(vms[i]->swap);
			if (ticks % REFOLD_TICKS == 0) {
				swap_refold(vms[i]->swap);
			}
		}
	}
	ticks++;
	compact_pool();
	is_short = room < (is_short ? HIGH(max) : LOW(max));
	if (is_short) {
		take_from_guests(RUN_PAGES);
	}
}
