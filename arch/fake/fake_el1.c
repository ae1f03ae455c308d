/* The registers behind arch/arm64/el1.h: variables. */
#include "fake_el1.h"

#include "hyp/vcpu.h"

struct fake_el1 fake_el1;

u64 el1_read(enum el1_register reg)
{
	return fake_el1.regs[reg];
}

void el1_write(enum el1_register reg, u64 value)
{
	fake_el1.regs[reg] = value;
}

u64 el1_fault_address(void)
{
	return fake_el1.fault_address;
}

bool el1_traps_controls(unused const struct vcpu *vcpu)
{
	return fake_el1.traps_controls;
}

void el1_trap_controls(unused struct vcpu *vcpu, bool trap)
{
	fake_el1.traps_controls = trap;
}

void el1_clean_invalidate(unused const void *start, u64 size)
{
	fake_el1.cleaned_bytes += size;
	fake_el1.clean_calls++;
}
