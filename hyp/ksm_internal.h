/* What the files of ksm do for each other. */
#ifndef HYP_KSM_INTERNAL_H
#define HYP_KSM_INTERNAL_H

#include "hyp/status.h"
#include "hyp/types.h"

/* A page that another may be equal to. What it says is a hint: the page's record knows. */
struct ksm_candidate {
	u32 page;
	u16 guest; /* 1 + its place in vms[]; 0: none */
	u16 seen;  /* the round in which it was met last */
	u32 hash;
};

/* Candidates with hashes that are near each other; the table is an array of such sets. */
#define KSM_WAYS 8
struct ksm_set {
	struct ksm_candidate ways[KSM_WAYS];
};

/* For about so many pages. NOMEM. */
enum status ksm_table_init(u64 pages);
void ksm_table_fini(void);

/* Where candidates with that hash are, if there are any. */
struct ksm_set *ksm_set_of(u32 hash);

/* The candidate is in its set from now on; if that is full, in the place of the one that was met
 * longest ago. */
void ksm_remember(struct ksm_candidate candidate);

#endif
