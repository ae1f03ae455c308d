/*
 * A row of virtio-mmio transports. Those with nothing behind them name themselves, and hold no
 * device.
 *
 * Manual: virtio 1.x, 4.2.2. "Value zero is used to define a system memory map with placeholder
 * devices at static, well known addresses"; a driver ignores such a transport without an error.
 * Everything but the four identifying registers reads as zero, and writes have no effect.
 */
#include "hyp/dev_virtio_mmio.h"

#include "hyp/dev_virtio.h"

#define MAGIC_VALUE 0x000
#define VERSION 0x004
#define DEVICE_ID 0x008
#define VENDOR_ID 0x00c

#define MAGIC 0x74726976 /* "virt" */
#define VERSION_MODERN 2
#define DEVICE_NONE 0
#define VENDOR 0x414e4d4c /* "LMNA" */

static u32 read_word(u64 reg)
{
	switch (reg) {
	case MAGIC_VALUE:
		return MAGIC;
	case VERSION:
		return VERSION_MODERN;
	case DEVICE_ID:
		return DEVICE_NONE;
	case VENDOR_ID:
		return VENDOR;
	}
	return 0;
}

/* Drivers must read words; other widths get the bytes that lie there. */
static u64 read_empty(u64 offset, unsigned size)
{
	u64 reg = align_down(offset, 4);
	u64 words = read_word(reg) | (u64)read_word(reg + 4) << 32;

	return (words >> (8 * (offset & 3))) & BITS(8 * size - 1, 0);
}

static struct virtio_device *find(struct vm *vm, u64 offset)
{
	u64 slot = offset / VIRTIO_MMIO_SLOT_SIZE;

	return slot < VM_VIRTIO_MAX ? vm->virtio[slot] : NULL;
}

static u64 slots_read(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size)
{
	struct virtio_device *there = find(device, offset);

	offset %= VIRTIO_MMIO_SLOT_SIZE;
	return there ? virtio_register_read(there, offset, size) : read_empty(offset, size);
}

static void slots_write(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size,
			u64 value)
{
	struct virtio_device *there = find(device, offset);

	if (there) {
		virtio_register_write(there, offset % VIRTIO_MMIO_SLOT_SIZE, size, value);
	}
}

const struct mmio_ops virtio_mmio_ops = {.read = slots_read, .write = slots_write};
