/* Which files arm64 boots, and where they lie in the guest's RAM. */
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

extern "C" {
#include "../../arch/arm64/image.h"
}

namespace
{

const u64 ram_base = 0x40000000;

void put_le(std::vector<u8> &bytes, size_t offset, u64 value, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		bytes[offset + i] = (u8)(value >> 8 * i);
	}
}

/* An arm64 Image: header of 64 bytes (booting.rst), a file of `file_size`. */
std::vector<u8> arm64_image(u64 image_size, u64 text_offset = 0, u64 flags = 2,
			    size_t file_size = 4096)
{
	std::vector<u8> bytes(file_size);

	put_le(bytes, 0, 0x14000010, 4);
	put_le(bytes, 8, text_offset, 8);
	put_le(bytes, 16, image_size, 8);
	put_le(bytes, 24, flags, 8);
	memcpy(&bytes[0x38], "ARM\x64", 4);
	return bytes;
}

/* No known mark, no text. */
std::vector<u8> flat_binary(size_t size)
{
	std::vector<u8> bytes(size);

	for (size_t i = 0; i < size; i++) {
		bytes[i] = i % 4 == 3 ? 0x14 : 0;
	}
	return bytes;
}

struct config_module module_of(const std::vector<u8> &bytes, u64 address = 0)
{
	return {"file", bytes.data(), bytes.size(), address};
}

struct Answer {
	enum status status;
	struct image_layout layout;
	std::string why;
};

Answer lay_out(const struct config_module &kernel, const struct config_module &ramdisk, u64 memory)
{
	Answer answer = {};
	char why[192] = "";

	answer.status = image_layout(&kernel, &ramdisk, memory, &answer.layout, why, sizeof(why));
	answer.why = why;
	return answer;
}

Answer lay_out(const struct config_module &kernel, u64 memory)
{
	return lay_out(kernel, {"", nullptr, 0, 0}, memory);
}

/* What every layout promises, whatever made it. */
void expect_sound(const Answer &answer, u64 memory)
{
	const struct image_layout &l = answer.layout;
	const u64 spans[3][2] = {
		{l.kernel.v, l.kernel.v + l.kernel_extent},
		{l.ramdisk.v, l.ramdisk.v + l.ramdisk_size},
		{l.device_tree.v, l.device_tree.v + l.device_tree_size},
	};

	ASSERT_EQ(answer.status, OK) << answer.why;
	for (int i = 0; i < 3; i++) {
		EXPECT_GE(spans[i][0], ram_base);
		EXPECT_LE(spans[i][1], ram_base + memory);
		for (int j = 0; j < i; j++) {
			EXPECT_TRUE(spans[i][1] <= spans[j][0] || spans[j][1] <= spans[i][0]);
		}
	}
	EXPECT_EQ(l.entry.v, l.kernel.v);
	EXPECT_EQ(l.device_tree.v % 8, 0u);
	EXPECT_EQ(l.ramdisk.v % PAGE_SIZE, 0u);
}

std::string refusal(const std::vector<u8> &bytes)
{
	struct config_module kernel = module_of(bytes);
	char why[192] = "";

	EXPECT_EQ(arch_image_check(&kernel, nullptr, MIB(64), why, sizeof(why)), INVALID);
	return why;
}

/* ---- Files ----------------------------------------------------------------------------------- */

TEST(Image, an_arm64_image_says_what_it_occupies)
{
	auto bytes = arm64_image(MIB(27), 0x10000);
	struct config_module kernel = module_of(bytes);
	struct image_header header;
	char why[192];

	ASSERT_EQ(image_inspect(&kernel, &header, why, sizeof(why)), OK);
	EXPECT_EQ(header.kind, IMAGE_LINUX);
	EXPECT_EQ(header.text_offset, 0x10000u);
	EXPECT_EQ(header.extent, MIB(27));
	EXPECT_TRUE(header.extent_known);
}

TEST(Image, an_image_from_before_3_17_has_the_old_offset_and_an_unknown_extent)
{
	auto bytes = arm64_image(0, 0x12345678);
	struct config_module kernel = module_of(bytes);
	struct image_header header;
	char why[192];

	ASSERT_EQ(image_inspect(&kernel, &header, why, sizeof(why)), OK);
	EXPECT_EQ(header.text_offset, 0x80000u);
	EXPECT_EQ(header.extent, 4096u);
	EXPECT_FALSE(header.extent_known);
}

TEST(Image, a_file_without_a_known_mark_is_a_flat_binary)
{
	for (size_t size : {4, 63, 64, 4096}) {
		auto bytes = flat_binary(size);
		struct config_module kernel = module_of(bytes);
		struct image_header header;
		char why[192];

		ASSERT_EQ(image_inspect(&kernel, &header, why, sizeof(why)), OK) << size;
		EXPECT_EQ(header.kind, IMAGE_FLAT);
		EXPECT_FALSE(header.extent_known);
	}
}

TEST(Image, files_that_would_not_run_are_refused_with_what_to_do)
{
	struct Case {
		size_t offset;
		std::string mark, line;
	};
	const std::vector<Case> cases = {
		{0, "\x1f\x8b", "gzip-compressed; unpack it: gunzip -c FILE > Image"},
		{0, std::string("\xfd\x37zXZ\0", 6),
		 "xz-compressed; unpack it: xz -dc FILE > Image"},
		{0, "\x28\xb5\x2f\xfd", "zstd-compressed; unpack it: zstd -dc FILE > Image"},
		{0, "\x02\x21\x4c\x18", "lz4-compressed; unpack it: lz4 -dc FILE > Image"},
		{0, "BZh9", "bzip2-compressed; unpack it: bzip2 -dc FILE > Image"},
		{0, "\x7f\x45LF", "an ELF file; make it flat: objcopy -O binary FILE Image"},
		{0, "\x27\x05\x19\x56",
		 "a U-Boot uImage; cut its header: tail -c +65 FILE > Image"},
		{0, "\xd0\x0d\xfe\xed", "a device tree or FIT blob; give an arm64 Image"},
		{0, "070701", "a cpio archive; is it the ramdisk?"},
		{0x202, "HdrS", "an x86 bzImage; give an arm64 Image"},
		{0x24, "\x18\x28\x6f\x01", "a 32-bit Arm zImage; give an arm64 Image"},
		{0x38, "RSC\x05", "a RISC-V Image; give an arm64 Image"},
		{0, "MZ", "an EFI program; give an arm64 Image or a flat binary"},
	};

	for (const Case &c : cases) {
		std::vector<u8> bytes = flat_binary(4096);

		memcpy(&bytes[c.offset], c.mark.data(), c.mark.size());
		EXPECT_EQ(refusal(bytes), c.line);
	}
	EXPECT_EQ(refusal({}), "an empty file");
	EXPECT_EQ(refusal(std::vector<u8>(100, '#')),
		  "a text file; give an arm64 Image or a flat binary");
}

TEST(Image, an_efi_zboot_is_refused_with_the_command_that_unpacks_it)
{
	std::vector<u8> bytes = flat_binary(4096);

	memcpy(&bytes[0], "MZ\0\0zimg", 8);
	put_le(bytes, 8, 1024, 4);
	put_le(bytes, 12, 2000, 4);
	memcpy(&bytes[0x18], "gzip\0", 5);
	EXPECT_EQ(refusal(bytes),
		  "an EFI zboot file; unpack it: tail -c +1025 FILE | head -c 2000 | "
		  "gunzip > Image");
}

TEST(Image, an_image_that_cannot_run_here_is_refused)
{
	EXPECT_EQ(refusal(arm64_image(MIB(1), 0, 3)),
		  "a big-endian arm64 Image; guests here are little-endian");
	EXPECT_EQ(refusal(arm64_image(MIB(1), 0x80010)),
		  "an arm64 Image whose text_offset 0x80010 is no page within 2 MiB: damaged?");
	EXPECT_EQ(refusal(arm64_image(MIB(1), MIB(2))),
		  "an arm64 Image whose text_offset 0x200000 is no page within 2 MiB: damaged?");
	EXPECT_EQ(refusal(arm64_image(MIB(1), ~0ull << 12)),
		  "an arm64 Image whose text_offset 0xfffffffffffff000 is no page within 2 MiB: "
		  "damaged?");
}

TEST(Image, no_mark_is_looked_for_beyond_the_end_of_a_short_file)
{
	for (size_t size = 1; size < 0x210; size++) {
		std::vector<u8> bytes(size, 0x80);
		struct config_module kernel = module_of(bytes);
		struct image_header header;
		char why[192];

		bytes.shrink_to_fit();
		EXPECT_EQ(image_inspect(&kernel, &header, why, sizeof(why)), OK) << size;
	}
}

/* ---- Places ---------------------------------------------------------------------------------- */

TEST(Image, linux_lies_at_its_text_offset_and_the_rest_right_behind_it)
{
	auto image = arm64_image(MIB(27) + 0x1234, 0x80000);
	std::vector<u8> ramdisk(1300000, 1);
	Answer answer = lay_out(module_of(image), module_of(ramdisk), MIB(512));

	expect_sound(answer, MIB(512));
	EXPECT_EQ(answer.layout.kernel.v, ram_base + 0x80000);
	EXPECT_EQ(answer.layout.kernel_extent, MIB(27) + 0x1234);
	EXPECT_EQ(answer.layout.ramdisk.v,
		  align_up(ram_base + 0x80000 + MIB(27) + 0x1234, KIB(64)));
	EXPECT_EQ(answer.layout.device_tree.v,
		  align_up(answer.layout.ramdisk.v + 1300000, KIB(64)));
}

TEST(Image, a_file_larger_than_its_header_claims_keeps_its_bytes)
{
	auto image = arm64_image(64, 0, 2, KIB(200));
	Answer answer = lay_out(module_of(image), MIB(2));

	expect_sound(answer, MIB(2));
	EXPECT_EQ(answer.layout.kernel_extent, KIB(200));
}

TEST(Image, the_rest_keeps_away_from_a_flat_binary_but_below_128_mib)
{
	auto flat = flat_binary(KIB(40));
	std::vector<u8> ramdisk(KIB(100), 1);
	Answer small = lay_out(module_of(flat), MIB(32));
	Answer large = lay_out(module_of(flat), module_of(ramdisk), GIB(4));

	expect_sound(small, MIB(32));
	EXPECT_EQ(small.layout.kernel.v, ram_base + 0x80000);
	EXPECT_EQ(small.layout.ramdisk_size, 0u);
	EXPECT_EQ(small.layout.device_tree.v, ram_base + MIB(32) - KIB(64));
	expect_sound(large, GIB(4));
	EXPECT_EQ(large.layout.device_tree.v, ram_base + MIB(128) - KIB(64));
	EXPECT_EQ(large.layout.ramdisk.v, ram_base + MIB(128) - KIB(64) - KIB(128));
}

TEST(Image, every_memory_from_what_a_refusal_asks_for_is_enough_and_less_is_not)
{
	for (size_t ramdisk_size : {KIB(0), (u64)5, KIB(64), MIB(3) + 1}) {
		for (const auto &bytes : {arm64_image(MIB(5) - 7), arm64_image(0, 0, 2, MIB(3)),
					  flat_binary(MIB(3) + 4), flat_binary(4)}) {
			std::vector<u8> ramdisk(ramdisk_size, 1);
			u64 memory = 0;
			Answer answer;

			do {
				memory += MIB(2);
				answer = lay_out(module_of(bytes), module_of(ramdisk), memory);
				if (answer.status != OK) {
					EXPECT_EQ(answer.status, FULL);
				}
			} while (answer.status != OK && memory < MIB(64));
			expect_sound(answer, memory);
			if (memory > MIB(2)) {
				answer = lay_out(module_of(bytes), module_of(ramdisk),
						 memory - MIB(2));
				EXPECT_NE(answer.why.find("need at least " +
							  std::to_string(memory >> 20) + " MiB"),
					  std::string::npos)
					<< answer.why;
			}
			expect_sound(lay_out(module_of(bytes), module_of(ramdisk), MIB(256)),
				     MIB(256));
		}
	}
}

TEST(Image, sizes_that_no_memory_can_hold_do_not_wrap)
{
	for (u64 image_size : {~(u64)0, (u64)1 << 63, GIB(256)}) {
		auto image = arm64_image(image_size);
		Answer answer = lay_out(module_of(image), GIB(255));

		EXPECT_EQ(answer.status, FULL);
		EXPECT_NE(answer.why.find("fit into no guest"), std::string::npos) << answer.why;
	}

	auto image = arm64_image(MIB(1));
	struct config_module ramdisk = {"r", image.data(), ~0ull, 0};

	EXPECT_EQ(lay_out(module_of(image), ramdisk, MIB(64)).status, FULL);
	ramdisk.address = ram_base + MIB(8);
	EXPECT_EQ(lay_out(module_of(image), ramdisk, MIB(64)).status, EXISTS);
}

TEST(Image, the_kernel_goes_where_it_is_wanted_if_its_header_allows)
{
	auto image = arm64_image(MIB(5), 0x80000);
	auto flat = flat_binary(4096);
	Answer answer = lay_out(module_of(image, ram_base + MIB(6) + 0x80000), MIB(64));

	expect_sound(answer, MIB(64));
	EXPECT_EQ(answer.layout.entry.v, ram_base + MIB(6) + 0x80000);
	answer = lay_out(module_of(flat, ram_base), MIB(64));
	expect_sound(answer, MIB(64));
	EXPECT_EQ(answer.layout.entry.v, ram_base);
	for (u64 wrong : {ram_base, ram_base + 0x1000, ram_base - MIB(2) + 0x80000,
			  ram_base + MIB(60) + 0x80000, ~(u64)0 << 21}) {
		EXPECT_EQ(lay_out(module_of(image, wrong), MIB(64)).status, DENIED) << wrong;
	}
	EXPECT_EQ(lay_out(module_of(flat, ram_base + 8), MIB(64)).status, DENIED);
	EXPECT_EQ(lay_out(module_of(flat, 0x1000), MIB(64)).status, DENIED);
	EXPECT_EQ(lay_out(module_of(flat, ram_base + MIB(64)), MIB(64)).status, DENIED);
}

TEST(Image, the_ramdisk_goes_where_it_is_wanted_if_nothing_else_lies_there)
{
	auto image = arm64_image(MIB(5));
	std::vector<u8> ramdisk(MIB(2), 1);
	const auto place = [&](u64 offset) {
		return lay_out(module_of(image), module_of(ramdisk, ram_base + offset), MIB(16));
	};

	for (u64 offset = MIB(5); offset <= MIB(14) - KIB(64); offset += KIB(4)) {
		Answer answer = place(offset);

		expect_sound(answer, MIB(16));
		EXPECT_EQ(answer.layout.ramdisk.v, ram_base + offset);
	}
	for (u64 offset : {MIB(0), MIB(3), MIB(5) - KIB(4)}) {
		EXPECT_EQ(place(offset).status, EXISTS);
		EXPECT_NE(place(offset).why.find("overlaps kernel 0x40000000 to 0x40500000"),
			  std::string::npos);
	}
	EXPECT_EQ(place(MIB(8) + 1).why, "not at a 4 KiB boundary");
	EXPECT_EQ(place(MIB(15)).why,
		  "0x200000 bytes there are not inside RAM, 0x40000000 to 0x41000000");
	EXPECT_EQ(place(0 - MIB(4)).status, EXISTS);
}

TEST(Image, a_wanted_ramdisk_that_leaves_no_room_for_the_device_tree_is_refused)
{
	auto image = arm64_image(MIB(2));
	std::vector<u8> ramdisk(MIB(2), 1);
	Answer answer = lay_out(module_of(image), module_of(ramdisk, ram_base + MIB(2)), MIB(4));

	EXPECT_EQ(answer.status, EXISTS);
	EXPECT_EQ(answer.why, "leaves no room for the device tree beside it and the kernel");
}

} // namespace
