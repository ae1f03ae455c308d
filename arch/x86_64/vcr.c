/*
 * Most of CR0 and CR4 is the guest's own and never exits. Lamina owns bits that VMX wants to be 1,
 * and those of features that a guest does not have; it shows the guest what it wrote of the former,
 * and answers a write of the latter with a #GP, as a CPU without the feature does.
 */
#include "vcr.h"

#include "hyp/s2_ident.h"
#include "hyp/vm.h"

#include "arch_enter.h"
#include "vcpu_vmx.h"
#include "vinject.h"
#include "vmx.h"
#include "xstate.h"

#define CR_NUMBER BITS(3, 0)
#define CR_KIND BITS(5, 4)
#define CR_REGISTER BITS(11, 8)
#define CR_LMSW BITS(31, 16)
enum { CR_WRITE, CR_READ, CR_CLTS, CR_LMSW_KIND };

#define CR0_TS BIT(3)
#define CR0_DEFINED (BITS(5, 0) | BIT(16) | BIT(18) | BITS(31, 29))
#define CR0_OWNED (CR0_NE | CR0_CD | CR0_NW)
/* Machine-check enable is let through: no machine check comes. */
#define CR4_SMXE BIT(14)
#define CR4_LA57 BIT(12)
#define CR4_KEYS (BIT(22) | BIT(24))
#define CR4_CET BIT(23)
#define CR4_UINTR BIT(25)
#define CR4_ABSENT (CR4_VMXE | CR4_SMXE | CR4_LA57 | CR4_KEYS | CR4_CET | CR4_UINTR | BITS(63, 26))

static u64 read_cr0(void)
{
	return (vmcs_read(VMCS_GUEST_CR0) & ~CR0_OWNED) | (vmcs_read(VMCS_CR0_SHADOW) & CR0_OWNED);
}

/* Caches stay on: Lamina's memory types are what they are by EPT. */
static void put_cr0(u64 value)
{
	u64 kept = CR0_NE | CR0_ET | (vmx.cr0_fixed1 & ~(CR0_PE | CR0_PG));

	vmcs_write(VMCS_GUEST_CR0, (value & ~CR0_OWNED) | kept);
	vmcs_write(VMCS_CR0_SHADOW, value);
}

static void put_cr4(u64 value)
{
	vmcs_write(VMCS_GUEST_CR4, value | vmx.cr4_fixed1);
	vmcs_write(VMCS_CR4_SHADOW, value);
}

static void put_efer(u64 efer)
{
	vmcs_write(VMCS_GUEST_EFER, efer);
	vmcs_write(VMCS_ENTRY_CONTROLS, vmx.entry | (efer & EFER_LMA ? ENTRY_IA32E : 0));
}

void vcr_reset(u64 cr0, u64 cr3, u64 cr4, u64 efer)
{
	vmcs_write(VMCS_CR0_MASK, CR0_OWNED);
	vmcs_write(VMCS_CR4_MASK, CR4_ABSENT);
	put_cr0(cr0);
	put_cr4(cr4);
	vmcs_write(VMCS_GUEST_CR3, cr3);
	put_efer(efer);
}

u64 vcr_cr4(void)
{
	return vmcs_read(VMCS_GUEST_CR4) & ~CR4_ABSENT;
}

/* Page-directory pointers are registers of the CPU's (4.4.1): with EPT, Lamina has to load them. */
static bool load_pointers(struct vcpu *vcpu)
{
	u64 entries[4], at = vmcs_read(VMCS_GUEST_CR3) & BITS(31, 5);

	if (vm_memory_read(vcpu->vm, gpa(at), entries, sizeof(entries)) != OK) {
		return false;
	}
	for (u32 i = 0; i < ARRAY_COUNT(entries); i++) {
		vmcs_write(VMCS_GUEST_PDPTE0 + 2 * i, entries[i]);
	}
	return true;
}

static bool is_legal_cr0(u64 value, u64 efer)
{
	bool paging = value & CR0_PG;

	return !(value & ~CR0_DEFINED) && !(paging && !(value & CR0_PE)) &&
	       !((value & CR0_NW) && !(value & CR0_CD)) &&
	       !(paging && (efer & EFER_LME) && !(efer & EFER_LMA) &&
		 (!(vcr_cr4() & CR4_PAE) || (vmcs_read(VMCS_GUEST_CS_RIGHTS) & RIGHTS_LONG)));
}

/* Paging goes on or off: with it goes long mode, where the guest has asked for that. */
static void switch_mode(u64 value, u64 efer)
{
	bool long_mode = (value & CR0_PG) && (efer & EFER_LME);

	put_efer(long_mode ? efer | EFER_LMA : efer & ~EFER_LMA);
}

static bool write_cr0(struct vcpu *vcpu, u64 value)
{
	u64 efer = vmcs_read(VMCS_GUEST_EFER), changes = read_cr0() ^ value;

	if (!is_legal_cr0(value, efer)) {
		return false;
	}
	if (changes & CR0_PG) {
		switch_mode(value, efer);
	}
	put_cr0(value);
	if ((value & CR0_PG) && (vcr_cr4() & CR4_PAE) && !(efer & EFER_LME) &&
	    !load_pointers(vcpu)) {
		return false;
	}
	if ((changes & (CR0_PG | CR0_WP)) && vmx.vpid) {
		vmx_invvpid((u16)S2_IDENT_NUMBER(vcpu->vm->s2.ident));
	}
	return true;
}

static bool write_cr8(struct vcpu *vcpu, u64 value)
{
	vcpu_request_delivery(vcpu);
	return vlapic_set_tpr(&vcpu->arch.lapic, value);
}

static bool write_register(struct vcpu *vcpu, u64 number, u64 value)
{
	switch (number) {
	case 0:
		return write_cr0(vcpu, value);
	case 8:
		return write_cr8(vcpu, value);
	default:
		return false; /* of CR4 only what does not exist exits */
	}
}

static bool access(struct vcpu *vcpu, u64 q)
{
	unsigned reg = (unsigned)field_get(q, CR_REGISTER);

	switch (field_get(q, CR_KIND)) {
	case CR_WRITE:
		return write_register(vcpu, field_get(q, CR_NUMBER), arch_vcpu_reg(vcpu, reg));
	case CR_READ: /* CR8 */
		vcpu->arch.access_bits = ~0ull;
		arch_vcpu_set_reg(vcpu, reg, vlapic_tpr(&vcpu->arch.lapic));
		return true;
	case CR_CLTS:
		return write_cr0(vcpu, read_cr0() & ~CR0_TS);
	default: /* LMSW: the lowest four bits; PE does not go back to 0 */
		return write_cr0(vcpu,
				 (read_cr0() & ~BITS(3, 1)) | (field_get(q, CR_LMSW) & BITS(3, 0)));
	}
}

void vcr_access(struct vcpu *vcpu, u64 qualification)
{
	if (access(vcpu, qualification)) {
		arch_vcpu_skip(vcpu);
	} else {
		vinject_exception(vcpu, EXCEPTION_GP, 0);
	}
}

void vcr_set_xcr0(struct vcpu *vcpu)
{
	u64 value = vcpu_edx_eax(vcpu);

	if ((u32)vcpu->arch.gpr[GPR_RCX] != 0 || !xstate_is_valid(value)) {
		vinject_exception(vcpu, EXCEPTION_GP, 0);
		return;
	}
	vcpu->arch.xcr0 = value;
	write_xcr0(value);
	arch_vcpu_skip(vcpu);
}
