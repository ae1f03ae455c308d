/*
 * A screen for tests of what the operator sees: guests that exist as structs only, a UART whose
 * output is text and whose keys the test types, and a machine with some RAM of the host's.
 */
#ifndef TESTS_CONSOLE_TEST_SCREEN_H
#define TESTS_CONSOLE_TEST_SCREEN_H

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "frame_test_machine.h"

extern "C" {
#include "hyp/console.h"
#include "hyp/log.h"
#include "hyp/monitor.h"
#include "hyp/summary.h"
#include "hyp/vcpu.h"

#include "../../arch/fake/fake.h"
}

namespace
{

constexpr u64 SECOND_NS = 1000000000;

inline std::vector<std::string> lines_of(const std::string &text)
{
	std::vector<std::string> lines;
	size_t at = 0;

	for (size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
		lines.push_back(text.substr(at, end - at));
	}
	if (at < text.size()) {
		lines.push_back(text.substr(at));
	}
	return lines;
}

/* RAM that can be written, for what really allocates: tables, devices. */
class RealMachine
{
      public:
	explicit RealMachine(u64 bytes = MIB(4))
	    : ram_(std::aligned_alloc(MIB(2), bytes)),
	      frames_({{(u64)(uintptr_t)ram_.get(), (u64)(uintptr_t)ram_.get() + bytes}})
	{
	}

      private:
	struct Free {
		void operator()(void *p) const
		{
			std::free(p);
		}
	};
	std::unique_ptr<void, Free> ram_;
	FrameMachine frames_;
};

class Screen : public testing::Test
{
      protected:
	static constexpr u32 GUESTS = 3;

	RealMachine machine;
	struct vm guest[GUESTS] = {};
	struct vcpu vcpu[GUESTS] = {};

	void SetUp() override
	{
		for (u32 i = 0; i < GUESTS; i++) {
			guest[i].number = (u16)(i + 1);
			text_format(guest[i].name, sizeof(guest[i].name), "linux%u", i);
			guest[i].state = VM_RUNNING;
			guest[i].ram = {};
			vm_ram_add(&guest[i].ram, gpa(GIB(1)), MIB(256));
			guest[i].vcpu_count = 1;
			guest[i].vcpus[0] = &vcpu[i];
			vcpu[i].vm = &guest[i];
			vcpu[i].state = VCPU_BLOCKED;
			vms[i] = &guest[i];
		}
		vm_count = GUESTS;
		console_init(false);
		fake_uart_clear();
	}

	void TearDown() override
	{
		vm_count = 0;
		console_init(true);
		fake_uart_clear();
	}

	void be_batch()
	{
		console_init(true);
	}

	/* A guest by its number writes text. */
	void write(u32 number, const std::string &text)
	{
		for (char c : text) {
			console_guest_byte(&guest[number - 1], (u8)c);
		}
	}

	void focus(u32 number)
	{
		console_set_focus(&guest[number - 1]);
		fake_uart_clear();
	}

	void type(const std::string &keys)
	{
		fake_uart_feed(keys.c_str());
		console_poll_input();
	}

	/* All that went out since the last call. */
	std::string shown()
	{
		std::string text = fake_uart_output();

		fake_uart_clear();
		return text;
	}

	std::string run(const std::string &command)
	{
		std::string line = command;

		fake_uart_clear();
		monitor_run(&line[0]);
		return shown();
	}
};

} // namespace

#endif
