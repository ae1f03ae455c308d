/*
 * Pages with equal bytes, of one guest or of two, in one frame.
 *
 *     two RESIDENT pages -> their frame is the machine's: both are SHARED, and charged to nobody
 *     a SHARED page is written -> charged to its guest, copied: RESIDENT; the others stay
 *     its last holder writes -> the frame is that guest's own again
 *
 * A shared frame is FRAME_SHARED until it is free or a last holder has taken it. So how many there
 * are is what the frame table counts, whoever unmaps them, and s2_store() refuses them: reclaim
 * does not come to them. They are in no list of the policy's.
 */
#include "hyp/swap_share.h"

#include "swap_internal.h"

#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/s2_share.h"

static u64 sharing; /* pages; atomic */

void swap_count_sharing(s64 pages)
{
	atomic_add(&sharing, (u64)pages);
}

u64 swap_machine_sharing(void)
{
	return load_relaxed(&sharing);
}

/* Where nothing is shared, faults need not sum up what CPUs counted. */
u64 swap_machine_shared(void)
{
	return load_relaxed(&sharing) > 0 ? frame_count(FRAME_SHARED) : 0;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

static hpa_t frame_behind(struct swap *swap, u64 page)
{
	struct s2_leaf leaf = s2_query(&swap->vm->s2, swap_gpa(swap, page));

	return leaf.kind == S2_LEAF && leaf.level == 0 ? leaf.hpa : hpa_none();
}

/* Is it a frame of that type by itself, which one leaf holds? */
static bool is_one(hpa_t frame, enum frame_type type)
{
	const struct frame *f = hpa_is_none(frame) ? NULL : frame_at(frame);

	return f && f->type == type && f->order == ORDER_4K && load_acquire(&f->refs) == 1;
}

/* The record of its last holder is taken, or it was never shared in the end. */
static void make_own(struct swap *swap, u64 page, hpa_t frame)
{
	frame_at(frame)->gfn = swap_gpa(swap, page).v >> PAGE_SHIFT;
	frame_retype(frame, FRAME_GUEST, swap->vm->number);
}

/* ---- Merged ---------------------------------------------------------------------------------- */

static bool may_share(const struct swap *swap, u64 page, u64 word)
{
	return word == SWAP_SHARED || (word == SWAP_RESIDENT && swap_is_known(&swap->choice, page));
}

/* Its word; UNTOUCHED: it cannot be shared now. */
static u64 take(struct swap_place at)
{
	struct swap_page *p = &at.swap->pages[at.page];
	u64 word = load_acquire(&p->word);

	return may_share(at.swap, at.page, word) && swap_take(p, word) ? word : SWAP_UNTOUCHED;
}

static void give_back(struct swap_place at, u64 word)
{
	if (word != SWAP_UNTOUCHED) {
		swap_release(&at.swap->pages[at.page], word);
	}
}

static void became_shared(struct swap_place at, u64 word)
{
	if (word == SWAP_RESIDENT) {
		reclaim_forget(&at.swap->choice, (u32)at.page);
		swap_count_sharing(1);
		swap_uncharge(at.swap, 1);
		swap_drop_kept(at.swap, at.page);
	}
	swap_release(&at.swap->pages[at.page], SWAP_SHARED);
}

static struct s2_place place_in_space(struct swap_place at)
{
	return (struct s2_place){.s2 = &at.swap->vm->s2, .gpa = swap_gpa(at.swap, at.page)};
}

/* Both records are taken. */
static enum status merge(struct swap_place a, u64 word, struct swap_place b)
{
	hpa_t frame = frame_behind(a.swap, a.page);
	enum status status;

	if (word == SWAP_SHARED) {
		return s2_merge_pages(place_in_space(a), place_in_space(b));
	}
	if (!is_one(frame, FRAME_GUEST)) {
		return INVALID;
	}
	frame_retype(frame, FRAME_SHARED, OWNER_NONE);
	status = s2_merge_pages(place_in_space(a), place_in_space(b));
	if (status != OK) {
		make_own(a.swap, a.page, frame);
	}
	return status;
}

enum status swap_merge(struct swap_place a, struct swap_place b)
{
	u64 word_a = take(a), word_b = word_a == SWAP_UNTOUCHED ? SWAP_UNTOUCHED : take(b);
	enum status status = AGAIN;

	if (word_b != SWAP_UNTOUCHED) {
		status = merge(a, word_a, b);
	}
	if (status != OK) {
		give_back(a, word_a);
		give_back(b, word_b);
		return status;
	}
	became_shared(a, word_a);
	became_shared(b, word_b);
	return OK;
}

/* ---- Its own again --------------------------------------------------------------------------- */

/* The record is taken, and the page is charged. NOMEM: it has to be copied, and there is no
 * `fresh`; which is the caller's unless it was put there. */
static enum status leave_frame(struct swap *swap, u64 page, hpa_t fresh, bool *is_copied)
{
	hpa_t frame = frame_behind(swap, page);
	enum status status = s2_cow_fault(&swap->vm->s2, swap_gpa(swap, page), fresh, 0);

	*is_copied = status == OK;
	if (status == EXISTS) { /* it was the last holder */
		make_own(swap, page, frame);
		status = OK;
	}
	if (status == OK) {
		swap_count_sharing(-1);
	}
	return status;
}

void swap_unshare_last(struct swap *swap, u64 page)
{
	struct swap_page *p = &swap->pages[page];
	bool is_copied;

	if (!is_one(frame_behind(swap, page), FRAME_SHARED) || !swap_take(p, SWAP_SHARED)) {
		return;
	}
	if (!swap_charge(swap, 1)) {
		swap_release(p, SWAP_SHARED);
	} else if (leave_frame(swap, page, hpa_none(), &is_copied) == OK) {
		swap->choice.policy->resident(&swap->choice, (u32)page);
		swap_release(p, SWAP_RESIDENT);
	} else {
		swap_uncharge(swap, 1);
		swap_release(p, SWAP_SHARED);
	}
}

static enum status copy(struct swap *swap, u64 page)
{
	hpa_t fresh = frame_alloc(ORDER_4K, FRAME_GUEST, swap->vm->number);
	enum status status = NOMEM;
	bool is_copied = false;

	if (!hpa_is_none(fresh)) { /* now: once it is mapped it may go again at any time */
		frame_at(fresh)->gfn = swap_gpa(swap, page).v >> PAGE_SHIFT;
		status = leave_frame(swap, page, fresh, &is_copied);
		if (!is_copied) {
			frame_put(fresh);
		}
	}
	return status;
}

static enum status charge_and_copy(struct swap *swap, u64 page)
{
	enum status status = NOMEM;

	if (swap_charge(swap, 1)) {
		status = copy(swap, page);
		if (status != OK) {
			swap_uncharge(swap, 1);
		}
	}
	return status;
}

enum status swap_unshare(struct swap *swap, u64 page)
{
	struct swap_page *p = &swap->pages[page];
	u64 word = load_acquire(&p->word);
	enum status status;

	if (word == SWAP_RESIDENT) { /* write was withheld for a merge that came to nothing */
		s2_cow_fault(&swap->vm->s2, swap_gpa(swap, page), hpa_none(), 0);
	}
	if (word != SWAP_SHARED || !swap_take(p, SWAP_SHARED)) {
		return AGAIN;
	}
	status = charge_and_copy(swap, page);
	if (status == OK) {
		swap_became_resident(swap, page);
		atomic_add(&swap->totals.counters.cow_ksm, 1);
		return OK;
	}
	swap_release(p, SWAP_SHARED);
	return status == NOMEM ? NOMEM : AGAIN;
}
