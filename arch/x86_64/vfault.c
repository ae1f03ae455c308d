#include "vfault.h"

#define DOUBLE_FAULT 8
#define PAGE_FAULT 14

enum rank { BENIGN, CONTRIBUTORY, PAGE };

/* Contributory are division, invalid TSS, segment not present, stack and general protection. */
static enum rank rank_of(u8 vector)
{
	if (vector == 0 || (vector >= 10 && vector <= 13)) {
		return CONTRIBUTORY;
	}
	return vector == PAGE_FAULT ? PAGE : BENIGN;
}

u32 vfault_combine(u8 first, u8 second)
{
	enum rank before = rank_of(first), after = rank_of(second);

	if (after == BENIGN) {
		return second;
	}
	if (first == DOUBLE_FAULT) {
		return VFAULT_SHUTDOWN;
	}
	if (before == PAGE || (before == CONTRIBUTORY && after == CONTRIBUTORY)) {
		return DOUBLE_FAULT;
	}
	return second;
}
