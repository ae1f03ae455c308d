/* The machine as x86-64's own files need it, filled by boot.c; constant after boot. */
#ifndef MACHINE_H
#define MACHINE_H

#include "arch/boot.h"
#include "hyp/boot_info.h"
#include "hyp/own.h"

/* Vectors of Lamina's own interrupts. */
enum {
	VECTOR_UART = 0x40,
	VECTOR_TIMER = 0xec,
	VECTOR_KICK = 0xed,
	VECTOR_SPURIOUS = 0xff,
};

/* What came, until arch_irq_poll() looks. */
enum irq { IRQ_UART = 1, IRQ_TIMER = 2, IRQ_KICK = 4 };

struct machine {
	struct boot_info info;
	u64 lapic;     /* its page; in x2APIC mode nobody looks there */
	u64 ioapic;    /* the one whose first line is interrupt 0, or 0 */
	u32 uart_line; /* of that one, where ISA interrupt 4 is */
	bool x2apic;
	bool tsc_deadline;
};

extern struct machine machine;

/* ---- What boot.c and smp.c call, in order; each per CPU unless it says otherwise ------------ */

u64 tables_gates(void);		       /* what the IDTR points to */
void tables_init_cpu(struct cpu *cpu); /* GS, segments, task, exceptions */

void multiboot_read(u32 magic, const void *information); /* CPU 0 alone: banks, modules */
void acpi_read(void); /* CPU 0 alone: CPUs, interrupt controllers */
void acpi_local_devices(u64 *root);

u64 mmu_build(void); /* CPU 0 alone: the final map; returns its root for CR3 */

void lapic_init(void); /* CPU 0 alone: which kind */
void lapic_init_cpu(void);
u32 lapic_id(void);
void lapic_send(u32 apic_id, u32 command); /* the low half of the ICR */
void lapic_set_timer(u64 deadline);
void lapic_end(void);
void ioapic_init(void); /* CPU 0 alone */

void timer_init(void);	    /* CPU 0 alone: how fast the TSC is */
void uart_init(void);	    /* CPU 0 alone */
void uart_drain(void);	    /* until the last byte has gone out */
void smp_prepare(u64 root); /* CPU 0 alone, before the final map is in use */

/* interrupts.S and lapic.c: an interrupt was taken, here or out of a guest. */
void irq_taken(u64 vector);

#endif
