/*
 * Kernel samepage merging, as Linux calls it: pages with equal bytes, of one guest or of several,
 * are found, and share a frame until one of them is written.
 *
 * A scanner goes round the pages that are mapped, a few at a time. A page's bytes are hashed; one
 * whose hash is as it was a round ago is likely to stay, so it is compared with others of its hash,
 * and merged (hyp/swap_share.h) or remembered for others. Pages of zeros go to the store that keeps
 * nothing of them. A block of 2 MiB is looked at as a whole, and split if enough of it would go.
 *
 * Only under overcommit: records and charges are its own. Guests see slower first writes.
 */
#ifndef HYP_KSM_H
#define HYP_KSM_H

#include "hyp/config.h"

/* Once, behind swap_init(). NOMEM: nothing was taken. */
enum status ksm_init(const struct config *config);
/* Gives back what ksm_init() took. For tests. */
void ksm_fini(void);

void ksm_turn(bool on);
bool ksm_is_on(void);

/* Looks at some pages, if it is on: a bounded piece of work for any CPU, one at a time, about every
 * KSM_TICK_MS. Not in a walk, nor with a batch or a lock of this CPU's. */
void ksm_tick(void);
#define KSM_TICK_MS 20

/* In Linux's words, and in pages. */
#define KSM_COUNTERS(X)                                                                            \
	X(pages_shared)	  /* frames that are shared */                                             \
	X(pages_sharing)  /* pages in them, beyond the first of each: what is saved */             \
	X(pages_unshared) /* of the last round: like no other so far */                            \
	X(pages_volatile) /* of the last round: other than the round before */                     \
	X(pages_merged)	  /* since the start */                                                    \
	X(pages_zeroed)	  /* since the start: given to the store of zeros */                       \
	X(full_scans)	  /* rounds */

struct ksm_counters {
#define X(name) u64 name;
	KSM_COUNTERS(X)
#undef X
};

struct ksm_counters ksm_counters(void);

#endif
