// Overcommit: pages lose their frames and come back with the same bytes, within the limits.
#include "swap_test_machine.h"

extern "C" {
#include "hyp/vm_memory_give_up.h"
}

namespace
{

class Swap : public SwapTest
{
};
INSTANTIATE_TEST_SUITE_P(formats, Swap,
			 testing::Values(S2Kind{"fake", arch_s2_format(), false},
					 S2Kind{"armv8", &s2_armv8_4k, true},
					 S2Kind{"ept_software", &s2_ept_software, false}),
			 s2_kind_name);

TEST_P(Swap, without_a_word_about_it_nothing_is_overcommitted)
{
	config.guest_memory = 0;
	EXPECT_EQ(swap_init(&config), INVALID);
	EXPECT_EQ(swap_machine_max(), 0u);
}

TEST_P(Swap, a_page_that_was_taken_away_comes_back_as_it_was)
{
	add_guest(MIB(4));
	build();
	for (u64 page = 0; page < 64; page++) {
		write_page(vm, page, 1);
	}
	watch(vm);
	EXPECT_EQ(out(swap, 64), 64u);
	expect_adds_up(vm);
	for (u64 page = 0; page < 64; page++) {
		EXPECT_EQ(kind_at(vm, page), S2_STORED);
	}
	EXPECT_EQ(swap->charged, 0u);
	EXPECT_EQ(swap->stored[STORE_zero], 8u);
	EXPECT_EQ(swap->stored[STORE_same], 8u);
	EXPECT_EQ(swap->stored[STORE_zswap], 48u);
	for (u64 page = 0; page < 64; page++) {
		EXPECT_EQ(read(vm, page), content(page, 1)) << page;
	}
	EXPECT_EQ(swap->totals.counters.workingset_refault, 64u);
	EXPECT_EQ(store_pool_stats.objects, 0u);
}

TEST_P(Swap, one_run_is_one_round_of_invalidation)
{
	add_guest(MIB(8));
	config.guest_memory = MIB(32);
	build();
	for (u64 page = 0; page < 2048; page++) {
		write_page(vm, page, 1);
	}
	u64 rounds = vm->s2.stats.batches;

	watch(vm);
	EXPECT_EQ(out(swap, 2048), 2048u);
	EXPECT_EQ(vm->s2.stats.batches, rounds + 1);
	EXPECT_EQ(swap->totals.counters.pgsteal, 2048u);
}

TEST_P(Swap, guests_with_twice_the_memory_there_is_lose_nothing)
{
	std::mt19937 random(7);
	std::vector<u32> version[2];

	add_guest(MIB(8));
	add_guest(MIB(8));
	config.guest_memory = MIB(8);
	build();
	version[0].resize(2048);
	version[1].resize(2048);
	for (u64 step = 0; step < 12000; step++) {
		u32 who = random() % 2, page = random() % 2048;

		if (random() % 3 == 0) {
			write_page(vms[who], page, ++version[who][page]);
		} else {
			ASSERT_EQ(read(vms[who], page), version[who][page]
								? content(page, version[who][page])
								: std::vector<u8>(PAGE_SIZE))
				<< "page " << page << " of " << who;
		}
		ASSERT_LE(swap_machine_charged(), swap_machine_max());
		if (step % 1000 == 0) {
			expect_adds_up(vms[0]);
			expect_adds_up(vms[1]);
		}
	}
	EXPECT_GT(vms[0]->swap->totals.counters.pgsteal, 1000u);
	EXPECT_GT(vms[1]->swap->totals.counters.workingset_refault, 1000u);
}

TEST_P(Swap, a_guest_stays_below_its_max)
{
	add_guest(MIB(8))->memory_max = MIB(2);
	config.guest_memory = MIB(32);
	build();
	for (u64 page = 0; page < 2048; page++) {
		write_page(vm, page, 1);
		ASSERT_LE(swap->charged, 512u);
	}
	for (u64 page = 0; page < 2048; page++) {
		ASSERT_EQ(read(vm, page), content(page, 1));
	}
}

TEST_P(Swap, what_is_not_accessed_goes_first)
{
	config.reclaim = &reclaim_clock;
	add_guest(MIB(4));
	build();
	for (u64 page = 0; page < 200; page++) {
		write_page(vm, page, 1);
	}
	watch(vm);
	for (u64 page = 0; page < 200; page += 2) {
		access(vm, page);
	}
	EXPECT_EQ(out(swap, 60), 60u);
	EXPECT_EQ(swap->active_permille, 1000u * 60 / 120 / 4);
	for (u64 page = 0; page < 200; page += 2) {
		EXPECT_EQ(kind_at(vm, page), S2_LEAF) << page;
	}
}

TEST_P(Swap, a_block_that_is_not_accessed_goes_whole_and_comes_back_in_pages)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(8), false);
	build();
	write_page(vm, 3, 1);
	write_page(vm, 700, 1);
	EXPECT_EQ(vm->s2.stats.leaf_2m, 2u);
	EXPECT_EQ(swap->charged, 1024u);
	watch(vm);
	EXPECT_EQ(out(swap, 2048), 1024u);
	EXPECT_EQ(swap->totals.counters.thp_split_page, 2u);
	EXPECT_EQ(vm->s2.stats.leaf_2m, 0u);
	EXPECT_EQ(read(vm, 3), content(3, 1));
	EXPECT_EQ(read(vm, 700), content(700, 1));
	EXPECT_EQ(swap->charged, 2u);
	expect_adds_up(vm);
}

TEST_P(Swap, under_pressure_a_fault_brings_one_page)
{
	config.guest_memory = MIB(8);
	add_guest(MIB(16), false);
	build();
	for (u64 page = 0; page < 4096; page += 64) {
		write_page(vm, page, 1);
		ASSERT_LE(swap_machine_charged(), swap_machine_max());
	}
	for (u64 page = 0; page < 4096; page += 64) {
		EXPECT_EQ(read(vm, page), content(page, 1));
	}
}

// Nothing takes it: it is mapped again, and nothing of it is lost.
TEST_P(Swap, what_no_store_takes_is_put_back)
{
	std::vector<u8> noise(PAGE_SIZE);
	std::mt19937 random(3);

	add_guest(MIB(4));
	build();
	for (u8 &byte : noise) {
		byte = (u8)random();
	}
	for (u64 page = 0; page < 32; page++) {
		ASSERT_EQ(write(vm, page, noise.data()), OK);
	}
	watch(vm);
	EXPECT_EQ(out(swap, 32), 0u);
	EXPECT_EQ(swap->totals.counters.pgputback, 32u);
	EXPECT_EQ(swap->totals.counters.pgsteal, 0u);
	for (u64 page = 0; page < 32; page++) {
		EXPECT_EQ(kind_at(vm, page), S2_LEAF);
		EXPECT_EQ(read(vm, page), noise);
	}
}

TEST_P(Swap, when_nothing_can_go_the_guest_is_told)
{
	std::vector<u8> noise(PAGE_SIZE);
	std::mt19937 random(3);
	enum status status = OK;
	u64 page;

	for (u8 &byte : noise) {
		byte = (u8)random();
	}
	add_guest(MIB(16));
	build();
	for (page = 0; status == OK; page++) {
		status = write(vm, page, noise.data());
	}
	EXPECT_EQ(status, NOMEM);
	EXPECT_GT(page, 1900u);
	EXPECT_EQ(read(vm, 5), noise) << "what it has it keeps";
}

TEST_P(Swap, a_guest_below_its_min_keeps_what_it_has)
{
	add_guest(MIB(4))->memory_min = MIB(4);
	add_guest(MIB(16));
	build();
	for (u64 page = 0; page < 1024; page++) {
		write_page(vms[0], page, 1);
	}
	for (u64 page = 0; page < 4096; page++) {
		write_page(vms[1], page, 1);
	}
	EXPECT_EQ(vms[0]->swap->totals.counters.pgsteal, 0u);
	EXPECT_EQ(vms[0]->swap->charged, 1024u);
}

TEST_P(Swap, the_tick_keeps_room_free)
{
	config.guest_memory = MIB(16);
	add_guest(MIB(16));
	build();
	for (u64 page = 0; page < 4060; page++) {
		write_page(vm, page, 1);
	}
	for (unsigned i = 0; i < 8; i++) {
		swap_tick();
	}
	EXPECT_GE(swap_machine_max() - swap_machine_charged(), swap_machine_max() / 64);
	EXPECT_GT(swap->totals.counters.pgsteal, 0u);
}

TEST_P(Swap, the_tick_gives_back_what_the_pool_does_not_need)
{
	add_guest(MIB(8));
	config.guest_memory = MIB(32);
	build();
	for (u64 page = 0; page < 2048; page++) {
		write_page(vm, page, 1);
	}
	watch(vm);
	ASSERT_EQ(out(swap, 2048), 2048u);
	for (u64 page = 0; page < 2048; page++) {
		if (page % 8 > 2) { // what is left lies here and there
			read(vm, page);
		}
	}
	u64 used = store_pool_stats.mem_used_total;

	ASSERT_TRUE(store_pool_is_sparse());
	for (u32 i = 0; i < 100; i++) {
		swap_tick();
	}
	EXPECT_FALSE(store_pool_is_sparse());
	EXPECT_LT(store_pool_stats.mem_used_total, used / 2);
	for (u64 page = 0; page < 2048; page++) {
		ASSERT_EQ(read(vm, page), content(page, 1)) << page;
	}
}

// As reclaim splits a block that is used, to tell its pages apart.
void split_first_block(struct swap *swap)
{
	struct s2_batch batch;

	swap_admit_newcomers(swap);
	reclaim_forget(&swap->blocks, 0);
	s2_batch_open(&batch, &swap->vm->s2);
	ASSERT_EQ(s2_split(&swap->vm->s2, swap_gpa(swap, 0), 0, &batch), OK);
	s2_batch_close(&batch);
	swap->is_whole[0] = 0;
	for (u32 page = 0; page < SWAP_BLOCK_PAGES; page++) {
		swap->choice.policy->resident(&swap->choice, page);
	}
}

TEST_P(Swap, a_block_that_was_split_and_is_warm_is_put_together_where_there_is_room)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(8), false);
	build();
	write_page(vm, 3, 1);
	write_page(vm, 700, 1);
	split_first_block(swap);
	ASSERT_EQ(vm->s2.stats.leaf_2m, 1u);
	for (u32 i = 0; i < 20; i++) {
		swap_tick();
	}
	EXPECT_EQ(vm->s2.stats.leaf_2m, 2u);
	EXPECT_EQ(swap->totals.counters.thp_collapse_page, 1u);
	EXPECT_EQ(read(vm, 3), content(3, 1));
	expect_adds_up(vm);
	watch(vm);
	EXPECT_EQ(out(swap, 2048), 1024u); // the policy of blocks has it again
	EXPECT_EQ(read(vm, 3), content(3, 1));
	EXPECT_EQ(read(vm, 700), content(700, 1));
}

TEST_P(Swap, a_block_that_is_cold_or_not_all_there_stays_split)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(8), false);
	build();
	write_page(vm, 3, 1);
	split_first_block(swap);
	watch(vm);
	for (u64 page = 0; page < SWAP_BLOCK_PAGES / 2 - 1; page++) {
		access(vm, page);
	}
	for (u32 i = 0; i < 20; i++) {
		swap_tick();
	}
	EXPECT_EQ(vm->s2.stats.leaf_2m, 0u);
	ASSERT_GT(out(swap, 64), 0u);
	for (u64 page = 0; page < SWAP_BLOCK_PAGES; page++) {
		if (kind_at(vm, page) == S2_LEAF) {
			access(vm, page);
		}
	}
	for (u32 i = 0; i < 20; i++) {
		swap_tick();
	}
	EXPECT_EQ(vm->s2.stats.leaf_2m, 0u);
	EXPECT_EQ(swap->totals.counters.thp_collapse_page, 0u);
}

TEST_P(Swap, above_high_the_tick_takes_from_that_guest)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(8))->memory_high = MIB(2);
	build();
	for (u64 page = 0; page < 2000; page++) {
		write_page(vm, page, 1);
	}
	for (unsigned i = 0; i < 4; i++) {
		swap_tick();
	}
	EXPECT_LE(swap->charged, 512u);
	expect_adds_up(vm);
}

TEST_P(Swap, a_max_that_is_lowered_is_kept_soon)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(8));
	build();
	for (u64 page = 0; page < 1500; page++) {
		write_page(vm, page, 1);
	}
	swap->max = 600;
	for (unsigned i = 0; i < 4; i++) {
		swap_tick();
	}
	EXPECT_LE(swap->charged, 600u);
}

TEST_P(Swap, a_reset_forgets_everything)
{
	add_guest(MIB(4));
	build();
	for (u64 page = 0; page < 256; page++) {
		write_page(vm, page, 1);
	}
	watch(vm);
	EXPECT_EQ(out(swap, 100), 100u);
	swap_forget(vm);
	EXPECT_EQ(swap->charged, 0u);
	EXPECT_EQ(store_pool_stats.objects, 0u);
	ASSERT_EQ(unmap_of(&vm->s2, kRam, MIB(4)), OK);
	EXPECT_EQ(read(vm, 3), std::vector<u8>(PAGE_SIZE));
}

// A damaged slot ends that guest, and is not passed on to it.
TEST_P(Swap, a_page_that_comes_back_damaged_ends_its_guest)
{
	add_guest(MIB(4));
	build();
	write_page(vm, 2, 1);
	watch(vm);
	ASSERT_EQ(out(swap, 1), 1u);
	swap->pages[2].checksum ^= 1;
	struct exit fault = {};

	fault.gpa = gpa(kRam + 2 * PAGE_SIZE);
	fault.access = ACCESS_READ;
	EXPECT_EQ(vm_memory_fault(vm, &fault), AGAIN);
	EXPECT_EQ(vm->state, VM_CRASHED);
	EXPECT_NE(std::strstr(vm->last_words, "damaged from the zswap store"), nullptr);
	EXPECT_EQ(kind_at(vm, 2), S2_STORED);
}

// Time passes in the fake machine only when it is told to: in a store that is slow, so to say.
TEST_P(Swap, stall_time_is_some_while_one_waits_and_full_while_all_do)
{
	struct swap_stall *s;

	add_guest(MIB(4));
	build();
	s = &swap->stall;
	vm->vcpus_on = 2;
	fake_now = 1000;
	swap_stall_begin(swap);
	fake_now += 10;
	swap_stall_begin(swap);
	fake_now += 20;
	swap_stall_end(swap);
	fake_now += 40;
	swap_stall_end(swap);
	EXPECT_EQ(s->some, 70u);
	EXPECT_EQ(s->full, 20u);
	fake_now += 1000;
	swap_stall_begin(swap);
	fake_now += 1;
	swap_stall_end(swap);
	EXPECT_EQ(s->some, 71u);
	EXPECT_EQ(s->full, 20u);
	EXPECT_EQ(s->waiting, 0u);
}

// ---- Ages: how long ago pages were used -------------------------------------------------------

TEST_P(Swap, a_round_tells_what_was_used_since_the_round_before)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(8));
	build();
	for (u64 page = 0; page < 300; page++) {
		write_page(vm, page, 1);
		access(vm, page);
	}
	swap_age_round(swap);
	EXPECT_EQ(swap_age_pages(&swap->age, 0), 300u);
	for (u64 page = 0; page < 100; page++) {
		access(vm, page);
	}
	swap_age_round(swap);
	EXPECT_EQ(swap_age_pages(&swap->age, 0), 100u);
	EXPECT_EQ(swap_age_pages(&swap->age, 1), 200u);
	EXPECT_EQ(swap_age_of(swap, 5), 0u);
	EXPECT_EQ(swap_age_of(swap, 150), 1u);
	EXPECT_EQ(swap_age_of(swap, 1000), ~0ull);
	for (unsigned round = 0; round < SWAP_AGES; round++) {
		swap_age_round(swap);
	}
	for (u32 ago = 0; ago < SWAP_AGES; ago++) {
		EXPECT_EQ(swap_age_pages(&swap->age, ago), 0u) << "too long ago to be counted";
	}
}

// The policy and the rounds clear one and the same flag: neither takes a use from the other.
TEST_P(Swap, a_use_is_told_to_the_policy_and_to_the_round)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(8));
	build();
	write_page(vm, 7, 1);
	watch(vm);
	access(vm, 7);
	swap_age_round(swap);
	EXPECT_TRUE(swap_age_ask(swap, 7, 1, 0)) << "the round came first";
	EXPECT_FALSE(swap_age_ask(swap, 7, 1, 0));
	access(vm, 7);
	EXPECT_TRUE(swap_age_ask(swap, 7, 1, 0));
	swap_age_round(swap);
	EXPECT_EQ(swap_age_pages(&swap->age, 0), 1u) << "the policy came first";
	swap_age_round(swap);
	EXPECT_EQ(swap_age_pages(&swap->age, 0), 0u);
}

TEST_P(Swap, a_block_that_is_mapped_as_one_is_used_as_a_whole)
{
	config.guest_memory = MIB(32);
	add_guest(MIB(8), false);
	build();
	write_page(vm, 513, 1);
	access(vm, 513);
	swap_age_round(swap);
	EXPECT_EQ(swap_age_pages(&swap->age, 0), 512u);
	EXPECT_EQ(swap_age_of(swap, 512), 0u);
	EXPECT_EQ(swap_age_of(swap, 511), ~0ull);
}

/* ---- Given up by the guest ------------------------------------------------------------------- */

struct vm_ram_range pages_at(u64 first, u64 count)
{
	return {gpa(GIB(1) + first * PAGE_SIZE), count * PAGE_SIZE};
}

TEST_P(Swap, pages_given_up_are_untouched_and_cost_nothing)
{
	add_guest(MIB(4));
	build();
	for (u64 page = 0; page < 128; page++) {
		write_page(vm, page, 1);
	}
	watch(vm);
	ASSERT_EQ(out(swap, 40), 40u);
	u64 charged = swap->charged, rounds = vm->s2.stats.batches;
	struct vm_ram_range ranges[] = {pages_at(10, 20), pages_at(60, 100), pages_at(15, 10)};

	EXPECT_EQ(charged, 88u);
	EXPECT_EQ(vm_memory_give_up(vm, ranges, 3), 130 * PAGE_SIZE);
	EXPECT_LE(vm->s2.stats.batches, rounds + 1);
	expect_adds_up(vm);
	for (u64 page = 0; page < 128; page++) {
		bool is_gone = (page >= 10 && page < 30) || page >= 60;

		EXPECT_EQ(read(vm, page), is_gone ? std::vector<u8>(PAGE_SIZE) : content(page, 1))
			<< page;
	}
	expect_adds_up(vm);
	EXPECT_GT(swap->totals.counters.pgdiscard, 0u);
	watch(vm); // and the policy goes on with what there is
	EXPECT_EQ(out(swap, 128), 128u);
}

TEST_P(Swap, a_block_given_up_goes_whole)
{
	add_guest(MIB(8), false);
	config.guest_memory = MIB(32);
	build();
	write_page(vm, 3, 1);
	write_page(vm, 700, 1);
	ASSERT_EQ(vm->s2.stats.leaf_2m, 2u);
	struct vm_ram_range range = pages_at(0, 512);

	vm_memory_give_up(vm, &range, 1);
	EXPECT_EQ(vm->s2.stats.leaf_2m, 1u);
	EXPECT_EQ(swap->charged, 512u);
	expect_adds_up(vm);
	EXPECT_EQ(read(vm, 3), std::vector<u8>(PAGE_SIZE));
	EXPECT_EQ(read(vm, 700), content(700, 1));
}

TEST_P(Swap, a_block_that_is_cut_becomes_pages)
{
	add_guest(MIB(8), false);
	config.guest_memory = MIB(32);
	build();
	write_page(vm, 3, 1);
	write_page(vm, 300, 1);
	struct vm_ram_range ranges[] = {pages_at(0, 10), pages_at(200, 50), pages_at(500, 40)};

	vm_memory_give_up(vm, ranges, 3);
	EXPECT_EQ(swap->charged, 512u - 72);
	EXPECT_EQ(swap->is_whole[0], 0u);
	expect_adds_up(vm);
	EXPECT_EQ(read(vm, 300), content(300, 1));
	EXPECT_EQ(read(vm, 3), std::vector<u8>(PAGE_SIZE));
	watch(vm);
	EXPECT_EQ(out(swap, 512), swap->totals.counters.pgsteal);
	EXPECT_EQ(read(vm, 300), content(300, 1));
}

// Random use, reclaim and giving up: each page is what was written last, or zero since it was
// given.
TEST_P(Swap, given_up_at_random_nothing_else_is_lost)
{
	std::vector<u32> version(2048);
	std::mt19937 random(11);

	add_guest(MIB(8), false);
	config.guest_memory = MIB(4);
	build();
	for (u64 step = 0; step < 8000; step++) {
		u64 page = random() % 2048, count = 1 + random() % 16;

		if (random() % 128 == 0) {
			struct vm_ram_range r =
				pages_at(page, std::min<u64>(count * 16, 2048 - page));
			u64 known = 0;

			vm_memory_give_up(vm, &r, 1);
			for (u64 i = 0; i < r.size / PAGE_SIZE; i++) {
				known += kind_at(vm, page + i) == S2_EMPTY;
				version[page + i] = 0;
			}
			EXPECT_EQ(known, r.size / PAGE_SIZE) << "nobody else had any of it";
		} else if (random() % 2 == 0) {
			write_page(vm, page, version[page] = (u32)step + 1);
		} else {
			ASSERT_EQ(read(vm, page), version[page] ? content(page, version[page])
								: std::vector<u8>(PAGE_SIZE))
				<< page;
		}
		if (step % 500 == 0) {
			expect_adds_up(vm);
		}
	}
	EXPECT_GT(swap->totals.counters.pgdiscard, 10u);
}

} // namespace
