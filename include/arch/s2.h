/* Questions about second-level tables and TLBs that each architecture answers. */
#ifndef ARCH_S2_H
#define ARCH_S2_H

#include "hyp/s2.h"

/* The format this machine's MMU reads, and how many guest-physical bits it can do. */
const struct s2_format *arch_s2_format(void);
unsigned arch_s2_ipa_bits(void);
/* Of enum s2_trait. */
u8 arch_s2_traits(void);

/* How many identities (VMIDs, VPIDs, ASIDs) hardware tells apart, the unused 0 included: 2^n. */
unsigned arch_s2_ident_bits(void);

/*
 * arch_s2_broadcasts(), in <arch_inline.h>: does one CPU's invalidation reach all CPUs? If so
 * arch_s2_flush_* act everywhere and are called by the closer; if not they act on this CPU and are
 * called by each before it enters.
 */

/*
 * Forgets translations of [start, start + size) made from leaves of `level` (S2_LEVELS_MAX: of any,
 * tables above included). What stage 1 made of them stays until arch_s2_flush_tail().
 */
void arch_s2_flush_range(const struct s2 *s2, gpa_t start, u64 size, unsigned level);
/* Once per batch, after its ranges: combined stage-1 translations, and wait for completion. */
void arch_s2_flush_tail(const struct s2 *s2);
/* Everything of this space, as far as arch_s2_broadcasts() says, and wait for completion. */
void arch_s2_flush_space(const struct s2 *s2);
/* Everything of this space on this CPU alone. */
void arch_s2_flush_local(const struct s2 *s2);
/* Every identity: on all CPUs where invalidations are broadcast, else on this one. */
void arch_s2_flush_idents(void);

/* How many invalidations arch_s2_flush_range() would take. */
u64 arch_s2_flush_cost(const struct s2 *s2, u64 size, unsigned level);

/* A new table page was filled: make it visible to table walkers before it is linked. */
void arch_s2_publish_table(const void *table, u64 size);
/* Entries of a table were written whose walkers do not snoop (S2_NONCOHERENT): cleans each cache
 * line of [start, start + size) to memory, once. */
void arch_s2_clean(const void *start, u64 size);

#endif
