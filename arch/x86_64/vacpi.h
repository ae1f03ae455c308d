/*
 * The ACPI tables that an x86 guest is given: of a machine that has nothing but what they tell
 * (ACPI 6.4, 4.1, "hardware-reduced").
 *
 *     RSDP -> XSDT -> FADT -> DSDT     how to turn off and reset; devices (dsdt.asl)
 *                  -> MADT             CPUs, the I/O APIC, how CPUs are started
 *
 * Off and reset are byte-wide I/O ports, so that no event register, SCI or embedded controller has
 * to exist. A write to the sleep control port is (type << 2) | 0x20; only type 5, off, is told.
 * Linux 6.1 turns itself off by it; how it comes to the reset port is pc_boot.h's.
 */
#ifndef VACPI_H
#define VACPI_H

#include "hyp/status.h"
#include "hyp/types.h"

#define VACPI_SLEEP_CONTROL_PORT 0x600
#define VACPI_SLEEP_STATUS_PORT 0x601 /* reads as 0; a guest clears bit 7 here by writing it */
#define VACPI_RESET_PORT 0x604
#define VACPI_RESET_VALUE 1

#define VACPI_SLEEP_TYPE_OFF 5 /* as dsdt.asl has it */
#define VACPI_SLEEP_ENABLE BIT(5)
#define VACPI_SLEEP_TYPE BITS(4, 2)
/* What a guest writes to the sleep control port to be turned off. */
#define VACPI_SLEEP_OFF (VACPI_SLEEP_TYPE_OFF << 2 | VACPI_SLEEP_ENABLE)

/* The I/O APIC's identity in its own register. */
#define VACPI_IOAPIC_ID 0

/* APIC ids of 8 bits, of which the last means all of them. */
#define VACPI_VCPUS_MAX 255

/* What differs from guest to guest. */
struct vacpi {
	u32 vcpu_count; /* 1..VACPI_VCPUS_MAX; APIC ids and processor UIDs 0..vcpu_count-1 */
	u64 mailbox;	/* guest-physical page by which CPUs are started (5.2.12.19); 0: none */
};

/*
 * Writes all tables into [buffer, buffer + room), which the guest has at gpa_of_buffer, a multiple
 * of 16; the RSDP comes first. *used is how much of the buffer they are; 2 KiB are enough for 64
 * vCPUs. INVALID for a number out of its range, FULL when the tables do not fit: then nothing was
 * written.
 */
enum status vacpi_write(const struct vacpi *what, void *buffer, size_t room, u64 gpa_of_buffer,
			size_t *used);

/* dsdt.asl, compiled: a whole table, its length at offset 4. */
extern const u8 dsdt_aml[];

#endif
