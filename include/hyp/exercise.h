/*
 * The exerciser: works on a guest's stage-2 table while the guest runs, for tests.
 *
 * A guest whose node has lamina,exercise gets one. From its vCPUs' exits, on the CPU that is there,
 * one operation after another goes over a range of its RAM; which and where, a seed decides. The
 * guest must not notice. What was done is told at the end of the run.
 */
#ifndef HYP_EXERCISE_H
#define HYP_EXERCISE_H

#include "hyp/vcpu.h"

/* name, what it changes */
#define EXERCISES(X)                                                                               \
	X(split, "leaves")                                                                         \
	X(collapse, "blocks")                                                                      \
	X(hint, "groups") /* of leaves that may be held as one, where the format has such */       \
	X(protect, "leaves")                                                                       \
	X(remap, "leaves")   /* unmapped, and mapped again with the same frames */                 \
	X(migrate, "leaves") /* the same, with other frames */                                     \
	X(harvest, "young leaves")                                                                 \
	X(dirty, "written pages") /* logged, and watched anew */                                   \
	X(fork, "pages")	  /* of a clone that held its bytes while the guest wrote */

enum exercise_kind {
#define X(name, unit) EXERCISE_##name,
	EXERCISES(X)
#undef X
		EXERCISE_KINDS,
};

struct exercise_count {
	u64 times;   /* that something was changed, or found */
	u64 changed; /* in all */
};

/* Sets vm->exercise. Seed 0: nothing is done but what exercise_do() is asked for. False: there is
 * no memory. */
bool exercise_begin(struct vm *vm, u32 seed);
/* The guest runs no more. Gives back all but the counts, which hyp_free(vm->exercise) does. */
void exercise_end(struct vm *vm);

/* Between two entries of `vcpu`, whose VM has an exercise: every so often, one operation. Bounded:
 * a few blocks of 2 MiB. */
void exercise_step(struct vcpu *vcpu);

/* One operation on [at, at + size), pages of the VM's RAM: how much it changed. */
u64 exercise_do(struct vm *vm, enum exercise_kind kind, gpa_t at, u64 size, u64 random);

struct exercise_count exercise_count(const struct vm *vm, enum exercise_kind kind);

/* What was done, as lines of the summary; nothing for a VM without an exercise. */
void exercise_print(const struct vm *vm);

#endif
