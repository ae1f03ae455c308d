/* Lamina's own use of FP and SIMD registers: none but a library's, for a moment. */
#include <arch/cpu.h>

#include "fp.h"

/* All of them, as fp_save() lays them out. */
#define FP_STATE_SIZE (32 * 16 + 2 * 8)

static struct {
	u8 bytes[FP_STATE_SIZE] __attribute__((aligned(16)));
} borrowed[CPU_MAX];

void arch_fp_borrow(void)
{
	fp_save(borrowed[this_cpu_id()].bytes);
}

void arch_fp_return(void)
{
	fp_load(borrowed[this_cpu_id()].bytes);
}
