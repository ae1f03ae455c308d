/* What arm64 keeps for each VM. */
#ifndef ARCH_VM_BLOCK_H
#define ARCH_VM_BLOCK_H

#include "hyp/types.h"

#include "guest_map.h"
#include "vgic.h"

struct arch_vm {
	struct vgic *gic;
	void *uart;
	void *device_tree; /* made for this guest; a vm image points into it */
	u64 entry;	   /* of vCPU 0 */
	u64 device_tree_gpa;
	u64 id[64];	       /* what ID registers say, by VID_INDEX of vid.h */
	void *stolen_page;     /* PV time records, from the first call on; holds a reference */
	bool unknown_register; /* one was reported already */
};

#endif
