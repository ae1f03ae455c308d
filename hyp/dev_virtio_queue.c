/*
 * Split virtqueues. The rings' indexes are words that both sides look at while both run, so they
 * are reached where they lie, in one access each; all else is copied.
 *
 * Manual: virtio 1.2, 2.7. Layouts are those of <linux/virtio_ring.h>.
 */
#include "hyp/dev_virtio_queue.h"

#include "hyp/vm_reach.h"

#include <linux/virtio_ring.h>

/* Of a ring: flags, then the index, then entries. */
#define RING_FLAGS 0
#define RING_INDEX 2
#define RING_ENTRIES 4
#define AVAILABLE_ENTRY 2 /* bytes */

static enum status refuse(const char **why, const char *reason)
{
	*why = reason;
	return INVALID;
}

/* ---- Words that both sides look at ----------------------------------------------------------- */

static void take_u16(void *context, void *bytes)
{
	u16 *value = context;

	*value = load_acquire((u16 *)bytes);
}

static void put_u16(void *context, void *bytes)
{
	const u16 *value = context;

	store_release((u16 *)bytes, *value);
}

static enum status read_u16(struct vm *vm, u64 at, u16 *value)
{
	return vm_reach(vm, gpa(at), sizeof(*value), take_u16, value);
}

static enum status write_u16(struct vm *vm, u64 at, u16 value)
{
	return vm_reach(vm, gpa(at), sizeof(value), put_u16, &value);
}

/* ---- The queue ------------------------------------------------------------------------------- */

static bool is_place(const struct vm *vm, u64 at, u64 size, u64 alignment)
{
	return is_aligned(at, alignment) && vm_memory_contains(vm, gpa(at), size);
}

enum status virtq_check(const struct virtq *q, const struct vm *vm, const char **why)
{
	if (q->size == 0 || q->size > VIRTQ_SIZE_MAX || (q->size & (q->size - 1)) != 0) {
		return refuse(why, "a queue's size is no power of two, or too large");
	}
	if (!is_place(vm, q->descriptors, (u64)q->size * sizeof(struct vring_desc),
		      VRING_DESC_ALIGN_SIZE) ||
	    !is_place(vm, q->available, RING_ENTRIES + (u64)q->size * AVAILABLE_ENTRY,
		      VRING_AVAIL_ALIGN_SIZE) ||
	    !is_place(vm, q->used, RING_ENTRIES + (u64)q->size * sizeof(struct vring_used_elem),
		      VRING_USED_ALIGN_SIZE)) {
		return refuse(why, "a queue is not aligned, or outside of RAM");
	}
	return OK;
}

/* ---- Chains ---------------------------------------------------------------------------------- */

static enum status add_piece(struct vm *vm, struct virtio_chain *chain,
			     const struct vring_desc *desc, const char **why)
{
	bool is_writable = desc->flags & VRING_DESC_F_WRITE;

	if (chain->count == VIRTQ_SIZE_MAX) {
		return refuse(why, "a chain of descriptors is a loop, or too long");
	}
	if (desc->len != 0 && !vm_memory_contains(vm, gpa(desc->addr), desc->len)) {
		return refuse(why, "a descriptor's bytes are outside of RAM");
	}
	if (!is_writable && chain->readable != chain->count) {
		return refuse(why, "a descriptor to read is behind one to write");
	}
	chain->pieces[chain->count++] =
		(struct virtio_piece){.at = gpa(desc->addr), .size = desc->len};
	if (is_writable) {
		chain->writable_bytes += desc->len;
	} else {
		chain->readable++;
		chain->readable_bytes += desc->len;
	}
	return OK;
}

/* A table of descriptors: the queue's own, or one that a descriptor leads to (2.7.5.3). */
struct table {
	u64 at;
	u32 count;
	bool is_indirect;
};

static enum status enter_indirect(struct vm *vm, const struct vring_desc *desc, struct table *table,
				  const char **why)
{
	if (table->is_indirect || (desc->flags & VRING_DESC_F_NEXT)) {
		return refuse(why, "an indirect descriptor is in an indirect table, or has a next");
	}
	if (desc->len == 0 || desc->len % sizeof(*desc) != 0 ||
	    !vm_memory_contains(vm, gpa(desc->addr), desc->len)) {
		return refuse(why, "an indirect table is of no whole descriptors, or outside RAM");
	}
	*table = (struct table){
		.at = desc->addr, .count = desc->len / sizeof(*desc), .is_indirect = true};
	return OK;
}

/* Ends: each step but one adds a piece, and add_piece() refuses one too many. */
static enum status walk_chain(struct vm *vm, struct table table, u32 next,
			      struct virtio_chain *chain, const char **why)
{
	struct vring_desc desc;
	enum status status;

	for (;;) {
		if (next >= table.count) {
			return refuse(why, "a descriptor's number is out of range");
		}
		if (vm_memory_read(vm, gpa(table.at + next * sizeof(desc)), &desc, sizeof(desc)) !=
		    OK) {
			return refuse(why, "a descriptor cannot be read");
		}
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			status = enter_indirect(vm, &desc, &table, why);
			next = 0;
		} else {
			status = add_piece(vm, chain, &desc, why);
			if (!(desc.flags & VRING_DESC_F_NEXT)) {
				return status;
			}
			next = desc.next;
		}
		if (status != OK) {
			return status;
		}
	}
}

enum status virtq_pop(struct virtq *q, struct vm *vm, struct virtio_chain *chain, const char **why)
{
	struct table table = {.at = q->descriptors, .count = q->size};
	u64 entry =
		q->available + RING_ENTRIES + (u64)(q->next_available % q->size) * AVAILABLE_ENTRY;
	u16 index, head;

	if (read_u16(vm, q->available + RING_INDEX, &index) != OK) {
		return refuse(why, "a ring cannot be read");
	}
	if (index == q->next_available) {
		return NOENT;
	}
	if ((u16)(index - q->next_available) > q->size) {
		return refuse(why, "a ring has more entries than it can hold");
	}
	if (read_u16(vm, entry, &head) != OK) {
		return refuse(why, "a ring cannot be read");
	}
	q->next_available++;
	chain->head = head;
	chain->count = chain->readable = 0;
	chain->readable_bytes = chain->writable_bytes = 0;
	return walk_chain(vm, table, head, chain, why);
}

/* The entry is there before the index says so: put_u16() releases. */
enum status virtq_push(struct virtq *q, struct vm *vm, u16 head, u32 written, const char **why)
{
	struct vring_used_elem element = {.id = head, .len = written};
	u64 entry = q->used + RING_ENTRIES + (u64)(q->next_used % q->size) * sizeof(element);

	if (vm_memory_write(vm, gpa(entry), &element, sizeof(element)) != OK ||
	    write_u16(vm, q->used + RING_INDEX, ++q->next_used) != OK) {
		return refuse(why, "a ring cannot be written");
	}
	return OK;
}

bool virtq_wants_interrupt(const struct virtq *q, struct vm *vm)
{
	u16 flags;

	fence_full(); /* either we see that the driver wants it, or it sees the index */
	return read_u16(vm, q->available + RING_FLAGS, &flags) != OK ||
	       !(flags & VRING_AVAIL_F_NO_INTERRUPT);
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* Which bytes of which pieces; the copy goes one way or the other. */
static enum status copy(const struct virtio_piece *pieces, u32 count, struct vm *vm, u64 offset,
			u8 *bytes, u64 size, bool to_guest)
{
	for (u32 i = 0; i < count && size > 0; i++) {
		u64 part = offset < pieces[i].size ? min_u64(pieces[i].size - offset, size) : 0;
		gpa_t at = gpa_add(pieces[i].at, offset);
		enum status status = OK;

		if (part > 0) {
			status = to_guest ? vm_memory_write(vm, at, bytes, part)
					  : vm_memory_read(vm, at, bytes, part);
		}
		if (status != OK) {
			return status;
		}
		bytes += part;
		size -= part;
		offset -= min_u64(offset, pieces[i].size);
	}
	return size == 0 ? OK : INVALID;
}

enum status virtio_chain_read(const struct virtio_chain *chain, struct vm *vm, u64 offset, void *to,
			      u64 size)
{
	return copy(chain->pieces, chain->readable, vm, offset, to, size, false);
}

enum status virtio_chain_write(const struct virtio_chain *chain, struct vm *vm, u64 offset,
			       const void *from, u64 size)
{
	return copy(chain->pieces + chain->readable, chain->count - chain->readable, vm, offset,
		    (u8 *)(uintptr_t)from, size, true);
}
