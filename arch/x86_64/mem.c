/* arch_zero and arch_copy: string instructions, which need no register that a guest owns. */
#include "arch/cpu.h"

void arch_zero(void *to, u64 size)
{
	u64 words = size / 8;

	__asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(0) : "memory");
}

void arch_copy(void *to, const void *from, u64 size)
{
	u64 words = size / 8;

	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
}

/* x86's caches are coherent, for instructions, too. */
void arch_publish_memory(unused const void *start, unused u64 size)
{
}
