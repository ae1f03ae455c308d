/*
 * The VMCS, field by field (SDM volume 3C, 25.4 to 25.8). CPUs begin in one of three ways:
 *
 *   multiboot   32-bit protected mode, flat, paging off; EBX = information (Multiboot 0.6.96, 3.2)
 *   Linux       64-bit mode in an identity map, RSI = boot parameters (Linux, boot.rst); so do
 *               CPUs that ACPI's mailbox wakes, in page tables of their own (ACPI, 5.2.12.19)
 *   startup     real mode, at the page that the startup interrupt named (10.4.4 of volume 3A)
 */
#include "vmcs_init.h"

#include "hyp/own.h"
#include "hyp/s2_ident.h"

#include "layout.h"
#include "machine.h"
#include "s2_machine.h"
#include "vcpu_vmx.h"
#include "vcr.h"
#include "vmcs.h"
#include "vmx.h"

extern const u8 guest_exit[];

#define MULTIBOOT_LOADER_MAGIC 0x2badb002

#define RIGHTS_CODE16 0x9b
#define RIGHTS_CODE32 0xc09b
#define RIGHTS_CODE64 0xa09b
#define RIGHTS_DATA16 0x93
#define RIGHTS_DATA32 0xc093
#define RIGHTS_TASK 0x8b
#define RIGHTS_UNUSABLE 0x10000
#define PAT_RESET 0x0007040600070406ull
#define DR7_RESET 0x400
#define SEGMENT_STEP 2 /* from one field's number to the next segment's */

enum segment { ES, CS, SS, DS, FS, GS, LDTR, TR };

struct segment_state {
	u16 selector;
	u64 base;
	u32 limit, rights;
};

static void write_segment(enum segment s, struct segment_state state)
{
	vmcs_write(VMCS_GUEST_ES + SEGMENT_STEP * s, state.selector);
	vmcs_write(VMCS_GUEST_ES_BASE + SEGMENT_STEP * s, state.base);
	vmcs_write(VMCS_GUEST_ES_LIMIT + SEGMENT_STEP * s, state.limit);
	vmcs_write(VMCS_GUEST_ES_RIGHTS + SEGMENT_STEP * s, state.rights);
}

static void write_segments(struct segment_state code, struct segment_state data)
{
	write_segment(CS, code);
	write_segment(SS, data);
	write_segment(DS, data);
	write_segment(ES, data);
	write_segment(FS, data);
	write_segment(GS, data);
	write_segment(LDTR, (struct segment_state){.rights = RIGHTS_UNUSABLE});
	write_segment(TR, (struct segment_state){.limit = 0xffff, .rights = RIGHTS_TASK});
}

static void start_real_mode(u64 entry)
{
	write_segments((struct segment_state){(u16)(entry >> 4), entry, 0xffff, RIGHTS_CODE16},
		       (struct segment_state){0, 0, 0xffff, RIGHTS_DATA16});
	vcr_reset(CR0_ET, 0, 0, 0);
	vmcs_write(VMCS_GUEST_RIP, 0);
	vmcs_write(VMCS_GUEST_GDTR_BASE, 0);
}

static void start_flat(struct vcpu *vcpu)
{
	write_segments((struct segment_state){SELECTOR_CODE32, 0, ~0u, RIGHTS_CODE32},
		       (struct segment_state){SELECTOR_DATA, 0, ~0u, RIGHTS_DATA32});
	vcr_reset(CR0_PE | CR0_ET, 0, 0, 0);
	vmcs_write(VMCS_GUEST_RIP, vcpu->arch.start.entry);
	vmcs_write(VMCS_GUEST_GDTR_BASE, 0);
	vcpu->arch.gpr[GPR_RAX] = MULTIBOOT_LOADER_MAGIC;
	vcpu->arch.gpr[GPR_RBX] = vcpu->arch.start.argument;
}

static void start_long_mode(struct vcpu *vcpu)
{
	write_segments((struct segment_state){SELECTOR_CODE, 0, ~0u, RIGHTS_CODE64},
		       (struct segment_state){SELECTOR_DATA, 0, ~0u, RIGHTS_DATA32});
	vcr_reset(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG, vcpu->arch.start.page_tables,
		  CR4_PAE, EFER_LME | EFER_LMA);
	vmcs_write(VMCS_GUEST_RIP, vcpu->arch.start.entry);
	vmcs_write(VMCS_GUEST_GDTR_BASE, vcpu->vm->arch.gdt);
	vcpu->arch.gpr[GPR_RSI] = vcpu->arch.start.argument;
}

static void write_guest(struct vcpu *vcpu)
{
	vmcs_write(VMCS_GUEST_GDTR_LIMIT, 0xffff);
	vmcs_write(VMCS_GUEST_IDTR_BASE, 0);
	vmcs_write(VMCS_GUEST_IDTR_LIMIT, 0xffff);
	vmcs_write(VMCS_GUEST_RSP, 0);
	vmcs_write(VMCS_GUEST_RFLAGS, RFLAGS_RESERVED);
	vmcs_write(VMCS_GUEST_DR7, DR7_RESET);
	vmcs_write(VMCS_GUEST_DEBUGCTL, 0);
	vmcs_write(VMCS_GUEST_PAT, PAT_RESET);
	vmcs_write(VMCS_GUEST_SYSENTER_CS, 0);
	vmcs_write(VMCS_GUEST_SYSENTER_ESP, 0);
	vmcs_write(VMCS_GUEST_SYSENTER_EIP, 0);
	vmcs_write(VMCS_GUEST_INTERRUPTIBILITY, 0);
	vmcs_write(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
	vmcs_write(VMCS_GUEST_PENDING_DEBUG, 0);
	vmcs_write(VMCS_LINK_POINTER, ~0ull); /* no shadow VMCS */
	switch (vcpu->arch.start.mode) {
	case VCPU_REAL:
		start_real_mode(vcpu->arch.start.entry);
		break;
	case VCPU_LONG:
		start_long_mode(vcpu);
		break;
	case VCPU_FLAT:
		start_flat(vcpu);
		break;
	}
}

static void write_controls(struct vcpu *vcpu)
{
	vcpu->arch.cpu_controls = vmx.cpu;
	vcpu->arch.offers = 0;
	vmcs_write(VMCS_PIN_CONTROLS, vmx.pin);
	vmcs_write(VMCS_CPU_CONTROLS, vmx.cpu);
	vmcs_write(VMCS_CPU_CONTROLS2, vmx.cpu2);
	vmcs_write(VMCS_EXIT_CONTROLS, vmx.exit);
	vmcs_write(VMCS_EXCEPTION_BITMAP, 0);
	vmcs_write(VMCS_CR3_TARGET_COUNT, 0);
	vmcs_write(VMCS_EXIT_MSR_STORE_COUNT, 0);
	vmcs_write(VMCS_EXIT_MSR_LOAD_COUNT, 0);
	vmcs_write(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
	vmcs_write(VMCS_ENTRY_EVENT, 0);
	vmcs_write(VMCS_MSR_BITMAP, (u64)vcpu->vm->arch.msr_bitmap);
	vmcs_write(VMCS_EPTP, s2_machine_pointer(&vcpu->vm->s2));
	if (vmx.xsaves) {
		vmcs_write(VMCS_XSS_EXITING, ~0ull);
	}
}

/* As Lamina is on every CPU. */
static void write_host(void)
{
	vmcs_write(VMCS_HOST_CS, SELECTOR_CODE);
	vmcs_write(VMCS_HOST_SS, SELECTOR_DATA);
	vmcs_write(VMCS_HOST_DS, SELECTOR_DATA);
	vmcs_write(VMCS_HOST_ES, SELECTOR_DATA);
	vmcs_write(VMCS_HOST_FS, 0);
	vmcs_write(VMCS_HOST_GS, 0);
	vmcs_write(VMCS_HOST_TR, SELECTOR_TSS);
	vmcs_write(VMCS_HOST_CR0, read_cr(0));
	vmcs_write(VMCS_HOST_CR3, read_cr(3));
	vmcs_write(VMCS_HOST_CR4, read_cr(4));
	vmcs_write(VMCS_HOST_EFER, read_msr(MSR_EFER));
	vmcs_write(VMCS_HOST_PAT, read_msr(MSR_PAT));
	vmcs_write(VMCS_HOST_FS_BASE, read_msr(MSR_FS_BASE));
	vmcs_write(VMCS_HOST_SYSENTER_CS, 0);
	vmcs_write(VMCS_HOST_SYSENTER_ESP, 0);
	vmcs_write(VMCS_HOST_SYSENTER_EIP, 0);
	vmcs_write(VMCS_HOST_IDTR_BASE, tables_gates());
	vmcs_write(VMCS_HOST_RIP, (u64)guest_exit);
}

void vmcs_init(struct vcpu *vcpu)
{
	write_controls(vcpu);
	write_host();
	write_guest(vcpu);
}

void vmcs_init_cpu(struct vcpu *vcpu)
{
	struct cpu *cpu = this_cpu();

	vmcs_write(VMCS_HOST_GS_BASE, (u64)cpu);
	vmcs_write(VMCS_HOST_TR_BASE, (u64)&cpu->arch.task);
	vmcs_write(VMCS_HOST_GDTR_BASE, (u64)cpu->arch.gdt);
	vcpu->arch.host_rsp = 0;
	if (vmx.vpid) {
		vmcs_write(VMCS_VPID, S2_IDENT_NUMBER(vcpu->vm->s2.ident));
	}
}
