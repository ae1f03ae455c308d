/*
 * Paravirtual time (DEN0057): a guest learns how long its CPUs waited for a real one.
 *
 * One page of Lamina's, at GUEST_PV_TIME_BASE outside of RAM, readable by the guest, with a record
 * of 64 bytes for each vCPU. A record is written whenever its vCPU is loaded after it asked for it.
 */
#ifndef VTIME_PV_H
#define VTIME_PV_H

#include "hyp/vcpu.h"

#define PV_TIME_FEATURES 0xc5000020u
#define PV_TIME_ST 0xc5000021u

#define VTIME_PV_NONE (~0ull) /* of arch.stolen_gpa: the vCPU has not asked */

/* DEN0057 3.2.2. Little-endian. */
struct vtime_pv_record {
	u32 revision;	/* 0 */
	u32 attributes; /* 0 */
	u64 stolen_ns;
	u8 reserved[48];
};
static_assert(sizeof(struct vtime_pv_record) == 64, "64 bytes a record");
static_assert(VM_VCPUS_MAX * sizeof(struct vtime_pv_record) <= PAGE_SIZE, "all in one page");

/* `function` is x0 of the call; the result is the new x0. */
u64 vtime_pv_call(struct vcpu *vcpu, u32 function);

void vtime_pv_write(struct vcpu *vcpu);

/* When the vCPU is loaded. */
static inline void vtime_pv_update(struct vcpu *vcpu)
{
	if (vcpu->arch.stolen_gpa != VTIME_PV_NONE) {
		vtime_pv_write(vcpu);
	}
}

/* When the VM goes: gives the page back. Safe when there is none. */
void vtime_pv_fini(struct vm *vm);

#endif
