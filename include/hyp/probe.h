/*
 * What a test in a guest may ask of Lamina (lamina,probe in its node): which of its pages were
 * written, how often CPUs were disturbed for it, and to have its table worked on, at a moment of
 * its own choice. Its memory stays what it is, whatever it asks.
 *
 * A call is a hypercall with a number and up to three arguments. How it is made is the
 * architecture's: x86-64 as KVM's (number PROBE_CALLS + n in RAX; RBX, RCX, RDX; answer in RAX),
 * arm64 as a vendor's of SMCCC (function 0xc6000000 + PROBE_CALLS + n in X0; X1, X2, X3; answer in
 * X0). Addresses are guest-physical, to pages of RAM; a word of 64 bits speaks of 64 pages from an
 * address on.
 */
#ifndef HYP_PROBE_H
#define HYP_PROBE_H

#include "hyp/vcpu.h"

#define PROBE_CALLS 0x4c00

/* name: arguments -> answer. A status is 0, or one of enum status. */
enum probe {
	PROBE_DIRTY_START,  /* -> status */
	PROBE_DIRTY_STOP,   /* -> 0 */
	PROBE_DIRTY_GET,    /* address, 0 -> a bit for each page that was written, by the tables; or
			       1 -> that CPUs have logged, and no longer */
	PROBE_DIRTY_CLEAR,  /* address, word -> status: pages to watch anew */
	PROBE_DIRTY_LOGS,   /* -> 1 if CPUs keep a log */
	PROBE_EXERCISE,	    /* enum exercise_kind, address, size -> what hyp/exercise.c changed */
	PROBE_KICKS,	    /* -> times that a CPU had to leave this guest for a close */
	PROBE_KICKS_SAVED,  /* -> times that one needed not, as it was not in it */
	PROBE_ROUNDS,	    /* -> closes that had something to invalidate */
	PROBE_VIEW_ADD,	    /* enum s2_perm -> number of the view, or 0 */
	PROBE_VIEW_PROTECT, /* number, address of one page, enum s2_perm -> status */
	PROBE_COUNT,
};

/* `n` is the number less PROBE_CALLS. False: there is no such call, or not for this guest. */
bool probe_call(struct vcpu *vcpu, u64 n, const u64 args[3], u64 *answer);

#endif
