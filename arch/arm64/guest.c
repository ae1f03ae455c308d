/*
 * A guest's machine: what lies where, which devices answer, what its device tree says.
 *
 * The map is guest_map.h, the places of kernel, ramdisk and device tree come from image.c.
 * Everything is made at arch_vm_init; nothing is written into the guest's RAM here, the images are
 * copied into its pages as they fault in.
 */
#include "arch/vm.h"

#include "hyp/dev_pl011.h"
#include "hyp/dev_virtio_mmio.h"
#include "hyp/log.h"
#include "hyp/vm_virtio.h"

#include "arch/cpu.h"
#include "arch/s2.h"

#include "el1.h"
#include "guest_fdt.h"
#include "image.h"
#include "vgic.h"
#include "vid.h"
#include "vtime_pv.h"

/* The tree is under 2 KiB; arguments and seeds come on top. */
#define DEVICE_TREE_ROOM (KIB(4) + CONFIG_BOOTARGS_MAX)

/* ---- Device tree ----------------------------------------------------------------------------- */

/*
 * A weak number spreads kernels in memory well enough; but rng-seed is credited as entropy, so it
 * is given only where it is.
 */
static void add_seeds(struct guest_fdt *tree)
{
	bool strong;

	tree->kaslr_seed = arch_random(&strong);
	tree->has_rng_seed = strong;
	for (u32 i = 0; i < GUEST_FDT_SEED_BYTES; i += sizeof(u64)) {
		u64 word = arch_random(&strong);

		__builtin_memcpy(&tree->rng_seed[i], &word, sizeof(word));
		tree->has_rng_seed = tree->has_rng_seed && strong;
	}
}

static enum status make_device_tree(struct vm *vm, const struct config_vm *config,
				    const struct image_layout *layout, char *why, size_t size)
{
	struct guest_fdt tree = {
		.vcpu_count = config->cpus,
		.ram_size = config->memory,
		.gicr_size = config->cpus * VGIC_REDISTRIBUTOR_SIZE,
		.bootargs = config->bootargs,
		.ramdisk = layout->ramdisk.v,
		.ramdisk_size = layout->ramdisk_size,
		.virtio_count = vm_virtio_count(config),
	};
	size_t used;

	vm->arch.device_tree = hyp_alloc(DEVICE_TREE_ROOM);
	if (vm->arch.device_tree == NULL) {
		text_format(why, size, "no memory for its device tree");
		return NOMEM;
	}
	add_seeds(&tree);
	if (guest_fdt_write(&tree, vm->arch.device_tree, DEVICE_TREE_ROOM, &used) != OK ||
	    used > layout->device_tree_size) {
		text_format(why, size, "its device tree does not fit into %llu bytes",
			    (unsigned long long)DEVICE_TREE_ROOM);
		return FULL;
	}
	vm->arch.device_tree_gpa = layout->device_tree.v;
	vm_add_image(vm, layout->device_tree, vm->arch.device_tree, used);
	return OK;
}

/* ---- Devices --------------------------------------------------------------------------------- */

static enum status add_device(struct vm *vm, u64 base, u64 bytes, const struct mmio_ops *ops,
			      void *device, const char *name)
{
	struct mmio_region region = {
		.base = gpa(base), .size = bytes, .ops = ops, .device = device, .name = name};

	return vm_mmio_add(vm, region);
}

/* The search is a scan in this order: what a guest uses most comes first. */
static enum status add_devices(struct vm *vm, const struct config_vm *config)
{
	enum status status = add_device(vm, GUEST_GICD_BASE, VGIC_DISTRIBUTOR_SIZE,
					&vgic_distributor_ops, vm->arch.gic, "gicd");

	if (status == OK) {
		status = add_device(vm, GUEST_UART_BASE, PL011_SIZE, &pl011_ops, vm->arch.uart,
				    "pl011");
	}
	if (status == OK) {
		status = add_device(vm, GUEST_GICR_BASE, config->cpus * VGIC_REDISTRIBUTOR_SIZE,
				    &vgic_redistributor_ops, vm->arch.gic, "gicr");
	}
	if (status == OK) {
		status = add_device(vm, GUEST_VIRTIO_BASE,
				    GUEST_VIRTIO_SLOTS * VIRTIO_MMIO_SLOT_SIZE, &virtio_mmio_ops,
				    vm, "virtio-mmio");
	}
	return status;
}

static enum status make_devices(struct vm *vm, const struct config_vm *config, char *why,
				size_t size)
{
	vm->arch.gic = vgic_create(vm);
	vm->arch.uart = pl011_create(vm, GUEST_UART_INTID);
	if (vm->arch.gic == NULL || vm->arch.uart == NULL) {
		text_format(why, size, "no memory for its interrupt controller and UART");
		return NOMEM;
	}
	vm->console = pl011_console(vm->arch.uart);

	enum status status = add_devices(vm, config);

	if (status != OK) {
		text_format(why, size, "its devices do not fit into its memory map: %s",
			    status_name(status));
		return status;
	}
	return vm_virtio_add(vm, config, GUEST_VIRTIO_INTID_FIRST, why, size);
}

/* ---- The architecture's answers -----------------------------------------------------------------
 */

static void present_ids(struct vm *vm)
{
	u64 host[VID_COUNT] = {0};

	el1_read_ids(host);
	vid_present(host, arch_s2_ipa_bits(), vm->arch.id);
}

enum status arch_vm_init(struct vm *vm, const struct config_vm *config, char *why, size_t size)
{
	struct image_layout layout;
	enum status status = image_layout(&config->kernel_module, &config->ramdisk_module,
					  config->memory, &layout, why, size);

	if (status != OK) {
		return status;
	}
	if (config->mailbox) {
		text_format(why, size, "lamina,mailbox is x86-64's: here CPUs start by PSCI");
		return INVALID;
	}
	vm_ram_add(&vm->ram, gpa(GUEST_RAM_BASE), config->memory);
	vm->arch.entry = layout.entry.v;
	present_ids(vm);
	vm_add_image(vm, layout.kernel, config->kernel_module.bytes, config->kernel_module.size);
	vm_add_image(vm, layout.ramdisk, config->ramdisk_module.bytes, layout.ramdisk_size);
	status = make_device_tree(vm, config, &layout, why, size);
	return status == OK ? make_devices(vm, config, why, size) : status;
}

void arch_vm_fini(struct vm *vm)
{
	vm->console = NULL;
	vm_virtio_end(vm);
	vgic_destroy(vm->arch.gic);
	vm->arch.gic = NULL;
	pl011_destroy(vm->arch.uart);
	vm->arch.uart = NULL;
	vtime_pv_fini(vm);
	if (vm->arch.device_tree != NULL) {
		hyp_free(vm->arch.device_tree);
		vm->arch.device_tree = NULL;
	}
}

void arch_vm_reset(struct vm *vm)
{
	vm_virtio_reset(vm);
	vgic_reset(vm->arch.gic);
	pl011_reset(vm->arch.uart);
}

u64 arch_vm_entry(const struct vm *vm)
{
	return vm->arch.entry;
}

u64 arch_vm_entry_argument(const struct vm *vm)
{
	return vm->arch.device_tree_gpa;
}

void arch_vm_set_irq(struct vm *vm, u32 line, bool level)
{
	vgic_set_spi(vm->arch.gic, line, level);
}

/* Hardware keeps dirty state in the tables, and no list of it; EL1 cannot switch tables. */
bool arch_vm_log_writes(unused struct vm *vm, unused bool on)
{
	return false;
}

bool arch_vm_has_views(unused const struct vm *vm)
{
	return false;
}

void arch_vm_offer_views(unused struct vm *vm)
{
}
