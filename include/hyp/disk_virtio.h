/*
 * The driver of the machine's own disks: virtio-blk over virtio-mmio, modern devices only (virtio
 * 1.2: 2.7, 4.2, 5.2).
 *
 * Whoever waits polls, unless the device was told to interrupt. A device that leaves a request
 * alone for DISK_VIRTIO_PATIENCE_NS is reset, which makes it let go of memory, and is gone: all
 * that it had ends with an error, and so does what comes later.
 */
#ifndef HYP_DISK_VIRTIO_H
#define HYP_DISK_VIRTIO_H

#include "hyp/block.h"

#define DISK_VIRTIO_PATIENCE_NS 30000000000ull
#define DISK_VIRTIO_NAME 20 /* bytes, at most: what the machine calls the disk (5.2.6.1) */

/*
 * Takes the device whose registers begin at `registers`, a transport of virtio-mmio. The block is
 * there for good; its name is what the device says, "" if nothing. NOENT: there is no disk.
 * INVALID: there is one that cannot be driven; NOMEM. Both were logged, with the reason.
 */
enum status disk_virtio_open(u64 registers, struct block **disk);

/* The device interrupts from now on, when it is done with something. */
void disk_virtio_listen(struct block *disk);
/* It does: it is quiet again, and what has ended is told. */
void disk_virtio_interrupt(struct block *disk);

/* Resets the device and frees all of it; nothing is under way. For tests. */
void disk_virtio_close(struct block *disk);

#endif
