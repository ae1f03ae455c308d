/* Ranges of RAM, as far as it is not the way of a fault. */
#include "hyp/vm_ram.h"

#include "hyp/log.h"

static u32 count_ranges(const struct vm_ram *ram)
{
	u32 count = 0;

	while (count < VM_RAM_RANGES && ram->ranges[count].size != 0) {
		count++;
	}
	return count;
}

void vm_ram_add(struct vm_ram *ram, gpa_t base, u64 size)
{
	u32 count = count_ranges(ram);

	if (size == 0) {
		return;
	}
	check(count < VM_RAM_RANGES && (count == 0 || base.v > vm_ram_end(ram).v));
	ram->ranges[count] = (struct vm_ram_range){.base = base, .size = size};
	ram->size += size;
}

struct vm_ram_range vm_ram_piece(const struct vm_ram *ram, u64 done)
{
	const struct vm_ram_range *r = ram->ranges;

	check(done < ram->size);
	for (; done >= r->size; r++) {
		done -= r->size;
	}
	return (struct vm_ram_range){.base = gpa_add(r->base, done), .size = r->size - done};
}

u64 vm_ram_offset(const struct vm_ram *ram, gpa_t a)
{
	const struct vm_ram_range *r = ram->ranges;
	u64 before = 0;

	for (; a.v - r->base.v >= r->size; r++) {
		check(r < &ram->ranges[VM_RAM_RANGES - 1]);
		before += r->size;
	}
	return before + (a.v - r->base.v);
}

gpa_t vm_ram_end(const struct vm_ram *ram)
{
	u32 count = count_ranges(ram);

	return count == 0 ? gpa(0)
			  : gpa_add(ram->ranges[count - 1].base, ram->ranges[count - 1].size);
}

bool vm_ram_meets(const struct vm_ram *ram, gpa_t base, u64 size)
{
	for (u32 i = 0; i < VM_RAM_RANGES; i++) {
		const struct vm_ram_range *r = &ram->ranges[i];

		if (base.v < r->base.v + r->size && r->base.v < base.v + size) {
			return true;
		}
	}
	return false;
}
