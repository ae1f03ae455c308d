/*
 * Random numbers: the CPU's generator (FEAT_RNG) where it has one. Else the firmware's seed, mixed
 * with the counter: good enough to spread guests' layouts, not for keys, and said so.
 */
#include "arch/cpu.h"
#include "hyp/atomic.h"

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

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
 */
static u64 mix(u64 value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

u64 arch_random(bool *strong)
{
	static u64 state;
	u64 value;

	*strong = field_get(read_sysreg(id_aa64isar0_el1), ID_AA64ISAR0_RNDR) != 0;
	if (*strong && read_generator(&value)) {
		return value;
	}
	*strong = false;
	value = atomic_add(&state, 0x9e3779b97f4a7c15ull);
	return mix(machine.kaslr_seed ^ mix(value ^ arch_now()));
}
