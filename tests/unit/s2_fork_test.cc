// Copy-on-write, over every format: clones, their first writes, and the last holder.
#include <atomic>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>

#include "s2_share_machine.h"

extern "C" {
#include "hyp/s2_view.h"
}

namespace
{

class S2Fork : public S2ShareTest
{
      public:
	// Enough memory for blocks of 1 GiB, and both spaces anew.
	void take_gigabytes()
	{
		s2_destroy(&child);
		s2_destroy(&s2);
		fake_memory(GIB(3));
		free_before = frame_count(FRAME_FREE);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		ASSERT_EQ(s2_init(&child, GetParam().format, 40, kOwner), OK);
	}

	hpa_t watched = {};
};
INSTANTIATE_TEST_SUITE_P(formats, S2Fork, s2_kinds(), s2_kind_name);

TEST_P(S2Fork, a_fork_maps_what_the_parent_maps_with_leaves_of_the_same_size)
{
	hpa_t page = map_block(MIB(2) + PAGE_SIZE, 0), block = map_block(MIB(6), 1);
	u64 free = frame_count(FRAME_FREE);

	ASSERT_EQ(fork(0, GIB(1)), OK);
	EXPECT_GE(frame_count(FRAME_FREE) + 3, free) << "tables are all that a fork takes";
	for (struct s2 *space : {&s2, &child}) {
		EXPECT_EQ(s2_query(space, gpa(MIB(2) + PAGE_SIZE + 5)).hpa.v, page.v + 5);
		EXPECT_EQ(s2_query(space, gpa(MIB(6) + 5)).hpa.v, block.v + 5);
		EXPECT_EQ(s2_query(space, gpa(MIB(6))).level, 1);
		EXPECT_EQ(s2_query(space, gpa(MIB(2))).kind, S2_EMPTY);
		EXPECT_EQ(s2_query(space, gpa(MIB(4))).kind, S2_EMPTY);
	}
	EXPECT_EQ(frame_of(page)->refs, 2u);
	EXPECT_EQ(frame_of(block)->refs, 2u);
}

TEST_P(S2Fork, what_is_shared_has_no_write_bit_in_either_table)
{
	const struct s2_format *f = GetParam().format;

	map_block(MIB(2), 0);
	map_block(MIB(4), 1);
	ASSERT_EQ(fork(MIB(2), MIB(4)), OK);
	for (struct s2 *space : {&s2, &child}) {
		for (u64 at : {MIB(2), MIB(4)}) {
			EXPECT_EQ(raw(space, at) & (f->write | f->log), 0u);
			EXPECT_NE(raw(space, at) & f->cow, 0u);
			EXPECT_TRUE(s2_query(space, gpa(at)).shared);
			EXPECT_EQ(s2_query(space, gpa(at)).attr.perm, S2_READ | S2_EXEC);
		}
	}
}

TEST_P(S2Fork, after_the_close_no_cpu_of_the_parent_writes_what_it_shares)
{
	struct s2_batch batch;

	hpa_t page = map_block(MIB(2), 0);
	for (u32 cpu = 0; cpu < 2; cpu++) {
		fake_cpu_become(cpu);
		ASSERT_TRUE(store(&s2, MIB(2), 1));
	}
	fake_cpu_become(0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_fork(&s2, &child, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	EXPECT_TRUE(fake_tlb_holds(&s2, gpa(MIB(2)))) << "the fake TLB forgot by itself";
	s2_batch_close(&batch);
	for (u32 cpu = 0; cpu < 2; cpu++) {
		fake_cpu_become(cpu);
		EXPECT_FALSE(store(&s2, MIB(2), 2));
	}
	fake_cpu_become(0);
	EXPECT_EQ(*(u64 *)hpa_ptr(page), 1u);
	EXPECT_EQ(s2.stats.batches, 1u);
}

TEST_P(S2Fork, the_first_writer_gets_a_copy_and_the_last_one_the_frame)
{
	hpa_t page = map_block(MIB(2), 0);

	write(&s2, MIB(2), 1);
	write(&s2, MIB(2) + 8, 2);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	EXPECT_TRUE(write(&child, MIB(2), 3));
	EXPECT_EQ(read(&s2, MIB(2)), 1u);
	EXPECT_EQ(read(&child, MIB(2)), 3u);
	EXPECT_EQ(read(&child, MIB(2) + 8), 2u);
	judge();
	EXPECT_FALSE(write(&s2, MIB(2), 4)) << "a copy for the last holder";
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).hpa.v, page.v);
	EXPECT_FALSE(s2_query(&s2, gpa(MIB(2))).shared);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).attr.perm, S2_RWX);
	EXPECT_EQ(read(&child, MIB(2)), 3u);
}

TEST_P(S2Fork, the_parent_that_writes_first_leaves_the_frame_to_the_child)
{
	hpa_t page = map_block(MIB(2), 0);

	write(&s2, MIB(2), 1);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	EXPECT_TRUE(write(&s2, MIB(2), 2));
	EXPECT_EQ(read(&child, MIB(2)), 1u);
	EXPECT_FALSE(write(&child, MIB(2), 3));
	EXPECT_EQ(s2_query(&child, gpa(MIB(2))).hpa.v, page.v);
	EXPECT_EQ(read(&s2, MIB(2)), 2u);
}

TEST_P(S2Fork, whoever_is_alone_after_the_other_was_destroyed_writes_without_a_copy)
{
	map_block(MIB(2), 0);
	map_block(MIB(4), 1);
	ASSERT_EQ(fork(0, MIB(8)), OK);
	s2_destroy(&s2);
	EXPECT_FALSE(write(&child, MIB(2), 1));
	EXPECT_FALSE(write(&child, MIB(4), 1));
	EXPECT_EQ(s2_query(&child, gpa(MIB(4))).level, 1);
}

TEST_P(S2Fork, no_cpu_reads_the_old_frame_after_its_space_has_a_copy)
{
	map_block(MIB(2), 0);
	write(&s2, MIB(2), 1);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	for (u32 cpu = 0; cpu < 2; cpu++) {
		fake_cpu_become(cpu);
		EXPECT_EQ(read(&child, MIB(2)), 1u);
	}
	EXPECT_TRUE(write(&child, MIB(2), 2));
	for (u32 cpu = 0; cpu < 2; cpu++) {
		fake_cpu_become(cpu);
		EXPECT_EQ(read(&child, MIB(2)), 2u);
	}
	fake_cpu_become(0);
}

// The parent's CPUs go on writing until the close; what one of them writes after another one's
// write fault must be in the copy.
TEST_P(S2Fork, a_copy_misses_no_write_of_a_cpu_that_has_not_yet_forgotten)
{
	struct s2_batch batch;

	map_block(MIB(2), 0);
	fake_cpu_become(1);
	ASSERT_TRUE(store(&s2, MIB(2), 1));
	fake_cpu_become(0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_fork(&s2, &child, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	if (!GetParam().broadcasts) {
		fake_cpu_become(1);
		ASSERT_TRUE(fake_tlb_holds(&s2, gpa(MIB(2))));
		fake_cpu_become(0);
	}
	fake_flush_hook.context = this;
	// The last moment before CPU 1 forgets.
	auto late = [](void *self, const struct s2 *, gpa_t, u64, unsigned) {
		auto *t = static_cast<S2Fork *>(self);
		u64 value = 5;

		std::memcpy(hpa_ptr(t->watched), &value, sizeof(value));
	};
	watched = s2_query(&s2, gpa(MIB(2))).hpa;
	fake_flush_hook.range = late;
	EXPECT_TRUE(write(&s2, MIB(2) + 8, 2));
	fake_flush_hook = {};
	s2_batch_close(&batch);
	if (GetParam().broadcasts) {
		EXPECT_EQ(read(&s2, MIB(2)), 5u);
	}
	EXPECT_EQ(read(&s2, MIB(2) + 8), 2u);
}

TEST_P(S2Fork, three_generations_share_and_part)
{
	struct s2 grandchild;
	struct s2_batch batch;

	hpa_t page = map_block(MIB(2), 0);
	write(&s2, MIB(2), 1);
	ASSERT_EQ(s2_init(&grandchild, GetParam().format, 40, kOwner), OK);
	others.push_back(&grandchild);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	s2_batch_open(&batch, &child);
	ASSERT_EQ(s2_fork(&child, &grandchild, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(frame_of(page)->refs, 3u);
	judge();
	EXPECT_TRUE(write(&child, MIB(2), 2));
	EXPECT_TRUE(write(&s2, MIB(2), 3));
	EXPECT_FALSE(write(&grandchild, MIB(2), 4));
	EXPECT_EQ(read(&s2, MIB(2)), 3u);
	EXPECT_EQ(read(&child, MIB(2)), 2u);
	EXPECT_EQ(read(&grandchild, MIB(2)), 4u);
	judge();
	others.clear();
	s2_destroy(&grandchild);
}

TEST_P(S2Fork, one_parent_has_many_children_one_after_the_other)
{
	hpa_t page = map_block(MIB(2), 0);

	for (u64 i = 0; i < 4; i++) {
		ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
		EXPECT_EQ(frame_of(page)->refs, 2u);
		judge();
		ASSERT_EQ(unmap_of(&child, MIB(2), PAGE_SIZE), OK);
	}
	EXPECT_FALSE(write(&s2, MIB(2), 1));
}

// The moment between a fault's seeing one reference and its giving write back, seen from behind:
// when the entry is written there are two, as if a fork had taken one and had seen no write yet.
TEST_P(S2Fork, a_fault_that_finds_a_new_holder_takes_write_away_again)
{
	auto take = [](void *self) {
		frame_get(static_cast<S2Fork *>(self)->watched);
		fake_flush_hook.written = nullptr;
	};
	// The fork waits for walks: it must not go on before everybody has forgotten that this is
	// writable.
	static bool walking;
	auto look = [](void *, const struct s2 *space, gpa_t, u64, unsigned) {
		walking = space->cpu[this_cpu_id()].walking != 0;
	};
	u64 rounds;

	walking = false;
	s2.traits |= S2_NONCOHERENT;
	watched = map_block(MIB(2), 0);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	ASSERT_EQ(unmap_of(&child, MIB(2), PAGE_SIZE), OK);
	rounds = s2.stats.batches;
	fake_flush_hook.context = this;
	fake_flush_hook.written = take;
	fake_flush_hook.range = look;
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), hpa_none(), 0), AGAIN);
	fake_flush_hook = {};
	EXPECT_EQ(walking, GetParam().broadcasts);
	ASSERT_EQ(frame_of(watched)->refs, 2u);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).shared);
	EXPECT_EQ(raw(&s2, MIB(2)) & GetParam().format->write, 0u);
	EXPECT_EQ(s2.stats.batches, rounds + 1) << "a CPU may have seen it writable";
	frame_put(watched);
	EXPECT_FALSE(write(&s2, MIB(2), 1));
}

// The other side of it: the table was judged before the claim came, and is on its way to be one
// leaf when the claim is there.
TEST_P(S2Fork, no_leaf_is_claimed_under_a_fold)
{
	struct Fold {
		struct s2_cursor above;
		u64 linked, broken;
	} fold;
	auto begin = [](void *context) {
		Fold *f = static_cast<Fold *>(context);

		fake_flush_hook.written = nullptr;
		ASSERT_TRUE(s2_slot_break(f->above.s2, f->above.slot, f->linked, f->broken));
	};
	hpa_t fresh = guest_block(0);

	s2.traits |= S2_NONCOHERENT;
	map_block(MIB(2), 0);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	s2_cursor_stand(&fold.above, &s2, MIB(2), 1);
	fold.linked = fold.above.entry;
	fold.broken = s2_leading_entry(s2.format, S2_BROKEN, s2_entry_table(s2.format, fold.linked),
				       1, true);
	u64 leaf = raw(&s2, MIB(2));
	fake_flush_hook.context = &fold;
	fake_flush_hook.written = begin;
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), fresh, 0), AGAIN);
	fake_flush_hook = {};
	s2_slot_mend(&s2, fold.above.slot, fold.broken, fold.linked);
	EXPECT_EQ(raw(&s2, MIB(2)), leaf);
	EXPECT_EQ(s2.claims, 0u);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), fresh, 0), OK);
	EXPECT_EQ(s2.claims, 0u);
}

// The same in a space that has a view, which derived a leaf in that moment.
TEST_P(S2Fork, write_that_is_taken_away_again_is_taken_from_views_too)
{
	struct Moment {
		hpa_t watched;
		struct s2 view;
	} moment = {};
	auto take = [](void *context) {
		Moment *m = static_cast<Moment *>(context);

		fake_flush_hook.written = nullptr;
		frame_get(m->watched);
		EXPECT_EQ(s2_view_fault(&m->view, gpa(MIB(2)), S2_WRITE), OK);
	};

	s2.traits |= S2_NONCOHERENT;
	moment.watched = map_block(MIB(2), 0);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	ASSERT_EQ(unmap_of(&child, MIB(2), PAGE_SIZE), OK);
	ASSERT_EQ(s2_view_init(&moment.view, &s2, S2_RWX), OK);
	fake_flush_hook.context = &moment;
	fake_flush_hook.written = take;
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), hpa_none(), 0), AGAIN);
	EXPECT_EQ(frame_of(moment.watched)->refs, 2u);
	EXPECT_EQ(s2_query(&moment.view, gpa(MIB(2))).kind, S2_EMPTY);
	fake_flush_hook = {};
	s2_view_destroy(&moment.view);
	frame_put(moment.watched);
}

TEST_P(S2Fork, what_the_guest_may_not_write_is_shared_and_stays_so)
{
	struct s2_attr attr = {S2_READ, S2_NORMAL};
	hpa_t page = guest_block(0);

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), page, PAGE_SIZE, attr, S2_ERROR), OK);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	EXPECT_EQ(frame_of(page)->refs, 2u);
	EXPECT_FALSE(s2_query(&child, gpa(MIB(2))).shared);
	EXPECT_EQ(s2_cow_fault(&child, gpa(MIB(2)), hpa_none(), 0), DENIED);
	ASSERT_EQ(protect_of(&child, MIB(2), PAGE_SIZE, S2_RW), OK);
	judge();
	EXPECT_TRUE(write(&child, MIB(2), 1));
}

TEST_P(S2Fork, protect_gives_no_write_to_what_is_shared)
{
	map_block(MIB(2), 0);
	map_block(MIB(4), 1);
	ASSERT_EQ(fork(MIB(2), MIB(4)), OK);
	for (u8 perm : {+S2_READ, +S2_RW, +S2_RWX}) {
		ASSERT_EQ(protect_of(&s2, MIB(2), MIB(4), perm), OK);
		judge();
	}
	EXPECT_TRUE(write(&s2, MIB(2), 1));
	EXPECT_TRUE(write(&s2, MIB(4), 1, 1));
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).attr.perm, S2_RWX);
}

TEST_P(S2Fork, mapping_with_more_rights_gives_no_write_to_what_is_shared)
{
	struct s2_attr attr = {S2_READ, S2_NORMAL};
	hpa_t page = guest_block(0);

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), page, PAGE_SIZE, attr, S2_ERROR), OK);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	ASSERT_EQ(s2_map(&child, gpa(MIB(2)), page, PAGE_SIZE, kRwx, S2_UPGRADE), OK);
	judge();
	EXPECT_EQ(s2_query(&child, gpa(MIB(2))).attr.perm, S2_READ | S2_EXEC);
	EXPECT_TRUE(write(&child, MIB(2), 1));
}

TEST_P(S2Fork, more_rights_for_part_of_a_shared_block_do_not_come_to_all_of_it)
{
	struct s2_attr attr = {S2_RW, S2_NORMAL};
	hpa_t block = guest_block(9);

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), attr, S2_ERROR), OK);
	ASSERT_EQ(fork(MIB(2), MIB(2)), OK);
	EXPECT_EQ(s2_map(&child, gpa(MIB(2)), block, PAGE_SIZE, attr, S2_UPGRADE), OK)
		<< "write is withheld, and so not lacking";
	EXPECT_EQ(s2_map(&child, gpa(MIB(2)), block, PAGE_SIZE, kRwx, S2_UPGRADE), EXISTS);
	EXPECT_EQ(s2_query(&child, gpa(MIB(4) - 1)).attr.perm, S2_READ);
}

TEST_P(S2Fork, the_parts_of_a_shared_block_go_in_one_round)
{
	u64 rounds;

	map_block(MIB(4), 1);
	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	EXPECT_TRUE(write(&child, MIB(4), 1));
	rounds = child.stats.batches;
	ASSERT_EQ(unmap_of(&child, MIB(4), MIB(2)), OK);
	EXPECT_EQ(child.stats.batches, rounds + 1);
}

TEST_P(S2Fork, a_copy_has_the_attributes_of_what_it_was_copied_from)
{
	struct s2_attr attr = {S2_RW, s2_memory_or_forced(s2.format, S2_UNCACHED)};
	hpa_t page = guest_block(0);

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), page, PAGE_SIZE, attr, S2_ERROR), OK);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	EXPECT_TRUE(write(&child, MIB(2), 1));
	EXPECT_EQ(s2_query(&child, gpa(MIB(2))).attr.perm, S2_RW);
	EXPECT_EQ(s2_query(&child, gpa(MIB(2))).attr.memory, attr.memory);
}

TEST_P(S2Fork, device_memory_and_unknown_frames_are_mapped_by_both_with_all_rights)
{
	struct s2_attr attr = {S2_RW, s2_memory_or_forced(s2.format, S2_DEVICE)};

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(1ull << 45), MIB(2), attr, S2_ERROR), OK);
	ASSERT_EQ(fork(MIB(2), MIB(2)), OK);
	for (struct s2 *space : {&s2, &child}) {
		EXPECT_EQ(s2_query(space, gpa(MIB(2))).hpa.v, 1ull << 45);
		EXPECT_EQ(s2_query(space, gpa(MIB(2))).attr.perm, S2_RW);
		EXPECT_FALSE(s2_query(space, gpa(MIB(2))).shared);
	}
}

TEST_P(S2Fork, typed_entries_are_copied_and_what_is_in_transit_is_left_out)
{
	const struct s2_format *f = GetParam().format;
	struct s2_batch batch;
	struct s2_cursor c;

	map_block(MIB(2), 0);
	map_block(MIB(2) + 3 * PAGE_SIZE, 0);
	for (enum s2_kind kind : {S2_STORED, S2_MMIO}) {
		s2_cursor_start(&c, &s2, gpa(MIB(2) + (kind == S2_MMIO ? 1 : 2) * PAGE_SIZE));
		s2_cursor_descend(&c, 0);
		ASSERT_TRUE(s2_entry_set(&c, s2_absent_entry(f, kind, 77), nullptr));
	}
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2) + 3 * PAGE_SIZE), PAGE_SIZE, &batch), OK);
	ASSERT_EQ(s2_fork(&s2, &child, gpa(MIB(2)), MIB(2), &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(s2_query(&child, gpa(MIB(2) + PAGE_SIZE)).kind, S2_MMIO);
	EXPECT_EQ(s2_query(&child, gpa(MIB(2) + 2 * PAGE_SIZE)).kind, S2_STORED);
	EXPECT_EQ(s2_query(&child, gpa(MIB(2) + 2 * PAGE_SIZE)).payload, 77u);
	EXPECT_EQ(s2_query(&child, gpa(MIB(2) + 3 * PAGE_SIZE)).kind, S2_EMPTY);
	EXPECT_EQ(s2_cow_fault(&child, gpa(MIB(2) + PAGE_SIZE), hpa_none(), 0), NOENT);
	EXPECT_EQ(s2_cow_fault(&child, gpa(MIB(2) + 3 * PAGE_SIZE), hpa_none(), 0), NOENT);
}

// ---- Large leaves

TEST_P(S2Fork, a_page_of_a_large_leaf_is_copied_alone_and_the_leaf_is_split)
{
	hpa_t block = map_block(MIB(4), 1);
	u64 rounds;

	write(&s2, MIB(4) + 7 * PAGE_SIZE, 7);
	write(&s2, MIB(4) + 8 * PAGE_SIZE, 8);
	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	rounds = child.stats.batches;
	EXPECT_TRUE(write(&child, MIB(4) + 7 * PAGE_SIZE, 1));
	EXPECT_EQ(child.stats.batches, rounds + 1) << "split and copy are one round";
	EXPECT_EQ(child.stats.splits, 1u);
	EXPECT_EQ(frame_of(block)->refs, 1u + 511u);
	for (u64 i = 0; i < 512; i++) {
		struct s2_leaf leaf = s2_query(&child, gpa(MIB(4) + i * PAGE_SIZE));

		EXPECT_EQ(leaf.level, 0);
		EXPECT_EQ(leaf.hpa.v == block.v + i * PAGE_SIZE, i != 7);
		EXPECT_EQ(leaf.shared, i != 7);
	}
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).level, 1);
	EXPECT_EQ(read(&s2, MIB(4) + 7 * PAGE_SIZE), 7u);
	EXPECT_EQ(read(&child, MIB(4) + 8 * PAGE_SIZE), 8u);
}

TEST_P(S2Fork, a_large_leaf_is_copied_whole_where_there_is_a_block_for_it)
{
	hpa_t block = map_block(MIB(4), 1);

	write(&s2, MIB(6) - 8, 9);
	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	EXPECT_TRUE(write(&child, MIB(4) + 7 * PAGE_SIZE, 1, 1));
	EXPECT_EQ(s2_query(&child, gpa(MIB(4))).level, 1);
	EXPECT_EQ(read(&child, MIB(6) - 8), 9u);
	EXPECT_EQ(frame_of(block)->refs, 1u);
	EXPECT_FALSE(write(&s2, MIB(4), 1));
}

TEST_P(S2Fork, a_leaf_smaller_than_the_block_for_its_copy_is_looked_at_again)
{
	hpa_t block;

	map_block(MIB(4), 1);
	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	EXPECT_TRUE(write(&child, MIB(4), 1));
	block = guest_block(9);
	EXPECT_EQ(s2_cow_fault(&child, gpa(MIB(4) + PAGE_SIZE), block, 1), AGAIN);
	frame_put(block);
}

// Both have split the block, and one goes: the other holds all of its references.
TEST_P(S2Fork, the_last_holder_of_a_block_in_parts_writes_each_without_a_copy)
{
	hpa_t block = map_block(MIB(4), 1);

	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	EXPECT_TRUE(write(&s2, MIB(4), 1));
	EXPECT_TRUE(write(&child, MIB(4) + PAGE_SIZE, 1));
	EXPECT_TRUE(write(&s2, MIB(4) + PAGE_SIZE, 1)) << "the child holds other parts";
	ASSERT_EQ(unmap_of(&child, MIB(4), MIB(2)), OK);
	EXPECT_EQ(frame_of(block)->refs, 510u);
	for (u64 i = 2; i < 512; i++) {
		EXPECT_FALSE(write(&s2, MIB(4) + i * PAGE_SIZE, i)) << i;
	}
}

TEST_P(S2Fork, a_shared_block_is_free_when_all_parts_of_it_have_gone)
{
	hpa_t block = map_block(MIB(4), 1);

	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	for (u64 i = 0; i < 512; i++) {
		ASSERT_EQ(unmap_of(i % 2 ? &s2 : &child, MIB(4) + i * PAGE_SIZE, PAGE_SIZE), OK);
	}
	judge();
	ASSERT_EQ(unmap_of(&s2, MIB(4), MIB(2)), OK);
	EXPECT_EQ(frame_of(block)->refs, 256u);
	ASSERT_EQ(unmap_of(&child, MIB(4), MIB(2)), OK);
	EXPECT_EQ(frame_of(block)->type, FRAME_FREE);
}

TEST_P(S2Fork, a_block_that_was_shared_in_parts_becomes_one_leaf_with_one_reference)
{
	hpa_t block = map_block(MIB(4), 1);
	struct s2_collapsed report;
	struct s2_batch batch;

	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(4)), 0, &batch), OK);
	s2_batch_close(&batch);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(4)), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(report.count[S2_IS_SHARED], 1u);
	s2_destroy(&child);
	for (u64 i = 0; i < 512; i++) {
		write(&s2, MIB(4) + i * PAGE_SIZE, i);
	}
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(4)), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(report.count[S2_FOLDED], 1u);
	EXPECT_EQ(s2.stats.leaf_2m, 1u);
	EXPECT_EQ(frame_of(block)->refs, 1u);
}

TEST_P(S2Fork, a_fork_while_a_fold_is_open_wins)
{
	struct s2_collapsed report;
	struct s2_batch batch, fold;

	map_block(MIB(4), 1);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(4)), 0, &batch), OK);
	s2_batch_close(&batch);
	s2_batch_open(&fold, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(4)), MIB(2), 1, &fold, &report), OK);
	ASSERT_EQ(report.count[S2_FOLDED], 1u);
	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	s2_batch_close(&fold);
	EXPECT_EQ(s2.stats.collapses_undone, 1u);
	judge();
	EXPECT_TRUE(write(&s2, MIB(4), 1));
}

// A part of a large block that has only one leaf left, split once more.
TEST_P(S2Fork, splitting_what_is_left_of_a_larger_block_divides_no_more_than_that)
{
	take_gigabytes();
	hpa_t block = map_block(GIB(1), 2);

	ASSERT_EQ(s2.stats.leaf_1g, 1u);
	ASSERT_EQ(fork(GIB(1), GIB(1)), OK);
	EXPECT_TRUE(write(&child, GIB(1) + MIB(2), 1, 1));
	EXPECT_EQ(child.stats.leaf_2m, 512u);
	judge();
	EXPECT_TRUE(write(&child, GIB(1) + MIB(4), 1, 0));
	s2_destroy(&s2);
	ASSERT_EQ(unmap_of(&child, GIB(1) + MIB(2), GIB(1) - MIB(2)), OK);
	EXPECT_EQ(frame_of(block)->refs, 1u);
	ASSERT_EQ(unmap_of(&child, GIB(1), PAGE_SIZE), OK);
	judge();
	EXPECT_EQ(frame_of(block)->refs, 511u);
	ASSERT_EQ(unmap_of(&child, GIB(1), MIB(2)), OK);
	EXPECT_EQ(frame_of(block)->type, FRAME_FREE);
}

TEST_P(S2Fork, a_page_of_a_gigabyte_is_copied_alone)
{
	take_gigabytes();
	map_block(GIB(1), 2);
	ASSERT_EQ(fork(GIB(1), GIB(1)), OK);
	EXPECT_TRUE(write(&child, GIB(1) + MIB(4), 1, 0));
	EXPECT_EQ(child.stats.leaf_2m, 511u);
	EXPECT_EQ(child.stats.leaf_4k, 512u);
	EXPECT_EQ(s2.stats.leaf_1g, 1u);
}

TEST_P(S2Fork, a_shared_leaf_is_split_behind_a_break_even_where_none_is_owed)
{
	struct s2_batch batch;

	s2.traits |= S2_SIZE_CHANGE;
	map_block(MIB(4), 1);
	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(4)), 0, &batch), OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).kind, S2_TRANSIT);
	s2_batch_close(&batch);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).level, 0);
}

// ---- Steps, errors, memory

TEST_P(S2Fork, a_fork_within_a_budget_goes_on_where_it_stopped)
{
	enum status status;
	unsigned calls = 0;
	u64 at = MIB(2);

	for (u64 i = 0; i < 1000; i++) {
		map_block(MIB(2) + i * PAGE_SIZE, 0);
	}
	do {
		struct s2_batch batch;

		s2_batch_open(&batch, &s2);
		batch.budget = 300;
		status = s2_fork(&s2, &child, gpa(at), MIB(6) - at, &batch);
		at = batch.next;
		s2_batch_close(&batch);
		calls++;
		judge();
	} while (status == MORE);
	EXPECT_EQ(status, OK);
	EXPECT_GE(calls, 3u);
	EXPECT_EQ(child.stats.leaf_4k, 1000u);
}

TEST_P(S2Fork, nonsense_is_invalid_and_a_child_that_has_something_there_is_told)
{
	struct s2 other;
	struct s2_batch batch;
	hpa_t page = guest_block(0), own;

	map_block(MIB(2), 0);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_fork(&s2, &s2, gpa(MIB(2)), PAGE_SIZE, &batch), INVALID);
	EXPECT_EQ(s2_fork(&s2, &child, gpa(MIB(2) + 1), PAGE_SIZE, &batch), INVALID);
	EXPECT_EQ(s2_fork(&s2, &child, gpa(MIB(2)), 0, &batch), INVALID);
	ASSERT_EQ(s2_init(&other, GetParam().format, 39, kOwner), OK);
	EXPECT_EQ(s2_fork(&s2, &other, gpa(MIB(2)), PAGE_SIZE, &batch), INVALID);
	s2_destroy(&other);
	ASSERT_EQ(s2_init(&other, &s2_armv8_4k_lpa2, 40, kOwner), OK);
	EXPECT_EQ(s2_fork(&s2, &other, gpa(MIB(2)), PAGE_SIZE, &batch), INVALID) << "of other bits";
	s2_destroy(&other);
	own = guest_block(0);
	ASSERT_EQ(s2_map_leaf(&child, gpa(MIB(2)), 0, own, kRwx), OK);
	EXPECT_EQ(s2_fork(&s2, &child, gpa(MIB(2)), PAGE_SIZE, &batch), EXISTS);
	s2_batch_close(&batch);
	EXPECT_EQ(s2_query(&child, gpa(MIB(2))).hpa.v, own.v);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(GIB(9)), page, 0), NOENT);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(1ull << 41), page, 0), NOENT);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), page, 0), EXISTS) << "it can write";
	ASSERT_EQ(unmap_of(&child, MIB(2), PAGE_SIZE), OK);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), hpa_add(page, 8), 0), INVALID);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), page, 4), INVALID);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), ptr_hpa(s2.root), 0), DENIED);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), hpa_none(), 0), NOMEM);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), page, 0), OK);
}

// Every allocation fails in turn; what was forked until then is whole, and the rest follows.
TEST_P(S2Fork, a_fork_without_memory_for_tables_goes_on_when_there_is_some)
{
	for (u64 left = 0;; left++) {
		enum status status;
		struct s2_batch batch;
		u64 next;

		s2_destroy(&child);
		s2_destroy(&s2);
		fake_memory(kMemory);
		free_before = frame_count(FRAME_FREE);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		ASSERT_EQ(s2_init(&child, GetParam().format, 40, kOwner), OK);
		hpa_t block = map_block(GIB(1) + MIB(2), 1);
		map_block(GIB(1), 0);
		map_block(GIB(2), 0);
		hpa_t reserve = guest_block(4);
		fake_memory_leave(left);
		taken_for_good = frame_count(FRAME_HYP);
		s2_batch_open(&batch, &s2);
		// The range begins with a page and ends inside of a block.
		status = s2_fork(&s2, &child, gpa(GIB(1)), MIB(3), &batch);
		next = batch.next;
		s2_batch_close(&batch);
		judge();
		EXPECT_EQ(s2_query(&s2, gpa(GIB(1) + MIB(2))).hpa.v, block.v);
		for (u64 i = 0; i < 512; i++) {
			u64 at = GIB(1) + i * PAGE_SIZE * 2;
			bool is_forked = s2_query(&child, gpa(at)).kind == S2_LEAF;

			EXPECT_FALSE(is_forked && at >= next && status != OK) << std::hex << at;
		}
		frame_split(reserve, 0);
		for (u64 i = 0; i < 16; i++) {
			frame_put(hpa_add(reserve, i * PAGE_SIZE));
		}
		if (status == OK) {
			EXPECT_GE(left, 3u);
			break;
		}
		ASSERT_EQ(status, NOMEM);
		if (next >= GIB(1)) {
			s2_batch_open(&batch, &s2);
			EXPECT_EQ(s2_fork(&s2, &child, gpa(next), GIB(1) + MIB(3) - next, &batch),
				  OK);
			s2_batch_close(&batch);
			EXPECT_EQ(s2_query(&child, gpa(GIB(1))).kind, S2_LEAF);
			EXPECT_EQ(s2_query(&child, gpa(GIB(1) + MIB(3) - 1)).kind, S2_LEAF);
		}
	}
}

TEST_P(S2Fork, a_write_without_memory_for_the_split_changes_nothing)
{
	hpa_t fresh = guest_block(0);
	u64 entry;

	map_block(MIB(4), 1);
	ASSERT_EQ(fork(MIB(4), MIB(2)), OK);
	entry = raw(&child, MIB(4));
	fake_memory_leave(0);
	taken_for_good = frame_count(FRAME_HYP);
	EXPECT_EQ(s2_cow_fault(&child, gpa(MIB(4)), fresh, 0), NOMEM);
	EXPECT_EQ(raw(&child, MIB(4)), entry);
	EXPECT_EQ(child.stats.batches, 0u);
	frame_put(fresh);
}

TEST_P(S2Fork, destroyed_in_any_order_nothing_leaks)
{
	for (unsigned order = 0; order < 4; order++) {
		for (struct s2 *space : {&child, &s2}) {
			if (space->root) {
				s2_destroy(space);
			}
		}
		EXPECT_EQ(frame_count(FRAME_FREE), free_before);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		ASSERT_EQ(s2_init(&child, GetParam().format, 40, kOwner), OK);
		for (u64 i = 0; i < 40; i++) {
			map_block(MIB(2) + i * PAGE_SIZE, 0);
		}
		map_block(MIB(4), 1);
		ASSERT_EQ(fork(0, MIB(8)), OK);
		for (u64 i = 0; i < 20; i++) {
			write(order & 1 ? &s2 : &child, MIB(2) + i * PAGE_SIZE, i);
		}
		write(&child, MIB(4) + PAGE_SIZE, 1);
		if (order & 2) {
			ASSERT_EQ(unmap_of(&s2, MIB(2), MIB(1)), OK);
		}
		judge();
		s2_destroy(order & 1 ? &child : &s2);
		judge();
	}
}

// ---- Logging of writes

TEST_P(S2Fork, a_logged_page_stays_dirty_and_a_copy_is)
{
	const struct s2_format *f = GetParam().format;

	s2.marks |= f->log;
	s2.new_leaf = f->log;
	s2_set_memory_bits(&s2);
	map_block(MIB(2), 0);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).dirty);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).dirty);
	EXPECT_FALSE(s2_query(&s2, gpa(MIB(2))).attr.perm & S2_WRITE);
	EXPECT_TRUE(write(&s2, MIB(2), 1));
	EXPECT_EQ(raw(&s2, MIB(2)) & f->log, f->log);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).dirty);
	ASSERT_EQ(fork(MIB(4), PAGE_SIZE), OK);
}

// ---- Many CPUs

// Both sides write all pages at once, each on two CPUs; parent's and child's values never mix.
TEST_P(S2Fork, both_sides_write_at_once_and_see_their_own)
{
	constexpr u64 kPages = 600; // of pages, and of a block in parts
	std::vector<std::thread> threads;

	fake_cpus(4);
	map_block(MIB(4), 1);
	for (u64 i = 0; i < kPages - 512; i++) {
		map_block(MIB(6) + i * PAGE_SIZE, 0);
	}
	for (u64 i = 0; i < kPages; i++) {
		write(&s2, MIB(4) + i * PAGE_SIZE, i);
	}
	ASSERT_EQ(fork(MIB(4), MIB(4)), OK);
	for (u32 cpu = 0; cpu < 4; cpu++) {
		threads.emplace_back([this, cpu] {
			struct s2 *space = cpu & 1 ? &child : &s2;

			fake_cpu_become(cpu);
			for (u64 i = 0; i < kPages; i++) {
				u64 at = MIB(4) + i * PAGE_SIZE, mine = 8 * (1 + cpu);

				EXPECT_EQ(read(space, at), i);
				write(space, at + mine, cpu);
				EXPECT_EQ(read(space, at + mine), cpu);
			}
		});
	}
	for (auto &thread : threads) {
		thread.join();
	}
	fake_cpu_become(0);
	for (u64 i = 0; i < kPages; i++) {
		for (u32 cpu = 0; cpu < 4; cpu++) {
			u64 at = MIB(4) + i * PAGE_SIZE + 8 * (1 + cpu);

			EXPECT_EQ(read(cpu & 1 ? &child : &s2, at), cpu);
			if (cpu) {
				EXPECT_EQ(read(cpu & 1 ? &s2 : &child, at), 0u);
			}
		}
	}
}

// The parent's guest writes while it is forked again and again: what a child has seen once stays.
TEST_P(S2Fork, a_parent_that_writes_all_the_time_never_writes_into_a_child)
{
	constexpr u64 kRounds = 150, kPages = 8;
	std::atomic<bool> stop{false};
	std::vector<std::thread> threads;

	fake_cpus(4);
	for (u64 i = 0; i < kPages; i++) {
		map_block(MIB(2) + i * PAGE_SIZE, 0);
	}
	for (u32 cpu = 1; cpu < 4; cpu++) {
		threads.emplace_back([&, cpu] {
			fake_cpu_become(cpu);
			for (u64 value = 1; !stop; value++) {
				write(&s2, MIB(2) + value % kPages * PAGE_SIZE + 8 * cpu, value);
			}
		});
	}
	for (u64 round = 0; round < kRounds; round++) {
		u64 seen[kPages][4];

		ASSERT_EQ(fork(MIB(2), kPages * PAGE_SIZE), OK);
		for (unsigned look = 0; look < 3; look++) {
			for (u64 i = 0; i < kPages; i++) {
				for (u64 word = 1; word < 4; word++) {
					u64 now = read(&child, MIB(2) + i * PAGE_SIZE + 8 * word);

					EXPECT_TRUE(look == 0 || now == seen[i][word]);
					seen[i][word] = now;
				}
			}
		}
		if (round % 2) {
			write(&child, MIB(2), round);
		}
		ASSERT_EQ(unmap_of(&child, MIB(2), MIB(2)), OK);
	}
	stop = true;
	for (auto &thread : threads) {
		thread.join();
	}
	fake_cpu_become(0);
}

// A copy divides a large leaf just after a range operation has looked at it.
TEST_P(S2Fork, what_a_copy_has_divided_is_no_leaf_to_a_range_operation)
{
	struct s2_batch batch;
	struct s2_cursor c;
	u64 link;

	map_block(MIB(2), 1);
	ASSERT_EQ(fork(MIB(2), MIB(2)), OK);
	s2_cursor_start(&c, &s2, gpa(MIB(2)));
	s2_cursor_descend(&c, 0);
	ASSERT_EQ(c.level, 1u);
	EXPECT_TRUE(write(&s2, MIB(2), 1));
	link = *c.slot;
	ASSERT_TRUE(s2_entry_is_table(c.format, link, 1));
	s2_batch_open(&batch, &s2);
	s2_run_clear(&c, 1, &batch);
	EXPECT_EQ(*c.slot, link);
	s2_run_protect(&c, 1, S2_READ, &batch);
	EXPECT_EQ(*c.slot, link);
	EXPECT_EQ(batch.entries, 0u);
	s2_batch_close(&batch);
}

TEST_P(S2Fork, a_range_operation_looks_again_at_what_a_copy_has_divided)
{
	static std::function<void()> divide;
	static std::vector<unsigned> levels;
	struct s2_batch batch;
	struct s2_job job = {};

	divide = [this] { EXPECT_TRUE(write(&s2, MIB(2), 1)); };
	levels.clear();
	map_block(MIB(2), 1);
	ASSERT_EQ(fork(MIB(2), MIB(2)), OK);
	s2_batch_open(&batch, &s2);
	job.s2 = &s2;
	job.end = MIB(8);
	job.batch = &batch;
	job.level_max = S2_LEVELS_MAX;
	job.run = [](struct s2_cursor *c, u64, struct s2_job *) {
		levels.push_back(c->level);
		if (c->level == 1) {
			divide();
		}
	};
	EXPECT_EQ(s2_range_run(&job), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(levels, (std::vector<unsigned>{1, 0}));
}

// A split asks the format what its leaf is: then a claim takes the leaf, and a moment later
// `settle` puts something in its place, on another thread. Over when this goes.
class ClaimInSplit
{
      public:
	using Settle = std::function<void(struct s2_cursor *c, u64 leaf)>;

	ClaimInSplit(struct s2 *s2, u64 at, const Settle &settle) : s2_(s2), slow_(*s2->format)
	{
		format_ = s2->format;
		slow_.decode = [](u64 entry, bool leaf_is_large) {
			if (claim_) {
				std::exchange(claim_, nullptr)();
			}
			return format_->decode(entry, leaf_is_large);
		};
		s2->format = &slow_;
		s2_cursor_start(&c_, s2, gpa(at));
		s2_cursor_descend(&c_, 0);
		s2_batch_open(&batch_, s2);
		claim_ = [this, settle, leaf = c_.entry] {
			ASSERT_TRUE(s2_entry_set(&c_, s2_claim_entry(&batch_), nullptr));
			copier_ = std::thread([this, settle, leaf] {
				std::this_thread::sleep_for(std::chrono::milliseconds(20));
				settle(&c_, leaf);
			});
		};
	}

	~ClaimInSplit()
	{
		copier_.join();
		s2_batch_close(&batch_);
		s2_->format = format_;
	}

      private:
	static inline const struct s2_format *format_;
	static inline std::function<void()> claim_;
	struct s2 *s2_;
	struct s2_format slow_;
	struct s2_batch batch_;
	struct s2_cursor c_;
	std::thread copier_;
};

TEST_P(S2Fork, a_short_range_waits_for_a_copy_that_its_split_lost_against)
{
	map_block(MIB(2), 1);
	{
		ClaimInSplit claim(&s2, MIB(2), [](struct s2_cursor *c, u64 leaf) {
			EXPECT_TRUE(s2_entry_set(c, leaf, nullptr));
		});

		EXPECT_EQ(unmap_of(&s2, MIB(2) + PAGE_SIZE, PAGE_SIZE), OK);
	}
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2) + PAGE_SIZE)).kind, S2_EMPTY);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).kind, S2_LEAF);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).level, 0);
}

// The same for one leaf: and then the copy, which is of a part, has divided it already.
TEST_P(S2Fork, a_split_that_a_copy_has_made_keeps_no_table)
{
	struct s2_batch batch;
	u64 tables;

	map_block(MIB(2), 1);
	tables = s2.stats.tables;
	s2_batch_open(&batch, &s2);
	{
		ClaimInSplit claim(&s2, MIB(2), [this](struct s2_cursor *c, u64 leaf) {
			u64 *parts = s2_table_alloc(&s2);

			s2_parts_fill(&s2, leaf, 1, parts);
			s2_parts_share(&s2, leaf, 1);
			s2_count_leaves(&s2, 0, 512);
			EXPECT_TRUE(s2_entry_set(c, s2_link_entry(&s2, parts), nullptr));
		});

		EXPECT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	}
	s2_batch_close(&batch);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).level, 0);
	EXPECT_EQ(s2.stats.tables, tables + 1);
}

TEST_P(S2Fork, a_write_while_logging_ends_leaves_no_mark_of_it)
{
	const struct s2_format *f = GetParam().format;

	map_block(MIB(2), 0);
	map_block(MIB(4), 0);
	ASSERT_EQ(fork(MIB(2), MIB(4)), OK);
	ASSERT_EQ(unmap_of(&child, MIB(4), PAGE_SIZE), OK);
	s2.marks |= f->log;
	s2.logging = S2_LOG_ENDING;
	EXPECT_TRUE(write(&s2, MIB(2), 1));
	EXPECT_FALSE(write(&s2, MIB(4), 1));
	EXPECT_EQ(raw(&s2, MIB(2)) & f->log, 0u);
	EXPECT_EQ(raw(&s2, MIB(4)) & f->log, 0u);
	s2.logging = S2_LOG_OFF;
}

// Dirty logging has put the copy's table on hold, and another CPU is just looking into it.
TEST_P(S2Fork, a_copy_waits_for_who_looks_into_its_held_table)
{
	struct Held {
		u64 *slot, link, held;
		std::thread pusher;
	} held = {};
	auto hold = [](void *context) {
		auto *h = static_cast<Held *>(context);

		fake_flush_hook.written = nullptr;
		store_release(h->slot, h->held);
		h->pusher = std::thread([h] {
			std::this_thread::sleep_for(std::chrono::milliseconds(20));
			store_release(h->slot, h->link);
		});
	};
	struct s2_cursor c;

	s2.traits |= S2_NONCOHERENT;
	map_block(MIB(2), 0);
	write(&s2, MIB(2), 1);
	ASSERT_EQ(fork(MIB(2), PAGE_SIZE), OK);
	s2_cursor_start(&c, &s2, gpa(MIB(2)));
	s2_cursor_descend(&c, 1);
	held.slot = c.slot;
	held.link = c.entry;
	held.held = s2_absent_entry(c.format, S2_HELD, 0);
	fake_flush_hook.context = &held;
	fake_flush_hook.written = hold;
	hpa_t fresh = frame_alloc(0, FRAME_GUEST, kOwner);
	EXPECT_EQ(s2_cow_fault(&s2, gpa(MIB(2)), fresh, 0), OK);
	held.pusher.join();
	fake_flush_hook = {};
	EXPECT_EQ(read(&s2, MIB(2)), 1u);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).hpa.v, fresh.v);
}

// What unmap and protect have gone over is so afterwards, whatever a copy was about to put there.
TEST_P(S2Fork, a_page_under_copy_slips_through_no_range_operation)
{
	constexpr u64 kPages = 64;

	fake_cpus(4);
	for (unsigned round = 0; round < 40; round++) {
		std::atomic<bool> go{false};
		std::vector<std::thread> threads;
		u64 size = round % 4 == 3 ? MIB(2) : kPages * PAGE_SIZE;

		for (u64 i = 0; i < kPages; i++) {
			map_block(MIB(2) + i * PAGE_SIZE, 0);
		}
		ASSERT_EQ(fork(MIB(2), kPages * PAGE_SIZE), OK);
		for (u32 cpu = 1; cpu < 4; cpu++) {
			threads.emplace_back([&, cpu] {
				fake_cpu_become(cpu);
				while (!go) {
				}
				for (u64 i = 0; i < kPages; i++) {
					hpa_t fresh = frame_alloc(0, FRAME_GUEST, kOwner);
					enum status status = s2_cow_fault(
						&child, gpa(MIB(2) + i * PAGE_SIZE), fresh, 0);

					if (status != OK) {
						frame_put(fresh);
					}
				}
			});
		}
		go = true;
		for (unsigned spin = 0; spin < round * 50; spin++) {
			cpu_relax();
		}
		if (round % 2) {
			ASSERT_EQ(unmap_of(&child, MIB(2), size), OK);
			for (u64 i = 0; i < kPages; i++) {
				EXPECT_EQ(s2_query(&child, gpa(MIB(2) + i * PAGE_SIZE)).kind,
					  S2_EMPTY);
			}
		} else {
			ASSERT_EQ(protect_of(&child, MIB(2), size, S2_READ), OK);
			for (u64 i = 0; i < kPages; i++) {
				EXPECT_EQ(s2_query(&child, gpa(MIB(2) + i * PAGE_SIZE)).attr.perm,
					  S2_READ);
			}
		}
		for (auto &thread : threads) {
			thread.join();
		}
		fake_cpu_become(0);
		judge();
		ASSERT_EQ(unmap_of(&child, MIB(2), MIB(2)), OK);
		ASSERT_EQ(unmap_of(&s2, MIB(2), MIB(2)), OK);
	}
}

} // namespace
