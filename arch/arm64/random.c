/*
 * Random numbers: the CPU's generator (FEAT_RNG) where it has one. Else the firmware's seed, mixed
 * with the counter: good enough to spread guests' layouts, not for keys, and said so.
 */
#include "arch/cpu.h"
#include "hyp/random.h"

#include "machine.h"
#include "sysreg.h"

/* RNDR may have nothing for a moment; it then sets Z. */
static bool read_generator(u64 *value)
{
	u64 failed;

	__asm__ volatile("mrs %0, " SYSREG_TEXT(SYS_RNDR) "\n\tcset %1, eq"
			 : "=r"(*value), "=r"(failed)
			 :
			 : "cc");
	return failed == 0;
}

u64 arch_random(bool *strong)
{
	u64 value;

	*strong = field_get(read_sysreg(id_aa64isar0_el1), ID_AA64ISAR0_RNDR) != 0;
	if (*strong && read_generator(&value)) {
		return value;
	}
	*strong = false;
	return random_weak(machine.kaslr_seed);
}
