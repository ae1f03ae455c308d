/* Which files x86 boots, where they lie in the guest's RAM, and what their kernels read there. */
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

extern "C" {
#include "../../arch/x86_64/pc_boot.h"
#include "../../arch/x86_64/pc_image.h"
#include "../../arch/x86_64/pc_map.h"
}

namespace
{

using Bytes = std::vector<u8>;

void put_le(Bytes &bytes, size_t offset, u64 value, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		bytes.at(offset + i) = (u8)(value >> 8 * i);
	}
}

u64 get_le(const Bytes &bytes, size_t offset, size_t size)
{
	u64 value = 0;

	for (size_t i = 0; i < size; i++) {
		value |= (u64)bytes.at(offset + i) << 8 * i;
	}
	return value;
}

/* No known mark, no text. */
Bytes flat_binary(size_t size)
{
	Bytes bytes(size);

	for (size_t i = 0; i < size; i++) {
		bytes[i] = i % 4 == 3 ? 0x14 : 0;
	}
	return bytes;
}

/* A bzImage by the offsets of boot.rst, with numbers like those of Debian's 6.1. */
Bytes linux_image(size_t kernel_size = KIB(64))
{
	const size_t setup = 40 * 512;
	Bytes bytes(setup + kernel_size, 0x90);

	std::fill(bytes.begin(), bytes.begin() + setup, 0);
	bytes[0x1ef] = 0xff; /* the sentinel, which must not get into boot_params */
	bytes[0x1f1] = 39;
	put_le(bytes, 0x1f4, kernel_size / 16, 4);
	put_le(bytes, 0x1fe, 0xaa55, 2);
	put_le(bytes, 0x200, 0x6aeb, 2);
	memcpy(&bytes[0x202], "HdrS", 4);
	put_le(bytes, 0x206, 0x020f, 2);
	bytes[0x211] = 0x83; /* LOADED_HIGH, KASLR_FLAG, CAN_USE_HEAP */
	put_le(bytes, 0x22c, 0x7fffffff, 4);
	put_le(bytes, 0x230, MIB(2), 4);
	bytes[0x234] = 1;
	put_le(bytes, 0x236, 0x7f, 2);
	put_le(bytes, 0x238, 2047, 4);
	put_le(bytes, 0x258, MIB(16), 8);
	put_le(bytes, 0x260, 0x3378000, 4);
	put_le(bytes, 0x268, 0x12345678, 4); /* kernel_info_offset, the last of 2.15 */
	bytes[0x26c] = 0xcc;		     /* code behind the header */
	return bytes;
}

Bytes linux_with(size_t offset, u64 value, size_t size)
{
	Bytes bytes = linux_image();

	put_le(bytes, offset, value, size);
	return bytes;
}

void put_multiboot(Bytes &bytes, size_t at, u32 flags)
{
	put_le(bytes, at, 0x1badb002, 4);
	put_le(bytes, at + 4, flags, 4);
	put_le(bytes, at + 8, 0u - 0x1badb002u - flags, 4);
}

struct Part {
	u64 physical, file_size, size;
	u64 virtual_address = ~(u64)0; /* the physical one */
};

/* Headers in the first page, the multiboot header at 0x400, each part on a page of its own. */
Bytes elf_image(const std::vector<Part> &parts, u64 entry, bool is_64 = false, u32 flags = 3)
{
	Bytes bytes(0x1000, 0);
	size_t header = is_64 ? 64 : 52, program = is_64 ? 56 : 32;

	memcpy(&bytes[0], "\x7f\x45LF", 4);
	bytes[4] = is_64 ? 2 : 1;
	bytes[5] = bytes[6] = 1;
	put_le(bytes, 16, 2, 2);
	put_le(bytes, 18, is_64 ? 62 : 3, 2);
	put_le(bytes, 24, entry, is_64 ? 8 : 4);
	put_le(bytes, is_64 ? 32 : 28, header, is_64 ? 8 : 4);
	put_le(bytes, is_64 ? 54 : 42, program, 2);
	put_le(bytes, is_64 ? 56 : 44, parts.size(), 2);
	put_multiboot(bytes, 0x400, flags);
	for (size_t i = 0; i < parts.size(); i++) {
		const Part &p = parts[i];
		size_t at = header + i * program, offset = bytes.size();
		u64 where = p.virtual_address == ~(u64)0 ? p.physical : p.virtual_address;

		put_le(bytes, at, 1, 4);
		put_le(bytes, at + (is_64 ? 8 : 4), offset, is_64 ? 8 : 4);
		put_le(bytes, at + (is_64 ? 16 : 8), where, is_64 ? 8 : 4);
		put_le(bytes, at + (is_64 ? 24 : 12), p.physical, is_64 ? 8 : 4);
		put_le(bytes, at + (is_64 ? 32 : 16), p.file_size, is_64 ? 8 : 4);
		put_le(bytes, at + (is_64 ? 40 : 20), p.size, is_64 ? 8 : 4);
		bytes.resize(offset + p.file_size, 0x90);
	}
	return bytes;
}

/* A kernel of one part at 1 MiB, as most are. */
Bytes small_elf()
{
	return elf_image({{MIB(1), 0x3000, 0x5000}}, MIB(1) + 0x40);
}

/* A flat multiboot kernel: its header, at 0x20, has addresses. */
Bytes addressed_image(u32 header, u32 load, u32 load_end, u32 bss_end, u32 entry,
		      size_t size = 0x2000)
{
	Bytes bytes = flat_binary(size);

	put_multiboot(bytes, 0x20, 0x10003);
	put_le(bytes, 0x2c, header, 4);
	put_le(bytes, 0x30, load, 4);
	put_le(bytes, 0x34, load_end, 4);
	put_le(bytes, 0x38, bss_end, 4);
	put_le(bytes, 0x3c, entry, 4);
	return bytes;
}

struct config_module module_of(const Bytes &bytes, u64 address = 0)
{
	return {"file", bytes.data(), bytes.size(), address};
}

struct Answer {
	enum status status;
	struct pc_layout layout;
	std::string why;
};

Answer lay_out(const struct config_module &kernel, const struct config_module &ramdisk, u64 memory)
{
	Answer answer = {};
	char why[192] = "";

	answer.status =
		pc_image_layout(&kernel, &ramdisk, memory, &answer.layout, why, sizeof(why));
	answer.why = why;
	return answer;
}

Answer lay_out(const struct config_module &kernel, u64 memory)
{
	return lay_out(kernel, {"", nullptr, 0, 0}, memory);
}

std::string refusal(const Bytes &bytes)
{
	Bytes exact(bytes); /* no room behind its end */
	Answer answer = lay_out(module_of(exact), GIB(4));

	EXPECT_EQ(answer.status, INVALID);
	return answer.why;
}

using Span = std::pair<u64, u64>;

/* All that has a place, parts of the kernel one by one. */
std::vector<Span> spans_of(const struct pc_layout &l)
{
	std::vector<Span> spans = {
		{0, PAGE_SIZE},
		{l.boot_info.v, l.boot_info.v + PAGE_SIZE},
		{l.command_line.v, l.command_line.v + PAGE_SIZE},
		{l.gdt.v, l.gdt.v + PAGE_SIZE},
		{l.page_tables.v, l.page_tables.v + PC_PAGE_TABLES_COUNT * PAGE_SIZE},
		{l.acpi.v, l.acpi.v + l.acpi_size},
		{PC_MAILBOX_PAGE_TABLES, PC_MAILBOX_PAGE_TABLES + PC_PAGE_TABLES_COUNT * PAGE_SIZE},
		{l.reset_code.v, l.reset_code.v + PC_RESET_CODE_SIZE},
	};

	for (u32 i = 0; i < l.segment_count; i++) {
		spans.push_back({l.segments[i].start, l.segments[i].start + l.segments[i].size});
	}
	if (l.ramdisk_size != 0) {
		spans.push_back({l.ramdisk.v, l.ramdisk.v + l.ramdisk_size});
	}
	return spans;
}

/* What every layout promises, whatever made it. */
void expect_sound(const Answer &answer, u64 memory)
{
	const struct pc_layout &l = answer.layout;
	const std::vector<Span> spans = spans_of(l);
	bool has_entry = false;

	ASSERT_EQ(answer.status, OK) << answer.why;
	EXPECT_EQ(l.ram.low + l.ram.high, memory);
	for (size_t i = 0; i < spans.size(); i++) {
		EXPECT_LE(spans[i].second, l.ram.low);
		for (size_t j = 0; j < i; j++) {
			EXPECT_TRUE(spans[i].second <= spans[j].first ||
				    spans[j].second <= spans[i].first)
				<< std::hex << spans[i].first << " and " << spans[j].first;
		}
	}
	for (u32 i = 0; i < l.segment_count; i++) {
		const struct pc_segment &s = l.segments[i];

		EXPECT_LE(s.file_size, s.size);
		EXPECT_GE(s.start, l.kernel.v);
		EXPECT_LE(s.start + s.size, l.kernel.v + l.kernel_extent);
		has_entry |= l.entry.v >= s.start && l.entry.v < s.start + s.size;
	}
	EXPECT_TRUE(has_entry);
	EXPECT_EQ(l.ramdisk.v % PAGE_SIZE, 0u);
	EXPECT_EQ(l.acpi.v % 16, 0u);
}

/* ---- The map --------------------------------------------------------------------------------- */

TEST(PcMap, ram_beyond_3_gib_goes_on_at_4_gib)
{
	struct pc_ram small = pc_ram_split(MIB(2)), edge = pc_ram_split(GIB(3)),
		      large = pc_ram_split(GIB(3) + MIB(2)),
		      largest = pc_ram_split(CONFIG_MEMORY_MAX);

	EXPECT_EQ(small.low, MIB(2));
	EXPECT_EQ(small.high, 0u);
	EXPECT_EQ(edge.low, GIB(3));
	EXPECT_EQ(edge.high, 0u);
	EXPECT_EQ(large.low, GIB(3));
	EXPECT_EQ(large.high, MIB(2));
	EXPECT_EQ(largest.high, CONFIG_MEMORY_MAX - GIB(3));
}

TEST(PcMap, ranges_are_ordered_and_leave_the_bios_area_out)
{
	for (u64 memory : {MIB(2), MIB(512), GIB(3), GIB(5), (u64)CONFIG_MEMORY_MAX}) {
		struct pc_range ranges[PC_RANGES_MAX] = {};
		u32 count = pc_ram_ranges(pc_ram_split(memory), ranges);
		u64 usable = 0, reached = 0;

		ASSERT_EQ(count, memory > GIB(3) ? 4u : 3u);
		for (u32 i = 0; i < count; i++) {
			EXPECT_GE(ranges[i].start, reached);
			EXPECT_GT(ranges[i].size, 0u);
			reached = ranges[i].start + ranges[i].size;
			usable += ranges[i].type == PC_RANGE_USABLE ? ranges[i].size : 0;
		}
		EXPECT_EQ(ranges[0].size, 0x9fc00u);
		EXPECT_EQ(ranges[1].type, PC_RANGE_RESERVED);
		EXPECT_EQ(ranges[2].start, MIB(1));
		EXPECT_EQ(usable, memory - (MIB(1) - 0x9fc00));
	}
}

/* ---- bzImages -------------------------------------------------------------------------------- */

TEST(PcImage, a_bzimage_lies_at_its_preferred_address_and_is_entered_at_its_64_bit_entry)
{
	Bytes image = linux_image();
	Answer answer = lay_out(module_of(image), MIB(128));
	const struct pc_layout &l = answer.layout;

	expect_sound(answer, MIB(128));
	EXPECT_EQ(l.kind, PC_LINUX);
	EXPECT_EQ(l.entry.v, MIB(16) + 0x200);
	EXPECT_EQ(l.kernel.v, MIB(16));
	EXPECT_EQ(l.kernel_extent, 0x3378000u);
	EXPECT_EQ(l.segment_count, 1u);
	EXPECT_EQ(l.segments[0].file_offset, 40u * 512);
	EXPECT_EQ(l.segments[0].file_size, KIB(64));
	EXPECT_EQ(l.command_line_max, 2047u);
}

TEST(PcImage, what_follows_the_kernel_in_its_file_is_loaded_too)
{
	Bytes image = linux_with(0x260, 0, 4);

	image.resize(image.size() + 1472, 0x30);
	Answer answer = lay_out(module_of(image), MIB(128));

	expect_sound(answer, MIB(128));
	EXPECT_EQ(answer.layout.kernel_extent, KIB(64) + 1472);
	EXPECT_EQ(answer.layout.segments[0].file_size, KIB(64) + 1472);
}

TEST(PcImage, no_setup_sectors_means_four)
{
	Bytes image = linux_with(0x1f1, 0, 1);
	Answer answer = lay_out(module_of(image), MIB(128));

	expect_sound(answer, MIB(128));
	EXPECT_EQ(answer.layout.segments[0].file_offset, 5u * 512);
}

TEST(PcImage, a_preferred_address_off_its_alignment_is_rounded_up_if_the_kernel_can_be_moved)
{
	Bytes image = linux_with(0x258, MIB(17), 8);

	EXPECT_EQ(lay_out(module_of(image), MIB(128)).layout.kernel.v, MIB(18));
	image[0x234] = 0;
	EXPECT_EQ(lay_out(module_of(image), MIB(128)).layout.kernel.v, MIB(17));
}

TEST(PcImage, bzimages_that_cannot_be_entered_are_refused_with_what_is_wrong)
{
	EXPECT_EQ(refusal(linux_with(0x206, 0x020b, 2)),
		  "a bzImage of boot protocol 2.11; give one of 2.12 or newer (Linux 3.8)");
	EXPECT_EQ(refusal(linux_with(0x206, 0x0204, 2)),
		  "a bzImage of boot protocol 2.04; give one of 2.12 or newer (Linux 3.8)");
	EXPECT_EQ(refusal(linux_with(0x236, 0x7e, 2)),
		  "a bzImage without a 64-bit entry; give one for x86-64");
	EXPECT_EQ(refusal(linux_with(0x211, 0, 1)),
		  "a zImage, which loads below 1 MiB; give a bzImage");
	EXPECT_EQ(refusal(linux_with(0x1fe, 0, 2)),
		  "a bzImage without its boot flag 0xaa55: damaged?");
	EXPECT_EQ(refusal(linux_with(0x1f4, 0x20, 4)),
		  "a bzImage without a kernel in it: damaged?");
	EXPECT_EQ(refusal(linux_with(0x201, 0x20, 1)),
		  "a bzImage whose header is cut short; copy it again");
	for (u64 alignment : {(u64)0, (u64)512, MIB(3)}) {
		EXPECT_NE(refusal(linux_with(0x230, alignment, 4)).find("kernel_alignment is 0x"),
			  std::string::npos);
	}
	for (u64 address : {(u64)0, MIB(1) - 1, GIB(3), ~(u64)0}) {
		EXPECT_NE(refusal(linux_with(0x258, address, 8)).find("wants to lie at 0x"),
			  std::string::npos);
	}
}

TEST(PcImage, the_oldest_protocol_with_a_64_bit_entry_is_good)
{
	Bytes image = linux_with(0x206, 0x020c, 2);

	image[0x201] = 0x66; /* up to and with handover_offset */
	expect_sound(lay_out(module_of(image), MIB(128)), MIB(128));
}

TEST(PcImage, a_bzimage_of_any_shorter_length_is_refused)
{
	Bytes image = linux_image(KIB(2));

	for (size_t size = 0x206; size < image.size(); size += size < 0x400 ? 1 : 101) {
		Bytes cut(image.begin(), image.begin() + (long)size);

		EXPECT_NE(refusal(cut).find("cut short"), std::string::npos) << size;
	}
	image.pop_back();
	EXPECT_EQ(refusal(image),
		  "a bzImage cut short: it has 22527 bytes of 22528; copy it again");
}

/* ---- Multiboot kernels -------------------------------------------------------------------------
 */

TEST(PcImage, an_elf_of_either_class_lies_where_its_program_headers_say)
{
	for (bool is_64 : {false, true}) {
		Bytes image = elf_image({{MIB(4), 0x2345, 0x9000}, {MIB(5), 0, 0x1000}},
					MIB(4) + 0x123, is_64);
		Answer answer = lay_out(module_of(image), MIB(8));
		const struct pc_layout &l = answer.layout;

		expect_sound(answer, MIB(8));
		EXPECT_EQ(l.kind, PC_MULTIBOOT);
		EXPECT_EQ(l.entry.v, MIB(4) + 0x123);
		EXPECT_EQ(l.kernel.v, MIB(4));
		EXPECT_EQ(l.kernel_extent, MIB(1) + 0x1000);
		ASSERT_EQ(l.segment_count, 2u);
		EXPECT_EQ(l.segments[0].file_offset, 0x1000u);
		EXPECT_EQ(l.segments[0].file_size, 0x2345u);
		EXPECT_EQ(l.segments[0].size, 0x9000u);
		EXPECT_EQ(l.segments[1].file_size, 0u);
	}
}

TEST(PcImage, an_entry_at_a_virtual_address_is_found_where_its_part_lies)
{
	const u64 high = 0xc0000000;
	Bytes image = elf_image({{MIB(1), 0x1000, 0x1000, high}, {MIB(2), 16, 16, high + MIB(1)}},
				high + MIB(1) + 8);

	EXPECT_EQ(lay_out(module_of(image), MIB(4)).layout.entry.v, MIB(2) + 8);
	image = elf_image({{MIB(1), 0x1000, 0x1000, high}}, MIB(1) + 8);
	EXPECT_EQ(lay_out(module_of(image), MIB(4)).layout.entry.v, MIB(1) + 8);
	image = elf_image({{MIB(1), 0x1000, 0x1000, high}}, high + 0x1000);
	EXPECT_EQ(refusal(image), "a multiboot kernel whose entry 0xc0001000 is in no part of it");
}

TEST(PcImage, program_headers_that_load_nothing_are_passed_over)
{
	Bytes image = elf_image({{MIB(1), 16, 16}, {0, 0, 0}, {1, 16, 16}}, MIB(1));

	put_le(image, 52 + 2 * 32, 0x6474e551, 4); /* PT_GNU_STACK */
	Answer answer = lay_out(module_of(image), MIB(4));

	expect_sound(answer, MIB(4));
	EXPECT_EQ(answer.layout.segment_count, 1u);
}

TEST(PcImage, the_headers_own_addresses_are_used_rather_than_elf)
{
	Bytes image = addressed_image(0x200020, 0x200000, 0x201000, 0x208000, 0x200100);
	Answer answer = lay_out(module_of(image), MIB(4));

	expect_sound(answer, MIB(4));
	EXPECT_EQ(answer.layout.entry.v, 0x200100u);
	EXPECT_EQ(answer.layout.segments[0].start, 0x200000u);
	EXPECT_EQ(answer.layout.segments[0].size, 0x8000u);
	EXPECT_EQ(answer.layout.segments[0].file_offset, 0u);
	EXPECT_EQ(answer.layout.segments[0].file_size, 0x1000u);

	/* Zero: all of the file, and nothing behind it. What is loaded begins at the header. */
	image = addressed_image(0x200000, 0x200000, 0, 0, 0x200100);
	memcpy(&image[0], "\x7f\x45LF", 4);
	answer = lay_out(module_of(image), MIB(4));
	expect_sound(answer, MIB(4));
	EXPECT_EQ(answer.layout.segments[0].file_offset, 0x20u);
	EXPECT_EQ(answer.layout.segments[0].file_size, 0x1fe0u);
	EXPECT_EQ(answer.layout.segments[0].size, 0x1fe0u);
}

TEST(PcImage, addresses_that_contradict_each_other_are_refused)
{
	const std::string line =
		"a multiboot kernel whose header's addresses contradict each other";

	EXPECT_EQ(refusal(addressed_image(0x200020, 0x200021, 0, 0, 0x200100)), line);
	EXPECT_EQ(refusal(addressed_image(0x200021, 0x200000, 0, 0, 0x200100)), line);
	EXPECT_EQ(refusal(addressed_image(0x200020, 0x200000, 0x200000, 0, 0x200100)), line);
	EXPECT_EQ(refusal(addressed_image(0x200020, 0x200000, 0x1, 0, 0x200100)), line);
	EXPECT_EQ(refusal(addressed_image(0x200020, 0x200000, 0x202000, 0x201fff, 0x200100)), line);
	EXPECT_EQ(refusal(addressed_image(0x200020, 0x200000, 0, 0x200001, 0x200100)), line);
	EXPECT_EQ(refusal(addressed_image(0x200020, 0x200000, 0x202001, 0, 0x200100)),
		  "a multiboot kernel cut short: 0x2001 bytes from 0x0 on are not in the file; "
		  "copy it again");
	EXPECT_EQ(refusal(addressed_image(0x200020, 0x200000, 0, 0, 0x202000)),
		  "a multiboot kernel whose entry 0x202000 is in no part of it");
	EXPECT_EQ(refusal(addressed_image(0x200020, 0x200000, 0, 0, 0x1fffff)),
		  "a multiboot kernel whose entry 0x1fffff is in no part of it");
}

TEST(PcImage, a_multiboot_header_counts_only_within_8_kib_on_a_word_with_its_checksum)
{
	const auto is_known = [](size_t at) {
		Bytes bytes = flat_binary(KIB(12));

		put_multiboot(bytes, at, 0);
		return refusal(bytes).find("no ELF file") != std::string::npos;
	};
	Bytes bytes = flat_binary(KIB(12));

	EXPECT_TRUE(is_known(0));
	EXPECT_TRUE(is_known(KIB(8) - 12));
	EXPECT_FALSE(is_known(KIB(8) - 8));
	EXPECT_FALSE(is_known(KIB(8)));
	EXPECT_FALSE(is_known(0x102));
	put_multiboot(bytes, 0x100, 0);
	bytes[0x108] ^= 1;
	EXPECT_EQ(refusal(bytes), "neither a bzImage nor a multiboot-1 kernel; give a bzImage or a "
				  "multiboot-1 kernel");
}

TEST(PcImage, multiboot_kernels_that_require_what_is_not_there_are_refused)
{
	EXPECT_EQ(refusal(elf_image({{MIB(1), 16, 16}}, MIB(1), false, 7)),
		  "a multiboot kernel that requires a video mode; build it without");
	EXPECT_EQ(refusal(elf_image({{MIB(1), 16, 16}}, MIB(1), false, 0x8003)),
		  "a multiboot kernel that requires what multiboot 1 does not have (flags 0x8003); "
		  "build it without");

	/* What is above bit 16 is optional. */
	Bytes image = elf_image({{MIB(1), 16, 16}}, MIB(1), false, 0xfffe0000);

	expect_sound(lay_out(module_of(image), MIB(2)), MIB(2));
}

TEST(PcImage, parts_where_no_guest_has_free_ram_are_refused)
{
	for (const Part &part : std::vector<Part>{{0, 16, 16},
						  {PC_BOOT_AREA_END - 1, 16, 16},
						  {0x9fbf8, 16, 16},
						  {0xb8000, 16, 16},
						  {MIB(1) - 8, 16, 16},
						  {0x9000, 16, MIB(4)},
						  {GIB(3) - 8, 16, 16},
						  {0xd0000000, 16, 16}}) {
		EXPECT_NE(refusal(elf_image({part}, part.physical))
				  .find("link it between 1 MiB and 3 GiB"),
			  std::string::npos)
			<< std::hex << part.physical;
	}
	EXPECT_NE(refusal(elf_image({{0xffffffff80100000, 16, 16}}, 0, true))
			  .find("for 0xffffffff80100000; link it"),
		  std::string::npos);
	EXPECT_NE(refusal(elf_image({{MIB(1), 16, ~(u64)0 - 8}}, MIB(1), true)).find("link it"),
		  std::string::npos);

	Bytes image =
		elf_image({{PC_BOOT_AREA_END, 16, 0x9fc00 - PC_BOOT_AREA_END}}, PC_BOOT_AREA_END);

	expect_sound(lay_out(module_of(image), MIB(2)), MIB(2));
}

TEST(PcImage, damaged_elf_files_are_refused)
{
	Bytes image = elf_image({{MIB(1), 0x100, 0x80}}, MIB(1));

	EXPECT_EQ(refusal(image),
		  "a multiboot kernel with a part larger in the file than in memory");
	EXPECT_EQ(refusal(elf_image({{MIB(1), 64, 64}, {MIB(1) + 63, 16, 16}}, MIB(1))),
		  "a multiboot kernel of which two parts lie at 0x10003f");
	EXPECT_EQ(refusal(elf_image({}, MIB(1))),
		  "an ELF file without program headers; give a linked kernel");
	image = small_elf();
	put_le(image, 18, 183, 2);
	EXPECT_EQ(refusal(image), "an ELF file for machine 183; give one for x86");
	image = small_elf();
	put_le(image, 42, 31, 2);
	EXPECT_EQ(refusal(image), "an ELF file without program headers; give a linked kernel");
	image = small_elf();
	put_le(image, 28, image.size() - 31, 4);
	EXPECT_NE(refusal(image).find("cut short"), std::string::npos);
	image = small_elf();
	put_le(image, 52 + 4, 0xffffffff, 4);
	EXPECT_NE(refusal(image).find("cut short"), std::string::npos);
	for (size_t offset : {4, 5}) {
		image = small_elf();
		image[offset] = 3;
		EXPECT_NE(refusal(image).find("is no ELF file"), std::string::npos);
	}
}

TEST(PcImage, more_parts_than_are_kept_are_refused)
{
	std::vector<Part> parts;

	for (u64 i = 0; i < PC_SEGMENTS_MAX; i++) {
		parts.push_back({MIB(2) - i * KIB(4), 16, 16});
	}
	Bytes image = elf_image(parts, MIB(2));

	expect_sound(lay_out(module_of(image), MIB(4)), MIB(4));
	parts.push_back({MIB(3), 16, 16});
	EXPECT_EQ(refusal(elf_image(parts, MIB(2))),
		  "a multiboot kernel of more than 5 parts; link it into fewer");
}

TEST(PcImage, a_multiboot_kernel_of_any_shorter_length_is_refused)
{
	for (const Bytes &image :
	     {elf_image({{MIB(1), 0x800, 0x800}}, MIB(1)),
	      elf_image({{MIB(1), 0x800, 0x800}}, MIB(1), true),
	      addressed_image(0x200020, 0x200000, 0x201000, 0x208000, 0x200100, 0x1000)}) {
		for (size_t size = 0; size < image.size(); size += size < 0x40 ? 1 : 61) {
			refusal(Bytes(image.begin(), image.begin() + (long)size));
		}
		EXPECT_NE(refusal(Bytes(image.begin(), image.end() - 1)).find("cut short"),
			  std::string::npos);
	}
}

/* ---- Other files -------------------------------------------------------------------------------
 */

TEST(PcImage, files_that_would_not_run_are_refused_with_what_to_do)
{
	struct Case {
		size_t offset;
		std::string mark, line;
	};
	const std::vector<Case> cases = {
		{0, "\x1f\x8b", "gzip-compressed; unpack it: gunzip -c FILE > bzImage"},
		{0, "\x28\xb5\x2f\xfd", "zstd-compressed; unpack it: zstd -dc FILE > bzImage"},
		{0, "\x7f\x45LF",
		 "an ELF file; it needs a multiboot-1 header in its first 8 KiB; of a vmlinux give "
		 "the bzImage"},
		{0, "070701", "a cpio archive; is it the ramdisk?"},
		{0x38, "ARM\x64", "an arm64 Image; give a bzImage for x86-64"},
		{0x38, "RSC\x05", "a RISC-V Image; give a bzImage for x86-64"},
		{0, "MZ", "an EFI program; give a bzImage or a multiboot-1 kernel"},
		{0, "\x80",
		 "neither a bzImage nor a multiboot-1 kernel; give a bzImage or a multiboot-1 "
		 "kernel"},
	};

	for (const Case &c : cases) {
		Bytes bytes = flat_binary(4096);

		memcpy(&bytes[c.offset], c.mark.data(), c.mark.size());
		EXPECT_EQ(refusal(bytes), c.line);
	}
	EXPECT_EQ(refusal({}), "an empty file");
	EXPECT_EQ(refusal(Bytes(100, '#')), "a text file; give a bzImage or a multiboot-1 kernel");
}

TEST(PcImage, no_byte_of_a_header_makes_a_file_be_read_beyond_its_end)
{
	u32 seed = 1;

	for (const Bytes &image : {linux_image(KIB(2)), elf_image({{MIB(1), 64, 64}}, MIB(1)),
				   elf_image({{MIB(1), 64, 64}}, MIB(1), true),
				   addressed_image(0x200020, 0x200000, 0, 0, 0x200100, 0x100)}) {
		for (int i = 0; i < 4000; i++) {
			Bytes bytes = image;

			for (int j = 0; j < 3; j++) {
				seed = seed * 1664525 + 1013904223;
				bytes[(seed >> 8) % std::min<size_t>(bytes.size(), 0x270)] =
					(u8)(seed >> 24);
			}
			Answer answer = lay_out(module_of(bytes), GIB(4));

			if (answer.status == OK) {
				expect_sound(answer, GIB(4));
				for (u32 s = 0; s < answer.layout.segment_count; s++) {
					EXPECT_LE(answer.layout.segments[s].file_offset +
							  answer.layout.segments[s].file_size,
						  bytes.size());
				}
			} else {
				EXPECT_NE(answer.why, "");
			}
		}
	}
}

/* ---- Places ---------------------------------------------------------------------------------- */

TEST(PcImage, the_ramdisk_follows_the_kernel_on_the_next_page)
{
	Bytes image = linux_with(0x260, 0x3378001, 4), elf = small_elf(), ramdisk(1300000, 1);
	Answer answer = lay_out(module_of(image), module_of(ramdisk), MIB(512));

	expect_sound(answer, MIB(512));
	EXPECT_EQ(answer.layout.ramdisk.v, MIB(16) + 0x3379000);
	answer = lay_out(module_of(elf), module_of(ramdisk), MIB(512));
	expect_sound(answer, MIB(512));
	EXPECT_EQ(answer.layout.ramdisk.v, MIB(1) + 0x5000);
}

TEST(PcImage, the_ramdisk_touches_no_more_blocks_than_at_the_top_of_ram)
{
	const auto blocks = [](u64 start, u64 end) {
		return (end - 1) / MIB(2) - start / MIB(2) + 1;
	};

	for (u64 extent : {MIB(4), MIB(4) + KIB(4), MIB(6) - KIB(4)}) {
		Bytes image = linux_with(0x260, extent, 4);

		for (size_t size : {(u64)1, MIB(1), MIB(2), MIB(2) + 1, MIB(3)}) {
			Bytes ramdisk(size, 1);
			Answer answer = lay_out(module_of(image), module_of(ramdisk), MIB(64));
			const struct pc_layout &l = answer.layout;
			u64 kernel_end = l.kernel.v + l.kernel_extent;

			expect_sound(answer, MIB(64));
			EXPECT_LE(blocks(l.kernel.v, l.ramdisk.v + size),
				  blocks(l.kernel.v, kernel_end) +
					  blocks(MIB(64) - align_up(size, KIB(4)), MIB(64)));
		}
	}
}

TEST(PcImage, a_ramdisk_without_room_behind_the_kernel_lies_below_it)
{
	Bytes image = linux_with(0x260, MIB(4), 4), ramdisk(MIB(3) + 1, 1);
	Answer answer = lay_out(module_of(image), module_of(ramdisk), MIB(22));

	expect_sound(answer, MIB(22));
	EXPECT_EQ(answer.layout.ramdisk.v, MIB(13) - KIB(4));

	/* Or where the kernel would not look for it. */
	put_le(image, 0x22c, MIB(15) - 1, 4);
	answer = lay_out(module_of(image), module_of(ramdisk), MIB(64));
	expect_sound(answer, MIB(64));
	EXPECT_EQ(answer.layout.ramdisk.v, MIB(12) - KIB(4));
}

TEST(PcImage, every_memory_from_what_a_refusal_asks_for_is_enough_and_less_is_not)
{
	for (size_t ramdisk_size : {KIB(0), (u64)5, MIB(3) + 1, MIB(15), MIB(15) + 1, MIB(18)}) {
		for (const Bytes &bytes :
		     {linux_with(0x260, MIB(5) - 7, 4), linux_with(0x258, MIB(2), 8), small_elf(),
		      elf_image({{0x20000, 16, 16}}, 0x20000),
		      elf_image({{MIB(30), 16, MIB(3)}}, MIB(30))}) {
			Bytes ramdisk(ramdisk_size, 1);
			u64 memory = 0;
			Answer answer = {}, before = {};

			do {
				before = answer;
				memory += MIB(2);
				answer = lay_out(module_of(bytes), module_of(ramdisk), memory);
				if (answer.status != OK) {
					EXPECT_EQ(answer.status, FULL);
				}
			} while (answer.status != OK && memory < MIB(128));
			expect_sound(answer, memory);
			if (memory > MIB(2)) {
				EXPECT_NE(before.why.find("need at least " +
							  std::to_string(memory >> 20) + " MiB"),
					  std::string::npos)
					<< before.why;
			}
			for (u64 more : {memory + MIB(2), MIB(256), GIB(3), GIB(200)}) {
				expect_sound(lay_out(module_of(bytes), module_of(ramdisk), more),
					     more);
			}
		}
	}
}

TEST(PcImage, sizes_that_no_memory_can_hold_do_not_wrap)
{
	Bytes image = linux_with(0x260, 0xffffffff, 4), elf = small_elf();
	struct config_module ramdisk = {"r", image.data(), ~(u64)0, 0};

	EXPECT_EQ(lay_out(module_of(image), GIB(255)).status, FULL);
	EXPECT_NE(lay_out(module_of(image), GIB(255)).why.find("fit into no guest"),
		  std::string::npos);
	for (u64 address : {(u64)0, MIB(8), ~(u64)0 << 12}) {
		ramdisk.address = address;
		for (u64 size : {~(u64)0, GIB(3), GIB(4) + 5}) {
			ramdisk.size = size;
			EXPECT_EQ(lay_out(module_of(elf), ramdisk, GIB(255)).status,
				  address == 0 ? FULL : EXISTS);
		}
	}
}

TEST(PcImage, a_bzimage_goes_where_it_is_wanted_if_that_is_not_below_its_preferred_address)
{
	Bytes image = linux_with(0x260, MIB(5), 4);
	Answer answer = lay_out(module_of(image, MIB(22)), MIB(64));

	expect_sound(answer, MIB(64));
	EXPECT_EQ(answer.layout.kernel.v, MIB(22));
	EXPECT_EQ(answer.layout.entry.v, MIB(22) + 0x200);
	expect_sound(lay_out(module_of(image, MIB(16)), MIB(64)), MIB(64));
	expect_sound(lay_out(module_of(image, MIB(58)), MIB(64)), MIB(64));
	EXPECT_EQ(lay_out(module_of(image, MIB(17)), MIB(64)).why, "want 0x1000000 + n * 0x200000");
	EXPECT_EQ(lay_out(module_of(image, MIB(60)), MIB(64)).why,
		  "a kernel of 0x500000 bytes there leaves low RAM, which ends at 0x4000000");
	for (u64 wrong : {(u64)0x1000, MIB(14), MIB(17), MIB(60), GIB(4), ~(u64)0 << 21}) {
		EXPECT_EQ(lay_out(module_of(image, wrong), MIB(64)).status, DENIED) << wrong;
	}
	EXPECT_EQ(lay_out(module_of(image, GIB(4)), GIB(8)).status, DENIED);
}

TEST(PcImage, a_kernel_that_cannot_be_moved_may_be_wanted_where_it_lies)
{
	Bytes fixed = linux_with(0x234, 0, 1), elf = small_elf();

	expect_sound(lay_out(module_of(fixed, MIB(16)), MIB(128)), MIB(128));
	EXPECT_EQ(lay_out(module_of(fixed, MIB(18)), MIB(128)).why,
		  "the kernel cannot be moved; want 0x1000000, or leave it out");
	EXPECT_EQ(lay_out(module_of(fixed, MIB(18)), MIB(128)).status, DENIED);
	expect_sound(lay_out(module_of(elf, MIB(1)), MIB(2)), MIB(2));
	EXPECT_EQ(lay_out(module_of(elf, MIB(2)), MIB(128)).status, DENIED);
}

TEST(PcImage, the_ramdisk_goes_where_it_is_wanted_if_nothing_else_lies_there)
{
	Bytes image = linux_with(0x260, MIB(5), 4), ramdisk(MIB(2), 1), tiny(KIB(8), 1);
	const auto place = [&](u64 address, u64 memory = MIB(32)) {
		return lay_out(module_of(image), module_of(ramdisk, address), memory);
	};

	for (u64 address : {MIB(1), MIB(14), MIB(21), MIB(30)}) {
		expect_sound(place(address), MIB(32));
		EXPECT_EQ(place(address).layout.ramdisk.v, address);
	}
	EXPECT_EQ(place(MIB(14) + KIB(4)).why,
		  "ramdisk 0xe01000 to 0x1001000 overlaps kernel 0x1000000 to 0x1500000");
	EXPECT_EQ(place(MIB(8) + 1).why, "not at a 4 KiB boundary");
	EXPECT_EQ(place(MIB(31)).why,
		  "0x200000 bytes there are not inside RAM for a ramdisk, 0x100000 to 0x2000000");
	for (u64 wrong : {(u64)0x1000, KIB(512), MIB(1) - KIB(4), MIB(20), MIB(31), MIB(32), GIB(4),
			  ~(u64)0 << 12}) {
		EXPECT_EQ(place(wrong).status, EXISTS) << std::hex << wrong;
	}
	EXPECT_EQ(place(GIB(2) - MIB(2), GIB(3)).status, OK);
	EXPECT_EQ(place(GIB(2) - MIB(1), GIB(3)).status, EXISTS) << "initrd_addr_max";
	EXPECT_EQ(place(GIB(4), GIB(8)).status, EXISTS);

	Answer low = lay_out(module_of(image), module_of(tiny, PC_BOOT_AREA_END), MIB(32));

	expect_sound(low, MIB(32));
	EXPECT_EQ(lay_out(module_of(image), module_of(tiny, PC_BOOT_AREA_END - KIB(4)), MIB(32))
			  .status,
		  EXISTS);
}

TEST(PcImage, an_address_for_a_ramdisk_that_is_not_there_is_ignored)
{
	Bytes image = linux_image();

	expect_sound(lay_out(module_of(image), {"", nullptr, 0, 0x123}, MIB(128)), MIB(128));
	struct config_module kernel = module_of(image);
	struct pc_layout layout;
	char why[192];

	EXPECT_EQ(pc_image_layout(&kernel, nullptr, MIB(128), &layout, why, sizeof(why)), OK);
	EXPECT_EQ(layout.ramdisk_size, 0u);
}

/* ---- What kernels read -------------------------------------------------------------------------
 */

class PcBoot : public testing::Test
{
      protected:
	Bytes kernel_bytes, ramdisk_bytes = Bytes(5000, 1), area = Bytes(PC_BOOT_AREA_SIZE, 0xaa);
	struct config_module kernel = {};
	Answer answer;
	struct pc_boot boot = {};

	void make(const Bytes &bytes, u64 memory, bool has_ramdisk = true)
	{
		kernel_bytes = bytes;
		kernel = module_of(kernel_bytes);
		answer = has_ramdisk ? lay_out(kernel, module_of(ramdisk_bytes), memory)
				     : lay_out(kernel, memory);
		ASSERT_EQ(answer.status, OK) << answer.why;
		boot = {&answer.layout, &kernel, "console=ttyS0 quiet", "ramdisk.gz"};
		ASSERT_EQ(pc_boot_write(&boot, area.data(), area.size()), OK);
	}

	u64 at(u64 address, size_t size)
	{
		return get_le(area, address - PC_BOOT_AREA, size);
	}

	std::string text(u64 address)
	{
		return reinterpret_cast<const char *>(&area.at(address - PC_BOOT_AREA));
	}

	u64 info(size_t offset, size_t size = 4)
	{
		return at(answer.layout.boot_info.v + offset, size);
	}
};

TEST_F(PcBoot, boot_params_have_the_files_header_and_nothing_else_of_it)
{
	make(linux_image(), MIB(128));
	for (size_t offset :
	     {0x202, 0x206, 0x22c, 0x230, 0x234, 0x236, 0x238, 0x258, 0x260, 0x268}) {
		EXPECT_EQ(info(offset, 1), kernel_bytes[offset]) << offset;
	}
	EXPECT_EQ(info(0x268), 0x12345678u);
	EXPECT_EQ(info(0x26c, 1), 0u) << "code behind the header";
	EXPECT_EQ(info(0x1ef, 1), 0u) << "the sentinel";
	EXPECT_EQ(info(0x0, 8), 0u);
}

TEST_F(PcBoot, a_header_that_claims_to_be_long_stays_in_its_field)
{
	Bytes image = linux_with(0x201, 0xff, 1);

	std::fill(image.begin() + 0x26c, image.begin() + 0x301, 0xcc);
	make(image, MIB(128));
	EXPECT_EQ(info(0x28c), 0xccccccccu);
	EXPECT_EQ(info(0x290), 0u) << "what else the zero page has";
	EXPECT_EQ(info(0x2d0, 8), 0u) << "the map's first address";
}

TEST_F(PcBoot, boot_params_say_what_a_loader_has_to)
{
	make(linux_image(), MIB(128));
	EXPECT_EQ(info(0x210, 1), 0xffu) << "type_of_loader";
	EXPECT_EQ(info(0x211, 1), 1u) << "loadflags";
	EXPECT_EQ(info(0x1fa, 2), 0xffffu) << "vid_mode";
	EXPECT_EQ(info(0x214), MIB(16)) << "code32_start";
	EXPECT_EQ(info(0x218), answer.layout.ramdisk.v);
	EXPECT_EQ(info(0x21c), 5000u);
	EXPECT_EQ(info(0x250, 8), 0u) << "setup_data";
	EXPECT_EQ(info(0x70, 8), answer.layout.acpi.v);
	EXPECT_EQ(info(0xc0, 8), 0u) << "upper halves of the ramdisk's";
	EXPECT_EQ(info(0xc8), 0u);
	EXPECT_EQ(text(info(0x228)), "console=ttyS0 quiet");
}

TEST_F(PcBoot, boot_params_name_no_ramdisk_when_there_is_none)
{
	make(linux_image(), MIB(128), false);
	EXPECT_EQ(info(0x218, 8), 0u);
}

TEST_F(PcBoot, boot_params_tell_the_memory_map)
{
	const u64 rows[4][3] = {{0, 0x9fc00, 1},
				{0x9fc00, 0x100000 - 0x9fc00, 2},
				{MIB(1), GIB(3) - MIB(1), 1},
				{GIB(4), GIB(2), 1}};

	make(linux_image(), GIB(5));
	ASSERT_EQ(info(0x1e8, 1), 4u);
	for (size_t i = 0; i < 4; i++) {
		EXPECT_EQ(info(0x2d0 + i * 20, 8), rows[i][0]);
		EXPECT_EQ(info(0x2d0 + i * 20 + 8, 8), rows[i][1]);
		EXPECT_EQ(info(0x2d0 + i * 20 + 16), rows[i][2]);
	}
	EXPECT_EQ(info(0x2d0 + 4 * 20, 8), 0u);
}

TEST_F(PcBoot, multiboot_information_tells_memory_and_command_line)
{
	make(small_elf(), GIB(5));
	EXPECT_EQ(info(0), BIT(0) | BIT(2) | BIT(3) | BIT(6) | BIT(9));
	EXPECT_EQ(info(4), 639u);
	EXPECT_EQ(info(8), (GIB(3) - MIB(1)) / 1024);
	EXPECT_EQ(text(info(16)), "console=ttyS0 quiet");
	EXPECT_EQ(text(info(64)), "Lamina");

	u64 row = info(48), end = row + info(44), usable = 0;
	u32 count = 0;

	for (; row < end; row += at(row, 4) + 4, count++) {
		EXPECT_EQ(at(row, 4), 20u);
		usable += at(row + 20, 4) == 1 ? at(row + 12, 8) : 0;
		if (count == 3) {
			EXPECT_EQ(at(row + 4, 8), GIB(4));
			EXPECT_EQ(at(row + 12, 8), GIB(2));
		}
	}
	EXPECT_EQ(row, end);
	EXPECT_EQ(count, 4u);
	EXPECT_EQ(usable, GIB(5) - (MIB(1) - 0x9fc00));
}

TEST_F(PcBoot, the_ramdisk_is_multiboots_module_0)
{
	make(small_elf(), MIB(4));
	ASSERT_EQ(info(20), 1u);
	EXPECT_EQ(at(info(24), 4), answer.layout.ramdisk.v);
	EXPECT_EQ(at(info(24) + 4, 4), answer.layout.ramdisk.v + 5000);
	EXPECT_EQ(text(at(info(24) + 8, 4)), "ramdisk.gz");
	make(small_elf(), MIB(4), false);
	EXPECT_EQ(info(20), 0u);
	boot.ramdisk_name = nullptr;
	EXPECT_EQ(pc_boot_write(&boot, area.data(), area.size()), OK);
}

/* Walked as hardware does it, with nothing known but CR3. */
TEST_F(PcBoot, the_first_4_gib_are_mapped_at_their_own_addresses)
{
	make(linux_image(), MIB(128));
	for (u64 address : {(u64)0, MIB(1), MIB(16) + 0x200, GIB(1) - 1, GIB(3) + MIB(5),
			    MIB(4078) + 0x300, GIB(4) - 1}) {
		u64 entry = at(answer.layout.page_tables.v + (address >> 39) * 8, 8);

		ASSERT_EQ(entry & 0xfff, 3u);
		entry = at((entry & ~0xfffull) + (address >> 30 & 511) * 8, 8);
		ASSERT_EQ(entry & 0xfff, 3u);
		entry = at((entry & ~0xfffull) + (address >> 21 & 511) * 8, 8);
		ASSERT_EQ(entry & 0xfff, 0x83u);
		EXPECT_EQ((entry & ~(MIB(2) - 1)) + address % MIB(2), address);
	}
	EXPECT_EQ(at(answer.layout.page_tables.v + 8, 8), 0u);
	EXPECT_EQ(at(answer.layout.page_tables.v + PAGE_SIZE + 4 * 8, 8), 0u) << "at 4 GiB";
}

TEST_F(PcBoot, the_gdt_has_flat_segments_at_the_selectors_that_linux_wants)
{
	make(linux_image(), MIB(128));
	u64 code32 = at(answer.layout.gdt.v + 0x08, 8), code64 = at(answer.layout.gdt.v + 0x10, 8),
	    data = at(answer.layout.gdt.v + 0x18, 8);

	EXPECT_EQ(at(answer.layout.gdt.v, 8), 0u);
	for (u64 segment : {code32, code64, data}) {
		EXPECT_EQ(segment & 0xffff, 0xffffu) << "limit";
		EXPECT_EQ(segment >> 48 & 0xf, 0xfu) << "limit";
		EXPECT_EQ((segment >> 16 & 0xffffff) | (segment >> 56), 0u) << "base";
		EXPECT_EQ(segment >> 47 & 1, 1u) << "present";
		EXPECT_EQ(segment >> 45 & 3, 0u) << "ring";
		EXPECT_EQ(segment >> 55 & 1, 1u) << "granularity";
	}
	EXPECT_EQ(code32 >> 40 & 0x1f, 0x1bu);
	EXPECT_EQ(code64 >> 40 & 0x1f, 0x1bu);
	EXPECT_EQ(data >> 40 & 0x1f, 0x13u);
	EXPECT_EQ(code32 >> 53 & 3, 2u) << "32 bits";
	EXPECT_EQ(code64 >> 53 & 3, 1u) << "64 bits";
	EXPECT_EQ(data >> 53 & 3, 2u);
}

TEST_F(PcBoot, a_jump_to_the_reset_vector_writes_acpis_reset_port)
{
	make(linux_image(), MIB(128));
	EXPECT_EQ(answer.layout.reset_code.v, 0xffff0u);
	EXPECT_EQ(Bytes(pc_reset_code, pc_reset_code + PC_RESET_CODE_SIZE),
		  (Bytes{0xba, 0x04, 0x06, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd}));
}

TEST_F(PcBoot, every_buffer_that_is_too_small_is_refused)
{
	make(linux_image(), MIB(128));
	for (size_t size : {(size_t)0, (size_t)4096, (size_t)PC_BOOT_AREA_SIZE - 1}) {
		Bytes small(size);

		EXPECT_EQ(pc_boot_write(&boot, small.data(), size), FULL);
	}
	Bytes page(4095);

	EXPECT_EQ(pc_boot_params_write(&boot, page.data(), 4095), FULL);
	EXPECT_EQ(pc_boot_gdt_write(page.data(), PC_BOOT_GDT_SIZE - 1), FULL);
	EXPECT_EQ(pc_boot_gdt_write(page.data(), PC_BOOT_GDT_SIZE), OK);
	EXPECT_EQ(pc_boot_page_tables_write(gpa(0x4000), page.data(), 4095), FULL);
	make(small_elf(), MIB(4));
	for (size_t size = 0, fits = 0; size < 512; size++) {
		Bytes small(size);
		enum status status = pc_multiboot_info_write(&boot, small.data(), size);

		if (status == OK && fits == 0) {
			EXPECT_EQ(small.back(), 0) << "the end of the last text";
		}
		fits += status == OK;
		EXPECT_EQ(status, fits != 0 ? OK : FULL) << size;
	}
}

TEST_F(PcBoot, texts_longer_than_their_room_are_refused)
{
	make(linux_with(0x238, 100, 4), MIB(128));
	std::string longest(100, 'a'), too_long(101, 'a'), page(4096, 'a');

	boot.command_line = longest.c_str();
	EXPECT_EQ(pc_boot_write(&boot, area.data(), area.size()), OK);
	EXPECT_EQ(text(info(0x228)), longest);
	boot.command_line = too_long.c_str();
	EXPECT_EQ(pc_boot_write(&boot, area.data(), area.size()), FULL);
	make(linux_with(0x238, ~0u, 4), MIB(128));
	boot.command_line = page.c_str();
	EXPECT_EQ(pc_boot_write(&boot, area.data(), area.size()), FULL);
	make(small_elf(), MIB(4));
	boot.ramdisk_name = page.c_str();
	EXPECT_EQ(pc_boot_write(&boot, area.data(), area.size()), FULL);
	boot.command_line = page.c_str() + 1;
	boot.ramdisk_name = "";
	EXPECT_EQ(pc_boot_write(&boot, area.data(), area.size()), OK);
	EXPECT_EQ(text(info(16)), page.substr(1));
}

} // namespace
