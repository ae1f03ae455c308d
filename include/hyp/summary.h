/*
 * The end of a run: what people and scripts are told.
 *
 * For people a table, the most frequent exits, and a leak check that walks the frame table. For
 * scripts one JSON object, cut into lines of less than 200 bytes behind "[json] ": put together
 * without the prefixes and line ends they are summary.json. Every counter is in it, by the lists
 * that define them.
 */
#ifndef HYP_SUMMARY_H
#define HYP_SUMMARY_H

#include "hyp/exit.h"
#include "hyp/types.h"

struct vm;
struct vm_counters;

enum run_status { RUN_OK = 0, RUN_GUEST_CRASHED = 1, RUN_PANICKED = 2 };

/*
 * How the run ends: RUN_OK when every configured guest ran and powered itself off or was destroyed
 * by the operator; RUN_GUEST_CRASHED when one crashed or was refused, or when there was none at
 * all.
 */
enum run_status summary_status(void);

/*
 * Prints the table for people and, each line behind "[json] ", one JSON object with every counter,
 * which tools/lamina saves as summary.json. Called once, when the last guest has ended and all were
 * reaped. A reaped VM keeps its name, state, counters, s2.stats and vCPU blocks for it.
 */
void summary_print(enum run_status status);
/* Its second half. */
void summary_print_json(enum run_status status);

/* Counts configuration problems: a run where a guest was refused does not end with RUN_OK. */
void summary_count_refused(void);
u32 summary_refused(void);

/* ---- What the summary, the monitor and the console count alike ------------------------------ */

struct summary_exits {
	u64 total;
	u64 by_reason[EXIT_REASON_COUNT];
	enum exit_reason order[EXIT_REASON_COUNT]; /* reasons, the most frequent first */
};

/* Exits of all vCPUs of a VM. */
struct summary_exits summary_exits(const struct vm *vm);

/*
 * A VM's counters now. run_ns and stolen_ns are the sums of its vCPUs', the running ones' current
 * stretch included.
 */
struct vm_counters summary_counters(const struct vm *vm);

/* Frames of a VM that the frame table still shows, found by walking it. Zero once it is reaped. */
struct summary_leak {
	u64 guest, shared, table;
};
struct summary_leak summary_leak(const struct vm *vm);

#endif
