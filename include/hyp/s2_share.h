/*
 * Sharing: one frame under several leaves, of one space or of many, until somebody writes.
 *
 * A leaf holds one reference to every block of frames that it lies in, so a block is shared when it
 * has more than one. No leaf of a shared block lets a guest write: where the guest may, write is
 * withheld (struct s2_leaf: shared), the first write faults, and s2_cow_fault() gives it a frame of
 * its own, or the frame itself if it is the last holder. (Who maps a frame twice by other means
 * does so without write, or outside of the frame table.)
 *
 * Errors as in s2.h.
 */
#ifndef HYP_S2_SHARE_H
#define HYP_S2_SHARE_H

#include "hyp/s2.h"

/*
 * Copy-on-write clone: `child`, of the same format and width, gets what `parent` maps in
 * [gpa, gpa + size), page for page and with leaves of the same size, which may be written by
 * neither without a copy. Nothing is copied now. What else there is:
 *   - device memory, and frames outside the frame table, are mapped by both, with all rights;
 *   - typed entries are copied as they are: so whoever owns what STORED payloads mean has them
 * twice afterwards (s2_dump() of the child tells which), and counts;
 *   - what a batch of the parent has cleared is left out.
 *
 * `batch` is the parent's: one round of invalidation for the whole fork. Until it is closed the
 * parent's CPUs may still write what they share with the child, so the child must not run, and
 * nobody may write through it, before that. The parent may run all the time; for a picture of one
 * moment its CPUs are stopped from the first call to the close. Leaves of the parent that stick out
 * of the range are split.
 *
 * INVALID. MORE, and NOMEM (for the child's tables, or a split's): all before batch->next is
 * forked, nothing from there on is touched, and the call may be repeated from there. EXISTS: the
 * child maps something near batch->next already; pages before that are forked, and how many is not
 * told.
 */
enum status s2_fork(struct s2 *parent, struct s2 *child, gpa_t gpa, u64 size,
		    struct s2_batch *batch);

/*
 * A guest writes to a page at `gpa` that is shared. Takes no lock; not within a walk or with a
 * batch of this CPU's open on the space.
 *
 * EXISTS: nothing has to be copied, the guest can write now (it was the last holder, or another CPU
 * was faster). OK: the guest has a copy, in `fresh`: a block of frames as large as a leaf of
 * `level`, with one reference, which the space has now; a larger leaf was split to that level. In
 * all other cases `fresh` is still the caller's; hpa_none() does if it is not known yet whether one
 * is needed.
 *
 * NOMEM: a copy is needed and there is no `fresh`, or no table for a split. AGAIN: somebody else
 * changes the place, or the leaf is smaller than `level`. NOENT: nothing is mapped. DENIED: the
 * guest may not write there, or not for other reasons than sharing (dirty logging); or `fresh` is
 * nobody's to give. INVALID: `fresh` is misaligned, or the format has no leaf of `level`.
 */
enum status s2_cow_fault(struct s2 *s2, gpa_t gpa, hpa_t fresh, unsigned level);

/* ---- Merge: pages with equal bytes become one frame ------------------------------------------ */

/* A space whose pages are offered for merging; the caller's memory. Begins with `first` zero. */
struct s2_member {
	struct s2 *s2;
	u32 first; /* of its holders */
};

/* A page that was offered. */
struct s2_holder {
	struct s2_member *member; /* NULL: free */
	gpa_t gpa;
	u64 frame; /* host frame number, as far as is known */
	struct s2_holder_link {
		u32 next, prev; /* 0: none */
	} by_frame, by_member;
};

/* Reverse map: who holds this frame? Hashed by frame. Any number of CPUs at once. */
struct s2_rmap {
	struct lock lock;
	struct s2_holder *holders; /* [0] is none */
	u32 *buckets;
	u32 bucket_bits;
	u32 free; /* list of free holders, by by_frame.next */
};

/* For up to `capacity` pages, at the price of 48 bytes each. NOMEM, INVALID (none, or more than a
 * block holds).
 */
enum status s2_rmap_init(struct s2_rmap *rmap, u32 capacity);
void s2_rmap_destroy(struct s2_rmap *rmap);

/* The page at `gpa`, which is aligned. NULL: the map is full. It may change or go later: an offer
 * is no reference. */
struct s2_holder *s2_offer(struct s2_rmap *rmap, struct s2_member *member, gpa_t gpa);
void s2_withdraw(struct s2_rmap *rmap, struct s2_holder *holder);
/* Withdraws all that the member offered; costs as much as that is. Before the space is destroyed.
 */
void s2_rmap_forget(struct s2_rmap *rmap, struct s2_member *member);

/* Who of those that were offered maps this frame, one after the other: the one behind `holder`, or
 * the first (NULL). NULL: no more. Holders that lost the frame are passed over; `holder` must still
 * be there. */
struct s2_holder *s2_next_holder(struct s2_rmap *rmap, hpa_t frame, struct s2_holder *holder);

/* The holder's page may be in another frame now; s2_merge() says so itself. */
void s2_rmap_correct(struct s2_rmap *rmap, struct s2_holder *holder);

/* A page of a space. */
struct s2_place {
	struct s2 *s2;
	gpa_t gpa;
};

/*
 * If the pages at `a` and `b` have equal bytes, `b` gets the frame of `a`, and its own goes. Each
 * space has one round of invalidation, `a` only if it could write. Bytes are compared when nobody
 * can write them; a guest that writes then waits a little. Not within a walk or with a batch of
 * this CPU's open.
 *
 * EXISTS: they are one frame already. DENIED: the bytes differ, and both may be written as before.
 * NOENT: nothing is mapped at one of them. INVALID: one is no leaf of level 0 over memory that is
 * counted, or the spaces' pages differ in size. AGAIN: somebody else changes one of them.
 */
enum status s2_merge_pages(struct s2_place a, struct s2_place b);

/* The same of holders, which are in the map where they are now. */
enum status s2_merge(struct s2_rmap *rmap, struct s2_holder *a, struct s2_holder *b);

#endif
