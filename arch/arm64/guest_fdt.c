/*
 * The device tree that tells a guest what machine it has: CPUs, memory, PSCI, timer, GICv3, one
 * PL011.
 *
 * Shaped after QEMU's `virt` machine (see guest_map.h), and kept small: a kernel visits every node
 * a dozen times on its way up. Empty virtio transports are not told: whoever probes their addresses
 * finds them, nobody else pays for them.
 *
 * Errors of libfdt accumulate in struct writer: after the first one nothing more is written, and it
 * is looked at once, at the end. Bindings: Devicetree specification 0.4; Linux,
 * Documentation/devicetree/bindings.
 */
#include "guest_fdt.h"

#include "hyp/dev_pl011.h"
#include "hyp/dev_virtio_mmio.h"

#include <libfdt.h>

#include "guest_map.h"
#include "vgic.h"

#define PHANDLE_GIC 1
#define PHANDLE_CLOCK 2

/* Interrupt specifier of the GIC: type, number within the type, trigger. */
#define IRQ_SPI 0
#define IRQ_PPI 1
#define IRQ_LEVEL_HIGH 4
#define INTID_PPI_FIRST 16
#define INTID_SPI_FIRST 32
#define PPI_SECURE_TIMER 13
#define PPI_PHYSICAL_TIMER (GUEST_PTIMER_INTID - INTID_PPI_FIRST)
#define PPI_VIRTUAL_TIMER (GUEST_VTIMER_INTID - INTID_PPI_FIRST)
#define PPI_HYP_TIMER 10

#define UART_HZ 24000000
/* What dev_pl011.c has in its identification registers: spares the guest reading them. */
#define UART_PERIPHID 0x00341011

#define CELLS_MAX 12

struct writer {
	void *fdt;
	int error; /* of libfdt, the first one */
};

static void note(struct writer *w, int error)
{
	if (w->error == 0) {
		w->error = error;
	}
}

static void begin(struct writer *w, const char *name)
{
	if (w->error == 0) {
		note(w, fdt_begin_node(w->fdt, name));
	}
}

static void end(struct writer *w)
{
	if (w->error == 0) {
		note(w, fdt_end_node(w->fdt));
	}
}

static void bytes(struct writer *w, const char *name, const void *value, size_t length)
{
	if (w->error == 0) {
		note(w, fdt_property(w->fdt, name, value, (int)length));
	}
}

static void flag(struct writer *w, const char *name)
{
	bytes(w, name, NULL, 0);
}

static void text(struct writer *w, const char *name, const char *value)
{
	size_t length = 0;

	while (value[length] != '\0') {
		length++;
	}
	bytes(w, name, value, length + 1);
}

/* Several strings, as one literal with zero bytes between them. */
#define texts(w, name, literal) bytes(w, name, literal, sizeof(literal))

static void cells(struct writer *w, const char *name, const u32 *values, u32 count)
{
	fdt32_t encoded[CELLS_MAX];

	for (u32 i = 0; i < count; i++) {
		encoded[i] = cpu_to_fdt32(values[i]);
	}
	bytes(w, name, encoded, count * sizeof(encoded[0]));
}

static void cell(struct writer *w, const char *name, u32 value)
{
	cells(w, name, &value, 1);
}

static void cell64(struct writer *w, const char *name, u64 value)
{
	u32 halves[] = {(u32)(value >> 32), (u32)value};

	cells(w, name, halves, ARRAY_COUNT(halves));
}

/* #address-cells and #size-cells are 2. */
static void range(struct writer *w, const char *name, u64 base, u64 size)
{
	u32 values[] = {(u32)(base >> 32), (u32)base, (u32)(size >> 32), (u32)size};

	cells(w, name, values, ARRAY_COUNT(values));
}

static void write_chosen(struct writer *w, const struct guest_fdt *guest)
{
	begin(w, "chosen");
	text(w, "bootargs", guest->bootargs);
	text(w, "stdout-path", "/pl011@9000000");
	if (guest->ramdisk_size != 0) {
		cell64(w, "linux,initrd-start", guest->ramdisk);
		cell64(w, "linux,initrd-end", guest->ramdisk + guest->ramdisk_size);
	}
	if (guest->kaslr_seed != 0) {
		cell64(w, "kaslr-seed", guest->kaslr_seed);
	}
	if (guest->has_rng_seed) {
		bytes(w, "rng-seed", guest->rng_seed, sizeof(guest->rng_seed));
	}
	end(w);
}

static void write_cpu(struct writer *w, u32 affinity)
{
	static const char hex[] = "0123456789abcdef";
	char name[] = {'c', 'p', 'u', '@', hex[affinity & 0xf], '\0'};

	begin(w, name);
	text(w, "device_type", "cpu");
	text(w, "compatible", "arm,armv8");
	cell(w, "reg", affinity);
	text(w, "enable-method", "psci");
	end(w);
}

static void write_cpus(struct writer *w, const struct guest_fdt *guest)
{
	begin(w, "cpus");
	cell(w, "#address-cells", 1);
	cell(w, "#size-cells", 0);
	for (u32 i = 0; i < guest->vcpu_count; i++) {
		write_cpu(w, i);
	}
	end(w);
}

static void write_memory(struct writer *w, const struct guest_fdt *guest)
{
	begin(w, "memory@40000000");
	text(w, "device_type", "memory");
	range(w, "reg", GUEST_RAM_BASE, guest->ram_size);
	end(w);
}

static void write_psci(struct writer *w)
{
	begin(w, "psci");
	texts(w, "compatible", "arm,psci-1.0\0arm,psci-0.2");
	text(w, "method", "hvc");
	end(w);
}

/* In the order of the binding: secure, physical, virtual, hypervisor. */
static void write_timer(struct writer *w)
{
	static const u32 interrupts[] = {
		IRQ_PPI, PPI_SECURE_TIMER,   IRQ_LEVEL_HIGH,
		IRQ_PPI, PPI_PHYSICAL_TIMER, IRQ_LEVEL_HIGH,
		IRQ_PPI, PPI_VIRTUAL_TIMER,  IRQ_LEVEL_HIGH,
		IRQ_PPI, PPI_HYP_TIMER,	     IRQ_LEVEL_HIGH,
	};

	begin(w, "timer");
	text(w, "compatible", "arm,armv8-timer");
	cells(w, "interrupts", interrupts, ARRAY_COUNT(interrupts));
	flag(w, "always-on");
	end(w);
}

static void write_gic(struct writer *w, const struct guest_fdt *guest)
{
	u32 reg[] = {0, GUEST_GICD_BASE, 0, VGIC_DISTRIBUTOR_SIZE,
		     0, GUEST_GICR_BASE, 0, (u32)guest->gicr_size};

	begin(w, "intc@8000000");
	text(w, "compatible", "arm,gic-v3");
	cell(w, "#interrupt-cells", 3);
	flag(w, "interrupt-controller");
	cells(w, "reg", reg, ARRAY_COUNT(reg));
	cell(w, "phandle", PHANDLE_GIC);
	end(w);
}

static void write_uart(struct writer *w)
{
	static const u32 interrupt[] = {IRQ_SPI, GUEST_UART_INTID - INTID_SPI_FIRST,
					IRQ_LEVEL_HIGH};
	static const u32 clocks[] = {PHANDLE_CLOCK, PHANDLE_CLOCK};

	begin(w, "pl011@9000000");
	texts(w, "compatible", "arm,pl011\0arm,primecell");
	range(w, "reg", GUEST_UART_BASE, PL011_SIZE);
	cell(w, "arm,primecell-periphid", UART_PERIPHID);
	cells(w, "interrupts", interrupt, ARRAY_COUNT(interrupt));
	cells(w, "clocks", clocks, ARRAY_COUNT(clocks));
	texts(w, "clock-names", "uartclk\0apb_pclk");
	end(w);

	begin(w, "apb-pclk");
	text(w, "compatible", "fixed-clock");
	cell(w, "#clock-cells", 0);
	cell(w, "clock-frequency", UART_HZ);
	cell(w, "phandle", PHANDLE_CLOCK);
	end(w);
}

/* Slots are 0x200 bytes, and there are 8 at most: two digits of the name tell them apart. */
static void write_virtio(struct writer *w, u32 slot)
{
	static const char hex[] = "0123456789abcdef";
	u64 base = GUEST_VIRTIO_BASE + slot * VIRTIO_MMIO_SLOT_SIZE;
	u32 interrupt[] = {IRQ_SPI, GUEST_VIRTIO_INTID_FIRST + slot - INTID_SPI_FIRST,
			   IRQ_LEVEL_HIGH};
	char name[] = "virtio_mmio@a000000";

	name[sizeof(name) - 4] = hex[(base >> 8) & 0xf];
	name[sizeof(name) - 5] = hex[(base >> 12) & 0xf];
	begin(w, name);
	text(w, "compatible", "virtio,mmio");
	range(w, "reg", base, VIRTIO_MMIO_SLOT_SIZE);
	cells(w, "interrupts", interrupt, ARRAY_COUNT(interrupt));
	flag(w, "dma-coherent");
	end(w);
}

static void write_root(struct writer *w, const struct guest_fdt *guest)
{
	begin(w, "");
	text(w, "compatible", "linux,dummy-virt");
	cell(w, "#address-cells", 2);
	cell(w, "#size-cells", 2);
	cell(w, "interrupt-parent", PHANDLE_GIC);
	write_chosen(w, guest);
	write_cpus(w, guest);
	write_memory(w, guest);
	write_psci(w);
	write_timer(w);
	write_gic(w, guest);
	write_uart(w);
	for (u32 i = 0; i < guest->virtio_count; i++) {
		write_virtio(w, i);
	}
	end(w);
}

enum status guest_fdt_write(const struct guest_fdt *guest, void *blob, size_t size, size_t *used)
{
	struct writer w = {.fdt = blob};

	note(&w, fdt_create(blob, (int)size));
	if (w.error == 0) {
		note(&w, fdt_finish_reservemap(blob));
	}
	write_root(&w, guest);
	if (w.error == 0) {
		note(&w, fdt_finish(blob));
	}
	if (w.error != 0) {
		return FULL;
	}
	*used = fdt_totalsize(blob);
	return OK;
}
