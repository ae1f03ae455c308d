/*
 * A machine for tests of frames: banks of RAM that exist as numbers only, a frame table on the
 * heap, and the calling thread as CPU 0.
 */
#ifndef TESTS_FRAME_TEST_MACHINE_H
#define TESTS_FRAME_TEST_MACHINE_H

#include <cstdlib>
#include <initializer_list>
#include <new>
#include <utility>

extern "C" {
#include "hyp/cpu.h"
#include "hyp/frame.h"
}

namespace
{

/* The calling thread plays CPU `id` from here on. */
inline void frame_test_become(u32 id)
{
	cpus[id].id = id;
	fake_this_cpu = &cpus[id];
}

class FrameMachine
{
      public:
	using Bank = std::pair<u64, u64>; /* [start, end) */

	FrameMachine(std::initializer_list<Bank> banks)
	{
		u64 base = banks.begin()->first;
		u64 end = (banks.end() - 1)->second;

		frame_test_become(0);
		table_ = std::aligned_alloc(PAGE_SIZE, frame_table_bytes(end - base));
		if (table_ == nullptr) {
			throw std::bad_alloc();
		}
		frame_init(hpa(base), end - base, table_);
		for (const Bank &bank : banks) {
			frame_give(hpa(bank.first), hpa(bank.second));
		}
	}

	~FrameMachine()
	{
		std::free(table_);
	}

	FrameMachine(const FrameMachine &) = delete;
	FrameMachine &operator=(const FrameMachine &) = delete;

      private:
	void *table_;
};

} // namespace

#endif
