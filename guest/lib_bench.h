/* What a benchmark of single operations prints, and where it finds memory that nothing touched. */
#ifndef GUEST_LIB_BENCH_H
#define GUEST_LIB_BENCH_H

#include "lib.h"

#define BENCH_REPEAT 64
#define BENCH_PAGES (BLOCK_SIZE / PAGE_SIZE)

struct samples {
	u64 count, sum, min, max;
};

void samples_add(struct samples *s, u64 value);
u64 samples_mean(const struct samples *s);

/*
 *	bench NAME N
 *	detail NAME min mean max
 */
void bench_report(const char *name, const struct samples *s, u64 result);
/* The least of BENCH_REPEAT calls, behind one that brings in code and data. */
void bench_measure(const char *name, u64 (*once)(void));

/* The next block of 2 MiB that nothing touched yet, from *cursor on, which moves behind it. */
u64 bench_fresh_block(u64 *cursor);

/* First touches of each page of a block, and of one more block as a whole, by `touch`: ticks. */
void bench_touch_4k(u64 *cursor, u64 (*touch_page)(u64 page));
void bench_touch_2m(u64 *cursor, u64 (*touch_block)(u64 block));

#endif
