/* What policies of choice stand on: lists of pages, and what is remembered of those let go. */
#include "hyp/reclaim.h"

#include <string.h>

const struct reclaim_policy *const reclaim_policies[] = {
	&reclaim_clock, &reclaim_gen, &reclaim_qd, &reclaim_adaptive, NULL,
};

const struct reclaim_policy *reclaim_policy_find(const char *name)
{
	for (u32 i = 0; reclaim_policies[i]; i++) {
		if (strcmp(reclaim_policies[i]->name, name) == 0) {
			return reclaim_policies[i];
		}
	}
	return NULL;
}

void reclaim_init(struct reclaim *r, const struct reclaim_policy *policy,
		  struct reclaim_page *pages, u32 page_count, u32 frames)
{
	*r = (struct reclaim){
		.policy = policy, .pages = pages, .page_count = page_count, .frames = frames};
	memset(pages, 0, page_count * sizeof(*pages));
	for (u32 i = 0; i < RECLAIM_LISTS; i++) {
		r->lists[i].first = r->lists[i].last = RECLAIM_NONE;
	}
	if (policy && policy->begin) {
		policy->begin(r);
	}
}

void reclaim_list_add(struct reclaim *r, u32 list, u32 page)
{
	struct reclaim_list *l = &r->lists[list];
	struct reclaim_page *p = &r->pages[page];

	p->next = RECLAIM_NONE;
	p->prev = l->last;
	p->list = (u8)list;
	p->gone = false;
	if (l->last == RECLAIM_NONE) {
		l->first = page;
	} else {
		r->pages[l->last].next = page;
	}
	l->last = page;
	l->count++;
}

static void list_remove(struct reclaim *r, u32 page)
{
	struct reclaim_page *p = &r->pages[page];
	struct reclaim_list *l = &r->lists[p->list];
	u32 *to_this = p->prev == RECLAIM_NONE ? &l->first : &r->pages[p->prev].next;
	u32 *back_to_this = p->next == RECLAIM_NONE ? &l->last : &r->pages[p->next].prev;

	*to_this = p->next;
	*back_to_this = p->prev;
	l->count--;
	p->list = 0;
}

u32 reclaim_list_take(struct reclaim *r, u32 list)
{
	u32 page = r->lists[list].first;

	if (page != RECLAIM_NONE) {
		list_remove(r, page);
		r->pages[page].from = (u8)list;
	}
	return page;
}

bool reclaim_let_go(struct reclaim *r, u32 page)
{
	r->pages[page].next = r->let_go++;
	r->pages[page].gone = true;
	return true;
}

u32 reclaim_distance(const struct reclaim *r, u32 page)
{
	const struct reclaim_page *p = &r->pages[page];

	return p->gone ? r->let_go - p->next : RECLAIM_NONE;
}

void reclaim_forget(struct reclaim *r, u32 page)
{
	if (r->pages[page].list != 0) {
		list_remove(r, page);
	}
	r->pages[page] = (struct reclaim_page){0};
}
