// The exerciser changes the table as it says, and nothing that the guest could see.
#include <gtest/gtest.h>

#include <cstring>
#include <tuple>
#include <vector>

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/exercise.h"
}

namespace
{

constexpr u64 kRam = GIB(1); // where the fake architecture puts it
constexpr u64 kSize = MIB(8);

class Exercise : public testing::Test
{
      protected:
	void SetUp() override
	{
		build(7);
	}

	void build(u32 seed)
	{
		struct config_vm config = {};
		char why[128] = "";

		fake_cpus(2);
		fake_memory(MIB(64));
		vm_count = 0;
		std::strcpy(config.name, "test");
		config.cpus = 2;
		config.memory = kSize;
		config.weight = CONFIG_WEIGHT_DEFAULT;
		config.exercise = seed;
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
		words.resize(kSize / 8);
		for (u64 i = 0; i < words.size(); i++) {
			words[i] = i * 0x9e3779b97f4a7c15ull + seed;
		}
	}

	void TearDown() override
	{
		exercise_end(vm);
		s2_destroy(&vm->s2);
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
		EXPECT_EQ(frame_count(FRAME_TABLE), 0u);
		vm_count = 0;
	}

	void fill()
	{
		ASSERT_EQ(vm_memory_write(vm, gpa(kRam), words.data(), kSize), OK);
	}

	// Every byte, and every frame.
	void expect_unharmed()
	{
		std::vector<u64> found(words.size());

		ASSERT_EQ(vm_memory_read(vm, gpa(kRam), found.data(), kSize), OK);
		EXPECT_EQ(found, words);
		EXPECT_EQ(vm_memory_current(vm), kSize);
		EXPECT_EQ(frame_count(FRAME_GUEST), kSize / PAGE_SIZE);
	}

	u64 act(enum exercise_kind kind, u64 offset, u64 size, u64 random = 0)
	{
		return exercise_do(vm, kind, gpa(kRam + offset), size, random);
	}

	struct s2_leaf leaf_at(u64 offset)
	{
		return s2_query(&vm->s2, gpa(kRam + offset));
	}

	enum status touch(u64 offset, u8 access)
	{
		struct exit fault = {};

		fault.reason = EXIT_MEMORY;
		fault.gpa = gpa(kRam + offset);
		fault.access = access;
		return vm_memory_fault(vm, &fault);
	}

	void run_steps(u64 count)
	{
		for (u64 i = 0; i < count; i++) {
			exercise_step(vm->vcpus[i % 2]);
		}
	}

	// What a guest does that runs: its pages are its own again when a clone has gone.
	void write_the_same()
	{
		for (u64 i = 0; i < words.size(); i += PAGE_SIZE / 8) {
			ASSERT_EQ(vm_memory_write(vm, gpa(kRam + i * 8), &words[i], 8), OK);
		}
	}

	std::vector<u64> words;
	struct vm *vm = nullptr;
};

TEST_F(Exercise, a_guest_that_asks_for_none_has_none)
{
	TearDown();
	build(0);
	EXPECT_EQ(vm->exercise, nullptr);
}

TEST_F(Exercise, a_page_or_a_range_is_split)
{
	fill();
	EXPECT_EQ(act(EXERCISE_split, MIB(2) + 12 * PAGE_SIZE, PAGE_SIZE), 1u);
	EXPECT_EQ(leaf_at(MIB(2)).level, 0);
	EXPECT_EQ(leaf_at(0).level, 1);
	EXPECT_EQ(act(EXERCISE_split, 0, MIB(6)), 2u);
	EXPECT_EQ(leaf_at(0).level, 0);
	EXPECT_EQ(leaf_at(MIB(6)).level, 1);
	EXPECT_EQ(act(EXERCISE_split, 0, MIB(6)), 0u);
	EXPECT_EQ(exercise_count(vm, EXERCISE_split).times, 2u);
	EXPECT_EQ(exercise_count(vm, EXERCISE_split).changed, 3u);
	expect_unharmed();
}

TEST_F(Exercise, what_was_split_is_folded_unless_rights_differ)
{
	fill();
	ASSERT_EQ(act(EXERCISE_split, 0, kSize), 4u);
	EXPECT_EQ(act(EXERCISE_collapse, MIB(1), PAGE_SIZE), 1u);
	EXPECT_EQ(leaf_at(0).level, 1);
	ASSERT_EQ(act(EXERCISE_protect, MIB(2) + PAGE_SIZE, PAGE_SIZE), 1u);
	EXPECT_EQ(act(EXERCISE_collapse, MIB(2), MIB(4)), 1u);
	EXPECT_EQ(leaf_at(MIB(2)).level, 0);
	EXPECT_EQ(leaf_at(MIB(4)).level, 1);
	expect_unharmed();
}

TEST_F(Exercise, rights_are_withheld_until_a_fault_wants_them)
{
	fill();
	EXPECT_EQ(act(EXERCISE_protect, PAGE_SIZE, PAGE_SIZE, 1), 2u); // a split and a page
	EXPECT_EQ(leaf_at(PAGE_SIZE).attr.perm, S2_READ);
	EXPECT_EQ(act(EXERCISE_protect, MIB(2), MIB(2), 0), 1u);
	EXPECT_EQ(leaf_at(MIB(2)).attr.perm, S2_RX);

	EXPECT_EQ(touch(PAGE_SIZE, ACCESS_READ), OK);
	EXPECT_EQ(leaf_at(PAGE_SIZE).attr.perm, S2_READ);
	EXPECT_EQ(touch(PAGE_SIZE, ACCESS_EXEC), AGAIN);
	EXPECT_EQ(leaf_at(PAGE_SIZE).attr.perm, S2_RWX);
	EXPECT_EQ(touch(MIB(2) + 5, ACCESS_WRITE), AGAIN);
	EXPECT_EQ(leaf_at(MIB(2)).attr.perm, S2_RWX);
	EXPECT_EQ(leaf_at(MIB(2)).level, 1);
	EXPECT_EQ(vm->counters.permission_faults, 2u);
	expect_unharmed();
}

TEST_F(Exercise, moved_frames_come_back_to_their_places)
{
	fill();
	hpa_t block = leaf_at(MIB(2)).hpa, page = leaf_at(MIB(4) + 9 * PAGE_SIZE).hpa;

	EXPECT_EQ(act(EXERCISE_remap, MIB(2), MIB(2)), 1u);
	EXPECT_EQ(leaf_at(MIB(2)).hpa.v, block.v);
	EXPECT_EQ(leaf_at(MIB(2)).level, 1);
	EXPECT_EQ(act(EXERCISE_remap, MIB(4) + 3 * PAGE_SIZE, 17 * PAGE_SIZE), 17u);
	EXPECT_EQ(leaf_at(MIB(4) + 9 * PAGE_SIZE).hpa.v, page.v);
	EXPECT_EQ(act(EXERCISE_remap, MIB(4), MIB(4)), 512u); // no more than a block at once
	EXPECT_EQ(exercise_count(vm, EXERCISE_remap).changed, 530u);
	EXPECT_EQ(vm->counters.pgfault, 4u);
	expect_unharmed();
}

TEST_F(Exercise, migrated_bytes_leave_nothing_behind)
{
	fill();
	hpa_t block = leaf_at(MIB(2)).hpa, page = leaf_at(MIB(4) + PAGE_SIZE).hpa;

	EXPECT_EQ(act(EXERCISE_migrate, MIB(2), MIB(2)), 1u);
	EXPECT_NE(leaf_at(MIB(2)).hpa.v, block.v);
	EXPECT_EQ(leaf_at(MIB(2)).level, 1);
	EXPECT_EQ(*(u64 *)hpa_ptr(hpa_add(block, 4088)), 0u);
	EXPECT_EQ(act(EXERCISE_migrate, MIB(4) + PAGE_SIZE, 3 * PAGE_SIZE), 3u);
	EXPECT_NE(leaf_at(MIB(4) + PAGE_SIZE).hpa.v, page.v);
	EXPECT_EQ(act(EXERCISE_collapse, MIB(4), MIB(2)), 0u); // its frames are scattered now
	expect_unharmed();
	EXPECT_EQ(act(EXERCISE_migrate, MIB(4), MIB(2)), 512u); // to one block, for a whole block
	EXPECT_EQ(leaf_at(MIB(4)).level, 1);
	expect_unharmed();
}

// A fold makes one leaf of frames that are blocks of their own.
TEST_F(Exercise, a_folded_leaf_is_moved_too)
{
	fill();
	ASSERT_EQ(act(EXERCISE_split, 0, MIB(2)), 1u);
	ASSERT_EQ(act(EXERCISE_collapse, 0, MIB(2)), 1u);
	EXPECT_EQ(act(EXERCISE_remap, 0, MIB(2)), 1u);
	expect_unharmed();
}

TEST_F(Exercise, what_is_not_all_there_is_not_moved)
{
	ASSERT_EQ(touch(0, ACCESS_READ), OK);
	EXPECT_EQ(act(EXERCISE_remap, MIB(2) - 4 * PAGE_SIZE, 8 * PAGE_SIZE), 0u);
	EXPECT_EQ(act(EXERCISE_remap, MIB(4), MIB(2)), 0u);
	EXPECT_EQ(frame_of(leaf_at(0).hpa)->refs, 1u);
	EXPECT_EQ(touch(MIB(4), ACCESS_READ), OK); // nothing is held
}

TEST_F(Exercise, without_memory_for_tables_nothing_is_changed)
{
	fill();
	fake_memory_leave(0);
	EXPECT_EQ(act(EXERCISE_split, 0, kSize), 0u);
	EXPECT_EQ(act(EXERCISE_protect, PAGE_SIZE, PAGE_SIZE), 0u);
	EXPECT_EQ(act(EXERCISE_remap, PAGE_SIZE, 2 * PAGE_SIZE), 0u);
	EXPECT_EQ(act(EXERCISE_migrate, MIB(2), MIB(2)), 0u);
	EXPECT_EQ(act(EXERCISE_remap, MIB(2), MIB(2)), 1u);
	EXPECT_EQ(leaf_at(0).level, 1);
	EXPECT_FALSE(vm_has_ended(vm)) << vm->last_words;
	expect_unharmed();
}

TEST_F(Exercise, used_pages_are_counted_once)
{
	fill();
	ASSERT_EQ(act(EXERCISE_split, 0, MIB(2)), 1u);
	EXPECT_EQ(act(EXERCISE_harvest, 0, MIB(4), 0), 513u); // asked only
	EXPECT_EQ(act(EXERCISE_harvest, 0, MIB(4), 1), 513u);
	EXPECT_EQ(act(EXERCISE_harvest, 0, MIB(4), 1), 0u);
	EXPECT_EQ(s2_mark_accessed(&vm->s2, gpa(kRam + PAGE_SIZE)), OK);
	EXPECT_EQ(act(EXERCISE_harvest, 0, MIB(4), 1), 1u);
	expect_unharmed();
}

TEST_F(Exercise, writes_are_told_of_while_they_are_logged)
{
	fill();
	EXPECT_EQ(act(EXERCISE_dirty, 0, PAGE_SIZE, 1), 0u); // not yet
	EXPECT_EQ(act(EXERCISE_dirty, 0, PAGE_SIZE, 0), 0u); // begins
	EXPECT_EQ(act(EXERCISE_dirty, 0, PAGE_SIZE, 1), 0u); // nothing was written
	words[5] = 1;
	ASSERT_EQ(vm_memory_write(vm, gpa(kRam + 40), &words[5], 8), OK);
	EXPECT_EQ(act(EXERCISE_dirty, 0, PAGE_SIZE, 1), 64u); // its leaf is large
	words[6] = 2;
	ASSERT_EQ(vm_memory_write(vm, gpa(kRam + 48), &words[6], 8), OK);
	EXPECT_EQ(act(EXERCISE_dirty, 0, PAGE_SIZE, 1), 1u); // and was split
	EXPECT_EQ(act(EXERCISE_dirty, 0, PAGE_SIZE, 0), 0u); // ends
	EXPECT_EQ(s2_dirty_get(&vm->s2, gpa(kRam), PAGE_SIZE, nullptr), INVALID);
	EXPECT_FALSE(vm_has_ended(vm)) << vm->last_words;
	expect_unharmed();
}

TEST_F(Exercise, a_write_that_nobody_was_told_of_is_found)
{
	fill();
	act(EXERCISE_dirty, 0, PAGE_SIZE, 0);
	act(EXERCISE_dirty, 0, PAGE_SIZE, 1);
	*(u64 *)hpa_ptr(leaf_at(7 * PAGE_SIZE).hpa) += 1;
	act(EXERCISE_dirty, 0, PAGE_SIZE, 1);
	EXPECT_EQ(vm->state, VM_CRASHED);
	EXPECT_STREQ(vm->last_words,
		     "the exercise found a write to 0x40007000 that was not logged");
}

TEST_F(Exercise, a_clone_keeps_its_bytes_while_the_guest_writes)
{
	u64 other = 42;

	fill();
	EXPECT_EQ(act(EXERCISE_fork, PAGE_SIZE, 4 * PAGE_SIZE), 0u); // it is made
	EXPECT_TRUE(leaf_at(PAGE_SIZE).shared);
	ASSERT_EQ(vm_memory_write(vm, gpa(kRam + PAGE_SIZE), &other, 8), OK);
	EXPECT_FALSE(leaf_at(PAGE_SIZE).shared);
	ASSERT_EQ(vm_memory_write(vm, gpa(kRam + PAGE_SIZE), &words[PAGE_SIZE / 8], 8), OK);
	EXPECT_EQ(act(EXERCISE_fork, 0, PAGE_SIZE), 4u); // and judged
	EXPECT_FALSE(vm_has_ended(vm)) << vm->last_words;
	ASSERT_EQ(act(EXERCISE_fork, MIB(2), MIB(2)), 0u); // left to the end
	expect_unharmed();
}

// Also when nothing marks them, as the guest may not write to them anyhow.
TEST_F(Exercise, what_a_clone_holds_is_not_moved)
{
	fill();
	ASSERT_EQ(act(EXERCISE_split, 0, MIB(2)), 1u);
	ASSERT_EQ(act(EXERCISE_fork, PAGE_SIZE, 2 * PAGE_SIZE), 0u);
	EXPECT_EQ(act(EXERCISE_remap, PAGE_SIZE, PAGE_SIZE), 0u);
	ASSERT_EQ(act(EXERCISE_protect, PAGE_SIZE, PAGE_SIZE, 1), 1u);
	ASSERT_FALSE(leaf_at(PAGE_SIZE).shared);
	EXPECT_EQ(act(EXERCISE_remap, PAGE_SIZE, PAGE_SIZE), 0u);
	EXPECT_EQ(act(EXERCISE_migrate, PAGE_SIZE, PAGE_SIZE), 0u);
	EXPECT_EQ(act(EXERCISE_migrate, 3 * PAGE_SIZE, PAGE_SIZE), 1u);
	EXPECT_EQ(act(EXERCISE_fork, 0, PAGE_SIZE), 2u);
	EXPECT_EQ(act(EXERCISE_migrate, PAGE_SIZE, PAGE_SIZE), 1u);
	EXPECT_FALSE(vm_has_ended(vm)) << vm->last_words;
	expect_unharmed();
}

TEST_F(Exercise, a_clone_that_changes_ends_the_guest)
{
	fill();
	ASSERT_EQ(act(EXERCISE_fork, 0, PAGE_SIZE), 0u);
	*(u64 *)hpa_ptr(leaf_at(0).hpa) ^= 1; // as a stale translation would
	EXPECT_EQ(act(EXERCISE_fork, 0, PAGE_SIZE), 1u);
	EXPECT_TRUE(vm_has_ended(vm));
}

TEST_F(Exercise, steps_do_everything_and_harm_nothing)
{
	fill();
	for (int round = 0; round < 60; round++) {
		run_steps(100);
		write_the_same();
	}
	for (u32 kind = 0; kind < EXERCISE_KINDS; kind++) {
		u64 least = kind == EXERCISE_hint ? 0 : 6; // this format has no groups

		EXPECT_GE(exercise_count(vm, (enum exercise_kind)kind).times, least) << kind;
	}
	EXPECT_FALSE(vm_has_ended(vm)) << vm->last_words;
	exercise_end(vm); // a clone may have frames of its own
	expect_unharmed();
}

TEST_F(Exercise, steps_reach_all_of_a_guests_ram)
{
	constexpr u64 kHigh = GIB(4);
	u64 byte = 1;

	vm_ram_add(&vm->ram, gpa(kHigh), MIB(4));
	ASSERT_EQ(vm_memory_write(vm, gpa(kHigh), &byte, 1), OK);
	ASSERT_EQ(s2_query(&vm->s2, gpa(kHigh)).level, 1);
	for (int i = 0; i < 400 && s2_query(&vm->s2, gpa(kHigh)).level == 1; i++) {
		run_steps(10);
	}
	EXPECT_EQ(s2_query(&vm->s2, gpa(kHigh)).level, 0) << "nobody split it";
}

TEST_F(Exercise, a_seed_decides_what_is_done)
{
	std::vector<std::vector<u64>> done;

	for (u32 seed : {7u, 7u, 8u}) {
		TearDown();
		build(seed);
		fill();
		run_steps(800);
		done.emplace_back();
		for (u32 kind = 0; kind < EXERCISE_KINDS; kind++) {
			done.back().push_back(exercise_count(vm, (enum exercise_kind)kind).changed);
		}
	}
	EXPECT_EQ(done[0], done[1]);
	EXPECT_NE(done[0], done[2]);
}

} // namespace
