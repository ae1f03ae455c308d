/* What the files of swap do for each other. */
#ifndef HYP_SWAP_INTERNAL_H
#define HYP_SWAP_INTERNAL_H

#include "hyp/swap.h"

#define SWAP_BLOCK_PAGES (BLOCK_SIZE / PAGE_SIZE)

/* The record's word: a state, and a frame's address (FLIGHT) or a slot (STORED) above it. */
enum swap_state {
	SWAP_UNTOUCHED,
	SWAP_RESIDENT,
	SWAP_FLIGHT,
	SWAP_STORED,
	SWAP_BUSY,
	SWAP_LEAVING,
	SWAP_LEAVING_STORED, /* with its slot */
	SWAP_SHARED,
};
#define SWAP_STATE_BITS 3
#define SWAP_STATE BITS(SWAP_STATE_BITS - 1, 0)

static inline enum swap_state swap_state(u64 word)
{
	return (enum swap_state)(word & SWAP_STATE);
}

static inline hpa_t swap_frame(u64 word)
{
	return hpa(word & ~SWAP_STATE);
}

static inline u64 swap_slot(u64 word)
{
	return word >> SWAP_STATE_BITS;
}

static inline u64 swap_word_flight(hpa_t frame)
{
	return frame.v | SWAP_FLIGHT;
}

static inline u64 swap_word_stored(u64 slot)
{
	return slot << SWAP_STATE_BITS | SWAP_STORED;
}

/* Of pages that leave: a SHARED one was nobody's charge. */
#define SWAP_LEAVING_SHARED (BIT(SWAP_STATE_BITS) | SWAP_LEAVING)

/* What S2_STORED entries say: the record says the rest. */
#define SWAP_PAYLOAD 1

/* Takes the record whose word is `word`; false: it is another now. And says what it is from now on.
 */
static inline bool swap_take(struct swap_page *page, u64 word)
{
	return cas_u64(&page->word, word, SWAP_BUSY);
}

static inline void swap_release(struct swap_page *page, u64 word)
{
	store_release(&page->word, word);
}

/* With the lock. Is the page, or the block, in a list of the policy's? Not if it hangs on that of
 * newcomers. */
static inline bool swap_is_known(const struct reclaim *choice, u64 page)
{
	return choice->pages[page].list != 0;
}

/* The record is taken: the page is mapped from now on, and new to the policy. */
void swap_became_resident(struct swap *swap, u64 page);

/* With the lock: what faults have brought is the policy's from now on. */
void swap_admit_newcomers(struct swap *swap);

/* The page, which is in memory, may have a slot on the disk still, with the bytes that it came back
 * with. Whoever has its record, or the lock where no fault can have it, drops it. */
void swap_drop_kept(struct swap *swap, u64 page);

/* A page's slot is free: its owner has no use for the bytes. */
void swap_discard_slot(struct swap *swap, u64 slot);

gpa_t swap_gpa(const struct swap *swap, u64 page);

/* Counts pages that are to have frames. False: the guest, or all guests, would have too many. */
bool swap_charge(struct swap *swap, u64 pages);
void swap_uncharge(struct swap *swap, u64 pages);

/* Pages that all guests together may have more. */
u64 swap_room(void);

/* Is there so much room that a block of 2 MiB does not have to be looked at twice? */
bool swap_is_roomy(const struct swap *swap);

/* swap_fault.c. The page's record is taken, and its table says STORED: that becomes this frame.
 * AGAIN: the table around it is another's for a moment. */
enum status swap_map_again(struct swap *swap, u64 page, hpa_t frame);

/* swap_bring_back.c. The page, whose record says `word`, is in a store. OK: it is mapped. AGAIN: so
 * is its guest asked to look, or it was ended. NOMEM: no charge or no frame. */
enum status swap_bring_back(struct swap *swap, u64 page, u64 word);

/* swap_put_away.c. With the lock, no batch open: victims that are in flight go into stores; how
 * many frames are free now. */
u64 swap_put_away(struct swap *swap);
/* What writing to a disk needs; NULL without memory. */
struct swap_writes *swap_writes_create(void);

/* swap_refold.c. Some blocks of this guest that were split are put together, if there is room. A
 * bounded piece of work, with no lock and no batch open. */
void swap_refold(struct swap *swap);
/* swap_out.c. With the lock, and no batch open. A page that is in no list is to go with others. */
void swap_add_victim(struct swap *swap, u32 page);
/* Takes away those that were added. Returns how many frames are free. */
u64 swap_take_away(struct swap *swap);
/* Tells the pages of a block of 2 MiB apart. False: it is unknown, or there is no memory. */
bool swap_split_block(struct swap *swap, u32 block);

/* swap_share.c. `sharing` changes by so many pages. */
void swap_count_sharing(s64 pages);
/* The page is SHARED, and the guest writes. */
enum status swap_unshare(struct swap *swap, u64 page);

/* swap_stall.c. Around what a vCPU waits for memory in. */
void swap_stall_begin(struct swap *swap);
void swap_stall_end(struct swap *swap);

/* swap_heat.c, swap_trace.c. Of the last round; nothing in particular of a guest that ends
 * meanwhile. */
void swap_heat_print(struct swap *swap, u64 time_ns);
void swap_trace_print(struct swap *swap, u64 time_ns);

/* The fault's page could not be charged, or had no frame. AGAIN: there may be room now. NOMEM. */
enum status swap_make_room(struct swap *swap);

#endif
