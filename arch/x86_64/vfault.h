/*
 * What becomes of a fault that comes while an exception is delivered: the CPU's own rules, for the
 * deliveries that Lamina sees fail (SDM volume 3A, 6.15, tables 6-4 and 6-5). Pure.
 */
#ifndef VFAULT_H
#define VFAULT_H

#include "hyp/types.h"

#define VFAULT_SHUTDOWN 256u /* a triple fault: the CPU stops */

/*
 * The exception to deliver when `second` comes while `first` is delivered, vectors of exceptions
 * both: `second` itself, as if `first` had not been; a double fault (8); or VFAULT_SHUTDOWN.
 */
u32 vfault_combine(u8 first, u8 second);

#endif
