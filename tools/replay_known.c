/*
 * What Lamina's policies are held against: Belady's optimum, which knows the future, and LRU, ARC
 * (Megiddo and Modha 2003), S3-FIFO (Yang and others 2023) and SIEVE (Zhang and others 2024), which
 * see every access, as no hypervisor does. Lists and pages are those of hyp/reclaim.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include "replay.h"

static struct reclaim cache_of(const struct trace *trace, u32 frames,
			       const struct reclaim_policy *policy)
{
	struct reclaim r;

	reclaim_init(&r, policy, get_memory(trace->pages, sizeof(struct reclaim_page)),
		     trace->pages, frames);
	return r;
}

static u32 length(const struct reclaim *r, u32 list)
{
	return r->lists[list].count;
}

static void move(struct reclaim *r, u32 page, u32 list)
{
	reclaim_forget(r, page);
	reclaim_list_add(r, list, page);
}

/* ---- Belady's optimum ----------------------------------------------------------------------- */

/* A heap of pages, the one that is used last on top. Next uses differ, so any order is total. */
struct heap {
	u32 *page, *next_use, *at; /* page[]: the heap; the others by page */
	u32 count;
};

static void heap_set(struct heap *h, u32 i, u32 page)
{
	h->page[i] = page;
	h->at[page] = i;
}

static void heap_up(struct heap *h, u32 i)
{
	u32 page = h->page[i];

	for (; i > 0 && h->next_use[h->page[(i - 1) / 2]] < h->next_use[page]; i = (i - 1) / 2) {
		heap_set(h, i, h->page[(i - 1) / 2]);
	}
	heap_set(h, i, page);
}

static void heap_down(struct heap *h, u32 i)
{
	u32 page = h->page[i];

	for (u32 child; (child = 2 * i + 1) < h->count; i = child) {
		if (child + 1 < h->count &&
		    h->next_use[h->page[child + 1]] > h->next_use[h->page[child]]) {
			child++;
		}
		if (h->next_use[h->page[child]] <= h->next_use[page]) {
			break;
		}
		heap_set(h, i, h->page[child]);
	}
	heap_set(h, i, page);
}

/* When each access's page is used next; never: past the end, each at a time of its own. */
static u32 *next_uses(const struct trace *trace)
{
	u32 *next = get_memory(trace->count, sizeof(*next));
	u32 *soonest = get_memory(trace->pages, sizeof(*soonest));

	for (u32 page = 0; page < trace->pages; page++) {
		soonest[page] = trace->count + page;
	}
	for (u32 i = trace->count; i-- > 0;) {
		next[i] = soonest[trace->page[i]];
		soonest[trace->page[i]] = i;
	}
	free(soonest);
	return next;
}

u64 opt_misses(const struct trace *trace, u32 frames)
{
	u32 *next = next_uses(trace);
	struct heap h = {.page = get_memory(trace->pages, sizeof(u32)),
			 .next_use = get_memory(trace->pages, sizeof(u32)),
			 .at = get_memory(trace->pages, sizeof(u32))};
	u64 misses = 0;

	for (u32 page = 0; page < trace->pages; page++) {
		h.at[page] = RECLAIM_NONE;
	}
	for (u32 i = 0; i < trace->count; i++) {
		u32 page = trace->page[i];

		h.next_use[page] = next[i];
		if (h.at[page] != RECLAIM_NONE) {
			heap_up(&h, h.at[page]); /* it can only have moved away */
			continue;
		}
		misses++;
		if (h.count < frames) {
			heap_set(&h, h.count, page);
			heap_up(&h, h.count++);
		} else {
			h.at[h.page[0]] = RECLAIM_NONE;
			heap_set(&h, 0, page);
			heap_down(&h, 0);
		}
	}
	free(next);
	free(h.page);
	free(h.next_use);
	free(h.at);
	return misses;
}

/* ---- LRU ------------------------------------------------------------------------------------ */

u64 lru_misses(const struct trace *trace, u32 frames)
{
	struct reclaim r = cache_of(trace, frames, NULL);
	u64 misses = 0;

	for (u32 i = 0; i < trace->count; i++) {
		u32 page = trace->page[i];

		if (r.pages[page].list == 0) {
			misses++;
			if (length(&r, 1) == frames) {
				reclaim_list_take(&r, 1);
			}
		}
		move(&r, page, 1);
	}
	free(r.pages);
	return misses;
}

/* ---- ARC ------------------------------------------------------------------------------------ */

enum { T1 = 1, T2, B1, B2 };

/* REPLACE of the paper: r->target is its p. */
static void arc_replace(struct reclaim *r, bool was_in_b2)
{
	u32 t1 = length(r, T1);

	if (t1 > 0 && (t1 > r->target || (was_in_b2 && t1 == r->target))) {
		reclaim_list_add(r, B1, reclaim_list_take(r, T1));
	} else if (length(r, T2) > 0) {
		reclaim_list_add(r, B2, reclaim_list_take(r, T2));
	}
}

static void arc_new(struct reclaim *r, u32 page)
{
	u32 l1 = length(r, T1) + length(r, B1), all = l1 + length(r, T2) + length(r, B2);

	if (l1 == r->frames) {
		if (length(r, T1) < r->frames) {
			reclaim_list_take(r, B1);
			arc_replace(r, false);
		} else {
			reclaim_list_take(r, T1);
		}
	} else if (all >= r->frames) {
		if (all == 2 * r->frames) {
			reclaim_list_take(r, B2);
		}
		arc_replace(r, false);
	}
	reclaim_list_add(r, T1, page);
}

static void arc_ghost(struct reclaim *r, u32 page, u32 list)
{
	u32 b1 = length(r, B1), b2 = length(r, B2);

	if (list == B1) {
		r->target = (u32)min_u64(r->target + max_u64(b2 / b1, 1), r->frames);
	} else {
		r->target -= (u32)min_u64(max_u64(b1 / b2, 1), r->target);
	}
	arc_replace(r, list == B2);
	move(r, page, T2);
}

u64 arc_misses(const struct trace *trace, u32 frames)
{
	struct reclaim r = cache_of(trace, frames, NULL);
	u64 misses = 0;

	for (u32 i = 0; i < trace->count; i++) {
		u32 page = trace->page[i], list = r.pages[page].list;

		misses += list != T1 && list != T2;
		if (list == T1 || list == T2) {
			move(&r, page, T2);
		} else if (list == 0) {
			arc_new(&r, page);
		} else {
			arc_ghost(&r, page, list);
		}
	}
	free(r.pages);
	return misses;
}

/* ---- S3-FIFO -------------------------------------------------------------------------------- */

enum { SMALL = 1, MAIN, GHOST };
#define USES_MAX 3

static u32 small_frames(const struct reclaim *r)
{
	return (u32)max_u64(r->frames / 10, 1);
}

static void s3fifo_ghost(struct reclaim *r, u32 page)
{
	if (length(r, GHOST) >= r->frames - small_frames(r)) {
		reclaim_list_take(r, GHOST);
	}
	reclaim_list_add(r, GHOST, page);
}

/* One page goes; those used more than once in the small queue move to the main one first. */
static void s3fifo_evict(struct reclaim *r)
{
	for (;;) {
		bool small = length(r, SMALL) >= small_frames(r) || length(r, MAIN) == 0;
		u32 page = reclaim_list_take(r, small ? SMALL : MAIN);
		u8 *uses = &r->pages[page].lives;

		if (small && *uses > 1) {
			*uses = 0;
			reclaim_list_add(r, MAIN, page);
		} else if (small) {
			s3fifo_ghost(r, page);
			return;
		} else if (*uses > 0) {
			--*uses;
			reclaim_list_add(r, MAIN, page);
		} else {
			return;
		}
	}
}

u64 s3fifo_misses(const struct trace *trace, u32 frames)
{
	struct reclaim r = cache_of(trace, frames, NULL);
	u64 misses = 0;

	for (u32 i = 0; i < trace->count; i++) {
		u32 page = trace->page[i], list = r.pages[page].list;

		if (list == SMALL || list == MAIN) {
			r.pages[page].lives += r.pages[page].lives < USES_MAX;
			continue;
		}
		misses++;
		if (length(&r, SMALL) + length(&r, MAIN) == frames) {
			s3fifo_evict(&r);
		}
		list = r.pages[page].list; /* a ghost may have been forgotten just now */
		move(&r, page, list == GHOST ? MAIN : SMALL);
	}
	free(r.pages);
	return misses;
}

/* ---- SIEVE ---------------------------------------------------------------------------------- */

/* The hand goes from old to new and takes marks away; returns where it is to go on. */
static u32 sieve_evict(struct reclaim *r, u32 hand)
{
	u32 victim;

	for (;;) {
		victim = hand == RECLAIM_NONE ? r->lists[1].first : hand;
		hand = r->pages[victim].next;
		if (r->pages[victim].lives == 0) {
			reclaim_forget(r, victim);
			return hand;
		}
		r->pages[victim].lives = 0;
	}
}

u64 sieve_misses(const struct trace *trace, u32 frames)
{
	struct reclaim r = cache_of(trace, frames, NULL);
	u32 hand = RECLAIM_NONE;
	u64 misses = 0;

	for (u32 i = 0; i < trace->count; i++) {
		u32 page = trace->page[i];

		if (r.pages[page].list != 0) {
			r.pages[page].lives = 1;
			continue;
		}
		misses++;
		if (length(&r, 1) == frames) {
			hand = sieve_evict(&r, hand);
		}
		reclaim_list_add(&r, 1, page);
	}
	free(r.pages);
	return misses;
}

/* ---- Lamina's ------------------------------------------------------------------------------- */

static void policy_evict(struct reclaim *r, bool *accessed)
{
	for (;;) {
		u32 page = r->policy->candidate(r);
		bool was_accessed;

		if (page == RECLAIM_NONE) {
			fprintf(stderr, "replay: %s lost a page\n", r->policy->name);
			abort();
		}
		was_accessed = accessed[page];
		accessed[page] = false;
		if (r->policy->judge(r, page, was_accessed)) {
			return;
		}
	}
}

u64 policy_misses(const struct reclaim_policy *policy, const struct trace *trace, u32 frames)
{
	struct reclaim r = cache_of(trace, frames, policy);
	bool *accessed = get_memory(trace->pages, sizeof(*accessed));
	u32 resident = 0;
	u64 misses = 0;

	for (u32 i = 0; i < trace->count; i++) {
		u32 page = trace->page[i];

		if (r.pages[page].list != 0) {
			accessed[page] = true;
			continue;
		}
		misses++;
		if (resident == frames) {
			policy_evict(&r, accessed);
		} else {
			resident++;
		}
		policy->resident(&r, page);
	}
	free(accessed);
	free(r.pages);
	return misses;
}
