/* Physical memory of a test: words that were written, at any address; the rest is not there. */
#ifndef TESTS_MODEL_SPARSE_MEMORY_H
#define TESTS_MODEL_SPARSE_MEMORY_H

#include <map>

#include "armv8_stage2.h"

namespace model
{

class SparseMemory : public Memory
{
      public:
	/* Zeroes a table of `bytes`, so that it is there. */
	void table(u64 address, u64 bytes)
	{
		for (u64 i = 0; i < bytes; i += 8) {
			words[address + i] = 0;
		}
	}

	bool read(u64 address, u64 *value) override
	{
		auto it = words.find(address);

		if (it == words.end()) {
			return false;
		}
		*value = it->second;
		return true;
	}

	bool compare_and_swap(u64 address, u64 expected, u64 desired, u64 *value) override
	{
		if (on_swap) {
			on_swap();
		}
		*value = words.at(address);
		if (*value != expected) {
			return false;
		}
		words[address] = desired;
		return true;
	}

	std::map<u64, u64> words;
	std::function<void()> on_swap; /* another CPU, just before the update */
};

} // namespace model

#endif
