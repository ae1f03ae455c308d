/*
 * A guest's machine: what lies where, which devices answer, what its tables say.
 *
 * The map is pc_map.h, the places of kernel and ramdisk come from pc_image.c. Everything is made at
 * arch_vm_init; nothing is written into the guest's RAM here, the images are copied into its pages
 * as they fault in.
 */
#include "arch/vm.h"

#include "hyp/dev_16550.h"
#include "hyp/dev_virtio_mmio.h"
#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/vm_virtio.h"

#include "pc_boot.h"
#include "vacpi.h"
#include "vapic.h"
#include "vcpu_vmx.h"
#include "vioapic.h"
#include "vmailbox.h"
#include "vmsr.h"
#include "vmx.h"
#include "vport.h"
#include "vpower.h"

/* ---- Files and tables ------------------------------------------------------------------------ */

static void add_files(struct vm *vm, const struct config_vm *config, const struct pc_layout *layout)
{
	const u8 *kernel = config->kernel_module.bytes;

	for (u32 i = 0; i < layout->segment_count; i++) {
		const struct pc_segment *s = &layout->segments[i];

		vm_add_image(vm, gpa(s->start), kernel + s->file_offset, s->file_size);
	}
	vm_add_image(vm, layout->ramdisk, config->ramdisk_module.bytes, layout->ramdisk_size);
}

/* What Lamina writes for a guest, side by side. */
#define AREA_ACPI PC_BOOT_AREA_SIZE
#define AREA_CPU_TABLES (AREA_ACPI + PC_ACPI_END - PC_ACPI)
#define AREA_SIZE (AREA_CPU_TABLES + PC_PAGE_TABLES_COUNT * PAGE_SIZE)

static enum status write_tables(const struct config_vm *config, const struct pc_layout *layout,
				u8 *area, size_t *acpi_used)
{
	struct pc_boot boot = {
		.layout = layout,
		.kernel = &config->kernel_module,
		.command_line = config->bootargs,
		.ramdisk_name = config->ramdisk,
	};
	struct vacpi acpi = {.vcpu_count = config->cpus,
			     .mailbox = config->mailbox ? PC_MAILBOX : 0};
	enum status status = pc_boot_write(&boot, area, PC_BOOT_AREA_SIZE);

	pc_boot_page_tables_write(gpa(PC_MAILBOX_PAGE_TABLES), area + AREA_CPU_TABLES,
				  AREA_SIZE - AREA_CPU_TABLES);
	return status == OK ? vacpi_write(&acpi, area + AREA_ACPI, layout->acpi_size,
					  layout->acpi.v, acpi_used)
			    : status;
}

static enum status make_tables(struct vm *vm, const struct config_vm *config,
			       const struct pc_layout *layout, char *why, size_t size)
{
	u8 *area = hyp_alloc(AREA_SIZE);
	size_t acpi_used;
	enum status status;

	vm->arch.tables = area;
	if (area == NULL) {
		text_format(why, size, "no memory for its tables");
		return NOMEM;
	}
	status = write_tables(config, layout, area, &acpi_used);
	if (status != OK) {
		text_format(why, size, "its bootargs or its tables do not fit: %s",
			    status_name(status));
		return status;
	}
	vm_add_image(vm, gpa(PC_BOOT_AREA), area, PC_BOOT_AREA_SIZE);
	vm_add_image(vm, layout->reset_code, pc_reset_code, sizeof(pc_reset_code));
	vm_add_image(vm, layout->acpi, area + AREA_ACPI, acpi_used);
	vm_add_image(vm, gpa(PC_MAILBOX_PAGE_TABLES), area + AREA_CPU_TABLES,
		     config->mailbox ? AREA_SIZE - AREA_CPU_TABLES : 0);
	return OK;
}

static void note_layout(struct vm *vm, const struct pc_layout *layout)
{
	vm_ram_add(&vm->ram, gpa(0), layout->ram.low);
	vm_ram_add(&vm->ram, gpa(PC_HIGH_RAM_BASE), layout->ram.high);
	vm->arch.entry = layout->entry.v;
	vm->arch.entry_argument = layout->boot_info.v;
	vm->arch.long_mode = layout->kind == PC_LINUX;
	vm->arch.page_tables = layout->page_tables.v;
	vm->arch.gdt = layout->gdt.v;
}

/* ---- Devices --------------------------------------------------------------------------------- */

static void wake(void *context, u32 apic_id, u64 vector)
{
	struct vm *vm = context;

	if (apic_id < vm->vcpu_count) {
		vcpu_on(vm->vcpus[apic_id], vector, VCPU_BY_MAILBOX);
	}
}

static enum status add_mailbox(struct vm *vm)
{
	struct vmailbox *mailbox = hyp_alloc(sizeof(*mailbox));
	struct mmio_region region = {.base = gpa(PC_MAILBOX),
				     .size = VMAILBOX_SIZE,
				     .ops = &vmailbox_ops,
				     .device = mailbox,
				     .name = "mailbox"};

	if (mailbox == NULL) {
		return NOMEM;
	}
	mailbox->wake = wake;
	mailbox->context = vm;
	vm->arch.mailbox = mailbox;
	return vm_mmio_add(vm, region);
}

static enum status add_devices(struct vm *vm)
{
	struct mmio_region ioapic = {.base = gpa(PC_IOAPIC_BASE),
				     .size = VIOAPIC_SIZE,
				     .ops = &vioapic_ops,
				     .device = vm->arch.ioapic,
				     .name = "ioapic"};
	struct mmio_region virtio = {.base = gpa(PC_VIRTIO_BASE),
				     .size = PC_VIRTIO_SLOTS * VIRTIO_MMIO_SLOT_SIZE,
				     .ops = &virtio_mmio_ops,
				     .device = vm,
				     .name = "virtio-mmio"};
	struct mmio_region lapic = {.base = gpa(PC_LOCAL_APIC_BASE),
				    .size = PAGE_SIZE,
				    .ops = &vapic_absent_ops,
				    .name = "lapic"};
	enum status status = vm_mmio_add(vm, lapic);

	vport_add(vm, (struct vport_region){.base = PC_COM1_PORT,
					    .size = UART16550_SIZE,
					    .ops = &uart16550_ops,
					    .device = vm->arch.uart});
	vpower_add(vm);
	status = status == OK ? vm_mmio_add(vm, ioapic) : status;
	return status == OK ? vm_mmio_add(vm, virtio) : status;
}

static bool alloc_devices(struct vm *vm)
{
	vm->arch.msr_bitmap = hyp_alloc(PAGE_SIZE);
	vm->arch.view_list = vmx.views ? hyp_alloc(PAGE_SIZE) : NULL;
	vm->arch.ioapic = hyp_alloc(sizeof(*vm->arch.ioapic));
	vm->arch.uart = uart16550_create(vm, PC_COM1_IRQ);
	if (vm->arch.msr_bitmap == NULL || vm->arch.ioapic == NULL || vm->arch.uart == NULL ||
	    (vmx.views && vm->arch.view_list == NULL)) {
		return false;
	}
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		if (!vcpu_alloc(vm->vcpus[i])) {
			return false;
		}
	}
	return true;
}

static enum status make_devices(struct vm *vm, const struct config_vm *config, char *why,
				size_t size)
{
	enum status status;

	if (!alloc_devices(vm)) {
		text_format(why, size, "no memory for its interrupt controllers and UART");
		return NOMEM;
	}
	vmsr_fill_bitmap(vm->arch.msr_bitmap);
	vioapic_init(vm->arch.ioapic, vapic_from_ioapic, vm);
	vm->console = uart16550_console(vm->arch.uart);
	status = add_devices(vm);
	status = status == OK && config->mailbox ? add_mailbox(vm) : status;
	if (status != OK) {
		text_format(why, size, "its devices do not fit into its memory map: %s",
			    status_name(status));
		return status;
	}
	return vm_virtio_add(vm, config, PC_VIRTIO_IRQ_FIRST, why, size);
}

/* ---- The architecture's answers -------------------------------------------------------------- */

enum status arch_vm_init(struct vm *vm, const struct config_vm *config, char *why, size_t size)
{
	struct pc_layout layout;
	enum status status = pc_image_layout(&config->kernel_module, &config->ramdisk_module,
					     config->memory, &layout, why, size);

	if (status != OK) {
		return status;
	}
	if (config->mailbox && layout.kind != PC_LINUX) {
		text_format(why, size, "lamina,mailbox is for Linux kernels: \"%s\" is none",
			    config->kernel);
		return INVALID;
	}
	note_layout(vm, &layout);
	add_files(vm, config, &layout);
	status = make_tables(vm, config, &layout, why, size);
	return status == OK ? make_devices(vm, config, why, size) : status;
}

static void free_pages(void *pages)
{
	if (pages != NULL) {
		hyp_free(pages);
	}
}

void arch_vm_fini(struct vm *vm)
{
	vm->console = NULL;
	vm_virtio_end(vm);
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		vcpu_free(vm->vcpus[i]);
	}
	uart16550_destroy(vm->arch.uart);
	free_pages(vm->arch.ioapic);
	free_pages(vm->arch.mailbox);
	free_pages(vm->arch.msr_bitmap);
	free_pages(vm->arch.view_list);
	free_pages(vm->arch.tables);
	vm->arch.msr_bitmap = vm->arch.tables = NULL;
	vm->arch.view_list = NULL;
	vm->arch.uart = NULL;
	vm->arch.ioapic = NULL;
	vm->arch.mailbox = NULL;
}

void arch_vm_reset(struct vm *vm)
{
	vm_virtio_reset(vm);
	vioapic_reset(vm->arch.ioapic);
	uart16550_reset(vm->arch.uart);
	if (vm->arch.mailbox != NULL) {
		vmailbox_reset(vm->arch.mailbox);
	}
	/* A startup interrupt alone would leave their mode. */
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		vapic_reset(vm->vcpus[i], false);
	}
}

u64 arch_vm_entry(const struct vm *vm)
{
	return vm->arch.entry;
}

u64 arch_vm_entry_argument(const struct vm *vm)
{
	return vm->arch.entry_argument;
}

void arch_vm_set_irq(struct vm *vm, u32 line, bool level)
{
	vioapic_set_line(vm->arch.ioapic, line, level);
}
