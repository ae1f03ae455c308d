// Guest RAM reached in place: the guest's own bytes, whatever is done to the table meanwhile.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/s2_share.h"
#include "hyp/vm_reach.h"
}

namespace
{

constexpr u64 kRam = GIB(1); // where the fake architecture puts it
constexpr u64 kPage = kRam + MIB(2);

struct Call {
	u32 calls = 0;
	u32 value = 0;
};

// Counts, and swaps one word.
void swap_word(void *context, void *bytes)
{
	Call *call = (Call *)context;

	call->calls++;
	std::swap(call->value, *(u32 *)bytes);
}

class VmReach : public testing::Test
{
      protected:
	void SetUp() override
	{
		struct config_vm config = {};
		char why[128] = "";

		fake_cpus(2);
		fake_memory(MIB(64));
		vm_count = 0;
		std::strcpy(config.name, "test");
		config.cpus = 1;
		config.memory = MIB(16);
		config.weight = CONFIG_WEIGHT_DEFAULT;
		config.small_pages = true;
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
	}

	void TearDown() override
	{
		s2_destroy(&vm->s2);
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
		EXPECT_EQ(frame_count(FRAME_SHARED), 0u);
		EXPECT_EQ(frame_count(FRAME_TABLE), 0u);
		vm_count = 0;
	}

	u32 word_at(u64 at)
	{
		u32 word = ~0u;

		EXPECT_EQ(vm_memory_read(vm, gpa(at), &word, sizeof(word)), OK);
		return word;
	}

	struct vm *vm = nullptr;
};

TEST_F(VmReach, what_is_not_there_is_faulted_in_or_left_alone)
{
	Call call;

	call.value = 7;
	EXPECT_EQ(vm_reach_present(vm, gpa(kPage + 8), 4, swap_word, &call), AGAIN);
	EXPECT_EQ(call.calls, 0u);
	EXPECT_EQ(vm->counters.pgfault, 0u);
	EXPECT_EQ(vm_reach(vm, gpa(kPage + 8), 4, swap_word, &call), OK);
	EXPECT_EQ(call.calls, 1u);
	EXPECT_EQ(call.value, 0u) << "a fresh page";
	EXPECT_EQ(word_at(kPage + 8), 7u);
	EXPECT_EQ(vm_reach_present(vm, gpa(kPage + 8), 4, swap_word, &call), OK);
	EXPECT_EQ(call.value, 7u);
	EXPECT_EQ(call.calls, 2u);
}

TEST_F(VmReach, it_lies_in_ram_and_in_one_page)
{
	Call call;

	for (u64 at : {u64{0}, kRam - 4, kRam + MIB(16), ~u64{3}, kPage + PAGE_SIZE - 3}) {
		EXPECT_EQ(vm_reach(vm, gpa(at), 4, swap_word, &call), INVALID) << std::hex << at;
		EXPECT_EQ(vm_reach_present(vm, gpa(at), 4, swap_word, &call), INVALID);
	}
	EXPECT_EQ(call.calls, 0u);
	EXPECT_EQ(vm_reach(vm, gpa(kRam + MIB(16) - 4), 4, swap_word, &call), OK);
	EXPECT_EQ(vm_reach(vm, gpa(kPage + PAGE_SIZE - 4), 4, swap_word, &call), OK);
}

TEST_F(VmReach, without_memory_for_the_page_nothing_is_called)
{
	Call call;

	fake_memory_leave(0);
	EXPECT_EQ(vm_reach(vm, gpa(kPage), 4, swap_word, &call), NOMEM);
	EXPECT_EQ(call.calls, 0u);
}

TEST_F(VmReach, a_right_that_was_withheld_is_not_passed_by)
{
	struct s2_batch batch;
	Call call;

	ASSERT_EQ(vm_reach(vm, gpa(kPage), 4, swap_word, &call), OK);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_protect(&vm->s2, gpa(kPage), PAGE_SIZE, S2_RX, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(vm_reach_present(vm, gpa(kPage), 4, swap_word, &call), AGAIN);
	EXPECT_EQ(call.calls, 1u);
	EXPECT_EQ(vm_reach(vm, gpa(kPage), 4, swap_word, &call), OK);
	EXPECT_EQ(vm->counters.permission_faults, 1u);
}

TEST_F(VmReach, a_frame_with_other_holders_is_copied_first)
{
	struct s2 child = {};
	struct s2_batch batch;
	Call call;

	call.value = 5;
	ASSERT_EQ(vm_reach(vm, gpa(kPage), 4, swap_word, &call), OK);
	ASSERT_EQ(s2_init(&child, vm->s2.format, vm->s2.ipa_bits, 9), OK);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_fork(&vm->s2, &child, gpa(kPage), PAGE_SIZE, &batch), OK);
	s2_batch_close(&batch);
	call.value = 6;
	EXPECT_EQ(vm_reach_present(vm, gpa(kPage), 4, swap_word, &call), AGAIN);
	EXPECT_EQ(vm_reach(vm, gpa(kPage), 4, swap_word, &call), OK);
	EXPECT_EQ(call.value, 5u);
	EXPECT_EQ(word_at(kPage), 6u);
	EXPECT_EQ(*(u32 *)hpa_ptr(s2_query(&child, gpa(kPage)).hpa), 5u) << "the other's page";
	s2_destroy(&child);
}

TEST_F(VmReach, what_is_logged_as_written_is_logged)
{
	struct s2_batch batch;
	u64 written = 0;
	Call call;

	ASSERT_EQ(vm_reach(vm, gpa(kPage), 4, swap_word, &call), OK);
	ASSERT_EQ(vm_reach(vm, gpa(kPage + PAGE_SIZE), 4, swap_word, &call), OK);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_dirty_start(&vm->s2, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(vm_reach(vm, gpa(kPage + PAGE_SIZE), 4, swap_word, &call), OK);
	ASSERT_EQ(s2_dirty_get(&vm->s2, gpa(kPage), 4 * PAGE_SIZE, &written), OK);
	EXPECT_EQ(written, 2u);
	s2_dirty_stop(&vm->s2);
}

// Who holds a range puts other frames there: the word is in the new one, or came to it.
TEST_F(VmReach, frames_that_are_out_are_waited_for)
{
	struct s2_batch batch;
	std::atomic<bool> returned{false};
	Call call;

	vm_memory_hold(vm, gpa(kPage), PAGE_SIZE);
	EXPECT_EQ(vm_reach_present(vm, gpa(kPage), 4, swap_word, &call), AGAIN);
	std::thread other([&] {
		fake_cpu_become(1);
		EXPECT_EQ(vm_reach(vm, gpa(kPage), 4, swap_word, &call), OK);
		returned = true;
	});
	std::this_thread::sleep_for(std::chrono::milliseconds(20));
	EXPECT_FALSE(returned);

	hpa_t frame = frame_alloc(ORDER_4K, FRAME_GUEST, vm->number);

	std::memset(hpa_ptr(frame), 0x11, PAGE_SIZE);
	s2_batch_open(&batch, &vm->s2);
	EXPECT_EQ(s2_map_leaf(&vm->s2, gpa(kPage), 0, frame, s2_ram(&vm->s2)), OK);
	s2_batch_close(&batch);
	vm_memory_release(vm);
	other.join();
	EXPECT_EQ(call.value, 0x11111111u);
	EXPECT_EQ(word_at(kPage), 0u);
}

} // namespace
