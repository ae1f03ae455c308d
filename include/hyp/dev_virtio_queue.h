/*
 * Split virtqueues in guest RAM, from the device's side (virtio 1.2, 2.7).
 *
 * The guest may write anything there, at any time: each word is read once, into memory of Lamina's,
 * judged, and used from there. What makes no sense is INVALID with a reason, and the device asks
 * for a reset. Guest pages fault in as they are touched, so: not in a walk, with no lock, and with
 * no batch of this CPU's open.
 */
#ifndef HYP_DEV_VIRTIO_QUEUE_H
#define HYP_DEV_VIRTIO_QUEUE_H

#include "hyp/vm.h"

#define VIRTQ_SIZE_MAX 128 /* entries; a chain has no more descriptors than that (2.7.5.3.1) */

struct virtq {
	/* The driver's; constant while `ready`. */
	u32 size; /* entries: a power of two, up to VIRTQ_SIZE_MAX */
	bool ready;
	u64 descriptors, available, used; /* guest-physical */

	/* The device's. */
	u16 next_available, next_used;
};

/* One buffer: the pieces that its descriptors name, those to read first, then those to write. */
struct virtio_chain {
	u16 head;
	u32 count, readable; /* pieces; and how many of them are the device's to read */
	u64 readable_bytes, writable_bytes;
	struct virtio_piece {
		gpa_t at; /* all of it is RAM of the guest, unless size is 0 */
		u32 size;
	} pieces[VIRTQ_SIZE_MAX];
};

/* May the queue become ready? INVALID with a reason: size, alignment (2.7), places outside RAM. */
enum status virtq_check(const struct virtq *queue, const struct vm *vm, const char **why);

/*
 * The next buffer that the driver has made available. NOENT: there is none. INVALID: the ring or
 * the chain makes no sense, or (NOMEM of guest memory) cannot be read; *why is a constant sentence.
 */
enum status virtq_pop(struct virtq *queue, struct vm *vm, struct virtio_chain *chain,
		      const char **why);

/* Gives the buffer `head` back, of which the device has written `written` bytes. INVALID: see
 * virtq_pop(). */
enum status virtq_push(struct virtq *queue, struct vm *vm, u16 head, u32 written, const char **why);

/* After pushes: does the driver want an interrupt for them (2.7.7)? When in doubt, yes. */
bool virtq_wants_interrupt(const struct virtq *queue, struct vm *vm);

/*
 * Copies `size` bytes out of the readable part from its byte `offset` on, or into the writable
 * part. INVALID: there are not as many. NOMEM: a page could not be had.
 */
enum status virtio_chain_read(const struct virtio_chain *chain, struct vm *vm, u64 offset, void *to,
			      u64 size);
enum status virtio_chain_write(const struct virtio_chain *chain, struct vm *vm, u64 offset,
			       const void *from, u64 size);

#endif
