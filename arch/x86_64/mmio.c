/*
 * Accesses to devices in memory: which instruction it was. The exit tells the address, but neither
 * size nor register; so the instruction is fetched, through the guest's own page tables, and
 * decoded.
 */
#include "arch_enter.h"

#include "hyp/vm.h"

#include "vcpu_vmx.h"
#include "vdecode.h"

/* A page at a time: the second one need not be there. Returns how many bytes came. */
static u32 fetch(struct vcpu *vcpu, u64 at, u8 *bytes, u32 wanted)
{
	struct vwalk_paging p = vcpu_paging();
	u32 have = 0;

	while (have < wanted) {
		u64 left = PAGE_SIZE - ((at + have) & (PAGE_SIZE - 1));
		u32 part = (u32)min_u64(wanted - have, left);
		gpa_t where;

		if (!vwalk(vcpu->vm, &p, at + have, &where) ||
		    vm_memory_read(vcpu->vm, where, bytes + have, part) != OK) {
			break;
		}
		have += part;
	}
	return have;
}

static u8 register_number(const struct vdecode *d)
{
	if (d->has_immediate) {
		return GPR_IMMEDIATE;
	}
	return (u8)(d->high_byte ? GPR_HIGH_BYTE + d->reg : d->reg);
}

/* Which bits of its register a read writes: narrow ones leave the rest. */
static u64 bits_written(const struct vdecode *d)
{
	if (d->high_byte) {
		return BITS(15, 8);
	}
	return d->reg_size < 4 ? BITS(8 * d->reg_size - 1, 0) : ~0ull;
}

void arch_vcpu_decode_access(struct vcpu *vcpu)
{
	u8 bytes[VDECODE_BYTES_MAX];
	unsigned bits = vcpu_code_bits();
	u64 base = bits == 64 ? 0 : vmcs_read(VMCS_GUEST_CS_BASE);
	u32 have = fetch(vcpu, base + vmcs_read(VMCS_GUEST_RIP), bytes, sizeof(bytes));
	struct exit *e = &vcpu->exit;
	struct vdecode d;

	/* It may be another one by now than the one that exited; and what a page walk read, or what
	 * an event's delivery pushed, is no operand of it. */
	e->decoded = !e->table_walk && !(vmcs_read(VMCS_IDT_EVENT) & EVENT_VALID) &&
		     vdecode(bytes, have, bits, &d) && d.write == !!(e->access & ACCESS_WRITE);
	if (!e->decoded) {
		return;
	}
	e->size = d.size;
	e->reg = register_number(&d);
	e->sign_extend = d.sign_extend;
	e->wide = d.reg_size == 8;
	vcpu->arch.immediate = d.immediate;
	vcpu->arch.access_bits = bits_written(&d);
	vcpu->arch.access_length = d.length;
}
