/*
 * The GIC's hypervisor interface, by function, so that vgic*.c has no assembly and its unit tests
 * can answer for the hardware. Implemented in ich.c. Manual: Arm IHI 0069, 12.4 (ICH_*_EL2).
 */
#ifndef ICH_H
#define ICH_H

#include "hyp/types.h"

u32 ich_lr_count(void); /* 1..16, constant */
u64 ich_read_lr(u32 n);
void ich_write_lr(u32 n, u64 value);
u64 ich_read_vmcr(void);
void ich_write_vmcr(u64 value);
/* Active priorities registers there are of each group, by ICH_VTR_EL2.PREbits: 1, 2 or 4; constant.
 */
u32 ich_ap_count(void);
u64 ich_read_ap0r(u32 n);
void ich_write_ap0r(u32 n, u64 value);
u64 ich_read_ap1r(u32 n);
void ich_write_ap1r(u32 n, u64 value);
u64 ich_read_hcr(void);
void ich_write_hcr(u64 value);

/* This CPU's physical PPI `intid`: its active bit. */
void gic_set_ppi_active(u32 intid, bool active);
bool gic_ppi_is_active(u32 intid);
/* Its input line is high now: GICR_ISPENDR0 of a level-sensitive interrupt, active or not. */
bool gic_ppi_is_pending(u32 intid);

#endif
