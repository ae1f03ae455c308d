/* Fake guests: registers in a struct, a script for code, no devices but those a test adds. */
#include <stdio.h>

#include <arch/vm.h>
#include <arch_enter.h>

void (*fake_guest)(struct vcpu *vcpu);

#define RAM_BASE 0x40000000ull

enum status arch_vm_init(struct vm *vm, const struct config_vm *config, unused char *why,
			 unused size_t size)
{
	vm_ram_add(&vm->ram, gpa(RAM_BASE), config->memory);
	if (config->kernel_module.bytes) {
		vm->images[vm->image_count++] = (struct vm_image){
			.gpa = gpa(RAM_BASE),
			.size = config->kernel_module.size,
			.bytes = config->kernel_module.bytes,
		};
	}
	return OK;
}

void arch_vm_fini(unused struct vm *vm)
{
}

void arch_vm_reset(unused struct vm *vm)
{
}

u64 arch_vm_entry(const struct vm *vm)
{
	return vm->ram.ranges[0].base.v;
}

u64 arch_vm_entry_argument(unused const struct vm *vm)
{
	return 0;
}

void arch_vm_set_irq(struct vm *vm, u32 line, bool level)
{
	if (level) {
		atomic_or(&vm->arch.irq_lines, BIT(line));
	} else {
		atomic_and(&vm->arch.irq_lines, ~BIT(line));
	}
}

void arch_vcpu_init(unused struct vcpu *vcpu)
{
}

void arch_vcpu_reset(struct vcpu *vcpu, u64 entry, u64 context)
{
	vcpu->arch.pc = entry;
	vcpu->arch.x[0] = context;
}

void arch_vcpu_load(unused struct vcpu *vcpu)
{
}

void arch_vcpu_put(unused struct vcpu *vcpu, unused bool preempted)
{
}

void arch_vcpu_sync_irqs(struct vcpu *vcpu)
{
	vcpu->arch.irq = true;
}

void arch_vcpu_emulate(struct vcpu *vcpu)
{
	vcpu->arch.emulated++;
}

bool arch_vcpu_has_irq(struct vcpu *vcpu)
{
	return vcpu->arch.irq;
}

u64 arch_vcpu_deadline(unused struct vcpu *vcpu)
{
	return ~0ull;
}

void arch_vcpu_trap_idle(struct vcpu *vcpu, bool trap)
{
	vcpu->arch.trap_idle = trap;
}

void arch_vcpu_inject_abort(struct vcpu *vcpu)
{
	vcpu->arch.aborts++;
}

u64 arch_vcpu_pc(const struct vcpu *vcpu)
{
	return vcpu->arch.pc;
}

void arch_vcpu_describe(const struct vcpu *vcpu, char *text, size_t size)
{
	snprintf(text, size, "pc=0x%llx", (unsigned long long)vcpu->arch.pc);
}

bool arch_vm_log_writes(struct vm *vm, bool on)
{
	return on && vm->arch.logs_writes;
}

bool arch_vm_has_views(unused const struct vm *vm)
{
	return true;
}

void arch_vm_offer_views(unused struct vm *vm)
{
}
