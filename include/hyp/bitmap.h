/* Bits in an array of words: bit n is bit n % 64 of word n / 64. Ranges are [first, end). Not
 * atomic: a bitmap is its caller's. */
#ifndef HYP_BITMAP_H
#define HYP_BITMAP_H

#include "hyp/types.h"

/* Of one with that many bits, in whole words. */
static inline u64 bitmap_bytes(u64 bits)
{
	return align_up(bits, 64) / 8;
}

static inline bool bitmap_has(const u64 *bitmap, u64 bit)
{
	return bitmap[bit / 64] >> bit % 64 & 1;
}

static inline void bitmap_set(u64 *bitmap, u64 bit)
{
	bitmap[bit / 64] |= BIT(bit % 64);
}

static inline void bitmap_clear(u64 *bitmap, u64 bit)
{
	bitmap[bit / 64] &= ~BIT(bit % 64);
}

/* The bits of a range that lie in the word of its first one. */
static inline u64 bitmap_word(u64 first, u64 end)
{
	return BITS(min_u64(end - 1, first | 63) % 64, first % 64);
}

static inline void bitmap_set_range(u64 *bitmap, u64 first, u64 end)
{
	for (; first < end; first = (first | 63) + 1) {
		bitmap[first / 64] |= bitmap_word(first, end);
	}
}

static inline void bitmap_clear_range(u64 *bitmap, u64 first, u64 end)
{
	for (; first < end; first = (first | 63) + 1) {
		bitmap[first / 64] &= ~bitmap_word(first, end);
	}
}

/* Is any bit of the range set; is any clear? */
static inline bool bitmap_any_set(const u64 *bitmap, u64 first, u64 end)
{
	for (; first < end; first = (first | 63) + 1) {
		if (bitmap[first / 64] & bitmap_word(first, end)) {
			return true;
		}
	}
	return false;
}

static inline bool bitmap_any_clear(const u64 *bitmap, u64 first, u64 end)
{
	for (; first < end; first = (first | 63) + 1) {
		if (~bitmap[first / 64] & bitmap_word(first, end)) {
			return true;
		}
	}
	return false;
}

#endif
