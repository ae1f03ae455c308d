/*
 * The FPU and what followed it (SDM volume 1, chapter 13): a guest's while a vCPU is loaded.
 * Lamina's own code has no floating point, so nothing of its own is to be kept.
 */
#ifndef XSTATE_H
#define XSTATE_H

#include "hyp/types.h"

#define XSTATE_X87 BIT(0)
#define XSTATE_SSE BIT(1)
#define XSTATE_AVX BIT(2)
#define XSTATE_AVX512 BITS(7, 5)

/* Turns on all that guests may use. Every CPU. */
void xstate_init_cpu(void);
/* May a guest have this XCR0? (13.3) */
bool xstate_is_valid(u64 xcr0);
/* Bytes of an area, which is aligned to 64. */
u32 xstate_size(void);
/* As after power-on. */
void xstate_reset(void *area);

void xstate_load(const void *area, u64 xcr0);
void xstate_save(void *area);

#endif
