/* The slow half of a lock: somebody else is in. Out of line, so that taking a free one stays short.
 */
#include "hyp/lock.h"

void lock_wait(struct lock *l, u32 ticket)
{
	while (load_acquire(&l->serving) != ticket) {
		cpu_relax();
	}
}
