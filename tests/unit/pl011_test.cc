/* The PL011 as drivers see it: Linux's, an early console's, and a polling boot loader's. */
#include "uart_test_machine.h"

#include <string>
#include <thread>

extern "C" {
#include "hyp/dev_pl011.h"
#include "hyp/dev_virtio_mmio.h"
}

namespace
{

enum : u64 {
	DR = 0x00,
	RSR = 0x04,
	FR = 0x18,
	ILPR = 0x20,
	IBRD = 0x24,
	FBRD = 0x28,
	LCR_H = 0x2c,
	CR = 0x30,
	IFLS = 0x34,
	IMSC = 0x38,
	RIS = 0x3c,
	MIS = 0x40,
	ICR = 0x44,
	DMACR = 0x48,
	ID = 0xfe0,
};

constexpr u64 RXFE = BIT(4), RXFF = BIT(6), TXFF = BIT(5), TXFE = BIT(7), BUSY = BIT(3);
constexpr u64 INT_RX = BIT(4), INT_TX = BIT(5), INT_RT = BIT(6), INT_OE = BIT(10);
constexpr u64 FEN = BIT(4), LBE = BIT(7);

struct Pl011Chip {
	using Uart = struct pl011;
	static constexpr u32 LINE = 33;
	static constexpr unsigned WIDTH = 4;
	static constexpr const struct mmio_ops &ops = pl011_ops;
	static constexpr auto create = pl011_create;
	static constexpr auto destroy = pl011_destroy;
	static constexpr auto console = pl011_console;
};

class Pl011 : public UartMachine<Pl011Chip>
{
};

TEST_F(Pl011, is_an_r1p5_with_deep_fifos)
{
	const u64 ids[8] = {0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1};

	for (u32 i = 0; i < 8; i++) {
		EXPECT_EQ(get(ID + 4 * i), ids[i]);
	}
}

TEST_F(Pl011, comes_up_as_the_manual_says)
{
	EXPECT_EQ(get(FR) & (TXFE | RXFE | TXFF | RXFF | BUSY), TXFE | RXFE);
	EXPECT_EQ(get(CR), 0x300u);
	EXPECT_EQ(get(IFLS), 0x12u);
	for (u64 reg : {RSR, ILPR, IBRD, FBRD, LCR_H, IMSC, RIS, MIS, DMACR}) {
		EXPECT_EQ(get(reg), 0u) << reg;
	}
	EXPECT_EQ(get(0x100), 0u);
	EXPECT_EQ(get(DR), 0u);
}

TEST_F(Pl011, sends_bytes_before_anything_was_set_up)
{
	for (char c : std::string("hello\n")) {
		EXPECT_FALSE(get(FR) & (TXFF | BUSY));
		put(DR, (u8)c);
	}
	EXPECT_EQ(sent(), 6u);
	EXPECT_FALSE(line());
}

TEST_F(Pl011, output_reaches_the_console_in_every_width)
{
	console_init(true);
	fake_uart_clear();
	put(DR, 'a', 1);
	put(DR, 0xffffff00u | 'b', 2);
	put(DR, 'c', 4);
	put(DR, 'd', 8);
	put(DR, '\n', 1);
	EXPECT_EQ(sent(), 5u);
	EXPECT_NE(std::string(fake_uart_output()).find("abcd\n"), std::string::npos);
	put(DR + 1, 'x', 1); /* the error flags' byte: not data */
	EXPECT_EQ(sent(), 5u);
}

TEST_F(Pl011, registers_hold_what_they_have_bits_for)
{
	const u64 bits[][2] = {{ILPR, 0xff}, {IBRD, 0xffff}, {FBRD, 0x3f},  {LCR_H, 0xff},
			       {CR, 0xff87}, {IFLS, 0x3f},   {IMSC, 0x7ff}, {DMACR, 0x7}};

	for (auto [reg, mask] : bits) {
		put(reg, ~0u);
		EXPECT_EQ(get(reg), mask) << reg;
		put(reg, 0);
		EXPECT_EQ(get(reg), 0u) << reg;
	}
}

TEST_F(Pl011, registers_can_be_read_and_written_in_parts)
{
	put(IBRD, 0x1234);
	EXPECT_EQ(get(IBRD, 1), 0x34u);
	EXPECT_EQ(get(IBRD + 1, 1), 0x12u);
	EXPECT_EQ(get(IBRD, 2), 0x1234u);
	put(IBRD + 1, 0x56, 1);
	EXPECT_EQ(get(IBRD), 0x5634u);
	put(IBRD, 0x0000002a00000077, 8);
	EXPECT_EQ(get(IBRD), 0x77u);
	EXPECT_EQ(get(FBRD), 0x2au);
	EXPECT_EQ(get(IBRD, 8), 0x0000002a00000077u);
}

TEST_F(Pl011, read_only_registers_ignore_writes)
{
	for (u64 reg : std::initializer_list<u64>{FR, RIS, MIS, ID, 0x800}) {
		u64 before = get(reg);

		put(reg, ~before);
		EXPECT_EQ(get(reg), before) << reg;
	}
}

/* ---- Receiving ----------------------------------------------------------------------------- */

TEST_F(Pl011, polling_receives_keys_in_order)
{
	put(LCR_H, FEN);
	for (char c : std::string("abc")) {
		EXPECT_TRUE(key(c));
	}
	for (char c : std::string("abc")) {
		EXPECT_FALSE(get(FR) & RXFE);
		EXPECT_EQ(get(DR), (u64)c);
	}
	EXPECT_TRUE(get(FR) & RXFE);
}

TEST_F(Pl011, single_key_raises_the_receive_timeout)
{
	put(LCR_H, FEN);
	put(IMSC, INT_RX | INT_RT);
	key('x');
	EXPECT_EQ(get(RIS), INT_RT);
	EXPECT_TRUE(line());
	EXPECT_EQ(get(DR), 'x');
	EXPECT_EQ(get(RIS), 0u);
	EXPECT_FALSE(line());
}

TEST_F(Pl011, receive_interrupt_follows_the_trigger_level)
{
	const u32 levels[] = {4, 8, 16, 24, 28};

	put(LCR_H, FEN);
	for (u32 select = 0; select < 5; select++) {
		put(IFLS, select << 3);
		for (u32 i = 1; i <= levels[select]; i++) {
			EXPECT_FALSE(get(RIS) & INT_RX) << select << " " << i;
			key('k');
		}
		EXPECT_TRUE(get(RIS) & INT_RX) << select;
		get(DR);
		EXPECT_FALSE(get(RIS) & INT_RX) << select;
		while (!(get(FR) & RXFE)) {
			get(DR);
		}
	}
}

TEST_F(Pl011, fifo_holds_32_and_a_key_too_many_is_not_lost)
{
	put(LCR_H, FEN);
	for (u32 i = 0; i < 32; i++) {
		EXPECT_FALSE(get(FR) & RXFF);
		EXPECT_TRUE(key((char)i));
	}
	EXPECT_TRUE(get(FR) & RXFF);
	EXPECT_FALSE(key('!'));
	EXPECT_FALSE(get(RIS) & INT_OE);
	EXPECT_EQ(get(DR), 0u);
	EXPECT_TRUE(key('!'));
	for (u32 i = 1; i < 32; i++) {
		EXPECT_EQ(get(DR), i);
	}
	EXPECT_EQ(get(DR), '!');
}

TEST_F(Pl011, without_fifos_there_is_one_byte_of_room)
{
	EXPECT_TRUE(key('1'));
	EXPECT_TRUE(get(RIS) & INT_RX);
	EXPECT_TRUE(get(FR) & RXFF);
	EXPECT_FALSE(key('2'));
	EXPECT_EQ(get(DR), '1');
	EXPECT_TRUE(key('2'));
}

TEST_F(Pl011, turning_fifos_off_forgets_their_bytes)
{
	put(LCR_H, FEN);
	put(IMSC, INT_RT);
	key('a');
	key('b');
	EXPECT_TRUE(line());
	put(LCR_H, 0);
	EXPECT_TRUE(get(FR) & RXFE);
	EXPECT_FALSE(line());
}

TEST_F(Pl011, loopback_receives_what_was_sent_and_overruns)
{
	put(LCR_H, FEN);
	put(CR, 0x301 | LBE);
	for (u32 i = 0; i < 33; i++) {
		put(DR, i);
	}
	EXPECT_EQ(sent(), 0u);
	EXPECT_TRUE(get(RIS) & INT_OE);
	EXPECT_EQ(get(RSR), 8u);
	put(RSR, 0);
	EXPECT_EQ(get(RSR), 0u);
	EXPECT_EQ(get(DR), 0u);
	put(DR, 99); /* the first one after the loss says so */
	for (u32 i = 1; i < 32; i++) {
		EXPECT_EQ(get(DR), i);
	}
	EXPECT_EQ(get(DR), 99 | BIT(11));
	put(ICR, INT_OE);
	EXPECT_FALSE(get(RIS) & INT_OE);
}

/* ---- Interrupts ---------------------------------------------------------------------------- */

TEST_F(Pl011, transmit_interrupt_comes_after_a_byte_was_sent)
{
	put(IMSC, INT_TX);
	EXPECT_FALSE(line()) << "nothing was sent yet";
	put(DR, 'a');
	EXPECT_TRUE(line());
	EXPECT_EQ(get(MIS), INT_TX);
	put(ICR, INT_TX);
	EXPECT_FALSE(line());
	put(DR, 'b');
	EXPECT_TRUE(line());
	put(IMSC, 0);
	EXPECT_FALSE(line());
	EXPECT_EQ(get(MIS), 0u);
	EXPECT_EQ(get(RIS), INT_TX);
	put(IMSC, INT_TX);
	EXPECT_TRUE(line()) << "unmasking is enough to get going";
}

/* What Linux's handler does: MIS, ICR of all but RX, RT and TX, drain, refill, until nothing is
 * left. */
TEST_F(Pl011, linux_interrupt_handler_comes_to_an_end)
{
	std::string received;
	u32 to_send = 40, rounds = 0;

	put(LCR_H, FEN);
	put(IMSC, INT_RX | INT_RT | INT_TX);
	put(DR, 'x');
	to_send--;
	for (char c : std::string("keys")) {
		key(c);
	}
	ASSERT_TRUE(line());
	for (u64 status; (status = get(RIS) & get(IMSC)) != 0 && rounds < 100; rounds++) {
		put(ICR, status & ~(INT_TX | INT_RT | INT_RX));
		if (status & (INT_RT | INT_RX)) {
			while (!(get(FR) & RXFE)) {
				received += (char)get(DR);
			}
		}
		for (u32 i = 0; i < 16 && to_send > 0 && (status & INT_TX); i++, to_send--) {
			put(DR, 'y');
		}
		if (to_send == 0) {
			put(IMSC, INT_RX | INT_RT);
		}
	}
	EXPECT_EQ(received, "keys");
	EXPECT_EQ(sent(), 40u);
	EXPECT_FALSE(line());
	EXPECT_LT(rounds, 10u);
}

TEST_F(Pl011, line_is_true_when_two_cpus_are_done)
{
	put(LCR_H, FEN);
	for (u32 round = 0; round < 200; round++) {
		put(IMSC, INT_RT | INT_TX);
		std::thread typist([&] {
			fake_cpu_become(1);
			for (u32 i = 0; i < 50; i++) {
				key('k');
			}
		});
		for (u32 i = 0; i < 50; i++) {
			put(DR, 't');
			put(ICR, INT_TX);
			get(DR);
		}
		typist.join();
		ASSERT_EQ(line(), get(MIS) != 0);
		while (!(get(FR) & RXFE)) {
			get(DR);
		}
		ASSERT_EQ(line(), get(MIS) != 0);
	}
}

TEST_F(Pl011, reset_forgets_everything_and_lowers_the_line)
{
	put(LCR_H, FEN | 0x60);
	put(IMSC, INT_RT);
	put(IBRD, 13);
	key('a');
	ASSERT_TRUE(line());
	pl011_reset(uart);
	EXPECT_FALSE(line());
	EXPECT_EQ(get(LCR_H), 0u);
	EXPECT_EQ(get(IBRD), 0u);
	EXPECT_EQ(get(RIS), 0u);
	EXPECT_TRUE(get(FR) & RXFE);
	EXPECT_TRUE(key('b'));
}

TEST_F(Pl011, every_offset_and_width_is_survived)
{
	u32 seed = 1;

	for (u64 offset = 0; offset < PL011_SIZE; offset++) {
		for (unsigned size : {1u, 2u, 4u, 8u}) {
			if (offset + size > PL011_SIZE) {
				continue;
			}
			seed = seed * 1664525 + 1013904223;
			put(offset, (u64)seed << 32 | seed, size);
			u64 value = get(offset, size);
			EXPECT_TRUE(size == 8 || value < BIT(8 * size));
		}
	}
}

TEST(Pl011Life, no_uart_without_memory)
{
	fake_memory(PAGE_SIZE);
	while (hyp_alloc(PAGE_SIZE) != nullptr) {
	}
	EXPECT_EQ(pl011_create(nullptr, Pl011Chip::LINE), nullptr);
	pl011_destroy(nullptr);
}

/* ---- Empty virtio-mmio transports ------------------------------------------------------------ */

class VirtioMmio : public GuestMachine
{
};

TEST_F(VirtioMmio, empty_transports_say_that_there_is_no_device)
{
	const struct mmio_ops *ops = &virtio_mmio_ops;

	for (u64 slot = 0; slot < 32 * VIRTIO_MMIO_SLOT_SIZE; slot += VIRTIO_MMIO_SLOT_SIZE) {
		EXPECT_EQ(ops->read(vm, nullptr, slot + 0x0, 4), 0x74726976u);
		EXPECT_EQ(ops->read(vm, nullptr, slot + 0x4, 4), 2u);
		EXPECT_EQ(ops->read(vm, nullptr, slot + 0x8, 4), 0u);
		for (u64 reg = 0x10; reg < VIRTIO_MMIO_SLOT_SIZE; reg += 4) {
			ops->write(vm, nullptr, slot + reg, 4, ~0u);
			EXPECT_EQ(ops->read(vm, nullptr, slot + reg, 4), 0u);
		}
	}
}

TEST_F(VirtioMmio, other_widths_read_the_bytes_that_lie_there)
{
	const struct mmio_ops *ops = &virtio_mmio_ops;
	std::string magic;

	for (u64 i = 0; i < 4; i++) {
		magic += (char)ops->read(vm, nullptr, i, 1);
	}
	EXPECT_EQ(magic, "virt");
	EXPECT_EQ(ops->read(vm, nullptr, 0, 8), 0x0000000274726976u);
	EXPECT_EQ(ops->read(vm, nullptr, 2, 2), 0x7472u);
}

} // namespace
