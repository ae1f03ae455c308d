// Threads as CPUs: guests access, fault and are unmapped at the same time. Every page holds the number of the
// guest page it was last mapped at, so a CPU that still translates to a frame which went elsewhere
// reads a wrong number (I1, I9). Thread sanitizer watches the rest.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

extern "C" {
#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/fake/fake.h"
#include "hyp/s2.h"
#include <arch/s2.h>
}

namespace
{

constexpr u32 kGuests = 3; // CPUs 0..2 run the guest, CPU 3 unmaps and splits
constexpr u64 kBlocks = 8;
constexpr u64 kPages = kBlocks * 512;
constexpr u64 kBase = GIB(1);
const struct s2_attr kRwx = {S2_RWX, S2_NORMAL};

struct Kind {
	const char *name;
	const struct s2_format *format;
	bool broadcasts;
};

class S2Race : public ::testing::TestWithParam<Kind>
{
      protected:
	void SetUp() override
	{
		fake_broadcasts = GetParam().broadcasts;
		fake_cpus(kGuests + 1);
		fake_tlb_clear();
		fake_memory(MIB(64));
		free_before = frame_count(FRAME_FREE);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, 1), OK);
	}

	void TearDown() override
	{
		fake_cpu_become(0);
		s2_destroy(&s2);
		for (u32 cpu = 0; cpu <= kGuests; cpu++) {
			fake_cpu_become(cpu);
			frame_drain_cache();
		}
		fake_cpu_become(0);
		EXPECT_EQ(frame_count(FRAME_FREE), free_before) << "frames leaked";
	}

	static u64 number_of(u64 page)
	{
		return page * 0x9e3779b97f4a7c15ull + 1;
	}

	// Every page of the block gets the number of its guest page; then it is mapped.
	void fault(u64 page, bool large)
	{
		u64 first = large ? page & ~511ull : page;
		hpa_t frame = frame_alloc(large ? ORDER_2M : ORDER_4K, FRAME_GUEST, 1);

		if (hpa_is_none(frame)) {
			return;
		}
		for (u64 i = 0; i < (large ? 512 : 1); i++) {
			store_relaxed((u64 *)hpa_ptr(hpa_add(frame, i * PAGE_SIZE)),
				      number_of(first + i));
		}
		if (s2_map_leaf(&s2, gpa(kBase + first * PAGE_SIZE), large, frame, kRwx) != OK) {
			frame_put(frame);
		}
	}

	void guest(u32 cpu)
	{
		std::mt19937_64 random(cpu + 1);

		fake_cpu_become(cpu);
		while (!stop.load(std::memory_order_relaxed)) {
			u64 page = random() % kPages, value = 0;
			enum fake_access result;

			s2_entering(&s2);
			result = fake_load(&s2, gpa(kBase + page * PAGE_SIZE), &value);
			s2_left(&s2);
			if (result == FAKE_FAULT) {
				fault(page, random() % 4 == 0);
			} else if (value != number_of(page)) {
				stale++;
			}
			accesses++;
		}
	}

	void unmapper(int rounds)
	{
		std::mt19937_64 random(99);

		fake_cpu_become(kGuests);
		for (int i = 0; i < rounds; i++) {
			u64 page = random() % kPages;
			u64 count = 1 + random() % (random() % 8 == 0 ? 1500 : 20);
			struct s2_batch batch;

			count = std::min(count, kPages - page);
			s2_batch_open(&batch, &s2);
			if (random() % 3 == 0) {
				s2_split(&s2, gpa(kBase + page * PAGE_SIZE), 0, &batch);
			}
			s2_unmap(&s2, gpa(kBase + page * PAGE_SIZE), count * PAGE_SIZE, &batch);
			s2_batch_close(&batch);
		}
		stop = true;
	}

	struct s2 s2 = {};
	u64 free_before = 0;
	std::atomic<bool> stop{false};
	std::atomic<u64> stale{0}, accesses{0};
};

TEST_P(S2Race, no_cpu_sees_a_frame_that_went_elsewhere)
{
	std::vector<std::thread> threads;

	for (u32 cpu = 0; cpu < kGuests; cpu++) {
		threads.emplace_back([this, cpu] { guest(cpu); });
	}
	threads.emplace_back([this] { unmapper(400); });
	for (auto &thread : threads) {
		thread.join();
	}
	EXPECT_EQ(stale.load(), 0u);
	EXPECT_GT(accesses.load(), 400u);
	EXPECT_GT(s2.stats.splits, 0u);
}

// All CPUs fault on the same fresh pages: each page is mapped once, and nobody loses it.
TEST_P(S2Race, one_page_faulted_by_all_is_mapped_once)
{
	std::vector<std::thread> threads;
	std::atomic<u64> mapped{0};

	for (u32 cpu = 0; cpu < kGuests; cpu++) {
		threads.emplace_back([&, cpu] {
			fake_cpu_become(cpu);
			for (u64 page = 0; page < kPages; page++) {
				hpa_t frame = frame_alloc(ORDER_4K, FRAME_GUEST, 1);
				enum status status;

				do {
					status = s2_map_leaf(&s2, gpa(kBase + page * PAGE_SIZE), 0,
							     frame, kRwx);
				} while (status == AGAIN);
				if (status == OK) {
					mapped++;
				} else {
					frame_put(frame);
				}
			}
		});
	}
	for (auto &thread : threads) {
		thread.join();
	}
	EXPECT_EQ(mapped.load(), kPages);
	EXPECT_EQ(s2.stats.leaf_4k, kPages);
}

INSTANTIATE_TEST_SUITE_P(kinds, S2Race,
			 ::testing::Values(Kind{"armv8_broadcast", &s2_armv8_4k, true},
					   Kind{"fake_generations", arch_s2_format(), false}),
			 [](const auto &info) { return info.param.name; });

} // namespace
