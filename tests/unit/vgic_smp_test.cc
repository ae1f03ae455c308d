/* Two CPUs at once: one raises interrupts, the other's guest takes them. */
#include "vgic_fake.h"

#include <atomic>
#include <thread>

namespace
{

using namespace vgic_fake;

constexpr u32 kSgi = 5, kEdge = 40, kLevel = 33;
constexpr int kRounds = 20000;

struct Counts {
	std::atomic<int> sgi{0}, edge{0}, level{0};
	std::atomic<bool> stop{false};
};

/* vCPU 1's CPU: enters when told, and its guest ends each interrupt; a level is quietened first. */
void guest(Machine &m, Counts &counts)
{
	m.become(1);
	while (!counts.stop) {
		u32 intid = m.acknowledge(1);

		if (intid == kSpurious) {
			std::this_thread::yield();
			continue;
		}
		if (intid == kLevel) {
			vgic_set_spi(m.gic(), kLevel, false);
		}
		m.end(1, intid);
		(intid == kSgi ? counts.sgi : intid == kEdge ? counts.edge : counts.level)++;
	}
}

/* False when what was raised does not come in ten seconds. */
bool wait_for(const std::atomic<int> &count, int expected)
{
	auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);

	while (count < expected) {
		std::this_thread::yield();
		if (std::chrono::steady_clock::now() > end) {
			return false;
		}
	}
	return true;
}

class VgicSmp : public ::testing::Test
{
      protected:
	Machine m{2};
	Counts counts;

	void SetUp() override
	{
		m.start();
		m.enable(kSgi, 1);
		m.set_edge(kEdge);
		for (u32 intid : {kEdge, kLevel}) {
			m.enable(intid);
			m.dist_write(0, 0x6000 + 8 * intid, 1, 8);
		}
		m.enter_all();
	}
};

TEST_F(VgicSmp, nothing_is_lost_and_nothing_comes_twice)
{
	std::thread thread([this] { guest(m, counts); });

	m.become(0);
	for (int i = 1; i <= kRounds && !HasFailure(); i++) {
		vgic_send_sgi(m.vcpu(0), (u64)kSgi << 24 | 2);
		vgic_set_spi(m.gic(), kEdge, true);
		vgic_set_spi(m.gic(), kEdge, false);
		vgic_set_spi(m.gic(), kLevel, true);
		EXPECT_TRUE(wait_for(counts.sgi, i)) << "SGI " << i;
		EXPECT_TRUE(wait_for(counts.edge, i)) << "edge " << i;
		EXPECT_TRUE(wait_for(counts.level, i)) << "level " << i;
	}
	std::this_thread::sleep_for(std::chrono::milliseconds(10));
	counts.stop = true;
	thread.join();
	EXPECT_EQ(counts.sgi, kRounds);
	EXPECT_EQ(counts.edge, kRounds);
	EXPECT_EQ(counts.level, kRounds);
}

TEST_F(VgicSmp, registers_may_be_written_while_interrupts_fly)
{
	std::thread thread([this] { guest(m, counts); });

	m.become(0);
	for (int i = 0; i < kRounds; i++) {
		vgic_send_sgi(m.vcpu(0), (u64)kSgi << 24 | 2);
		vgic_set_spi(m.gic(), kEdge, i & 1);
		m.disable(kEdge);
		m.set_priority(kEdge, 8 * (i % 16));
		m.dist_write(0, 0x6000 + 8 * kEdge, i % 2, 8);
		m.dist_read(0, 0x204);
		m.dist_read(0, 0);
		m.enable(kEdge);
		m.enter(0);
		if (m.cpu(0).acknowledge() == kEdge) {
			m.cpu(0).end(kEdge);
		}
	}
	m.dist_write(0, 0x6000 + 8 * kEdge, 1, 8);
	counts.stop = true;
	thread.join();
	m.enter_all();
	while (u32 left = m.acknowledge(1)) {
		if (left == kSpurious) {
			break;
		}
		m.end(1, left);
	}
	EXPECT_EQ(m.dist_read(1, 0x204) & 1u << 8, 0u) << "nothing is stuck";
	EXPECT_EQ(m.redist_read(1, 1, 0x10200), 0u);
}

} // namespace
