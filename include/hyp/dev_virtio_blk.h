/* A guest's disk: virtio-blk (virtio 1.2, 5.2) over any block device. */
#ifndef HYP_DEV_VIRTIO_BLK_H
#define HYP_DEV_VIRTIO_BLK_H

#include "hyp/block.h"
#include "hyp/dev_virtio.h"

#define VIRTIO_BLK_REQUESTS 8	  /* under way at once; more wait in the queue */
#define VIRTIO_BLK_BOUNCE KIB(64) /* of one request; a larger one goes in steps */

/*
 * The disk as a device of `vm`, in the slot that the caller puts it into; NULL without memory. The
 * block outlives it; its name, up to 20 bytes of it, is the disk's identity (5.2.6.1).
 */
struct virtio_device *virtio_blk_create(struct vm *vm, u32 irq, struct block *block);

#endif
