/*
 * The registers behind arch/arm64/el1.h, for tests of arm64's emulation. One set: a test uses one
 * vCPU at a time, or does not care.
 */
#ifndef FAKE_EL1_H
#define FAKE_EL1_H

#include "../arm64/el1.h"

struct fake_el1 {
	u64 regs[EL1_MDSCR + 1]; /* by enum el1_register */
	u64 fault_address;
	bool traps_controls;
	u64 cleaned_bytes; /* by el1_clean_invalidate, in all */
	u64 clean_calls;
};

extern struct fake_el1 fake_el1;

#endif
