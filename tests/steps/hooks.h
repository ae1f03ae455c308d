/* Between hooks.cc, which the compiler's calls reach, and the scheduler. */
#ifndef TESTS_STEPS_HOOKS_H
#define TESTS_STEPS_HOOKS_H

#include "explorer.h"

namespace steps
{

/* Before an access; another CPU may run meanwhile. False: this access is no step. */
bool before_access(const void *address);
/* The same for a plain read, which is a step when it is of a table. */
bool plain_read(const void *address);
/* After it: what is there now, in `size` bytes, and whether this access wrote it. */
void after_access(const void *address, u32 size, u64 value, bool wrote);

} // namespace steps

#endif
