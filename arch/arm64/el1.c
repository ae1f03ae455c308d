/* The loaded guest's own registers: the assembly behind el1.h. Needs HCR_EL2.E2H = 0. */
#include "el1.h"

#include "hyp/vcpu.h"

#include "sysreg.h"
#include "vid.h"

u64 el1_read(enum el1_register reg)
{
	switch (reg) {
#define X(name, sysreg)                                                                            \
	case EL1_##name:                                                                           \
		return read_sysreg(sysreg);
		EL1_ACCESSED(X)
#undef X
	}
	return 0;
}

/* No barrier: the entry into the guest synchronises. */
void el1_write(enum el1_register reg, u64 value)
{
	switch (reg) {
#define X(name, sysreg)                                                                            \
	case EL1_##name:                                                                           \
		write_sysreg(sysreg, value);                                                       \
		break;
		EL1_ACCESSED(X)
#undef X
	}
}

u64 el1_fault_address(void)
{
	return read_sysreg(far_el2);
}

bool el1_traps_controls(const struct vcpu *vcpu)
{
	return (vcpu->arch.hcr & HCR_TVM) != 0;
}

void el1_trap_controls(struct vcpu *vcpu, bool trap)
{
	vcpu->arch.hcr = trap ? vcpu->arch.hcr | HCR_TVM : vcpu->arch.hcr & ~HCR_TVM;
	write_sysreg(hcr_el2, vcpu->arch.hcr);
}

void el1_clean_invalidate(const void *start, u64 size)
{
	/* CTR_EL0.DminLine: log2 of the words in the smallest line. */
	u64 line = 4ull << field_get(read_sysreg(ctr_el0), CTR_DMINLINE);
	u64 end = (u64)(uintptr_t)start + size;

	for (u64 at = align_down((u64)(uintptr_t)start, line); at < end; at += line) {
		__asm__ volatile("dc civac, %0" ::"r"(at) : "memory");
	}
	dsb(sy);
}

void el1_read_ids(u64 host[64])
{
#define X(crm, op2, pass, fixed) host[VID_INDEX(crm, op2)] = read_sysreg(S3_0_C0_C##crm##_##op2);
	VID_REGISTERS(X)
#undef X
}
