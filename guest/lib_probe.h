/* Questions to Lamina about the table behind this guest: include/hyp/probe.h says what they mean.
 * Its node has lamina,probe. */
#ifndef GUEST_LIB_PROBE_H
#define GUEST_LIB_PROBE_H

#include "lib.h"

enum probe {
	PROBE_DIRTY_START,
	PROBE_DIRTY_STOP,
	PROBE_DIRTY_GET,
	PROBE_DIRTY_CLEAR,
	PROBE_DIRTY_LOGS,
	PROBE_EXERCISE,
	PROBE_KICKS,
	PROBE_KICKS_SAVED,
	PROBE_ROUNDS,
	PROBE_VIEW_ADD,
	PROBE_VIEW_PROTECT,
};

/* Kinds of PROBE_EXERCISE, numbered as in include/hyp/exercise.h. */
enum exercise {
	EXERCISE_SPLIT,
	EXERCISE_COLLAPSE,
	EXERCISE_HINT,
	EXERCISE_PROTECT,
	EXERCISE_REMAP,
	EXERCISE_MIGRATE,
	EXERCISE_HARVEST,
};

enum probe_perm { PROBE_READ = 1, PROBE_WRITE = 2, PROBE_EXEC = 12 };

#define PROBE_CALLS 0x4c00u

static inline u64 probe(enum probe call, u64 a, u64 b, u64 c)
{
	return machine_call(PROBE_CALLS + call, a, b, c);
}

/* Is there anybody to ask? A guest that is not run for it ends here, with a failure. */
static inline void probe_need(void)
{
	if (probe(PROBE_DIRTY_STOP, 0, 0, 0) != 0) {
		check("lamina_probe", false, "this guest's node needs lamina,probe");
		guest_end();
	}
}

#endif
