/* Parts of the machine's disks: two guests may have the same one only if neither writes it. */
#include "hyp/log.h"

#include "config_internal.h"

static bool has_part(const struct config_vm *vm)
{
	return vm->valid && vm->machine_disk[0] != '\0';
}

/* Behind its last byte; one without a size has all that is left. */
static u64 part_end(const struct config_vm *vm)
{
	return vm->disk_size ? vm->disk_start + vm->disk_size : ~0ull;
}

static bool collide(const struct config_vm *a, const struct config_vm *b)
{
	return config_is_same(a->machine_disk, b->machine_disk) && a->disk_start < part_end(b) &&
	       b->disk_start < part_end(a) && !(a->disk_read_only && b->disk_read_only);
}

static void check_overlap(struct config_reporter *r, const struct config *config,
			  struct config_vm *vm)
{
	char reason[CONFIG_REASON_TEXT];

	for (const struct config_vm *other = config->vms; other < vm; other++) {
		if (has_part(other) && collide(vm, other)) {
			text_format(reason, sizeof(reason),
				    "%s has a part of it that overlaps, and one of them writes",
				    other->name);
			config_report(r, "lamina,machine-disk", vm->machine_disk, reason,
				      "write lamina,disk-start and lamina,disk-size");
			vm->valid = false;
			return;
		}
	}
}

/* What Lamina stores there would be the guest's to write. */
static void check_name(struct config_reporter *r, struct config_vm *vm)
{
	if (config_is_same(vm->machine_disk, CONFIG_SWAP_DISK)) {
		config_report(r, "lamina,machine-disk", vm->machine_disk,
			      "it is the disk for pages", "");
		vm->valid = false;
	}
}

void config_check_disks(struct config_reporter *r, struct config *config)
{
	char path[CONFIG_NODE_TEXT];

	r->node = path;
	for (u32 i = 0; i < config->vm_count; i++) {
		struct config_vm *vm = &config->vms[i];

		text_format(path, sizeof(path), "/chosen/%s", vm->node);
		if (has_part(vm)) {
			check_name(r, vm);
			check_overlap(r, config, vm);
		}
	}
	r->node = "/chosen";
}
