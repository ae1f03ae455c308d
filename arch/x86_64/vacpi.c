/*
 * Tables are written at their places in one buffer, each at a multiple of 16, and sealed with their
 * checksum last. Fields that a hardware-reduced machine does not have are 0, which is most of the
 * FADT; the others are written by their offsets in ACPI 6.4, chapter 5.
 */
#include "vacpi.h"

#include <string.h>

#include "hyp/addr.h"
#include "hyp/image_mark.h"

#include "pc_map.h"

#define TABLE_ALIGN 16
#define OEM "LAMINA"
#define OEM_TABLE "GUEST\0\0\0"
#define CREATOR "LMNA"

/* 5.2.5.3; the first 20 bytes have a checksum of their own. */
#define RSDP_CHECKSUM 8
#define RSDP_OEM 9
#define RSDP_REVISION 15
#define RSDP_LENGTH 20
#define RSDP_XSDT 24
#define RSDP_CHECKSUM_ALL 32
#define RSDP_SIZE_FIRST 20
#define RSDP_SIZE 36

/* 5.2.6, "System Description Table Header" */
#define HEADER_LENGTH 4
#define HEADER_REVISION 8
#define HEADER_CHECKSUM 9
#define HEADER_OEM 10
#define HEADER_OEM_TABLE 16
#define HEADER_OEM_REVISION 24
#define HEADER_CREATOR 28
#define HEADER_CREATOR_REVISION 32
#define HEADER_SIZE 36

#define XSDT_REVISION 1
#define XSDT_SIZE (HEADER_SIZE + 2 * 8)

/* 5.2.9 */
#define FADT_REVISION 6
#define FADT_BOOT_ARCH 109
#define FADT_FLAGS 112
#define FADT_RESET 116
#define FADT_RESET_VALUE 128
#define FADT_MINOR 131
#define FADT_X_DSDT 140
#define FADT_SLEEP_CONTROL 244
#define FADT_SLEEP_STATUS 256
#define FADT_HYPERVISOR 268
#define FADT_SIZE 276

#define BOOT_ARCH_NO_VGA BIT(2)
#define BOOT_ARCH_NO_CMOS_RTC BIT(5)

#define FLAG_WBINVD BIT(0)
#define FLAG_PROC_C1 BIT(2)
/* No such button among the fixed registers, since there are none. */
#define FLAG_PWR_BUTTON BIT(4)
#define FLAG_SLP_BUTTON BIT(5)
#define FLAG_RESET_REG_SUP BIT(10)
#define FLAG_HW_REDUCED_ACPI BIT(20)

/* 5.2.3.2, "Generic Address Structure" */
#define GAS_SPACE_IO 1
#define GAS_ACCESS_BYTE 1

/* 5.2.12 */
#define MADT_REVISION 5
#define MADT_LOCAL_APIC 36
#define MADT_ENTRIES 44
#define ENTRY_LOCAL_APIC 0
#define ENTRY_LOCAL_APIC_SIZE 8
#define ENTRY_LOCAL_APIC_ENABLED 1
#define ENTRY_IOAPIC 1
#define ENTRY_IOAPIC_SIZE 12
#define ENTRY_WAKEUP 0x10
#define ENTRY_WAKEUP_SIZE 16

/* Offsets in the buffer. */
struct places {
	size_t xsdt, fadt, madt, dsdt, end;
};

struct writer {
	u8 *bytes;
	u64 gpa; /* of bytes[0] */
	struct places at;
};

static void put_le(u8 *at, u64 value, u32 bytes)
{
	for (u32 i = 0; i < bytes; i++) {
		at[i] = (u8)(value >> 8 * i);
	}
}

/* The byte that makes the sum of all of them 0, where there is a 0 now. */
static u8 checksum(const u8 *bytes, size_t size)
{
	u8 sum = 0;

	for (size_t i = 0; i < size; i++) {
		sum = (u8)(sum + bytes[i]);
	}
	return (u8)-sum;
}

static void begin_table(u8 *table, const char *signature, size_t size, u8 revision)
{
	memcpy(table, signature, 4);
	put_le(table + HEADER_LENGTH, size, 4);
	table[HEADER_REVISION] = revision;
	memcpy(table + HEADER_OEM, OEM, 6);
	memcpy(table + HEADER_OEM_TABLE, OEM_TABLE, 8);
	put_le(table + HEADER_OEM_REVISION, 1, 4);
	memcpy(table + HEADER_CREATOR, CREATOR, 4);
	put_le(table + HEADER_CREATOR_REVISION, 1, 4);
}

static void seal_table(u8 *table)
{
	table[HEADER_CHECKSUM] = checksum(table, read_le32(table + HEADER_LENGTH));
}

/* ---- Tables ---------------------------------------------------------------------------------- */

static void write_rsdp(const struct writer *w)
{
	u8 *rsdp = w->bytes;

	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + RSDP_OEM, OEM, 6);
	rsdp[RSDP_REVISION] = 2;
	put_le(rsdp + RSDP_LENGTH, RSDP_SIZE, 4);
	put_le(rsdp + RSDP_XSDT, w->gpa + w->at.xsdt, 8);
	rsdp[RSDP_CHECKSUM] = checksum(rsdp, RSDP_SIZE_FIRST);
	rsdp[RSDP_CHECKSUM_ALL] = checksum(rsdp, RSDP_SIZE);
}

/* The DSDT is not in it: the FADT leads there. */
static void write_xsdt(const struct writer *w)
{
	u8 *xsdt = w->bytes + w->at.xsdt;

	begin_table(xsdt, "XSDT", XSDT_SIZE, XSDT_REVISION);
	put_le(xsdt + HEADER_SIZE, w->gpa + w->at.fadt, 8);
	put_le(xsdt + HEADER_SIZE + 8, w->gpa + w->at.madt, 8);
	seal_table(xsdt);
}

static void put_port(u8 *at, u64 port)
{
	at[0] = GAS_SPACE_IO;
	at[1] = 8; /* bits */
	at[3] = GAS_ACCESS_BYTE;
	put_le(at + 4, port, 8);
}

/* No 8042 and no legacy devices besides: those would be bits 1 and 0 of BOOT_ARCH. */
static void write_fadt(const struct writer *w)
{
	u8 *fadt = w->bytes + w->at.fadt;

	begin_table(fadt, "FACP", FADT_SIZE, FADT_REVISION);
	put_le(fadt + FADT_BOOT_ARCH, BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_CMOS_RTC, 2);
	put_le(fadt + FADT_FLAGS,
	       FLAG_WBINVD | FLAG_PROC_C1 | FLAG_PWR_BUTTON | FLAG_SLP_BUTTON | FLAG_RESET_REG_SUP |
		       FLAG_HW_REDUCED_ACPI,
	       4);
	put_port(fadt + FADT_RESET, VACPI_RESET_PORT);
	fadt[FADT_RESET_VALUE] = VACPI_RESET_VALUE;
	fadt[FADT_MINOR] = 4;
	put_le(fadt + FADT_X_DSDT, w->gpa + w->at.dsdt, 8);
	put_port(fadt + FADT_SLEEP_CONTROL, VACPI_SLEEP_CONTROL_PORT);
	put_port(fadt + FADT_SLEEP_STATUS, VACPI_SLEEP_STATUS_PORT);
	memcpy(fadt + FADT_HYPERVISOR, "Lamina\0", 8);
	seal_table(fadt);
}

/* Each returns where the next entry goes. Ids below 255 are told so even to those with x2APIC. */
static u8 *put_local_apic(u8 *at, u32 vcpu)
{
	at[0] = ENTRY_LOCAL_APIC;
	at[1] = ENTRY_LOCAL_APIC_SIZE;
	at[2] = (u8)vcpu; /* processor UID */
	at[3] = (u8)vcpu; /* APIC id */
	put_le(at + 4, ENTRY_LOCAL_APIC_ENABLED, 4);
	return at + ENTRY_LOCAL_APIC_SIZE;
}

static u8 *put_ioapic(u8 *at)
{
	at[0] = ENTRY_IOAPIC;
	at[1] = ENTRY_IOAPIC_SIZE;
	at[2] = VACPI_IOAPIC_ID;
	put_le(at + 4, PC_IOAPIC_BASE, 4);
	put_le(at + 8, 0, 4); /* its first interrupt */
	return at + ENTRY_IOAPIC_SIZE;
}

static void put_wakeup(u8 *at, u64 mailbox)
{
	at[0] = ENTRY_WAKEUP;
	at[1] = ENTRY_WAKEUP_SIZE;
	put_le(at + 8, mailbox, 8);
}

static size_t madt_size(const struct vacpi *what)
{
	return MADT_ENTRIES + what->vcpu_count * ENTRY_LOCAL_APIC_SIZE + ENTRY_IOAPIC_SIZE +
	       (what->mailbox != 0 ? ENTRY_WAKEUP_SIZE : 0);
}

/* Its flags are 0: there is no 8259. */
static void write_madt(const struct writer *w, const struct vacpi *what)
{
	u8 *madt = w->bytes + w->at.madt, *next = madt + MADT_ENTRIES;

	begin_table(madt, "APIC", madt_size(what), MADT_REVISION);
	put_le(madt + MADT_LOCAL_APIC, PC_LOCAL_APIC_BASE, 4);
	for (u32 i = 0; i < what->vcpu_count; i++) {
		next = put_local_apic(next, i);
	}
	next = put_ioapic(next);
	if (what->mailbox != 0) {
		put_wakeup(next, what->mailbox);
	}
	seal_table(madt);
}

/* ---- All of them ------------------------------------------------------------------------------
 */

static size_t dsdt_size(void)
{
	return read_le32(dsdt_aml + HEADER_LENGTH);
}

static struct places find_places(const struct vacpi *what)
{
	struct places at;

	at.xsdt = align_up(RSDP_SIZE, TABLE_ALIGN);
	at.fadt = align_up(at.xsdt + XSDT_SIZE, TABLE_ALIGN);
	at.madt = align_up(at.fadt + FADT_SIZE, TABLE_ALIGN);
	at.dsdt = align_up(at.madt + madt_size(what), TABLE_ALIGN);
	at.end = at.dsdt + dsdt_size();
	return at;
}

enum status vacpi_write(const struct vacpi *what, void *buffer, size_t room, u64 gpa_of_buffer,
			size_t *used)
{
	struct writer w = {.bytes = buffer, .gpa = gpa_of_buffer};

	if (what->vcpu_count == 0 || what->vcpu_count > VACPI_VCPUS_MAX ||
	    !is_aligned(what->mailbox, PAGE_SIZE) || !is_aligned(gpa_of_buffer, TABLE_ALIGN)) {
		return INVALID;
	}
	w.at = find_places(what);
	if (w.at.end > room) {
		return FULL;
	}
	memset(buffer, 0, w.at.end);
	write_rsdp(&w);
	write_xsdt(&w);
	write_fadt(&w);
	write_madt(&w, what);
	memcpy(w.bytes + w.at.dsdt, dsdt_aml, dsdt_size());
	*used = w.at.end;
	return OK;
}
