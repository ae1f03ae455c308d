/* The virtual IO-APIC as its data sheet has it (82093AA, chapter 3): registers, edges, levels. */
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

extern "C" {
#include "hyp/vm.h"
#include "../../arch/x86_64/vioapic.h"
}

namespace
{

enum : u64 { IOREGSEL = 0x00, IOWIN = 0x10, IOEOIR = 0x40 };
enum : u32 { ID = 0x00, VERSION = 0x01, ARBITRATION = 0x02, ENTRIES = 0x10 };

constexpr u64 kLogical = BIT(11), kPending = BIT(12), kActiveLow = BIT(13), kRemoteIrr = BIT(14);
constexpr u64 kLevel = BIT(15), kMasked = BIT(16);
constexpr u64 kLowest = 1u << 8, kSmi = 2u << 8, kNmi = 4u << 8, kInit = 5u << 8, kExtInt = 7u << 8;

class Vioapic : public testing::Test
{
      protected:
	struct vioapic io = {};
	std::vector<struct vapic_message> sent;
	bool taken = true; /* somebody takes what is sent */

	void SetUp() override
	{
		vioapic_init(&io, note, this);
	}

	static bool note(void *context, const struct vapic_message *message)
	{
		Vioapic *self = (Vioapic *)context;

		self->sent.push_back(*message);
		return self->taken;
	}

	u64 read_at(u64 offset, unsigned size = 4)
	{
		return vioapic_ops.read(&io, nullptr, offset, size);
	}

	void write_at(u64 offset, u64 value, unsigned size = 4)
	{
		vioapic_ops.write(&io, nullptr, offset, size, value);
	}

	u32 get(u32 index)
	{
		write_at(IOREGSEL, index);
		return (u32)read_at(IOWIN);
	}

	void put(u32 index, u32 value)
	{
		write_at(IOREGSEL, index);
		write_at(IOWIN, value);
	}

	u64 entry(u32 pin)
	{
		return get(ENTRIES + 2 * pin) | (u64)get(ENTRIES + 2 * pin + 1) << 32;
	}

	/* As drivers do: the half with the mask bit last. */
	void route(u32 pin, u64 value)
	{
		put(ENTRIES + 2 * pin + 1, (u32)(value >> 32));
		put(ENTRIES + 2 * pin, (u32)value);
	}

	void line(u32 pin, bool asserted)
	{
		vioapic_set_line(&io, pin, asserted);
	}

	/* How many messages there were since this was asked last. */
	size_t messages()
	{
		size_t count = sent.size();

		sent.clear();
		return count;
	}
};

/* ---- Registers ------------------------------------------------------------------------------- */

TEST_F(Vioapic, says_that_it_has_24_pins_and_an_eoi_register)
{
	EXPECT_EQ(get(VERSION), 0x00170020u);
	put(VERSION, 0xffffffff);
	EXPECT_EQ(get(VERSION), 0x00170020u);
}

TEST_F(Vioapic, comes_up_with_all_pins_masked)
{
	EXPECT_EQ(get(ID), 0u);
	EXPECT_EQ(read_at(IOREGSEL), 0u);
	for (u32 pin = 0; pin < 24; pin++) {
		EXPECT_EQ(entry(pin), kMasked) << pin;
		line(pin, true);
		line(pin, false);
	}
	EXPECT_EQ(messages(), 0u);
}

TEST_F(Vioapic, id_has_four_bits_and_loads_the_arbitration_id)
{
	put(ID, 0xffffffff);
	EXPECT_EQ(get(ID), 0x0f000000u);
	EXPECT_EQ(get(ARBITRATION), 0x0f000000u);
	put(ARBITRATION, 0x05000000);
	EXPECT_EQ(get(ARBITRATION), 0x0f000000u) << "read-only";
}

TEST_F(Vioapic, selects_by_eight_bits)
{
	write_at(IOREGSEL, 0xffffff01);
	EXPECT_EQ(read_at(IOREGSEL), 0x01u);
	EXPECT_EQ(read_at(IOWIN), 0x00170020u);
}

TEST_F(Vioapic, entries_keep_what_can_be_written_and_each_its_own)
{
	for (u32 pin = 0; pin < 24; pin++) {
		route(pin, (u64)pin << 56 | kMasked | (0x20 + pin));
	}
	for (u32 pin = 0; pin < 24; pin++) {
		EXPECT_EQ(entry(pin), (u64)pin << 56 | kMasked | (0x20 + pin)) << pin;
	}
	route(7, ~0ull);
	EXPECT_EQ(entry(7), BITS(63, 56) | 0x1afff)
		<< "status, Remote IRR and reserved bits stay 0";
	EXPECT_EQ(entry(6), 6ull << 56 | kMasked | 0x26);
	EXPECT_EQ(entry(8), 8ull << 56 | kMasked | 0x28);
}

TEST_F(Vioapic, registers_that_are_not_there_read_as_zero)
{
	for (u32 index : {0x03u, 0x0fu, 0x40u, 0x41u, 0xffu}) {
		put(index, 0xffffffff);
		EXPECT_EQ(get(index), 0u) << index;
	}
	for (u64 offset :
	     {0x04ull, 0x08ull, 0x14ull, 0x20ull, 0x40ull, 0x44ull, 0xffcull, 0x1000ull}) {
		write_at(offset, 0xffffffff);
		EXPECT_EQ(read_at(offset), 0u) << offset;
	}
	EXPECT_EQ(entry(23), kMasked);
	EXPECT_EQ(messages(), 0u);
}

TEST_F(Vioapic, only_accesses_of_32_bits_do_something)
{
	put(ID, 0x03000000);
	for (unsigned size : {1u, 2u, 8u}) {
		write_at(IOREGSEL, VERSION, size);
		EXPECT_EQ(read_at(IOREGSEL), 0u) << size;
		write_at(IOWIN, 0x05000000, size);
		EXPECT_EQ(read_at(IOWIN), 0x03000000u) << size;
		EXPECT_EQ(read_at(IOWIN, size), 0u) << size;
	}
}

/* ---- Messages -------------------------------------------------------------------------------- */

TEST_F(Vioapic, message_is_what_the_entry_says)
{
	route(9, 0x5aull << 56 | kLogical | kLowest | kActiveLow | 0x61);
	line(9, true);
	ASSERT_EQ(sent.size(), 1u);
	EXPECT_EQ(sent[0].destination, 0x5au);
	EXPECT_TRUE(sent[0].logical);
	EXPECT_EQ(sent[0].mode, VAPIC_LOWEST);
	EXPECT_EQ(sent[0].vector, 0x61);
	EXPECT_EQ(sent[0].shorthand, VAPIC_TO_DESTINATION);
	EXPECT_FALSE(sent[0].wide);
	EXPECT_FALSE(sent[0].level);
	sent.clear();
	route(10, 0x03ull << 56 | kLevel | 0x62);
	line(10, true);
	ASSERT_EQ(sent.size(), 1u);
	EXPECT_EQ(sent[0].destination, 3u);
	EXPECT_FALSE(sent[0].logical);
	EXPECT_EQ(sent[0].mode, VAPIC_FIXED);
	EXPECT_TRUE(sent[0].level);
}

TEST_F(Vioapic, every_pin_has_its_line)
{
	for (u32 pin = 0; pin < 24; pin++) {
		route(pin, 0x20 + pin);
	}
	for (u32 pin = 0; pin < 24; pin++) {
		line(pin, true);
		ASSERT_EQ(sent.size(), 1u) << pin;
		EXPECT_EQ(sent[0].vector, 0x20 + pin);
		sent.clear();
	}
}

/* ---- Edges ----------------------------------------------------------------------------------- */

TEST_F(Vioapic, edge_is_one_message_for_each_rise)
{
	route(4, 0x44);
	line(4, true);
	EXPECT_EQ(messages(), 1u);
	line(4, true);
	EXPECT_EQ(messages(), 0u) << "no rise";
	line(4, false);
	EXPECT_EQ(messages(), 0u);
	line(4, true);
	EXPECT_EQ(messages(), 1u);
	EXPECT_EQ(entry(4), 0x44u) << "no Remote IRR";
}

TEST_F(Vioapic, masked_edge_is_lost)
{
	route(4, kMasked | 0x44);
	line(4, true);
	route(4, 0x44);
	EXPECT_EQ(messages(), 0u);
	line(4, false);
	line(4, true);
	EXPECT_EQ(messages(), 1u);
}

TEST_F(Vioapic, end_of_an_edges_vector_sends_nothing)
{
	route(4, 0x44);
	line(4, true);
	messages();
	vioapic_eoi(&io, 0x44);
	write_at(IOEOIR, 0x44);
	EXPECT_EQ(messages(), 0u);
}

TEST_F(Vioapic, polarity_does_not_turn_a_line_round)
{
	route(4, kActiveLow | 0x44);
	EXPECT_EQ(messages(), 0u);
	line(4, true);
	EXPECT_EQ(messages(), 1u);
	line(4, false);
	EXPECT_EQ(messages(), 0u);
}

/* ---- Levels ---------------------------------------------------------------------------------- */

TEST_F(Vioapic, level_is_sent_once_until_its_end_then_again_while_asserted)
{
	route(5, kLevel | 0x55);
	line(5, true);
	EXPECT_EQ(messages(), 1u);
	EXPECT_EQ(entry(5), kLevel | kRemoteIrr | 0x55);
	line(5, false);
	line(5, true);
	EXPECT_EQ(messages(), 0u) << "not before its end";
	vioapic_eoi(&io, 0x55);
	EXPECT_EQ(messages(), 1u);
	EXPECT_EQ(entry(5), kLevel | kRemoteIrr | 0x55);
	line(5, false);
	vioapic_eoi(&io, 0x55);
	EXPECT_EQ(messages(), 0u);
	EXPECT_EQ(entry(5), kLevel | 0x55);
	line(5, true);
	EXPECT_EQ(messages(), 1u);
}

TEST_F(Vioapic, eoi_register_ends_as_a_broadcast_does)
{
	route(5, kLevel | 0x55);
	line(5, true);
	line(5, false);
	write_at(IOEOIR, 0x54);
	EXPECT_EQ(entry(5), kLevel | kRemoteIrr | 0x55);
	write_at(IOEOIR, 0x55);
	EXPECT_EQ(entry(5), kLevel | 0x55);
}

TEST_F(Vioapic, end_concerns_every_pin_of_its_vector_and_no_other)
{
	route(5, kLevel | 0x55);
	route(6, kLevel | 0x55);
	route(7, kLevel | 0x56);
	for (u32 pin : {5, 6, 7}) {
		line(pin, true);
	}
	EXPECT_EQ(messages(), 3u);
	line(6, false);
	vioapic_eoi(&io, 0x55);
	EXPECT_EQ(messages(), 1u);
	EXPECT_EQ(entry(5), kLevel | kRemoteIrr | 0x55);
	EXPECT_EQ(entry(6), kLevel | 0x55);
	EXPECT_EQ(entry(7), kLevel | kRemoteIrr | 0x56);
}

TEST_F(Vioapic, masked_level_is_sent_when_unmasked_if_still_asserted)
{
	route(5, kLevel | kMasked | 0x55);
	line(5, true);
	EXPECT_EQ(messages(), 0u);
	route(5, kLevel | 0x55);
	EXPECT_EQ(messages(), 1u);
	route(6, kLevel | kMasked | 0x56);
	line(6, true);
	line(6, false);
	route(6, kLevel | 0x56);
	EXPECT_EQ(messages(), 0u);
}

TEST_F(Vioapic, level_masked_before_its_end_waits_for_the_unmasking)
{
	route(5, kLevel | 0x55);
	line(5, true);
	put(ENTRIES + 10, (u32)(kLevel | kMasked | 0x55));
	EXPECT_EQ(entry(5), kLevel | kMasked | kRemoteIrr | 0x55) << "masking ends nothing";
	messages();
	vioapic_eoi(&io, 0x55);
	EXPECT_EQ(entry(5), kLevel | kMasked | 0x55);
	EXPECT_EQ(messages(), 0u);
	put(ENTRIES + 10, (u32)(kLevel | 0x55));
	EXPECT_EQ(messages(), 1u);
}

TEST_F(Vioapic, unmasking_before_the_end_sends_nothing)
{
	route(5, kLevel | 0x55);
	line(5, true);
	messages();
	put(ENTRIES + 10, (u32)(kLevel | kMasked | 0x55));
	put(ENTRIES + 10, (u32)(kLevel | 0x55));
	put(ENTRIES + 11, 0x01000000);
	EXPECT_EQ(messages(), 0u);
	EXPECT_EQ(entry(5), 1ull << 56 | kLevel | kRemoteIrr | 0x55);
}

TEST_F(Vioapic, remote_irr_cannot_be_written)
{
	route(5, kLevel | kRemoteIrr | kPending | 0x55);
	EXPECT_EQ(entry(5), kLevel | 0x55);
	line(5, true);
	put(ENTRIES + 10, (u32)(kLevel | 0x55));
	EXPECT_EQ(entry(5), kLevel | kRemoteIrr | 0x55);
}

TEST_F(Vioapic, becoming_an_edge_gets_a_stuck_pin_loose)
{
	route(5, kLevel | 0x55);
	line(5, true);
	messages();
	put(ENTRIES + 10, (u32)(kMasked | 0x55));
	EXPECT_EQ(entry(5), kMasked | 0x55);
	put(ENTRIES + 10, (u32)(kMasked | kLevel | 0x55));
	EXPECT_EQ(entry(5), kMasked | kLevel | 0x55);
	EXPECT_EQ(messages(), 0u);
	put(ENTRIES + 10, (u32)(kLevel | 0x55));
	EXPECT_EQ(messages(), 1u);
}

TEST_F(Vioapic, asserted_line_whose_entry_becomes_level_is_sent)
{
	route(5, 0x55);
	line(5, true);
	EXPECT_EQ(messages(), 1u);
	route(5, kLevel | 0x55);
	EXPECT_EQ(messages(), 1u);
}

TEST_F(Vioapic, level_that_nobody_took_is_sent_again_by_the_next_change)
{
	route(5, kLevel | 0x55);
	taken = false;
	line(5, true);
	EXPECT_EQ(messages(), 1u);
	EXPECT_EQ(entry(5), kLevel | 0x55);
	taken = true;
	put(ENTRIES + 11, 0x02000000);
	EXPECT_EQ(messages(), 1u);
	EXPECT_EQ(entry(5), 2ull << 56 | kLevel | kRemoteIrr | 0x55);
}

TEST_F(Vioapic, level_that_nobody_took_is_sent_again_when_its_device_insists)
{
	route(5, kLevel | 0x55);
	taken = false;
	line(5, true);
	messages();
	taken = true;
	line(5, true);
	EXPECT_EQ(messages(), 1u);
}

/* ---- Other modes ----------------------------------------------------------------------------- */

TEST_F(Vioapic, nmi_and_init_are_edges_whatever_their_trigger_mode)
{
	for (u64 mode : {kNmi, kInit}) {
		route(2, kLevel | mode);
		line(2, true);
		ASSERT_EQ(sent.size(), 1u);
		EXPECT_EQ(sent[0].mode, mode >> 8);
		EXPECT_FALSE(sent[0].level);
		EXPECT_EQ(entry(2), kLevel | mode) << "no Remote IRR, which nobody would end";
		sent.clear();
		line(2, true);
		EXPECT_EQ(messages(), 0u);
		line(2, false);
		line(2, true);
		EXPECT_EQ(messages(), 1u);
		line(2, false);
	}
}

TEST_F(Vioapic, modes_that_nobody_takes_go_nowhere)
{
	for (u64 mode : {kSmi, (u64)3 << 8, (u64)6 << 8, kExtInt}) {
		for (u64 trigger : {0ull, (unsigned long long)kLevel}) {
			route(2, mode | trigger | 0x40);
			line(2, true);
			line(2, false);
			EXPECT_EQ(messages(), 0u) << mode;
		}
	}
}

/* ---- As a whole --------------------------------------------------------------------------------
 */

TEST_F(Vioapic, reset_masks_all_and_leaves_the_lines_to_their_devices)
{
	put(ID, 0x03000000);
	route(5, kLevel | 0x55);
	line(5, true);
	messages();
	vioapic_reset(&io);
	EXPECT_EQ(read_at(IOREGSEL), 0u);
	EXPECT_EQ(get(ID), 0u);
	EXPECT_EQ(entry(5), kMasked);
	vioapic_eoi(&io, 0x55);
	EXPECT_EQ(messages(), 0u);
	route(5, kLevel | 0x66);
	EXPECT_EQ(messages(), 1u);
}

/* A device and the guest's CPU: each level that is sent is ended, by another CPU, until it is low.
 */
TEST(VioapicCpus, level_and_its_end_on_two_cpus_are_never_out_of_step)
{
	struct Cpu {
		std::atomic<u32> requested{0};
		u32 sent_count = 0;
	} cpu;
	struct vioapic io = {};
	std::atomic<bool> done{false};
	u32 ended = 0;

	vioapic_init(
		&io,
		[](void *context, const struct vapic_message *) {
			Cpu *to = (Cpu *)context;

			to->sent_count++;
			EXPECT_EQ(to->requested.exchange(1), 0u) << "the last one is not ended";
			return true;
		},
		&cpu);
	vioapic_ops.write(&io, nullptr, IOREGSEL, 4, ENTRIES);
	vioapic_ops.write(&io, nullptr, IOWIN, 4, kLevel | 0x55);
	std::thread guest([&] {
		for (bool last = false; !last;) {
			last = done;
			if (cpu.requested.exchange(0)) {
				ended++;
				vioapic_eoi(&io, 0x55);
				last = false;
			}
		}
	});
	for (u32 i = 0; i < 20000; i++) {
		vioapic_set_line(&io, 0, true);
		vioapic_set_line(&io, 0, false);
	}
	done = true;
	guest.join();
	EXPECT_EQ(ended, cpu.sent_count);
	EXPECT_EQ(vioapic_ops.read(&io, nullptr, IOWIN, 4), kLevel | 0x55);
}

} // namespace
