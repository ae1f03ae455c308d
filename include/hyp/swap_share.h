/* Pages with equal bytes in one frame: what whoever looks for them (hyp/ksm.h) does to records. */
#ifndef HYP_SWAP_SHARE_H
#define HYP_SWAP_SHARE_H

#include "hyp/swap.h"

struct swap_place {
	struct swap *swap;
	u64 page;
};

/*
 * If the pages have equal bytes, they are in the frame of `a` from now on: SHARED, and charged to
 * nobody. With the locks of both guests, not in a walk, no batch open. Blocks of 2 MiB are split
 * before.
 *
 * EXISTS: they are in one frame already. DENIED: the bytes differ. AGAIN, INVALID, NOENT: a page is
 * not where it could be shared, or somebody else changes it now.
 */
enum status swap_merge(struct swap_place a, struct swap_place b);

/* If the frame of a SHARED page has no other holder any more, it is its guest's, and reclaim's,
 * again. With the guest's lock. */
void swap_unshare_last(struct swap *swap, u64 page);

#endif
