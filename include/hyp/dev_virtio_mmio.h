/*
 * Virtio-mmio transports with nothing behind them.
 *
 * Payloads made for machines that have a row of transports at fixed addresses probe each one; here
 * they find a transport that says "no device" (virtio 1.x, 4.2.2: DeviceID 0) instead of an abort.
 */
#ifndef HYP_DEV_VIRTIO_MMIO_H
#define HYP_DEV_VIRTIO_MMIO_H

#include "hyp/types.h"

struct mmio_ops;

#define VIRTIO_MMIO_SLOT_SIZE 0x200ull

/* Any number of empty slots in a row, from the region's start on; the device is not used. */
extern const struct mmio_ops virtio_mmio_empty_ops;

#endif
