/* What this machine's MMU can do at stage 2, read once at boot; and the registers of a space. */
#ifndef S2_MACHINE_H
#define S2_MACHINE_H

#include "hyp/s2.h"

void s2_machine_init(void);
u64 s2_machine_vtcr(const struct s2 *s2);
u64 s2_machine_vttbr(const struct s2 *s2);

#endif
