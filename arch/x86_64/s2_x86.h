/* What EPT and NPT have in common: their shape, and where an entry's address and marks are. */
#ifndef S2_X86_H
#define S2_X86_H

#include "hyp/s2.h"

#define LARGE BIT(7)
#define ADDRESS BITS(51, 12)

/* Marks are software's: hardware ignores these bits in every entry, whatever features are on. */
#define COW BIT(52)
#define LOG BIT(53)

/*
 * Entries that are not present, and L1 terminal fault: the CPU may load ahead from the address in
 * them. Their payload is stored inverted, so that they name the upper half of what the L1 cache can
 * be asked for, which has n = 44 address bits at least: where no memory is, as long as payloads are
 * below 2^(n - 16). The empty entry names page 0, which holds nothing but what firmware left there.
 * AMD's CPUs have no L1TF: it costs nothing, and x86 has one rule.
 */
/* WRITE is the format's own. */
#define S2_X86_FACTS(depth)                                                                        \
	S2_GEOMETRY(12, 9), .plain = true, .levels = (depth), .top_level = (depth)-1,              \
			    .root_level_min = 1, .root_tables_max = 16, .leaf_levels = BITS(2, 0), \
			    .large_mask = LARGE, .large_value = LARGE, .address = ADDRESS,         \
			    .log = LOG, .cow = COW, .write = WRITE, .absent_invert = BITS(62, 15)

/* Flags that hardware sets, in leaves and on the way to them; the bits are the format's own. */
#define S2_X86_FLAGS .accessed = ACCESSED, .accessed_table = ACCESSED, .dirty = DIRTY

#endif
