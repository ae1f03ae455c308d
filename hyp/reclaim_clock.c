/* CLOCK, Corbato's: one round; who was accessed since the hand came by stays for another. */
#include "hyp/reclaim.h"

#define ROUND 1

static void clock_resident(struct reclaim *r, u32 page)
{
	reclaim_list_add(r, ROUND, page);
}

static u32 clock_candidate(struct reclaim *r)
{
	return reclaim_list_take(r, ROUND);
}

static bool clock_judge(struct reclaim *r, u32 page, bool accessed)
{
	if (!accessed) {
		return reclaim_let_go(r, page);
	}
	reclaim_list_add(r, ROUND, page);
	return false;
}

const struct reclaim_policy reclaim_clock = {
	.name = "clock",
	.resident = clock_resident,
	.candidate = clock_candidate,
	.judge = clock_judge,
};
