/*
 * A virtio device that a guest has: what all kinds have in common (virtio 1.2: 2, and 4.2, virtio
 * over MMIO; modern drivers only).
 *
 *     register write: notify -> pending -> work(): buffers out of queues, and back -> interrupt
 *     done(), a clock, ...   -> pending -> a vCPU of the guest is asked -> work()
 *
 * One CPU at a time works for a device, with no lock held, as guest memory may have to be faulted
 * in; who comes meanwhile leaves word in `pending`. So queues and what a kind keeps are the
 * worker's alone. It is always a CPU that runs a vCPU of the guest: while one works, the guest is
 * not taken apart, and a guest that is paused or ends is left alone.
 *
 * A guest that breaks the rules gets DEVICE_NEEDS_RESET (2.1), and one line about it in the log:
 * the device then does nothing until it is reset.
 */
#ifndef HYP_DEV_VIRTIO_H
#define HYP_DEV_VIRTIO_H

#include "hyp/dev_line.h"
#include "hyp/dev_virtio_queue.h"
#include "hyp/lock.h"

#define VIRTIO_QUEUES_MAX 4
#define VIRTIO_CONFIG_MAX 128

/* In `pending`: bit n is queue n; and something else happened, which the kind knows. */
#define VIRTIO_EVENT BIT(31)

struct virtio_device;

struct virtio_kind {
	const char *name;
	u32 id; /* <linux/virtio_ids.h> */
	u32 queue_count;
	u64 features; /* its own; the transport offers VERSION_1 and INDIRECT_DESC itself */

	/* `what` of `pending` happened: a bounded piece of work. Returns what of it is left. */
	u32 (*work)(struct virtio_device *device, u32 what);

	/* The driver wrote [offset, offset + size) of the configuration space; NULL: it may not.
	 * The lock is held. */
	void (*config_written)(struct virtio_device *device, u32 offset, u32 size, u32 value);

	/* As new: nobody works, the lock is held. Buffers that are out are forgotten. */
	void (*reset)(struct virtio_device *device);

	/* At `now` (ticks), and at the latest when it asked for by virtio_wake_at(): returns what
	 * there is to do, a part of `pending`. No lock is held. NULL: never. */
	u32 (*tick)(struct virtio_device *device, u64 now);

	/* The guest is gone: nobody works, no lock is held. Frees all, the device too. */
	void (*end)(struct virtio_device *device);
};

struct virtio_device {
	/* Constant once made. */
	const struct virtio_kind *kind;
	struct vm *vm;
	u64 features; /* offered */

	struct lock lock; /* device */

	/* Guarded by the lock. */
	u32 status; /* VIRTIO_CONFIG_S_* */
	u32 features_select, driver_features_select, queue_select;
	u64 driver_features;
	u32 interrupts; /* VIRTIO_MMIO_INT_* */
	u32 generation;
	u32 pending;
	bool busy;	/* some CPU works */
	bool resetting; /* some CPU waits until nobody does */
	struct dev_line line;
	u8 config[VIRTIO_CONFIG_MAX];
	u32 config_size;

	/* The worker's; the driver's registers write them only while nobody works. */
	struct virtq queues[VIRTIO_QUEUES_MAX];
	bool has_used; /* this round of work gave something back that the driver wants to know of */
};

/* ---- For kinds ------------------------------------------------------------------------------- */

/* Before the guest runs. `irq` as arch_vm_set_irq() numbers them. All else is 0. */
void virtio_device_init(struct virtio_device *device, const struct virtio_kind *kind, struct vm *vm,
			u32 irq);

/* For the worker: as virtq_pop() and virtq_push() of queue `n`, a broken one having been noted.
 * NOENT also where the queue is not ready. */
enum status virtio_pop(struct virtio_device *device, u32 n, struct virtio_chain *chain);
void virtio_push(struct virtio_device *device, u32 n, u16 head, u32 written);

/* For the worker: the guest broke a rule; `why` is a constant sentence. */
void virtio_broken(struct virtio_device *device, const char *why);
bool virtio_is_broken(struct virtio_device *device);

/* Leaves word, from any CPU, and drops the device's lock, which is held: a vCPU is asked. It does
 * not touch the device after that. */
void virtio_happened_unlock(struct virtio_device *device, u32 what);

/* The same, by who runs a vCPU of the guest, with no lock: the work is done at once. */
void virtio_work_now(struct virtio_device *device, u32 what);

/* The configuration space changed: `size` bytes of it, from `offset` on, are `bytes` now. */
void virtio_config_set(struct virtio_device *device, u32 offset, const void *bytes, u32 size);

/* The kind's tick() is wanted at `at` (ticks), or before. */
void virtio_wake_at(struct virtio_device *device, u64 at);

/* ---- For the transport's registers, and the VM ------------------------------------------------
 */

/* A register, at `offset` in the device's slot; size 1, 2, 4 or 8. By who runs a vCPU, no lock. */
u64 virtio_register_read(struct virtio_device *device, u64 offset, unsigned size);
void virtio_register_write(struct virtio_device *device, u64 offset, unsigned size, u64 value);

/* As the driver's own reset. No lock is held. */
void virtio_reset(struct virtio_device *device);

/* VCPU_REQUEST_DEVICE: does what is pending of all devices. True: some is left. */
bool virtio_vm_work(struct vm *vm);

/* Asks a vCPU of each guest whose devices want a tick; about every VIRTIO_TICK_MS. */
void virtio_tick(void);
#define VIRTIO_TICK_MS 100

#endif
