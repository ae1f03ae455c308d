// A guest's balloon: memory that it gives back, under overcommit and without.
#include "virtio_test_machine.h"

extern "C" {
#include "../../hyp/config_internal.h"
#include "hyp/dev_virtio_balloon.h"
#include "hyp/frame.h"
#include "hyp/swap.h"
#include "hyp/time.h"
#include <arch/cpu.h>
}

namespace
{

constexpr u64 kStatsVq = 1 << 1, kDeflateOnOom = 1 << 2, kReporting = 1 << 5;
constexpr u32 kInflate = 0, kDeflate = 1;

class VirtioBalloon : public VirtioMachine
{
      protected:
	void begin(u64 features = kStatsVq | kDeflateOnOom | kReporting, u32 queues = 4)
	{
		install(virtio_balloon_create(vm, kLine));
		go(kVersion1 | kIndirect | features, queues);
	}

	void touch(u64 at, u64 size)
	{
		for (u64 done = 0; done < size; done += PAGE_SIZE) {
			write(at + done, (u8)0x5a);
		}
	}

	u64 mapped()
	{
		return vm_memory_current(vm);
	}

	void give_pfns(u32 queue, std::vector<u32> pfns)
	{
		write(kData, pfns.data(), pfns.size() * 4);
		chain(queue, {{kData, (u32)pfns.size() * 4, 0, 0}});
		notify(queue);
	}

	void report(u32 queue, std::vector<Descriptor> pieces)
	{
		for (Descriptor &d : pieces) {
			d.flags = kWrite;
		}
		chain(queue, pieces);
		notify(queue);
	}

	u64 batches()
	{
		return vm->s2.stats.batches;
	}
};

TEST_F(VirtioBalloon, says_what_it_is)
{
	begin();
	EXPECT_EQ(get(kDeviceID), 5u);
	EXPECT_EQ(offered(), kVersion1 | kIndirect | kStatsVq | kDeflateOnOom | kReporting);
	EXPECT_EQ(get(kConfig), 0u);
}

TEST_F(VirtioBalloon, inflated_pages_go_in_one_round_and_come_back_zero)
{
	std::vector<u32> pfns;

	begin();
	touch(RAM + MIB(16), MIB(2));
	for (u32 i = 0; i < 256; i++) {
		pfns.push_back((u32)((RAM + MIB(16)) / PAGE_SIZE) + 2 * i);
	}
	touch(kData, PAGE_SIZE);
	u64 before = mapped(), rounds = batches();

	give_pfns(kInflate, pfns);
	EXPECT_EQ(batches(), rounds + 1);
	EXPECT_EQ(before - mapped(), 256 * PAGE_SIZE);
	EXPECT_EQ(take_used(kInflate).length, 0u);
	EXPECT_TRUE(line());
	EXPECT_EQ(vm->counters.balloon_inflate, 256u);
	EXPECT_EQ(read<u8>(RAM + MIB(16)), 0);
	EXPECT_EQ(read<u8>(RAM + MIB(16) + PAGE_SIZE), 0x5a) << "this one was not given";
	give_pfns(kDeflate, pfns);
	EXPECT_EQ(take_used(kDeflate).id, 0u);
	EXPECT_EQ(vm->counters.balloon_deflate, 256u);
}

TEST_F(VirtioBalloon, reported_memory_goes_whole_in_one_round)
{
	begin();
	touch(RAM + MIB(16), MIB(8));
	u64 before = mapped(), rounds = batches();

	report(3, {{RAM + MIB(16), (u32)MIB(2), 0, 0}, {RAM + MIB(20), (u32)MIB(4), 0, 0}});
	EXPECT_EQ(before - mapped(), MIB(6));
	EXPECT_EQ(batches(), rounds + 1);
	EXPECT_EQ(used_index(3), 1u);
	EXPECT_EQ(vm->counters.free_page_reports, 1u);
	EXPECT_EQ(vm->counters.free_page_reported_bytes, MIB(6));
	EXPECT_EQ(read<u8>(RAM + MIB(18)), 0x5a);
	EXPECT_EQ(read<u8>(RAM + MIB(20)), 0);
}

TEST_F(VirtioBalloon, the_reporting_queue_is_third_without_statistics)
{
	begin(kReporting, 3);
	touch(RAM + MIB(16), MIB(2));
	report(2, {{RAM + MIB(16), (u32)MIB(2), 0, 0}});
	EXPECT_EQ(vm->counters.free_page_reported_bytes, MIB(2));
	EXPECT_EQ(read<u8>(RAM + MIB(16)), 0);
}

// The ring itself may lie in what is given up: its bytes are gone then, and nothing else.
TEST_F(VirtioBalloon, a_guest_may_give_up_its_own_ring)
{
	begin();
	report(3, {{RAM, (u32)RAM_SIZE, 0, 0}});
	EXPECT_LE(mapped(), MIB(8)) << "what the device touched since";
	EXPECT_FALSE(is_broken());
}

TEST_F(VirtioBalloon, pages_that_it_does_not_have_are_nobodys_loss)
{
	begin();
	touch(RAM + MIB(16), MIB(2));
	u64 before = mapped();

	give_pfns(kInflate, {0, 1, 0xffffffff, (u32)((RAM + RAM_SIZE) / PAGE_SIZE),
			     (u32)(RAM / PAGE_SIZE) - 1, 0x80000000});
	EXPECT_EQ(used_index(kInflate), 1u);
	EXPECT_FALSE(is_broken());
	EXPECT_LE(mapped(), before + MIB(2));
	EXPECT_EQ(read<u8>(RAM + MIB(16)), 0x5a);
}

TEST_F(VirtioBalloon, a_report_of_more_than_there_is_needs_a_reset)
{
	begin();
	report(3, {{RAM, (u32)RAM_SIZE, 0, 0}, {RAM, (u32)RAM_SIZE, 0, 0}});
	EXPECT_TRUE(is_broken());
}

TEST_F(VirtioBalloon, parts_of_pages_stay)
{
	begin();
	touch(RAM + MIB(16), MIB(2));
	report(3, {{RAM + MIB(16) + 100, 3 * (u32)PAGE_SIZE, 0, 0}});
	EXPECT_EQ(read<u8>(RAM + MIB(16)), 0x5a);
	EXPECT_EQ(read<u8>(RAM + MIB(16) + PAGE_SIZE), 0);
	EXPECT_EQ(read<u8>(RAM + MIB(16) + 2 * PAGE_SIZE), 0);
	EXPECT_EQ(read<u8>(RAM + MIB(16) + 3 * PAGE_SIZE), 0x5a);
}

TEST_F(VirtioBalloon, the_target_is_told_by_an_interrupt)
{
	u32 target, actual;
	struct virtio_balloon_stats stats;

	EXPECT_EQ(virtio_balloon_set_target(vm, 1), INVALID) << "it has none";
	begin();
	u32 generation = get(kConfigGeneration);

	EXPECT_EQ(virtio_balloon_set_target(vm, 1234), OK);
	EXPECT_TRUE(line());
	EXPECT_EQ(get(kInterruptStatus), 2u);
	EXPECT_NE(get(kConfigGeneration), generation);
	EXPECT_EQ(get(kConfig), 1234u);
	put(kConfig + 4, 77);
	put(kConfig, 5);
	ASSERT_EQ(virtio_balloon_get(vm, &target, &actual, &stats), OK);
	EXPECT_EQ(target, 1234u) << "not the driver's to say";
	EXPECT_EQ(actual, 77u);
	EXPECT_EQ(stats.free_memory, ~0ull) << "not said yet";
}

TEST_F(VirtioBalloon, statistics_are_asked_for_from_time_to_time)
{
	struct __attribute__((packed)) Tag {
		u16 tag;
		u64 value;
	};
	const Tag tags[] = {{4, 1111}, {5, 2222}, {999, 3}, {2, 44}};
	struct virtio_balloon_stats stats;
	u32 target, actual;

	begin();
	write(kData, tags, sizeof(tags));
	chain(2, {{kData, sizeof(tags), 0, 0}});
	notify(2);
	EXPECT_EQ(used_index(2), 0u) << "it is kept";
	ASSERT_EQ(virtio_balloon_get(vm, &target, &actual, &stats), OK);
	EXPECT_EQ(stats.free_memory, 1111u);
	EXPECT_EQ(stats.total_memory, 2222u);
	EXPECT_EQ(stats.major_faults, 44u);
	EXPECT_EQ(stats.swap_in, ~0ull);
	virtio_vm_work(vm);
	EXPECT_EQ(used_index(2), 0u) << "it is not time";
	u64 due = vm->virtio_wake_at;

	EXPECT_GT(due, arch_now());
	EXPECT_LE(due, arch_now() + ns_to_ticks(VIRTIO_BALLOON_STATS_MS * 1000000ull));
	EXPECT_EQ(vm->virtio[0]->kind->tick(vm->virtio[0], due), VIRTIO_EVENT);
	virtio_work_now(vm->virtio[0], VIRTIO_EVENT);
	EXPECT_EQ(used_index(2), 1u) << "and is to be filled again";
	virtio_work_now(vm->virtio[0], VIRTIO_EVENT);
	EXPECT_EQ(used_index(2), 1u) << "it has none now";
}

} // namespace
