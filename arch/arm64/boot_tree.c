/*
 * Reads the machine's device tree: Devicetree Specification 0.4, and the bindings of the few
 * devices Lamina drives itself. One walk over the root's children; a node is known by its name
 * (memory, cpus, chosen, reserved-memory) or by its `compatible`.
 *
 * The tree comes from firmware, not from a guest. Still nothing in it is believed: what is
 * malformed or missing ends the boot with one line that names it.
 */
#include "hyp/log.h"

#include <libfdt.h>
#include <string.h>

#include "boot_tree.h"
#include "machine.h"
#include "sysreg.h"

#define GIC_SPI_FIRST 32
#define GIC_PPI_FIRST 16
#define INTERRUPT_CELLS 3 /* GICv3 binding: type (0 SPI, 1 PPI), number, flags */

/* In the interrupts of an arm,armv8-timer. */
enum { TIMER_SECURE, TIMER_PHYSICAL, TIMER_VIRTUAL, TIMER_HYP };

struct tree {
	const void *fdt;
	int address_cells, size_cells; /* of the root's children */
};

static const char *name_of(const struct tree *tree, int node)
{
	const char *name = fdt_get_name(tree->fdt, node, NULL);

	return name != NULL ? name : "?";
}

static u64 read_cells(const fdt32_t *cells, int count)
{
	u64 value = 0;

	for (int i = 0; i < count; i++) {
		value = value << 32 | fdt32_to_cpu(cells[i]);
	}
	return value;
}

/* The index-th entry of `reg`; false behind the last one. Whatever it says fits in 64 bits. */
static bool read_reg(const struct tree *tree, int node, int index, struct boot_range *range)
{
	int width = tree->address_cells + tree->size_cells;
	int bytes;
	const fdt32_t *reg = fdt_getprop(tree->fdt, node, "reg", &bytes);
	u64 size;

	if (reg == NULL || bytes == 0 || bytes % (width * 4) != 0) {
		boot_refuse("device tree: %s: reg is missing or no list of (address, size)",
			    name_of(tree, node));
	}
	if (index >= bytes / (width * 4)) {
		return false;
	}
	range->start = read_cells(reg + index * width, tree->address_cells);
	size = read_cells(reg + index * width + tree->address_cells, tree->size_cells);
	range->end = range->start + size;
	if (range->end < range->start) {
		boot_refuse("device tree: %s: reg wraps around: 0x%lx + 0x%lx", name_of(tree, node),
			    range->start, size);
	}
	return true;
}

/* The index-th interrupt as the GIC counts; 0 when there is none. */
static u32 read_interrupt(const struct tree *tree, int node, int index)
{
	int bytes;
	const fdt32_t *cells = fdt_getprop(tree->fdt, node, "interrupts", &bytes);

	if (cells == NULL || bytes < (index + 1) * INTERRUPT_CELLS * 4) {
		return 0;
	}
	cells += index * INTERRUPT_CELLS;
	return fdt32_to_cpu(cells[1]) +
	       (fdt32_to_cpu(cells[0]) == 0 ? GIC_SPI_FIRST : GIC_PPI_FIRST);
}

static void expect_interrupt(const struct tree *tree, int node, int index, u32 intid)
{
	u32 found = read_interrupt(tree, node, index);

	if (found != intid) {
		boot_refuse("device tree: %s: interrupt %d is %u; Lamina is written for %u",
			    name_of(tree, node), index, found, intid);
	}
}

/* ---- What becomes boot_info ------------------------------------------------------------------ */

static void read_memory(const struct tree *tree, int node)
{
	struct boot_range bank;

	for (int i = 0; read_reg(tree, node, i, &bank); i++) {
		boot_add_bank(&machine.info, bank);
	}
}

/* "" when the node has none; a property that does not end in a zero byte is refused. */
static const char *read_text(const struct tree *tree, int node, const char *property)
{
	int bytes;
	const char *text = fdt_getprop(tree->fdt, node, property, &bytes);

	if (text == NULL || bytes == 0) {
		return "";
	}
	if (text[bytes - 1] != '\0') {
		boot_refuse("device tree: %s: %s is no text", name_of(tree, node), property);
	}
	return text;
}

/* Multiboot on Arm, as Xen and QEMU's guest-loader have it. */
static void read_module(const struct tree *tree, int node)
{
	struct boot_range range;

	if (fdt_node_check_compatible(tree->fdt, node, "multiboot,module") != 0) {
		return;
	}
	if (!read_reg(tree, node, 0, &range) || range.start == range.end) {
		boot_refuse("device tree: %s: an empty module", name_of(tree, node));
	}
	boot_add_module(&machine.info, (struct config_module){
					       .name = read_text(tree, node, "bootargs"),
					       .bytes = (const u8 *)range.start,
					       .size = range.end - range.start,
				       });
}

static void read_chosen(const struct tree *tree, int node)
{
	int child, bytes;
	const fdt32_t *seed = fdt_getprop(tree->fdt, node, "kaslr-seed", &bytes);

	machine.info.command_line = read_text(tree, node, "bootargs");
	if (seed != NULL && bytes == 8) {
		machine.kaslr_seed = read_cells(seed, 2);
	}
	fdt_for_each_subnode(child, tree->fdt, node)
	{
		read_module(tree, child);
	}
}

static void read_reserved_memory(const struct tree *tree, int node)
{
	int child;
	struct boot_range range;

	fdt_for_each_subnode(child, tree->fdt, node)
	{
		if (fdt_getprop(tree->fdt, child, "reg", NULL) == NULL) {
			continue; /* dynamic ones have no place yet */
		}
		for (int i = 0; read_reg(tree, child, i, &range); i++) {
			boot_reserve(&machine.info, range.start, range.end);
		}
	}
}

/* ---- CPUs ------------------------------------------------------------------------------------ */

static bool is_text(const struct tree *tree, int node, const char *property, const char *text)
{
	return strcmp(read_text(tree, node, property), text) == 0;
}

static bool is_disabled(const struct tree *tree, int node)
{
	return is_text(tree, node, "status", "disabled") || is_text(tree, node, "status", "fail");
}

static void read_cpus(const struct tree *tree, int node)
{
	int child, bytes;
	int cells = fdt_address_cells(tree->fdt, node);
	bool boot_cpu_listed = false;

	if (cells != 1 && cells != 2) {
		boot_refuse("device tree: cpus: #address-cells is %d", cells);
	}
	boot_add_cpu(&machine.info, cpus[0].hw_id);
	fdt_for_each_subnode(child, tree->fdt, node)
	{
		const fdt32_t *reg = fdt_getprop(tree->fdt, child, "reg", &bytes);

		if (!is_text(tree, child, "device_type", "cpu") || is_disabled(tree, child)) {
			continue;
		}
		if (reg == NULL || bytes != cells * 4) {
			boot_refuse("device tree: %s: reg is no CPU number", name_of(tree, child));
		}
		boot_cpu_listed |= read_cells(reg, cells) == cpus[0].hw_id;
		boot_add_cpu(&machine.info, read_cells(reg, cells));
	}
	if (!boot_cpu_listed) {
		boot_refuse("device tree: cpus: the CPU that boots (MPIDR 0x%lx) is not listed",
			    cpus[0].hw_id);
	}
}

/* ---- Devices --------------------------------------------------------------------------------- */

static void read_psci(const struct tree *tree, int node)
{
	if (!is_text(tree, node, "method", "smc")) {
		boot_refuse("device tree: %s: method is '%s'; at EL2 it has to be 'smc'",
			    name_of(tree, node), read_text(tree, node, "method"));
	}
	machine.psci = true;
}

static void read_gic(const struct tree *tree, int node)
{
	int bytes;
	const fdt32_t *regions = fdt_getprop(tree->fdt, node, "#redistributor-regions", &bytes);
	u32 count = regions != NULL && bytes == 4 ? fdt32_to_cpu(*regions) : 1;

	if (count == 0 || count > MACHINE_GICR_REGIONS_MAX) {
		boot_refuse("device tree: %s: %u redistributor regions", name_of(tree, node),
			    count);
	}
	read_reg(tree, node, 0, &machine.gicd);
	for (u32 i = 0; i < count; i++) {
		if (!read_reg(tree, node, 1 + (int)i, &machine.gicr[i])) {
			boot_refuse("device tree: %s: redistributor region %u is missing",
				    name_of(tree, node), i);
		}
	}
	machine.gicr_count = count;
	expect_interrupt(tree, node, 0, INTID_MAINTENANCE);
}

static void read_uart(const struct tree *tree, int node)
{
	if (machine.uart_intid != 0 || is_disabled(tree, node)) {
		return; /* the first one is ours */
	}
	read_reg(tree, node, 0, &machine.uart);
	machine.uart_intid = read_interrupt(tree, node, 0);
	if (machine.uart_intid < GIC_SPI_FIRST) {
		boot_refuse("device tree: %s: no shared interrupt", name_of(tree, node));
	}
}

static void read_timer(const struct tree *tree, int node)
{
	int bytes;
	const fdt32_t *hz = fdt_getprop(tree->fdt, node, "clock-frequency", &bytes);

	expect_interrupt(tree, node, TIMER_PHYSICAL, INTID_PHYSICAL_TIMER);
	expect_interrupt(tree, node, TIMER_VIRTUAL, INTID_VIRTUAL_TIMER);
	expect_interrupt(tree, node, TIMER_HYP, INTID_HYP_TIMER);
	machine.timer_hz = hz != NULL && bytes == 4 ? fdt32_to_cpu(*hz) : 0;
	machine.timer = true;
}

/* What is not coherent would need caches to be cleaned around each transfer: left alone. */
static void read_virtio(const struct tree *tree, int node)
{
	struct boot_info *info = &machine.info;
	struct boot_range range;

	if (info->virtio_count < BOOT_VIRTIO_MAX && !is_disabled(tree, node) &&
	    fdt_getprop(tree->fdt, node, "dma-coherent", NULL) != NULL &&
	    read_reg(tree, node, 0, &range)) {
		info->virtio[info->virtio_count++] = (struct boot_virtio){
			.registers = range.start, .irq = read_interrupt(tree, node, 0)};
	}
}

typedef void (*read_fn)(const struct tree *tree, int node);

/* Most children of the root are devices that Lamina leaves alone: the property is fetched once. */
static read_fn find_by_compatible(const struct tree *tree, int node)
{
	static const struct {
		const char *compatible;
		read_fn read;
	} known[] = {
		{"arm,psci-0.2", read_psci}, /* 1.x list it too */
		{"arm,gic-v3", read_gic},	 {"arm,pl011", read_uart},
		{"arm,armv8-timer", read_timer}, {"virtio,mmio", read_virtio},
	};
	int bytes;
	const char *list = fdt_getprop(tree->fdt, node, "compatible", &bytes);

	for (size_t i = 0; list != NULL && i < ARRAY_COUNT(known); i++) {
		if (fdt_stringlist_contains(list, bytes, known[i].compatible)) {
			return known[i].read;
		}
	}
	return NULL;
}

static read_fn find_by_name(const struct tree *tree, int node)
{
	const char *name = name_of(tree, node);

	if (strcmp(name, "cpus") == 0) {
		return read_cpus;
	}
	if (strcmp(name, "chosen") == 0) {
		return read_chosen;
	}
	if (strcmp(name, "reserved-memory") == 0) {
		return read_reserved_memory;
	}
	if (strncmp(name, "memory", 6) == 0 && is_text(tree, node, "device_type", "memory")) {
		return read_memory;
	}
	return NULL;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static void check_devices(void)
{
	if (machine.info.cpu_count == 0) {
		boot_refuse("device tree: no cpus node");
	}
	if (!machine.psci) {
		boot_refuse("device tree: no PSCI 0.2 or later (arm,psci-0.2)");
	}
	if (machine.gicr_count == 0) {
		boot_refuse("device tree: no GICv3 (QEMU: -M virt,gic-version=3)");
	}
	if (machine.uart_intid == 0) {
		boot_refuse("device tree: no PL011 UART (arm,pl011)");
	}
	if (!machine.timer) {
		boot_refuse("device tree: no timer (arm,armv8-timer)");
	}
}

static void read_reservations(const void *fdt)
{
	u64 start, size;

	boot_reserve(&machine.info, machine.device_tree.start, machine.device_tree.end);
	for (int i = 0; i < fdt_num_mem_rsv(fdt); i++) {
		if (fdt_get_mem_rsv(fdt, i, &start, &size) == 0) {
			boot_reserve(&machine.info, start, start + size);
		}
	}
}

void boot_tree_read(const void *fdt)
{
	struct tree tree = {.fdt = fdt};
	int node;
	int error = fdt_check_full(fdt, machine.device_tree.end - machine.device_tree.start);

	if (error != 0) {
		boot_refuse("the device tree at 0x%lx is malformed: libfdt says %d", (u64)fdt,
			    error);
	}
	tree.address_cells = fdt_address_cells(fdt, 0);
	tree.size_cells = fdt_size_cells(fdt, 0);
	if (tree.address_cells < 1 || tree.address_cells > 2 || tree.size_cells < 1 ||
	    tree.size_cells > 2) {
		boot_refuse("device tree: root has %d address and %d size cells",
			    tree.address_cells, tree.size_cells);
	}
	machine.info.command_line = "";
	read_reservations(fdt);
	fdt_for_each_subnode(node, fdt, 0)
	{
		read_fn read = find_by_name(&tree, node);

		read = read != NULL ? read : find_by_compatible(&tree, node);
		if (read != NULL) {
			read(&tree, node);
		}
	}
	check_devices();
	boot_check(&machine.info, machine.device_tree);
}
