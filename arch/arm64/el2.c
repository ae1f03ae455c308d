/*
 * What EL2's registers say whoever the guest is: once for each CPU at its start.
 *
 * A guest may read the counters, use both of its timers, and floating point. Debug, performance
 * monitors, trace, SVE, SME and activity monitors are not virtualised, so their registers trap.
 * Left to others: the GIC's registers (gic.c), and HCR_EL2, VTTBR_EL2, VTCR_EL2, VMPIDR_EL2,
 * CNTVOFF_EL2 of a loaded vCPU.
 */
#include "layout.h"
#include "machine.h"
#include "sysreg.h"

extern const u8 trap_vectors[];
extern u32 mem_wide; /* mem.S */

/* Vectors from this length on beat the SIMD registers; shorter ones do not pay for their set-up. */
#define SVE_WORTH_BYTES 128
#define ZCR_LEN_MAX BITS(3, 0)

static u64 make_mdcr(void)
{
	enum { PMU_ABSENT = 0, PMU_OTHER = 0xf };
	u64 pmu = field_get(read_sysreg(id_aa64dfr0_el1), ID_AA64DFR0_PMUVER);
	u64 mdcr = 0;

	if (pmu != PMU_ABSENT && pmu != PMU_OTHER) {
		/* All counters belong to EL1 as far as anybody's: HPMN above N or 0 is
		 * unpredictable. */
		mdcr |= field_set(field_get(read_sysreg(pmcr_el0), PMCR_N), MDCR_HPMN);
		mdcr |= MDCR_TPM;
		mdcr |= MDCR_TPMCR;
	}
	mdcr |= MDCR_TDA;
	mdcr |= MDCR_TDOSA;
	mdcr |= MDCR_TDRA;
	mdcr |= MDCR_TPMS;
	mdcr |= MDCR_TTRF;
	return mdcr;
}

static u64 make_cptr(void)
{
	u64 cptr = CPTR_RES1;

	cptr |= CPTR_TZ;
	cptr |= CPTR_TSM;
	cptr |= CPTR_TTA;
	cptr |= CPTR_TAM;
	return cptr;
}

/* This CPU's longest vectors, for arch_zero and arch_copy alone: everybody else's SVE traps. */
static void init_sve(void)
{
	u64 bytes;

	if (field_get(read_sysreg(id_aa64pfr0_el1), ID_AA64PFR0_SVE) == 0) {
		return;
	}
	write_sysreg(cptr_el2, make_cptr() & ~CPTR_TZ);
	isb();
	write_sysreg(SYS_ZCR_EL2, ZCR_LEN_MAX);
	isb();
	__asm__ volatile(".arch_extension sve\n\trdvl %0, #1" : "=r"(bytes));
	write_sysreg(cptr_el2, make_cptr());
	isb();
	if (bytes >= SVE_WORTH_BYTES) {
		mem_wide = 1;
	}
}

/* Fine-grained traps and the second HCR exist only on newer CPUs; zero is "as on older ones". */
static void init_newer_controls(void)
{
	if (field_get(read_sysreg(id_aa64mmfr1_el1), ID_AA64MMFR1_HCX) != 0) {
		write_sysreg(SYS_HCRX_EL2, 0);
	}
	if (field_get(read_sysreg(id_aa64mmfr0_el1), ID_AA64MMFR0_FGT) != 0) {
		write_sysreg(SYS_HFGRTR_EL2, 0);
		write_sysreg(SYS_HFGWTR_EL2, 0);
		write_sysreg(SYS_HFGITR_EL2, 0);
		write_sysreg(SYS_HDFGRTR_EL2, 0);
		write_sysreg(SYS_HDFGWTR_EL2, 0);
	}
}

void el2_init(void)
{
	write_sysreg(vbar_el2, (u64)trap_vectors);
	write_sysreg(hcr_el2, HCR_EL2_HOST);
	write_sysreg(cptr_el2, make_cptr());
	write_sysreg(mdcr_el2, make_mdcr());
	write_sysreg(hstr_el2, 0);
	write_sysreg(vpidr_el2, read_sysreg(midr_el1));
	write_sysreg(vmpidr_el2, read_sysreg(mpidr_el1));
	write_sysreg(vttbr_el2, 0);
	write_sysreg(cnthctl_el2, CNTHCTL_EL1PCTEN | CNTHCTL_EL1PCEN);
	write_sysreg(cntvoff_el2, 0);
	write_sysreg(cntv_ctl_el0, 0);
	write_sysreg(cntp_ctl_el0, 0);
	write_sysreg(cnthp_ctl_el2, 0);
	init_newer_controls();
	init_sve();
	isb();
}
