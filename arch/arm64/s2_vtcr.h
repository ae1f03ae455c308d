/* How the MMU is told to walk a space: VTCR_EL2 (DDI 0487). */
#ifndef S2_VTCR_H
#define S2_VTCR_H

#include "hyp/s2.h"

/* VTCR_EL2 for a space of this shape, on a CPU with these features. */
struct s2_armv8_features {
	unsigned pa_range;    /* ID_AA64MMFR0_EL1.PARange */
	bool hardware_access; /* FEAT_HAFDBS at stage 2: accessed flags */
	bool vmid16;
	bool hardware_dirty; /* and dirty state; not without accessed flags */
};
u64 s2_armv8_vtcr(const struct s2 *s2, struct s2_armv8_features features);

#endif
