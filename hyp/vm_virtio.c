/* A guest's virtio devices, as its configuration asks for them: a disk, then a balloon. */
#include "hyp/vm_virtio.h"

#include "hyp/block_ram.h"
#include "hyp/dev_virtio_balloon.h"
#include "hyp/dev_virtio_blk.h"
#include "hyp/log.h"

static bool has_disk(const struct config_vm *config)
{
	return config->disk_module.bytes != NULL;
}

u32 vm_virtio_count(const struct config_vm *config)
{
	return (u32)has_disk(config) + (u32)config->balloon;
}

/* The file is written where it was loaded: config_attach() saw to it that it is this guest's alone.
 */
static struct virtio_device *make_disk(struct vm *vm, const struct config_vm *config, u32 irq)
{
	const struct config_module *file = &config->disk_module;

	vm->disk = hyp_alloc(sizeof(*vm->disk));
	if (!vm->disk) {
		return NULL;
	}
	block_ram_init(vm->disk, file->name, (u8 *)(uintptr_t)file->bytes, file->size,
		       config->disk_read_only);
	return virtio_blk_create(vm, irq, &vm->disk->block);
}

enum status vm_virtio_add(struct vm *vm, const struct config_vm *config, u32 irq_first, char *why,
			  size_t size)
{
	u32 slot = 0;

	if (has_disk(config)) {
		vm->virtio[slot] = make_disk(vm, config, irq_first + slot);
		if (!vm->virtio[slot++]) {
			text_format(why, size, "no memory for its disk's buffers");
			return NOMEM;
		}
	}
	if (config->balloon) {
		vm->virtio[slot] = virtio_balloon_create(vm, irq_first + slot);
		if (!vm->virtio[slot]) {
			text_format(why, size, "no memory for its balloon");
			return NOMEM;
		}
	}
	return OK;
}

void vm_virtio_end(struct vm *vm)
{
	for (u32 i = 0; i < VM_VIRTIO_MAX; i++) {
		struct virtio_device *device = vm->virtio[i];

		vm->virtio[i] = NULL;
		if (device) {
			device->kind->end(device);
		}
	}
	if (vm->disk) {
		hyp_free(vm->disk);
		vm->disk = NULL;
	}
}

void vm_virtio_reset(struct vm *vm)
{
	for (u32 i = 0; i < VM_VIRTIO_MAX; i++) {
		if (vm->virtio[i]) {
			virtio_reset(vm->virtio[i]);
		}
	}
}
