/* The machine's device tree as arm64's own files need it, filled by boot.c; constant after boot. */
#ifndef MACHINE_H
#define MACHINE_H

#include "arch/boot.h"
#include "hyp/boot_info.h"
#include "hyp/own.h"

#define MACHINE_GICR_REGIONS_MAX 4

/* Interrupts that Lamina and its guests live on. boot.c refuses machines that number them
 * otherwise. */
#define INTID_KICK 1		/* SGI: look around, somebody wants you */
#define INTID_STOP 2		/* SGI: park for good */
#define INTID_MAINTENANCE 25	/* PPI: list registers need care */
#define INTID_HYP_TIMER 26	/* PPI: CNTHP_EL2 */
#define INTID_VIRTUAL_TIMER 27	/* PPI: the guest's CNTV */
#define INTID_PHYSICAL_TIMER 30 /* PPI: the guest's CNTP */

struct machine {
	struct boot_info info;
	struct boot_range device_tree;
	struct boot_range gicd;
	struct boot_range gicr[MACHINE_GICR_REGIONS_MAX];
	u32 gicr_count;
	struct boot_range uart;
	u32 uart_intid;
	bool psci;
	bool timer;
	u32 timer_hz;	/* 0: CNTFRQ_EL0 says */
	u64 kaslr_seed; /* 0: none was given */
};

extern struct machine machine;

/* ---- What boot.c and smp.c call, in order; each per CPU unless it says otherwise ---------------
 */

void el2_init(void);

/* What a CPU needs to turn its MMU on. Layout: layout.h. */
struct mmu_registers {
	u64 mair, tcr, ttbr0, sctlr;
};
/* Only the image, writable and executable, the device tree and the UART; runs with the MMU off. */
const struct mmu_registers *mmu_build_early(const struct boot_range *device_tree);
/* All that `machine` describes, with the permissions it deserves. CPU 0 alone. */
const struct mmu_registers *mmu_build(void);
/* The result of mmu_build(), for other CPUs. */
const struct mmu_registers *mmu_registers(void);
void mmu_switch(const struct mmu_registers *registers);

void gic_init_distributor(void); /* CPU 0 alone */
void gic_init_cpu(void);
void gic_send_sgi(u32 intid, u64 affinity);

void timer_init(void); /* CPU 0 alone */
void timer_init_cpu(void);
void timer_disarm(void);

void uart_init(void);	 /* CPU 0 alone */
void publish_init(void); /* CPU 0 alone: arch_publish_memory */

/* PSCI (DEN0022) of the firmware, by SMC. psci_cpu_on: 0 or a negative PSCI error. */
s64 psci_cpu_on(u64 affinity, u64 entry, u64 context);
noreturn_fn void psci_system_off(void);

#endif
