/*
 * A vCPU's state in and out of a CPU: EL1 registers, FP/SIMD, timers, pointer authentication keys,
 * and the EL2 controls that belong to it. What every exit saves is in enter.S.
 */
#include <arch/vm.h>

#include "hyp/log.h"
#include "hyp/s2_ident.h"

#include "enter.h"
#include "fp.h"
#include "ich.h"
#include "s2_machine.h"
#include "sysreg.h"
#include "vtime_pv.h"

static_assert(offsetof(struct vcpu, arch) == 0, "enter.S takes a vcpu for an arch_vcpu");
static_assert(offsetof(struct arch_vcpu, x) == 0, "enter.S");
static_assert(offsetof(struct arch_vcpu, pc) == VCPU_PC, "enter.S");
static_assert(offsetof(struct arch_vcpu, pstate) == VCPU_PC + 8, "enter.S");

#define VMPIDR_RES1 BIT(31)

#define ID_AA64ISAR1_PAUTH (BITS(7, 4) | BITS(11, 8) | BITS(27, 24) | BITS(31, 28))
#define ID_AA64ISAR2_PAUTH (BITS(11, 8) | BITS(15, 12))
#define SYS_ID_AA64ISAR2_EL1 S3_0_C0_C6_2

static bool cpu_has_pauth(void)
{
	return (read_sysreg(id_aa64isar1_el1) & ID_AA64ISAR1_PAUTH) ||
	       (read_sysreg(SYS_ID_AA64ISAR2_EL1) & ID_AA64ISAR2_PAUTH);
}

/* What traps and what does not, one reason a line. */
static u64 hcr_of_guest(void)
{
	u64 hcr = HCR_VM | HCR_RW; /* stage 2 on; EL1 is AArch64 */

	hcr |= HCR_IMO | HCR_FMO | HCR_AMO;    /* physical interrupts come here */
	hcr |= HCR_PTW;			       /* a stage-1 table in device memory faults */
	hcr |= HCR_TSC | HCR_TID3;	       /* SMC; identification registers */
	hcr |= HCR_TIDCP | HCR_TACR;	       /* implementation-defined registers */
	hcr |= HCR_TSW;			       /* set/way is turned into the guest's own memory */
	hcr |= HCR_FB | field_set(1, HCR_BSU); /* local TLBI and barriers reach a vCPU that moves */
	hcr |= HCR_TLOR;		       /* no LORegions are shown */
	if (cpu_has_pauth()) {
		hcr |= HCR_API | HCR_APK; /* keys are switched, so nothing to trap */
	}
	if (field_get(read_sysreg(SYS_ID_AA64MMFR2_EL1), ID_AA64MMFR2_FWB)) {
		hcr |= HCR_FWB;
	}
	return hcr;
}

void arch_vcpu_init(struct vcpu *vcpu)
{
	vcpu->arch.hcr = hcr_of_guest();
	vcpu->arch.vmpidr = VMPIDR_RES1 | vcpu->id;
	vcpu->arch.stolen_gpa = ~0ull;
}

void arch_vcpu_reset(struct vcpu *vcpu, u64 entry, u64 context)
{
	struct arch_vcpu *a = &vcpu->arch;

	for (unsigned i = 0; i < ARRAY_COUNT(a->x); i++) {
		a->x[i] = 0;
	}
	a->x[0] = context;
	a->pc = entry;
	a->pstate = PSTATE_RESET;
	a->el1 = (typeof(a->el1)){.sctlr = SCTLR_EL1_RESET};
	a->cntv_ctl = a->cntv_cval = 0;
	a->cntp_ctl = a->cntp_cval = 0;
	a->stolen_gpa = ~0ull;
	a->clean_cursor = 0;
	a->hcr &= ~HCR_TVM;
	for (unsigned i = 0; i < ARRAY_COUNT(a->fp.q); i++) {
		a->fp.q[i] = 0;
	}
	a->fp.fpcr = a->fp.fpsr = 0;
	vgic_vcpu_reset(vcpu);
}

static void load_el1(const struct arch_vcpu *a)
{
#define X(field, reg) write_sysreg(reg, a->el1.field);
	EL1_REGISTERS(X)
#undef X
}

static void save_el1(struct arch_vcpu *a)
{
#define X(field, reg) a->el1.field = read_sysreg(reg);
	EL1_REGISTERS(X)
#undef X
}

/* APIA, APIB, APDA, APDB, APGA, low and high (DDI 0487, D19.2.9 and on). */
#define PAUTH_KEYS(X)                                                                              \
	X(0, S3_0_C2_C1_0)                                                                         \
	X(1, S3_0_C2_C1_1)                                                                         \
	X(2, S3_0_C2_C1_2)                                                                         \
	X(3, S3_0_C2_C1_3)                                                                         \
	X(4, S3_0_C2_C2_0)                                                                         \
	X(5, S3_0_C2_C2_1)                                                                         \
	X(6, S3_0_C2_C2_2)                                                                         \
	X(7, S3_0_C2_C2_3)                                                                         \
	X(8, S3_0_C2_C3_0)                                                                         \
	X(9, S3_0_C2_C3_1)

static void load_pauth(const struct arch_vcpu *a)
{
#define X(i, reg) write_sysreg(reg, a->pauth_keys[i]);
	PAUTH_KEYS(X)
#undef X
}

static void save_pauth(struct arch_vcpu *a)
{
#define X(i, reg) a->pauth_keys[i] = read_sysreg(reg);
	PAUTH_KEYS(X)
#undef X
}

/*
 * CNTVOFF_EL2 stays 0 (el2.c): virtual and physical time are the same, so a deadline is one number.
 * With an offset QEMU 7.2 hangs on a compare value near 2^64, which it adds to without looking.
 */
static void load_timers(const struct vcpu *vcpu)
{
	write_sysreg(cntv_cval_el0, vcpu->arch.cntv_cval);
	write_sysreg(cntp_cval_el0, vcpu->arch.cntp_cval);
	write_sysreg(cntv_ctl_el0, vcpu->arch.cntv_ctl);
	write_sysreg(cntp_ctl_el0, vcpu->arch.cntp_ctl);
}

/* Off: they are the next vCPU's. Its own deadline is kept by the scheduler. */
static void save_timers(struct arch_vcpu *a)
{
	a->cntv_ctl = read_sysreg(cntv_ctl_el0);
	a->cntv_cval = read_sysreg(cntv_cval_el0);
	a->cntp_ctl = read_sysreg(cntp_ctl_el0);
	a->cntp_cval = read_sysreg(cntp_cval_el0);
	write_sysreg(cntv_ctl_el0, 0);
	write_sysreg(cntp_ctl_el0, 0);
}

void arch_vcpu_load(struct vcpu *vcpu)
{
	s2_ident_load(&vcpu->vm->s2);
	write_sysreg(vtcr_el2, s2_machine_vtcr(&vcpu->vm->s2));
	write_sysreg(vttbr_el2, s2_machine_vttbr(&vcpu->vm->s2));
	write_sysreg(hcr_el2, vcpu->arch.hcr);
	write_sysreg(vmpidr_el2, vcpu->arch.vmpidr);
	load_el1(&vcpu->arch);
	if (vcpu->arch.hcr & HCR_APK) {
		load_pauth(&vcpu->arch);
	}
	fp_load(&vcpu->arch.fp);
	vgic_load(vcpu); /* before the timers: what is in flight must not fire again */
	load_timers(vcpu);
	vtime_pv_update(vcpu);
	isb();
}

/* DEN0057 has no word that tells a guest whether its vCPU was preempted. */
void arch_vcpu_put(struct vcpu *vcpu, unused bool preempted)
{
	save_timers(&vcpu->arch);
	isb();
	vgic_put(vcpu);
	fp_save(&vcpu->arch.fp);
	if (vcpu->arch.hcr & HCR_APK) {
		save_pauth(&vcpu->arch);
	}
	save_el1(&vcpu->arch);
	s2_ident_unload();
}

void arch_vcpu_sync_irqs(struct vcpu *vcpu)
{
	vgic_sync(vcpu);
}

bool arch_vcpu_has_irq(struct vcpu *vcpu)
{
	/* A timer that is due becomes the GIC's only when the guest is entered. */
	return vgic_has_pending(vcpu) || arch_vcpu_deadline(vcpu) <= arch_now();
}

/*
 * When a timer of the guest will fire. One that has fired already does not count: its interrupt is
 * the GIC's, and its PPI active until the guest ends it.
 */
static u64 timer_deadline(u64 ctl, u64 when, u32 intid)
{
	bool armed = (ctl & (CNT_CTL_ENABLE | CNT_CTL_IMASK)) == CNT_CTL_ENABLE;

	return armed && !gic_ppi_is_active(intid) ? when : ~0ull;
}

u64 arch_vcpu_deadline(unused struct vcpu *vcpu)
{
	u64 cntv = timer_deadline(read_sysreg(cntv_ctl_el0), read_sysreg(cntv_cval_el0),
				  GUEST_VTIMER_INTID);
	u64 cntp = timer_deadline(read_sysreg(cntp_ctl_el0), read_sysreg(cntp_cval_el0),
				  GUEST_PTIMER_INTID);

	return min_u64(cntv, cntp);
}

void arch_vcpu_trap_idle(struct vcpu *vcpu, bool trap)
{
	u64 hcr = vcpu->arch.hcr & ~(HCR_TWI | HCR_TWE);

	hcr |= trap ? HCR_TWI | HCR_TWE : 0;
	if (hcr != vcpu->arch.hcr) {
		vcpu->arch.hcr = hcr;
		write_sysreg(hcr_el2, hcr);
	}
}

u64 arch_vcpu_pc(const struct vcpu *vcpu)
{
	return vcpu->arch.pc;
}

void arch_vcpu_describe(const struct vcpu *vcpu, char *text, size_t size)
{
	const struct arch_vcpu *a = &vcpu->arch;

	text_format(text, size, "pc=0x%llx pstate=0x%llx x0=0x%llx x1=0x%llx lr=0x%llx",
		    (unsigned long long)a->pc, (unsigned long long)a->pstate,
		    (unsigned long long)a->x[0], (unsigned long long)a->x[1],
		    (unsigned long long)a->x[30]);
}
