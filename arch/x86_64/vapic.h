/* The way of interrupts between a VM's interrupt controllers: who gets a message, and wakes for it.
 */
#ifndef VAPIC_H
#define VAPIC_H

#include "vapic_message.h"
#include "vlapic.h"

struct mmio_ops;

extern const struct vlapic_ops vapic_ops;

/* The page of the vCPU that looks, for vm_mmio_add; there until it makes its APIC an x2APIC. */
extern const struct mmio_ops vapic_page_ops;

/* A vioapic_send_fn; `vm` is a struct vm. Any CPU. */
bool vapic_from_ioapic(void *vm, const struct vapic_message *message);

#endif
