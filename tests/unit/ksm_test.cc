// Equal pages share a frame until one is written: who is charged, who keeps what bytes, what
// counts.
#include "swap_test_machine.h"

extern "C" {
#include "hyp/ksm.h"
#include "hyp/swap_share.h"
#include "hyp/vm_memory_give_up.h"
}

namespace
{

class Ksm : public SwapTest
{
      protected:
	void begin(unsigned cpus = 1)
	{
		config.ksm = true;
		build(cpus);
		ASSERT_EQ(ksm_init(&config), OK);
		scans = true;
	}

	void TearDown() override
	{
		if (scans) {
			ksm_fini();
		}
		SwapTest::TearDown();
	}

	// So many times round all guests, from wherever it is.
	void rounds(u64 count)
	{
		u64 until = ksm_counters().full_scans + count;

		for (u32 ticks = 0; ksm_counters().full_scans < until; ticks++) {
			ASSERT_LT(ticks, 10000u) << "it does not come round";
			ksm_tick();
		}
	}

	// Bytes that no store takes.
	static std::vector<u8> noise(u32 seed)
	{
		std::vector<u8> bytes(PAGE_SIZE);
		std::mt19937 random(seed);

		for (u8 &byte : bytes) {
			byte = (u8)random();
		}
		return bytes;
	}

	void put(struct vm *to, u64 page, u32 seed)
	{
		ASSERT_EQ(write(to, page, noise(seed).data()), OK);
	}

	hpa_t frame(struct vm *of, u64 page)
	{
		return s2_query(&of->s2, gpa(kRam + page * PAGE_SIZE)).hpa;
	}

	struct swap_census census(struct vm *of)
	{
		struct swap_census c;
		struct swap_totals t;

		swap_count(of->swap, &c, &t);
		return c;
	}

	// What guests have, and what is nobody's, is what there is.
	void expect_all_add_up()
	{
		u64 charged = 0, sharing = 0;

		for (u32 i = 0; i < vm_count; i++) {
			expect_adds_up(vms[i]);
			charged += vms[i]->swap->charged;
			sharing += census(vms[i]).shared;
		}
		EXPECT_EQ(sharing, swap_machine_sharing());
		EXPECT_EQ(swap_machine_shared(), frame_count(FRAME_SHARED));
		EXPECT_EQ(charged + frame_count(FRAME_SHARED) +
				  store_pool_stats.mem_used_total / PAGE_SIZE,
			  swap_machine_charged());
		EXPECT_EQ(ksm_counters().pages_shared + ksm_counters().pages_sharing, sharing);
	}

	bool scans = false;
};
INSTANTIATE_TEST_SUITE_P(formats, Ksm,
			 testing::Values(S2Kind{"fake", arch_s2_format(), false},
					 S2Kind{"armv8", &s2_armv8_4k, true},
					 S2Kind{"ept_software", &s2_ept_software, false}),
			 s2_kind_name);

TEST_P(Ksm, equal_pages_of_two_guests_come_to_one_frame)
{
	add_guest(MIB(4));
	add_guest(MIB(4));
	begin();
	for (u32 page = 0; page < 100; page++) {
		put(vms[0], page, page);
		put(vms[1], page + 7, page);
	}
	rounds(3);
	EXPECT_EQ(ksm_counters().pages_shared, 100u);
	EXPECT_EQ(ksm_counters().pages_sharing, 100u);
	EXPECT_EQ(ksm_counters().pages_merged, 100u);
	EXPECT_EQ(vms[0]->swap->charged + vms[1]->swap->charged, 0u);
	EXPECT_EQ(swap_machine_charged(), 100u);
	for (u32 page = 0; page < 100; page++) {
		EXPECT_EQ(frame(vms[0], page).v, frame(vms[1], page + 7).v);
		EXPECT_EQ(read(vms[0], page), noise(page));
		EXPECT_EQ(read(vms[1], page + 7), noise(page));
	}
	expect_all_add_up();
}

TEST_P(Ksm, equal_pages_of_one_guest_come_to_one_frame)
{
	add_guest(MIB(4));
	begin();
	for (u32 page = 0; page < 60; page++) {
		put(vm, page, page % 3);
	}
	rounds(4);
	EXPECT_EQ(ksm_counters().pages_shared, 3u);
	EXPECT_EQ(ksm_counters().pages_sharing, 57u);
	EXPECT_EQ(swap->charged, 0u);
	for (u32 page = 0; page < 60; page++) {
		EXPECT_EQ(frame(vm, page).v, frame(vm, page % 3).v);
	}
	expect_all_add_up();
}

TEST_P(Ksm, a_page_of_its_own_kind_stays_as_it_is)
{
	add_guest(MIB(4));
	begin();
	for (u32 page = 0; page < 50; page++) {
		put(vm, page, page);
	}
	rounds(4);
	EXPECT_EQ(ksm_counters().pages_shared, 0u);
	EXPECT_EQ(ksm_counters().pages_unshared, 50u);
	EXPECT_EQ(ksm_counters().pages_volatile, 0u);
	EXPECT_EQ(swap->charged, 50u);
}

TEST_P(Ksm, a_page_that_changes_between_two_rounds_is_left_alone)
{
	add_guest(MIB(4));
	begin();
	for (u32 round = 0; round < 5; round++) {
		for (u32 page = 0; page < 20; page++) {
			put(vm, page, round);
		}
		rounds(1);
	}
	EXPECT_EQ(ksm_counters().pages_merged, 0u);
	EXPECT_EQ(ksm_counters().pages_volatile, 20u);
	EXPECT_EQ(swap->charged, 20u);
}

TEST_P(Ksm, a_write_gives_a_page_of_its_own_to_who_wrote)
{
	add_guest(MIB(4));
	add_guest(MIB(4));
	add_guest(MIB(4));
	begin();
	for (u32 i = 0; i < 3; i++) {
		put(vms[i], 5, 1);
	}
	rounds(3);
	EXPECT_EQ(ksm_counters().pages_sharing, 2u);
	put(vms[1], 5, 2);
	EXPECT_EQ(vms[1]->swap->charged, 1u);
	EXPECT_EQ(vms[1]->swap->totals.counters.cow_ksm, 1u);
	EXPECT_EQ(ksm_counters().pages_sharing, 1u);
	EXPECT_EQ(read(vms[0], 5), noise(1));
	EXPECT_EQ(read(vms[1], 5), noise(2));
	EXPECT_EQ(read(vms[2], 5), noise(1));
	expect_all_add_up();
	// And reclaim has it again.
	watch(vms[1]);
	EXPECT_EQ(out(vms[1]->swap, 10), 0u) << "noise goes to no store";
	EXPECT_EQ(vms[1]->swap->totals.counters.pgputback, 1u);
	EXPECT_EQ(out(vms[0]->swap, 10), 0u);
	EXPECT_EQ(vms[0]->swap->totals.counters.pgputback, 0u) << "what is shared is not tried";
}

TEST_P(Ksm, the_last_holder_keeps_the_frame)
{
	add_guest(MIB(4));
	add_guest(MIB(4));
	begin();
	put(vms[0], 5, 1);
	put(vms[1], 5, 1);
	rounds(3);
	hpa_t shared = frame(vms[0], 5);

	put(vms[0], 5, 2);
	EXPECT_EQ(frame_count(FRAME_SHARED), 1u);
	put(vms[1], 5, 3);
	EXPECT_EQ(frame(vms[1], 5).v, shared.v) << "nothing was copied";
	EXPECT_EQ(frame_count(FRAME_SHARED), 0u);
	EXPECT_EQ(vms[0]->swap->charged, 1u);
	EXPECT_EQ(vms[1]->swap->charged, 1u);
	EXPECT_EQ(read(vms[0], 5), noise(2));
	EXPECT_EQ(read(vms[1], 5), noise(3));
	expect_all_add_up();
}

TEST_P(Ksm, the_scanner_gives_the_last_holder_its_frame_back)
{
	add_guest(MIB(4));
	add_guest(MIB(4));
	begin();
	put(vms[0], 5, 1);
	put(vms[1], 5, 1);
	rounds(3);
	put(vms[0], 5, 2);
	rounds(2);
	EXPECT_EQ(frame_count(FRAME_SHARED), 0u);
	EXPECT_EQ(vms[1]->swap->charged, 1u);
	watch(vms[1]);
	out(vms[1]->swap, 10);
	EXPECT_EQ(vms[1]->swap->totals.counters.pgputback, 1u) << "reclaim has it again";
	expect_all_add_up();
}

// A page from a store has the hash it had before, so it is met as a candidate before those that are
// shared, and it is still that one that moves.
TEST_P(Ksm, a_page_that_comes_back_joins_those_that_are_shared)
{
	std::vector<u8> bytes = content(2, 1);

	add_guest(MIB(4));
	begin();
	ASSERT_EQ(write(vm, 5, bytes.data()), OK);
	watch(vm);
	ASSERT_EQ(out(swap, 1), 1u);
	for (u64 page : {1, 10, 11}) {
		ASSERT_EQ(write(vm, page, bytes.data()), OK);
	}
	rounds(3);
	hpa_t shared = frame(vm, 10);

	put(vm, 1, 2); // which was what others of its kind were compared with
	EXPECT_EQ(read(vm, 5), bytes);
	rounds(3);
	EXPECT_EQ(frame(vm, 10).v, shared.v);
	EXPECT_EQ(frame(vm, 11).v, shared.v);
	EXPECT_EQ(frame(vm, 5).v, shared.v);
	EXPECT_EQ(ksm_counters().pages_merged, 3u);
	expect_all_add_up();
}

TEST_P(Ksm, zeros_go_to_the_store_at_once)
{
	std::vector<u8> zeros(PAGE_SIZE);

	add_guest(MIB(4));
	begin();
	for (u64 page = 0; page < 300; page++) {
		ASSERT_EQ(write(vm, page, zeros.data()), OK);
	}
	put(vm, 300, 1);
	u64 before = vm->s2.stats.batches;

	rounds(1);
	EXPECT_EQ(ksm_counters().pages_zeroed, 300u);
	EXPECT_EQ(swap->stored[STORE_zero], 300u);
	EXPECT_EQ(swap->charged, 1u);
	EXPECT_LE(vm->s2.stats.batches, before + 2) << "in a few batches";
	EXPECT_EQ(read(vm, 17), zeros);
	expect_all_add_up();
}

TEST_P(Ksm, where_there_is_no_store_of_zeros_they_are_merged)
{
	std::vector<u8> zeros(PAGE_SIZE);

	config.stores = BIT(STORE_same);
	add_guest(MIB(4));
	begin();
	for (u64 page = 0; page < 30; page++) {
		ASSERT_EQ(write(vm, page, zeros.data()), OK);
	}
	rounds(3);
	EXPECT_EQ(ksm_counters().pages_shared, 1u);
	EXPECT_EQ(ksm_counters().pages_sharing, 29u);
	expect_all_add_up();
}

TEST_P(Ksm, a_guest_that_ends_leaves_the_bytes_to_the_others)
{
	add_guest(MIB(4));
	add_guest(MIB(4));
	begin();
	for (u32 page = 0; page < 50; page++) {
		put(vms[0], page, page);
		put(vms[1], page, page);
	}
	rounds(3);
	swap_end(vms[0]);
	s2_destroy(&vms[0]->s2);
	EXPECT_EQ(swap_machine_sharing(), 50u);
	EXPECT_EQ(frame_count(FRAME_SHARED), 50u);
	EXPECT_EQ(frame_count_owned(FRAME_GUEST, vms[0]->number), 0u);
	for (u32 page = 0; page < 50; page++) {
		EXPECT_EQ(read(vms[1], page), noise(page));
	}
	rounds(2);
	EXPECT_EQ(frame_count(FRAME_SHARED), 0u);
	EXPECT_EQ(vms[1]->swap->charged, 50u);
	vms[0] = vms[1];
	vm_count = 1;
	expect_all_add_up();
}

TEST_P(Ksm, a_shared_page_that_is_given_up_is_the_others)
{
	add_guest(MIB(4));
	add_guest(MIB(4));
	begin();
	for (u32 page = 0; page < 64; page++) {
		put(vms[0], page, page);
		put(vms[1], page, page);
	}
	rounds(3);
	struct vm_ram_range range = {gpa(kRam), 32 * PAGE_SIZE};

	EXPECT_EQ(vm_memory_give_up(vms[0], &range, 1), range.size);
	EXPECT_EQ(census(vms[0]).shared, 32u);
	EXPECT_EQ(census(vms[0]).untouched, MIB(4) / PAGE_SIZE - 32);
	expect_all_add_up();
	EXPECT_EQ(vm_memory_give_up(vms[1], &range, 1), range.size);
	EXPECT_EQ(frame_count(FRAME_SHARED), 32u) << "nobody holds the others";
	EXPECT_EQ(read(vms[0], 3), std::vector<u8>(PAGE_SIZE));
	EXPECT_EQ(read(vms[0], 33), noise(33));
	expect_all_add_up();
}

TEST_P(Ksm, blocks_of_2_mib_that_are_alike_are_split_and_merged)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(4), false);
	add_guest(MIB(4), false);
	begin();
	for (u32 page = 0; page < 512; page++) {
		put(vms[0], page, page);
		put(vms[1], page, page);
	}
	ASSERT_EQ(vms[0]->s2.stats.leaf_2m, 1u);
	rounds(5);
	EXPECT_EQ(vms[0]->s2.stats.leaf_2m + vms[1]->s2.stats.leaf_2m, 0u);
	EXPECT_EQ(ksm_counters().pages_sharing, 512u);
	expect_all_add_up();
}

TEST_P(Ksm, a_block_with_little_to_gain_stays_whole)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(4), false);
	begin();
	for (u32 page = 0; page < 512; page++) {
		put(vm, page, page % 500);
	}
	rounds(5);
	EXPECT_EQ(vm->s2.stats.leaf_2m, 1u);
	EXPECT_EQ(ksm_counters().pages_merged, 0u);
}

TEST_P(Ksm, a_guest_at_its_max_makes_room_to_write)
{
	add_guest(MIB(4))->memory_max = MIB(1);
	begin();
	for (u32 page = 0; page < 300; page++) {
		ASSERT_EQ(write(vm, page, content(page % 3 + 3, 1).data()), OK);
		if (page % 100 == 99) {
			rounds(3);
		}
	}
	for (u32 page = 0; page < 300; page++) {
		write_page(vm, page, 2);
		ASSERT_LE(swap->charged, 256u);
	}
	for (u32 page = 0; page < 300; page++) {
		ASSERT_EQ(read(vm, page), content(page, 2)) << page;
	}
	expect_all_add_up();
}

TEST_P(Ksm, turned_off_it_looks_no_further_and_all_stays_as_it_is)
{
	add_guest(MIB(4));
	begin();
	put(vm, 1, 1);
	put(vm, 2, 1);
	rounds(3);
	ksm_turn(false);
	u64 scans_before = ksm_counters().full_scans;

	for (u32 i = 0; i < 100; i++) {
		ksm_tick();
	}
	EXPECT_EQ(ksm_counters().full_scans, scans_before);
	EXPECT_EQ(ksm_counters().pages_sharing, 1u);
}

TEST_P(Ksm, a_guest_that_begins_anew_shares_nothing)
{
	add_guest(MIB(4));
	add_guest(MIB(4));
	begin();
	put(vms[0], 1, 1);
	put(vms[1], 1, 1);
	rounds(3);
	struct s2_batch batch;

	swap_forget(vms[0]);
	s2_batch_open(&batch, &vms[0]->s2);
	ASSERT_EQ(s2_unmap(&vms[0]->s2, gpa(kRam), MIB(4), &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(census(vms[0]).shared, 0u);
	EXPECT_EQ(read(vms[0], 1), std::vector<u8>(PAGE_SIZE));
	EXPECT_EQ(read(vms[1], 1), noise(1));
	expect_all_add_up();
}

// Two guests with little of their own and more than there is memory for, written all the time.
TEST_P(Ksm, beside_reclaim_no_byte_is_lost)
{
	std::mt19937 random(11);
	std::vector<u32> version[2] = {std::vector<u32>(2048), std::vector<u32>(2048)};

	add_guest(MIB(8));
	add_guest(MIB(8));
	config.guest_memory = MIB(6);
	begin();
	for (u64 step = 0; step < 12000; step++) {
		u32 who = random() % 2, page = random() % 2048, kind = page % 64;

		if (random() % 3 == 0) {
			version[who][page] = 1 + random() % 2;
			ASSERT_EQ(write(vms[who], page, content(kind, version[who][page]).data()),
				  OK);
		} else {
			ASSERT_EQ(read(vms[who], page), version[who][page]
								? content(kind, version[who][page])
								: std::vector<u8>(PAGE_SIZE))
				<< "page " << page << " of " << who;
		}
		if (step % 4 == 0) {
			ksm_tick();
		}
		if (step % 16 == 0) {
			swap_tick();
		}
		ASSERT_LE(swap_machine_charged(), swap_machine_max());
		if (step % 2000 == 0) {
			expect_all_add_up();
		}
	}
	expect_all_add_up();
	EXPECT_GT(ksm_counters().pages_merged, 500u);
	EXPECT_GT(vms[0]->swap->totals.counters.cow_ksm, 100u);
}

} // namespace
