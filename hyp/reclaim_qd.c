/*
 * Quick demotion: most pages are never used again, and are found out in a small queue of their own.
 * Who is accessed there moves to the main part, which is a CLOCK; who is not is let go, but
 * remembered: if it comes back while the main part would still have had it, it goes there at once.
 */
#include "hyp/reclaim.h"

#define NEW 1
#define MAIN 2
#define NEW_SHARE 10 /* a tenth of the frames */

static u32 new_frames(const struct reclaim *r)
{
	return (u32)max_u64(r->frames / NEW_SHARE, 1);
}

static void qd_resident(struct reclaim *r, u32 page)
{
	bool is_back_soon =
		r->pages[page].from == NEW && reclaim_distance(r, page) < r->frames - new_frames(r);

	reclaim_list_add(r, is_back_soon ? MAIN : NEW, page);
}

static u32 qd_candidate(struct reclaim *r)
{
	bool from_new = r->lists[NEW].count >= new_frames(r) || r->lists[MAIN].count == 0;

	return reclaim_list_take(r, from_new ? NEW : MAIN);
}

static bool qd_judge(struct reclaim *r, u32 page, bool accessed)
{
	if (!accessed) {
		return reclaim_let_go(r, page);
	}
	reclaim_list_add(r, MAIN, page);
	return false;
}

const struct reclaim_policy reclaim_qd = {
	.name = "qd",
	.resident = qd_resident,
	.candidate = qd_candidate,
	.judge = qd_judge,
};
