/*
 * Which page goes when memory is short: what the policies of choice have in common.
 *
 * A policy knows pages by number and frames by count. It learns three things: that a page got a
 * frame, whether a page that it asked about was accessed since it was asked about before, and that
 * a page was given up by its owner. It never sees a table: so it is a function of numbers, and the
 * same files run in Lamina and on recorded traces (tools/replay.c).
 *
 * Whoever wants a frame asks in turns: `candidate` takes a page off the policy's lists, the
 * caller finds out whether that was accessed (and clears the flag), `judge` puts the page back or
 * lets it go. Several candidates may be out at once, so that one harvest serves all of them.
 *
 * Nothing here locks. All of it is bounded: a candidate costs a few list operations.
 */
#ifndef HYP_RECLAIM_H
#define HYP_RECLAIM_H

#include "hyp/types.h"

#define RECLAIM_NONE (~0u) /* no page */
#define RECLAIM_LISTS 8
#define RECLAIM_ASIDE (RECLAIM_LISTS - 1) /* a list that no policy looks at: the caller's */

struct reclaim_page {
	u32 next, prev; /* in a list; pages that are in none may keep a time in `next` */
	u8 list;	/* a policy's number for it; 0: in none */
	u8 from;	/* the policy's: the list that it was in last */
	u8 lives;	/* the policy's: how often it stays without having been accessed */
	u8 gone;	/* it was let go, and `next` says when */
};

struct reclaim_list {
	u32 first, last; /* RECLAIM_NONE: empty */
	u32 count;
};

struct reclaim_policy;

/* One cache of pages: a guest's memory, or a replayed trace's. */
struct reclaim {
	const struct reclaim_policy *policy;
	struct reclaim_page *pages;
	u32 page_count;
	u32 frames; /* how many pages have frames when memory is full; at least 1 */
	u32 let_go; /* pages let go so far: the clock by which the policy ages what it remembers */
	u32 youngest;		 /* gen: which generation */
	u32 target;		 /* adaptive: how large the new part should be, in frames; */
	u32 gone_new, gone_main; /* and how many were let go lately, from either part */
	struct reclaim_list lists[RECLAIM_LISTS];
};

struct reclaim_policy {
	const char *name;

	/* What the policy keeps beside lists, all 0 until now; NULL: nothing. */
	void (*begin)(struct reclaim *r);

	/* `page`, in no list, got a frame: for the first time, or again. */
	void (*resident)(struct reclaim *r, u32 page);

	/* The page to ask about next, now in no list; RECLAIM_NONE: there is none. */
	u32 (*candidate)(struct reclaim *r);

	/* True: the candidate loses its frame. False: it keeps it, and is in a list again. */
	bool (*judge)(struct reclaim *r, u32 page, bool accessed);
};

extern const struct reclaim_policy reclaim_clock, reclaim_gen, reclaim_qd, reclaim_adaptive;

/* All policies, the best last; ends with NULL. */
extern const struct reclaim_policy *const reclaim_policies[];

/* NULL: none has this name. */
const struct reclaim_policy *reclaim_policy_find(const char *name);

/*
 * `pages`: page_count records, of any content; they stay the caller's. No page has a frame yet.
 * `policy` NULL: for lists alone.
 */
void reclaim_init(struct reclaim *r, const struct reclaim_policy *policy,
		  struct reclaim_page *pages, u32 page_count, u32 frames);

/*
 * A page that its owner gave up, with a frame or without: nothing is remembered of it. Not for a
 * candidate that is still to be judged.
 */
void reclaim_forget(struct reclaim *r, u32 page);

/* ---- For policies --------------------------------------------------------------------------- */

/* Puts a page that is in no list behind all others of `list`. */
void reclaim_list_add(struct reclaim *r, u32 list, u32 page);

/* Takes the page that is longest in `list`, and notes that; RECLAIM_NONE: it is empty. */
u32 reclaim_list_take(struct reclaim *r, u32 list);

/* Notes that a page in no list loses its frame, and when. Returns true, as judge() does. */
bool reclaim_let_go(struct reclaim *r, u32 page);

/* How many pages were let go since this one was; RECLAIM_NONE: it never was, or was forgotten. */
u32 reclaim_distance(const struct reclaim *r, u32 page);

#endif
