/* arch_describe: the CPU's own name, and those of its features that Lamina makes use of. */
#include "arch/cpu.h"
#include "hyp/log.h"

#include <string.h>

#include "machine.h"
#include "vmx.h"

#define CPUID_NAME 0x80000002 /* three leaves of 16 characters */
#define NAME_SIZE 48

static void read_name(char name[NAME_SIZE + 1])
{
	for (u32 i = 0; i < 3; i++) {
		struct cpuid part = cpuid(CPUID_NAME + i, 0);

		memcpy(name + i * sizeof(part), &part, sizeof(part));
	}
	name[NAME_SIZE] = 0;
}

/* x86's caches are coherent, for instructions, too. */
void arch_publish_memory(unused const void *start, unused u64 size)
{
}

void arch_describe(char *text, size_t size)
{
	char name[NAME_SIZE + 1];
	const char *start = name;

	read_name(name);
	while (*start == ' ') {
		start++;
	}
	text_format(text, size, "%s in VMX root operation, %s, EPT%s%s%s", start,
		    machine.x2apic ? "x2APIC" : "xAPIC",
		    vmx.ept_flags ? " with accessed and dirty flags" : "",
		    vmx.ept_gib_pages ? ", 1 GiB pages" : "", vmx.vpid ? ", VPID" : "");
}
