/* The guest's ACPI tables, read as a guest does: by pointers and lengths from the RSDP on. */
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

extern "C" {
#include "../../arch/x86_64/pc_map.h"
#include "../../arch/x86_64/vacpi.h"
}

namespace
{

using Bytes = std::vector<u8>;

class Vacpi : public testing::Test
{
      protected:
	const u64 base = PC_ACPI;
	struct vacpi what = {.vcpu_count = 2, .mailbox = 0};
	Bytes buffer = Bytes(0x4000, 0xaa);
	size_t used = 0;

	void make()
	{
		ASSERT_EQ(vacpi_write(&what, buffer.data(), buffer.size(), base, &used), OK);
		ASSERT_LE(used, buffer.size());
	}

	u64 at(u64 address, size_t size)
	{
		u64 value = 0;

		EXPECT_GE(address, base);
		EXPECT_LE(address + size, base + used);
		for (size_t i = 0; i < size; i++) {
			value |= (u64)buffer.at(address - base + i) << 8 * i;
		}
		return value;
	}

	std::string text(u64 address, size_t size)
	{
		return std::string(reinterpret_cast<char *>(&buffer.at(address - base)), size);
	}

	u8 sum(u64 address, size_t size)
	{
		u8 total = 0;

		for (size_t i = 0; i < size; i++) {
			total = (u8)(total + at(address + i, 1));
		}
		return total;
	}

	/* Each table that the RSDP leads to, by its signature. */
	std::map<std::string, u64> tables()
	{
		std::map<std::string, u64> found;
		u64 xsdt = at(base + 24, 8);

		found["XSDT"] = xsdt;
		for (u64 entry = xsdt + 36; entry < xsdt + at(xsdt + 4, 4); entry += 8) {
			found[text(at(entry, 8), 4)] = at(entry, 8);
		}
		if (found.count("FACP") != 0) {
			found["DSDT"] = at(found["FACP"] + 140, 8);
		}
		return found;
	}

	/* The MADT's entries of one type. */
	std::vector<u64> entries(u8 type)
	{
		u64 madt = tables()["APIC"], entry = madt + 44;
		std::vector<u64> found;

		while (entry < madt + at(madt + 4, 4)) {
			EXPECT_GE(at(entry + 1, 1), 2u);
			if (at(entry, 1) == type) {
				found.push_back(entry);
			}
			entry += at(entry + 1, 1);
		}
		EXPECT_EQ(entry, madt + at(madt + 4, 4));
		return found;
	}

	/* A register by its Generic Address Structure: a byte in I/O space. */
	u64 port(u64 address)
	{
		EXPECT_EQ(at(address, 4), 0x01000801u) << "space, width, offset, access";
		return at(address + 4, 8);
	}
};

TEST_F(Vacpi, the_rsdp_comes_first_and_has_both_checksums)
{
	make();
	EXPECT_EQ(text(base, 8), "RSD PTR ");
	EXPECT_EQ(at(base + 15, 1), 2u);
	EXPECT_EQ(at(base + 20, 4), 36u);
	EXPECT_EQ(sum(base, 20), 0);
	EXPECT_EQ(sum(base, 36), 0);
	EXPECT_EQ(at(base + 16, 4), 0u) << "no RSDT";
}

TEST_F(Vacpi, every_table_is_found_whole_and_apart_and_sums_to_zero)
{
	const std::map<std::string, u64> revisions = {
		{"XSDT", 1}, {"FACP", 6}, {"APIC", 5}, {"DSDT", 2}};

	for (u32 count : {1, 2, 3, 8, VACPI_VCPUS_MAX}) {
		what.vcpu_count = count;
		make();

		std::map<std::string, u64> found = tables();
		std::map<u64, u64> places = {{base, 36}};

		ASSERT_EQ(found.size(), revisions.size());
		for (const auto &revision : revisions) {
			ASSERT_EQ(found.count(revision.first), 1u) << revision.first;
			u64 table = found[revision.first], length = at(table + 4, 4);

			EXPECT_EQ(text(table, 4), revision.first);
			EXPECT_EQ(at(table + 8, 1), revision.second);
			EXPECT_EQ(sum(table, length), 0) << revision.first;
			EXPECT_EQ(table % 16, 0u);
			EXPECT_EQ(text(table + 10, 6), "LAMINA");
			places[table] = length;
		}
		u64 reached = base;

		for (const auto &place : places) {
			EXPECT_GE(place.first, reached);
			reached = place.first + place.second;
		}
		EXPECT_EQ(reached, base + used);
	}
}

TEST_F(Vacpi, the_fadt_says_that_there_is_no_fixed_hardware)
{
	make();
	u64 fadt = tables()["FACP"];

	EXPECT_EQ(at(fadt + 4, 4), 276u);
	EXPECT_EQ(at(fadt + 131, 1), 4u) << "minor version";
	EXPECT_EQ(at(fadt + 112, 4) & BIT(20), BIT(20)) << "HW_REDUCED_ACPI";
	EXPECT_EQ(at(fadt + 109, 2), BIT(5) | BIT(2)) << "no CMOS clock, no VGA, no 8042";
	for (u64 offset = 36; offset < 109; offset++) {
		EXPECT_EQ(at(fadt + offset, 1), 0u) << offset;
	}
	for (u64 offset = 148; offset < 244; offset++) {
		EXPECT_EQ(at(fadt + offset, 1), 0u) << offset;
	}
}

TEST_F(Vacpi, off_and_reset_are_ports)
{
	make();
	u64 fadt = tables()["FACP"];

	EXPECT_EQ(at(fadt + 112, 4) & BIT(10), BIT(10)) << "RESET_REG_SUP";
	EXPECT_EQ(port(fadt + 116), 0x604u);
	EXPECT_EQ(at(fadt + 128, 1), 1u);
	EXPECT_EQ(port(fadt + 244), 0x600u);
	EXPECT_EQ(port(fadt + 256), 0x601u);
	EXPECT_EQ(VACPI_SLEEP_OFF, 0x34u);
}

TEST_F(Vacpi, the_madt_has_each_vcpu_and_no_more)
{
	for (u32 count : {1, 2, 8, VACPI_VCPUS_MAX}) {
		what.vcpu_count = count;
		make();

		std::vector<u64> cpus = entries(0);

		ASSERT_EQ(cpus.size(), count);
		for (u32 i = 0; i < count; i++) {
			EXPECT_EQ(at(cpus[i] + 1, 1), 8u);
			EXPECT_EQ(at(cpus[i] + 2, 1), i);
			EXPECT_EQ(at(cpus[i] + 3, 1), i);
			EXPECT_EQ(at(cpus[i] + 4, 4), 1u);
		}
	}
	EXPECT_EQ(at(tables()["APIC"] + 36, 4), 0xfee00000u);
	EXPECT_EQ(at(tables()["APIC"] + 40, 4), 0u) << "no 8259";
}

TEST_F(Vacpi, the_madt_has_one_io_apic_from_interrupt_0_on)
{
	make();
	std::vector<u64> chips = entries(1);

	ASSERT_EQ(chips.size(), 1u);
	EXPECT_EQ(at(chips[0] + 1, 1), 12u);
	EXPECT_EQ(at(chips[0] + 4, 4), 0xfec00000u);
	EXPECT_EQ(at(chips[0] + 8, 4), 0u);
}

TEST_F(Vacpi, the_madt_has_a_mailbox_only_if_there_is_one)
{
	make();
	EXPECT_TRUE(entries(0x10).empty());
	what.mailbox = PC_MAILBOX;
	make();
	ASSERT_EQ(entries(0x10).size(), 1u);
	EXPECT_EQ(at(entries(0x10)[0], 8), 0x1010u) << "type, length, version 0";
	EXPECT_EQ(at(entries(0x10)[0] + 8, 8), PC_MAILBOX);
}

/* As bytes of AML and of resource descriptors (ACPI 6.4, 20.2 and 6.4). */
TEST_F(Vacpi, the_dsdt_tells_the_ports_slots_and_interrupts_of_the_map)
{
	make();
	u64 dsdt = tables()["DSDT"];
	std::string aml = text(dsdt, at(dsdt + 4, 4));
	const auto has = [&](const Bytes &bytes) {
		return aml.find(std::string(bytes.begin(), bytes.end())) != std::string::npos;
	};

	EXPECT_TRUE(has({0x08, '_', 'S', '5', '_', 0x12, 7, 4, 0x0a, VACPI_SLEEP_TYPE_OFF}));
	EXPECT_TRUE(has({'_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01})) << "PNP0501";
	EXPECT_TRUE(has({0x47, 1, (u8)PC_COM1_PORT, PC_COM1_PORT >> 8, (u8)PC_COM1_PORT,
			 PC_COM1_PORT >> 8, 0, 8, 0x23, 1 << PC_COM1_IRQ, 0}));
	for (u32 i = 0; i < PC_VIRTIO_SLOTS; i++) {
		u32 slot = PC_VIRTIO_BASE + i * 0x200;

		EXPECT_TRUE(has({0x86,
				 9,
				 0,
				 1,
				 (u8)slot,
				 (u8)(slot >> 8),
				 (u8)(slot >> 16),
				 (u8)(slot >> 24),
				 0,
				 2,
				 0,
				 0,
				 0x89,
				 6,
				 0,
				 1,
				 1,
				 (u8)(PC_VIRTIO_IRQ_FIRST + i),
				 0,
				 0,
				 0}))
			<< i;
	}
	EXPECT_TRUE(has({'L', 'N', 'R', 'O', '0', '0', '0', '5', 0}));
}

TEST_F(Vacpi, refuses_every_room_that_is_too_small_and_leaves_it_alone)
{
	make();
	size_t enough = used;

	for (size_t room = 0; room < enough; room++) {
		Bytes small(room, 0xaa);

		used = 12345;
		EXPECT_EQ(vacpi_write(&what, small.data(), room, base, &used), FULL) << room;
		EXPECT_EQ(used, 12345u);
		EXPECT_EQ(small, Bytes(room, 0xaa));
	}
	Bytes exact(enough);

	EXPECT_EQ(vacpi_write(&what, exact.data(), enough, base, &used), OK);
	EXPECT_EQ(used, enough);
}

TEST_F(Vacpi, tables_do_not_depend_on_what_the_buffer_held)
{
	Bytes other(buffer.size(), 0x55);

	make();
	EXPECT_EQ(vacpi_write(&what, other.data(), other.size(), base, &used), OK);
	EXPECT_EQ(Bytes(other.begin(), other.begin() + (long)used),
		  Bytes(buffer.begin(), buffer.begin() + (long)used));
}

TEST_F(Vacpi, is_as_small_as_promised)
{
	what.vcpu_count = 64;
	what.mailbox = PC_MAILBOX;
	make();
	EXPECT_LE(used, KIB(2));
	EXPECT_LE(used, PC_ACPI_END - PC_ACPI);
	what.vcpu_count = VACPI_VCPUS_MAX;
	make();
	EXPECT_LE(used, PC_ACPI_END - PC_ACPI);
}

TEST_F(Vacpi, numbers_out_of_range_are_refused)
{
	const auto answer = [&](struct vacpi asked, u64 address) {
		return vacpi_write(&asked, buffer.data(), buffer.size(), address, &used);
	};

	EXPECT_EQ(answer({0, 0}, base), INVALID);
	EXPECT_EQ(answer({VACPI_VCPUS_MAX + 1, 0}, base), INVALID);
	EXPECT_EQ(answer({1, 0x1001}, base), INVALID);
	EXPECT_EQ(answer({1, 0}, base + 8), INVALID);
	EXPECT_EQ(answer({1, 0x1000}, base + 16), OK);
}

} // namespace
