#ifndef ARCH_VM_BLOCK_H
#define ARCH_VM_BLOCK_H

#include "../arm64/vgic.h"

struct arch_vm {
	struct vgic *gic;
	u64 irq_lines;	  /* levels, as arch_vm_set_irq was told */
	bool logs_writes; /* a test's to say: CPUs keep a log, which the test writes */

	/* For the files of arm64 that are tested on the host: as in its arch_vm.h. */
	u64 id[64];
	void *stolen_page;
	bool unknown_register;
};

#endif
