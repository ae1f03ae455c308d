/* The 16550A as drivers see it: Linux's 8250 driver, an early console's, and a test of the chip. */
#include "uart_test_machine.h"

#include <string>
#include <thread>

extern "C" {
#include "hyp/dev_16550.h"
}

namespace
{

enum : u64 { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR, DLL = DATA, DLM = IER };

constexpr u64 IER_DATA = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8;
constexpr u64 IIR_NONE = 1, IIR_THRE = 2, IIR_DATA = 4, IIR_LINE = 6, IIR_TIMEOUT = 0xc;
constexpr u64 FIFOS = 0xc0;
constexpr u64 DTR = 1, RTS = 2, OUT1 = 4, OUT2 = 8, LOOP = 0x10;
constexpr u64 DR = 1, OE = 2, THRE = 0x20, TEMT = 0x40, IDLE = THRE | TEMT;
constexpr u64 CTS = 0x10, DSR = 0x20, RI = 0x40, DCD = 0x80, DCTS = 1, DDSR = 2, TERI = 4, DDCD = 8;
constexpr u64 DLAB = 0x80;

struct Uart16550Chip {
	using Uart = struct uart16550;
	static constexpr u32 LINE = 4;
	static constexpr unsigned WIDTH = 1;
	static constexpr const struct mmio_ops &ops = uart16550_ops;
	static constexpr auto create = uart16550_create;
	static constexpr auto destroy = uart16550_destroy;
	static constexpr auto console = uart16550_console;
};

class Uart16550 : public UartMachine<Uart16550Chip>
{
      protected:
	void keys(u32 count)
	{
		for (u32 i = 0; i < count; i++) {
			ASSERT_TRUE(key((char)('a' + i))) << i;
		}
	}

	std::string drain()
	{
		std::string got;

		while (get(LSR) & DR) {
			got += (char)get(DATA);
		}
		return got;
	}
};

TEST_F(Uart16550, comes_up_as_the_manual_says)
{
	EXPECT_EQ(get(IER), 0u);
	EXPECT_EQ(get(IIR), IIR_NONE);
	EXPECT_EQ(get(LCR), 0u);
	EXPECT_EQ(get(MCR), 0u);
	EXPECT_EQ(get(LSR), IDLE);
	EXPECT_EQ(get(MSR), CTS | DSR | DCD);
	EXPECT_EQ(get(DATA), 0u);
	EXPECT_FALSE(line());
}

TEST_F(Uart16550, firmware_left_a_rate_that_can_be_divided_by)
{
	put(LCR, DLAB);
	EXPECT_EQ(get(DLL) | get(DLM) << 8, 1u);
}

TEST_F(Uart16550, registers_hold_what_they_have_bits_for)
{
	const u64 bits[][2] = {{IER, 0x0f}, {LCR, 0xff}, {MCR, 0x1f}, {SCR, 0xff}};

	for (auto [reg, mask] : bits) {
		for (u64 value : {0xffu, 0u, 0x5au, 0xa5u, 0u}) {
			put(reg, value);
			EXPECT_EQ(get(reg), value & mask) << reg;
		}
	}
}

TEST_F(Uart16550, read_only_registers_ignore_writes)
{
	for (u64 value : {0u, 0xffu}) {
		put(LSR, value);
		put(MSR, value);
		EXPECT_EQ(get(LSR), IDLE);
		EXPECT_EQ(get(MSR), CTS | DSR | DCD);
	}
}

TEST_F(Uart16550, divisor_lies_behind_dlab_alone)
{
	put(IER, 0x05);
	put(LCR, DLAB | 3);
	put(DLL, 0x34);
	put(DLM, 0x12);
	EXPECT_EQ(get(DLL), 0x34u);
	EXPECT_EQ(get(DLM), 0x12u);
	EXPECT_EQ(sent(), 0u);
	put(LCR, 3);
	EXPECT_EQ(get(IER), 0x05u);
	EXPECT_EQ(get(DATA), 0u);
	put(DATA, 'a');
	EXPECT_EQ(sent(), 1u);
	put(LCR, DLAB | 3);
	EXPECT_EQ(get(DLL), 0x34u);
	EXPECT_EQ(get(DLM), 0x12u);
}

TEST_F(Uart16550, dlab_does_not_hide_the_other_registers)
{
	put(LCR, DLAB);
	put(FCR, 1);
	EXPECT_EQ(get(IIR), FIFOS | IIR_NONE);
	put(SCR, 0x77);
	EXPECT_EQ(get(SCR), 0x77u);
	EXPECT_EQ(get(LSR), IDLE);
}

TEST_F(Uart16550, wider_accesses_are_one_of_each_byte)
{
	put(LCR, DLAB);
	put(DLL, 0x1234, 2);
	EXPECT_EQ(get(DLL, 2), 0x1234u);
	put(LCR, 0);
	put(LCR, 0x00081f, 2);
	EXPECT_EQ(get(LCR), 0x1fu);
	EXPECT_EQ(get(MCR), 0x08u);
	put(SCR, 0x5a);
	EXPECT_EQ(get(MCR, 4), 0x5a000008u | IDLE << 8 | (CTS | DSR | DCD) << 16);
}

TEST_F(Uart16550, nothing_is_behind_the_last_register)
{
	put(SCR, 0xffffff5a, 4);
	EXPECT_EQ(get(SCR, 4), 0xffffff5au);
	put(UART16550_SIZE, 0);
	EXPECT_EQ(get(UART16550_SIZE), 0xffu);
	EXPECT_EQ(get(DATA), 0u);
}

/* ---- Sending ------------------------------------------------------------------------------- */

TEST_F(Uart16550, early_console_sends_before_anything_was_set_up)
{
	console_init(true);
	fake_uart_clear();
	for (char c : std::string("hello\n")) {
		EXPECT_EQ(get(LSR), IDLE) << "polling finds room";
		put(DATA, (u8)c);
	}
	EXPECT_EQ(sent(), 6u);
	EXPECT_NE(std::string(fake_uart_output()).find("hello\n"), std::string::npos);
	EXPECT_FALSE(line());
}

TEST_F(Uart16550, transmit_interrupt_is_due_when_enabled)
{
	put(MCR, OUT2);
	put(IER, IER_THRE);
	EXPECT_TRUE(line());
	EXPECT_EQ(get(IIR), IIR_THRE);
	EXPECT_FALSE(line()) << "reading IIR took it back";
	EXPECT_EQ(get(IIR), IIR_NONE);
	put(IER, IER_THRE);
	EXPECT_FALSE(line()) << "it was enabled already";
	put(IER, 0);
	put(IER, IER_THRE);
	EXPECT_TRUE(line());
}

TEST_F(Uart16550, transmit_interrupt_comes_after_each_byte)
{
	put(MCR, OUT2);
	put(IER, IER_THRE);
	get(IIR);
	for (u32 i = 0; i < 3; i++) {
		EXPECT_FALSE(line());
		put(DATA, 'a');
		EXPECT_TRUE(line());
		put(DATA, 'b');
		EXPECT_TRUE(line());
		EXPECT_EQ(get(IIR), IIR_THRE);
	}
}

TEST_F(Uart16550, transmit_interrupt_is_not_taken_back_by_reading_another)
{
	put(IER, IER_DATA | IER_THRE);
	key('k');
	EXPECT_EQ(get(IIR), IIR_DATA);
	EXPECT_EQ(get(IIR), IIR_DATA);
	get(DATA);
	EXPECT_EQ(get(IIR), IIR_THRE);
	EXPECT_EQ(get(IIR), IIR_NONE);
}

TEST_F(Uart16550, reading_iir_with_the_interrupt_disabled_takes_nothing_back)
{
	put(MCR, OUT2);
	put(DATA, 'a');
	EXPECT_EQ(get(IIR), IIR_NONE);
	put(IER, IER_THRE);
	EXPECT_TRUE(line());
}

/* ---- Receiving ----------------------------------------------------------------------------- */

TEST_F(Uart16550, polling_receives_keys_in_order)
{
	put(FCR, 1);
	keys(3);
	EXPECT_EQ(drain(), "abc");
	EXPECT_EQ(get(LSR), IDLE);
}

TEST_F(Uart16550, without_fifos_there_is_one_byte_of_room)
{
	put(IER, IER_DATA);
	EXPECT_TRUE(key('1'));
	EXPECT_EQ(get(IIR), IIR_DATA) << "not a timeout: there is no FIFO";
	EXPECT_FALSE(key('2'));
	EXPECT_EQ(get(LSR), IDLE | DR) << "no overrun";
	EXPECT_EQ(get(DATA), '1');
	EXPECT_TRUE(key('2'));
	EXPECT_EQ(drain(), "2");
}

TEST_F(Uart16550, fifo_holds_16_and_a_key_too_many_is_not_lost)
{
	put(FCR, 1);
	keys(16);
	EXPECT_FALSE(key('!'));
	EXPECT_EQ(get(LSR), IDLE | DR);
	EXPECT_EQ(get(DATA), 'a');
	EXPECT_TRUE(key('!'));
	EXPECT_EQ(drain(), "bcdefghijklmnop!");
}

TEST_F(Uart16550, single_key_raises_the_timeout)
{
	put(FCR, 0xc1);
	put(MCR, OUT2);
	put(IER, IER_DATA);
	key('x');
	EXPECT_TRUE(line());
	EXPECT_EQ(get(IIR), FIFOS | IIR_TIMEOUT);
	EXPECT_TRUE(line()) << "reading the byte ends it, reading IIR does not";
	EXPECT_EQ(get(DATA), 'x');
	EXPECT_EQ(get(IIR), FIFOS | IIR_NONE);
	EXPECT_FALSE(line());
}

TEST_F(Uart16550, receive_interrupt_follows_the_trigger_level)
{
	const u32 levels[] = {1, 4, 8, 14};

	put(IER, IER_DATA);
	for (u32 select = 0; select < 4; select++) {
		put(FCR, select << 6 | 1);
		for (u32 i = 1; i <= 16; i++) {
			key('k');
			EXPECT_EQ(get(IIR), FIFOS | (i < levels[select] ? IIR_TIMEOUT : IIR_DATA))
				<< select << " " << i;
		}
		for (u32 i = 15; i > 0; i--) {
			get(DATA);
			EXPECT_EQ(get(IIR), FIFOS | (i < levels[select] ? IIR_TIMEOUT : IIR_DATA))
				<< select << " " << i;
		}
		get(DATA);
		EXPECT_EQ(get(IIR), FIFOS | IIR_NONE);
	}
}

TEST_F(Uart16550, trigger_level_can_change_with_bytes_in_the_fifo)
{
	put(IER, IER_DATA);
	put(FCR, 0x81);
	keys(4);
	EXPECT_EQ(get(IIR), FIFOS | IIR_TIMEOUT);
	put(FCR, 0x41);
	EXPECT_EQ(get(IIR), FIFOS | IIR_DATA);
	EXPECT_EQ(drain(), "abcd");
}

TEST_F(Uart16550, fifo_control_without_its_first_bit_turns_all_off)
{
	put(FCR, 0xc1);
	EXPECT_EQ(get(IIR), FIFOS | IIR_NONE);
	put(FCR, 0xc6);
	EXPECT_EQ(get(IIR), IIR_NONE);
	put(FCR, 1);
	put(IER, IER_DATA);
	key('a');
	EXPECT_EQ(get(IIR), FIFOS | IIR_DATA) << "the trigger level is 1 again";
}

TEST_F(Uart16550, fifos_forget_when_they_are_reset_or_toggled)
{
	put(FCR, 1);
	keys(3);
	put(FCR, 1);
	put(FCR, 5); /* the transmitter's alone */
	EXPECT_EQ(get(LSR), IDLE | DR);
	put(FCR, 3);
	EXPECT_EQ(get(LSR), IDLE);
	keys(3);
	put(FCR, 0);
	EXPECT_EQ(get(LSR), IDLE);
	key('a');
	put(FCR, 2);
	EXPECT_EQ(get(LSR), IDLE | DR) << "without bit 0 there is no reset";
	put(FCR, 1);
	EXPECT_EQ(get(LSR), IDLE);
}

TEST_F(Uart16550, keys_that_wait_come_when_there_is_room)
{
	const std::string typed = "abcdefghijklmnopqrstuvwxyz";

	console_init(false);
	vm->console = uart16550_console(uart);
	console_set_focus(vm);
	for (char c : typed) {
		fake_uart_feed(std::string(1, c).c_str());
		console_poll_input();
	}
	put(FCR, 1); /* forgets the first one, and makes room for 16 */
	EXPECT_EQ(drain(), typed.substr(1));
	vm->console = nullptr;
	console_init(true);
}

/* ---- Interrupts ---------------------------------------------------------------------------- */

TEST_F(Uart16550, interrupts_come_by_priority)
{
	put(FCR, 1);
	put(MCR, LOOP | OUT2);
	for (u32 i = 0; i < 17; i++) {
		put(DATA, i);
	}
	put(IER, 0x0f); /* all four are pending */
	EXPECT_EQ(get(IIR), FIFOS | IIR_LINE);
	get(LSR);
	EXPECT_EQ(get(IIR), FIFOS | IIR_DATA);
	drain();
	EXPECT_EQ(get(IIR), FIFOS | IIR_THRE);
	EXPECT_EQ(get(IIR), FIFOS) << "modem status";
	EXPECT_TRUE(line());
	get(MSR);
	EXPECT_EQ(get(IIR), FIFOS | IIR_NONE);
	EXPECT_FALSE(line());
}

TEST_F(Uart16550, each_interrupt_has_its_enable)
{
	put(FCR, 1);
	put(MCR, LOOP | OUT2);
	for (u32 i = 0; i < 17; i++) {
		put(DATA, i);
	}
	EXPECT_EQ(get(IIR), FIFOS | IIR_NONE);
	EXPECT_FALSE(line());
	for (auto [enable, cause] : {std::pair<u64, u64>{IER_LINE, IIR_LINE},
				     {IER_DATA, IIR_DATA},
				     {IER_THRE, IIR_THRE},
				     {IER_MODEM, 0}}) {
		put(IER, enable);
		EXPECT_TRUE(line()) << enable;
		EXPECT_EQ(get(IIR), FIFOS | cause) << enable;
		put(IER, 0);
		EXPECT_FALSE(line()) << enable;
	}
}

TEST_F(Uart16550, out2_gates_the_line_and_nothing_else)
{
	put(IER, IER_DATA);
	key('a');
	EXPECT_FALSE(line());
	EXPECT_EQ(get(IIR), IIR_DATA) << "polling sees it";
	put(MCR, DTR | RTS | OUT1);
	EXPECT_FALSE(line());
	put(MCR, OUT2);
	EXPECT_TRUE(line());
	put(MCR, 0);
	EXPECT_FALSE(line());
}

/* What Linux's handler does until IIR names nothing: drain, look at the modem, refill. */
TEST_F(Uart16550, linux_interrupt_handler_comes_to_an_end)
{
	std::string received;
	u32 to_send = 40, rounds = 0;

	put(FCR, 0x81);
	put(MCR, OUT2 | RTS | DTR);
	put(IER, IER_DATA | IER_LINE | IER_THRE);
	keys(4);
	ASSERT_TRUE(line());
	for (; !(get(IIR) & IIR_NONE) && rounds < 100; rounds++) {
		u64 status = get(LSR);

		for (; status & DR; status = get(LSR)) {
			received += (char)get(DATA);
		}
		get(MSR);
		for (u32 i = 0; i < 16 && to_send > 0 && (status & THRE); i++, to_send--) {
			put(DATA, 'y');
		}
		if (to_send == 0) {
			put(IER, IER_DATA | IER_LINE);
		}
	}
	EXPECT_EQ(received, "abcd");
	EXPECT_EQ(sent(), 40u);
	EXPECT_FALSE(line());
	EXPECT_LT(rounds, 10u);
}

TEST_F(Uart16550, line_is_true_when_two_cpus_are_done)
{
	put(FCR, 0xc1);
	put(MCR, OUT2);
	put(IER, IER_DATA | IER_THRE);
	for (u32 round = 0; round < 200; round++) {
		std::thread typist([&] {
			fake_cpu_become(1);
			for (u32 i = 0; i < 50; i++) {
				key('k');
			}
		});
		for (u32 i = 0; i < 50; i++) {
			put(DATA, 't');
			get(IIR);
			get(DATA);
		}
		typist.join();
		drain();
		get(IIR);
		ASSERT_FALSE(line());
		put(DATA, 't');
		ASSERT_TRUE(line());
	}
}

/* ---- Loopback and modem -------------------------------------------------------------------- */

TEST_F(Uart16550, loopback_receives_what_was_sent)
{
	put(FCR, 1);
	put(MCR, LOOP);
	for (char c : std::string("loop")) {
		put(DATA, (u8)c);
	}
	EXPECT_EQ(sent(), 0u);
	EXPECT_EQ(drain(), "loop");
	put(MCR, 0);
	put(DATA, 'x');
	EXPECT_EQ(sent(), 1u);
	EXPECT_EQ(get(LSR), IDLE);
}

TEST_F(Uart16550, keys_wait_until_loopback_is_over)
{
	put(MCR, LOOP);
	EXPECT_FALSE(key('a'));
	EXPECT_EQ(get(LSR), IDLE);
	put(MCR, 0);
	EXPECT_TRUE(key('a'));
	EXPECT_EQ(drain(), "a");
}

TEST_F(Uart16550, full_fifo_keeps_its_bytes_and_says_that_one_was_lost)
{
	put(FCR, 1);
	put(MCR, LOOP);
	for (u32 i = 0; i < 16; i++) {
		put(DATA, 'a' + i);
	}
	EXPECT_EQ(get(LSR), IDLE | DR);
	put(DATA, '!');
	EXPECT_EQ(get(LSR), IDLE | DR | OE);
	EXPECT_EQ(get(LSR), IDLE | DR) << "reading it took it back";
	EXPECT_EQ(drain(), "abcdefghijklmnop");
}

TEST_F(Uart16550, single_register_takes_the_later_byte)
{
	put(MCR, LOOP);
	put(DATA, 'a');
	put(DATA, 'b');
	EXPECT_EQ(get(LSR), IDLE | DR | OE);
	EXPECT_EQ(drain(), "b");
}

TEST_F(Uart16550, loopback_shows_the_outputs_as_inputs)
{
	const std::pair<u64, u64> wires[] = {{RTS, CTS}, {DTR, DSR}, {OUT1, RI}, {OUT2, DCD}};

	for (u64 outputs = 0; outputs < 16; outputs++) {
		u64 inputs = 0;

		for (auto [output, input] : wires) {
			inputs |= outputs & output ? input : 0;
		}
		put(MCR, LOOP | outputs);
		EXPECT_EQ(get(MSR) & 0xf0, inputs) << outputs;
		put(MCR, outputs);
		EXPECT_EQ(get(MSR) & 0xf0, CTS | DSR | DCD) << outputs;
	}
}

TEST_F(Uart16550, changes_of_the_modem_are_told_once)
{
	put(MCR, OUT2 | RTS | DTR);
	EXPECT_EQ(get(MSR), CTS | DSR | DCD) << "without loopback nothing changes";
	put(MCR, LOOP | RTS | DTR | OUT2);
	EXPECT_EQ(get(MSR), CTS | DSR | DCD) << "all were on, and are";
	put(MCR, LOOP | DTR | OUT2);
	put(MCR, LOOP | OUT2);
	EXPECT_EQ(get(MSR), DCD | DCTS | DDSR);
	EXPECT_EQ(get(MSR), DCD);
	put(MCR, LOOP | RTS);
	EXPECT_EQ(get(MSR), CTS | DCTS | DDCD);
}

TEST_F(Uart16550, ring_counts_when_it_ends)
{
	put(MCR, LOOP);
	get(MSR);
	put(MCR, LOOP | OUT1);
	EXPECT_EQ(get(MSR), RI);
	put(MCR, LOOP);
	EXPECT_EQ(get(MSR), TERI);
	EXPECT_EQ(get(MSR), 0u);
}

/* ---- What Linux finds ---------------------------------------------------------------------- */

/* The 8250 driver's search, in its order: is there a UART at all, and which one. */
TEST_F(Uart16550, linux_finds_a_16550a)
{
	put(IER, 0);
	EXPECT_EQ(get(IER), 0u);
	put(IER, 0x0f);
	EXPECT_EQ(get(IER), 0x0fu);
	put(IER, 0);
	put(MCR, LOOP | OUT2 | RTS);
	EXPECT_EQ(get(MSR) & 0xf0, DCD | CTS);
	put(MCR, 0);

	put(LCR, 0xbf); /* EFR, where there is one: here it is FCR */
	put(FCR, 0);
	put(LCR, 0);
	put(FCR, 1);
	EXPECT_EQ(get(IIR) & 0xe0, FIFOS) << "FIFOs that work";
	for (u64 mode : {0x80u, 0xbfu}) {
		put(LCR, mode);
		EXPECT_NE(get(IIR), 0u) << "no EFR: not a 16650, whatever opens it";
	}
	for (u64 mcr :
	     {u64(0), u64(LOOP)}) { /* register 2 of bank 2 has MCR's bit 4 in a SuperIO */
		put(LCR, 0);
		put(MCR, mcr);
		put(LCR, 0xe0);
		EXPECT_EQ(get(IIR) & LOOP, 0u);
	}
	put(LCR, 0);
	put(MCR, 0);
	for (u64 lcr : {u64(0), u64(DLAB)}) {
		put(LCR, lcr);
		put(FCR, 0x21);
		EXPECT_EQ(get(IIR) & 0xe0, FIFOS) << "no deep FIFO: not a 16750";
	}
	put(LCR, 0);
	put(IER, 0x40);
	EXPECT_EQ(get(IER), 0u) << "no enable of the whole unit: not an XScale's";
}

/* The driver's start: it wants the transmit interrupt each time it enables it. */
TEST_F(Uart16550, linux_trusts_the_transmit_interrupt)
{
	for (u32 i = 0; i < 2; i++) {
		put(IER, IER_THRE);
		EXPECT_EQ(get(LSR), IDLE);
		EXPECT_EQ(get(IIR), IIR_THRE);
		put(IER, 0);
	}
}

/* ---- Life ---------------------------------------------------------------------------------- */

TEST_F(Uart16550, reset_forgets_everything_and_lowers_the_line)
{
	put(LCR, DLAB | 3);
	put(DLL, 0x0c);
	put(DLM, 0x01);
	put(LCR, 3);
	put(FCR, 0xc1);
	put(SCR, 0x55);
	put(MCR, LOOP | OUT2);
	for (u32 i = 0; i < 17; i++) {
		put(DATA, i);
	}
	put(IER, 0x0f);
	ASSERT_TRUE(line());
	uart16550_reset(uart);
	EXPECT_FALSE(line());
	EXPECT_EQ(get(IIR), IIR_NONE);
	EXPECT_EQ(get(LSR), IDLE);
	EXPECT_EQ(get(MSR), CTS | DSR | DCD);
	for (u64 reg : {IER, LCR, MCR, SCR}) {
		EXPECT_EQ(get(reg), 0u) << reg;
	}
	put(MCR, OUT2);
	put(IER, 0x0d);
	EXPECT_FALSE(line());
	put(LCR, DLAB);
	EXPECT_EQ(get(DLL) | get(DLM) << 8, 1u);
}

TEST_F(Uart16550, every_offset_width_and_value_is_survived)
{
	u32 seed = 1;

	for (u32 i = 0; i < 20000; i++) {
		seed = seed * 1664525 + 1013904223;

		u64 offset = seed >> 16 & 7;
		unsigned size = 1u << (seed >> 20 & 3);

		put(offset, (u64)seed << 32 | (seed ^ seed >> 7), size);
		key((char)i);
		EXPECT_TRUE(size == 8 || get(offset, size) < BIT(8 * size));
	}
}

TEST(Uart16550Life, no_uart_without_memory)
{
	fake_memory(PAGE_SIZE);
	while (hyp_alloc(PAGE_SIZE) != nullptr) {
	}
	EXPECT_EQ(uart16550_create(nullptr, Uart16550Chip::LINE), nullptr);
	uart16550_destroy(nullptr);
}

} // namespace
