/* Whose memory goes when all guests together have too much: a function of numbers. */
#ifndef HYP_SWAP_PRESSURE_H
#define HYP_SWAP_PRESSURE_H

#include "hyp/types.h"

#define PRESSURE_NOBODY (~0u)

struct pressure_guest {
	u64 current, min;    /* pages */
	u32 weight;	     /* at least 1 */
	u32 active_permille; /* how much of its memory it uses, as far as is known */
	bool is_out;	     /* not to be asked: it was, or has ended */
};

/*
 * The guest that pays least for what it has: the weight for each page, where a page that is not
 * used costs PRESSURE_IDLE_COST times as much as one that is (a tax on idle memory of three
 * quarters; Waldspurger, "Memory Resource Management in VMware ESX Server", OSDI 2002, 5.2).
 * Guests that have no more than their min pay anything. PRESSURE_NOBODY: there is none else.
 */
#define PRESSURE_IDLE_COST 4
u32 pressure_choose(const struct pressure_guest *guests, u32 count);

#endif
