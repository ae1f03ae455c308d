/* What this machine's EPT is like, found once at boot. */
#ifndef S2_MACHINE_H
#define S2_MACHINE_H

#include "hyp/s2.h"

/* Behind vmx_init(), before any space exists. */
void s2_machine_init(void);
/* The EPTP of a space. */
u64 s2_machine_pointer(const struct s2 *s2);

#endif
