/* A guest's own page tables, walked by software (SDM volume 3A, 4.3 to 4.5). */
#ifndef VWALK_H
#define VWALK_H

#include "hyp/addr.h"

struct vm;

/* What decides how they are read. */
struct vwalk_paging {
	u64 cr0, cr3, cr4, efer;
};

/*
 * The guest-physical address of linear address `at`: paging off, 32-bit, PAE or of four levels.
 * False: nothing is there. Rights are not looked at, and no flag is set: the guest's own access has
 * just been there.
 */
bool vwalk(struct vm *vm, const struct vwalk_paging *paging, u64 at, gpa_t *where);

#endif
