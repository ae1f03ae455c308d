/*
 * Where the machine's time went, in ticks of arch_now(): on a machine that counts instructions a
 * tick is one, so these are what the benchmarks read out of the summary.
 */
#ifndef HYP_ACCOUNT_H
#define HYP_ACCOUNT_H

#include "hyp/exit.h"

/* arch_now() when the first guest was first entered; 0 when none was. */
extern u64 account_before_guest_ticks;

/* Ticks spent between an exit of this reason and the next entry, or the vCPU's leaving its CPU; all
 * CPUs, all guests. */
u64 account_inside_ticks(enum exit_reason reason);

#endif
