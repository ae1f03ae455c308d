/*
 * INS and OUTS, as far as they are arithmetic: which bytes of memory the next elements are, whether
 * the segment lets them be used, and what the registers are behind them (SDM volume 2, INS, OUTS
 * and REP; volume 3A, 5.3 to 5.5 and 5.12 for segments).
 *
 * With REP an instruction is done in steps. A step stays in one page, or is the one element that
 * lies in two; behind each the registers are as if that many elements had been the whole, so that
 * the same instruction, executed again, goes on.
 *
 * Pure: no state, no assembly; runs on the host too.
 */
#ifndef VSTRING_H
#define VSTRING_H

#include "hyp/types.h"

#define VSTRING_STEP_MAX 64 /* elements */
#define VSTRING_SIZE_MAX 4  /* bytes of one */

/* As the VMCS has one (SDM volume 3C, table 25-2). */
struct vstring_segment {
	u64 base;
	u32 limit, rights;
	bool is_stack; /* SS, which has an exception of its own */
};

struct vstring {
	u8 size;       /* bytes of an element: 1, 2, 4 */
	u8 index_size; /* bytes of address and count: 2, 4, 8 */
	bool in;       /* INS, which writes to memory */
	bool rep;
	bool down;	/* the direction flag */
	bool long_mode; /* 64-bit code: addresses are to be canonical, segments have a base alone */
	u64 index;	/* RSI or RDI */
	u64 count;	/* RCX */
	struct vstring_segment segment;
};

struct vstring_step {
	u32 elements; /* 1 to VSTRING_STEP_MAX; the first is the highest where they go down */
	u64 at;	      /* linear address of the lowest byte */
	u64 next;     /* of the byte that begins the second page, where the element lies in two */
	u8 fault;     /* 0, or #SS or #GP with an error code of 0: no element can be done */
};

/* Elements that are to be done yet; 0: REP with a count of 0, which does nothing. */
u64 vstring_left(const struct vstring *s);

/* The next step. There is an element left. */
struct vstring_step vstring_next(const struct vstring *s);

/* Registers behind `elements` of the next step: index, and with REP count. */
void vstring_advance(struct vstring *s, u32 elements);

/* Bytes of the step, and how many of them lie in the first page that it touches. */
u32 vstring_bytes(const struct vstring *s, const struct vstring_step *step);
u32 vstring_first_bytes(const struct vstring *s, const struct vstring_step *step);

#endif
