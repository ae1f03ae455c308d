#include "xstate.h"

#include "hyp/addr.h"

#include <arch/cpu.h>

#include "cpureg.h"

#define CPUID_FEATURES 1
#define CPUID_XSAVE BIT(26) /* ecx */
#define CPUID_XSTATE 0xd
#define GUEST_XSTATE (XSTATE_X87 | XSTATE_SSE | XSTATE_AVX | XSTATE_AVX512)

/* The legacy area (10.5.1): control words as FNINIT and reset leave them. */
#define AREA_FCW 0
#define AREA_MXCSR 24
#define FCW_RESET 0x37f
#define MXCSR_RESET 0x1f80
#define LEGACY_SIZE 512
#define HEADER_SIZE 64

#define CPUID_MORE_FEATURES 7
#define CPUID_AVX512F BIT(16) /* ebx */

extern u32 mem_wide; /* mem.S */

/* What a guest may turn on; 0: the CPU has no XSAVE. */
static u64 allowed;
static u32 size = LEGACY_SIZE;

void xstate_init_cpu(void)
{
	if (!(cpuid(CPUID_FEATURES, 0).c & CPUID_XSAVE)) {
		return;
	}
	write_cr(4, read_cr(4) | CR4_OSXSAVE);
	allowed = cpuid(CPUID_XSTATE, 0).a & GUEST_XSTATE;
	write_xcr0(allowed);
	size = cpuid(CPUID_XSTATE, 0).b; /* of what XCR0 has now */
	if ((allowed & XSTATE_AVX512) && (cpuid(CPUID_MORE_FEATURES, 0).b & CPUID_AVX512F)) {
		mem_wide = (u32)allowed;
	}
}

bool xstate_is_valid(u64 xcr0)
{
	u64 wide = xcr0 & XSTATE_AVX512;

	return (xcr0 & XSTATE_X87) && !(xcr0 & ~allowed) &&
	       !((xcr0 & XSTATE_AVX) && !(xcr0 & XSTATE_SSE)) &&
	       !(wide && (wide != XSTATE_AVX512 || !(xcr0 & XSTATE_AVX)));
}

u32 xstate_size(void)
{
	return size;
}

void xstate_reset(void *area)
{
	u8 *bytes = area;

	for (u32 i = 0; i < size; i++) {
		bytes[i] = 0;
	}
	*(u16 *)(bytes + AREA_FCW) = FCW_RESET;
	*(u32 *)(bytes + AREA_MXCSR) = MXCSR_RESET;
}

/* All components are moved whatever the guest has on: it may have used, and then turned off, any.
 */
void xstate_load(const void *area, u64 xcr0)
{
	if (!allowed) {
		__asm__ volatile("fxrstor64 (%0)" ::"r"(area) : "memory");
		return;
	}
	write_xcr0(allowed);
	__asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"(~0u), "d"(~0u) : "memory");
	write_xcr0(xcr0);
}

void xstate_save(void *area)
{
	if (!allowed) {
		__asm__ volatile("fxsave64 (%0)" ::"r"(area) : "memory");
		return;
	}
	write_xcr0(allowed);
	__asm__ volatile("xsave64 (%0)" ::"r"(area), "a"(~0u), "d"(~0u) : "memory");
}

/* ---- A library's use, in Lamina -------------------------------------------------------------- */

/* Code for any x86-64 uses XMM registers, by instructions that leave what is wider alone (SDM
 * volume 1, 14.3): so FXSAVE has all that may change. */
static struct {
	u8 bytes[LEGACY_SIZE] __attribute__((aligned(16)));
} borrowed[CPU_MAX];

void arch_fp_borrow(void)
{
	__asm__ volatile("fxsave64 (%0)" ::"r"(borrowed[this_cpu_id()].bytes) : "memory");
}

void arch_fp_return(void)
{
	__asm__ volatile("fxrstor64 (%0)" ::"r"(borrowed[this_cpu_id()].bytes) : "memory");
}
