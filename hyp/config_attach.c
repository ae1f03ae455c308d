/*
 * Files to guests: each valid guest gets its kernel, ramdisk and disk out of what came along, and
 * the architecture says whether it can boot them in the memory there is.
 */
#include "arch/image.h"
#include "hyp/block.h"
#include "hyp/log.h"

#include "config_internal.h"

static const struct config_module *find_module(const char *name,
					       const struct config_module *modules, u32 count)
{
	for (u32 i = 0; i < count; i++) {
		if (config_is_same(modules[i].name, name)) {
			return &modules[i];
		}
	}
	return NULL;
}

static bool refuse_file(struct config_reporter *r, const char *property, const char *name,
			const char *reason)
{
	char value[CONFIG_VALUE_TEXT];

	config_quote(name, value, sizeof(value));
	config_report(r, property, value, reason, "");
	return false;
}

static bool take_module(struct config_reporter *r, const char *property, const char *name,
			const struct config_module *found, struct config_module *module)
{
	if (found == NULL) {
		return refuse_file(r, property, name, "file not found among those that came along");
	}
	if (found->size == 0) {
		return refuse_file(r, property, name, "an empty file");
	}
	*module = *found;
	return true;
}

static bool refuse_address(struct config_reporter *r, const char *property, u64 address,
			   const char *why)
{
	char value[CONFIG_VALUE_TEXT];

	text_format(value, sizeof(value), "<0x%x 0x%x>", (u32)(address >> 32), (u32)address);
	config_report(r, property, value, why, "");
	return false;
}

static bool refuse_memory(struct config_reporter *r, u64 memory, const char *why)
{
	char value[CONFIG_VALUE_TEXT];

	config_size_text(memory, value, sizeof(value));
	config_report(r, "memory", value, why, "");
	return false;
}

/* What the architecture's answer is about: arch/image.h. */
static bool check_images(struct config_reporter *r, const struct config_vm *vm)
{
	char why[CONFIG_REASON_TEXT] = "";
	enum status status;

	status = arch_image_check(&vm->kernel_module, &vm->ramdisk_module, vm->memory, why,
				  sizeof(why));
	switch (status) {
	case OK:
		return true;
	case FULL:
		return refuse_memory(r, vm->memory, why);
	case DENIED:
		return refuse_address(r, "lamina,kernel-address", vm->kernel_address, why);
	case EXISTS:
		return refuse_address(r, "lamina,ramdisk-address", vm->ramdisk_address, why);
	default:
		return refuse_file(r, "kernel", vm->kernel, why);
	}
}

static bool take_disk(struct config_reporter *r, struct config_vm *vm,
		      const struct config_module *modules, u32 count)
{
	if (vm->disk[0] == '\0') {
		return true;
	}
	if (!take_module(r, "lamina,disk", vm->disk, find_module(vm->disk, modules, count),
			 &vm->disk_module)) {
		return false;
	}
	if (vm->disk_module.size % BLOCK_SECTOR_SIZE != 0) {
		return refuse_file(r, "lamina,disk", vm->disk,
				   "its size is no multiple of 512 bytes");
	}
	return true;
}

static bool attach_vm(struct config_reporter *r, struct config_vm *vm,
		      const struct config_module *modules, u32 count)
{
	bool good = take_module(r, "kernel", vm->kernel, find_module(vm->kernel, modules, count),
				&vm->kernel_module);

	vm->kernel_module.address = vm->kernel_address;
	if (vm->ramdisk[0] != '\0') {
		good &= take_module(r, "ramdisk", vm->ramdisk,
				    find_module(vm->ramdisk, modules, count), &vm->ramdisk_module);
		vm->ramdisk_module.address = vm->ramdisk_address;
	}
	good &= take_disk(r, vm, modules, count);
	/* Without bytes only the names were to be checked. */
	if (!good || vm->kernel_module.bytes == NULL) {
		return good;
	}
	return check_images(r, vm);
}

/* Is the file anything of `other` but the disk of `vm`? */
static bool has_file(const struct config_vm *other, const struct config_vm *vm)
{
	const char *name = vm->disk;

	return other->valid &&
	       (config_is_same(other->kernel, name) || config_is_same(other->ramdisk, name) ||
		(other != vm && config_is_same(other->disk, name)));
}

/* Files are loaded once, and a disk is written where it was loaded. */
static bool owns_disk(struct config_reporter *r, const struct config *config,
		      const struct config_vm *vm)
{
	if (vm->disk[0] == '\0' || vm->disk_read_only) {
		return true;
	}
	for (u32 i = 0; i < config->vm_count; i++) {
		if (has_file(&config->vms[i], vm)) {
			return refuse_file(r, "lamina,disk", vm->disk,
					   "a disk that is written is a file of one guest's alone; "
					   "write lamina,disk-read-only, or give it a copy");
		}
	}
	return true;
}

void config_attach(struct config *config, const struct config_module *modules, u32 count,
		   config_report_fn report, void *context)
{
	struct config_reporter r = {.report = report, .context = context};
	char path[CONFIG_NODE_TEXT];

	r.node = path;
	for (u32 i = 0; i < config->vm_count; i++) {
		struct config_vm *vm = &config->vms[i];

		if (vm->valid) {
			text_format(path, sizeof(path), "/chosen/%s", vm->node);
			vm->valid = attach_vm(&r, vm, modules, count) && owns_disk(&r, config, vm);
		}
	}
}
