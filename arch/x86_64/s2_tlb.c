/*
 * Invalidation of EPT translations, and which format this machine has.
 *
 * INVEPT of one root forgets what its tables say and what was made of them together with guests'
 * own tables, under every VPID, on the CPU that executes it (SDM volume 3C, 29.4.3.1). There is
 * none for a part of a space; so a range is the whole, and a generation the natural unit.
 */
#include <arch/s2.h>

#include "hyp/s2_ident.h"

#include "s2_ept.h"
#include "s2_machine.h"
#include "vmx.h"

#include "cpureg.h"

#define VPID_BITS 16
#define IPA_BITS 46 /* what a walk of four levels reaches is 48; no guest needs that */
#define CPUID_ADDRESS_SIZES 0x80000008

static struct s2_format format;
static struct s2_ept_cpu cpu;

void s2_machine_init(void)
{
	format = vmx.ept_flags ? s2_ept : s2_ept_software;
	if (!vmx.ept_gib_pages) {
		format.leaf_levels &= ~BIT(2);
	}
	if (!vmx.ept_execute_only) {
		format.perms &= ~S2_EPT_EXECUTE_ONLY;
	}
	cpu = (struct s2_ept_cpu){
		.address_bits = (u8)cpuid(CPUID_ADDRESS_SIZES, 0).a,
		.gib_pages = vmx.ept_gib_pages,
		.execute_only = vmx.ept_execute_only,
	};
}

const struct s2_ept_cpu *s2_machine_cpu(void)
{
	return &cpu;
}

const struct s2_format *arch_s2_format(void)
{
	return &format;
}

/* No more than the CPU's own addresses have: a guest-physical address beyond is a fault of its own.
 */
unsigned arch_s2_ipa_bits(void)
{
	return (unsigned)min_u64(IPA_BITS, cpu.address_bits);
}

u8 arch_s2_traits(void)
{
	return vmx.ept_flags ? S2_HARDWARE_ACCESSED | S2_HARDWARE_DIRTY : 0;
}

unsigned arch_s2_ident_bits(void)
{
	return VPID_BITS;
}

u64 s2_machine_pointer(const struct s2 *s2)
{
	return s2_ept_pointer(s2, vmx.ept_flags);
}

void arch_s2_flush_range(const struct s2 *s2, unused gpa_t start, unused u64 size,
			 unused unsigned level)
{
	arch_s2_flush_local(s2);
}

void arch_s2_flush_tail(unused const struct s2 *s2)
{
}

void arch_s2_flush_space(const struct s2 *s2)
{
	arch_s2_flush_local(s2);
}

void arch_s2_flush_local(const struct s2 *s2)
{
	vmx_invept(s2_machine_pointer(s2));
}

void arch_s2_flush_idents(void)
{
	vmx_invept_all();
	if (vmx.vpid) {
		vmx_invvpid_all();
	}
}

u64 arch_s2_flush_cost(unused const struct s2 *s2, unused u64 size, unused unsigned level)
{
	return 1;
}

/* Stores are seen in order, by table walks, too. */
void arch_s2_publish_table(unused const void *table, unused u64 size)
{
}

void arch_s2_clean(unused const void *start, unused u64 size)
{
}
