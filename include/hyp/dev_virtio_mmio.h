/*
 * A row of virtio-mmio transports at fixed addresses.
 *
 * Payloads made for machines that have such a row probe each one; where the guest has no device
 * they find a transport that says so (virtio 1.x, 4.2.2: DeviceID 0) instead of an abort.
 */
#ifndef HYP_DEV_VIRTIO_MMIO_H
#define HYP_DEV_VIRTIO_MMIO_H

#include "hyp/types.h"

struct mmio_ops;

#define VIRTIO_MMIO_SLOT_SIZE 0x200ull

/* Any number of slots in a row, from the region's start on; the region's device is the VM, whose
 * virtio[n] is in slot n. */
extern const struct mmio_ops virtio_mmio_ops;

#endif
