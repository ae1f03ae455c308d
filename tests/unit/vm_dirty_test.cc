// Which of a VM's RAM was written: what its CPUs logged, and what its tables say.
#include "vm_asked_machine.h"

namespace
{

class VmDirty : public AskedVm
{
      protected:
	// The pages of the first two blocks are mapped one by one.
	void SetUp() override
	{
		AskedVm::SetUp();
		vm->arch.logs_writes = true;
		touch(kRam);
		touch(kRam + MIB(2));
		ask(PROBE_EXERCISE, EXERCISE_split, kRam, MIB(2));
	}

	void log(std::initializer_list<u64> addresses)
	{
		vm_dirty_log(vm, addresses.begin(), addresses.size());
	}

	u64 taken(u64 at, u64 pages = 64)
	{
		u64 word = 0;

		EXPECT_EQ(vm_dirty_take(vm, gpa(at), pages * PAGE_SIZE, &word), OK);
		return word;
	}
};

TEST_F(VmDirty, what_cpus_have_logged_is_taken_once)
{
	ASSERT_EQ(vm_dirty_start(vm), OK);
	EXPECT_EQ(vm_dirty_start(vm), EXISTS);
	log({kRam + PAGE_SIZE, kRam + 5 * PAGE_SIZE + 17, kRam + PAGE_SIZE});
	EXPECT_EQ(taken(kRam), BIT(1) | BIT(5));
	EXPECT_EQ(taken(kRam), 0u);
}

TEST_F(VmDirty, only_what_lies_in_the_range_is_taken)
{
	ASSERT_EQ(vm_dirty_start(vm), OK);
	log({kRam, kRam + 63 * PAGE_SIZE, kRam + 64 * PAGE_SIZE, kRam + 65 * PAGE_SIZE});
	EXPECT_EQ(taken(kRam + 63 * PAGE_SIZE, 2), BIT(0) | BIT(1));
	EXPECT_EQ(taken(kRam), BIT(0));
	EXPECT_EQ(taken(kRam + 64 * PAGE_SIZE), BIT(1));
}

TEST_F(VmDirty, a_large_leaf_is_logged_as_a_whole)
{
	u64 bitmap[8] = {};

	ASSERT_EQ(vm_dirty_start(vm), OK);
	touch(kRam + MIB(2), ACCESS_READ); // what start holds is pushed down
	log({kRam + MIB(2) + 7 * PAGE_SIZE});
	ASSERT_EQ(vm_dirty_take(vm, gpa(kRam + MIB(2)), MIB(2), bitmap), OK);
	for (u64 word : bitmap) {
		EXPECT_EQ(word, ~0ull);
	}
}

TEST_F(VmDirty, a_start_forgets_what_was_logged_before_it)
{
	ASSERT_EQ(vm_dirty_start(vm), OK);
	log({kRam});
	vm_dirty_stop(vm);
	ASSERT_EQ(vm_dirty_start(vm), OK);
	EXPECT_EQ(taken(kRam), 0u);
}

TEST_F(VmDirty, addresses_that_are_no_ram_are_nobodys)
{
	ASSERT_EQ(vm_dirty_start(vm), OK);
	log({0, kRam - PAGE_SIZE, kRam + kSize, ~0ull});
	for (u64 at = kRam; at < kRam + kSize; at += 64 * PAGE_SIZE) {
		EXPECT_EQ(taken(at), 0u);
	}
}

TEST_F(VmDirty, nothing_is_taken_while_nothing_is_logged)
{
	u64 word = 0;

	log({kRam}); // nobody ever asked
	EXPECT_EQ(vm_dirty_take(vm, gpa(kRam), PAGE_SIZE, &word), INVALID);
	EXPECT_EQ(vm_dirty_get(vm, gpa(kRam), PAGE_SIZE, &word), INVALID);
	ASSERT_EQ(vm_dirty_start(vm), OK);
	vm_dirty_stop(vm);
	log({kRam});
	EXPECT_EQ(vm_dirty_take(vm, gpa(kRam), PAGE_SIZE, &word), INVALID);
	EXPECT_EQ(word, 0u);
}

TEST_F(VmDirty, where_cpus_keep_no_log_there_is_none_to_take)
{
	u64 word = 0;

	vm->arch.logs_writes = false;
	ASSERT_EQ(vm_dirty_start(vm), OK);
	EXPECT_FALSE(vm_dirty_has_log(vm));
	EXPECT_EQ(vm_dirty_take(vm, gpa(kRam), PAGE_SIZE, &word), INVALID);
	EXPECT_EQ(vm_dirty_get(vm, gpa(kRam), PAGE_SIZE, &word), OK);
}

TEST_F(VmDirty, ranges_beyond_ram_are_refused)
{
	u64 bitmap[2] = {};

	ASSERT_EQ(vm_dirty_start(vm), OK);
	EXPECT_EQ(vm_dirty_take(vm, gpa(kRam + kSize - PAGE_SIZE), 2 * PAGE_SIZE, bitmap), INVALID);
	EXPECT_EQ(vm_dirty_take(vm, gpa(kRam + 1), PAGE_SIZE, bitmap), INVALID);
	EXPECT_EQ(vm_dirty_take(vm, gpa(kRam), 0, bitmap), INVALID);
	EXPECT_EQ(vm_dirty_get(vm, gpa(kRam - PAGE_SIZE), 2 * PAGE_SIZE, bitmap), INVALID);
}

TEST_F(VmDirty, a_probe_sees_what_tables_and_logs_say)
{
	EXPECT_EQ(ask(PROBE_DIRTY_LOGS), 0u);
	EXPECT_EQ(ask(PROBE_DIRTY_START), 0u);
	EXPECT_EQ(ask(PROBE_DIRTY_LOGS), 1u);
	EXPECT_EQ(ask(PROBE_DIRTY_GET, kRam), 0u);
	touch(kRam + 3 * PAGE_SIZE, ACCESS_WRITE);
	log({kRam + 4 * PAGE_SIZE});
	EXPECT_EQ(ask(PROBE_DIRTY_GET, kRam, 0), BIT(3));
	EXPECT_EQ(ask(PROBE_DIRTY_GET, kRam, 1), BIT(4));
	EXPECT_EQ(ask(PROBE_DIRTY_CLEAR, kRam, BIT(3)), 0u);
	EXPECT_EQ(ask(PROBE_DIRTY_GET, kRam, 0), 0u);
}

TEST_F(VmDirty, a_probe_of_nonsense_answers_nothing)
{
	ask(PROBE_DIRTY_START);
	EXPECT_EQ(ask(PROBE_DIRTY_GET, 0), 0u);
	EXPECT_EQ(ask(PROBE_DIRTY_GET, ~0ull, 1), 0u);
	EXPECT_EQ(ask(PROBE_DIRTY_CLEAR, 7, ~0ull), (u64)INVALID);
	EXPECT_EQ(ask(PROBE_EXERCISE, EXERCISE_KINDS, kRam, PAGE_SIZE), 0u);
	EXPECT_EQ(ask(PROBE_EXERCISE, EXERCISE_split, kRam, kSize + PAGE_SIZE), 0u);
	EXPECT_EQ(ask(PROBE_EXERCISE, EXERCISE_split, kRam + 1, PAGE_SIZE), 0u);
}

TEST_F(VmDirty, only_who_may_probe_is_answered)
{
	const u64 args[3] = {};
	u64 answer = 17;

	EXPECT_FALSE(probe_call(vm->vcpus[0], PROBE_COUNT, args, &answer));
	vm->probes = false;
	EXPECT_FALSE(probe_call(vm->vcpus[0], PROBE_DIRTY_START, args, &answer));
	EXPECT_EQ(answer, 17u);
}

} // namespace
