/*
 * Frames under real threads, each a CPU: nothing is handed out twice, nothing is lost, the last put
 * of many frees once. Meant for the thread sanitizer.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "../unit/frame_test_machine.h"

namespace
{

constexpr u64 BASE = 0x40000000;
constexpr u64 SIZE = MIB(32);
constexpr u32 CPUS = 4;

/* One flag a frame: who holds it. Plain data of the holder is checked by the sanitizer. */
class Ledger
{
      public:
	void take(hpa_t a, unsigned order, u32 cpu)
	{
		for (u64 i = 0; i < BIT(order); i++) {
			u64 n = number(a) + i;

			EXPECT_EQ(held_[n].exchange(1 + cpu, std::memory_order_relaxed), 0u);
			bytes_[n] = cpu; /* a race here is a frame with two holders */
		}
	}

	void drop(hpa_t a, unsigned order)
	{
		for (u64 i = 0; i < BIT(order); i++) {
			held_[number(a) + i].store(0, std::memory_order_relaxed);
		}
	}

      private:
	static u64 number(hpa_t a)
	{
		return (a.v - BASE) / PAGE_SIZE;
	}

	std::unique_ptr<std::atomic<u32>[]> held_ { new std::atomic<u32>[ SIZE / PAGE_SIZE ]() };
	std::unique_ptr<u32[]> bytes_{new u32[SIZE / PAGE_SIZE]()};
};

void run_cpus(void (*body)(u32 cpu, void *context), void *context)
{
	std::vector<std::thread> threads;

	for (u32 cpu = 0; cpu < CPUS; cpu++) {
		threads.emplace_back([=] {
			frame_test_become(cpu);
			body(cpu, context);
			frame_drain_cache();
		});
	}
	for (std::thread &thread : threads) {
		thread.join();
	}
}

void expect_all_merged()
{
	EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
	EXPECT_EQ(frame_count(FRAME_FREE), frame_total());
	EXPECT_EQ(frame_alloc(13, FRAME_GUEST, 1).v, BASE);
}

void churn(u32 cpu, void *context)
{
	auto *ledger = static_cast<Ledger *>(context);
	std::mt19937 random(cpu);
	std::vector<std::pair<hpa_t, unsigned>> mine;

	for (int i = 0; i < 20000; i++) {
		if (random() % 2 == 0 || mine.empty()) {
			unsigned order = random() % 8 ? 0 : random() % 6;
			hpa_t a = frame_alloc(order, FRAME_GUEST, 1);

			if (!hpa_is_none(a)) {
				ledger->take(a, order, cpu);
				mine.emplace_back(a, order);
			}
		} else {
			std::swap(mine[random() % mine.size()], mine.back());
			auto [a, order] = mine.back();

			mine.pop_back();
			ledger->drop(a, order);
			EXPECT_TRUE(frame_put(a));
		}
	}
	for (auto [a, order] : mine) {
		ledger->drop(a, order);
		EXPECT_TRUE(frame_put(a));
	}
}

TEST(FrameRace, frames_are_never_handed_out_twice)
{
	FrameMachine machine{{BASE, BASE + SIZE}};
	Ledger ledger;

	run_cpus(churn, &ledger);
	expect_all_merged();
}

struct Shared {
	std::vector<hpa_t> blocks;
	std::vector<u32> payload; /* written by each holder in turn, read by who frees */
	std::atomic<u32> freed{0};
};

/* Every CPU holds one reference to every block; half of them take and drop more. */
void put_shared(u32 cpu, void *context)
{
	auto *shared = static_cast<Shared *>(context);

	for (size_t i = 0; i < shared->blocks.size(); i++) {
		hpa_t a = shared->blocks[i];

		if (cpu % 2 == 0) {
			frame_get(a);
			EXPECT_FALSE(frame_put(a));
		}
		__atomic_fetch_add(&shared->payload[i], 1, __ATOMIC_RELAXED);
		if (frame_put(a)) {
			shared->freed++;
			EXPECT_EQ(shared->payload[i], CPUS); /* plain: the others are gone */
		}
	}
}

TEST(FrameRace, last_put_of_many_frees_exactly_once)
{
	FrameMachine machine{{BASE, BASE + SIZE}};
	Shared shared;

	for (unsigned i = 0; i < 2000; i++) {
		hpa_t a = frame_alloc(i % 3 == 0 ? 1 : 0, FRAME_GUEST, 1);

		for (u32 cpu = 1; cpu < CPUS; cpu++) {
			frame_get(a);
		}
		shared.blocks.push_back(a);
	}
	shared.payload.resize(shared.blocks.size());
	frame_drain_cache();
	run_cpus(put_shared, &shared);
	EXPECT_EQ(shared.freed.load(), shared.blocks.size());
	frame_test_become(0);
	expect_all_merged();
}

void take_single(u32 cpu, void *context)
{
	auto *count = static_cast<std::atomic<u32> *>(context);
	std::vector<hpa_t> mine;
	hpa_t a;

	(void)cpu;
	while (!hpa_is_none(a = frame_alloc(0, FRAME_GUEST, 1))) {
		mine.push_back(a);
		(*count)++;
	}
	for (hpa_t m : mine) {
		frame_put(m);
	}
}

TEST(FrameRace, pool_that_runs_empty_under_all_cpus_loses_nothing)
{
	FrameMachine machine{{BASE, BASE + SIZE}};
	std::atomic<u32> count{0};

	run_cpus(take_single, &count);
	EXPECT_GE(count.load(), SIZE / PAGE_SIZE - CPUS * 112);
	expect_all_merged();
}

} // namespace
