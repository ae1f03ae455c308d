/* A part of a block device, as a block device. */
#ifndef HYP_BLOCK_SLICE_H
#define HYP_BLOCK_SLICE_H

#include "hyp/block.h"

struct block_slice {
	struct block block; /* first */
	struct block *whole;
	u64 first; /* sector */
};

/*
 * `sectors` from `first` on; 0: all that are left. `whole` stays while the slice is used; the name
 * is the whole one's. While a request is under way its sector is the whole one's. INVALID: it has
 * not as many. DENIED: it may not be written, and this is no read-only slice.
 */
enum status block_slice_init(struct block_slice *slice, struct block *whole, u64 first, u64 sectors,
			     bool read_only);

#endif
