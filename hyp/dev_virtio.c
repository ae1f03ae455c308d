/*
 * The virtio-mmio transport (virtio 1.2, 4.2), and who works for a device when.
 *
 * Locking: device->lock guards the registers; it is never held while guest memory is touched, since
 * a fault may have to take locks that come before it. Instead `busy` says that a CPU works, and
 * what is the worker's changes only while nobody does.
 */
#include "hyp/dev_virtio.h"

#include "hyp/log.h"
#include "hyp/time.h"
#include "hyp/vcpu.h"

#include <arch/cpu.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>

#define MAGIC 0x74726976 /* "virt" */
#define VERSION_MODERN 2
#define VENDOR 0x414e4d4c /* "LMNA" */

/* Rounds of work that one call does; what is left then waits for the next entry. */
#define ROUNDS_MAX 4

void virtio_device_init(struct virtio_device *d, const struct virtio_kind *kind, struct vm *vm,
			u32 irq)
{
	d->kind = kind;
	d->vm = vm;
	d->features = kind->features | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC);
	d->line.vm = vm;
	d->line.irq = irq;
}

/* ---- Whom to ask ----------------------------------------------------------------------------- */

static void ask_vcpu(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		if (vcpu_is_on(vm->vcpus[i])) {
			vcpu_request(vm->vcpus[i], VCPU_REQUEST_DEVICE);
			return;
		}
	}
}

/* If the vCPU that was asked goes off before it hears of it, the next tick asks another. */
static void ask(struct vm *vm)
{
	store_relaxed(&vm->virtio_wake_at, 0);
	ask_vcpu(vm);
}

/* Two CPUs may lower it at once: the larger one lost only costs a tick that was not owed. */
void virtio_wake_at(struct virtio_device *d, u64 at)
{
	u64 before = load_relaxed(&d->vm->virtio_wake_at);

	while (at < before && !cas_u64(&d->vm->virtio_wake_at, before, at)) {
		before = load_relaxed(&d->vm->virtio_wake_at);
	}
}

void virtio_tick(void)
{
	u64 now = arch_now();

	for (u32 i = 0; i < load_acquire(&vm_count); i++) {
		if (load_relaxed(&vms[i]->virtio_wake_at) <= now && !vm_has_ended(vms[i])) {
			ask_vcpu(vms[i]);
		}
	}
}

/* ---- Work: the lock is held, unless it is said ------------------------------------------------
 */

static bool may_work(const struct virtio_device *d)
{
	const u32 ready = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

	return (d->status & (ready | VIRTIO_CONFIG_S_NEEDS_RESET)) == ready && !d->resetting;
}

static void unlock_and_tell(struct virtio_device *d)
{
	dev_line_drop(&d->line, &d->lock, d->interrupts != 0);
}

static void one_round(struct virtio_device *d)
{
	u32 what = d->pending;

	d->pending = 0;
	lock_drop(&d->lock);
	what = d->kind->work(d, what);
	lock_take(&d->lock);
	d->pending |= what;
	if (d->has_used) {
		d->has_used = false;
		d->interrupts |= VIRTIO_MMIO_INT_VRING;
	}
}

/* Drops the lock. True: some of it is left, and nobody is at it. */
static bool work_and_unlock(struct virtio_device *d)
{
	bool is_left = false;

	if (!d->busy) {
		d->busy = true;
		for (u32 i = 0; i < ROUNDS_MAX && d->pending && may_work(d); i++) {
			one_round(d);
		}
		d->busy = false;
		is_left = d->pending && may_work(d);
	}
	unlock_and_tell(d);
	return is_left;
}

void virtio_work_now(struct virtio_device *d, u32 what)
{
	lock_take(&d->lock);
	d->pending |= what;
	if (work_and_unlock(d)) {
		ask(d->vm);
	}
}

void virtio_happened_unlock(struct virtio_device *d, u32 what)
{
	struct vm *vm = d->vm; /* behind the lock the device may go */
	bool is_seen;

	d->pending |= what;
	is_seen = d->busy;
	lock_drop(&d->lock);
	if (!is_seen) {
		ask(vm);
	}
}

bool virtio_vm_work(struct vm *vm)
{
	u64 now = arch_now();
	bool is_left = false;

	store_relaxed(&vm->virtio_wake_at, TIME_NEVER);
	for (u32 i = 0; i < VM_VIRTIO_MAX; i++) {
		struct virtio_device *d = vm->virtio[i];

		if (d) {
			u32 what = d->kind->tick ? d->kind->tick(d, now) : 0;

			lock_take(&d->lock);
			d->pending |= what;
			is_left |= work_and_unlock(d);
		}
	}
	return is_left;
}

/* ---- For the worker: no lock is held ----------------------------------------------------------
 */

bool virtio_is_broken(struct virtio_device *d)
{
	return load_relaxed(&d->status) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* 2.1.2: a driver that runs is told by an interrupt. */
static void mark_broken(struct virtio_device *d)
{
	d->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (d->status & VIRTIO_CONFIG_S_DRIVER_OK) {
		d->interrupts |= VIRTIO_MMIO_INT_CONFIG;
	}
}

void virtio_broken(struct virtio_device *d, const char *why)
{
	if (!virtio_is_broken(d)) {
		log_warn("d%u: its %s needs a reset: %s", d->vm->number, d->kind->name, why);
		lock_take(&d->lock);
		mark_broken(d);
		unlock_and_tell(d);
	}
}

enum status virtio_pop(struct virtio_device *d, u32 n, struct virtio_chain *chain)
{
	const char *why;
	enum status status;

	if (!d->queues[n].ready || virtio_is_broken(d)) {
		return NOENT;
	}
	status = virtq_pop(&d->queues[n], d->vm, chain, &why);
	if (status == INVALID) {
		virtio_broken(d, why);
	}
	return status;
}

void virtio_push(struct virtio_device *d, u32 n, u16 head, u32 written)
{
	const char *why;

	if (!d->queues[n].ready || virtio_is_broken(d)) {
		return;
	}
	if (virtq_push(&d->queues[n], d->vm, head, written, &why) != OK) {
		virtio_broken(d, why);
	} else if (virtq_wants_interrupt(&d->queues[n], d->vm)) {
		d->has_used = true;
	}
}

void virtio_config_set(struct virtio_device *d, u32 offset, const void *bytes, u32 size)
{
	lock_take(&d->lock);
	memcpy(d->config + offset, bytes, size);
	d->generation++;
	if (d->status & VIRTIO_CONFIG_S_DRIVER_OK) {
		d->interrupts |= VIRTIO_MMIO_INT_CONFIG;
	}
	unlock_and_tell(d);
}

/* ---- Reset, and the driver's steps: the lock is held ------------------------------------------
 */

/* Until nobody works, and then nobody does, as we have the lock. */
static void wait_for_worker(struct virtio_device *d)
{
	d->resetting = true;
	while (d->busy) {
		lock_drop(&d->lock);
		cpu_relax();
		lock_take(&d->lock);
	}
	d->resetting = false;
}

static void reset(struct virtio_device *d)
{
	wait_for_worker(d);
	d->status = 0;
	d->features_select = d->driver_features_select = d->queue_select = 0;
	d->driver_features = 0;
	d->interrupts = 0;
	d->pending = 0;
	d->has_used = false;
	memset(d->queues, 0, sizeof(d->queues));
	d->kind->reset(d);
}

void virtio_reset(struct virtio_device *d)
{
	lock_take(&d->lock);
	reset(d);
	unlock_and_tell(d);
}

/* 3.1.1, step 5: the driver sees by FEATURES_OK whether what it took is accepted. */
static bool accepts_features(const struct virtio_device *d)
{
	return (d->driver_features & ~d->features) == 0 &&
	       (d->driver_features & BIT(VIRTIO_F_VERSION_1));
}

static void write_status(struct virtio_device *d, u32 value)
{
	u32 fresh = value & ~d->status & 0xff & ~(u32)VIRTIO_CONFIG_S_NEEDS_RESET;

	if (value == 0) {
		reset(d);
		return;
	}
	if ((fresh & VIRTIO_CONFIG_S_FEATURES_OK) && !accepts_features(d)) {
		fresh &= ~(u32)VIRTIO_CONFIG_S_FEATURES_OK;
	}
	d->status |= fresh;
}

static void write_features(struct virtio_device *d, u32 value)
{
	u32 shift = 32 * d->driver_features_select;

	if (d->driver_features_select < 2 && !(d->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		d->driver_features &= ~(BITS(31, 0) << shift);
		d->driver_features |= (u64)value << shift;
	}
}

/* ---- Queues' registers: the lock is held ------------------------------------------------------
 */

static struct virtq *selected(struct virtio_device *d)
{
	return d->queue_select < d->kind->queue_count ? &d->queues[d->queue_select] : NULL;
}

static void write_ready(struct virtio_device *d, struct virtq *q, bool ready)
{
	const char *why;

	if (!ready) {
		wait_for_worker(d);
		q->ready = false;
		return;
	}
	if (q->ready) {
		return;
	}
	if (virtq_check(q, d->vm, &why) != OK) {
		log_warn("d%u: its %s needs a reset: %s", d->vm->number, d->kind->name, why);
		mark_broken(d);
		return;
	}
	q->next_available = q->next_used = 0;
	q->ready = true;
}

static void set_half(u64 *address, bool is_high, u32 value)
{
	u32 shift = is_high ? 32 : 0;

	*address = (*address & ~(BITS(31, 0) << shift)) | (u64)value << shift;
}

/* 4.2.2.1: what describes a queue is not written while it is ready; then it has no effect. */
static void write_queue(struct virtio_device *d, u64 reg, u32 value)
{
	struct virtq *q = selected(d);

	if (q && reg == VIRTIO_MMIO_QUEUE_READY) {
		write_ready(d, q, value & 1);
	}
	if (!q || q->ready) {
		return;
	}
	switch (reg) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->size = value;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&q->descriptors, reg == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&q->available, reg == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&q->used, reg == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
		break;
	}
}

/* ---- Registers ------------------------------------------------------------------------------- */

static u32 read_config(const struct virtio_device *d, u64 offset, u32 size)
{
	u32 value = 0;

	if (offset + size <= d->config_size) {
		memcpy(&value, d->config + offset, size);
	}
	return value;
}

/* The lock is held. 4.2.2. Shared memory regions there are none: of all sizes and places ones. */
static u32 read_register(struct virtio_device *d, u64 reg)
{
	const struct virtq *q = selected(d);

	switch (reg) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION_MODERN;
	case VIRTIO_MMIO_DEVICE_ID:
		return d->kind->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return d->features_select < 2 ? (u32)(d->features >> (32 * d->features_select)) : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? VIRTQ_SIZE_MAX : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q && q->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return d->interrupts;
	case VIRTIO_MMIO_STATUS:
		return d->status;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return ~0u;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return d->generation;
	}
	return 0;
}

/* The configuration space may be read in any width, all else in words (4.2.2.2). */
u64 virtio_register_read(struct virtio_device *d, u64 offset, unsigned size)
{
	u64 value = 0;

	lock_take(&d->lock);
	if (offset >= VIRTIO_MMIO_CONFIG && size <= 4) {
		value = read_config(d, offset - VIRTIO_MMIO_CONFIG, size);
	} else if (offset >= VIRTIO_MMIO_CONFIG) {
		value = read_config(d, offset - VIRTIO_MMIO_CONFIG, 4) |
			(u64)read_config(d, offset - VIRTIO_MMIO_CONFIG + 4, 4) << 32;
	} else if (size == 4 && is_aligned(offset, 4)) {
		value = read_register(d, offset);
	}
	lock_drop(&d->lock);
	return value;
}

static void write_word(struct virtio_device *d, u64 reg, u32 value)
{
	switch (reg) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		d->features_select = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_features(d, value);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		d->driver_features_select = value;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		d->queue_select = value;
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		d->interrupts &= ~value;
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(d, value);
		break;
	default:
		write_queue(d, reg, value);
	}
}

void virtio_register_write(struct virtio_device *d, u64 offset, unsigned size, u64 value)
{
	if (offset == VIRTIO_MMIO_QUEUE_NOTIFY && size == 4) {
		if (value < d->kind->queue_count) {
			virtio_work_now(d, (u32)BIT(value));
		}
		return;
	}
	lock_take(&d->lock);
	if (offset >= VIRTIO_MMIO_CONFIG && size <= 4 && d->kind->config_written) {
		d->kind->config_written(d, (u32)(offset - VIRTIO_MMIO_CONFIG), size, (u32)value);
	} else if (offset < VIRTIO_MMIO_CONFIG && size == 4 && is_aligned(offset, 4)) {
		write_word(d, offset, (u32)value);
	}
	unlock_and_tell(d);
}
