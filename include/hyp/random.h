/* Numbers that spread well, where the CPU has no generator of its own. */
#ifndef HYP_RANDOM_H
#define HYP_RANDOM_H

#include "hyp/types.h"

/* From the counter and `seed`, which the firmware may have given (else 0): another one at each
 * call, and good enough to spread guests' layouts; not for keys. Any CPU. */
u64 random_weak(u64 seed);

#endif
