// What a lock guards is plain memory: thread sanitizer sees whether the next holder is owed it.
#include <gtest/gtest.h>

#include <thread>

extern "C" {
#include "hyp/lock.h"
}

namespace
{

constexpr u64 kTimes = 20000;

struct Guarded {
	struct lock lock = {};
	u64 count = 0;
};

void take_and_count(Guarded *guarded)
{
	for (u64 i = 0; i < kTimes; i++) {
		lock_take(&guarded->lock);
		guarded->count++;
		lock_drop(&guarded->lock);
	}
}

void try_and_count(Guarded *guarded)
{
	for (u64 i = 0; i < kTimes; i++) {
		while (!lock_try(&guarded->lock)) {
			std::this_thread::yield();
		}
		guarded->count++;
		lock_drop(&guarded->lock);
	}
}

TEST(LockRace, who_waited_sees_what_the_last_holder_did)
{
	Guarded guarded;
	std::thread first(take_and_count, &guarded), second(take_and_count, &guarded);

	first.join();
	second.join();
	EXPECT_EQ(guarded.count, 2 * kTimes);
}

TEST(LockRace, who_tried_sees_what_the_last_holder_did)
{
	Guarded guarded;
	std::thread first(try_and_count, &guarded), second(try_and_count, &guarded);

	first.join();
	second.join();
	EXPECT_EQ(guarded.count, 2 * kTimes);
}

} // namespace
