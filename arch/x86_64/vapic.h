/* The way of interrupts between a VM's interrupt controllers: who gets a message, and wakes for it.
 */
#ifndef VAPIC_H
#define VAPIC_H

#include "vapic_message.h"
#include "vlapic.h"

struct mmio_ops;
struct vcpu;

/*
 * A vCPU's local APIC, and its page: the vCPU's own device, as long as the APIC is an xAPIC. As
 * vlapic_init() and vlapic_reset(). The vCPU does not run.
 */
void vapic_init(struct vcpu *vcpu);
void vapic_reset(struct vcpu *vcpu, bool init_only);

/*
 * IA32_APIC_BASE is written; the page follows. False: a protection fault, and nothing changed: a
 * value that is reserved, or a page where RAM or another device is. The vCPU's own CPU.
 */
bool vapic_write_base(struct vcpu *vcpu, u64 base);

/* For vm_mmio_add, where the page is at first: what answers there when the page does not. */
extern const struct mmio_ops vapic_absent_ops;

/* Before anybody looks at what the vCPU's local APIC has in service: an interrupt that the guest
 * ended without an exit has ended. The vCPU is loaded. */
void vapic_settle(struct vcpu *vcpu);

/* To this vCPU alone, whose id is the destination. True: it takes it. Any CPU. */
bool vapic_send(struct vcpu *target, const struct vapic_message *message);

/* A vioapic_send_fn; `vm` is a struct vm. Any CPU. */
bool vapic_from_ioapic(void *vm, const struct vapic_message *message);

#endif
