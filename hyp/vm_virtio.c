/* A guest's virtio devices, as its configuration asks for them: a disk, then a balloon. */
#include "hyp/vm_virtio.h"

#include "hyp/block_ram.h"
#include "hyp/block_slice.h"
#include "hyp/dev_virtio_balloon.h"
#include "hyp/dev_virtio_blk.h"
#include "hyp/disks.h"
#include "hyp/frame.h"
#include "hyp/log.h"

static bool has_disk(const struct config_vm *config)
{
	return config->disk_module.bytes != NULL || config->machine_disk[0] != '\0';
}

u32 vm_virtio_count(const struct config_vm *config)
{
	return (u32)has_disk(config) + (u32)config->balloon;
}

/* The file is written where it was loaded: config_attach() saw to it that it is this guest's alone.
 */
static struct block *disk_in_memory(const struct config_module *file, bool read_only)
{
	struct block_ram *ram = hyp_alloc(sizeof(*ram));

	if (!ram) {
		return NULL;
	}
	block_ram_init(ram, file->name, (u8 *)(uintptr_t)file->bytes, file->size, read_only);
	return &ram->block;
}

/* The guest's part of one of the machine's disks; who else has parts of it is no matter. */
static struct block *part_of_disk(const struct config_vm *config, char *why, size_t size)
{
	struct block *whole = disks_find(config->machine_disk);
	struct block_slice *slice = hyp_alloc(sizeof(*slice));
	enum status status = !slice ? NOMEM : !whole ? NOENT : OK;

	if (status == OK) {
		status = block_slice_init(slice, whole, config->disk_start / BLOCK_SECTOR_SIZE,
					  config->disk_size / BLOCK_SECTOR_SIZE,
					  config->disk_read_only);
	}
	if (status != OK) {
		text_format(why, size, "the machine's disk \"%s\" %s", config->machine_disk,
			    status == NOENT	? "is missing"
			    : status == DENIED	? "is read-only"
			    : status == INVALID ? "is too small for its part"
						: "finds no memory");
		hyp_free(slice);
		return NULL;
	}
	disks_listen(whole);
	return &slice->block;
}

/* NULL with a sentence. */
static struct virtio_device *make_disk(struct vm *vm, const struct config_vm *config, u32 irq,
				       char *why, size_t size)
{
	text_format(why, size, "no memory for its disk's buffers");
	vm->disk = config->machine_disk[0] != '\0'
			   ? part_of_disk(config, why, size)
			   : disk_in_memory(&config->disk_module, config->disk_read_only);
	return vm->disk ? virtio_blk_create(vm, irq, vm->disk) : NULL;
}

enum status vm_virtio_add(struct vm *vm, const struct config_vm *config, u32 irq_first, char *why,
			  size_t size)
{
	u32 slot = 0;

	if (has_disk(config)) {
		vm->virtio[slot] = make_disk(vm, config, irq_first + slot, why, size);
		if (!vm->virtio[slot++]) {
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
	hyp_free(vm->disk);
	vm->disk = NULL;
}

void vm_virtio_reset(struct vm *vm)
{
	for (u32 i = 0; i < VM_VIRTIO_MAX; i++) {
		if (vm->virtio[i]) {
			virtio_reset(vm->virtio[i]);
		}
	}
}
