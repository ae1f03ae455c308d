/*
 * The virtual GICv3: distributor, one redistributor a vCPU, list registers.
 *
 * Software holds what each interrupt is (enabled, pending, line level, priority, group, target);
 * the list registers (LRs) of a loaded vCPU hold what its CPU interface delivers now. An interrupt
 * is made pending by setting a bit here and raising VCPU_REQUEST_IRQ at its target; vgic_sync(),
 * run by the target's CPU before it enters the guest, moves the most urgent ones into free LRs.
 * What does not fit waits, and a maintenance interrupt is asked for when the guest has taken all
 * that did fit.
 *
 * Acknowledge and end by the guest cost no exit. A guest timer's interrupt is tied to the physical
 * one (LR.HW), so that the guest's end of interrupt deactivates it.
 *
 * There is one security state (GICD_CTLR.DS = 1), affinity routing always, no LPIs. vCPU n has the
 * affinity vgic_affinity(n).
 *
 * Manual: Arm IHI 0069 (GICv3), chapters 4, 5, 12.
 */
#ifndef VGIC_H
#define VGIC_H

#include "hyp/lock.h"
#include "hyp/status.h"
#include "hyp/types.h"

struct vm;
struct vcpu;
struct mmio_ops;

#define VGIC_INTIDS 256 /* SGIs, PPIs and SPIs there are; GICD_TYPER says so */
#define VGIC_PRIVATE 32
#define VGIC_SPIS (VGIC_INTIDS - VGIC_PRIVATE)
#define VGIC_BANKS (VGIC_INTIDS / 32) /* bank 0 is private to a vCPU */
#define VGIC_LRS_MAX 16
#define VGIC_AP_MAX 4

/* State of 32 interrupts, a bit each; guarded by vgic.lock. */
struct vgic_bank {
	/* What the guest chose. */
	u32 enabled;
	u32 group1;
	u32 edge; /* configured as edge-triggered; SGIs always */

	/* What the interrupt is, as far as no LR holds it. */
	u32 pending; /* latched: edges, SGIs, timers, writes to ISPENDR */
	u32 level;   /* input line is high now; says nothing about edge-triggered ones */
	u32 active;

	/* Held by some LR. The others are subsets of in_lr. */
	u32 in_lr;
	u32 latched;	  /* its pending state came out of `pending`, and goes back there */
	u32 touched;	  /* something above or below changed since: the holder must look */
	u32 drop_pending; /* the guest asked for it; done when the holder looks */
	u32 drop_active;
	u32 make_active;

	u8 priority[32];
};

/* A vCPU's private interrupts, and its CPU interface. Guarded by vgic.lock, too. */
struct vgic_cpu {
	struct vgic *gic; /* NULL until vgic_vcpu_reset */
	u32 id;

	/*
	 * Bit b: bank b may have something deliverable here that no LR holds. A clear bit is a
	 * promise that it has not, so nothing ever searches all interrupts.
	 */
	u32 waiting;
	u32 routed[VGIC_BANKS]; /* which of a bank's interrupts come here; all of bank 0 */
	struct vgic_bank bank;

	/* PPIs (bits) whose instance in flight holds the physical one of this CPU active. */
	u32 hw;

	/* Acknowledged here, but their LR was needed for something more urgent. */
	u32 evicted_banks; /* bit b: evicted[b] is not 0 */
	u32 evicted[VGIC_BANKS];

	u8 private_lr[VGIC_PRIVATE]; /* which LR holds it, where bank.in_lr */
	u32 lr_used;	      /* bit n: LR n holds an interrupt, or did when last looked at */
	u64 lr[VGIC_LRS_MAX]; /* as last written or read; the truth while not loaded */
	u64 hcr;	      /* ICH_HCR_EL2 as it is to be while loaded */
	u64 vmcr;	      /* these three only while not loaded */
	u64 ap0r[VGIC_AP_MAX];
	u64 ap1r[VGIC_AP_MAX];

	u32 waker; /* GICR_WAKER */
	bool loaded;
	bool stale; /* loaded, and its LRs do not yet show what a register write asked for */
};

struct vgic {
	struct lock lock; /* vgic: guards all state here and in each vgic_cpu */
	struct vm *vm;
	u32 ctlr;		  /* GICD_CTLR */
	u32 lr_mask;		  /* bit n: LR n exists */
	u32 group0_on, group1_on; /* ~0 where GICD_CTLR enables that group, else 0 */
	bool forced;		  /* the guest once made an interrupt active by a register write */

	/* vCPUs, a bit each, to be seen to when the lock is dropped. */
	u32 recall; /* an LR of theirs was touched */
	u32 notify; /* something new waits for them */

	struct vgic_bank spi[VGIC_BANKS - 1];
	u64 route[VGIC_SPIS]; /* GICD_IROUTER */
	u8 target[VGIC_SPIS]; /* vCPU that `route` names, or VGIC_NOBODY */
	u8 holder[VGIC_SPIS]; /* vCPU whose LR holds it, where in_lr */
};

#define VGIC_NOBODY 0xff

/* MPIDR_EL1 affinity of vCPU n, as SGI target lists like it: sixteen to a cluster. */
static inline u64 vgic_affinity(u32 n)
{
	return (u64)(n / 16) << 8 | n % 16;
}

/*
 * vgic_create allocates and resets; NULL when out of memory. NULL is fine for vgic_destroy.
 * vgic_init is vgic_create for memory of the caller's, zeroed. vgic_reset: as new; no vCPU is
 * loaded, and each is reset by vgic_vcpu_reset before it runs again. vgic_vcpu_reset alone (a vCPU
 * powered on again) loses no SPI.
 */
struct vgic *vgic_create(struct vm *vm);
void vgic_destroy(struct vgic *gic);
void vgic_init(struct vgic *gic, struct vm *vm);
void vgic_reset(struct vgic *gic);
void vgic_vcpu_reset(struct vcpu *vcpu);

/* Registers, for vm_mmio_add; device = struct vgic. One redistributor region for all vCPUs. */
extern const struct mmio_ops vgic_distributor_ops;
extern const struct mmio_ops vgic_redistributor_ops;
#define VGIC_DISTRIBUTOR_SIZE 0x10000ull
#define VGIC_REDISTRIBUTOR_SIZE 0x20000ull /* per vCPU */

/* An SPI's input line, any CPU. `intid` from 32. No lock further right than vgic is held. */
void vgic_set_spi(struct vgic *gic, u32 intid, bool level);

/*
 * A guest timer's physical interrupt `intid` fired and was acknowledged on the CPU where `vcpu` is
 * loaded, and is left active: delivered with LR.HW, so that the guest's end of interrupt
 * deactivates the physical one. If the guest has it disabled, it stays active and silent until it
 * is delivered, or until the line is found low again.
 */
void vgic_raise_timer(struct vcpu *vcpu, u32 intid);

/* The loaded guest wrote ICC_SGI1R_EL1; ICC_SGI0R_EL1 or ICC_ASGI1R_EL1 (group 0 only). */
void vgic_send_sgi(struct vcpu *vcpu, u64 sgi1r);
void vgic_send_sgi0(struct vcpu *vcpu, u64 sgi0r);

/*
 * The loaded guest wrote ICC_DIR_EL1. Trapped (ICH_HCR_EL2.TDIR) only while some active interrupt
 * has no LR, which the hardware could not deactivate.
 */
void vgic_deactivate(struct vcpu *vcpu, u64 dir);

/* Before entry, VCPU_REQUEST_IRQ was set: fill list registers. Loaded here, timers too. */
void vgic_sync(struct vcpu *vcpu);
/* The maintenance interrupt: LRs are looked at again, which ends its cause. */
void vgic_maintain(struct vcpu *vcpu);

/*
 * The CPU interface's state moves in and out of the CPU. Load before the guest's timers are, put
 * after they are off: a physical timer interrupt in flight is made active, or inactive, here.
 */
void vgic_load(struct vcpu *vcpu);
void vgic_put(struct vcpu *vcpu);

/*
 * Would the guest's CPU interface signal something, in LRs or waiting, by its groups and priority
 * mask? Ends a WFI. Of a loaded vCPU, on its own CPU; else anywhere.
 */
bool vgic_has_pending(struct vcpu *vcpu);

#endif
