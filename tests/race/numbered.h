// Pages that hold the number of the guest page which they are mapped at: who reads another number
// uses a frame that went elsewhere.
#ifndef RACE_NUMBERED_H
#define RACE_NUMBERED_H

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/s2.h"
}

inline const struct s2_attr kRwx = {S2_RWX, S2_NORMAL};

inline u64 number_of(u64 page)
{
	return page * 0x9e3779b97f4a7c15ull + 1;
}

// As a fault does: every page of the block gets its number; then it is mapped, unless somebody was
// faster. Pages are counted from `base`, which a block is aligned to.
inline void map_numbered(struct s2 *s2, u64 base, u64 page, bool large)
{
	u64 first = large ? page & ~511ull : page;
	hpa_t frame = frame_alloc(large ? ORDER_2M : ORDER_4K, FRAME_GUEST, 1);

	if (hpa_is_none(frame)) {
		return;
	}
	for (u64 i = 0; i < (large ? 512 : 1); i++) {
		store_relaxed((u64 *)hpa_ptr(hpa_add(frame, i * PAGE_SIZE)), number_of(first + i));
	}
	if (s2_map_leaf(s2, gpa(base + first * PAGE_SIZE), large, frame, kRwx) != OK) {
		frame_put(frame);
	}
}

#endif
