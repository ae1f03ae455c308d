/* Which device answers at a guest-physical address. There are few, so the search is a short scan.
 */
#include "hyp/vm.h"

static bool ranges_meet(u64 a, u64 a_size, u64 b, u64 b_size)
{
	return a < b + b_size && b < a + a_size;
}

enum status vm_mmio_add(struct vm *vm, struct mmio_region region)
{
	if (vm->mmio_count == VM_MMIO_MAX) {
		return FULL;
	}
	if (region.size == 0 || region.base.v + region.size < region.base.v ||
	    vm_ram_meets(&vm->ram, region.base, region.size)) {
		return INVALID;
	}
	for (u32 i = 0; i < vm->mmio_count; i++) {
		if (ranges_meet(region.base.v, region.size, vm->mmio[i].base.v, vm->mmio[i].size)) {
			return EXISTS;
		}
	}
	vm->mmio[vm->mmio_count++] = region;
	return OK;
}

const struct mmio_region *vm_mmio_find(const struct vm *vm, gpa_t a)
{
	for (u32 i = 0; i < vm->mmio_count; i++) {
		if (a.v - vm->mmio[i].base.v < vm->mmio[i].size) {
			return &vm->mmio[i];
		}
	}
	return NULL;
}
