// Operations of the manager, over every format and both kinds of machine.
#include "s2_test_machine.h"

#include <cstring>
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
		for (int memory = 0; memory < S2_MEMORY_TYPES; memory++) {
			for (unsigned level : {0u, 1u}) {
				struct s2_attr attr = {(u8)perm, (u8)memory};
				hpa_t frame;
				struct s2_leaf leaf;

				if (!s2_format_says(s2.format, attr)) {
					continue;
				}
				frame = guest_block(9 * level);
				ASSERT_EQ(s2_map(&s2, gpa(at), frame, PAGE_SIZE << (9 * level),
						 attr, S2_ERROR),
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
	EXPECT_EQ(s2_map_leaf(&s2, gpa(1ull << 40), 0, page, kRwx), INVALID);
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
	EXPECT_EQ(s2_split(&s2, gpa(MIB(6)), 4, &batch), INVALID);
	s2_batch_close(&batch);
}

TEST_P(S2, a_split_without_memory_leaves_the_leaf)
{
	hpa_t block = map_block(MIB(4), 1);

	fake_memory_leave(0);
	EXPECT_EQ(in_batch(&s2,
			   [&](s2_batch *batch) { return s2_split(&s2, gpa(MIB(4)), 0, batch); }),
		  NOMEM);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).level, 1);
	expect_maps(MIB(4) + PAGE_SIZE, block.v + PAGE_SIZE, "kept");
	taken_for_good = frame_count(FRAME_HYP);
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

// What the fault of a page does in one walk: it finds the place, and puts the page there.
TEST_P(S2, a_page_is_put_where_the_walk_found_an_empty_place)
{
	hpa_t a = guest_block(0), b = guest_block(0), big = guest_block(9);
	void *own = hyp_alloc(PAGE_SIZE);
	u64 at = GIB(5) + PAGE_SIZE, outer, *place;
	unsigned level = 9;

	map_block(GIB(5), 0);
	outer = s2_walk_begin(&s2);
	ASSERT_EQ(s2_find_empty(&s2, gpa(at), &level, &place), s2.format->plain);
	if (s2.format->plain) {
		EXPECT_EQ(level, 0u);
		EXPECT_EQ(s2_page_put(&s2, place, gpa(at), ptr_hpa(own), kRwx), DENIED);
		EXPECT_EQ(s2_page_put(&s2, place, gpa(at), big, kRwx), DENIED) << "a larger block";
		EXPECT_EQ(s2_page_put(&s2, place, gpa(at), hpa(a.v + 8), kRwx), INVALID);
		EXPECT_EQ(s2_page_put(&s2, place, gpa(at), a, {S2_RWX + 1, S2_NORMAL}), INVALID);
		expect_nothing(at);
		EXPECT_EQ(s2.stats.leaf_4k, 1u);
		EXPECT_EQ(s2_page_put(&s2, place, gpa(at), a, kRwx), OK);
		EXPECT_EQ(s2_page_put(&s2, place, gpa(at), b, kRwx), AGAIN) << "it was faster";
		EXPECT_EQ(s2.stats.map_races, 1u);
		EXPECT_EQ(s2.stats.leaf_4k, 2u);
		expect_maps(at, a.v, "the first");
		EXPECT_FALSE(s2_find_empty(&s2, gpa(at), &level, &place));
		EXPECT_TRUE(s2_find_empty(&s2, gpa(GIB(5) + MIB(2)), &level, &place));
		EXPECT_EQ(level, 1u);
		EXPECT_FALSE(s2_find_empty(&s2, gpa(BIT(40)), &level, &place));
	}
	s2_walk_end(&s2, outer);
	for (hpa_t frame : {b, big}) {
		frame_put(frame);
	}
	if (!s2.format->plain) {
		frame_put(a);
	}
	hyp_free(own);
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
	EXPECT_EQ(s2.stats.tables, tables_at_start) << "only the root is left";
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

// ---- What a sharper look found

TEST_P(S2, addresses_outside_the_space_are_nothing)
{
	const u64 outside = 1ull << 40;

	// Whatever lies behind the root's tables must not be taken for entries.
	hpa_t behind = guest_block(0);

	memset(hpa_ptr(behind), 0xff, PAGE_SIZE);
	for (u64 at : {outside, outside + GIB(300), outside << 4, (u64)~0ull - 5}) {
		EXPECT_EQ(s2_query(&s2, gpa(at)).kind, S2_EMPTY) << std::hex << at;
		EXPECT_EQ(s2_mark_accessed(&s2, gpa(at)), NOENT);
		EXPECT_FALSE(s2_validate(&s2, gpa(at), 8, S2_READ));
	}
	frame_put(behind);
}

TEST_P(S2, a_range_that_wraps_around_is_never_valid)
{
	map_block(0, 0);
	EXPECT_FALSE(s2_validate(&s2, gpa(~0xfffull), 0x2000, S2_READ));
	EXPECT_FALSE(s2_validate(&s2, gpa(0), ~0ull, S2_READ));
	EXPECT_TRUE(s2_validate(&s2, gpa(0), PAGE_SIZE, S2_READ));
}

TEST_P(S2, dump_of_a_range_that_wraps_ends_with_the_space)
{
	u64 count = 0;
	auto note = [](void *context, const struct s2_region *) { ++*static_cast<u64 *>(context); };

	map_block(MIB(2), 0);
	s2_dump(&s2, gpa(PAGE_SIZE), ~0ull, note, &count);
	EXPECT_EQ(count, 1u);
}

TEST_P(S2, a_space_is_no_wider_than_its_levels)
{
	struct s2 wide;
	u64 free_at_start = frame_count(FRAME_FREE);

	EXPECT_EQ(s2_init(&wide, GetParam().format, 49, kOwner), INVALID);
	EXPECT_EQ(s2_init(&wide, GetParam().format, 64, kOwner), INVALID);
	EXPECT_EQ(s2_init(&wide, GetParam().format, 20, kOwner), INVALID);
	EXPECT_EQ(frame_count(FRAME_FREE), free_at_start);
}

TEST_P(S2, every_width_of_a_space_works)
{
	for (unsigned bits = 25; bits <= 48; bits++) {
		u64 last = BIT(bits) - PAGE_SIZE;
		hpa_t frame;

		s2_destroy(&s2);
		ASSERT_EQ(s2_init(&s2, GetParam().format, bits, kOwner), OK) << bits;
		frame = map_block(last, 0);
		map_block(0, 1);
		expect_maps(last, frame.v, "last page");
		EXPECT_EQ(unmap(0, BIT(bits)), OK);
		EXPECT_EQ(s2.stats.leaf_4k + s2.stats.leaf_2m, 0u);
	}
}

// A large leaf is refused if any frame in it is not a guest's (I4).
TEST_P(S2, a_fault_maps_no_frame_of_lamina_inside_a_large_leaf)
{
	hpa_t block = guest_block(9);

	frame_split(block, 0);
	frame_put(hpa_add(block, 77 * PAGE_SIZE));
	hpa_t taken = frame_alloc(0, FRAME_TABLE, kOwner);

	ASSERT_EQ(taken.v, block.v + 77 * PAGE_SIZE) << "the cache gives back what came last";
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 1, block, kRwx), DENIED);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), kRwx, S2_ERROR), DENIED);
	for (u64 i = 0; i < 512; i++) {
		frame_put(hpa_add(block, i * PAGE_SIZE));
	}
}

// Frames of a fault's large leaf may be small: each goes back.
TEST_P(S2, a_large_leaf_of_small_frames_gives_each_back)
{
	hpa_t block = guest_block(9);

	frame_split(block, 0);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 1, block, kRwx), OK);
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK);
}

TEST_P(S2, skipping_leaves_no_hole)
{
	hpa_t old = map_block(MIB(2) + 7 * PAGE_SIZE, 0);
	hpa_t block = guest_block(9);

	frame_split(block, 0);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), kRwx, S2_SKIP), OK);
	for (u64 i = 0; i < 512; i++) {
		u64 to = i == 7 ? old.v : block.v + i * PAGE_SIZE;

		expect_maps(MIB(2) + i * PAGE_SIZE, to, "page");
	}
	frame_put(hpa_add(block, 7 * PAGE_SIZE));
}

TEST_P(S2, skipping_goes_around_a_large_leaf)
{
	hpa_t old = map_block(MIB(2), 1);
	hpa_t range = guest_block(11); // 8 MiB

	frame_split(range, 9);
	ASSERT_EQ(s2_map(&s2, gpa(0), range, MIB(8), kRwx, S2_SKIP), OK);
	expect_maps(0, range.v, "before");
	expect_maps(MIB(2) + 5, old.v + 5, "skipped");
	expect_maps(MIB(4), range.v + MIB(4), "behind");
	EXPECT_EQ(s2.stats.leaf_2m, 4u);
	frame_put(hpa_add(range, MIB(2)));
}

// A table with nothing in it is no mapping. (An open batch keeps it from going with its last
// entry.)
TEST_P(S2, upgrading_gives_no_permission_outside_of_the_range)
{
	hpa_t device = hpa(BIT(43));
	struct s2_batch batch;

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), device, MIB(2), {S2_READ, S2_NORMAL}, S2_ERROR), OK);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), device, 3 * PAGE_SIZE, {S2_RW, S2_NORMAL}, S2_UPGRADE),
		  EXISTS);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).attr.perm, S2_READ);
	// What it has already may be asked for of a part.
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), device, PAGE_SIZE, {S2_READ, S2_NORMAL}, S2_UPGRADE),
		  OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), device, 3 * PAGE_SIZE, {S2_RW, S2_NORMAL}, S2_UPGRADE),
		  OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2) + 2 * PAGE_SIZE)).attr.perm, S2_RW);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2) + 3 * PAGE_SIZE)).attr.perm, S2_READ);
}

TEST_P(S2, an_empty_table_is_not_in_the_way)
{
	struct s2_batch first, second;
	hpa_t block = guest_block(9);

	map_block(MIB(2), 0);
	map_block(MIB(2) + PAGE_SIZE, 0);
	s2_batch_open(&first, &s2);
	s2_batch_open(&second, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &first), OK);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2) + PAGE_SIZE), PAGE_SIZE, &second), OK);
	s2_batch_close(&second);
	s2_batch_close(&first);
	ASSERT_EQ(s2_query(&s2, gpa(MIB(2))).level, 0) << "the table is gone: this tests nothing";
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), kRwx, S2_ERROR), OK);
	for (u64 i = 0; i < 512; i++) {
		expect_maps(MIB(2) + i * PAGE_SIZE, block.v + i * PAGE_SIZE, "page");
	}
}

// Until the close nobody knows whether the place will be free: that is neither success nor
// "exists".
TEST_P(S2, mapping_where_an_epoch_is_open_says_look_again)
{
	struct s2_batch batch;
	hpa_t page = guest_block(0);

	map_block(MIB(2), 0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), page, PAGE_SIZE, kRwx, S2_ERROR), AGAIN);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), page, PAGE_SIZE, kRwx, S2_SKIP), AGAIN);
	s2_batch_close(&batch);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), page, PAGE_SIZE, kRwx, S2_ERROR), OK);
}

// The same frame at two addresses, each leaf with its reference; both go in one batch.
TEST_P(S2, a_frame_mapped_many_times_goes_back_once)
{
	constexpr u64 kTimes = 100;
	hpa_t page = guest_block(0);
	struct s2_batch batch;

	for (u64 i = 0; i < kTimes; i++) {
		if (i > 0) {
			frame_get(page);
		}
		ASSERT_EQ(s2_map(&s2, gpa(MIB(2) + i * PAGE_SIZE), page, PAGE_SIZE, kRwx, S2_ERROR),
			  OK);
	}
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), MIB(2), &batch), OK);
	EXPECT_GT(frame_of(page)->refs, 0u) << "nothing may be free before the close";
	s2_batch_close(&batch);
	EXPECT_EQ(frame_of(page)->type, FRAME_FREE);
	expect_nothing(MIB(2));
}

// Two spaces share a frame, and both let go of it before either has closed.
TEST_P(S2, a_frame_in_two_open_batches_goes_back_with_the_last)
{
	hpa_t page = guest_block(0), own = guest_block(0), other_own = guest_block(0);
	struct s2 other;
	struct s2_batch batch, other_batch;

	ASSERT_EQ(s2_init(&other, GetParam().format, 40, kOwner), OK);
	frame_get(page);
	ASSERT_EQ(s2_map(&s2, gpa(0), page, PAGE_SIZE, kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2_map(&s2, gpa(PAGE_SIZE), own, PAGE_SIZE, kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2_map(&other, gpa(0), page, PAGE_SIZE, kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2_map(&other, gpa(PAGE_SIZE), other_own, PAGE_SIZE, kRwx, S2_ERROR), OK);
	s2_batch_open(&batch, &s2);
	s2_batch_open(&other_batch, &other);
	// The shared one last, then first: lists through its entry would run into each other.
	ASSERT_EQ(s2_unmap(&s2, gpa(PAGE_SIZE), PAGE_SIZE, &batch), OK);
	ASSERT_EQ(s2_unmap(&s2, gpa(0), PAGE_SIZE, &batch), OK);
	ASSERT_EQ(s2_unmap(&other, gpa(0), 2 * PAGE_SIZE, &other_batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(frame_of(own)->type, FRAME_FREE);
	EXPECT_EQ(frame_of(other_own)->type, FRAME_GUEST);
	EXPECT_EQ(frame_of(page)->type, FRAME_GUEST);
	s2_batch_close(&other_batch);
	EXPECT_EQ(frame_of(page)->type, FRAME_FREE);
	s2_destroy(&other);
}

// A leaf may lie in several blocks of frames; each page that is left of them holds its own.
TEST_P(S2, a_split_divides_every_block_of_frames_in_the_leaf)
{
	hpa_t block = guest_block(9);

	frame_split(block, 8);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2_query(&s2, gpa(MIB(2))).level, 1);
	for (u64 page : {5, 300, 511}) {
		EXPECT_EQ(unmap(MIB(2) + page * PAGE_SIZE, PAGE_SIZE), OK);
	}
	EXPECT_EQ(frame_count(FRAME_GUEST), 509u);
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK);
	EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
}

// Another holder was there when the leaf was split, so the block of frames was not divided.
TEST_P(S2, a_fold_of_leaves_in_one_block_holds_it_once)
{
	hpa_t block = map_block(MIB(2), 1);
	struct s2_collapsed report;
	struct s2_batch batch;

	frame_get(block);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	s2_batch_close(&batch);
	frame_put(block);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(2)), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	ASSERT_EQ(s2_query(&s2, gpa(MIB(2))).level, 1);
	EXPECT_EQ(frame_of(block)->refs, 1u);
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK);
	EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
}

// A leaf may begin before the RAM that Lamina knows, and reach into it.
TEST_P(S2, frames_behind_the_edge_of_ram_go_back_too)
{
	static struct frame table[kMemory / PAGE_SIZE];
	u64 base = frame_table.base_pfn << PAGE_SHIFT, inside = base + MIB(1);

	s2_destroy(&s2);
	frame_init(hpa(inside), kMemory - MIB(1), table);
	frame_give(hpa(inside), hpa(base + kMemory));
	free_before = frame_count(FRAME_FREE);
	// Whichever block of that size comes first, the one at the edge is wanted.
	hpa_t half = guest_block(8);
	for (std::vector<hpa_t> others; half.v != inside || !others.empty();) {
		if (half.v == inside) {
			frame_put(others.back());
			others.pop_back();
		} else {
			others.push_back(half);
			half = guest_block(8);
			ASSERT_FALSE(hpa_is_none(half)) << "the block at the edge is lost";
		}
	}
	ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(base), MIB(2), kRwx, S2_ERROR), OK);
	EXPECT_EQ(s2.stats.leaf_2m, 1u);
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK);
	EXPECT_EQ(frame_of(half)->type, FRAME_FREE);
}

// As many CPUs as there are slots each have a batch open; one of them needs an invalidation at
// once.
TEST_P(S2, a_split_needs_no_slot_among_the_open_batches)
{
	struct s2_batch batches[S2_OPEN_MAX];

	map_block(MIB(2), 1);
	for (auto &batch : batches) {
		s2_batch_open(&batch, &s2);
	}
	EXPECT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batches[0]), OK);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &batches[1]), OK);
	for (auto &batch : batches) {
		s2_batch_close(&batch);
	}
	EXPECT_EQ(s2.stats.leaf_4k, 511u);
}

TEST_P(S2, a_split_leaf_that_was_not_used_stays_unused)
{
	struct s2_batch batch;
	struct s2_cursor c;

	map_block(MIB(2), 1);
	s2_cursor_start(&c, &s2, gpa(MIB(2)));
	s2_cursor_descend(&c, 0);
	ASSERT_TRUE(s2_entry_set(&c, c.entry & ~c.format->accessed, nullptr));
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	s2_batch_close(&batch);
	for (u64 i = 0; i < 512; i++) {
		EXPECT_FALSE(s2_query(&s2, gpa(MIB(2) + i * PAGE_SIZE)).accessed) << i;
	}
	EXPECT_EQ(s2_mark_accessed(&s2, gpa(MIB(2) + PAGE_SIZE)), OK);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2) + PAGE_SIZE)).accessed);
	EXPECT_FALSE(s2_query(&s2, gpa(MIB(2))).accessed);
}

// Both ends of a hole in one 1 GiB leaf: as many tables as are needed must do.
TEST_P(S2, unmapping_inside_a_leaf_takes_no_more_tables_than_it_needs)
{
	struct {
		u64 at, size;
		u64 tables;
	} holes[] = {
		{MIB(6) + PAGE_SIZE, PAGE_SIZE, 2},	     // one 2 MiB block is split
		{MIB(6) + PAGE_SIZE, MIB(2), 3},	     // two of them
		{MIB(6), MIB(2), 1},			     // none
		{MIB(6), MIB(2) + PAGE_SIZE, 2},	     // the one at the end
		{MIB(6) - PAGE_SIZE, MIB(2) + PAGE_SIZE, 2}, // the one at the start
	};

	for (auto &hole : holes) {
		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		ASSERT_EQ(s2_map(&s2, gpa(GIB(1)), hpa(1ull << 45), GIB(1), kRwx, S2_ERROR), OK);
		ASSERT_EQ(s2.stats.leaf_1g, 1u);
		fake_memory_leave(hole.tables - 1);
		EXPECT_EQ(unmap(GIB(1) + hole.at, hole.size), NOMEM);
		EXPECT_EQ(s2.stats.leaf_1g, 1u);
		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		ASSERT_EQ(s2_map(&s2, gpa(GIB(1)), hpa(1ull << 45), GIB(1), kRwx, S2_ERROR), OK);
		fake_memory_leave(hole.tables);
		EXPECT_EQ(unmap(GIB(1) + hole.at, hole.size), OK);
		expect_nothing(GIB(1) + hole.at);
		expect_nothing(GIB(1) + hole.at + hole.size - 1);
		expect_maps(GIB(1) + hole.at - 1, (1ull << 45) + hole.at - 1, "before");
		expect_maps(GIB(1) + hole.at + hole.size, (1ull << 45) + hole.at + hole.size,
			    "behind");
	}
	taken_for_good = frame_count(FRAME_HYP);
}

// A fault that was on its way when its table was unlinked finds its swap refused (I10).
TEST_P(S2, a_walker_in_an_unlinked_table_is_sent_back)
{
	for (bool whole : {true, false}) {
		struct s2_cursor late;
		hpa_t page = guest_block(0);

		map_block(MIB(2), 0);
		s2_cursor_start(&late, &s2, gpa(MIB(2) + 9 * PAGE_SIZE));
		s2_cursor_descend(&late, 0);
		ASSERT_EQ(late.level, 0u);
		ASSERT_EQ(unmap(MIB(2), whole ? MIB(2) : PAGE_SIZE), OK);
		EXPECT_FALSE(
			s2_entry_set(&late, s2_leaf_entry(late.format, page, kRwx, 0), nullptr));
		EXPECT_EQ(s2_entry_kind(late.format, late.entry, 0), S2_POISON);
		frame_put(page);
	}
}

TEST_P(S2, a_table_of_pages_goes_as_one_range)
{
	for (u64 i = 0; i < 512; i += 2) {
		map_block(MIB(2) + i * PAGE_SIZE, 0);
	}
	ASSERT_EQ(unmap(MIB(2), MIB(2)), OK);
	EXPECT_LE(s2.stats.flush_ranges, 2u) << "one for the table, one for the table above it";
	EXPECT_EQ(s2.stats.flush_whole, GetParam().broadcasts ? 0u : 1u);
}

// It could not go because of the other batch; what this one cleared in it is still not closed (I9).
TEST_P(S2, a_table_that_stays_keeps_its_cleared_entries_cleared)
{
	struct s2_batch other, own;
	hpa_t page = guest_block(0);

	map_block(MIB(2), 0);
	map_block(MIB(2) + PAGE_SIZE, 0);
	s2_batch_open(&other, &s2);
	s2_batch_open(&own, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2) + PAGE_SIZE), PAGE_SIZE, &other), OK);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &own), OK);
	ASSERT_EQ(s2_query(&s2, gpa(MIB(2))).level, 0) << "the table is gone: this tests nothing";
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 0, page, kRwx), AGAIN);
	s2_batch_close(&own);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 0, page, kRwx), OK);
	s2_batch_close(&other);
}

// A device's memory: no frames of the frame table.
const u64 kDevice = 1ull << 43;

TEST_P(S2, more_rights_for_part_of_a_block_do_not_come_to_all_of_it)
{
	const struct s2_attr ro = {S2_READ, S2_NORMAL}, rw = {S2_RW, S2_NORMAL};

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice), MIB(2), ro, S2_ERROR), OK);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice), PAGE_SIZE, rw, S2_UPGRADE), EXISTS);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(3)), hpa(kDevice + MIB(1)), MIB(1), rw, S2_UPGRADE), EXISTS);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).attr.perm, S2_READ);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice), PAGE_SIZE, ro, S2_UPGRADE), OK);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice), MIB(2), rw, S2_UPGRADE), OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4) - 1)).attr.perm, S2_RW);
}

TEST_P(S2, mapping_looks_into_tables_among_large_leaves)
{
	struct s2_batch batch;

	// A table at [4, 6) MiB, with one page that is in transit and one that stays.
	ASSERT_EQ(s2_map(&s2, gpa(MIB(4)), hpa(kDevice + MIB(4)), 2 * PAGE_SIZE, kRwx, S2_ERROR),
		  OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(4)), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice + MIB(2)), MIB(6), kRwx, S2_SKIP), AGAIN);
	expect_nothing(MIB(2));
	expect_nothing(MIB(6));
	s2_batch_close(&batch);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice + MIB(2)), MIB(6), kRwx, S2_UPGRADE), OK);
	for (u64 at = MIB(2); at < MIB(8); at += PAGE_SIZE) {
		expect_maps(at, kDevice + at, "filled");
	}
}

TEST_P(S2, what_is_mapped_behind_a_broken_block_has_frames_of_its_own)
{
	struct s2_batch split, all;
	hpa_t four;

	map_block(MIB(2), 1);
	s2_batch_open(&split, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &split), OK);
	s2_batch_open(&all, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), MIB(2), &all), OK);
	s2_batch_close(&all);
	four = guest_block(2);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2) + PAGE_SIZE), four, 4 * PAGE_SIZE, kRwx, S2_ERROR), OK);
	s2_batch_close(&split);
	EXPECT_EQ(frame_of(hpa_add(four, PAGE_SIZE))->order, 0);
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK);
}

TEST_P(S2, a_table_that_cannot_go_leaves_its_free_entries_free)
{
	struct s2_batch other, batch;

	map_block(MIB(2), 1);
	map_block(MIB(6), 1);
	s2_batch_open(&other, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(6)), MIB(2), &other), OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), MIB(2), &batch), OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).kind, S2_TRANSIT);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).kind, S2_EMPTY) << "nothing was ever here";
	s2_batch_close(&batch);
	s2_batch_close(&other);
}

struct s2_collapsed collapse(struct s2 *s2, u64 at)
{
	struct s2_collapsed report;
	struct s2_batch batch;

	s2_batch_open(&batch, s2);
	EXPECT_EQ(s2_collapse(s2, gpa(at), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	return report;
}

TEST_P(S2, what_was_unmapped_and_closed_is_a_hole_to_collapse)
{
	struct s2_batch batch;

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice), MIB(2), kRwx, S2_ERROR), OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(collapse(&s2, MIB(2)).why, S2_HAS_HOLES);
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK);
	EXPECT_EQ(collapse(&s2, MIB(2)).why, S2_HAS_HOLES);
}

TEST_P(S2, frames_on_both_sides_of_the_high_address_bits_are_misaligned)
{
	u64 carry = GetParam().format->address_high ? 1ull << 44 : kDevice;

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(carry - MIB(1)), MIB(2), kRwx, S2_ERROR), OK);
	EXPECT_EQ(collapse(&s2, MIB(2)).why, S2_MISALIGNED);
}

TEST_P(S2, a_harvest_goes_on_in_the_middle_of_a_table)
{
	for (u64 budget : {1, 2, 3, 100, 1000}) {
		struct s2_harvest h = {};
		u64 at = 0, end = GIB(1) + MIB(4);
		enum status status;

		ASSERT_EQ(
			s2_map(&s2, gpa(GIB(1)), hpa(kDevice + PAGE_SIZE), MIB(4), kRwx, S2_ERROR),
			OK);
		h.clear = true;
		do {
			h.budget = budget;
			status = s2_harvest(&s2, gpa(at), end - at, &h);
			ASSERT_GT(h.next, at) << "no step ahead with a budget of " << budget;
			at = h.next;
		} while (status == MORE);
		EXPECT_EQ(h.young_count, 1024u) << "with a budget of " << budget;
		ASSERT_EQ(unmap(GIB(1), MIB(4)), OK);
	}
}

// CPUs remember the block until the batch that split it is closed, and a hint at pages would spare
// it.
TEST_P(S2, while_another_batch_is_open_no_level_is_named)
{
	std::vector<unsigned> levels;
	struct s2_batch split, page;

	map_block(MIB(2), 1);
	fake_flush_hook = {
		.context = &levels,
		.range = [](void *context, const struct s2 *, gpa_t, u64, unsigned level) {
			static_cast<std::vector<unsigned> *>(context)->push_back(level);
		}};
	s2_batch_open(&split, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &split), OK);
	s2_batch_open(&page, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &page), OK);
	s2_batch_close(&page);
	s2_batch_close(&split);
	fake_flush_hook = {};
	if (GetParam().broadcasts) {
		EXPECT_EQ(levels, (std::vector<unsigned>{S2_LEVELS_MAX, 1}));
	}
}

// A page that is used again after a harvest by tables alone is young to the next: where no hardware
// marks tables, by the fault that the use takes.
TEST_P(S2, a_harvest_by_tables_watches_pages_anew)
{
	struct s2_harvest h = {};

	map_block(MIB(2), 0);
	h.clear = true;
	h.finest = 1;
	ASSERT_EQ(s2_harvest(&s2, gpa(MIB(2)), MIB(2), &h), OK);
	EXPECT_EQ(h.young_count, 1u);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).accessed, GetParam().format->accessed_table != 0);
	s2_mark_accessed(&s2, gpa(MIB(2)));
	ASSERT_EQ(s2_harvest(&s2, gpa(MIB(2)), MIB(2), &h), OK);
	EXPECT_EQ(h.young_count, GetParam().format->accessed_table ? 1u : 2u);
	h.finest = 2;
	EXPECT_EQ(s2_harvest(&s2, gpa(MIB(2)), MIB(2), &h), INVALID);
}

// A new leaf counts as used, so its first use takes no fault that would mark the tables above it.
// Where software marks tables; hardware's flag says only what hardware did.
TEST_P(S2, what_is_mapped_into_a_quiet_table_is_young)
{
	if (s2.format->accessed_table) {
		GTEST_SKIP() << "tables are marked by hardware";
	}
	for (u64 pages : {1, 2}) {
		struct s2_harvest h = {};

		map_block(MIB(2), 0);
		h.clear = true;
		ASSERT_EQ(s2_harvest(&s2, gpa(0), GIB(1), &h), OK);
		ASSERT_EQ(h.young_count, 1u);
		ASSERT_EQ(s2_map(&s2, gpa(MIB(2) + PAGE_SIZE), hpa(kDevice), pages * PAGE_SIZE,
				 kRwx, S2_ERROR),
			  OK);
		ASSERT_EQ(s2_map(&s2, gpa(MIB(4)), hpa(kDevice), PAGE_SIZE, kRwx, S2_ERROR), OK);
		ASSERT_EQ(s2_harvest(&s2, gpa(0), GIB(1), &h), OK);
		EXPECT_EQ(h.young_count, 2 + pages);
		ASSERT_EQ(unmap(0, GIB(1)), OK);
	}
}

TEST_P(S2, a_shared_block_that_is_split_and_folded_has_its_holders)
{
	hpa_t block = map_block(MIB(2), 1);
	struct s2_batch batch;

	frame_get(block);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(8)), block, MIB(2), kRwx, S2_ERROR), OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(frame_of(block)->refs, 513u);
	EXPECT_EQ(collapse(&s2, MIB(2)).why, S2_FOLDED);
	EXPECT_EQ(frame_of(block)->refs, 2u);
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK);
	EXPECT_EQ(frame_of(block)->refs, 1u);
}

// Whoever maps memory twice may write through both.
TEST_P(S2, an_upgrade_takes_no_rights_from_memory_that_is_mapped_twice)
{
	hpa_t block = map_block(MIB(2), 1);
	struct s2_attr attr = {};

	attr.perm = S2_RX;
	frame_get(block);
	s2_share_begin(&s2); // other memory is copied when it is written
	ASSERT_EQ(s2_map(&s2, gpa(MIB(8)), block, MIB(2), kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), attr, S2_UPGRADE), OK);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).attr.perm & S2_WRITE);
	EXPECT_FALSE(s2_query(&s2, gpa(MIB(2))).shared);
}

// Where memory is copied when it is written, more rights are write only to who is alone.
TEST_P(S2, an_upgrade_gives_write_to_the_last_holder_alone)
{
	hpa_t alone = guest_block(0), shared = guest_block(0);
	const struct s2_attr ro = {S2_READ, S2_NORMAL}, rw = {S2_RW, S2_NORMAL};

	s2_share_begin(&s2);
	frame_get(shared);
	ASSERT_EQ(s2_map(&s2, gpa(0), alone, PAGE_SIZE, ro, S2_ERROR), OK);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), shared, PAGE_SIZE, ro, S2_ERROR), OK);
	ASSERT_EQ(s2_map(&s2, gpa(0), alone, PAGE_SIZE, rw, S2_UPGRADE), OK);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), shared, PAGE_SIZE, rw, S2_UPGRADE), OK);
	EXPECT_EQ(s2_query(&s2, gpa(0)).attr.perm, S2_RW);
	EXPECT_FALSE(s2_query(&s2, gpa(0)).shared);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).attr.perm, S2_READ);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).shared);
	frame_put(shared);
}

// Device memory may lie among the frames of RAM: nobody counts who has it, and a split or a fold
// divides nothing there.
TEST_P(S2, device_memory_in_ram_has_no_holders)
{
	hpa_t block = guest_block(9);
	struct s2_collapsed report;

	frame_of(block)->type = FRAME_DEVICE;
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(8)), block, PAGE_SIZE, kRwx, S2_ERROR), OK);
	in_batch(&s2, [&](s2_batch *batch) { return s2_split(&s2, gpa(MIB(2)), 0, batch); });
	EXPECT_EQ(s2.stats.leaf_4k, 513u);
	in_batch(&s2, [&](s2_batch *batch) {
		return s2_collapse(&s2, gpa(MIB(2)), MIB(2), 1, batch, &report);
	});
	EXPECT_EQ(report.count[S2_FOLDED], 1u);
	EXPECT_EQ(frame_of(block)->order, 9);
	EXPECT_EQ(frame_of(block)->refs, 1u);
	EXPECT_EQ(unmap(0, MIB(16)), OK);
	EXPECT_EQ(frame_of(block)->type, FRAME_DEVICE) << "it is nobody's to give back";
	frame_of(block)->type = FRAME_GUEST;
	frame_put(block);
}

TEST_P(S2, memory_of_every_guest_may_be_mapped)
{
	hpa_t block = guest_block(9);

	frame_split(block, 8);
	for (hpa_t half : {block, hpa_add(block, MIB(1))}) {
		frame_retype(half, FRAME_SHARED, OWNER_NONE);
	}
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), block, MIB(2), kRwx, S2_ERROR), OK);
	expect_maps(MIB(3), block.v + MIB(1), "shared memory");
	EXPECT_EQ(unmap(MIB(2), MIB(2)), OK);
	EXPECT_EQ(frame_count(FRAME_SHARED), 0u);
}

// A block with a holder of its own is not divided among the leaves that come over it.
TEST_P(S2, a_held_block_is_not_divided)
{
	hpa_t block = guest_block(9);

	frame_get(block);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), block, PAGE_SIZE, kRwx, S2_ERROR), OK);
	EXPECT_EQ(frame_of(block)->order, 9);
	EXPECT_EQ(unmap(MIB(2), PAGE_SIZE), OK);
	EXPECT_EQ(frame_of(block)->refs, 1u);
	frame_put(block);
}

// More references than one word of a batch can count go back by several.
TEST_P(S2, a_frame_that_is_mapped_five_thousand_times_goes_back_once)
{
	hpa_t frame = guest_block(0);
	std::vector<hpa_t> frames(5000, frame);

	for (size_t i = 1; i < frames.size(); i++) {
		frame_get(frame);
	}
	ASSERT_EQ(s2_map_list(&s2, gpa(MIB(2)), frames.data(), frames.size(), kRwx, S2_ERROR), OK);
	EXPECT_EQ(frame_of(frame)->refs, 5000u);
	EXPECT_EQ(unmap(MIB(2), frames.size() * PAGE_SIZE), OK);
	EXPECT_EQ(frame_count(FRAME_GUEST), 0u);
}

// Ranges are invalidated one by one as long as that is cheaper than to forget all of the space.
TEST_P(S2, dear_ranges_are_invalidated_as_a_whole)
{
	// Neighbours, so that no table goes, which would be a range of its own.
	map_block(MIB(2) + PAGE_SIZE, 0);
	map_block(MIB(8) + PAGE_SIZE, 0);
	for (u64 cost : {S2_FLUSH_WHOLE_COST / 2, S2_FLUSH_WHOLE_COST / 2 + 1}) {
		u64 whole = s2.stats.flush_whole;

		map_block(MIB(2), 0);
		map_block(MIB(8), 0);
		fake_flush_cost = cost;
		in_batch(&s2, [&](s2_batch *batch) {
			EXPECT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, batch), OK);
			return s2_unmap(&s2, gpa(MIB(8)), PAGE_SIZE, batch);
		});
		fake_flush_cost = 4;
		EXPECT_EQ(s2.stats.flush_whole - whole,
			  GetParam().broadcasts ? cost > S2_FLUSH_WHOLE_COST / 2 : 1u);
	}
}

// Holders of the lock go on in a table that is to be folded: what they leave there is judged anew.
TEST_P(S2, a_fold_of_what_was_replaced_meanwhile_is_undone)
{
	struct s2_collapsed report;
	struct s2_batch fold, all;

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice), MIB(2), kRwx, S2_ERROR), OK);
	s2_batch_open(&fold, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &fold), OK);
	s2_batch_close(&fold);
	s2_batch_open(&fold, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(2)), MIB(2), 1, &fold, &report), OK);
	ASSERT_EQ(report.count[S2_FOLDED], 1u);
	s2_batch_open(&all, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), MIB(2), &all), OK);
	s2_batch_close(&all);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice + PAGE_SIZE), MIB(2), kRwx, S2_ERROR), OK);
	s2_batch_close(&fold);
	EXPECT_EQ(s2.stats.collapses_undone, 1u);
	expect_maps(MIB(2), kDevice + PAGE_SIZE, "misaligned");
	expect_maps(MIB(4) - PAGE_SIZE, kDevice + MIB(2), "misaligned");
}

// 16 KiB pages, whose level 2 has tables alone.
class S2Sizes : public S2Test
{
};
INSTANTIATE_TEST_SUITE_P(formats, S2Sizes,
			 ::testing::Values(S2Kind{"armv8_16k", &s2_armv8_16k, true}), s2_kind_name);

TEST_P(S2Sizes, a_level_without_leaves_is_refused)
{
	struct s2_collapsed report;
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(0), 2, hpa(0), kRwx), INVALID);
	EXPECT_EQ(s2_split(&s2, gpa(0), 2, &batch), INVALID);
	EXPECT_EQ(s2_split_range(&s2, gpa(0), MIB(32), 2, &batch), INVALID);
	EXPECT_EQ(s2_collapse(&s2, gpa(0), BIT(40), 2, &batch, &report), OK);
	EXPECT_EQ(report.why, S2_NO_SUCH_LEAF);
	s2_batch_close(&batch);
}

TEST(S2Widths, a_space_is_no_wider_than_an_entry_can_hold)
{
	struct s2 wide;

	fake_memory(MIB(1));
	for (const struct s2_format *five : {&s2_ept5, &s2_npt5}) {
		for (unsigned bits = 53; bits <= 57; bits++) {
			EXPECT_EQ(s2_init(&wide, five, bits, 1), INVALID) << bits;
		}
		ASSERT_EQ(s2_init(&wide, five, 52, 1), OK);
		s2_destroy(&wide);
	}
}

class S2Generations : public S2Test
{
};
INSTANTIATE_TEST_SUITE_P(formats, S2Generations, s2_kinds_without_broadcast(), s2_kind_name);

TEST_P(S2Generations, the_generation_reaches_a_cpu_that_comes_late)
{
	hpa_t out;

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
