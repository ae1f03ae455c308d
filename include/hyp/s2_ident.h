/*
 * Identities of spaces in the TLB: VMID, VPID, ASID.
 *
 * One allocator for all. An identity is (generation << 16 | number); it is good while its
 * generation is the allocator's. Running out starts a new generation: all numbers are free again,
 * save those that some CPU has loaded now, which keep theirs, and every TLB forgets everything
 * once.
 */
#ifndef HYP_S2_IDENT_H
#define HYP_S2_IDENT_H

#include "hyp/s2.h"

#define S2_IDENT_NUMBER(ident) ((ident)&0xffff)

/* `bits` of number (1..16), number 0 is never given out. Once, before any space is loaded. */
void s2_ident_init(unsigned bits);

/* This CPU is about to load `s2`: makes sure that its identity is good, and flushes what a rollover
 * owes this CPU. The space counts as loaded here until the next call or s2_ident_unload(). */
void s2_ident_load(struct s2 *s2);
void s2_ident_unload(void);

/* Times that the numbers ran out. */
extern u64 s2_ident_rollovers;

#endif
