/* Memory given up: cut to whole pages of RAM, then unmapped, by who keeps the VM's pages. */
#include "hyp/vm_memory_give_up.h"

#include "hyp/swap.h"

static struct vm_ram_range overlap(const struct vm_ram_range *ram, struct vm_ram_range r)
{
	u64 start = max_u64(ram->base.v, align_up(r.base.v, PAGE_SIZE));
	u64 end = r.base.v + r.size < r.base.v ? ~0ull : r.base.v + r.size;

	end = min_u64(ram->base.v + ram->size, align_down(end, PAGE_SIZE));
	if (start < r.base.v || start >= end) { /* it wrapped, or is empty */
		return (struct vm_ram_range){.size = 0};
	}
	return (struct vm_ram_range){.base = gpa(start), .size = end - start};
}

typedef void (*piece_fn)(void *context, struct vm_ram_range piece);

static u64 for_each_piece(const struct vm *vm, const struct vm_ram_range *ranges, u32 count,
			  piece_fn fn, void *context)
{
	u64 bytes = 0;

	for (u32 i = 0; i < count; i++) {
		for (u32 n = 0; n < VM_RAM_RANGES; n++) {
			struct vm_ram_range piece = overlap(&vm->ram.ranges[n], ranges[i]);

			if (piece.size > 0) {
				fn(context, piece);
				bytes += piece.size;
			}
		}
	}
	return bytes;
}

/* What it says does not matter: a piece that cannot go stays whole. */
static void unmap(void *context, struct vm_ram_range piece)
{
	struct s2_batch *batch = context;

	s2_unmap(batch->s2, piece.base, piece.size, batch);
}

static void take(void *context, struct vm_ram_range piece)
{
	swap_give_up_take(context, piece.base, piece.size);
}

static void settle(void *context, struct vm_ram_range piece)
{
	swap_give_up_settle(context, piece.base, piece.size);
}

static u64 give_up_swapped(struct vm *vm, const struct vm_ram_range *ranges, u32 count)
{
	struct swap_give_up g;
	u64 bytes;

	swap_give_up_begin(&g, vm->swap);
	bytes = for_each_piece(vm, ranges, count, take, &g);
	swap_give_up_close(&g);
	for_each_piece(vm, ranges, count, settle, &g);
	swap_give_up_end(&g);
	return bytes;
}

u64 vm_memory_give_up(struct vm *vm, const struct vm_ram_range *ranges, u32 count)
{
	struct s2_batch batch;
	u64 bytes;

	if (vm->swap) {
		return give_up_swapped(vm, ranges, count);
	}
	s2_batch_open(&batch, &vm->s2);
	bytes = for_each_piece(vm, ranges, count, unmap, &batch);
	s2_batch_close(&batch);
	return bytes;
}
