/* Random numbers: the CPU's generator (RDRAND) where it has one. */
#include "arch/cpu.h"
#include "hyp/random.h"

#include "machine.h"

#define CPUID_FEATURES 1
#define CPUID_RDRAND BIT(30) /* ecx */
#define TRIES 10	     /* SDM volume 1, 7.3.17: more in a row is a broken generator */

static bool read_generator(u64 *value)
{
	bool good = false;

	for (u32 i = 0; i < TRIES && !good; i++) {
		__asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(good)::"cc");
	}
	return good;
}

u64 arch_random(bool *strong)
{
	u64 value;

	*strong = (cpuid(CPUID_FEATURES, 0).c & CPUID_RDRAND) && read_generator(&value);
	return *strong ? value : random_weak(0);
}
