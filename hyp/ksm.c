/*
 * The scanner. One CPU at a time is here, with the lock of the guest whose pages it looks at, and
 * tries that of another guest when it merges: who takes pages away is not kept waiting for long,
 * and where it is at work we come again.
 *
 * Bytes are read from the frame while the guest may write them. So a hash, and what is found equal
 * here, is a hint: swap_merge() compares when nobody can write.
 */
#include "hyp/ksm.h"

#include "ksm_internal.h"
#include "swap_internal.h"

#include "hyp/s2_cursor.h"
#include "hyp/store.h"
#include "hyp/swap_share.h"

#include <string.h>

/* Of a tick: pages that are hashed, records that are looked at, blocks that are split. */
#define HASHED 512
#define LOOKED 16384
#define SPLITS 2
/* Pages of a block of 2 MiB that would go, for it to be split: an eighth. */
#define BLOCK_PROMISE (SWAP_BLOCK_PAGES / 8)

#define WORDS (PAGE_SIZE / sizeof(u64))

static struct {
	bool is_on; /* atomic */
	bool stores_zeros;

	/* Where it is, and what is left of this tick. */
	u32 guest;
	u64 page;
	u64 promise; /* pages of this block of 2 MiB that would go */
	u32 hashed_left, looked_left, splits_left;

	u64 words[WORDS]; /* of the page that is hashed */

	u64 unshared, changed; /* pages, in this round */
	struct ksm_counters counters;
} ksm;

/* ---- Life ------------------------------------------------------------------------------------ */

enum status ksm_init(const struct config *config)
{
	memset(&ksm, 0, sizeof(ksm));
	ksm.is_on = config->ksm;
	ksm.stores_zeros = config->stores & BIT(STORE_zero);
	return ksm_table_init(swap_machine_max());
}

void ksm_fini(void)
{
	ksm_table_fini();
}

void ksm_turn(bool on)
{
	store_relaxed(&ksm.is_on, on);
}

bool ksm_is_on(void)
{
	return load_relaxed(&ksm.is_on);
}

struct ksm_counters ksm_counters(void)
{
	u64 pages = swap_machine_sharing();
	struct ksm_counters c;

#define X(name) c.name = load_relaxed(&ksm.counters.name);
	KSM_COUNTERS(X)
#undef X
	c.pages_shared = swap_machine_shared();
	c.pages_sharing = pages > c.pages_shared ? pages - c.pages_shared : 0;
	return c;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* Calls `fn` with the page's bytes, which stay where they are meanwhile. 0: it has none. */
static u32 with_bytes(struct swap_place at, u32 (*fn)(const void *bytes, const void *context),
		      const void *context)
{
	struct s2 *s2 = &at.swap->vm->s2;
	u64 outer = s2_walk_begin(s2);
	struct s2_leaf leaf = s2_query(s2, swap_gpa(at.swap, at.page));
	u32 answer = leaf.kind == S2_LEAF ? fn(hpa_ptr(leaf.hpa), context) : 0;

	s2_walk_end(s2, outer);
	return answer;
}

/* Guests write meanwhile, so words are read one by one. */
static u32 hash_of(const void *bytes, unused const void *context)
{
	const u64 *words = bytes;

	for (u32 i = 0; i < WORDS; i++) {
		ksm.words[i] = load_relaxed(&words[i]);
	}
	return store_checksum(store_hash(ksm.words));
}

enum likeness { DIFFERENT, EQUAL, ONE_FRAME };

static u32 like(const void *bytes, const void *other)
{
	const u64 *a = bytes, *b = other;
	u32 i = 0;

	if (a == b) {
		return ONE_FRAME;
	}
	while (i < WORDS && load_relaxed(&a[i]) == load_relaxed(&b[i])) {
		i++;
	}
	return i == WORDS ? EQUAL : DIFFERENT;
}

static u32 like_page(const void *bytes, const void *place)
{
	return with_bytes(*(const struct swap_place *)place, like, bytes);
}

static enum likeness compare(struct swap_place a, struct swap_place b)
{
	return (enum likeness)with_bytes(a, like_page, &b);
}

/* ---- One page and its like ------------------------------------------------------------------- */

static struct ksm_candidate candidate_of(const struct swap_place *at, u32 hash)
{
	return (struct ksm_candidate){
		.page = (u32)at->page,
		.guest = (u16)(ksm.guest + 1),
		.seen = (u16)ksm.counters.full_scans,
		.hash = hash,
	};
}

static bool is_same(const struct ksm_candidate *a, const struct ksm_candidate *b)
{
	return a->guest == b->guest && a->page == b->page;
}

static bool is_whole(struct swap_place at)
{
	return load_acquire(&at.swap->is_whole[at.page / SWAP_BLOCK_PAGES]);
}

/* Its pages are told apart from now on, unless enough was split in this tick. */
static bool split_around(struct swap_place at)
{
	if (ksm.splits_left == 0) {
		return false;
	}
	ksm.splits_left--;
	return swap_split_block(at.swap, (u32)(at.page / SWAP_BLOCK_PAGES));
}

static enum swap_state state_of(struct swap_place at)
{
	return swap_state(load_acquire(&at.swap->pages[at.page].word));
}

/* With the locks of both guests. True: they are in one frame now. */
static bool merge(struct swap_place a, struct swap_place b)
{
	enum likeness likeness = compare(a, b);
	bool is_merged;

	if (likeness != EQUAL || (is_whole(a) && !split_around(a))) {
		return likeness == ONE_FRAME;
	}
	is_merged = swap_merge(a, b) == OK;
	count_add(&ksm.counters.pages_merged, is_merged);
	return is_merged;
}

/* The candidate's guest is locked. Is it still what it was? */
static bool is_current(struct swap_place at, u32 hash)
{
	return !at.swap->has_ended && at.swap->pages[at.page].checksum == hash &&
	       (state_of(at) == SWAP_SHARED || state_of(at) == SWAP_RESIDENT);
}

/* Likewise; a page that is not shared does not draw one out of its frame that is: that one takes
 * its place, and will draw it. */
static bool settle(struct ksm_candidate *other, struct swap_place to,
		   const struct ksm_candidate *self, struct swap_place at)
{
	if (!is_current(to, other->hash)) {
		other->guest = 0;
		return false;
	}
	if (state_of(at) == SWAP_SHARED && state_of(to) == SWAP_RESIDENT) {
		*other = *self;
		return true;
	}
	swap_admit_newcomers(to.swap);
	return merge(to, at);
}

/* True: no other candidate has to be asked. */
static bool try_candidate(struct ksm_candidate *other, const struct ksm_candidate *self,
			  struct swap_place at)
{
	struct swap_place to = {vms[other->guest - 1]->swap, other->page};
	bool is_settled;

	if (to.swap != at.swap && !lock_try(&to.swap->lock)) {
		return false;
	}
	is_settled = settle(other, to, self, at);
	if (to.swap != at.swap) {
		lock_drop(&to.swap->lock);
	}
	return is_settled;
}

/* NULL: no other page has this hash. */
static struct ksm_candidate *next_like(const struct ksm_candidate *self, u32 *way)
{
	struct ksm_set *set = ksm_set_of(self->hash);

	while (*way < KSM_WAYS) {
		struct ksm_candidate *c = &set->ways[(*way)++];

		if (c->guest != 0 && c->hash == self->hash && !is_same(c, self)) {
			return c;
		}
	}
	return NULL;
}

/* It waits for others of its kind, and is the first of them if it is shared. */
static void remember(const struct ksm_candidate *self)
{
	struct ksm_set *set = ksm_set_of(self->hash);

	for (u32 i = 0; i < KSM_WAYS; i++) {
		if (is_same(&set->ways[i], self)) {
			set->ways[i] = *self;
			return;
		}
	}
	ksm_remember(*self);
}

/* True: it is in a frame with another of its kind. */
static bool find_like(struct swap_place at, const struct ksm_candidate *self)
{
	struct ksm_candidate *other;
	u32 way = 0;

	while ((other = next_like(self, &way))) {
		if (try_candidate(other, self, at)) {
			other->seen = self->seen;
			return true;
		}
	}
	return false;
}

/* ---- A page, by where it is ------------------------------------------------------------------ */

/* It is in a block of 2 MiB: would it go? At the block's end that is split, or not. */
static void visit_part(struct swap_place at, const struct ksm_candidate *self, bool is_steady)
{
	u64 part = at.page % SWAP_BLOCK_PAGES;
	bool is_zero = self->hash == 0 && ksm.stores_zeros;
	u32 way = 0;

	ksm.promise = part == 0 ? 0 : ksm.promise;
	if (is_zero || (is_steady && next_like(self, &way))) {
		ksm.promise++;
	} else if (is_steady) {
		remember(self);
	}
	if (part == SWAP_BLOCK_PAGES - 1 && ksm.promise >= BLOCK_PROMISE) {
		split_around(at);
	}
}

static void give_to_store(struct swap_place at)
{
	if (swap_is_known(&at.swap->choice, at.page)) {
		reclaim_forget(&at.swap->choice, (u32)at.page);
		swap_add_victim(at.swap, (u32)at.page);
	}
}

static void visit_resident(struct swap_place at)
{
	struct swap_page *p = &at.swap->pages[at.page];
	u32 hash = with_bytes(at, hash_of, NULL);
	bool is_steady = p->checksum == hash;
	struct ksm_candidate self = candidate_of(&at, hash);

	ksm.hashed_left--;
	ksm.changed += !is_steady;
	p->checksum = hash;
	if (is_whole(at)) {
		visit_part(at, &self, is_steady);
	} else if (hash == 0 && ksm.stores_zeros) {
		give_to_store(at);
	} else if (is_steady && !find_like(at, &self)) {
		ksm.unshared++;
		remember(&self);
	}
}

/* One of all that share a frame is enough to be remembered; and two frames may have come to be
 * shared that are alike. */
static void visit_shared(struct swap_place at)
{
	struct ksm_candidate self = candidate_of(&at, at.swap->pages[at.page].checksum);

	swap_unshare_last(at.swap, at.page);
	if (!find_like(at, &self)) {
		remember(&self);
	}
}

static void visit(struct swap_place at)
{
	switch (state_of(at)) {
	case SWAP_RESIDENT:
		visit_resident(at);
		break;
	case SWAP_SHARED:
		visit_shared(at);
		break;
	default:
		break;
	}
}

/* ---- All pages, in turns --------------------------------------------------------------------- */

static void end_round(void)
{
	store_relaxed(&ksm.counters.pages_unshared, ksm.unshared);
	store_relaxed(&ksm.counters.pages_volatile, ksm.changed);
	ksm.unshared = ksm.changed = 0;
	count_add(&ksm.counters.full_scans, 1);
}

/* The guest is locked. False: this tick is over. */
static bool scan_guest(struct swap *swap)
{
	swap_admit_newcomers(swap);
	while (ksm.page < swap->page_count && ksm.hashed_left > 0 && ksm.looked_left > 0) {
		visit((struct swap_place){swap, ksm.page++});
		ksm.looked_left--;
	}
	if (swap->victim_count > 0) {
		count_add(&ksm.counters.pages_zeroed, swap_take_away(swap));
	}
	return ksm.page == swap->page_count;
}

static void next_guest(void)
{
	ksm.page = 0;
	if (++ksm.guest >= load_acquire(&vm_count)) {
		ksm.guest = 0;
		end_round();
	}
}

/* False: this tick is over. */
static bool scan_some(void)
{
	struct swap *swap = vms[ksm.guest]->swap;
	bool is_through = true;

	if (swap && !vm_has_ended(vms[ksm.guest])) {
		if (!lock_try(&swap->lock)) {
			return false;
		}
		is_through = swap->has_ended || scan_guest(swap);
		lock_drop(&swap->lock);
	}
	if (is_through) {
		next_guest();
	}
	return is_through && ksm.guest > 0; /* a round is enough for a tick */
}

void ksm_tick(void)
{
	if (!ksm_is_on() || load_acquire(&vm_count) == 0) {
		return;
	}
	ksm.hashed_left = HASHED;
	ksm.looked_left = LOOKED;
	ksm.splits_left = SPLITS;
	while (scan_some()) {
	}
}
