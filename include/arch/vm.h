/* Questions about guests that each architecture answers. */
#ifndef ARCH_VM_H
#define ARCH_VM_H

#include "arch/image.h" /* arch_image_check() */
#include "hyp/config.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"

/*
 * Lays out the guest: says where config->memory bytes of RAM lie (vm_ram_add), fills vm->images
 * (kernel, ramdisk, device tree or tables that it makes), adds its devices with vm_mmio_add, and
 * prepares its interrupt controller. If not OK, `why` is a sentence. arch_vm_fini gives back what
 * it allocated; safe after a failed arch_vm_init.
 */
enum status arch_vm_init(struct vm *vm, const struct config_vm *config, char *why, size_t size);
void arch_vm_fini(struct vm *vm);

/* As new, for vm_reset: interrupt controller and devices; no vCPU runs. */
void arch_vm_reset(struct vm *vm);

/* Where vCPU 0 starts, and its first argument. */
u64 arch_vm_entry(const struct vm *vm);
u64 arch_vm_entry_argument(const struct vm *vm);

/* A device's interrupt line; `line` as the device was told at arch_vm_init. Any CPU. */
void arch_vm_set_irq(struct vm *vm, u32 line, bool level);

/*
 * From each vCPU's next entry on: do CPUs keep a log of the pages that the guest writes, and hand
 * it to vm_dirty_log() at every exit? False: they cannot.
 */
bool arch_vm_log_writes(struct vm *vm, bool on);

/* Can a guest switch among views by itself? Then these are what it may switch to from now on. */
bool arch_vm_has_views(const struct vm *vm);
void arch_vm_offer_views(struct vm *vm);

void arch_vcpu_init(struct vcpu *vcpu);
/* Registers as after power-on, then pc = entry, first argument = context. Not loaded anywhere. */
void arch_vcpu_reset(struct vcpu *vcpu, u64 entry, u64 context);

/*
 * Puts the vCPU's state into this CPU / takes it out again. Interrupts masked, no lock held.
 * `preempted`: it would run on, and others go first; not when it waits or stops.
 */
void arch_vcpu_load(struct vcpu *vcpu);
void arch_vcpu_put(struct vcpu *vcpu, bool preempted);

/* VCPU_REQUEST_IRQ: brings pending interrupts to where entry delivers them. The vCPU is loaded. */
void arch_vcpu_sync_irqs(struct vcpu *vcpu);

/*
 * Handles exits that only this architecture has: PORT, HYPERCALL, REGISTER, IPI, CACHE. Moves
 * the pc on where the instruction is done. The vCPU is loaded.
 */
void arch_vcpu_emulate(struct vcpu *vcpu);

/* Is there an interrupt that would be delivered, or would end a WFI/HLT? The vCPU is loaded. */
bool arch_vcpu_has_irq(struct vcpu *vcpu);

/* When its own timers next want attention, in ticks of arch_now(); ~0 = never. Loaded. */
u64 arch_vcpu_deadline(struct vcpu *vcpu);

/* Trap WFI/HLT and WFE/PAUSE from the next entry on? The vCPU is loaded. */
void arch_vcpu_trap_idle(struct vcpu *vcpu, bool trap);

/* Nobody answers the access: the guest gets an abort, or whatever else such a machine does then. */
void arch_vcpu_inject_abort(struct vcpu *vcpu);

u64 arch_vcpu_pc(const struct vcpu *vcpu);

/*
 * In <arch_enter.h>, inline: arch_has_views() says whether there are guests on this machine that
 * change among views by themselves, arch_has_own_devices() whether a vCPU may have a device that it
 * alone sees (own_mmio), so that machines without pay nothing; arch_vcpu_enter(vcpu) runs the guest
 * until it exits and fills vcpu->exit; arch_vcpu_decode_access(vcpu), for an access to a device,
 * fills what of it the exit itself did not tell: exit.decoded and the rest; arch_vcpu_skip(vcpu)
 * moves the pc behind the instruction that exited; arch_vcpu_reg(vcpu, n) and
 * arch_vcpu_set_reg(vcpu, n, value) are its general registers, as struct exit numbers them.
 */

/* One or two lines of registers, for a crash or the monitor. */
void arch_vcpu_describe(const struct vcpu *vcpu, char *text, size_t size);

#endif
