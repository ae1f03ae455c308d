// Mappings by handle: what they refuse, by name, and that parts are all that is touched.
#include "s2_test_machine.h"

#include <functional>
#include <thread>

extern "C" {
#include "hyp/s2_mapping.h"
}

namespace
{

class S2Mapping : public S2Test
{
      protected:
	void SetUp() override
	{
		S2Test::SetUp();
		s2_mappings_init(&mappings, &s2);
	}

	std::string said()
	{
		char text[100];

		s2_mapping_text(&refusal, text, sizeof(text));
		return text;
	}

	enum status create(unsigned slot, u64 at, hpa_t a, u64 size,
			   enum s2_mapping_type type = S2_MAPPING_RAM, struct s2_attr attr = kRwx)
	{
		enum status status = s2_mapping_create(&mappings, slot, type, gpa(at), a, size,
						       attr, &handle, &refusal);

		EXPECT_EQ(status, refusal.status);
		return status;
	}

	// RAM of 2 MiB times `blocks`, in slot 3.
	void create_ram(u64 at, unsigned blocks = 1)
	{
		block = guest_block(9 + blocks / 2);
		ASSERT_EQ(create(3, at, block, MIB(2) * blocks), OK) << said();
	}

	enum status unmap_part(u64 offset, u64 size, u64 budget = ~0ull)
	{
		struct s2_batch batch;
		enum status status;

		s2_batch_open(&batch, &s2);
		batch.budget = budget;
		status = s2_mapping_unmap(&mappings, handle, offset, size, &batch, &refusal);
		s2_batch_close(&batch);
		EXPECT_EQ(status, refusal.status);
		return status;
	}

	enum status protect_part(u64 offset, u64 size, u8 perm)
	{
		struct s2_batch batch;
		enum status status;

		s2_batch_open(&batch, &s2);
		status =
			s2_mapping_protect(&mappings, handle, offset, size, perm, &batch, &refusal);
		s2_batch_close(&batch);
		return status;
	}

	enum status destroy(u64 budget = ~0ull)
	{
		struct s2_batch batch;
		enum status status;

		s2_batch_open(&batch, &s2);
		batch.budget = budget;
		status = s2_mapping_destroy(&mappings, handle, &batch, &refusal);
		s2_batch_close(&batch);
		return status;
	}

	// What `meanwhile` does comes in the midst of `work`, when it has written an entry.
	template <typename Work>
	enum status while_working(Work work, std::function<void()> meanwhile)
	{
		enum status status;

		s2.traits |= S2_NONCOHERENT;
		fake_flush_hook.context = &meanwhile;
		fake_flush_hook.written = [](void *context) {
			fake_flush_hook.written = nullptr;
			(*(std::function<void()> *)context)();
		};
		status = work();
		EXPECT_EQ(fake_flush_hook.written, nullptr) << "nothing was written";
		fake_flush_hook = {};
		return status;
	}

	struct s2_mapping_left left()
	{
		struct s2_mapping_left left;

		EXPECT_EQ(s2_mapping_left(&mappings, handle, &left, &refusal), OK) << said();
		return left;
	}

	struct s2_mappings mappings;
	struct s2_mapping_handle handle = {};
	struct s2_mapping_refusal refusal = {};
	hpa_t block = hpa_none();
};
INSTANTIATE_TEST_SUITE_P(formats, S2Mapping, s2_kinds(), s2_kind_name);

TEST_P(S2Mapping, a_mapping_maps_and_its_end_unmaps)
{
	create_ram(MIB(4));
	expect_maps(MIB(4) + 5, block.v + 5, "mapping");
	EXPECT_EQ(left().bytes, MIB(2));
	EXPECT_EQ(destroy(), OK);
	expect_nothing(MIB(4));
	EXPECT_EQ(destroy(), NOENT);
	EXPECT_EQ(said(), "slot 3 holds nothing");
}

TEST_P(S2Mapping, parts_go_by_offset_and_count_and_no_more)
{
	create_ram(MIB(4));
	EXPECT_EQ(unmap_part(PAGE_SIZE, 2 * PAGE_SIZE), OK);
	expect_maps(MIB(4), block.v, "before");
	expect_nothing(MIB(4) + PAGE_SIZE);
	expect_nothing(MIB(4) + 2 * PAGE_SIZE);
	expect_maps(MIB(4) + 3 * PAGE_SIZE, block.v + 3 * PAGE_SIZE, "behind");
	EXPECT_EQ(left().bytes, MIB(2) - 2 * PAGE_SIZE);
	EXPECT_EQ(left().first, 0u);
	EXPECT_EQ(left().end, MIB(2));
	// Twice is no error.
	EXPECT_EQ(unmap_part(PAGE_SIZE, 2 * PAGE_SIZE), OK);
}

TEST_P(S2Mapping, what_goes_at_an_end_is_the_mappings_no_more)
{
	create_ram(MIB(4));
	EXPECT_EQ(unmap_part(0, 3 * PAGE_SIZE), OK);
	EXPECT_EQ(unmap_part(MIB(2) - PAGE_SIZE, PAGE_SIZE), OK);
	EXPECT_EQ(left().first, 3 * PAGE_SIZE);
	EXPECT_EQ(left().end, MIB(2) - PAGE_SIZE);
	EXPECT_EQ(left().bytes, MIB(2) - 4 * PAGE_SIZE);
	// So another may be there.
	struct s2_mapping_handle old = handle;
	hpa_t frame = guest_block(0);

	EXPECT_EQ(create(4, MIB(4) + 2 * PAGE_SIZE, frame, PAGE_SIZE), OK) << said();
	EXPECT_EQ(destroy(), OK);
	handle = old;
	EXPECT_EQ(unmap_part(0, MIB(2)), OK);
	EXPECT_EQ(left().bytes, 0u);
	EXPECT_EQ(left().first, left().end);
}

// The range that a mapping has no more may be another's by now.
TEST_P(S2Mapping, what_another_mapping_has_by_now_is_not_touched)
{
	create_ram(MIB(4));
	struct s2_mapping_handle old = handle;

	EXPECT_EQ(unmap_part(0, 3 * PAGE_SIZE), OK);
	EXPECT_EQ(create(4, MIB(4), hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_DEVICE), OK) << said();
	handle = old;
	EXPECT_EQ(protect_part(0, PAGE_SIZE, S2_READ), OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).attr.perm, S2_RWX);
	EXPECT_EQ(left().bytes, MIB(2) - 3 * PAGE_SIZE);
	EXPECT_EQ(unmap_part(0, 4 * PAGE_SIZE), OK) << "twice is no error";
	expect_maps(MIB(4), BIT(43), "the other mapping");
	expect_nothing(MIB(4) + 3 * PAGE_SIZE);
}

// A call on a part has judged what the mapping had when it came.
TEST_P(S2Mapping, what_goes_while_others_work_on_parts_is_nobodys_until_the_last_is_done)
{
	create_ram(MIB(4));
	struct s2_mapping_handle old = handle;

	mappings.slots[old.slot].users++; // another CPU's, under way
	EXPECT_EQ(unmap_part(0, PAGE_SIZE), OK);
	EXPECT_EQ(create(4, MIB(4), hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_DEVICE), EXISTS);
	EXPECT_EQ(refusal.why, S2_MAPPING_OVERLAPS);
	mappings.slots[old.slot].users--;
	handle = old;
	EXPECT_EQ(protect_part(PAGE_SIZE, PAGE_SIZE, S2_READ), OK) << "the last";
	EXPECT_EQ(create(4, MIB(4), hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_DEVICE), OK) << said();
	handle = old;
}

TEST_P(S2Mapping, a_mapping_of_which_nothing_is_left_is_in_nobodys_way)
{
	create_ram(MIB(4));
	struct s2_mapping_handle old = handle;

	EXPECT_EQ(unmap_part(0, MIB(1) + PAGE_SIZE), OK);
	EXPECT_EQ(unmap_part(MIB(1), MIB(1)), OK);
	EXPECT_EQ(create(4, MIB(4), hpa(BIT(43)), MIB(4), S2_MAPPING_DEVICE), OK) << said();
	// Its slot is its own still, and what is there by now is not.
	handle = old;
	EXPECT_EQ(left().bytes, 0u);
	EXPECT_EQ(create(3, GIB(1), hpa(BIT(43)), MIB(2), S2_MAPPING_DEVICE), EXISTS);
	EXPECT_EQ(destroy(), OK) << said();
	expect_maps(MIB(4), BIT(43), "the other mapping");
	EXPECT_EQ(create(3, GIB(1), hpa(BIT(43)), MIB(2), S2_MAPPING_DEVICE), OK) << said();
}

TEST_P(S2Mapping, protect_changes_a_part)
{
	create_ram(MIB(4));
	EXPECT_EQ(protect_part(PAGE_SIZE, PAGE_SIZE, S2_READ), OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).attr.perm, S2_RWX);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4) + PAGE_SIZE)).attr.perm, S2_READ);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4) + 2 * PAGE_SIZE)).attr.perm, S2_RWX);
	EXPECT_EQ(left().bytes, MIB(2));
	EXPECT_EQ(protect_part(0, PAGE_SIZE, 0xff), INVALID);
	EXPECT_EQ(said(), "slot 3: the space refuses: invalid");
}

TEST_P(S2Mapping, a_slot_in_use_is_refused_by_name)
{
	create_ram(MIB(4));
	EXPECT_EQ(create(3, MIB(64), hpa(BIT(43)), MIB(2), S2_MAPPING_DEVICE), EXISTS);
	EXPECT_EQ(said(), "slot 3 is in use");
	EXPECT_EQ(create(S2_MAPPING_SLOTS, MIB(64), hpa(BIT(43)), MIB(2), S2_MAPPING_DEVICE),
		  INVALID);
	EXPECT_EQ(said(), "there is no slot 32");
	expect_nothing(MIB(64));
}

TEST_P(S2Mapping, overlaps_are_refused_with_the_slot_that_is_there)
{
	create_ram(MIB(4));
	for (u64 at : {MIB(4), MIB(4) - PAGE_SIZE, MIB(6) - PAGE_SIZE}) {
		EXPECT_EQ(create(5, at, hpa(BIT(43)), 2 * PAGE_SIZE, S2_MAPPING_DEVICE), EXISTS);
		EXPECT_EQ(said(), "the range is in the mapping of slot 3");
	}
	EXPECT_EQ(create(5, MIB(6), hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_DEVICE), OK);
	EXPECT_EQ(create(6, MIB(4) - PAGE_SIZE, hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_DEVICE), OK);
}

TEST_P(S2Mapping, sizes_and_offsets_that_make_no_sense_are_refused_by_name)
{
	create_ram(MIB(4));
	EXPECT_EQ(unmap_part(0, 0), INVALID);
	EXPECT_EQ(said(), "slot 3: the size is zero");
	EXPECT_EQ(unmap_part(0, 100), INVALID);
	EXPECT_EQ(said(), "slot 3: the size is not whole pages");
	EXPECT_EQ(unmap_part(100, PAGE_SIZE), INVALID);
	EXPECT_EQ(said(), "slot 3: it does not begin at a page");
	for (u64 offset : {MIB(2), MIB(2) - PAGE_SIZE, MIB(4), ~(u64)0xfff}) {
		EXPECT_EQ(unmap_part(offset, 2 * PAGE_SIZE), INVALID);
		EXPECT_EQ(said(), "slot 3: the part ends behind the mapping");
	}
	EXPECT_EQ(unmap_part(PAGE_SIZE, ~0xfffull), INVALID);
	EXPECT_EQ(protect_part(PAGE_SIZE, MIB(2), S2_READ), INVALID);
	EXPECT_EQ(left().bytes, MIB(2));
	EXPECT_EQ(create(1, 100, hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_DEVICE), INVALID);
	EXPECT_EQ(said(), "slot 1: it does not begin at a page");
	EXPECT_EQ(create(1, (1ull << 40) - PAGE_SIZE, hpa(BIT(43)), MIB(2), S2_MAPPING_DEVICE),
		  INVALID);
	EXPECT_EQ(said(), "slot 1: the mapping ends behind the space");
	EXPECT_EQ(create(1, ~0xfffull, hpa(BIT(43)), MIB(2), S2_MAPPING_DEVICE), INVALID);
}

TEST_P(S2Mapping, a_wrong_type_is_refused_by_name)
{
	create_ram(MIB(4));
	handle.type = S2_MAPPING_DEVICE;
	EXPECT_EQ(unmap_part(0, PAGE_SIZE), INVALID);
	EXPECT_EQ(said(), "the mapping in slot 3 is of another type");
	EXPECT_EQ(destroy(), INVALID);
	handle.type = S2_MAPPING_RAM;
	hpa_t frame = guest_block(0);

	EXPECT_EQ(create(1, 0, frame, PAGE_SIZE, S2_MAPPING_DEVICE), DENIED);
	EXPECT_EQ(said(), "the frames for slot 1 are not what its type says");
	EXPECT_EQ(create(1, 0, frame, PAGE_SIZE, S2_MAPPING_SHARED), DENIED);
	EXPECT_EQ(create(1, 0, hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_RAM), DENIED);
	EXPECT_EQ(create(1, 0, ptr_hpa(s2.root), PAGE_SIZE, S2_MAPPING_RAM), DENIED);
	EXPECT_EQ(create(1, 0, frame, PAGE_SIZE, (enum s2_mapping_type)3), INVALID);
	// A device's range that runs into RAM.
	u64 ram = frame_table.ram_start;

	EXPECT_EQ(create(1, 0, hpa(ram - PAGE_SIZE), 2 * PAGE_SIZE, S2_MAPPING_DEVICE), DENIED);
	expect_nothing(0);
	frame_put(frame);
}

TEST_P(S2Mapping, what_lies_behind_ram_is_a_devices)
{
	u64 behind = frame_table.ram_start + frame_table.ram_bytes;

	EXPECT_EQ(create(1, 0, hpa(behind), PAGE_SIZE, S2_MAPPING_RAM), DENIED);
	EXPECT_EQ(create(1, 0, hpa(behind), PAGE_SIZE, S2_MAPPING_SHARED), DENIED);
	EXPECT_EQ(create(1, 0, hpa(behind - PAGE_SIZE), 2 * PAGE_SIZE, S2_MAPPING_DEVICE), DENIED);
	expect_nothing(0);
	EXPECT_EQ(create(1, 0, hpa(behind), MIB(2), S2_MAPPING_DEVICE), OK) << said();
	expect_maps(MIB(2) - 1, behind + MIB(2) - 1, "device");
}

TEST_P(S2Mapping, frames_that_go_on_at_address_zero_are_refused_by_name)
{
	EXPECT_EQ(create(1, 0, hpa(~0xfffull), 2 * PAGE_SIZE, S2_MAPPING_DEVICE), DENIED);
	EXPECT_EQ(said(), "the frames for slot 1 are not what its type says");
	expect_nothing(0);
}

TEST_P(S2Mapping, a_sentence_is_cut_to_its_buffer_and_ended)
{
	create_ram(MIB(4));
	ASSERT_EQ(protect_part(0, PAGE_SIZE, 0xff), INVALID);
	const std::string whole = said();

	ASSERT_EQ(whole, "slot 3: the space refuses: invalid");
	for (size_t size = 1; size <= whole.size() + 1; size++) {
		std::string text(whole.size() + 2, '#');

		s2_mapping_text(&refusal, &text[0], size);
		EXPECT_EQ(text.c_str(), whole.substr(0, size - 1));
		EXPECT_EQ(text.substr(size), std::string(text.size() - size, '#')) << size;
	}
}

TEST_P(S2Mapping, a_stale_handle_touches_nothing)
{
	create_ram(MIB(4));
	struct s2_mapping_handle old = handle;

	EXPECT_EQ(destroy(), OK);
	create_ram(MIB(4));
	handle = old;
	EXPECT_EQ(unmap_part(0, MIB(2)), NOENT);
	EXPECT_EQ(said(), "slot 3 holds another mapping by now");
	EXPECT_EQ(destroy(), NOENT);
	handle.slot = 0xffff;
	EXPECT_EQ(destroy(), INVALID);
	EXPECT_EQ(said(), "there is no slot 65535");
	expect_maps(MIB(4), block.v, "the new one");
}

TEST_P(S2Mapping, a_refusal_of_the_space_leaves_the_slot_free)
{
	hpa_t page = map_block(MIB(4) + PAGE_SIZE, 0), frames = guest_block(9);

	EXPECT_EQ(create(3, MIB(4), frames, MIB(2)), EXISTS);
	EXPECT_EQ(said(), "slot 3: the space refuses: already there");
	expect_maps(MIB(4) + PAGE_SIZE, page.v, "what was there");
	EXPECT_EQ(create(3, MIB(8), frames, MIB(2)), OK);
}

TEST_P(S2Mapping, a_budget_ends_a_part_and_the_rest_is_known)
{
	create_ram(MIB(4), 2);
	EXPECT_EQ(unmap_part(0, PAGE_SIZE), OK);
	EXPECT_EQ(unmap_part(0, MIB(1), 100), MORE) << "of what there is yet";
	EXPECT_EQ(left().first, 101 * PAGE_SIZE);
	EXPECT_EQ(left().bytes, MIB(4) - 101 * PAGE_SIZE);
	EXPECT_EQ(destroy(200), MORE);
	EXPECT_EQ(left().first, 301 * PAGE_SIZE);
	EXPECT_EQ(destroy(), OK);
	expect_nothing(MIB(8) - PAGE_SIZE);
}

// The n-th table that is missing, for every n: the mapping and its slot are as before.
TEST_P(S2Mapping, without_memory_nothing_changes)
{
	for (u64 free = 0;; free++) {
		enum status status;

		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		s2_mappings_init(&mappings, &s2);
		create_ram(MIB(4));
		fake_memory_leave(free);
		status = unmap_part(PAGE_SIZE, PAGE_SIZE);
		if (status == OK) {
			EXPECT_GT(free, 0u);
			break;
		}
		EXPECT_EQ(status, NOMEM);
		EXPECT_EQ(said(), "slot 3: the space refuses: out of memory");
		EXPECT_EQ(left().bytes, MIB(2));
		EXPECT_EQ(create(4, GIB(5), hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_DEVICE), NOMEM);
		EXPECT_EQ(left().bytes, MIB(2));
	}
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2Mapping, while_a_part_is_worked_on_the_mapping_does_not_end)
{
	create_ram(MIB(4));
	EXPECT_EQ(while_working([&] { return protect_part(0, MIB(2), S2_READ); },
				[&] {
					EXPECT_EQ(destroy(), AGAIN);
					EXPECT_EQ(said(), "slot 3 is being worked on");
				}),
		  OK);
	EXPECT_EQ(left().bytes, MIB(2));
	EXPECT_EQ(destroy(), OK) << "and it does afterwards";
}

TEST_P(S2Mapping, while_a_mapping_ends_its_handle_is_refused_and_its_range_taken)
{
	create_ram(MIB(4));
	EXPECT_EQ(while_working([&] { return destroy(); },
				[&] {
					struct s2_mapping_left left;

					EXPECT_EQ(unmap_part(0, PAGE_SIZE), AGAIN);
					EXPECT_EQ(said(), "slot 3 is being worked on");
					EXPECT_EQ(protect_part(0, PAGE_SIZE, S2_READ), AGAIN);
					EXPECT_EQ(destroy(), AGAIN);
					EXPECT_EQ(
						s2_mapping_left(&mappings, handle, &left, &refusal),
						AGAIN);
					EXPECT_EQ(left.bytes, 0u);
					EXPECT_EQ(create(5, MIB(4), hpa(BIT(43)), PAGE_SIZE,
							 S2_MAPPING_DEVICE),
						  EXISTS);
					EXPECT_EQ(said(), "the range is in the mapping of slot 3");
				}),
		  OK);
	EXPECT_EQ(destroy(), NOENT);
	EXPECT_EQ(create(5, MIB(4), hpa(BIT(43)), PAGE_SIZE, S2_MAPPING_DEVICE), OK) << said();
}

TEST_P(S2Mapping, cpus_that_want_one_slot_do_not_both_get_it)
{
	for (unsigned round = 0; round < 50; round++) {
		enum status statuses[2];
		std::thread cpus[2];

		for (unsigned i = 0; i < 2; i++) {
			cpus[i] = std::thread([&, i] {
				struct s2_mapping_handle mine;
				struct s2_mapping_refusal why;
				struct s2_batch batch;

				fake_cpu_become(i);
				statuses[i] = s2_mapping_create(&mappings, 7, S2_MAPPING_DEVICE,
								gpa(MIB(4) * i), hpa(BIT(43)),
								MIB(2), kRwx, &mine, &why);
				if (statuses[i] != OK) {
					// AGAIN: the other's batch is open over their table.
					EXPECT_TRUE(why.why == S2_MAPPING_IN_USE ||
						    statuses[i] == AGAIN);
					return;
				}
				s2_batch_open(&batch, &s2);
				EXPECT_EQ(s2_mapping_destroy(&mappings, mine, &batch, &why), OK);
				s2_batch_close(&batch);
			});
		}
		for (std::thread &cpu : cpus) {
			cpu.join();
		}
		EXPECT_TRUE(statuses[0] == OK || statuses[1] == OK);
		EXPECT_EQ(s2.stats.leaf_2m, 0u);
	}
}

} // namespace
