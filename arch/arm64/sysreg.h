/*
 * System registers: how to read and write them, and the names of their bits.
 *
 * Names are the manual's (Arm ARM DDI 0487, chapter D19; GIC IHI 0069, chapter 12). Registers that
 * the assembler may not know have their encoding here as SYS_*.
 */
#ifndef SYSREG_H
#define SYSREG_H

#include "hyp/types.h"

#define SYSREG_TEXT_(x) #x
#define SYSREG_TEXT(x) SYSREG_TEXT_(x)

#define read_sysreg(reg)                                                                           \
	({                                                                                         \
		u64 value_;                                                                        \
		__asm__ volatile("mrs %0, " SYSREG_TEXT(reg) : "=r"(value_));                      \
		value_;                                                                            \
	})
#define write_sysreg(reg, value)                                                                   \
	__asm__ volatile("msr " SYSREG_TEXT(reg) ", %x0" ::"rZ"((u64)(value)))

#define isb() __asm__ volatile("isb" ::: "memory")
#define dsb(scope) __asm__ volatile("dsb " #scope ::: "memory")

/* ---- Registers by encoding ----------------------------------------------------------------- */

#define SYS_ID_AA64MMFR2_EL1 S3_0_C0_C7_2
#define SYS_RNDR S3_3_C2_C4_0
#define SYS_HCRX_EL2 S3_4_C1_C2_2
#define SYS_HFGRTR_EL2 S3_4_C1_C1_4
#define SYS_HFGWTR_EL2 S3_4_C1_C1_5
#define SYS_HFGITR_EL2 S3_4_C1_C1_6
#define SYS_HDFGRTR_EL2 S3_4_C3_C1_4
#define SYS_HDFGWTR_EL2 S3_4_C3_C1_5
#define SYS_ZCR_EL2 S3_4_C1_C2_0

/* ---- Identification ------------------------------------------------------------------------ */

#define MIDR_IMPLEMENTER BITS(31, 24)
#define MIDR_VARIANT BITS(23, 20)
#define MIDR_PARTNUM BITS(15, 4)
#define MIDR_REVISION BITS(3, 0)

#define MPIDR_AFF0 BITS(7, 0)
#define MPIDR_AFF1 BITS(15, 8)
#define MPIDR_AFF2 BITS(23, 16)
#define MPIDR_AFF3 BITS(39, 32)
#define MPIDR_AFFINITY (MPIDR_AFF0 | MPIDR_AFF1 | MPIDR_AFF2 | MPIDR_AFF3)

#define ID_AA64PFR0_SVE BITS(35, 32)
#define ID_AA64DFR0_PMUVER BITS(11, 8)
#define ID_AA64ISAR0_RNDR BITS(63, 60)
#define ID_AA64ISAR0_TLB BITS(59, 56)
#define ID_AA64MMFR0_PARANGE BITS(3, 0)
#define ID_AA64MMFR0_FGT BITS(59, 56)
#define ID_AA64MMFR1_HAFDBS BITS(3, 0)
#define ID_AA64MMFR1_VMIDBITS BITS(7, 4)
#define ID_AA64MMFR1_XNX BITS(31, 28)
#define ID_AA64MMFR1_HCX BITS(43, 40)
#define ID_AA64MMFR2_FWB BITS(43, 40)
#define ID_AA64MMFR2_TTL BITS(51, 48)
#define ID_AA64MMFR2_BBM BITS(55, 52)

/* ID_AA64MMFR0_EL1.PARange: bits of a physical address. What is not known here is at least the
 * last. */
#define PARANGE_MAX 6

static inline unsigned parange_bits(u64 parange)
{
	static const u8 bits[PARANGE_MAX + 1] = {32, 36, 40, 42, 44, 48, 52};

	return bits[min_u64(parange, PARANGE_MAX)];
}

#define CTR_DMINLINE BITS(19, 16)
#define CTR_DIC BIT(29)

/* ---- HCR_EL2 ------------------------------------------------------------------------------- */

#define HCR_VM BIT(0)
#define HCR_SWIO BIT(1)
#define HCR_PTW BIT(2)
#define HCR_FMO BIT(3)
#define HCR_IMO BIT(4)
#define HCR_AMO BIT(5)
#define HCR_VF BIT(6)
#define HCR_VI BIT(7)
#define HCR_VSE BIT(8)
#define HCR_FB BIT(9)
#define HCR_BSU BITS(11, 10)
#define HCR_DC BIT(12)
#define HCR_TWI BIT(13)
#define HCR_TWE BIT(14)
#define HCR_TID0 BIT(15)
#define HCR_TID1 BIT(16)
#define HCR_TID2 BIT(17)
#define HCR_TID3 BIT(18)
#define HCR_TSC BIT(19)
#define HCR_TIDCP BIT(20)
#define HCR_TACR BIT(21)
#define HCR_TSW BIT(22)
#define HCR_TPCP BIT(23)
#define HCR_TPU BIT(24)
#define HCR_TTLB BIT(25)
#define HCR_TVM BIT(26)
#define HCR_TGE BIT(27)
#define HCR_TDZ BIT(28)
#define HCR_TRVM BIT(30)
#define HCR_RW BIT(31)
#define HCR_CD BIT(32)
#define HCR_ID BIT(33)
#define HCR_E2H BIT(34)
#define HCR_TLOR BIT(35)
#define HCR_TERR BIT(36)
#define HCR_TEA BIT(37)
#define HCR_APK BIT(40)
#define HCR_API BIT(41)
#define HCR_FWB BIT(46)
#define HCR_TID4 BIT(49)
#define HCR_TICAB BIT(50)
#define HCR_ATA BIT(56)
#define HCR_TID5 BIT(58)

/* ---- EL2's own translation: SCTLR_EL2, TCR_EL2, MAIR_EL2 (HCR_EL2.E2H = 0) ------------------- */

#define SCTLR_M BIT(0)
#define SCTLR_A BIT(1)
#define SCTLR_C BIT(2)
#define SCTLR_SA BIT(3)
#define SCTLR_I BIT(12)
#define SCTLR_WXN BIT(19)

#define TCR_T0SZ BITS(5, 0)
#define TCR_IRGN0 BITS(9, 8)
#define TCR_ORGN0 BITS(11, 10)
#define TCR_SH0 BITS(13, 12)
#define TCR_TG0 BITS(15, 14)
#define TCR_PS BITS(18, 16)
#define TCR_RES1 (BIT(31) | BIT(23))

/* ---- Traps and controls that no guest owns ------------------------------------------------------
 */

#define CPTR_RES1 (BITS(7, 0) | BIT(9) | BIT(13))
#define CPTR_TZ BIT(8)	 /* SVE */
#define CPTR_TFP BIT(10) /* FP and SIMD */
#define CPTR_TSM BIT(12) /* SME; RES1 without it */
#define CPTR_TTA BIT(20) /* trace registers */
#define CPTR_TAM BIT(30) /* activity monitors */
#define CPTR_TCPAC BIT(31)

#define MDCR_HPMN BITS(4, 0)
#define MDCR_TPMCR BIT(5)
#define MDCR_TPM BIT(6)
#define MDCR_HPME BIT(7)
#define MDCR_TDE BIT(8)
#define MDCR_TDA BIT(9)
#define MDCR_TDOSA BIT(10)
#define MDCR_TDRA BIT(11)
#define MDCR_TPMS BIT(14)
#define MDCR_TTRF BIT(19)
#define MDCR_TDCC BIT(27)
#define PMCR_N BITS(15, 11)

#define CNTHCTL_EL1PCTEN BIT(0) /* EL1 reads the physical counter */
#define CNTHCTL_EL1PCEN BIT(1)	/* EL1 uses the physical timer */

#define CNT_CTL_ENABLE BIT(0)
#define CNT_CTL_IMASK BIT(1)
#define CNT_CTL_ISTATUS BIT(2)

/* ---- Syndromes ----------------------------------------------------------------------------- */

#define ESR_EC BITS(31, 26)
#define ESR_IL BIT(25)
#define ESR_ISS BITS(24, 0)

#define EC_UNKNOWN 0x00
#define EC_WFX 0x01
#define EC_FP 0x07
#define EC_BTI 0x0d
#define EC_ILLEGAL 0x0e
#define EC_SVC64 0x15
#define EC_HVC64 0x16
#define EC_SMC64 0x17
#define EC_SYSREG 0x18
#define EC_SVE 0x19
#define EC_IABT_LOWER 0x20
#define EC_IABT 0x21
#define EC_PC_ALIGN 0x22
#define EC_DABT_LOWER 0x24
#define EC_DABT 0x25
#define EC_SP_ALIGN 0x26
#define EC_SERROR 0x2f
#define EC_BRK 0x3c

/* ISS of aborts. */
#define ISS_ABORT_FSC BITS(5, 0)
#define ISS_ABORT_WNR BIT(6)
#define ISS_ABORT_S1PTW BIT(7)
#define ISS_ABORT_CM BIT(8)
#define ISS_ABORT_FNV BIT(10)
#define ISS_ABORT_AR BIT(14)
#define ISS_ABORT_SF BIT(15)
#define ISS_ABORT_SRT BITS(20, 16)
#define ISS_ABORT_SSE BIT(21)
#define ISS_ABORT_SAS BITS(23, 22)
#define ISS_ABORT_ISV BIT(24)

/* FSC's upper bits; the lower two are the level, as the manual counts. */
#define FSC_TYPE BITS(5, 2)
#define FSC_TYPE_ADDRESS_SIZE 0
#define FSC_TYPE_TRANSLATION 1
#define FSC_TYPE_ACCESS_FLAG 2
#define FSC_TYPE_PERMISSION 3
#define FSC_ALIGNMENT 0x21
#define FSC_EXTERNAL 0x10

/* ---- PSTATE -------------------------------------------------------------------------------- */

#define SPSR_MODE BITS(3, 0)
#define SPSR_EL1H 5
#define SPSR_F BIT(6)
#define SPSR_I BIT(7)
#define SPSR_A BIT(8)
#define SPSR_D BIT(9)
#define SPSR_AARCH32 BIT(4)
#define SPSR_BTYPE BITS(11, 10)
#define SPSR_SS BIT(21)

/* EL1 as a guest's CPU is turned on: MMU and caches off, what ARMv8.0 has as RES1, all masked. */
#define SCTLR_EL1_RESET (BIT(29) | BIT(28) | BIT(23) | BIT(22) | BIT(20) | BIT(11))
#define PSTATE_RESET (SPSR_D | SPSR_A | SPSR_I | SPSR_F | SPSR_EL1H)

/* ---- GIC CPU interface and hypervisor interface --------------------------------------------- */

#define ICC_SRE_SRE BIT(0)
#define ICC_SRE_DFB BIT(1)
#define ICC_SRE_DIB BIT(2)
#define ICC_SRE_ENABLE BIT(3)
#define ICC_CTLR_EOIMODE BIT(1)
#define ICC_IGRPEN1_ENABLE BIT(0)
#define ICC_SGI1R_TARGETS BITS(15, 0)
#define ICC_SGI1R_AFF1 BITS(23, 16)
#define ICC_SGI1R_INTID BITS(27, 24)
#define ICC_SGI1R_AFF2 BITS(39, 32)
#define ICC_SGI1R_RS BITS(47, 44)
#define ICC_SGI1R_AFF3 BITS(55, 48)
#define ICH_VTR_LISTREGS BITS(4, 0)
#define ICH_VTR_PREBITS BITS(28, 26)

#endif
