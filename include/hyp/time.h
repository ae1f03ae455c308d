/*
 * Ticks and nanoseconds. A tick is what arch_now() counts; the architecture finds out how many
 * there are in a second, and says so once.
 */
#ifndef HYP_TIME_H
#define HYP_TIME_H

#include "hyp/types.h"

#define TIME_NEVER (~0ull) /* a deadline that does not come, in ticks */

/* `hz` ticks are a second, 1..2^63. Once, before anybody converts; until then a tick is a ns. */
void time_set_hz(u64 hz);
u64 time_hz(void);

/* Rounded down; the relative error is under 2^-58: less than a tick in a century at 1 GHz. */
u64 ticks_to_ns(u64 ticks);
u64 ns_to_ticks(u64 ns);

#endif
