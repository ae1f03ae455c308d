/* The register files of the virtual GIC: what Linux and other payloads read and write there. */
#include "vgic_fake.h"

#include <random>

namespace
{

using namespace vgic_fake;

constexpr u64 kSgiFrame = 0x10000;

TEST(VgicRegisters, distributor_says_what_it_is)
{
	Machine m(2);

	EXPECT_EQ(m.dist_read(0, 0x0), 0x50u) << "affinity routing, one security state, groups off";
	EXPECT_EQ(m.dist_read(0, 0x4) & 0x1f, 7u) << "256 interrupts";
	EXPECT_EQ(m.dist_read(0, 0x4) & (1u << 17 | 1u << 16), 0u) << "no LPIs, no messages";
	EXPECT_EQ(m.dist_read(0, 0x4) >> 19 & 0x1f, 9u);
	EXPECT_EQ(m.dist_read(0, 0x8) & 0xfff, 0x43bu);
	EXPECT_EQ(m.dist_read(0, 0xffe8) & 0xf0, 0x30u) << "GICv3";
	EXPECT_EQ(m.dist_read(0, 0xfff0), 0x0du);
}

TEST(VgicRegisters, redistributors_name_their_vcpus_and_the_last_one)
{
	Machine m(3);

	for (u32 n = 0; n < 3; n++) {
		u64 typer = m.redist_read(0, n, 0x8, 8);

		EXPECT_EQ(typer >> 32, n) << "affinity";
		EXPECT_EQ(typer >> 8 & 0xffff, n) << "processor number";
		EXPECT_EQ(typer >> 4 & 1, n == 2 ? 1u : 0u) << "last";
		EXPECT_EQ(typer & 1, 0u) << "no LPIs";
		EXPECT_EQ(m.redist_read(1, n, 0xc), n);
		EXPECT_EQ(m.redist_read(1, n, 0xffe8) & 0xf0, 0x30u);
	}
}

TEST(VgicRegisters, redistributor_wakes_when_asked)
{
	Machine m(1);

	EXPECT_EQ(m.redist_read(0, 0, 0x14), 6u);
	m.redist_write(0, 0, 0x14, 0);
	EXPECT_EQ(m.redist_read(0, 0, 0x14), 0u);
	m.redist_write(0, 0, 0x14, 2);
	EXPECT_EQ(m.redist_read(0, 0, 0x14), 6u);
}

TEST(VgicRegisters, enable_bits_are_set_and_cleared_by_ones)
{
	Machine m(1);

	m.dist_write(0, 0x104, 0xff00ff00);
	m.dist_write(0, 0x184, 0x0f000000);
	EXPECT_EQ(m.dist_read(0, 0x104), 0xf000ff00u);
	EXPECT_EQ(m.dist_read(0, 0x184), 0xf000ff00u);
	m.dist_write(0, 0x105, 0x01, 1);
	m.dist_write(0, 0x186, 0xff, 1);
	EXPECT_EQ(m.dist_read(0, 0x104), 0xf000ff00u) << "bytes reach their own lane only";
	EXPECT_EQ(m.dist_read(0, 0x105, 1), 0xffu);
	EXPECT_EQ(m.dist_read(0, 0x106, 2), 0xf000u);
	EXPECT_EQ(m.dist_read(0, 0x100, 8), 0xf000ff0000000000u);
}

TEST(VgicRegisters, private_bank_is_absent_from_the_distributor)
{
	Machine m(1);

	for (u64 offset : {0x80, 0x100, 0x200, 0x300, 0x400, 0x41c, 0x800, 0xc00, 0xc04, 0xf00}) {
		m.dist_write(0, offset, 0xffffffff);
		EXPECT_EQ(m.dist_read(0, offset), 0u) << std::hex << offset;
	}
	EXPECT_EQ(m.redist_read(0, 0, kSgiFrame + 0x100), 0u);
}

TEST(VgicRegisters, registers_of_interrupts_that_are_not_there_read_as_zero)
{
	Machine m(1);

	for (u64 offset : {0x120, 0x7c, 0x500, 0x7f8, 0x820, 0xc40, 0xd00, 0xe00, 0x6800, 0x7fd8,
			   0x8000, 0x60f8}) {
		m.dist_write(0, offset, 0xffffffff);
		EXPECT_EQ(m.dist_read(0, offset), 0u) << std::hex << offset;
	}
	m.redist_write(0, 0, kSgiFrame + 0x104, 0xffffffff);
	EXPECT_EQ(m.redist_read(0, 0, kSgiFrame + 0x104), 0u);
	m.redist_write(0, 0, 0x70, 0xffffffff);
	EXPECT_EQ(m.redist_read(0, 0, 0x70), 0u);
}

TEST(VgicRegisters, priorities_take_bytes_and_words_and_have_five_bits)
{
	Machine m(1);

	m.dist_write(0, 0x420, 0xffffffff);
	EXPECT_EQ(m.dist_read(0, 0x420), 0xf8f8f8f8u);
	m.dist_write(0, 0x421, 0x20, 1);
	EXPECT_EQ(m.dist_read(0, 0x420), 0xf8f820f8u);
	EXPECT_EQ(m.dist_read(0, 0x421, 1), 0x20u);
	m.redist_write(0, 0, kSgiFrame + 0x41b, 0xa0, 1);
	EXPECT_EQ(m.redist_read(0, 0, kSgiFrame + 0x418), 0xa0000000u);
}

TEST(VgicRegisters, configuration_of_sgis_is_fixed_as_edge)
{
	Machine m(1);

	m.redist_write(0, 0, kSgiFrame + 0xc00, 0);
	EXPECT_EQ(m.redist_read(0, 0, kSgiFrame + 0xc00), 0xaaaaaaaau);
	m.redist_write(0, 0, kSgiFrame + 0xc04, 0xffffffff);
	EXPECT_EQ(m.redist_read(0, 0, kSgiFrame + 0xc04), 0xaaaaaaaau);
	m.dist_write(0, 0xc08, 0x80000002);
	EXPECT_EQ(m.dist_read(0, 0xc08), 0x80000002u);
	m.dist_write(0, 0xc08, 0, 1);
	EXPECT_EQ(m.dist_read(0, 0xc08), 0x80000000u);
}

TEST(VgicRegisters, routes_take_both_widths_and_keep_what_is_defined)
{
	Machine m(2);

	m.dist_write(0, 0x6108, ~0ull, 8);
	EXPECT_EQ(m.dist_read(0, 0x6108, 8), 0xff80ffffffull);
	m.dist_write(0, 0x6108, 1);
	EXPECT_EQ(m.dist_read(0, 0x6108, 8), 0xff00000001ull);
	m.dist_write(0, 0x610c, 0);
	EXPECT_EQ(m.dist_read(0, 0x6108, 8), 1ull);
	EXPECT_EQ(m.dist_read(0, 0x6108), 1u);
}

TEST(VgicRegisters, pending_bits_are_read_back_and_cleared)
{
	Machine m(1);

	m.start();
	m.dist_write(0, 0x204, 0x6);
	EXPECT_EQ(m.dist_read(0, 0x204), 0x6u);
	m.dist_write(0, 0x284, 0x2);
	EXPECT_EQ(m.dist_read(0, 0x204), 0x4u);
	m.redist_write(0, 0, kSgiFrame + 0x200, 0x10010);
	EXPECT_EQ(m.redist_read(0, 0, kSgiFrame + 0x280), 0x10010u);
}

TEST(VgicRegisters, a_disable_is_complete_when_the_bit_says_so)
{
	Machine m(2);

	m.start();
	m.dist_write(0, 0x6100 + 8, 1, 8);
	m.enable(33);
	m.become(0);
	vgic_set_spi(m.gic(), 33, true);
	m.enter(1);
	ASSERT_GE(m.cpu(1).highest_pending(), 0);
	m.disable(33);
	EXPECT_EQ(m.dist_read(0, 0) >> 31, 1u) << "vCPU 1 has not heard of it yet";
	m.enter(1);
	EXPECT_EQ(m.dist_read(0, 0) >> 31, 0u);
	EXPECT_LT(m.cpu(1).highest_pending(), 0);
}

/* Any register, any width, any value, in between all that can happen: it must stay within its
 * memory. */
TEST(VgicRegisters, garbage_does_no_harm)
{
	std::mt19937_64 random(1);
	Machine m(3, 4);

	m.start();
	for (int step = 0; step < 400000; step++) {
		u32 by = random() % 3, of = random() % 5;
		unsigned size = 1u << random() % 4;
		u64 offset = random() % (random() % 2 ? 0x20000 : 0x1000), value = random();

		if (random() % 4 == 0) {
			offset = 0x10000 + offset % 0x1000;
		}
		switch (random() % 10) {
		case 0:
		case 1:
			m.dist_read(by, offset % 0x10000 & ~(u64)(random() % 4 ? size - 1 : 0),
				    size);
			break;
		case 2:
		case 3:
			m.dist_write(by, offset % 0x10000 & ~(u64)(size - 1), value, size);
			break;
		case 4:
			m.redist_read(by, of, offset, size);
			break;
		case 5:
			m.redist_write(by, of, offset & ~(u64)(size - 1), value, size);
			break;
		case 6:
			m.become(by);
			vgic_send_sgi(m.vcpu(by), random() % 2 ? value : value & 0xf00ffff);
			vgic_send_sgi0(m.vcpu(by), value);
			break;
		case 7:
			m.cpu(by).vmcr = value & 0xff0ffe1f;
			m.cpu(by).acknowledge();
			break;
		case 8:
			m.cpu(by).end(value % 300);
			m.become(by);
			vgic_deactivate(m.vcpu(by), value % 300);
			break;
		case 9:
			vgic_set_spi(m.gic(), 32 + value % VGIC_SPIS, random() % 2);
			m.enter_all();
			break;
		}
	}
}

} // namespace
