// Overcommit with threads as CPUs: some write and read their own words in pages that all of them
// use, while others take those pages away. No word is lost, and in the end the counts add up.
#include "../unit/test_disk.h"
#include "swap_race_machine.h"

#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

extern "C" {
#include "hyp/store_disk.h"
}

namespace
{

constexpr u32 kUsers = 3, kCpus = kUsers + 1;
constexpr u64 kSize = MIB(8), kPages = kSize / PAGE_SIZE;

struct Kind {
	const char *name;
	const struct s2_format *format;
	bool broadcasts, small_pages, has_disk;
};

class SwapRace : public SwapRaceMachine, public ::testing::TestWithParam<Kind>
{
      protected:
	void SetUp() override
	{
		begin(kCpus, GetParam().broadcasts, MIB(5), MIB(2));
		if (GetParam().has_disk) {
			disk = std::make_unique<TestDisk>(2 * kPages);
			ASSERT_EQ(store_disk_init(&disk->block), OK);
			config.stores = BIT(STORE_zero) | BIT(STORE_disk);
		}
		add_guest(kUsers, kSize, GetParam().small_pages);
		build(GetParam().format);
		vm = vms[0];
	}

	void TearDown() override
	{
		end();
		EXPECT_EQ(store_disk_stats.disk_used, 0u);
		store_disk_fini();
	}

	static gpa_t word_of(u64 page, u32 user)
	{
		return gpa(kRam + page * PAGE_SIZE + (page * 8 + user * 512) % PAGE_SIZE / 8 * 8);
	}

	void use(u32 user)
	{
		std::vector<u64> mine(kPages);
		std::mt19937 random(user + 1);

		fake_cpu_become(user);
		for (u64 step = 1; step <= 6000; step++) {
			u64 page = random() % kPages, word = 0;
			gpa_t at = word_of(page, user);

			ASSERT_EQ(vm_memory_read(vm, at, &word, 8), OK);
			if (!gives_up || word != 0) {
				ASSERT_EQ(word, mine[page]) << "page " << page << " step " << step;
			}
			mine[page] = step << 8 | user;
			ASSERT_EQ(vm_memory_write(vm, at, &mine[page], 8), OK);
		}
		running--;
	}

	// As a balloon would: whatever lies there.
	void give_up(std::mt19937 *random)
	{
		struct vm_ram_range ranges[8];

		for (auto &range : ranges) {
			u64 page = (*random)() % kPages, count = 1 + (*random)() % 32;

			range = {gpa(kRam + page * PAGE_SIZE), count * PAGE_SIZE};
		}
		vm_memory_give_up(vm, ranges, 8);
	}

	static u64 stored(const struct swap_census &census)
	{
		u64 pages = 0;

		for (u64 of_one : census.stored) {
			pages += of_one;
		}
		return pages;
	}

	void take_away()
	{
		struct swap_census census;
		struct swap_totals totals;
		std::mt19937 random(5);

		fake_cpu_become(kUsers);
		while (running > 0) {
			u64 freed;

			swap_out(vm->swap, 256, &freed);
			if (gives_up) {
				give_up(&random);
			}
			swap_tick();
			store_pool_compact(4);
			swap_count(vm->swap, &census, &totals);
			EXPECT_EQ(census.resident + census.untouched + stored(census), kPages);
		}
	}

	struct vm *vm;
	std::unique_ptr<TestDisk> disk;
	bool gives_up = false; // words may be zero again at any time
	std::atomic<u32> running{kUsers};
};
INSTANTIATE_TEST_SUITE_P(kinds, SwapRace,
			 ::testing::Values(Kind{"armv8", &s2_armv8_4k, true, true, false},
					   Kind{"armv8_blocks", &s2_armv8_4k, true, false, false},
					   Kind{"armv8_disk", &s2_armv8_4k, true, true, true},
					   Kind{"generations", arch_s2_format(), false, true,
						false}),
			 [](const auto &info) { return info.param.name; });

// A word is what was written last, or gone; never another's, and never of before.
TEST_P(SwapRace, what_is_given_up_is_zero_and_all_else_adds_up)
{
	std::vector<std::thread> cpus;
	struct swap_census census;
	struct swap_totals totals;

	gives_up = true;
	for (u32 user = 0; user < kUsers; user++) {
		cpus.emplace_back([this, user] { use(user); });
	}
	cpus.emplace_back([this] { take_away(); });
	for (std::thread &cpu : cpus) {
		cpu.join();
	}
	fake_cpu_become(0);
	swap_count(vm->swap, &census, &totals);
	EXPECT_EQ(census.resident, vm->swap->charged);
	EXPECT_EQ(census.resident * PAGE_SIZE, vm_memory_current(vm));
	EXPECT_EQ(frame_count_owned(FRAME_GUEST, vm->number), census.resident);
	EXPECT_EQ(totals.counters.pgsteal - totals.counters.workingset_refault -
			  totals.counters.pgdiscard,
		  stored(census));
	EXPECT_GT(totals.counters.pgdiscard, 0u);
}

TEST_P(SwapRace, no_word_is_lost)
{
	std::vector<std::thread> cpus;

	for (u32 user = 0; user < kUsers; user++) {
		cpus.emplace_back([this, user] { use(user); });
	}
	cpus.emplace_back([this] { take_away(); });
	for (std::thread &cpu : cpus) {
		cpu.join();
	}
	EXPECT_GT(vm->swap->totals.counters.pgsteal, 1000u);
	EXPECT_GT(vm->swap->totals.counters.workingset_refault, 1000u);
}

} // namespace
