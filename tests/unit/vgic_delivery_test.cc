/* How interrupts reach a guest: one sentence at a time. */
#include "vgic_fake.h"

namespace
{

using namespace vgic_fake;

class VgicDelivery : public ::testing::Test
{
      protected:
	Machine m{2};

	void SetUp() override
	{
		m.start();
		for (u32 intid = 32; intid < 64; intid++) {
			m.set_priority(intid, 0xa0);
		}
	}

	void line(u32 intid, bool level)
	{
		m.become(0);
		vgic_set_spi(m.gic(), intid, level);
	}

	void sgi(u32 from, u64 value)
	{
		m.become(from);
		vgic_send_sgi(m.vcpu(from), value);
	}

	/* Guest n takes `intid` and ends it. */
	void expect_one(u32 n, u32 intid)
	{
		ASSERT_EQ(m.acknowledge(n), intid);
		m.end(n, intid);
	}

	void expect_none(u32 n)
	{
		EXPECT_EQ(m.acknowledge(n), kSpurious);
	}

	void route(u32 intid, u64 to)
	{
		m.dist_write(0, 0x6000 + 8 * intid, to, 8);
	}
};

TEST_F(VgicDelivery, an_edge_is_delivered_once)
{
	m.set_edge(40);
	m.enable(40);
	line(40, true);
	expect_one(0, 40);
	expect_none(0);
	line(40, false);
	line(40, true);
	expect_one(0, 40);
	expect_none(0);
}

TEST_F(VgicDelivery, an_edge_while_active_is_delivered_after_the_end)
{
	m.set_edge(40);
	m.enable(40);
	line(40, true);
	ASSERT_EQ(m.acknowledge(0), 40u);
	line(40, false);
	line(40, true);
	expect_none(0);
	m.end(0, 40);
	expect_one(0, 40);
	expect_none(0);
}

TEST_F(VgicDelivery, an_edge_is_latched_while_disabled)
{
	m.set_edge(40);
	line(40, true);
	line(40, false);
	expect_none(0);
	m.enable(40);
	expect_one(0, 40);
	expect_none(0);
}

TEST_F(VgicDelivery, a_level_that_stays_high_comes_again)
{
	m.enable(33);
	line(33, true);
	expect_one(0, 33);
	expect_one(0, 33);
	ASSERT_EQ(m.acknowledge(0), 33u);
	line(33, false);
	m.end(0, 33);
	expect_none(0);
}

TEST_F(VgicDelivery, a_level_that_fell_before_acknowledge_is_retracted)
{
	m.enable(33);
	line(33, true);
	m.enter(0);
	ASSERT_GE(m.cpu(0).highest_pending(), 0);
	line(33, false);
	expect_none(0);
}

TEST_F(VgicDelivery, a_level_lowered_in_its_handler_costs_no_exit_at_its_end)
{
	m.enable(33);
	line(33, true);
	ASSERT_EQ(m.acknowledge(0), 33u);
	line(33, false);
	m.enter(0);
	m.cpu(0).end(33);
	EXPECT_EQ(m.cpu(0).misr(), 0u);
}

TEST_F(VgicDelivery, a_level_raised_in_its_handler_comes_again)
{
	m.enable(33);
	line(33, true);
	ASSERT_EQ(m.acknowledge(0), 33u);
	line(33, false);
	m.enter(0);
	line(33, true);
	m.end(0, 33);
	expect_one(0, 33);
}

TEST_F(VgicDelivery, a_software_pended_level_is_delivered_once)
{
	m.enable(34);
	m.dist_write(0, 0x204, 1u << 2);
	expect_one(0, 34);
	expect_none(0);
}

TEST_F(VgicDelivery, a_disabled_one_leaves_its_list_register)
{
	m.set_edge(40);
	m.enable(40);
	line(40, true);
	m.enter(0);
	m.disable(40);
	expect_none(0);
	EXPECT_EQ(m.dist_read(0, 0x204) & 1u << 8, 1u << 8) << "still pending";
	m.enable(40);
	expect_one(0, 40);
}

TEST_F(VgicDelivery, the_distributor_switch_holds_everything_back)
{
	m.enable(33);
	line(33, true);
	m.enter(0);
	m.dist_write(0, 0, 0);
	expect_none(0);
	m.dist_write(0, 0, 2);
	expect_one(0, 33);
}

TEST_F(VgicDelivery, a_change_of_priority_reaches_a_pending_one)
{
	m.enable(33);
	m.enable(34);
	line(33, true);
	line(34, true);
	m.enter(0);
	m.set_priority(34, 0x10);
	expect_one(0, 34);
}

TEST_F(VgicDelivery, a_new_route_takes_a_pending_one_along)
{
	m.enable(33);
	line(33, true);
	m.enter(0);
	route(33, 1);
	expect_none(0);
	expect_one(1, 33);
}

TEST_F(VgicDelivery, a_new_route_takes_a_pending_one_from_a_vcpu_that_sleeps)
{
	m.enable(33);
	line(33, true);
	m.enter(0);
	m.put(0);
	m.dist_write(1, 0x6000 + 8 * 33, 1, 8);
	expect_one(1, 33);
	m.load(0);
	line(33, false);
	expect_none(0);
}

TEST_F(VgicDelivery, an_edge_while_active_follows_a_new_route)
{
	m.set_edge(40);
	m.enable(40);
	line(40, true);
	ASSERT_EQ(m.acknowledge(0), 40u);
	line(40, false);
	line(40, true);
	m.enter(0);
	route(40, 1);
	m.end(0, 40);
	expect_none(0);
	expect_one(1, 40);
}

TEST_F(VgicDelivery, any_vcpu_means_vcpu_0)
{
	m.enable(33);
	route(33, 1ull << 31);
	line(33, true);
	expect_none(1);
	expect_one(0, 33);
}

TEST_F(VgicDelivery, nobody_gets_what_is_routed_to_nobody)
{
	m.enable(33);
	route(33, 7);
	line(33, true);
	expect_none(0);
	expect_none(1);
	route(33, 1);
	expect_one(1, 33);
}

TEST_F(VgicDelivery, an_sgi_reaches_its_targets_only)
{
	m.enable(3, 0);
	m.enable(3, 1);
	sgi(0, 3ull << 24 | 2);
	expect_none(0);
	expect_one(1, 3);
	expect_none(1);
	sgi(1, 3ull << 24 | 3);
	expect_one(0, 3);
	expect_one(1, 3);
	sgi(0, 3ull << 24 | 1ull << 40);
	expect_none(0);
	expect_one(1, 3);
}

TEST_F(VgicDelivery, an_sgi_to_absent_vcpus_goes_nowhere)
{
	m.enable(3, 0);
	m.enable(3, 1);
	for (u64 value :
	     {0xfffcull, 1ull << 16 | 3, 1ull << 32 | 3, 1ull << 48 | 3, 1ull << 44 | 3}) {
		sgi(0, 3ull << 24 | value);
	}
	expect_none(0);
	expect_none(1);
}

TEST_F(VgicDelivery, an_sgi_to_self_is_in_a_list_register_at_once)
{
	m.enable(5, 0);
	for (int i = 0; i < 3; i++) {
		sgi(0, 5ull << 24 | 1);
		EXPECT_EQ(m.vcpu(0)->requests & VCPU_REQUEST_IRQ, 0u);
		EXPECT_EQ(m.cpu(0).acknowledge(), 5u);
		m.cpu(0).end(5);
	}
}

TEST_F(VgicDelivery, an_sgi_while_active_is_delivered_after_the_end_without_an_exit)
{
	m.enable(5, 0);
	sgi(0, 5ull << 24 | 1);
	ASSERT_EQ(m.cpu(0).acknowledge(), 5u);
	sgi(0, 5ull << 24 | 1);
	sgi(0, 5ull << 24 | 1);
	EXPECT_EQ(m.cpu(0).acknowledge(), kSpurious);
	m.cpu(0).end(5);
	EXPECT_EQ(m.cpu(0).misr(), 0u);
	EXPECT_EQ(m.cpu(0).acknowledge(), 5u);
	m.cpu(0).end(5);
	EXPECT_EQ(m.cpu(0).acknowledge(), kSpurious);
}

TEST_F(VgicDelivery, a_group_0_sgi_spares_those_in_group_1)
{
	m.enable(3, 0);
	m.enable(3, 1);
	m.redist_write(1, 1, 0x10080, 0xfffffff7);
	m.become(0);
	vgic_send_sgi0(m.vcpu(0), 3ull << 24 | 3);
	expect_none(0);
	expect_one(1, 3);
}

TEST_F(VgicDelivery, more_than_fit_come_in_order_of_priority)
{
	for (u32 i = 0; i < 20; i++) {
		m.set_edge(64 + i);
		m.set_priority(64 + i, 8 * (7 * i % 20 + 1));
		m.enable(64 + i);
		line(64 + i, true);
		m.enter(0);
	}
	for (u32 rank = 0; rank < 20; rank++) {
		u32 i = 0;

		while (7 * i % 20 != rank) {
			i++;
		}
		expect_one(0, 64 + i);
	}
	expect_none(0);
	EXPECT_EQ(m.cpu(0).hcr, 1u) << "no maintenance is asked for any more";
}

TEST_F(VgicDelivery, nested_deeper_than_there_are_list_registers)
{
	for (u32 i = 0; i < 12; i++) {
		m.set_edge(64 + i);
		m.set_priority(64 + i, 0xc0 - 8 * i);
		m.enable(64 + i);
	}
	for (u32 i = 0; i < 12; i++) {
		line(64 + i, true);
		ASSERT_EQ(m.acknowledge(0), 64 + i);
	}
	EXPECT_EQ(m.dist_read(0, 0x308), 0xfffu) << "all are active";
	for (u32 i = 12; i-- > 0;) {
		m.end(0, 64 + i);
		expect_none(0);
		EXPECT_EQ(m.dist_read(0, 0x308), (1u << i) - 1);
	}
	EXPECT_EQ(m.cpu(0).hcr, 1u);
}

TEST_F(VgicDelivery, ends_in_any_order_with_split_end_of_interrupt)
{
	m.cpu(0).vmcr |= 1u << 9;
	for (u32 i = 0; i < 8; i++) {
		m.set_edge(64 + i);
		m.enable(64 + i);
		line(64 + i, true);
		ASSERT_EQ(m.acknowledge(0), 64 + i);
		m.end(0, 64 + i);
	}
	for (u32 i = 0; i < 8; i++) {
		u32 intid = 64 + 3 * i % 8;

		line(intid, false);
		line(intid, true);
		expect_none(0);
		if (m.cpu(0).hcr & 1u << 14) {
			m.become(0);
			vgic_deactivate(m.vcpu(0), intid);
		} else {
			m.cpu(0).deactivate(intid);
		}
		ASSERT_EQ(m.acknowledge(0), intid);
		m.end(0, intid);
		m.become(0);
		vgic_deactivate(m.vcpu(0), intid);
	}
	EXPECT_EQ(m.dist_read(0, 0x308), 0u);
}

TEST_F(VgicDelivery, a_group_that_the_cpu_interface_has_off_does_not_starve_the_other)
{
	m.cpu(0).vmcr &= ~1ull;
	for (u32 i = 0; i < 6; i++) {
		m.set_edge(64 + i);
		m.set_priority(64 + i, 0x10);
		m.enable(64 + i);
	}
	m.dist_write(0, 0x88, ~0x3fu);
	for (u32 i = 0; i < 6; i++) {
		line(64 + i, true);
		m.enter(0);
	}
	m.enable(33);
	line(33, true);
	ASSERT_EQ(m.acknowledge(0), 33u);
	line(33, false);
	m.end(0, 33);
	m.cpu(0).vmcr |= 1;
	for (u32 i = 0; i < 6; i++) {
		expect_one(0, 64 + i);
	}
}

TEST_F(VgicDelivery, a_timer_interrupt_is_ended_by_the_guest_alone)
{
	m.enable(kTimer, 0);
	m.set_timer(0, true);
	ASSERT_EQ(m.acknowledge(0), kTimer);
	EXPECT_EQ(m.enter(0), 0) << "still asserted, but active: no storm";
	m.set_timer(0, false);
	m.cpu(0).end(kTimer);
	EXPECT_FALSE(m.cpu(0).ppi_active[kTimer]);
	EXPECT_EQ(m.enter(0), 0);
	m.set_timer(0, true);
	expect_one(0, kTimer);
	expect_one(0, kTimer);
}

TEST_F(VgicDelivery, a_masked_timer_fires_once_and_waits)
{
	m.set_timer(0, true);
	EXPECT_EQ(m.enter(0), 1);
	EXPECT_EQ(m.enter(0), 0);
	EXPECT_EQ(m.redist_read(0, 0, 0x10200) >> kTimer & 1, 1u);
	m.enable(kTimer, 0);
	expect_one(0, kTimer);
}

TEST_F(VgicDelivery, a_masked_timer_that_went_quiet_is_forgotten)
{
	m.set_timer(0, true);
	m.enter(0);
	m.set_timer(0, false);
	EXPECT_EQ(m.redist_read(0, 0, 0x10200) >> kTimer & 1, 0u);
	m.enable(kTimer, 0);
	expect_none(0);
	m.set_timer(0, true);
	expect_one(0, kTimer);
}

TEST_F(VgicDelivery, a_timer_quietened_before_it_is_taken_is_retracted_at_the_next_look)
{
	m.enable(kTimer, 0);
	m.set_timer(0, true);
	m.enter(0);
	m.set_timer(0, false);
	m.become(0);
	vgic_sync(m.vcpu(0));
	expect_none(0);
	EXPECT_FALSE(m.cpu(0).ppi_active[kTimer]);
	m.set_timer(0, true);
	expect_one(0, kTimer);
}

TEST_F(VgicDelivery, a_timer_in_flight_moves_with_its_vcpu)
{
	m.enable(kTimer, 0);
	m.set_timer(0, true);
	ASSERT_EQ(m.acknowledge(0), kTimer);
	m.put(0);
	EXPECT_FALSE(m.cpu(0).ppi_active[kTimer]) << "the next vCPU's timer may fire";
	m.load(0);
	EXPECT_TRUE(m.cpu(0).ppi_active[kTimer]);
	m.enter(0);
	expect_none(0);
	m.set_timer(0, false);
	m.end(0, kTimer);
	expect_none(0);
}

TEST_F(VgicDelivery, a_timer_that_expired_while_not_loaded_is_delivered_once)
{
	m.enable(kTimer, 0);
	m.put(0);
	m.set_timer(0, true);
	m.load(0);
	ASSERT_EQ(m.acknowledge(0), kTimer);
	m.set_timer(0, false);
	m.end(0, kTimer);
	expect_none(0);
}

TEST_F(VgicDelivery, a_timer_stays_pending_whatever_is_written_while_its_line_is_high)
{
	m.set_timer(0, true);
	m.enter(0);
	m.redist_write(0, 0, 0x10280, 1u << kTimer);
	EXPECT_EQ(m.redist_read(0, 0, 0x10200) >> kTimer & 1, 1u);
	m.enable(kTimer, 0);
	m.enter(0);
	m.redist_write(0, 0, 0x10280, 1u << kTimer);
	expect_one(0, kTimer);
}

TEST_F(VgicDelivery, a_timer_made_pending_in_its_handler_comes_again_and_then_may_fire)
{
	m.enable(kTimer, 0);
	m.set_timer(0, true);
	ASSERT_EQ(m.acknowledge(0), kTimer);
	m.set_timer(0, false);
	m.redist_write(0, 0, 0x10200, 1u << kTimer);
	m.enter(0);
	m.end(0, kTimer);
	EXPECT_FALSE(m.cpu(0).ppi_active[kTimer]);
	expect_one(0, kTimer);
	expect_none(0);
	m.set_timer(0, true);
	expect_one(0, kTimer);
}

TEST_F(VgicDelivery, active_bits_are_read_set_and_cleared)
{
	m.set_edge(40);
	m.enable(40);
	line(40, true);
	ASSERT_EQ(m.acknowledge(0), 40u);
	EXPECT_EQ(m.dist_read(0, 0x304), 1u << 8);
	m.dist_write(0, 0x384, 1u << 8);
	m.enter(0);
	EXPECT_EQ(m.dist_read(0, 0x304), 0u);
	m.cpu(0).end(40);
	m.dist_write(0, 0x304, 1u << 8);
	line(40, false);
	line(40, true);
	expect_none(0);
	EXPECT_EQ(m.dist_read(0, 0x204), 1u << 8);
	m.dist_write(0, 0x384, 1u << 8);
	expect_one(0, 40);
}

TEST_F(VgicDelivery, active_of_another_vcpu_is_cleared_by_its_next_entry)
{
	m.enable(33);
	route(33, 1);
	line(33, true);
	ASSERT_EQ(m.acknowledge(1), 33u);
	m.dist_read(0, 0x304);
	m.enter(1);
	EXPECT_EQ(m.dist_read(0, 0x304), 2u);
	m.dist_write(0, 0x384, 2);
	m.cpu(1).ap[1][0] = 0;
	m.enter(1);
	EXPECT_EQ(m.dist_read(0, 0x304), 0u);
	expect_one(1, 33);
}

TEST_F(VgicDelivery, wfi_wakes_for_what_would_be_signalled_only)
{
	m.enable(33);
	m.become(0);
	EXPECT_FALSE(vgic_has_pending(m.vcpu(0)));
	line(33, true);
	EXPECT_TRUE(vgic_has_pending(m.vcpu(0)));
	m.cpu(0).vmcr = 0xa0000003;
	EXPECT_FALSE(vgic_has_pending(m.vcpu(0))) << "priority mask";
	m.cpu(0).vmcr = 0xf0000001;
	EXPECT_FALSE(vgic_has_pending(m.vcpu(0))) << "group off";
	m.cpu(0).vmcr = 0xf0000003;
	m.put(0);
	EXPECT_TRUE(vgic_has_pending(m.vcpu(0))) << "not loaded";
	line(33, false);
	EXPECT_FALSE(vgic_has_pending(m.vcpu(0)));
	m.load(0);
}

TEST_F(VgicDelivery, what_comes_while_not_loaded_is_there_after_load)
{
	m.enable(33);
	m.enable(5, 0);
	m.put(0);
	line(33, true);
	sgi(1, 5ull << 24 | 1);
	EXPECT_NE(m.vcpu(0)->requests & VCPU_REQUEST_IRQ, 0u) << "it was told";
	m.load(0);
	expect_one(0, 5);
	expect_one(0, 33);
}

TEST_F(VgicDelivery, a_level_high_at_put_wakes_the_sleeper)
{
	m.enable(33);
	line(33, true);
	ASSERT_EQ(m.acknowledge(0), 33u);
	m.cpu(0).end(33);
	m.put(0);
	EXPECT_NE(m.vcpu(0)->requests & VCPU_REQUEST_IRQ, 0u);
	m.load(0);
	expect_one(0, 33);
}

TEST_F(VgicDelivery, a_vcpu_that_starts_again_has_lost_no_spi)
{
	m.set_edge(40);
	m.enable(40);
	m.enable(5, 0);
	line(40, true);
	sgi(0, 5ull << 24 | 1);
	m.enter(0);
	m.put(0);
	vgic_vcpu_reset(m.vcpu(0));
	m.load(0);
	m.cpu(0).vmcr = 0xf0000003;
	m.redist_write(0, 0, 0x10080, 0xffffffff);
	expect_one(0, 40);
	expect_none(0);
}

TEST_F(VgicDelivery, a_reset_forgets_everything)
{
	m.enable(33);
	line(33, true);
	m.enter_all();
	m.put(0);
	m.put(1);
	vgic_reset(m.gic());
	m.load(0);
	m.load(1);
	m.start();
	m.enable(33);
	expect_none(0);
	EXPECT_EQ(m.dist_read(0, 0x204), 0u);
	line(33, true);
	expect_one(0, 33);
}

} // namespace
