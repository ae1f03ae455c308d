/*
 * Quick demotion whose small queue finds its own size, as ARC does, from accessed bits alone.
 *
 * A new page goes through the queue `NEW`; accessed there, it moves to `MAIN`, a CLOCK in which a
 * page gains lives by being accessed round after round, so that one that is used steadily outlives
 * one that was used twice. Pages let go are remembered. One that comes back within about as many
 * departures as there are frames goes to MAIN at once, and tells what would have kept it: a larger
 * NEW, if it was let go from there, or a larger MAIN. The rarer kind of departure weighs more, as
 * in ARC: its ghosts are fewer, so each tells of more.
 *
 * So NEW is small where most pages are used once, and grows within one turn of the memory when the
 * working set becomes another one.
 */
#include "hyp/reclaim.h"

#define NEW 1
#define MAIN 2
#define LIVES_MAX 3

/* In frames: NEW at first, at least, and at most. */
#define NEW_FIRST(frames) ((frames) / 10)
#define NEW_LEAST(frames) ((frames) / 100)
#define NEW_MOST(frames) ((frames) - (frames) / 10)
/* For how many departures a page is remembered well enough to go to MAIN. */
#define MEMORY(frames) ((frames) + (frames) / 4)

static void adaptive_begin(struct reclaim *r)
{
	r->target = NEW_FIRST(r->frames);
}

/* How many times more, at least once. */
static u32 step(u32 more, u32 less)
{
	return (u32)max_u64(more / max_u64(less, 1), 1);
}

static void adapt(struct reclaim *r, u8 from)
{
	u64 target = r->target, least = NEW_LEAST(r->frames), most = NEW_MOST(r->frames);

	if (from == NEW) {
		target = min_u64(target + step(r->gone_main, r->gone_new), most);
	} else {
		u64 by = step(r->gone_new, r->gone_main);

		target = max_u64(target, least + by) - by;
	}
	r->target = (u32)target;
}

static void adaptive_resident(struct reclaim *r, u32 page)
{
	u32 distance = reclaim_distance(r, page);

	r->pages[page].lives = 0;
	if (distance < r->frames) {
		adapt(r, r->pages[page].from);
	}
	reclaim_list_add(r, distance < MEMORY(r->frames) ? MAIN : NEW, page);
}

static u32 adaptive_candidate(struct reclaim *r)
{
	u32 count = r->lists[NEW].count;
	bool from_new = r->lists[MAIN].count == 0 || (count > 0 && count >= r->target);

	return reclaim_list_take(r, from_new ? NEW : MAIN);
}

/* "Lately" is a quarter to a half of a turn of the memory. */
static bool let_go(struct reclaim *r, u32 page)
{
	if (r->pages[page].from == NEW) {
		r->gone_new++;
	} else {
		r->gone_main++;
	}
	if (r->gone_new + r->gone_main >= r->frames / 2) {
		r->gone_new /= 2;
		r->gone_main /= 2;
	}
	return reclaim_let_go(r, page);
}

static bool adaptive_judge(struct reclaim *r, u32 page, bool accessed)
{
	struct reclaim_page *p = &r->pages[page];

	if (accessed) {
		p->lives += p->from == MAIN && p->lives < LIVES_MAX;
	} else if (p->lives == 0) {
		return let_go(r, page);
	} else {
		p->lives--;
	}
	reclaim_list_add(r, MAIN, page);
	return false;
}

const struct reclaim_policy reclaim_adaptive = {
	.name = "adaptive",
	.begin = adaptive_begin,
	.resident = adaptive_resident,
	.candidate = adaptive_candidate,
	.judge = adaptive_judge,
};
