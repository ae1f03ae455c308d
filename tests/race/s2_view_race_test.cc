// Guests in a view and behind a link, on CPUs of their own, while the base unmaps, protects and
// splits under them: nobody reads a frame that was given back, or writes what is forbidden.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "numbered.h"

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/s2_view.h"
#include <arch/s2.h>
}

namespace
{

// The second half is linked, so that there are tables in it and no large leaves.
constexpr u64 kBase = GIB(2), kPages = 1024, kLinked = kBase + MIB(2);

class S2ViewRace : public ::testing::TestWithParam<bool>
{
      protected:
	void SetUp() override
	{
		fake_broadcasts = GetParam();
		fake_cpus(4);
		fake_tlb_clear();
		fake_memory(MIB(64));
		ASSERT_EQ(s2_init(&s2, arch_s2_format(), 40, 1), OK);
		ASSERT_EQ(s2_view_init(&view, &s2, S2_RW), OK);
		ASSERT_EQ(s2_init(&unified, arch_s2_format(), 40, 1), OK);
		ASSERT_EQ(s2_link(&unified, &s2, gpa(kLinked), MIB(2)), OK);
	}

	void TearDown() override
	{
		ASSERT_EQ(s2_unlink(&unified, gpa(kLinked), MIB(2)), OK);
		s2_destroy(&unified);
		s2_view_destroy(&view);
		s2_destroy(&s2);
		EXPECT_EQ(frame_count(FRAME_GUEST) + frame_count(FRAME_TABLE), 0u);
	}

	void map(u64 page, bool large)
	{
		map_numbered(&s2, kBase, page, large);
	}

	// Loads, and stores what is there anyway: into a frame that is another's it would show.
	void guest(u32 cpu, struct s2 *space)
	{
		std::mt19937_64 random(cpu + 1);

		fake_cpu_become(cpu);
		while (!stop) {
			u64 page = random() % kPages, at = kBase + page * PAGE_SIZE, value = 0;
			bool write = random() % 4 == 0;
			enum fake_access result;

			s2_entering(space);
			result = write ? fake_store(space, gpa(at), number_of(page))
				       : fake_load(space, gpa(at), &value);
			s2_left(space);
			if (result == FAKE_FAULT) {
				faults++;
				if (space != &view ||
				    s2_view_fault(&view, gpa(at), write ? S2_WRITE : S2_READ) ==
					    NOENT) {
					map(page, random() % 4 == 0);
				}
			} else if (!write && value != number_of(page)) {
				stale++;
			}
			accesses++;
		}
	}

	void change(struct s2_batch *batch, u64 at, u64 size, u64 kind)
	{
		switch (kind) {
		case 0:
			s2_split(&s2, gpa(at), 0, batch);
			break;
		case 1:
			s2_protect(&s2, gpa(at), size, S2_READ, batch);
			break;
		case 2:
			s2_protect(&s2, gpa(at), size, S2_RWX, batch);
			break;
		default:
			s2_unmap(&s2, gpa(at), size, batch);
		}
	}

	void changer(int rounds)
	{
		std::mt19937_64 random(99);

		fake_cpu_become(3);
		for (int i = 0; i < rounds || accesses < 2000; i++) {
			u64 page = random() % kPages;
			u64 count = 1 + random() % (random() % 8 == 0 ? 700 : 20);
			struct s2_batch batch;

			count = std::min(count, kPages - page);
			if (random() % 4 == 0) {
				s2_batch_open(&batch, &view);
				s2_view_protect(&view, gpa(kBase + page * PAGE_SIZE),
						count * PAGE_SIZE, random() % 2 ? S2_RW : S2_READ,
						&batch);
			} else {
				s2_batch_open(&batch, &s2);
				change(&batch, kBase + page * PAGE_SIZE, count * PAGE_SIZE,
				       random() % 6);
			}
			s2_batch_close(&batch);
		}
		stop = true;
	}

	struct s2 s2 = {}, view = {}, unified = {};
	std::atomic<bool> stop{false};
	std::atomic<u64> accesses{0}, stale{0}, faults{0};
};
INSTANTIATE_TEST_SUITE_P(machines, S2ViewRace, ::testing::Values(true, false));

TEST_P(S2ViewRace, nobody_reads_a_frame_that_was_given_back)
{
	std::vector<std::thread> threads;

	threads.emplace_back([this] { guest(0, &view); });
	threads.emplace_back([this] { guest(1, &view); });
	threads.emplace_back([this] { guest(2, &unified); });
	threads.emplace_back([this] { changer(500); });
	for (std::thread &thread : threads) {
		thread.join();
	}
	fake_cpu_become(0);
	EXPECT_EQ(stale, 0u);
	EXPECT_GT(faults, 100u);
}

// After the close of a change to the base nobody writes through the view what the base forbids.
TEST_P(S2ViewRace, nobody_writes_what_the_base_forbids)
{
	std::vector<std::thread> threads;
	u64 written = 0;

	fake_cpu_become(3);
	map(0, true);
	for (u64 page = 512; page < kPages; page++) {
		map(page, false);
	}
	threads.emplace_back([this] { guest(0, &view); });
	threads.emplace_back([this] { guest(1, &view); });
	std::mt19937_64 random(5);
	for (int i = 0; i < 150 || accesses < 2000; i++) {
		u64 at = kBase + random() % kPages * PAGE_SIZE;
		struct s2_batch batch;

		s2_batch_open(&batch, &s2);
		ASSERT_EQ(s2_protect(&s2, gpa(at), PAGE_SIZE, S2_READ, &batch), OK);
		s2_batch_close(&batch);
		written += (s2_query(&view, gpa(at)).attr.perm & S2_WRITE) != 0;
		s2_batch_open(&batch, &s2);
		ASSERT_EQ(s2_protect(&s2, gpa(at), PAGE_SIZE, S2_RWX, &batch), OK);
		s2_batch_close(&batch);
	}
	stop = true;
	for (std::thread &thread : threads) {
		thread.join();
	}
	fake_cpu_become(0);
	EXPECT_EQ(written, 0u);
	EXPECT_EQ(stale, 0u);
}

} // namespace
