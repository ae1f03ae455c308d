/*
 * Views that a guest may switch to by itself (hyp/s2_view.h; x86: VMFUNC, SDM volume 3C, 26.5.6).
 *
 * View 0 is what every guest has: all of its RAM. A further one shows the same memory with less
 * rights. Which one a CPU of the guest is in is that CPU's affair; what it may do there is not.
 */
#ifndef HYP_VM_VIEW_H
#define HYP_VM_VIEW_H

#include "hyp/vm.h"

/*
 * One more view, which allows at most `perm` (of enum s2_perm) until s2_view_protect() says more or
 * less of a range; its number is how the guest names it. INVALID: this machine's guests cannot
 * switch, or the format has no such permissions. FULL, NOMEM.
 */
enum status vm_view_add(struct vm *vm, u8 perm, u32 *number);
/* NULL: there is none of that number, or it is 0. */
struct s2 *vm_view(struct vm *vm, u32 number);

/* The s2 fault of a RAM address in a view. OK and AGAIN: run the same instruction again. DENIED:
 * the view forbids it. NOMEM. */
enum status vm_view_fault(struct vm *vm, const struct exit *exit);

/* No vCPU is on: the guest has view 0 alone. */
void vm_view_drop_all(struct vm *vm);

/* As s2_entering() and s2_left(), for the views that there are: the guest can come to any of them
 * without an exit. */
void vm_view_entering(struct vm *vm);
void vm_view_left(struct vm *vm);

#endif
