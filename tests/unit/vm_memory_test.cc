// Guest RAM: what the first touch of a page brings, in which size, and where it comes from.
#include "s2_test_machine.h"

#include <algorithm>
#include <cstring>
#include <vector>

extern "C" {
#include "hyp/s2_share.h"
#include "hyp/vm.h"
}

namespace
{

constexpr u64 kRam = GIB(1); // where the fake architecture puts it

// Over formats that are walked the short way, and one that is not.
class VmMemory : public testing::TestWithParam<S2Kind>
{
      protected:
	void build(u64 memory, u64 kernel_size, bool small_pages = false)
	{
		struct config_vm config = {};
		char why[128] = "";

		fake_cpus(1);
		fake_memory(MIB(64));
		vm_count = 0;
		kernel.resize(kernel_size);
		for (u64 i = 0; i < kernel_size; i++) {
			kernel[i] = (u8)(i * 7 + i / 4096);
		}
		std::strcpy(config.name, "test");
		config.cpus = 1;
		config.memory = memory;
		config.weight = CONFIG_WEIGHT_DEFAULT;
		config.small_pages = small_pages;
		config.kernel_module.bytes = kernel_size ? kernel.data() : nullptr;
		config.kernel_module.size = kernel_size;
		ASSERT_EQ(vm_build(&config, why, sizeof(why)), OK) << why;
		vm = vms[0];
		s2_destroy(&vm->s2);
		ASSERT_EQ(s2_init(&vm->s2, GetParam().format, 40, vm->number), OK);
	}

	void TearDown() override
	{
		s2_destroy(&vm->s2);
		EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
		EXPECT_EQ(frame_count(FRAME_TABLE), 0u);
		vm_count = 0;
	}

	enum status touch(u64 at, u8 access = ACCESS_READ)
	{
		struct exit fault = {};

		fault.reason = EXIT_MEMORY;
		fault.gpa = gpa(at);
		fault.access = access;
		return vm_memory_fault(vm, &fault);
	}

	const u8 *bytes_at(u64 at)
	{
		struct s2_leaf leaf = s2_query(&vm->s2, gpa(at));

		EXPECT_EQ(leaf.kind, S2_LEAF);
		return (const u8 *)hpa_ptr(leaf.hpa);
	}

	// All but `at`, whose table is there then.
	void touch_around(u64 at)
	{
		for (u64 page = align_down(at, BLOCK_SIZE), i = 0; i < 8; i++, page += PAGE_SIZE) {
			if (page != at) {
				ASSERT_EQ(touch(page), OK);
			}
		}
	}

	std::vector<u8> kernel;
	struct vm *vm = nullptr;
};
INSTANTIATE_TEST_SUITE_P(formats, VmMemory,
			 testing::Values(S2Kind{"fake", arch_s2_format(), false},
					 S2Kind{"armv8", &s2_armv8_4k, false},
					 S2Kind{"ept", &s2_ept, false}),
			 s2_kind_name);

// Frames that were used before come back with what was in them.
void soil_all_free_memory()
{
	std::vector<hpa_t> blocks;

	for (;;) {
		hpa_t block = frame_alloc(ORDER_2M, FRAME_HYP, OWNER_NONE);

		if (hpa_is_none(block)) {
			break;
		}
		std::memset(hpa_ptr(block), 0xa5, BLOCK_SIZE);
		blocks.push_back(block);
	}
	for (hpa_t block : blocks) {
		frame_put(block);
	}
}

TEST_P(VmMemory, a_first_touch_brings_a_zeroed_2_mib_block)
{
	build(MIB(16), 0);
	soil_all_free_memory();
	ASSERT_EQ(touch(kRam + MIB(5) + 123), OK);
	EXPECT_EQ(s2_query(&vm->s2, gpa(kRam + MIB(5))).level, 1);
	EXPECT_TRUE(std::all_of(bytes_at(kRam + MIB(4)), bytes_at(kRam + MIB(4)) + BLOCK_SIZE,
				[](u8 byte) { return byte == 0; }));
	EXPECT_EQ(vm_memory_current(vm), BLOCK_SIZE);
	EXPECT_EQ(vm->counters.pgfault, 1u);
	EXPECT_EQ(vm->counters.memory_peak, BLOCK_SIZE);
}

TEST_P(VmMemory, an_image_is_there_byte_for_byte_and_zeroes_behind_it)
{
	build(MIB(16), MIB(2) + 5001);
	soil_all_free_memory();
	for (u64 at = 0; at < MIB(6); at += MIB(2)) {
		ASSERT_EQ(touch(kRam + at), OK);
	}
	for (u64 at = 0; at < MIB(6); at++) {
		u8 want = at < kernel.size() ? kernel[at] : 0;

		ASSERT_EQ(*bytes_at(kRam + at), want) << at;
		at += at % 4096 == 1 && at > 8192 && at + 4096 < kernel.size() ? 4000 : 0;
	}
}

TEST_P(VmMemory, small_pages_are_filled_from_the_image_too)
{
	build(MIB(16), 10000, true);
	soil_all_free_memory();
	for (u64 at = 0; at < 16384; at += PAGE_SIZE) {
		ASSERT_EQ(touch(kRam + at + 5), OK); // no fault says where its page begins
		EXPECT_EQ(s2_query(&vm->s2, gpa(kRam + at)).level, 0);
	}
	for (u64 at = 0; at < 16384; at++) {
		ASSERT_EQ(*bytes_at(kRam + at), at < kernel.size() ? kernel[at] : 0) << at;
	}
}

TEST_P(VmMemory, without_a_free_block_a_page_is_mapped)
{
	build(MIB(16), 0);
	// Every block of 2 MiB has a hole.
	std::vector<hpa_t> taken;
	for (;;) {
		hpa_t block = frame_alloc(ORDER_2M, FRAME_HYP, OWNER_NONE);

		if (hpa_is_none(block)) {
			break;
		}
		taken.push_back(block);
	}
	frame_split(taken[0], 0);
	for (u64 at = PAGE_SIZE; at < BLOCK_SIZE; at += PAGE_SIZE) {
		frame_put(hpa_add(taken[0], at));
	}
	ASSERT_EQ(touch(kRam), OK);
	EXPECT_EQ(s2_query(&vm->s2, gpa(kRam)).level, 0);
	// Its neighbour: the table is there, a block would not fit any more.
	ASSERT_EQ(touch(kRam + PAGE_SIZE), OK);
	EXPECT_EQ(vm_memory_current(vm), 2 * PAGE_SIZE);
}

TEST_P(VmMemory, with_no_memory_at_all_the_fault_says_so)
{
	build(MIB(16), 0);
	fake_memory_leave(0);
	EXPECT_EQ(touch(kRam), NOMEM);
	EXPECT_EQ(vm->counters.pgfault, 0u);
}

TEST_P(VmMemory, a_second_fault_on_a_mapped_page_changes_nothing)
{
	build(MIB(16), 0);
	ASSERT_EQ(touch(kRam), OK);
	u64 free_frames = frame_count(FRAME_FREE);
	EXPECT_EQ(touch(kRam + 8), OK);
	EXPECT_EQ(frame_count(FRAME_FREE), free_frames);
	EXPECT_EQ(vm->s2.stats.leaf_2m, 1u);
}

TEST_P(VmMemory, an_access_gets_back_the_right_that_was_withheld)
{
	build(MIB(16), 0);
	ASSERT_EQ(touch(kRam + MIB(2)), OK);
	for (u64 size : {BLOCK_SIZE, (u64)PAGE_SIZE}) { // of a block, then of a page alone
		struct s2_batch batch;

		s2_batch_open(&batch, &vm->s2);
		ASSERT_EQ(s2_protect(&vm->s2, gpa(kRam + MIB(2)), size, S2_READ, &batch), OK);
		s2_batch_close(&batch);
		EXPECT_EQ(touch(kRam + MIB(2) + 9, ACCESS_READ), OK);
		EXPECT_EQ(s2_query(&vm->s2, gpa(kRam + MIB(2))).attr.perm, S2_READ);
		EXPECT_EQ(touch(kRam + MIB(2) + 9, ACCESS_WRITE), AGAIN);
		EXPECT_EQ(s2_query(&vm->s2, gpa(kRam + MIB(2))).attr.perm, S2_RWX);
		EXPECT_EQ(touch(kRam + MIB(2) + 9, ACCESS_WRITE), OK);
	}
	EXPECT_EQ(vm->counters.permission_faults, 2u);
	EXPECT_EQ(vm->counters.pgfault, 1u);
	EXPECT_EQ(frame_count(FRAME_GUEST), BLOCK_SIZE / PAGE_SIZE);
}

// A TLB may keep the old rights, and fault by them again.
TEST_P(VmMemory, a_right_that_came_back_is_what_every_cpu_sees)
{
	struct s2_batch batch;
	hpa_t at;

	build(MIB(16), 0);
	ASSERT_EQ(touch(kRam), OK);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_protect(&vm->s2, gpa(kRam), PAGE_SIZE, S2_READ, &batch), OK);
	s2_batch_close(&batch);
	fake_broadcasts = true;
	ASSERT_EQ(fake_access(&vm->s2, gpa(kRam), S2_READ, &at), FAKE_OK);
	ASSERT_TRUE(fake_tlb_holds(&vm->s2, gpa(kRam)));
	EXPECT_EQ(touch(kRam, ACCESS_WRITE), AGAIN);
	EXPECT_FALSE(fake_tlb_holds(&vm->s2, gpa(kRam)));
	fake_broadcasts = false;
}

TEST_P(VmMemory, lamina_writes_to_what_it_protected)
{
	struct s2_batch batch;
	u32 word = 5;

	build(MIB(16), 0);
	ASSERT_EQ(touch(kRam), OK);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_protect(&vm->s2, gpa(kRam), MIB(2), S2_RX, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(vm_memory_write(vm, gpa(kRam + 8), &word, sizeof(word)), OK);
	EXPECT_EQ(bytes_at(kRam + 8)[0], 5);
}

TEST_P(VmMemory, no_fresh_page_comes_where_frames_are_out)
{
	build(MIB(16), 0);
	u64 free_frames = frame_count(FRAME_FREE);

	vm_memory_hold(vm, gpa(kRam + MIB(4) + PAGE_SIZE), PAGE_SIZE);
	EXPECT_EQ(touch(kRam + MIB(4)), AGAIN); // its block would lie over the range
	EXPECT_EQ(touch(kRam + MIB(4) + PAGE_SIZE), AGAIN);
	EXPECT_EQ(frame_count(FRAME_FREE), free_frames);
	EXPECT_EQ(touch(kRam + MIB(2)), OK);
	EXPECT_EQ(touch(kRam + MIB(6)), OK);
	vm_memory_release(vm);
	EXPECT_EQ(touch(kRam + MIB(4) + PAGE_SIZE), OK);
	EXPECT_EQ(vm->counters.pgfault, 3u);
}

// As above, where the table of pages is there already.
TEST_P(VmMemory, no_fresh_page_comes_to_a_table_where_frames_are_out)
{
	u64 at = kRam + 3 * PAGE_SIZE;

	build(MIB(16), 0, true);
	touch_around(at);
	u64 free_frames = frame_count(FRAME_FREE);

	vm_memory_hold(vm, gpa(at), PAGE_SIZE);
	EXPECT_EQ(touch(at + 123), AGAIN);
	EXPECT_EQ(frame_count(FRAME_FREE), free_frames);
	vm_memory_release(vm);
	EXPECT_EQ(touch(at + 123), OK);
	EXPECT_EQ(frame_count(FRAME_FREE), free_frames - 1);
	EXPECT_EQ(vm->counters.pages_4k, 8u);
}

TEST_P(VmMemory, a_page_comes_where_a_table_is_though_blocks_are_free)
{
	build(MIB(16), 0);
	vm->small_pages = true;
	touch_around(kRam + PAGE_SIZE);
	vm->small_pages = false;
	soil_all_free_memory();
	ASSERT_EQ(touch(kRam + PAGE_SIZE + 77), OK);
	EXPECT_EQ(s2_query(&vm->s2, gpa(kRam + PAGE_SIZE)).level, 0);
	EXPECT_TRUE(std::all_of(bytes_at(kRam + PAGE_SIZE), bytes_at(kRam + PAGE_SIZE) + PAGE_SIZE,
				[](u8 byte) { return byte == 0; }));
	EXPECT_EQ(frame_at(s2_query(&vm->s2, gpa(kRam + PAGE_SIZE)).hpa)->gfn,
		  (kRam + PAGE_SIZE) >> PAGE_SHIFT);
	EXPECT_EQ(vm_memory_current(vm), 8 * PAGE_SIZE);
	EXPECT_EQ(vm->counters.pgfault, 8u);
	EXPECT_EQ(vm->counters.memory_peak, 8 * PAGE_SIZE);
	EXPECT_EQ(vm->s2.stats.map_races, 0u);
}

// A walk that was left on would keep the close waiting for ever.
TEST_P(VmMemory, a_fault_without_memory_ends_its_walk)
{
	struct s2_batch batch;

	build(MIB(16), 0, true);
	touch_around(kRam + PAGE_SIZE);
	fake_memory_leave(0);
	EXPECT_EQ(touch(kRam + PAGE_SIZE), NOMEM);
	EXPECT_EQ(*s2_walking(&vm->s2), 0u);
	EXPECT_EQ(vm->counters.pgfault, 7u);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_unmap(&vm->s2, gpa(kRam), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(touch(kRam), AGAIN) << "before the close nothing comes to this place";
	s2_batch_close(&batch);
	EXPECT_EQ(touch(kRam + PAGE_SIZE), OK) << "the frame that was given back";
}

TEST_P(VmMemory, a_place_that_was_cleared_waits_for_the_close)
{
	struct s2_batch batch;

	build(MIB(16), 0, true);
	touch_around(kRam);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_unmap(&vm->s2, gpa(kRam + PAGE_SIZE), PAGE_SIZE, &batch), OK);
	u64 free_frames = frame_count(FRAME_FREE);
	EXPECT_EQ(touch(kRam + PAGE_SIZE), AGAIN);
	EXPECT_EQ(frame_count(FRAME_FREE), free_frames);
	s2_batch_close(&batch);
	EXPECT_EQ(touch(kRam + PAGE_SIZE), OK);
}

TEST_P(VmMemory, a_fresh_page_counts_as_written_while_writes_are_logged)
{
	struct s2_batch batch;
	u64 written = 0;

	build(MIB(16), 0, true);
	touch_around(kRam + PAGE_SIZE);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_dirty_start(&vm->s2, &batch), OK);
	s2_batch_close(&batch);
	for (u64 i : {8, 9, 10}) { // the first makes the table real, the others find it so
		gpa_t at = gpa(kRam + i * PAGE_SIZE);

		for (u32 tries = 0; tries < 3 && s2_query(&vm->s2, at).kind != S2_LEAF; tries++) {
			touch(at.v, ACCESS_READ);
		}
	}
	ASSERT_EQ(s2_dirty_get(&vm->s2, gpa(kRam), 16 * PAGE_SIZE, &written), OK);
	EXPECT_EQ(written, 7u << 8);
	s2_dirty_stop(&vm->s2);
}

TEST_P(VmMemory, a_page_that_others_hold_is_copied_and_no_other_is_taken)
{
	struct s2 child = {};
	struct s2_batch batch;

	build(MIB(16), 0, true);
	touch_around(kRam + PAGE_SIZE);
	ASSERT_EQ(s2_init(&child, GetParam().format, 40, vm->number), OK);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_fork(&vm->s2, &child, gpa(kRam), PAGE_SIZE, &batch), OK);
	s2_batch_close(&batch);
	u64 guests = frame_count(FRAME_GUEST);
	EXPECT_EQ(touch(kRam, ACCESS_READ), OK);
	EXPECT_EQ(frame_count(FRAME_GUEST), guests);
	EXPECT_EQ(touch(kRam, ACCESS_WRITE), AGAIN);
	EXPECT_EQ(frame_count(FRAME_GUEST), guests + 1);
	EXPECT_EQ(vm->counters.pgfault, 7u);
	s2_destroy(&child);
}

TEST_P(VmMemory, the_end_of_ram_is_its_end)
{
	build(MIB(16), 0);
	EXPECT_TRUE(vm_memory_contains(vm, gpa(kRam), MIB(16)));
	EXPECT_FALSE(vm_memory_contains(vm, gpa(kRam), MIB(16) + 1));
	EXPECT_FALSE(vm_memory_contains(vm, gpa(kRam - 1), 1));
	EXPECT_FALSE(vm_memory_contains(vm, gpa(kRam + MIB(16)), 1));
	EXPECT_FALSE(vm_memory_contains(vm, gpa(kRam + 8), ~0ull));
	EXPECT_FALSE(vm_memory_contains(vm, gpa(~0ull), 1));
}

TEST_P(VmMemory, lamina_reads_and_writes_across_pages_and_faults_them_in)
{
	build(MIB(16), 0, true);
	std::vector<u8> in(3 * PAGE_SIZE), out(3 * PAGE_SIZE);
	for (size_t i = 0; i < in.size(); i++) {
		in[i] = (u8)(i * 31);
	}
	ASSERT_EQ(vm_memory_write(vm, gpa(kRam + 100), in.data(), in.size()), OK);
	ASSERT_EQ(vm_memory_read(vm, gpa(kRam + 100), out.data(), out.size()), OK);
	EXPECT_EQ(in, out);
	EXPECT_EQ(vm_memory_current(vm), 4 * PAGE_SIZE);
	EXPECT_EQ(vm_memory_read(vm, gpa(kRam + MIB(16) - 8), out.data(), 16), INVALID);
	EXPECT_EQ(vm_memory_write(vm, gpa(0), in.data(), 1), INVALID);
}

TEST_P(VmMemory, a_word_is_swapped_only_for_what_it_was_expected_to_be)
{
	u64 word = 0x1111222233334444, found;

	build(MIB(16), 0);
	ASSERT_EQ(vm_memory_write(vm, gpa(kRam + 8), &word, 8), OK);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam + 8), 8, word + 1, 5), AGAIN);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam + 12), 4, 0x11112222, 0xaaaabbbb), OK);
	EXPECT_EQ(vm_memory_read(vm, gpa(kRam + 8), &found, 8), OK);
	EXPECT_EQ(found, 0xaaaabbbb33334444u);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam + 8), 8, found, 5), OK);
	EXPECT_EQ(vm_memory_read(vm, gpa(kRam + 8), &found, 8), OK);
	EXPECT_EQ(found, 5u);
}

TEST_P(VmMemory, a_swap_faults_its_page_in_and_takes_a_right_back)
{
	struct s2_batch batch;

	build(MIB(16), 0, true);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam + MIB(1)), 8, 0, 7), OK);
	EXPECT_EQ(vm->counters.pages_4k, 1u);
	s2_batch_open(&batch, &vm->s2);
	ASSERT_EQ(s2_protect(&vm->s2, gpa(kRam + MIB(1)), PAGE_SIZE, S2_READ, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam + MIB(1)), 8, 7, 8), OK);
	EXPECT_EQ(vm->counters.permission_faults, 1u);
	EXPECT_EQ(*(const u64 *)bytes_at(kRam + MIB(1)), 8u);
}

TEST_P(VmMemory, a_swap_outside_ram_or_not_aligned_is_refused)
{
	build(MIB(16), 0);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam + MIB(16)), 4, 0, 1), INVALID);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam - 8), 8, 0, 1), INVALID);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam + 4), 8, 0, 1), INVALID);
	EXPECT_EQ(vm_memory_swap(vm, gpa(kRam + 2), 4, 0, 1), INVALID);
}

} // namespace
