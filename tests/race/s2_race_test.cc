// Threads as CPUs: guests access, fault and are unmapped at the same time. Every page holds the
// number of the guest page it was last mapped at, so a CPU that still translates to a frame which
// went elsewhere reads a wrong number (I1, I9). Thread sanitizer watches the rest.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "numbered.h"

extern "C" {
#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/fake/fake.h"
#include "../../arch/x86_64/s2_ept.h"
#include "hyp/s2.h"
#include "hyp/s2_cursor.h"
#include <arch/s2.h>
}

namespace
{

constexpr u32 kGuests = 3; // CPUs 0..2 run the guest, CPU 3 unmaps and splits
constexpr u64 kBlocks = 8;
constexpr u64 kPages = kBlocks * 512;
constexpr u64 kBase = GIB(1);

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
		fake_memory(MIB(256));
		free_before = frame_count(FRAME_FREE);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, 1), OK);
		s2.traits |= s2.format->accessed_table ? S2_HARDWARE_ACCESSED : 0;
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

	void fault(u64 page, bool large)
	{
		map_numbered(&s2, kBase, page, large);
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
				/* Perhaps its flag is all that is missing. */
				if (s2_mark_accessed(&s2, gpa(kBase + page * PAGE_SIZE)) != OK) {
					fault(page, random() % 4 == 0);
				}
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
		for (int i = 0;
		     i < rounds || accesses < 5000 || load_relaxed(&s2.stats.splits) == 0; i++) {
			u64 page = random() % kPages;
			u64 count = 1 + random() % (random() % 8 == 0 ? 1500 : 20);
			struct s2_batch batch;

			count = std::min(count, kPages - page);
			if (random() % 2 == 0) {
				reshape(random(), page);
			}
			s2_batch_open(&batch, &s2);
			if (random() % 3 == 0) {
				s2_split(&s2, gpa(kBase + page * PAGE_SIZE), 0, &batch);
			}
			s2_unmap(&s2, gpa(kBase + page * PAGE_SIZE), count * PAGE_SIZE, &batch);
			s2_batch_close(&batch);
		}
		stop = true;
	}

	// Sizes, hints and permissions change, and nothing that a guest reads.
	void reshape(u64 random, u64 page)
	{
		struct s2_collapsed report;
		struct s2_batch batch;
		gpa_t block = gpa(kBase + (page & ~511ull) * PAGE_SIZE);

		s2_batch_open(&batch, &s2);
		s2_split_range(&s2, block, MIB(2), 0, &batch);
		s2_protect(&s2, gpa(kBase + page * PAGE_SIZE), PAGE_SIZE,
			   random & 1 ? S2_RX : S2_RWX, &batch);
		s2_batch_close(&batch);
		s2_hint(&s2, block, MIB(2), 0, &report);
		hints_given += report.count[S2_FOLDED];
		if (random & 2) {
			return; // they stay, until something in a group is changed
		}
		s2_batch_open(&batch, &s2);
		s2_protect(&s2, block, MIB(2), S2_RWX, &batch);
		s2_collapse(&s2, block, MIB(2), 1, &batch, &report);
		s2_batch_close(&batch);
	}

	// What Lamina does on its own while guests run: maps ranges, ages, marks, asks and dumps.
	void looker(u32 cpu)
	{
		std::mt19937_64 random(cpu + 77);
		u64 regions = 0;

		fake_cpu_become(cpu);
		while (!stop.load(std::memory_order_relaxed)) {
			u64 page = random() % (kPages - 64);

			struct s2_harvest harvest = {};

			harvest.clear = random() % 2;
			harvest.finest = random() % 2;
			EXPECT_EQ(s2_harvest(&s2, gpa(kBase), kPages * PAGE_SIZE, &harvest), OK);
			map_run(page, 1 + random() % 64);
			s2_mark_accessed(&s2, gpa(kBase + (random() % kPages) * PAGE_SIZE));
			s2_validate(&s2, gpa(kBase + page * PAGE_SIZE), 8 * PAGE_SIZE, S2_READ);
			s2_dump(
				&s2, gpa(kBase + page * PAGE_SIZE), MIB(4),
				[](void *context, const struct s2_region *) { ++*(u64 *)context; },
				&regions);
		}
	}

	// What is free of the range gets pages with the right numbers, one reference each.
	void map_run(u64 page, u64 count)
	{
		hpa_t block = frame_alloc(6, FRAME_GUEST, 1);

		if (hpa_is_none(block)) {
			return;
		}
		frame_split(block, 0);
		for (u64 i = 0; i < 64; i++) {
			store_relaxed((u64 *)hpa_ptr(hpa_add(block, i * PAGE_SIZE)),
				      number_of(page + i));
		}
		bool mapped = s2_map(&s2, gpa(kBase + page * PAGE_SIZE), block, count * PAGE_SIZE,
				     kRwx, S2_ERROR) == OK;

		for (u64 i = mapped ? count : 0; i < 64; i++) {
			frame_put(hpa_add(block, i * PAGE_SIZE));
		}
	}

	struct s2 s2 = {};
	u64 free_before = 0;
	std::atomic<bool> stop{false};
	std::atomic<u64> stale{0}, accesses{0};
	u64 hints_given = 0;
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
	EXPECT_EQ(hints_given > 0, GetParam().format->contiguous != 0);
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

// A fault takes a place that a range operation is about to fill: all of the range or nothing, and
// the caller's block is as it was when it is nothing. A guest uses what it sees meanwhile.
TEST_P(S2Race, a_map_that_loses_to_a_fault_leaves_everything_whole)
{
	// One page off, so that it takes as many leaves; so many tables that there is time to lose.
	constexpr u64 kRounds = 60, kMost = 2000, kRun = 8191;
	std::atomic<u64> round{0}, returned{0}, faulted{0};
	u64 lost = 0;

	std::thread faulter([&] {
		fake_cpu_become(1);
		for (u64 i = 1;; i++) {
			while (!stop &&
			       (round < i ||
				(returned < i && s2_query(&s2, gpa(kBase)).kind != S2_LEAF))) {
				std::this_thread::yield();
			}
			if (stop) {
				return;
			}
			fault(kRun - 1 - i % 256,
			      false); // in the last table, which the run has in reserve
			faulted = i;
		}
	});
	std::thread guest_beside([&] {
		fake_cpu_become(2);
		for (u64 page = 0, value; !stop; page = (page + 1) % 64) {
			s2_entering(&s2);
			fake_load(&s2, gpa(kBase + page * PAGE_SIZE), &value);
			s2_left(&s2);
		}
	});
	// On a busy machine it may take longer until one is lost.
	for (u64 i = 1; i <= kRounds || (lost == 0 && i <= kMost); i++) {
		hpa_t block = frame_alloc(13, FRAME_GUEST, 1);
		enum status status;
		struct s2_batch batch;

		ASSERT_FALSE(hpa_is_none(block));
		frame_of(block)->gfn = i;
		round = i;
		status = s2_map(&s2, gpa(kBase), hpa_add(block, PAGE_SIZE), kRun * PAGE_SIZE, kRwx,
				S2_ERROR);
		returned = i;
		while (faulted < i) {
			std::this_thread::yield();
		}
		if (status == OK) {
			EXPECT_EQ(frame_of(block)->order, 0);
		} else {
			lost++;
			EXPECT_EQ(status, EXISTS);
			EXPECT_EQ(frame_of(hpa_add(block, MIB(1)))->order, 13)
				<< "split for nothing";
			EXPECT_EQ(frame_of(block)->gfn, i) << "not its entry's to write";
			EXPECT_EQ(s2.stats.leaf_4k, 1u);
			for (u64 page = 0; fake_broadcasts && page < 64; page++) {
				EXPECT_FALSE(fake_tlb_holds(&s2, gpa(kBase + page * PAGE_SIZE)));
			}
		}
		frame_put(block); // all of it, or the page that was left out
		s2_batch_open(&batch, &s2);
		ASSERT_EQ(s2_unmap(&s2, gpa(kBase), MIB(32), &batch), OK);
		s2_batch_close(&batch);
		EXPECT_EQ(s2.stats.leaf_4k, 0u);
	}
	stop = true;
	faulter.join();
	guest_beside.join();
	EXPECT_GT(lost, 0u);
}

// More CPUs than there are places for open batches, each with one open, all splitting and
// unmapping.
TEST_P(S2Race, more_batches_than_places_come_to_an_end)
{
	constexpr u32 kCpus = S2_OPEN_MAX + 4;
	std::vector<std::thread> threads;

	fake_cpus(kCpus);
	for (u32 cpu = 0; cpu < kCpus; cpu++) {
		threads.emplace_back([this, cpu] {
			std::mt19937_64 random(cpu);

			fake_cpu_become(cpu);
			for (int i = 0; i < 40; i++) {
				u64 page = random() % kPages;
				struct s2_batch batch;

				fault(page, true);
				s2_batch_open(&batch, &s2);
				EXPECT_EQ(s2_unmap(&s2, gpa(kBase + page * PAGE_SIZE), PAGE_SIZE,
						   &batch),
					  OK);
				s2_batch_close(&batch);
			}
			frame_drain_cache();
		});
	}
	for (auto &thread : threads) {
		thread.join();
	}
	fake_cpu_become(0);
}

// Several CPUs map, unmap, split, look and mark at once, beside guests: counts add up when all is
// still.
TEST_P(S2Race, range_operations_of_many_cpus_keep_the_counts)
{
	std::vector<std::thread> threads;
	u64 leaves = 0;

	for (u32 cpu = 0; cpu < 2; cpu++) {
		threads.emplace_back([this, cpu] { guest(cpu); });
	}
	threads.emplace_back([this] { looker(2); });
	threads.emplace_back([this] { unmapper(200); });
	for (auto &thread : threads) {
		thread.join();
	}
	fake_cpu_become(0);
	EXPECT_EQ(stale.load(), 0u);
	s2_dump(
		&s2, gpa(0), BIT(40),
		[](void *context, const struct s2_region *r) {
			*static_cast<u64 *>(context) +=
				r->kind == S2_LEAF ? r->size / PAGE_SIZE : 0;
		},
		&leaves);
	EXPECT_EQ(leaves, s2.stats.leaf_4k + 512 * s2.stats.leaf_2m);
	EXPECT_EQ(leaves, frame_count(FRAME_GUEST));
}

// A CPU that walks in software holds up whoever wants to free what it may have found. (The walk
// begins after the batch, and before anything is cleared.)
TEST_P(S2Race, a_close_waits_for_the_walks_that_began_before_it)
{
	std::atomic<bool> is_closed{false};
	struct s2_batch batch;
	u64 outer;

	fault(0, false);
	s2_batch_open(&batch, &s2);
	fake_cpu_become(1);
	outer = s2_walk_begin(&s2);
	hpa_t found = s2_query(&s2, gpa(kBase)).hpa;

	std::thread closer([&] {
		fake_cpu_become(0);
		EXPECT_EQ(s2_unmap(&s2, gpa(kBase), PAGE_SIZE, &batch), OK);
		s2_batch_close(&batch);
		is_closed = true;
	});
	std::this_thread::sleep_for(std::chrono::milliseconds(30));
	EXPECT_FALSE(is_closed.load());
	EXPECT_EQ(load_relaxed(&frame_of(found)->refs), 1u) << "freed under the walk";
	s2_walk_end(&s2, outer);
	closer.join();
	EXPECT_EQ(frame_of(found)->refs, 0u);
}

// The same when the batch has to let go of shared frames before its close.
TEST_P(S2Race, a_full_box_of_shared_frames_waits_for_walks_too)
{
	constexpr u32 kTimes = S2_BATCH_SHARED + 2;
	std::atomic<bool> is_unmapped{false};
	hpa_t pages[kTimes];
	struct s2_batch batch;
	u64 outer;

	for (u32 i = 0; i < kTimes; i++) {
		pages[i] = frame_alloc(ORDER_4K, FRAME_GUEST, 1);
		frame_get(pages[i]);
		ASSERT_EQ(s2_map(&s2, gpa(kBase + i * PAGE_SIZE), pages[i], PAGE_SIZE, kRwx,
				 S2_ERROR),
			  OK);
	}
	s2_batch_open(&batch, &s2);
	fake_cpu_become(1);
	outer = s2_walk_begin(&s2);
	std::thread unmapper([&] {
		fake_cpu_become(0);
		EXPECT_EQ(s2_unmap(&s2, gpa(kBase), kTimes * PAGE_SIZE, &batch), OK);
		is_unmapped = true;
		s2_batch_close(&batch);
	});
	std::this_thread::sleep_for(std::chrono::milliseconds(30));
	EXPECT_FALSE(is_unmapped.load());
	for (hpa_t page : pages) {
		EXPECT_EQ(load_relaxed(&frame_of(page)->refs), 2u);
	}
	s2_walk_end(&s2, outer);
	unmapper.join();
	for (hpa_t page : pages) {
		EXPECT_EQ(frame_of(page)->refs, 1u);
		frame_put(page);
	}
}

INSTANTIATE_TEST_SUITE_P(kinds, S2Race,
			 ::testing::Values(Kind{"armv8_broadcast", &s2_armv8_4k, true},
					   Kind{"ept_software", &s2_ept_software, false},
					   Kind{"fake_generations", arch_s2_format(), false}),
			 [](const auto &info) { return info.param.name; });

} // namespace
