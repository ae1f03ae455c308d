/* A guest's own page tables, walked by software (SDM volume 3A, 4.3 to 4.5). */
#ifndef VWALK_H
#define VWALK_H

#include "hyp/addr.h"

struct vm;

/* What decides how they are read. */
struct vwalk_paging {
	u64 cr0, cr3, cr4, efer;
	u64 reserved; /* address bits that the CPU does not have; vwalk_access() alone looks at them
		       */
};

/*
 * The guest-physical address of linear address `at`: paging off, 32-bit, PAE or of four levels.
 * False: nothing is there. Rights are not looked at, and no flag is set: the guest's own access has
 * just been there.
 */
bool vwalk(struct vm *vm, const struct vwalk_paging *paging, u64 at, gpa_t *where);

/* An access that Lamina does for the guest. */
struct vwalk_use {
	bool write;
	bool user;	/* at privilege level 3 */
	bool keeps_out; /* SMAP is in force: a supervisor's access to a user's page is a fault */
};

enum vwalk_result {
	VWALK_OK,
	VWALK_FAULT, /* a page fault */
	VWALK_AGAIN, /* another vCPU changed an entry meanwhile: the instruction is to come again */
	VWALK_NOMEM, /* a page that an entry lies in could not be had */
};

/*
 * As the CPU's own walk for a data access: rights and reserved bits are looked at, and accessed and
 * dirty flags are set as by a locked instruction. `where` is there after OK; `error` after FAULT:
 * the page fault's error code.
 */
enum vwalk_result vwalk_access(struct vm *vm, const struct vwalk_paging *paging, u64 at,
			       struct vwalk_use use, gpa_t *where, u32 *error);

#endif
