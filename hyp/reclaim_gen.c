/*
 * Generations, as Linux's multi-generational LRU has them: who is accessed goes into the youngest;
 * the oldest is looked through, and when it is used up the next one is the oldest and a new
 * youngest begins. A page that comes back soon (its refault distance is less than the memory) would
 * have stayed in a slightly larger memory, and is young; others begin in the middle.
 */
#include "hyp/reclaim.h"

#define GENERATIONS 4u

/* Lists 1 to 4, round and round. `age` 0: the youngest. */
static u32 list_of_age(const struct reclaim *r, u32 age)
{
	return 1 + (r->youngest - age) % GENERATIONS;
}

static void gen_resident(struct reclaim *r, u32 page)
{
	bool is_back_soon = reclaim_distance(r, page) < r->frames;

	reclaim_list_add(r, list_of_age(r, is_back_soon ? 0 : GENERATIONS / 2), page);
}

static u32 gen_candidate(struct reclaim *r)
{
	for (u32 i = 0; i < GENERATIONS; i++) {
		u32 page = reclaim_list_take(r, list_of_age(r, GENERATIONS - 1));

		if (page != RECLAIM_NONE) {
			return page;
		}
		r->youngest++;
	}
	return RECLAIM_NONE;
}

static bool gen_judge(struct reclaim *r, u32 page, bool accessed)
{
	if (!accessed) {
		return reclaim_let_go(r, page);
	}
	reclaim_list_add(r, list_of_age(r, 0), page);
	return false;
}

const struct reclaim_policy reclaim_gen = {
	.name = "gen",
	.resident = gen_resident,
	.candidate = gen_candidate,
	.judge = gen_judge,
};
