/* What x86-64 keeps for each VM. */
#ifndef ARCH_VM_BLOCK_H
#define ARCH_VM_BLOCK_H

#include "hyp/types.h"

#include "vport.h"

struct uart16550;
struct vmailbox;
struct vioapic;

struct arch_vm {
	struct vport_region ports[VPORT_REGIONS_MAX];
	u32 port_count;
	struct vioapic *ioapic;
	struct uart16550 *uart;
	struct vmailbox *mailbox; /* NULL: CPUs start by INIT */
	void *tables;		  /* what firmware would have put there; vm images point into it */
	void *msr_bitmap;	  /* one for all vCPUs */
	u64 *view_list;		  /* the EPTPs that VMFUNC may choose from: a page, or NULL */
	u32 offers;		  /* of CPU2_LOG and CPU2_FUNCTIONS: voffer.c; atomic */
	u64 entry;		  /* of vCPU 0 */
	u64 entry_argument;
	bool long_mode;	       /* entered with paging on (Linux), else off (multiboot) */
	u64 page_tables, gdt;  /* guest-physical, for the first of these */
	bool unknown_register; /* one was reported already */
};

#endif
