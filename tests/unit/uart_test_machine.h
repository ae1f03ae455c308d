/*
 * A guest with one UART, for tests of it: its registers, the operator's keys, its interrupt line.
 *
 * `Chip` says which: Uart, LINE (the interrupt's), WIDTH (of an access, in bytes), ops, and the
 * functions create, destroy and console.
 */
#ifndef TESTS_UART_TEST_MACHINE_H
#define TESTS_UART_TEST_MACHINE_H

#include "guest_test_machine.h"

extern "C" {
#include "hyp/console.h"
}

namespace
{

template <typename Chip> class UartMachine : public GuestMachine
{
      protected:
	typename Chip::Uart *uart = nullptr;

	void SetUp() override
	{
		GuestMachine::SetUp();
		uart = Chip::create(vm, Chip::LINE);
		ASSERT_NE(uart, nullptr);
	}

	void TearDown() override
	{
		Chip::destroy(uart);
		GuestMachine::TearDown();
	}

	u64 get(u64 reg, unsigned size = Chip::WIDTH)
	{
		return Chip::ops.read(uart, vcpu, reg, size);
	}

	void put(u64 reg, u64 value, unsigned size = Chip::WIDTH)
	{
		Chip::ops.write(uart, vcpu, reg, size, value);
	}

	bool key(char c)
	{
		struct console_device *console = Chip::console(uart);

		return console->key(console, (u8)c);
	}

	bool line()
	{
		return (vm->arch.irq_lines >> Chip::LINE) & 1;
	}

	u64 sent()
	{
		return vm->counters.console_bytes;
	}
};

} // namespace

#endif
