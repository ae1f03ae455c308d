/* What this machine's EPT is like, found once at boot. */
#ifndef S2_MACHINE_H
#define S2_MACHINE_H

#include "hyp/s2.h"

#include "s2_ept_check.h"

/* Behind vmx_init(), before any space exists. */
void s2_machine_init(void);
/* The EPTP of a space. */
u64 s2_machine_pointer(const struct s2 *s2);
/* What this machine's CPUs take for good entries. */
const struct s2_ept_cpu *s2_machine_cpu(void);

#endif
