/*
 * How long ago each page of a guest was used, in rounds; and so, how large its working set is.
 *
 * A round looks at all accessed flags and clears them (a harvest: nobody is interrupted, nothing is
 * invalidated). A page that was used since the round before has age 0, all others are a round
 * older. The policy that chooses pages to take away clears the same flags at times of its own: each
 * of the two leaves word for the other.
 *
 * Ages are of pages of 4 KiB; a block of 2 MiB that is mapped as one is used as a whole.
 */
#ifndef HYP_SWAP_AGE_H
#define HYP_SWAP_AGE_H

#include "hyp/types.h"

struct swap;

#define SWAP_AGES 32 /* that are counted one by one */

struct swap_age {
	u32 *used;	      /* by page: the round that found it used last; 0: none has */
	u64 *for_policy;      /* used, and a round has cleared the flag: bits, by page */
	u64 *for_round;	      /* used, and the policy has */
	u64 *young;	      /* of the step that is on */
	u32 rounds;	      /* so far */
	u64 ticks;	      /* that they took, of the system counter */
	u64 found[SWAP_AGES]; /* pages that round r found last, at r % SWAP_AGES */
};

/* NOMEM: false. */
bool swap_age_init(struct swap *swap);
void swap_age_free(struct swap *swap);
/* All pages are as never used. With swap->lock. */
void swap_age_forget(struct swap *swap);

/* Pages that were used last `rounds_ago` before the last round; below SWAP_AGES. Of age 0: the
 * working set of a round's time. */
u64 swap_age_pages(const struct swap_age *age, u32 rounds_ago);

/* How many rounds before the last one the page was used; ~0: it never was. Read by anyone. */
u64 swap_age_of(const struct swap *swap, u64 page);

/* The page holds nothing any more: as if it had never been used. With swap->lock. */
void swap_age_forget_page(struct swap *swap, u64 page);

/* A round, in steps that each have swap->lock for a bounded time. Not in a walk, nor with a batch
 * or that lock. */
void swap_age_round(struct swap *swap);

/*
 * Was any of `count` pages from `page` on, a leaf of `level`, used since this was asked before?
 * Begins to watch anew. For the policy, with swap->lock.
 */
bool swap_age_ask(struct swap *swap, u64 page, u64 count, unsigned level);

#endif
