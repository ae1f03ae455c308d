// Overcommit with a disk: pages go there in clusters, come back together, and survive what it does.
#include "swap_test_machine.h"
#include "test_disk.h"

#include <memory>

extern "C" {
#include "hyp/store_disk.h"
#include "hyp/vm_memory_give_up.h"
}

namespace
{

class SwapDisk : public SwapTest
{
      protected:
	void SetUp() override
	{
		SwapTest::SetUp();
		config.stores = BIT(STORE_disk);
	}

	void machine_is_up() override
	{
		disk = std::make_unique<TestDisk>(slots);
		ASSERT_EQ(store_disk_init(&disk->block), OK);
	}

	void TearDown() override
	{
		SwapTest::TearDown();
		EXPECT_EQ(store_disk_stats.disk_used, bad_slots);
		store_disk_fini();
	}

	// A guest of 4 MiB, of which pages [0, count) have been written, and not used since.
	void build_with_pages(u64 count)
	{
		add_guest(MIB(4));
		build();
		for (u64 page = 0; page < count; page++) {
			write_page(vm, page, 1);
		}
		watch(vm);
	}

	void expect_pages(u64 count, u32 version = 1)
	{
		for (u64 page = 0; page < count; page++) {
			ASSERT_EQ(read(vm, page), content(page, version)) << page;
		}
	}

	u64 pages_on_disk() const
	{
		return swap->stored[STORE_disk];
	}

	struct swap_counters &counters()
	{
		return swap->totals.counters;
	}

	u64 slots = 1024;
	u64 bad_slots = 0;
	std::unique_ptr<TestDisk> disk;
};
INSTANTIATE_TEST_SUITE_P(formats, SwapDisk,
			 testing::Values(S2Kind{"fake", arch_s2_format(), false},
					 S2Kind{"armv8", &s2_armv8_4k, true}),
			 s2_kind_name);

TEST_P(SwapDisk, pages_are_written_in_clusters_and_come_back_as_they_were)
{
	build_with_pages(100);
	EXPECT_EQ(out(swap, 100), 100u);
	EXPECT_EQ(pages_on_disk(), 100u);
	EXPECT_EQ(store_disk_stats.disk_writes, 4u); // of 32 pages at most
	EXPECT_EQ(swap->charged, 0u);
	expect_pages(100);
	EXPECT_EQ(swap->totals.out[STORE_disk], 100u);
	EXPECT_EQ(swap->totals.in[STORE_disk], 100u);
}

TEST_P(SwapDisk, other_stores_come_first)
{
	config.stores = STORE_ALL;
	build_with_pages(64);
	EXPECT_EQ(out(swap, 64), 64u);
	EXPECT_EQ(pages_on_disk(), 0u);
	EXPECT_EQ(store_disk_stats.disk_writes, 0u);
}

TEST_P(SwapDisk, in_a_row_pages_are_read_ahead_and_elsewhere_one_by_one)
{
	build_with_pages(512);
	ASSERT_EQ(out(swap, 512), 512u);
	for (u64 page = 0; page < 256; page++) {
		ASSERT_EQ(read(vm, page), content(page, 1));
		access(vm, page);
	}
	EXPECT_LT(store_disk_stats.disk_reads, 64u);
	EXPECT_GT(counters().swap_ra, 150u);
	EXPECT_GT(counters().swap_ra_hit, 150u);

	u64 reads = store_disk_stats.disk_reads, ahead = counters().swap_ra;

	for (u64 page = 511; page >= 300; page -= 7) {
		ASSERT_EQ(read(vm, page), content(page, 1));
		access(vm, page);
	}
	EXPECT_GE(store_disk_stats.disk_reads - reads, 20u);
	EXPECT_LT(counters().swap_ra - ahead, 32u); // what the window still was
}

TEST_P(SwapDisk, a_fault_takes_as_long_as_its_read)
{
	build_with_pages(8);

	const struct swap_latency *latency = &swap->totals.latency[SWAP_FROM_STORES + STORE_disk];

	ASSERT_EQ(out(swap, 8), 8u);
	disk->on_submit = [] { fake_now += 1000; };
	ASSERT_EQ(read(vm, 3), content(3, 1));
	disk->on_submit = nullptr;
	EXPECT_EQ(latency->ticks, 1000u);
	EXPECT_EQ(latency->bins[9], 1u);
	EXPECT_EQ(swap_latency_count(latency), 1u);
}

TEST_P(SwapDisk, what_is_read_ahead_and_not_used_has_not_been_accessed)
{
	struct s2_harvest harvest = {};

	build_with_pages(64);
	ASSERT_EQ(out(swap, 64), 64u);
	swap->read_ahead.window = 4;
	swap->read_ahead.first = 10; // as if the page before had been wanted last
	ASSERT_EQ(read(vm, 10), content(10, 1));
	EXPECT_EQ(counters().swap_ra, 7u);
	ASSERT_EQ(s2_harvest(&vm->s2, gpa(kRam), MIB(4), &harvest), OK);
	EXPECT_EQ(harvest.young_count, 1u);
}

TEST_P(SwapDisk, a_page_that_was_not_changed_is_not_written_again)
{
	build_with_pages(64);
	ASSERT_EQ(out(swap, 64), 64u);
	expect_pages(64);
	EXPECT_EQ(store_disk_stats.disk_used, 64u); // kept
	write_page(vm, 5, 2);
	watch(vm);
	EXPECT_EQ(out(swap, 64), 64u);
	EXPECT_EQ(counters().swpout_clean, 63u);
	EXPECT_EQ(swap->totals.out[STORE_disk], 65u);
	EXPECT_EQ(store_disk_stats.disk_used, 64u);
	EXPECT_EQ(read(vm, 5), content(5, 2));
	EXPECT_EQ(read(vm, 6), content(6, 1));
}

TEST_P(SwapDisk, on_a_disk_that_fills_up_no_slot_is_kept)
{
	slots = 100;
	build_with_pages(64);
	ASSERT_EQ(out(swap, 64), 64u);
	expect_pages(64);
	EXPECT_LT(store_disk_stats.disk_used, 51u);
}

TEST_P(SwapDisk, a_page_that_is_written_meanwhile_keeps_what_was_written)
{
	build_with_pages(64);
	disk->on_submit = [this] {
		disk->on_submit = nullptr;
		write_page(vm, 3, 2);
	};
	EXPECT_EQ(out(swap, 64), 63u);
	EXPECT_EQ(counters().pgrescued, 1u);
	EXPECT_EQ(store_disk_stats.disk_used, 63u);
	EXPECT_EQ(read(vm, 3), content(3, 2));
}

TEST_P(SwapDisk, where_the_disk_is_full_pages_stay)
{
	slots = 40;
	build_with_pages(64);
	EXPECT_EQ(out(swap, 64), 40u);
	EXPECT_EQ(counters().pgputback, 24u);
	EXPECT_EQ(swap->charged, 24u);
	expect_pages(64);
}

TEST_P(SwapDisk, pages_go_where_there_is_room_between_others)
{
	slots = 64;
	build_with_pages(64);
	ASSERT_EQ(out(swap, 64), 64u);
	for (u64 page = 64; page > 0; page -= 4) { // backwards: nothing is read ahead
		write_page(vm, page - 4, 2);
	}
	watch(vm);
	EXPECT_EQ(store_disk_stats.disk_used, 48u);
	EXPECT_EQ(out(swap, 16), 16u);
	EXPECT_EQ(store_disk_stats.disk_used, 64u);
	for (u64 page = 0; page < 64; page++) {
		ASSERT_EQ(read(vm, page), content(page, page % 4 == 0 ? 2 : 1)) << page;
	}
}

TEST_P(SwapDisk, a_write_that_fails_loses_nothing_and_its_place_is_left_alone)
{
	build_with_pages(64);
	disk->failing_writes = 1;
	EXPECT_EQ(out(swap, 64), 32u);
	EXPECT_EQ(counters().pgputback, 32u);
	EXPECT_EQ(store_disk_stats.disk_write_errors, 1u);
	EXPECT_EQ(store_disk_stats.disk_used, 64u);
	expect_pages(64);
	bad_slots = 32;
	EXPECT_NE(std::strstr(fake_uart_output(), "cannot be written, and are left alone"),
		  nullptr);
}

TEST_P(SwapDisk, a_disk_that_fails_again_and_again_is_not_written_any_more)
{
	build_with_pages(128);
	ASSERT_EQ(out(swap, 32), 32u);
	for (u32 i = 0; i < STORE_DISK_FAILURES_MAX; i++) {
		disk->failing_writes = 1;
		EXPECT_EQ(out(swap, 4), 0u);
	}
	EXPECT_FALSE(store_disk_is_on());
	EXPECT_EQ(out(swap, 32), 0u);
	EXPECT_EQ(store_disk_stats.disk_write_errors, (u64)STORE_DISK_FAILURES_MAX);
	expect_pages(128);
	bad_slots = STORE_DISK_FAILURES_MAX * 4;
}

TEST_P(SwapDisk, a_read_that_fails_is_tried_again)
{
	build_with_pages(32);
	ASSERT_EQ(out(swap, 32), 32u);
	disk->failing_reads = 2;
	expect_pages(32);
	EXPECT_EQ(store_disk_stats.disk_read_errors, 2u);
	EXPECT_EQ(vm->state, VM_RUNNING);
}

TEST_P(SwapDisk, a_page_that_cannot_be_read_ends_its_guest_alone)
{
	struct exit fault = {};

	add_guest(MIB(4));
	build_with_pages(32);
	write_page(vms[1], 0, 1);
	ASSERT_EQ(out(swap, 32), 32u);
	disk->failing_reads = 3;
	fault.gpa = gpa(kRam + 2 * PAGE_SIZE);
	fault.access = ACCESS_READ;
	EXPECT_EQ(vm_memory_fault(vm, &fault), AGAIN);
	EXPECT_EQ(vm->state, VM_CRASHED);
	EXPECT_NE(std::strstr(vm->last_words, "cannot be read back: the disk fails in sector 16"),
		  nullptr)
		<< vm->last_words;
	EXPECT_EQ(vms[1]->state, VM_RUNNING);
	EXPECT_EQ(read(vms[1], 0), content(0, 1));
	EXPECT_EQ(swap->charged, 0u);
	EXPECT_EQ(frame_count_owned(FRAME_GUEST, vm->number), 0u);
}

TEST_P(SwapDisk, a_page_that_comes_back_damaged_ends_its_guest)
{
	struct exit fault = {};

	build_with_pages(32);
	ASSERT_EQ(out(swap, 32), 32u);
	disk->bytes[7] ^= 1;
	fault.gpa = gpa(kRam);
	fault.access = ACCESS_READ;
	EXPECT_EQ(vm_memory_fault(vm, &fault), AGAIN);
	EXPECT_EQ(vm->state, VM_CRASHED);
	EXPECT_NE(std::strstr(vm->last_words, "damaged from the disk store"), nullptr);
}

TEST_P(SwapDisk, what_is_given_up_or_forgotten_frees_its_slots)
{
	struct vm_ram_range range = {gpa(kRam), 48 * PAGE_SIZE};

	build_with_pages(64);
	ASSERT_EQ(out(swap, 64), 64u);
	for (u64 page = 0; page < 32; page++) {
		ASSERT_EQ(read(vm, page), content(page, 1));
	}
	ASSERT_EQ(store_disk_stats.disk_used, 64u);
	vm_memory_give_up(vm, &range, 1);
	EXPECT_EQ(store_disk_stats.disk_used, 16u);
	s2_destroy(&vm->s2);
	ASSERT_EQ(s2_init(&vm->s2, GetParam().format, 40, vm->number), OK);
	swap_forget(vm);
	EXPECT_EQ(store_disk_stats.disk_used, 0u);
}

TEST_P(SwapDisk, a_guest_without_room_reads_one_page_at_a_time)
{
	add_guest(MIB(4))->memory_max = MIB(1);
	build();
	for (u64 page = 0; page < 1024; page++) {
		write_page(vm, page, 1);
		ASSERT_LE(swap->charged, 256u);
	}
	for (u32 turn = 0; turn < 3; turn++) {
		expect_pages(1024);
		ASSERT_LE(swap->charged, 256u);
	}
	expect_adds_up(vm);
}

TEST(StoreDisk, disks_that_cannot_take_pages_are_refused)
{
	TestDisk none(0), read_only(8);

	fake_cpus(1);
	fake_memory(MIB(4));
	EXPECT_EQ(store_disk_init(&none.block), INVALID);
	read_only.block.read_only = true;
	EXPECT_EQ(store_disk_init(&read_only.block), DENIED);
	EXPECT_FALSE(store_disk_is_on());
}

} // namespace
