/* The run as a whole: from the first guest's start to the last guest's end. */
#ifndef HYP_RUN_H
#define HYP_RUN_H

#include "hyp/types.h"

/* Guests are about to start: `count` of them. When that many have ended, the run ends. */
void run_begin(u32 count);

/* A guest has ended and everything it held was given back. The last one prints the summary and ends
 * the machine with its status; then this does not return. */
void run_guest_ended(void);

/* The operator quits: every guest is destroyed, which ends the run. */
void run_quit(void);

#endif
