#include "hyp/vm_dirty.h"

#include "hyp/bitmap.h"

#include <arch/vm.h>

#include <string.h>

/* What the CPUs have logged and nobody has taken: a bit for each page from RAM's first to its last.
 */
struct vm_dirty {
	bool has_log;	  /* the CPUs keep one */
	struct lock lock; /* guards the bitmap */
	gpa_t first;
	u64 pages;
	u64 bitmap[];
};

/* Kept until the VM ends: a CPU may be on its way here when logging stops. */
static struct vm_dirty *dirty_of(struct vm *vm)
{
	gpa_t first = vm_ram_piece(&vm->ram, 0).base;
	u64 pages = (vm_ram_end(&vm->ram).v - first.v) / PAGE_SIZE;

	if (!vm->dirty) {
		struct vm_dirty *dirty = hyp_alloc(sizeof(*dirty) + bitmap_bytes(pages));

		if (dirty) {
			dirty->first = first;
			dirty->pages = pages;
			store_release(&vm->dirty, dirty);
		}
	}
	return vm->dirty;
}

/* CPUs log from the close on, which every one that is in the guest leaves it for; what they had
 * logged of an earlier time is forgotten before. */
enum status vm_dirty_start(struct vm *vm)
{
	struct vm_dirty *dirty = dirty_of(vm);
	struct s2_batch batch;
	enum status status;

	if (!dirty) {
		return NOMEM;
	}
	s2_batch_open(&batch, &vm->s2);
	status = s2_dirty_start(&vm->s2, &batch);
	if (status == OK) {
		lock_take(&dirty->lock);
		memset(dirty->bitmap, 0, bitmap_bytes(dirty->pages));
		lock_drop(&dirty->lock);
		store_relaxed(&dirty->has_log, arch_vm_log_writes(vm, true));
	}
	s2_batch_close(&batch);
	return status;
}

void vm_dirty_stop(struct vm *vm)
{
	arch_vm_log_writes(vm, false);
	s2_dirty_stop(&vm->s2);
}

bool vm_dirty_has_log(const struct vm *vm)
{
	const struct vm_dirty *dirty = load_acquire(&vm->dirty);

	return dirty && load_relaxed(&dirty->has_log) && load_relaxed(&vm->s2.logging) == S2_LOG_ON;
}

void vm_dirty_end(struct vm *vm)
{
	if (vm->dirty) {
		hyp_free(vm->dirty);
		vm->dirty = NULL;
	}
}

enum status vm_dirty_get(struct vm *vm, gpa_t at, u64 size, u64 *bitmap)
{
	return vm_memory_contains(vm, at, size) ? s2_dirty_get(&vm->s2, at, size, bitmap) : INVALID;
}

static void move_bits(u64 *from, u64 first, u64 count, u64 *to)
{
	for (u64 i = 0; i < count; i++) {
		if (bitmap_has(from, first + i)) {
			bitmap_clear(from, first + i);
			bitmap_set(to, i);
		}
	}
}

enum status vm_dirty_take(struct vm *vm, gpa_t at, u64 size, u64 *bitmap)
{
	struct vm_dirty *dirty = vm->dirty;

	if (!vm_dirty_has_log(vm) || !vm_memory_contains(vm, at, size) ||
	    !s2_range_is_valid(&vm->s2, at, size)) {
		return INVALID;
	}
	lock_take(&dirty->lock);
	move_bits(dirty->bitmap, (at.v - dirty->first.v) / PAGE_SIZE, size / PAGE_SIZE, bitmap);
	lock_drop(&dirty->lock);
	return OK;
}

void vm_dirty_log(struct vm *vm, const u64 *addresses, u64 count)
{
	struct vm_dirty *dirty = load_acquire(&vm->dirty);

	if (dirty) {
		lock_take(&dirty->lock);
		s2_dirty_log(&vm->s2, dirty->first, dirty->pages * PAGE_SIZE, addresses, count,
			     dirty->bitmap);
		lock_drop(&dirty->lock);
	}
}
