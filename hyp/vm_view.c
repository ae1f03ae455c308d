#include "hyp/vm_view.h"

#include "hyp/s2_cursor.h"
#include "hyp/s2_view.h"

#include <arch/vm.h>

/* When this returns every CPU in the guest has entered it anew. */
static void pass_every_cpu(struct s2 *s2)
{
	struct s2_batch batch;

	s2_batch_open(&batch, s2);
	s2_batch_note_range(&batch, gpa(0), BIT(s2->ipa_bits), S2_LEVELS_MAX, 1);
	s2_batch_close(&batch);
}

/* The lock is held. CPUs answer for the view before the guest can come to it. */
static enum status add(struct vm *vm, u8 perm)
{
	struct s2 *view = hyp_alloc(sizeof(*view));
	enum status status;

	if (!view) {
		return NOMEM;
	}
	status = s2_view_init(view, &vm->s2, perm);
	if (status != OK) {
		hyp_free(view);
		return status;
	}
	vm->views[vm->view_count] = view;
	store_release(&vm->view_count, vm->view_count + 1);
	pass_every_cpu(&vm->s2);
	arch_vm_offer_views(vm);
	return OK;
}

enum status vm_view_add(struct vm *vm, u8 perm, u32 *number)
{
	enum status status;

	if (!arch_vm_has_views(vm)) {
		return INVALID;
	}
	lock_take(&vm->view_lock);
	status = vm->view_count < VM_VIEWS_MAX ? add(vm, perm) : FULL;
	*number = vm->view_count;
	lock_drop(&vm->view_lock);
	return status;
}

struct s2 *vm_view(struct vm *vm, u32 number)
{
	return number > 0 && number <= load_acquire(&vm->view_count) ? vm->views[number - 1] : NULL;
}

void vm_view_drop_all(struct vm *vm)
{
	while (vm->view_count > 0) {
		struct s2 *view = vm->views[--vm->view_count];

		s2_view_destroy(view);
		hyp_free(view);
	}
	arch_vm_offer_views(vm);
}

void vm_view_entering(struct vm *vm)
{
	for (u32 i = 0; i < load_acquire(&vm->view_count); i++) {
		s2_entering(vm->views[i]);
	}
}

void vm_view_left(struct vm *vm)
{
	for (u32 i = 0; i < load_relaxed(&vm->view_count); i++) {
		s2_left(vm->views[i]);
	}
}

static u8 perm_of(u8 access)
{
	return (u8)((access & S2_RW) | (access & ACCESS_EXEC ? S2_EXEC : 0));
}

enum status vm_view_fault(struct vm *vm, const struct exit *exit)
{
	enum status status =
		s2_view_fault(vm_view(vm, exit->view), exit->gpa, perm_of(exit->access));

	return status == NOENT ? vm_memory_fault(vm, exit) : status;
}
