/*
 * Registers and instructions of x86-64 that C has no words for, and the numbers of the MSRs that
 * Lamina uses (Intel SDM volume 4, chapter 2).
 */
#ifndef CPUREG_H
#define CPUREG_H

#include "hyp/types.h"

#define MSR_TSC 0x10
#define MSR_APIC_BASE 0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_MISC_ENABLE 0x1a0
#define MSR_PAT 0x277
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC 0x800 /* the first of them; one for each 16 bytes of the page */
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_FMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103

#define APIC_BASE_X2 BIT(10)
#define APIC_BASE_ENABLE BIT(11)
#define APIC_BASE_ADDRESS BITS(51, 12)

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_VMXE BIT(13)
#define CR4_OSXSAVE BIT(18)
#define CR4_SMAP BIT(21)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)
#define RFLAGS_RESERVED BIT(1)
#define RFLAGS_TF BIT(8)
#define RFLAGS_IF BIT(9)
#define RFLAGS_DF BIT(10)
#define RFLAGS_AC BIT(18)

static inline u64 read_msr(u32 msr)
{
	u32 low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (u64)high << 32 | low;
}

static inline void write_msr(u32 msr, u64 value)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

#define read_cr(n)                                                                                 \
	({                                                                                         \
		u64 value_;                                                                        \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(value_)::"memory");                   \
		value_;                                                                            \
	})
#define write_cr(n, value) __asm__ volatile("mov %0, %%cr" #n ::"r"((u64)(value)) : "memory")
#define read_dr(n)                                                                                 \
	({                                                                                         \
		u64 value_;                                                                        \
		__asm__ volatile("mov %%dr" #n ", %0" : "=r"(value_));                             \
		value_;                                                                            \
	})
#define write_dr(n, value) __asm__ volatile("mov %0, %%dr" #n ::"r"((u64)(value)))

struct cpuid {
	u32 a, b, c, d;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

static inline u64 read_xcr0(void)
{
	u32 low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (u64)high << 32 | low;
}

static inline void write_xcr0(u64 value)
{
	__asm__ volatile("xsetbv" ::"c"(0), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 read_tsc(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static inline void out8(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline u8 in8(u16 port)
{
	u8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline u32 mmio_read32(u64 address)
{
	return *(volatile u32 *)address;
}

static inline void mmio_write32(u64 address, u32 value)
{
	*(volatile u32 *)address = value;
}

#endif
