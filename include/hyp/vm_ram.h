/*
 * Where a guest's RAM lies: a few ranges of guest-physical addresses, as its machine has holes.
 *
 * Offsets count RAM alone, in the order of the ranges, as if there were no holes. What goes over
 * all RAM does so piece by piece:
 *
 *	for (u64 done = 0; done < ram->size; done += piece.size) {
 *		piece = vm_ram_piece(ram, done);
 *		...
 *	}
 */
#ifndef HYP_VM_RAM_H
#define HYP_VM_RAM_H

#include "hyp/addr.h"

#define VM_RAM_RANGES 2

struct vm_ram_range {
	gpa_t base;
	u64 size; /* bytes, a multiple of 2 MiB; 0: no range, which contains nothing and meets
		     nothing */
};

/* Ascending, apart from each other; those that are not used come last. */
struct vm_ram {
	struct vm_ram_range ranges[VM_RAM_RANGES];
	u64 size; /* bytes in all */
};

/* Another range, above those that there are; of no size is none. At most VM_RAM_RANGES of them. */
void vm_ram_add(struct vm_ram *ram, gpa_t base, u64 size);

/* The range from offset `done`, which is below ram->size, to the end of the range it lies in. */
struct vm_ram_range vm_ram_piece(const struct vm_ram *ram, u64 done);

/* The other way round: how much RAM there is before `a`, which lies in some. */
u64 vm_ram_offset(const struct vm_ram *ram, gpa_t a);

/* Behind the last byte; 0: there is none. */
gpa_t vm_ram_end(const struct vm_ram *ram);

/* Does any byte of [base, base + size), which does not wrap, lie in RAM? */
bool vm_ram_meets(const struct vm_ram *ram, gpa_t base, u64 size);

/* Is all of [a, a + size) RAM, in one range? Any values. Faults ask this: it is in line, and what
 * lies in the first range costs what it would if there was no other. */
static inline bool vm_ram_contains(const struct vm_ram *ram, gpa_t a, u64 size)
{
	for (u32 i = 0; i < VM_RAM_RANGES; i++) {
		const struct vm_ram_range *r = &ram->ranges[i];
		u64 offset = a.v - r->base.v;

		if (offset < r->size && size <= r->size - offset) {
			return true;
		}
	}
	return false;
}

#endif
