// Operations of the manager, over every format and both kinds of machine.
#include "s2_test_machine.h"

#include <set>
#include <vector>

namespace
{

class S2 : public S2Test
{
};
INSTANTIATE_TEST_SUITE_P(formats, S2, s2_kinds(), s2_kind_name);

TEST_P(S2, a_fresh_space_maps_nothing)
{
	for (u64 at : {0ull, 0x40000000ull, (1ull << 40) - PAGE_SIZE}) {
		expect_nothing(at);
	}
}

TEST_P(S2, a_mapped_page_translates_every_byte_and_nothing_else)
{
	hpa_t frame = map_block(0x40001000, 0);

	expect_maps(0x40001000, frame.v, "first byte");
	expect_maps(0x40001fff, frame.v + 0xfff, "last byte");
	expect_nothing(0x40000fff);
	expect_nothing(0x40002000);
}

TEST_P(S2, what_was_mapped_is_what_is_read_back)
{
	u64 at = 0x40000000;

	for (int perm : {+S2_READ, +S2_RW, +S2_RWX, S2_READ | S2_EXEC}) {
		for (int memory : {+S2_NORMAL, +S2_UNCACHED, +S2_DEVICE}) {
			for (unsigned level : {0u, 1u}) {
				struct s2_attr attr = {(u8)perm, (u8)memory};
				hpa_t frame = guest_block(9 * level);
				struct s2_leaf leaf;

				ASSERT_EQ(s2_map(&s2, gpa(at), frame, PAGE_SIZE << (9 * level), attr,
						 S2_ERROR),
					  OK);
				leaf = s2_query(&s2, gpa(at));
				EXPECT_EQ(leaf.attr.perm, perm);
				EXPECT_EQ(leaf.attr.memory, memory);
				EXPECT_EQ(leaf.level, level);
				EXPECT_TRUE(leaf.accessed);
				at += MIB(2);
			}
		}
	}
}

TEST_P(S2, a_range_gets_the_largest_leaves_that_alignment_allows)
{
	hpa_t block = guest_block(12); // 16 MiB

	// Starts one page before a 2 MiB boundary, in both address spaces.
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2) - PAGE_SIZE), hpa(block.v + MIB(2) - PAGE_SIZE),
			 MIB(4) + 2 * PAGE_SIZE, kRwx, S2_ERROR),
		  OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2) - PAGE_SIZE)).level, 0);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).level, 1);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).level, 1);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(6))).level, 0);
	for (u64 at = MIB(2) - PAGE_SIZE; at < MIB(6) + PAGE_SIZE; at += PAGE_SIZE) {
		expect_maps(at, block.v + at, "range");
	}
	EXPECT_EQ(s2.stats.leaf_2m, 2u);
	EXPECT_EQ(s2.stats.leaf_4k, 2u);
	// What the range left over of the block is the test's to give back.
	ASSERT_EQ(unmap(0, MIB(16)), OK);
	for (u64 at = block.v; at < block.v + MIB(16);) {
		struct frame *f = frame_of(hpa(at));
		u64 size = order_bytes(f->order);

		if (f->type == FRAME_GUEST) {
			frame_put(hpa(at));
		}
		at += size;
	}
}

TEST_P(S2, misaligned_memory_is_mapped_by_pages)
{
	hpa_t block = guest_block(10); // 4 MiB

	frame_split(block, 0);
	for (u64 at = 0; at < MIB(4); at += PAGE_SIZE) {
		if (at < PAGE_SIZE || at >= PAGE_SIZE + MIB(2)) {
			frame_put(hpa_add(block, at));
		}
	}
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa_add(block, PAGE_SIZE), MIB(2), kRwx, S2_ERROR), OK);
	EXPECT_EQ(s2.stats.leaf_4k, 512u);
	for (u64 at = 0; at < MIB(2); at += PAGE_SIZE) {
		expect_maps(MIB(2) + at, block.v + PAGE_SIZE + at, "page");
	}
}

TEST_P(S2, mapping_over_something_is_refused_and_changes_nothing)
{
	hpa_t old = map_block(MIB(2) + 7 * PAGE_SIZE, 0);
	hpa_t block = guest_block(9);
	u64 tables = s2.stats.tables;

	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), kRwx, S2_ERROR), EXISTS);
	expect_maps(MIB(2) + 7 * PAGE_SIZE, old.v, "old page");
	expect_nothing(MIB(2));
	EXPECT_EQ(s2.stats.tables, tables);
	frame_put(block);
}

TEST_P(S2, frames_of_lamina_and_tables_are_never_mapped)
{
	void *own = hyp_alloc(PAGE_SIZE);

	EXPECT_EQ(s2_map(&s2, gpa(0), ptr_hpa(own), PAGE_SIZE, kRwx, S2_ERROR), DENIED);
	EXPECT_EQ(s2_map(&s2, gpa(0), ptr_hpa(s2.root), PAGE_SIZE, kRwx, S2_ERROR), DENIED);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(0), 0, ptr_hpa(own), kRwx), DENIED);
	expect_nothing(0);
	hyp_free(own);
}

TEST_P(S2, nonsense_is_invalid)
{
	hpa_t page = guest_block(0);

	EXPECT_EQ(s2_map(&s2, gpa(1), page, PAGE_SIZE, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map(&s2, gpa(0), hpa_add(page, 1), PAGE_SIZE, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map(&s2, gpa(0), page, 0, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map(&s2, gpa(0), page, PAGE_SIZE + 1, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map(&s2, gpa(1ull << 40), page, PAGE_SIZE, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map(&s2, gpa((1ull << 40) - PAGE_SIZE), page, 2 * PAGE_SIZE, kRwx, S2_ERROR),
		  INVALID);
	EXPECT_EQ(s2_map(&s2, gpa(~0xfffull), page, 2 * PAGE_SIZE, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(0), 1, page, kRwx), INVALID);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(0), 4, page, kRwx), INVALID);
	EXPECT_EQ(unmap(0, 0), INVALID);
	EXPECT_EQ(unmap(5, PAGE_SIZE), INVALID);
	frame_put(page);
}

TEST_P(S2, the_last_page_of_the_space_can_be_used)
{
	u64 last = (1ull << 40) - PAGE_SIZE;
	hpa_t frame = map_block(last, 0);

	expect_maps(last, frame.v, "last page");
	EXPECT_EQ(unmap(last, PAGE_SIZE), OK);
	expect_nothing(last);
}

TEST_P(S2, unmapping_gives_frames_and_empty_tables_back)
{
	u64 free_at_start = frame_count(FRAME_FREE);

	map_block(MIB(2), 0);
	map_block(GIB(3), 1);
	EXPECT_EQ(unmap(MIB(2), PAGE_SIZE), OK);
	EXPECT_EQ(unmap(GIB(3), MIB(2)), OK);
	EXPECT_EQ(frame_count(FRAME_FREE), free_at_start);
	EXPECT_EQ(s2.stats.leaf_4k + s2.stats.leaf_2m, 0u);
}

TEST_P(S2, unmap_middle_of_block_leaves_the_rest)
{
	hpa_t block = map_block(MIB(4), 1);

	EXPECT_EQ(unmap(MIB(4) + 100 * PAGE_SIZE, 3 * PAGE_SIZE), OK);
	for (u64 i = 0; i < 512; i++) {
		if (i >= 100 && i < 103) {
			expect_nothing(MIB(4) + i * PAGE_SIZE);
		} else {
			expect_maps(MIB(4) + i * PAGE_SIZE, block.v + i * PAGE_SIZE, "sibling");
		}
	}
	EXPECT_EQ(s2.stats.leaf_4k, 509u);
	EXPECT_EQ(s2.stats.leaf_2m, 0u);
}

TEST_P(S2, split_keeps_every_translation)
{
	hpa_t block = map_block(MIB(6), 1);
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_split(&s2, gpa(MIB(6) + 12345), 0, &batch), OK);
	s2_batch_close(&batch);
	for (u64 i = 0; i < 512; i++) {
		struct s2_leaf leaf = s2_query(&s2, gpa(MIB(6) + i * PAGE_SIZE));

		EXPECT_EQ(leaf.level, 0);
		EXPECT_EQ(leaf.hpa.v, block.v + i * PAGE_SIZE);
		EXPECT_EQ(leaf.attr.perm, S2_RWX);
		EXPECT_TRUE(leaf.accessed);
	}
	EXPECT_EQ(s2.stats.splits, 1u);
	EXPECT_EQ(frame_of(hpa_add(block, PAGE_SIZE))->order, 0);
}

TEST_P(S2, splitting_nothing_is_an_error)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_split(&s2, gpa(MIB(6)), 0, &batch), NOENT);
	EXPECT_EQ(s2_split(&s2, gpa(1ull << 41), 0, &batch), INVALID);
	s2_batch_close(&batch);
}

// Every allocation that an operation makes fails in turn: the space stays as it was.
TEST_P(S2, running_out_of_memory_changes_nothing)
{
	for (u64 left = 0;; left++) {
		enum status status;
		hpa_t block;
		u64 tables;

		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		block = map_block(MIB(4), 1);
		tables = s2.stats.tables;
		fake_memory_leave(left);
		status = unmap(MIB(4) + PAGE_SIZE, MIB(1));
		if (status == OK) {
			EXPECT_GT(left, 0u) << "a split needs a table";
			break;
		}
		EXPECT_EQ(status, NOMEM);
		EXPECT_EQ(s2.stats.tables, tables);
		for (u64 i = 0; i < 512; i++) {
			expect_maps(MIB(4) + i * PAGE_SIZE, block.v + i * PAGE_SIZE, "kept");
		}
	}
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2, mapping_without_memory_for_tables_changes_nothing)
{
	for (u64 left = 0;; left++) {
		enum status status;
		hpa_t block;

		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		block = guest_block(9);
		frame_split(block, 0);
		fake_memory_leave(left);
		// Across a 1 GiB boundary: two tables of level 1 and two of level 0.
		status = s2_map(&s2, gpa(GIB(1) - MIB(1)), block, MIB(2), kRwx, S2_ERROR);
		if (status == OK) {
			EXPECT_EQ(left, 4u);
			break;
		}
		EXPECT_EQ(status, NOMEM);
		EXPECT_EQ(frame_count(FRAME_FREE), left) << "reserve was not given back";
		expect_nothing(GIB(1) - MIB(1));
		expect_nothing(GIB(1));
	}
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2, after_the_close_no_cpu_translates_any_more)
{
	hpa_t out;
	struct s2_batch batch;

	map_block(MIB(2), 1);
	for (u32 cpu = 0; cpu < 2; cpu++) {
		fake_cpu_become(cpu);
		s2_entering(&s2);
		ASSERT_EQ(fake_access(&s2, gpa(MIB(2) + 5), S2_READ, &out), FAKE_OK);
		s2_left(&s2);
	}
	fake_cpu_become(0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), MIB(2), &batch), OK);
	EXPECT_TRUE(fake_tlb_holds(&s2, gpa(MIB(2)))) << "the fake TLB forgot by itself";
	s2_batch_close(&batch);
	for (u32 cpu = 0; cpu < 2; cpu++) {
		fake_cpu_become(cpu);
		s2_entering(&s2); // where there is no broadcast, a CPU flushes itself here
		EXPECT_EQ(fake_access(&s2, gpa(MIB(2) + 5), S2_READ, &out), FAKE_FAULT);
		s2_left(&s2);
	}
	EXPECT_FALSE(fake_tlb_holds(&s2, gpa(MIB(2))));
	EXPECT_EQ(s2.stats.kicks, 0u) << "nobody was in the guest";
	fake_cpu_become(0);
}

TEST_P(S2, a_cleared_place_is_not_filled_before_the_close)
{
	hpa_t other = guest_block(0);
	struct s2_batch batch;

	map_block(MIB(2), 0);
	map_block(MIB(2) + PAGE_SIZE, 0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).kind, S2_TRANSIT);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 0, other, kRwx), AGAIN);
	s2_batch_close(&batch);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 0, other, kRwx), OK);
}

TEST_P(S2, a_table_with_another_batchs_open_entry_stays)
{
	hpa_t other = guest_block(0);
	struct s2_batch first, second;

	map_block(MIB(2), 0);
	map_block(MIB(2) + PAGE_SIZE, 0);
	s2_batch_open(&first, &s2);
	s2_batch_open(&second, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &first), OK);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2) + PAGE_SIZE), PAGE_SIZE, &second), OK);
	s2_batch_close(&second);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 0, other, kRwx), AGAIN)
		<< "two CPUs could see two frames here";
	s2_batch_close(&first);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 0, other, kRwx), OK);
}

TEST_P(S2, faults_make_their_tables_and_lose_races_politely)
{
	hpa_t a = guest_block(0), b = guest_block(0), big = guest_block(9);

	EXPECT_EQ(s2_map_leaf(&s2, gpa(GIB(5)), 0, a, kRwx), OK);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(GIB(5)), 0, b, kRwx), EXISTS);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(GIB(5)), 1, big, kRwx), EXISTS);
	expect_maps(GIB(5), a.v, "first comer");
	frame_put(b);
	frame_put(big);
}

TEST_P(S2, a_batch_that_overflows_flushes_everything)
{
	hpa_t out;
	struct s2_batch batch;

	for (u64 i = 0; i < 2 * S2_BATCH_RANGES; i++) {
		map_block(i * MIB(4), 0);
		ASSERT_EQ(fake_access(&s2, gpa(i * MIB(4)), S2_READ, &out), FAKE_OK);
	}
	s2_batch_open(&batch, &s2);
	for (u64 i = 0; i < 2 * S2_BATCH_RANGES; i++) {
		ASSERT_EQ(s2_unmap(&s2, gpa(i * MIB(4)), PAGE_SIZE, &batch), OK);
	}
	EXPECT_TRUE(batch.everything);
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.flush_whole, 1u);
	s2_entering(&s2);
	for (u64 i = 0; i < 2 * S2_BATCH_RANGES; i++) {
		EXPECT_EQ(fake_access(&s2, gpa(i * MIB(4)), S2_READ, &out), FAKE_FAULT);
	}
	s2_left(&s2);
}

TEST_P(S2, one_batch_is_one_round_however_many_pages)
{
	struct s2_batch batch;
	u64 rounds = s2.stats.batches;

	for (u64 i = 0; i < 1000; i++) {
		map_block(MIB(2) + i * PAGE_SIZE, 0);
	}
	s2_batch_open(&batch, &s2);
	for (u64 i = 0; i < 1000; i++) {
		ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2) + i * PAGE_SIZE), PAGE_SIZE, &batch), OK);
	}
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.batches, rounds + 1);
	EXPECT_EQ(s2.stats.leaf_4k, 0u);
	EXPECT_EQ(s2.stats.tables, BIT(40 - 39)) << "only the root is left";
}

TEST_P(S2, validate_looks_at_every_page)
{
	map_block(MIB(2), 0);
	map_block(MIB(2) + PAGE_SIZE, 0);
	EXPECT_TRUE(s2_validate(&s2, gpa(MIB(2) + 8), PAGE_SIZE, S2_RW));
	EXPECT_FALSE(s2_validate(&s2, gpa(MIB(2) + 8), 2 * PAGE_SIZE, S2_READ));
	EXPECT_FALSE(s2_validate(&s2, gpa(0), 1, S2_READ));
}

TEST_P(S2, dump_joins_what_is_alike)
{
	std::vector<struct s2_region> seen;
	auto note = [](void *context, const struct s2_region *region) {
		static_cast<std::vector<struct s2_region> *>(context)->push_back(*region);
	};

	for (u64 i = 0; i < 4; i++) {
		map_block(MIB(2) + i * PAGE_SIZE, 0);
	}
	map_block(MIB(4), 1);
	map_block(MIB(6), 1);
	s2_dump(&s2, gpa(0), BIT(40), note, &seen);
	ASSERT_EQ(seen.size(), 2u);
	EXPECT_EQ(seen[0].gpa.v, MIB(2));
	EXPECT_EQ(seen[0].size, 4 * PAGE_SIZE);
	EXPECT_EQ(seen[1].gpa.v, MIB(4));
	EXPECT_EQ(seen[1].size, MIB(4));
	EXPECT_EQ(seen[1].level, 1);
}

TEST_P(S2, the_generation_reaches_a_cpu_that_comes_late)
{
	hpa_t out;

	if (GetParam().broadcasts) {
		GTEST_SKIP() << "hardware broadcasts: nothing is left for later";
	}
	map_block(MIB(2), 0);
	fake_cpu_become(1);
	s2_entering(&s2);
	ASSERT_EQ(fake_access(&s2, gpa(MIB(2)), S2_READ, &out), FAKE_OK);
	s2_left(&s2);
	fake_cpu_become(0);
	ASSERT_EQ(unmap(MIB(2), PAGE_SIZE), OK);
	EXPECT_GE(s2.stats.kicks_avoided, 2u);
	fake_cpu_become(1);
	EXPECT_TRUE(fake_tlb_holds(&s2, gpa(MIB(2)))) << "CPU 1 owes a flush";
	s2_entering(&s2);
	EXPECT_FALSE(fake_tlb_holds(&s2, gpa(MIB(2))));
	s2_left(&s2);
	fake_cpu_become(0);
}

} // namespace
