/*
 * A vCPU's state in and out of a CPU. What every exit saves is in enter.S; how the VMCS begins is
 * in vmcs_init.c.
 */
#include <arch/s2.h>
#include <arch/vm.h>

#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/s2_ident.h"
#include "hyp/time.h"

#include "enter.h"
#include "pc_map.h"
#include "s2_machine.h"
#include "vapic.h"
#include "vcpu_vmx.h"
#include "vhalt.h"
#include "vinject.h"
#include "vmcs.h"
#include "vmcs_init.h"
#include "vmx.h"
#include "xstate.h"

static_assert(offsetof(struct vcpu, arch) == 0, "enter.S takes a vcpu for an arch_vcpu");
static_assert(offsetof(struct arch_vcpu, gpr[GPR_RDX]) == VCPU_RDX, "enter.h");
static_assert(offsetof(struct arch_vcpu, gpr[GPR_RBP]) == VCPU_RBP, "enter.h");
static_assert(offsetof(struct arch_vcpu, gpr[GPR_RDI]) == VCPU_RDI, "enter.h");
static_assert(offsetof(struct arch_vcpu, gpr[15]) == VCPU_R15, "enter.h");
static_assert(offsetof(struct arch_vcpu, host_rsp) == VCPU_HOST_RSP, "enter.h");
static_assert(offsetof(struct arch_vcpu, launched) == VCPU_LAUNCHED, "enter.h");
static_assert(VMCS_HOST_RSP == FIELD_HOST_RSP, "enter.h");

#define DR6_RESET 0xffff0ff0

bool vcpu_alloc(struct vcpu *vcpu)
{
	vcpu->arch.vmcs = hyp_alloc(PAGE_SIZE);
	vcpu->arch.state = hyp_alloc(xstate_size());
	vcpu->arch.log = vmx.log ? hyp_alloc(PAGE_SIZE) : NULL;
	if (vcpu->arch.vmcs == NULL || vcpu->arch.state == NULL ||
	    (vmx.log && vcpu->arch.log == NULL)) {
		return false;
	}
	*(u32 *)vcpu->arch.vmcs = vmx.revision;
	return true;
}

void vcpu_free(struct vcpu *vcpu)
{
	if (vcpu->arch.vmcs != NULL) {
		hyp_free(vcpu->arch.vmcs);
		vcpu->arch.vmcs = NULL;
	}
	if (vcpu->arch.state != NULL) {
		hyp_free(vcpu->arch.state);
		vcpu->arch.state = NULL;
	}
	if (vcpu->arch.log != NULL) {
		hyp_free(vcpu->arch.log);
		vcpu->arch.log = NULL;
	}
}

void arch_vcpu_init(struct vcpu *vcpu)
{
	vapic_init(vcpu);
}

static struct vcpu_start start_of(const struct vcpu *vcpu, u64 entry, u64 context)
{
	const struct arch_vm *vm = &vcpu->vm->arch;
	struct vcpu_start start = {.entry = entry, .argument = context, .wanted = true};

	if (context == VCPU_BY_MAILBOX) {
		start.mode = VCPU_LONG;
		start.argument = 0;
		start.page_tables = PC_MAILBOX_PAGE_TABLES;
	} else if (entry < MIB(1)) {
		start.mode = VCPU_REAL;
	} else {
		start.mode = vm->long_mode ? VCPU_LONG : VCPU_FLAT;
		start.page_tables = vm->page_tables;
	}
	return start;
}

/* The VMCS follows when it is loaded: another one may be, now. */
void arch_vcpu_reset(struct vcpu *vcpu, u64 entry, u64 context)
{
	struct arch_vcpu *a = &vcpu->arch;

	for (unsigned i = 0; i < GPR_COUNT; i++) {
		a->gpr[i] = 0;
	}
	a->start = start_of(vcpu, entry, context);
	a->pending_event = 0;
	a->waiting_nmi = a->kicked = 0;
	a->steal = (struct vkvm_steal){0};
	a->eoi = (struct vkvm_eoi){0};
	a->cr2 = 0;
	for (unsigned i = 0; i < ARRAY_COUNT(a->dr); i++) {
		a->dr[i] = 0;
	}
	a->dr6 = DR6_RESET;
	a->msrs = (typeof(a->msrs)){0};
	a->tsc_aux = a->misc_enable = a->kvmclock = 0;
	a->xcr0 = XSTATE_X87;
	xstate_reset(a->state);
	vapic_reset(vcpu, a->start.mode == VCPU_REAL || context == VCPU_BY_MAILBOX);
}

/* ---- In and out ------------------------------------------------------------------------------ */

static void vmptrld(void *vmcs)
{
	u64 address = (u64)vmcs;
	bool failed;

	__asm__ volatile("vmptrld %1" : "=@ccna"(failed) : "m"(address) : "memory");
	check(!failed);
}

static void vmclear(void *vmcs)
{
	u64 address = (u64)vmcs;
	bool failed;

	__asm__ volatile("vmclear %1" : "=@ccna"(failed) : "m"(address) : "memory");
	check(!failed);
}

static void load_registers(struct arch_vcpu *a)
{
#define X(field, msr) write_msr(msr, a->msrs.field);
	GUEST_MSRS(X)
#undef X
	if (vmx.cpu2 & CPU2_RDTSCP) {
		write_msr(MSR_TSC_AUX, a->tsc_aux);
	}
	write_cr(2, a->cr2);
	write_dr(0, a->dr[0]);
	write_dr(1, a->dr[1]);
	write_dr(2, a->dr[2]);
	write_dr(3, a->dr[3]);
	write_dr(6, a->dr6);
	xstate_load(a->state, a->xcr0);
}

static void save_registers(struct arch_vcpu *a)
{
#define X(field, msr) a->msrs.field = read_msr(msr);
	GUEST_MSRS(X)
#undef X
	if (vmx.cpu2 & CPU2_RDTSCP) {
		a->tsc_aux = read_msr(MSR_TSC_AUX);
	}
	a->cr2 = read_cr(2);
	a->dr[0] = read_dr(0);
	a->dr[1] = read_dr(1);
	a->dr[2] = read_dr(2);
	a->dr[3] = read_dr(3);
	a->dr6 = read_dr(6);
	xstate_save(a->state);
}

/*
 * One VPID is all of a VM's. Its vCPUs take turns here with tables of their own, so what one of
 * them left is forgotten before another one runs; and so is what this one left before it was
 * elsewhere. And where others of the VM asked for it while it waited.
 */
static void take_over_translations(struct vcpu *vcpu)
{
	bool asked = vkvm_steal_take_up(vcpu->vm, &vcpu->arch.steal, vcpu->stolen_ns);
	struct cpu *cpu = this_cpu();

	if (!vmx.vpid) {
		return;
	}
	if (asked || cpu->arch.last_vcpu != vcpu || vcpu->arch.last_cpu != cpu) {
		vmx_invvpid((u16)S2_IDENT_NUMBER(vcpu->vm->s2.ident));
	}
	cpu->arch.last_vcpu = vcpu;
	vcpu->arch.last_cpu = cpu;
}

void arch_vcpu_load(struct vcpu *vcpu)
{
	struct arch_vcpu *a = &vcpu->arch;

	s2_ident_load(&vcpu->vm->s2);
	vmptrld(a->vmcs);
	if (a->start.wanted) {
		vmcs_init(vcpu);
		a->start.wanted = false;
	}
	vmcs_init_cpu(vcpu);
	take_over_translations(vcpu);
	load_registers(a);
	vcpu_request_delivery(vcpu);
}

/* Between two of its instructions: none of them goes on with what was translated before. */
void arch_vcpu_put(struct vcpu *vcpu, bool preempted)
{
	if (preempted) {
		vkvm_steal_tell_preempted(vcpu->vm, &vcpu->arch.steal);
	}
	save_registers(&vcpu->arch);
	vmclear(vcpu->arch.vmcs);
	vcpu->arch.launched = false;
	s2_ident_unload();
}

void vcpu_set_control(struct vcpu *vcpu, u32 control, bool on)
{
	u32 controls = on ? vcpu->arch.cpu_controls | control : vcpu->arch.cpu_controls & ~control;

	if (controls != vcpu->arch.cpu_controls) {
		vcpu->arch.cpu_controls = controls;
		vmcs_write(VMCS_CPU_CONTROLS, controls);
	}
}

/* ---- How it is set up ------------------------------------------------------------------------ */

unsigned vcpu_code_bits(void)
{
	u64 rights = vmcs_read(VMCS_GUEST_CS_RIGHTS);

	if ((vmcs_read(VMCS_GUEST_EFER) & EFER_LMA) && (rights & RIGHTS_LONG)) {
		return 64;
	}
	return rights & RIGHTS_32 ? 32 : 16;
}

struct vwalk_paging vcpu_paging(void)
{
	return (struct vwalk_paging){
		.cr0 = vmcs_read(VMCS_GUEST_CR0),
		.cr3 = vmcs_read(VMCS_GUEST_CR3),
		.cr4 = vmcs_read(VMCS_GUEST_CR4),
		.efer = vmcs_read(VMCS_GUEST_EFER),
		.reserved = BITS(63, arch_s2_ipa_bits()),
	};
}

/* ---- Interrupts and time -----------------------------------------------------------------------
 */

void arch_vcpu_sync_irqs(struct vcpu *vcpu)
{
	struct arch_vcpu *a = &vcpu->arch;

	vapic_settle(vcpu);
	vhalt_sync(vcpu);
	vlapic_timer_expire(&a->lapic, arch_now());
	vinject_deliver(vcpu);
	vkvm_eoi_offer(vcpu->vm, &a->eoi, &a->lapic);
}

/* Masked interrupts do not end a HLT. */
static bool can_take_irq(struct vcpu *vcpu)
{
	struct vlapic *lapic = &vcpu->arch.lapic;

	vapic_settle(vcpu);
	vlapic_timer_expire(lapic, arch_now());
	return vlapic_pending(lapic) >= 0 && (vmcs_read(VMCS_GUEST_RFLAGS) & RFLAGS_IF);
}

static bool can_take_nmi(const struct vcpu *vcpu)
{
	return load_relaxed(&vcpu->arch.waiting_nmi) &&
	       !(vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKED_BY_NMI);
}

/* A HLT ends with what is delivered, or by a kick: what is masked or blocked does not end it. */
bool arch_vcpu_has_irq(struct vcpu *vcpu)
{
	return vhalt_take_kick(vcpu) || (vmcs_read(VMCS_ENTRY_EVENT) & EVENT_VALID) ||
	       can_take_nmi(vcpu) || can_take_irq(vcpu);
}

u64 arch_vcpu_deadline(struct vcpu *vcpu)
{
	return vlapic_timer_deadline(&vcpu->arch.lapic);
}

void arch_vcpu_trap_idle(struct vcpu *vcpu, bool trap)
{
	vcpu_set_control(vcpu, CPU_PAUSE, trap);
	vhalt_trap(vcpu, trap);
}

/* ---- For people --------------------------------------------------------------------------------
 */

static bool is_loaded_here(const struct vcpu *vcpu)
{
	return this_cpu()->current == vcpu;
}

u64 arch_vcpu_pc(const struct vcpu *vcpu)
{
	return is_loaded_here(vcpu) ? vmcs_read(VMCS_GUEST_RIP) : 0;
}

void arch_vcpu_describe(const struct vcpu *vcpu, char *text, size_t size)
{
	const u64 *r = vcpu->arch.gpr;

	if (!is_loaded_here(vcpu)) {
		text_format(text, size, "rax=0x%lx rcx=0x%lx rdx=0x%lx rsi=0x%lx rdi=0x%lx",
			    r[GPR_RAX], r[GPR_RCX], r[GPR_RDX], r[GPR_RSI], r[GPR_RDI]);
		return;
	}
	text_format(text, size, "rip=0x%lx rsp=0x%lx rflags=0x%lx cr0=0x%lx cr3=0x%lx rax=0x%lx",
		    vmcs_read(VMCS_GUEST_RIP), vmcs_read(VMCS_GUEST_RSP),
		    vmcs_read(VMCS_GUEST_RFLAGS), vmcs_read(VMCS_GUEST_CR0),
		    vmcs_read(VMCS_GUEST_CR3), r[GPR_RAX]);
}
