/*
 * CPUs and interrupt controllers, from the firmware's ACPI tables (ACPI 6.4, 5.2.5 RSDP, 5.2.8
 * XSDT, 5.2.12 MADT). Read in the first map, where the lowest 4 GiB can be read as they are;
 * nothing in the tables is believed beyond its length and checksum.
 */
#include <string.h>

#include "hyp/log.h"

#include "machine.h"

#define BIOS_AREA 0xe0000
#define BIOS_AREA_END 0x100000
#define EBDA_SEGMENT 0x40e /* where the BIOS keeps the segment of its data */
#define RSDP_STEP 16
#define RSDP_V1_SIZE 20
#define TABLE_SIZE_MAX KIB(64)
#define EARLY_MAP_END GIB(4)

#define MADT_FLAGS_END 44 /* header, local APIC's address, flags */
enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_X2APIC = 9 };
#define CPU_ENABLED BIT(0)
#define ISA_UART 4
#define IOAPIC_SIZE 0x20

struct __attribute__((packed)) rsdp {
	char signature[8];
	u8 checksum;
	char oem[6];
	u8 revision;
	u32 rsdt;
	u32 length;
	u64 xsdt;
};

struct __attribute__((packed)) table {
	char signature[4];
	u32 length;
	u8 revision, checksum;
	char oem[6], oem_table[8];
	u32 oem_revision, creator, creator_revision;
};

/* The compiler knows nothing of this address, so makes nothing of its being small. */
static const void *physical(u64 address)
{
	__asm__("" : "+r"(address));
	return (const void *)address;
}

static bool sums_to_zero(const void *start, u64 size)
{
	const u8 *byte = start;
	u8 sum = 0;

	for (u64 i = 0; i < size; i++) {
		sum += byte[i];
	}
	return sum == 0;
}

static const struct rsdp *find_rsdp_in(u64 start, u64 end)
{
	for (u64 at = start; at + sizeof(struct rsdp) <= end; at += RSDP_STEP) {
		const struct rsdp *rsdp = physical(at);

		if (memcmp(rsdp->signature, "RSD PTR ", 8) == 0 &&
		    sums_to_zero(rsdp, RSDP_V1_SIZE)) {
			return rsdp;
		}
	}
	return NULL;
}

static const struct rsdp *find_rsdp(void)
{
	u64 ebda = (u64) * (const u16 *)physical(EBDA_SEGMENT) << 4;
	const struct rsdp *rsdp = ebda ? find_rsdp_in(ebda, ebda + KIB(1)) : NULL;

	rsdp = rsdp != NULL ? rsdp : find_rsdp_in(BIOS_AREA, BIOS_AREA_END);
	if (rsdp == NULL) {
		boot_refuse("the firmware has no ACPI tables");
	}
	return rsdp;
}

static const struct table *table_at(u64 address)
{
	const struct table *table = physical(address);

	if (address == 0 || address + sizeof(*table) > EARLY_MAP_END ||
	    table->length < sizeof(*table) || table->length > TABLE_SIZE_MAX ||
	    !sums_to_zero(table, table->length)) {
		boot_refuse("the ACPI table at 0x%lx is malformed", address);
	}
	return table;
}

static u64 read_pointer(const u8 *at, u32 size)
{
	u64 value = 0;

	memcpy(&value, at, size);
	return value;
}

/* Only the table that is looked for is judged. */
static const struct table *find_table(const struct rsdp *rsdp, const char *signature)
{
	bool wide = rsdp->revision >= 2 && rsdp->xsdt != 0;
	u32 size = wide ? 8 : 4;
	const struct table *root = table_at(wide ? rsdp->xsdt : rsdp->rsdt);
	const u8 *pointers = (const u8 *)(root + 1);

	for (u32 i = 0; sizeof(*root) + (i + 1) * size <= root->length; i++) {
		u64 address = read_pointer(pointers + i * size, size);
		const struct table *table = physical(address);

		if (address != 0 && address + sizeof(*table) <= EARLY_MAP_END &&
		    memcmp(table->signature, signature, 4) == 0) {
			return table_at(address);
		}
	}
	boot_refuse("the firmware's ACPI tables have no %s", signature);
}

static u32 read32(const u8 *bytes)
{
	return (u32)read_pointer(bytes, 4);
}

static void read_entry(const u8 *entry, u8 length)
{
	switch (entry[0]) {
	case MADT_LAPIC:
		if (length >= 8 && (read32(entry + 4) & CPU_ENABLED)) {
			boot_add_cpu(&machine.info, entry[3]);
		}
		return;
	case MADT_X2APIC:
		if (length >= 16 && (read32(entry + 8) & CPU_ENABLED)) {
			boot_add_cpu(&machine.info, read32(entry + 4));
		}
		return;
	case MADT_IOAPIC:
		if (length >= 12 && read32(entry + 8) == 0) {
			machine.ioapic = read32(entry + 4);
		}
		return;
	case MADT_OVERRIDE:
		if (length >= 10 && entry[3] == ISA_UART) {
			machine.uart_line = read32(entry + 4);
		}
		return;
	default:
		return;
	}
}

void acpi_read(void)
{
	const struct table *madt = find_table(find_rsdp(), "APIC");
	const u8 *bytes = (const u8 *)madt;

	machine.uart_line = ISA_UART;
	boot_add_cpu(&machine.info, lapic_id());
	for (u32 at = MADT_FLAGS_END; at + 2 <= madt->length; at += bytes[at + 1]) {
		if (bytes[at + 1] < 2 || at + bytes[at + 1] > madt->length) {
			boot_refuse("the ACPI table at 0x%lx (APIC) is malformed at byte %u",
				    (u64)madt, at);
		}
		read_entry(bytes + at, bytes[at + 1]);
	}
}

void acpi_local_devices(u64 *root)
{
	own_map_device(root, (struct boot_range){machine.lapic, machine.lapic + PAGE_SIZE});
	if (machine.ioapic != 0) {
		own_map_device(root,
			       (struct boot_range){machine.ioapic, machine.ioapic + IOAPIC_SIZE});
	}
}
