/*
 * Several roots over one memory: what a guest may do depends on which of them its CPU has loaded.
 *
 *      shared S        unified U        restricted R        base B        view V of B
 *         |             /     \              |                |                |
 *      [tables]<------link   link------->[tables]          [leaves]- - ->[leaves of its own]
 *                                                                  derived
 *
 * A link: entries of one space lead to another's tables. The other, which the range is on loan
 * from, is as it was, and alone changes it; what it maps is there in all spaces that link it, by
 * the same entries. Fuchsia's three kinds of address space are cases of it: shared is any space
 * that is linked, restricted a plain space with what is private, and unified one that links both,
 * side by side. A guest's CPUs load the root that what they run is trusted with.
 *
 * A view: a space with tables of its own, whose leaves are its base's with other permissions. They
 * are derived at faults, and are no more than a cache: whatever a batch of the base invalidates,
 * its views have forgotten by the close, in the same round. So after the close of a change to the
 * base no view allows what the base forbids.
 *
 * Spaces that link a space, and views of it, are its dependents: closes of its batches cover them.
 * They have no dependents of their own. Each has its identity and its root; a CPU whose guest may
 * change roots without an exit (VMFUNC; see s2_ept_list()) calls s2_entering() and s2_left() for
 * all of them.
 */
#ifndef HYP_S2_VIEW_H
#define HYP_S2_VIEW_H

#include "hyp/s2.h"

/*
 * The space whose fault it is when `gpa` is not translated in `s2`, or not for this access: the one
 * that the address is on loan from, a view's base, or `s2` itself. Map there.
 */
struct s2 *s2_source(struct s2 *s2, gpa_t gpa);

/* ---- Links --------------------------------------------------------------------------------- */

/*
 * From now on `unified` translates [gpa, gpa + size) as `shared` does. The range is made of whole
 * tables: both numbers are multiples of what an entry of level 1 spans (2 MiB with 4 KiB pages).
 * The entries are of the highest level that allows; at most 32,768 of them.
 *
 * Range operations and faults of `unified` in the range are DENIED from now on, and its harvest
 * only tests; s2_query, s2_validate, s2_dump and s2_mark_accessed go through. In `shared`
 * everything works as before, but tables in the range stay though they are empty, and do not
 * collapse (S2_IS_LINKED), and writes of neither can be logged (s2_dirty_start() is DENIED).
 *
 * All or nothing. INVALID: misaligned, too many, of different formats, or one of the two is a view,
 * or on the wrong side of another link, or logs writes. EXISTS: something is mapped in `unified`,
 * or a leaf of that level or above is in `shared`: split it first. AGAIN: a batch over the range is
 * open. NOMEM. FULL: too many dependents of `shared`, or loans of `unified`. No batch of the
 * caller's is open in either.
 */
enum status s2_link(struct s2 *unified, struct s2 *shared, gpa_t gpa, u64 size);

/* Takes back s2_link() of the same range; when it returns no CPU translates it through `unified`.
 * NOENT: there is no such link. No batch of the caller's is open in either space. */
enum status s2_unlink(struct s2 *unified, gpa_t gpa, u64 size);

/* ---- Views --------------------------------------------------------------------------------- */

/*
 * A view of all of `base`, of its format and size, that allows at most `perm` (0: nothing) wherever
 * s2_view_protect() does not say otherwise. Its leaves hold no references to frames. Range
 * operations on a view are DENIED; s2_harvest() works, and tells of the use that is made through
 * it.
 *
 * INVALID: `base` is a view, or links others; the format has no such permissions. FULL, NOMEM.
 */
enum status s2_view_init(struct s2 *view, struct s2 *base, u8 perm);

/* No CPU has it loaded any more; no batch of the caller's is open in it or its base. */
void s2_view_destroy(struct s2 *view);

/*
 * The view allows at most `perm` (0: nothing) in the range, whatever is mapped there now or later;
 * more or less than elsewhere. Frames and tables of the base stay untouched. In force for all CPUs
 * at the close of `batch`, which is one of the view. INVALID; NOMEM and FULL change nothing: a view
 * has room for about half as many separate ranges as a table has entries; neighbours that are alike
 * are joined.
 */
enum status s2_view_protect(struct s2 *view, gpa_t gpa, u64 size, u8 perm, struct s2_batch *batch);

/*
 * A fault in the view, for `access` (of enum s2_perm): derives the leaf. No lock, any CPU, any
 * time.
 *
 * NOENT: the base has nothing there, or forbids it too: the fault is the base's, then again.
 * DENIED: the view forbids it. AGAIN: a batch over the place is open, or another CPU was faster.
 * NOMEM.
 *
 * Where hardware keeps dirty state a view's leaf may be written only after a fault that writes,
 * which marks the base's leaf as written. Who takes such marks back notes the place in a batch of
 * the base.
 */
enum status s2_view_fault(struct s2 *view, gpa_t gpa, u8 access);

#endif
