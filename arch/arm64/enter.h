/* What enter.S and C share. vcpu.c asserts the offsets. */
#ifndef ENTER_H
#define ENTER_H

#define VCPU_PC 248 /* x0..x30, then pc, pstate */

#define GUEST_EXIT_SYNC 0
#define GUEST_EXIT_IRQ 1
#define GUEST_EXIT_FIQ 2
#define GUEST_EXIT_SERROR 3

#endif
