/* The guest's device tree, read back with libfdt: what kernels look for is there, and says the
 * truth. */
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <libfdt.h>

extern "C" {
#include "../../arch/arm64/guest_fdt.h"
#include "../../arch/arm64/guest_map.h"
}

namespace
{

class GuestFdt : public testing::Test
{
      protected:
	struct guest_fdt guest = {};
	std::vector<u8> blob = std::vector<u8>(8192, 0xaa);
	size_t used = 0;

	void SetUp() override
	{
		guest.vcpu_count = 2;
		guest.ram_size = MIB(512);
		guest.gicr_size = 2 * 0x20000;
		guest.bootargs = "console=ttyAMA0 quiet";
	}

	void make()
	{
		ASSERT_EQ(guest_fdt_write(&guest, blob.data(), blob.size(), &used), OK);
		ASSERT_EQ(fdt_check_full(blob.data(), used), 0);
		ASSERT_EQ(fdt_totalsize(blob.data()), used);
	}

	int node(const std::string &path)
	{
		int at = fdt_path_offset(blob.data(), path.c_str());

		EXPECT_GE(at, 0) << path;
		return at;
	}

	bool has(const std::string &path, const char *property)
	{
		return fdt_getprop(blob.data(), node(path), property, nullptr) != nullptr;
	}

	std::string text(const std::string &path, const char *property)
	{
		int length = 0;
		const void *value = fdt_getprop(blob.data(), node(path), property, &length);

		EXPECT_NE(value, nullptr) << path << " " << property;
		return value ? std::string(static_cast<const char *>(value), (size_t)length)
			     : std::string();
	}

	std::vector<u32> cells(const std::string &path, const char *property)
	{
		std::string bytes = text(path, property);
		std::vector<u32> values;

		EXPECT_EQ(bytes.size() % 4, 0u);
		for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
			values.push_back((u32)(u8)bytes[i] << 24 | (u32)(u8)bytes[i + 1] << 16 |
					 (u32)(u8)bytes[i + 2] << 8 | (u8)bytes[i + 3]);
		}
		return values;
	}
};

using Cells = std::vector<u32>;
using namespace std::string_literals;

TEST_F(GuestFdt, is_small)
{
	make();
	EXPECT_LT(used, 1700u);
}

TEST_F(GuestFdt, tells_memory)
{
	guest.ram_size = GIB(5);
	make();
	EXPECT_EQ(cells("/", "#address-cells"), Cells{2});
	EXPECT_EQ(cells("/", "#size-cells"), Cells{2});
	EXPECT_EQ(text("/memory@40000000", "device_type"), "memory\0"s);
	EXPECT_EQ(cells("/memory@40000000", "reg"), (Cells{0, 0x40000000, 1, 0x40000000}));
}

TEST_F(GuestFdt, tells_each_cpu_and_no_more)
{
	for (u32 count = 1; count <= 8; count++) {
		guest.vcpu_count = count;
		make();
		for (u32 i = 0; i < count; i++) {
			std::string path = "/cpus/cpu@" + std::to_string(i);

			EXPECT_EQ(cells(path, "reg"), Cells{i});
			EXPECT_EQ(text(path, "device_type"), "cpu\0"s);
			EXPECT_EQ(text(path, "enable-method"), "psci\0"s);
		}
		EXPECT_LT(fdt_path_offset(blob.data(),
					  ("/cpus/cpu@" + std::to_string(count)).c_str()),
			  0);
	}
	EXPECT_EQ(cells("/cpus", "#address-cells"), Cells{1});
	EXPECT_EQ(cells("/cpus", "#size-cells"), Cells{0});
}

TEST_F(GuestFdt, tells_psci_by_hvc)
{
	make();
	EXPECT_EQ(text("/psci", "compatible"), "arm,psci-1.0\0arm,psci-0.2\0"s);
	EXPECT_EQ(text("/psci", "method"), "hvc\0"s);
}

TEST_F(GuestFdt, tells_the_four_timers)
{
	make();
	EXPECT_EQ(text("/timer", "compatible"), "arm,armv8-timer\0"s);
	EXPECT_EQ(cells("/timer", "interrupts"), (Cells{1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4}));
	EXPECT_TRUE(has("/timer", "always-on"));
}

TEST_F(GuestFdt, tells_the_gic_with_room_for_every_cpu)
{
	guest.gicr_size = 8 * 0x20000;
	make();
	EXPECT_EQ(text("/intc@8000000", "compatible"), "arm,gic-v3\0"s);
	EXPECT_EQ(cells("/intc@8000000", "reg"),
		  (Cells{0, 0x08000000, 0, 0x10000, 0, 0x080a0000, 0, 0x100000}));
	EXPECT_EQ(cells("/intc@8000000", "#interrupt-cells"), Cells{3});
	EXPECT_TRUE(has("/intc@8000000", "interrupt-controller"));
	EXPECT_EQ(cells("/intc@8000000", "phandle"), cells("/", "interrupt-parent"));
}

TEST_F(GuestFdt, tells_the_uart_and_its_clock)
{
	make();
	EXPECT_EQ(text("/pl011@9000000", "compatible"), "arm,pl011\0arm,primecell\0"s);
	EXPECT_EQ(cells("/pl011@9000000", "reg"), (Cells{0, 0x09000000, 0, 0x1000}));
	EXPECT_EQ(cells("/pl011@9000000", "interrupts"), (Cells{0, 1, 4}));
	EXPECT_EQ(text("/pl011@9000000", "clock-names"), "uartclk\0apb_pclk\0"s);

	Cells clock = cells("/apb-pclk", "phandle");

	EXPECT_EQ(cells("/pl011@9000000", "clocks"), (Cells{clock[0], clock[0]}));
	EXPECT_NE(clock, cells("/intc@8000000", "phandle"));
	EXPECT_EQ(cells("/apb-pclk", "clock-frequency"), Cells{24000000});
}

TEST_F(GuestFdt, passes_arguments_and_names_the_console)
{
	make();
	EXPECT_EQ(text("/chosen", "bootargs"), "console=ttyAMA0 quiet\0"s);
	EXPECT_EQ(text("/chosen", "stdout-path"), "/pl011@9000000\0"s);
	node("/pl011@9000000");
}

TEST_F(GuestFdt, names_the_ramdisk_only_if_there_is_one)
{
	make();
	EXPECT_FALSE(has("/chosen", "linux,initrd-start"));
	guest.ramdisk = 0x48000000;
	guest.ramdisk_size = 0x123456;
	make();
	EXPECT_EQ(cells("/chosen", "linux,initrd-start"), (Cells{0, 0x48000000}));
	EXPECT_EQ(cells("/chosen", "linux,initrd-end"), (Cells{0, 0x48123456}));
}

TEST_F(GuestFdt, gives_seeds_only_if_there_are_some)
{
	make();
	EXPECT_FALSE(has("/chosen", "kaslr-seed"));
	EXPECT_FALSE(has("/chosen", "rng-seed"));
	guest.kaslr_seed = 0x0123456789abcdef;
	guest.has_rng_seed = true;
	for (u32 i = 0; i < GUEST_FDT_SEED_BYTES; i++) {
		guest.rng_seed[i] = (u8)i;
	}
	make();
	EXPECT_EQ(cells("/chosen", "kaslr-seed"), (Cells{0x01234567, 0x89abcdef}));
	EXPECT_EQ(text("/chosen", "rng-seed").size(), 32u);
	EXPECT_EQ(text("/chosen", "rng-seed")[31], 31);
}

TEST_F(GuestFdt, refuses_every_size_that_is_too_small)
{
	guest.bootargs = "some arguments";
	make();
	size_t enough = used;

	for (size_t size = 0; size < enough; size++) {
		std::vector<u8> small(size);

		EXPECT_EQ(guest_fdt_write(&guest, small.data(), size, &used), FULL) << size;
	}
	std::vector<u8> exact(enough + 16);

	EXPECT_EQ(guest_fdt_write(&guest, exact.data(), exact.size(), &used), OK);
	EXPECT_EQ(used, enough);
}

TEST_F(GuestFdt, longest_arguments_fit_into_the_room_that_guests_get)
{
	std::string longest(1023, 'a');

	guest.bootargs = longest.c_str();
	guest.vcpu_count = 8;
	guest.kaslr_seed = 1;
	guest.has_rng_seed = true;
	guest.ramdisk_size = 1;
	blob.resize(4096 + 1024);
	make();
	EXPECT_EQ(text("/chosen", "bootargs").size(), 1024u);
}

TEST_F(GuestFdt, slots_with_a_virtio_device_are_told)
{
	guest.virtio_count = 2;
	make();
	for (u32 i = 0; i < 2; i++) {
		std::string path = i == 0 ? "/virtio_mmio@a000000" : "/virtio_mmio@a000200";
		const fdt32_t *reg, *interrupts;

		EXPECT_STREQ(text(path, "compatible").c_str(), "virtio,mmio");
		EXPECT_TRUE(has(path, "dma-coherent"));
		reg = (const fdt32_t *)fdt_getprop(blob.data(), node(path), "reg", nullptr);
		interrupts = (const fdt32_t *)fdt_getprop(blob.data(), node(path), "interrupts",
							  nullptr);
		EXPECT_EQ(fdt32_to_cpu(reg[1]), GUEST_VIRTIO_BASE + i * 0x200);
		EXPECT_EQ(fdt32_to_cpu(reg[3]), 0x200u);
		EXPECT_EQ(fdt32_to_cpu(interrupts[0]), 0u) << "an SPI";
		EXPECT_EQ(fdt32_to_cpu(interrupts[1]), 16 + i) << "as QEMU's virt numbers them";
		EXPECT_EQ(fdt32_to_cpu(interrupts[2]), 4u) << "level, high";
	}
	EXPECT_LT(fdt_path_offset(blob.data(), "/virtio_mmio@a000400"), 0);
}

} // namespace
