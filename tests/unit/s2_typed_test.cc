// Typed entries: what is not mapped says where its bytes are, or that there are none.
#include "s2_test_machine.h"

#include <thread>
#include <vector>

namespace
{

class S2Typed : public S2Test
{
      protected:
	enum status set(u64 at, unsigned level, enum s2_kind kind, u64 payload)
	{
		return s2_set_typed(&s2, gpa(at), level, kind, payload, NULL);
	}

	enum status fill(u64 at, unsigned level, u64 payload, hpa_t frame)
	{
		return s2_fill_stored(&s2, gpa(at), level, payload, frame, kRwx);
	}

	void expect_typed(u64 at, unsigned level, enum s2_kind kind, u64 payload)
	{
		struct s2_leaf leaf = s2_query(&s2, gpa(at));

		EXPECT_EQ(leaf.kind, kind) << std::hex << at;
		EXPECT_EQ(leaf.level, level) << std::hex << at;
		EXPECT_EQ(leaf.payload, payload) << std::hex << at;
	}
};
INSTANTIATE_TEST_SUITE_P(formats, S2Typed, s2_kinds(), s2_kind_name);

TEST_P(S2Typed, a_typed_entry_is_read_back_and_translates_nothing)
{
	for (u64 payload : std::initializer_list<u64>{0, 1, BIT(47), BIT(48) - 1, 0x123456789abc}) {
		for (enum s2_kind kind : {S2_STORED, S2_MMIO}) {
			for (unsigned level : {0u, 1u, 2u}) {
				u64 at = GIB(1) * (level + 1), span = PAGE_SIZE << (9 * level);
				hpa_t result;

				EXPECT_EQ(set(at, level, kind, payload), OK);
				expect_typed(at, level, kind, payload);
				expect_typed(at + span - 1, level, kind, payload);
				EXPECT_EQ(fake_access(&s2, gpa(at), S2_READ, &result), FAKE_FAULT);
				EXPECT_FALSE(s2_validate(&s2, gpa(at), 1, 0));
				ASSERT_EQ(unmap(at, span), OK);
				expect_nothing(at);
			}
		}
	}
	EXPECT_EQ(s2.stats.leaf_4k + s2.stats.leaf_2m + s2.stats.leaf_1g, 0u);
}

TEST_P(S2Typed, nothing_is_typed_that_is_something_already)
{
	map_block(MIB(2), 0);
	EXPECT_EQ(set(MIB(2), 0, S2_MMIO, 1), EXISTS);
	EXPECT_EQ(set(MIB(2), 1, S2_MMIO, 1), EXISTS);
	EXPECT_EQ(set(MIB(4), 1, S2_MMIO, 1), OK);
	EXPECT_EQ(set(MIB(4), 1, S2_MMIO, 2), EXISTS);
	EXPECT_EQ(set(MIB(4), 0, S2_MMIO, 2), EXISTS);
	expect_typed(MIB(4), 1, S2_MMIO, 1);
}

TEST_P(S2Typed, nothing_is_mapped_where_a_typed_entry_is)
{
	hpa_t frame = guest_block(9);

	ASSERT_EQ(set(MIB(2), 1, S2_MMIO, 1), OK);
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), frame, MIB(2), kRwx, S2_ERROR), EXISTS);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2)), 1, frame, kRwx), EXISTS);
	EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(2) + PAGE_SIZE), 0, hpa(BIT(43)), kRwx), EXISTS);
	expect_typed(MIB(2), 1, S2_MMIO, 1);
	frame_put(frame);
}

TEST_P(S2Typed, a_typed_entry_is_no_gap_and_is_dumped)
{
	gpa_t gap;
	unsigned regions = 0;

	ASSERT_EQ(set(0, 2, S2_MMIO, 1), OK);
	ASSERT_EQ(s2_find_gap(&s2, gpa(0), gpa(GIB(4)), PAGE_SIZE, PAGE_SIZE, &gap), OK);
	EXPECT_EQ(gap.v, GIB(1));
	s2_dump(
		&s2, gpa(0), GIB(4),
		[](void *context, const struct s2_region *region) {
			EXPECT_EQ(region->kind, S2_MMIO);
			EXPECT_EQ(region->size, GIB(1));
			++*(unsigned *)context;
		},
		&regions);
	EXPECT_EQ(regions, 1u);
}

TEST_P(S2Typed, nonsense_is_invalid)
{
	EXPECT_EQ(set(0, 0, S2_EMPTY, 0), INVALID);
	EXPECT_EQ(set(0, 0, S2_LEAF, 0), INVALID);
	EXPECT_EQ(set(0, 0, S2_TRANSIT, 0), INVALID);
	EXPECT_EQ(set(0, 0, S2_BROKEN, 0), INVALID);
	EXPECT_EQ(set(0, 0, S2_STORED, BIT(48)), INVALID);
	EXPECT_EQ(set(PAGE_SIZE, 1, S2_STORED, 0), INVALID);
	EXPECT_EQ(set(1, 0, S2_STORED, 0), INVALID);
	EXPECT_EQ(set(0, s2.root_level + 1, S2_STORED, 0), INVALID);
	EXPECT_EQ(set(1ull << 40, 0, S2_STORED, 0), INVALID);
	expect_nothing(0);
}

// A page, a run and an end of a large entry go; what is around them still says the same.
TEST_P(S2Typed, unmapping_inside_of_a_large_entry_forgets_that_part_alone)
{
	for (unsigned level : {1u, 2u}) {
		u64 at = GIB(1) * level, span = PAGE_SIZE << (9 * level);

		ASSERT_EQ(set(at, level, S2_STORED, 77), OK);
		EXPECT_EQ(unmap(at + PAGE_SIZE, 3 * PAGE_SIZE), OK);
		EXPECT_EQ(unmap(at + span - PAGE_SIZE, PAGE_SIZE), OK);
		for (u64 page : {1, 2, 3, (int)(span / PAGE_SIZE) - 1}) {
			expect_nothing(at + page * PAGE_SIZE);
		}
		for (u64 page : {0, 4, 510, (int)(span / PAGE_SIZE) - 2}) {
			expect_typed(at + page * PAGE_SIZE, 0, S2_STORED, 77);
		}
		if (level == 2) {
			expect_typed(at + MIB(2), 1, S2_STORED, 77);
		}
	}
	EXPECT_EQ(s2.stats.splits, 0u);
}

TEST_P(S2Typed, protecting_over_a_large_entry_leaves_it_whole)
{
	struct s2_batch batch;
	u64 tables;

	ASSERT_EQ(set(MIB(2), 1, S2_STORED, 77), OK);
	tables = s2.stats.tables;
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_protect(&s2, gpa(MIB(2) + PAGE_SIZE), PAGE_SIZE, S2_READ, &batch), OK);
	EXPECT_EQ(s2_split_range(&s2, gpa(0), MIB(8), 0, &batch), OK);
	s2_batch_close(&batch);
	expect_typed(MIB(2), 1, S2_STORED, 77);
	EXPECT_EQ(s2.stats.tables, tables);
}

// The n-th table that is missing, for every n: all of the entry is still there.
TEST_P(S2Typed, without_memory_nothing_is_forgotten)
{
	for (u64 left = 0;; left++) {
		enum status status;

		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		ASSERT_EQ(set(0, 2, S2_STORED, 5), OK);
		ASSERT_EQ(set(GIB(1), 2, S2_MMIO, 6), OK);
		fake_memory_leave(left);
		EXPECT_EQ(set(GIB(2), 0, S2_STORED, 1), left < 2 ? NOMEM : OK);
		ASSERT_EQ(unmap(GIB(2), GIB(1)), OK);
		status = unmap(GIB(1) - PAGE_SIZE, 2 * PAGE_SIZE);
		if (status == OK) {
			EXPECT_EQ(left, 4u);
			break;
		}
		EXPECT_EQ(status, NOMEM);
		expect_typed(0, 2, S2_STORED, 5);
		expect_typed(GIB(1), 2, S2_MMIO, 6);
	}
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2Typed, a_stored_page_is_filled_by_whoever_knows_its_payload)
{
	hpa_t frame = guest_block(0);

	ASSERT_EQ(set(MIB(2), 0, S2_STORED, 5), OK);
	EXPECT_EQ(fill(MIB(2), 0, 6, frame), NOENT);
	EXPECT_EQ(fill(MIB(2) + PAGE_SIZE, 0, 5, frame), NOENT);
	EXPECT_EQ(fill(MIB(2), 0, 5, frame), OK);
	expect_maps(MIB(2), frame.v, "filled");
	EXPECT_EQ(s2.stats.leaf_4k, 1u);
	EXPECT_EQ(fill(MIB(2), 0, 5, hpa(BIT(43))), EXISTS);
	expect_maps(MIB(2), frame.v, "filled");
}

TEST_P(S2Typed, filling_is_checked_like_mapping)
{
	ASSERT_EQ(set(MIB(2), 0, S2_STORED, 5), OK);
	ASSERT_EQ(set(MIB(4), 0, S2_MMIO, 5), OK);
	EXPECT_EQ(fill(MIB(2), 0, 5, ptr_hpa(s2.root)), DENIED);
	EXPECT_EQ(fill(MIB(2), 0, 5, hpa(BIT(43) + 1)), INVALID);
	EXPECT_EQ(fill(MIB(2), 0, BIT(48) + 5, hpa(BIT(43))), INVALID);
	EXPECT_EQ(fill(MIB(2), 1, 5, hpa(BIT(43))), NOENT);
	EXPECT_EQ(fill(MIB(4), 0, 5, hpa(BIT(43))), NOENT);
	expect_typed(MIB(2), 0, S2_STORED, 5);
	expect_typed(MIB(4), 0, S2_MMIO, 5);
}

TEST_P(S2Typed, a_page_of_a_large_stored_entry_is_filled_after_a_split)
{
	hpa_t frame = guest_block(0);
	struct s2_batch batch;

	ASSERT_EQ(set(MIB(2), 1, S2_STORED, 5), OK);
	EXPECT_EQ(fill(MIB(2) + PAGE_SIZE, 0, 5, frame), NOENT);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_split(&s2, gpa(MIB(2) + PAGE_SIZE), 0, &batch), OK);
	// There is nothing to wait for.
	EXPECT_EQ(fill(MIB(2) + PAGE_SIZE, 0, 5, frame), OK);
	EXPECT_EQ(batch.entries, 0u);
	s2_batch_close(&batch);
	expect_maps(MIB(2) + PAGE_SIZE, frame.v, "filled");
	expect_typed(MIB(2), 0, S2_STORED, 5);
}

// Reclaim's way: no fault can come between the clearing of a page and what is said of it.
TEST_P(S2Typed, what_a_batch_clears_is_typed_before_its_close)
{
	struct s2_batch batch, other;
	u64 at = MIB(2) + 3 * PAGE_SIZE;

	map_block(at, 0);
	map_block(MIB(2), 0);
	s2_batch_open(&other, &s2);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(at), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(set(at, 0, S2_STORED, 9), AGAIN);
	EXPECT_EQ(s2_set_typed(&s2, gpa(at), 0, S2_STORED, 9, &other), AGAIN);
	EXPECT_EQ(s2_set_typed(&s2, gpa(at), 0, S2_STORED, 9, &batch), OK);
	expect_typed(at, 0, S2_STORED, 9);
	s2_batch_close(&batch);
	s2_batch_close(&other);
	expect_typed(at, 0, S2_STORED, 9);
	EXPECT_EQ(fill(at, 0, 9, guest_block(0)), OK);
}

TEST_P(S2Typed, a_table_with_typed_entries_in_it_stays)
{
	map_block(MIB(2), 0);
	ASSERT_EQ(set(MIB(2) + PAGE_SIZE, 0, S2_STORED, 1), OK);
	ASSERT_EQ(unmap(MIB(2), PAGE_SIZE), OK);
	expect_typed(MIB(2) + PAGE_SIZE, 0, S2_STORED, 1);
	u64 tables = s2.stats.tables;

	ASSERT_EQ(unmap(MIB(2) + PAGE_SIZE, PAGE_SIZE), OK);
	EXPECT_LT(s2.stats.tables, tables);
}

TEST_P(S2Typed, of_many_faults_on_a_stored_page_one_fills_it)
{
	constexpr unsigned kCpus = 4;
	constexpr u64 kPages = 64;
	std::vector<std::thread> cpus;
	unsigned filled[kCpus] = {};

	fake_cpus(kCpus);
	for (u64 i = 0; i < kPages; i++) {
		ASSERT_EQ(set(i * PAGE_SIZE, 0, S2_STORED, i), OK);
	}
	for (unsigned cpu = 0; cpu < kCpus; cpu++) {
		cpus.emplace_back([&, cpu] {
			fake_cpu_become(cpu);
			for (u64 i = 0; i < kPages; i++) {
				hpa_t frame = frame_alloc(0, FRAME_GUEST, kOwner);
				enum status status = fill(i * PAGE_SIZE, 0, i, frame);

				if (status == OK) {
					filled[cpu]++;
				} else {
					EXPECT_EQ(status, EXISTS);
					frame_put(frame);
				}
			}
		});
	}
	for (std::thread &cpu : cpus) {
		cpu.join();
	}
	fake_cpu_become(0);
	EXPECT_EQ(filled[0] + filled[1] + filled[2] + filled[3], kPages);
	EXPECT_EQ(s2.stats.leaf_4k, kPages);
}

// ---- s2_store: a page makes place for a STORED entry ------------------------------------------

class S2Store : public S2Typed
{
      protected:
	enum status store(u64 at, u64 payload, struct s2_batch *batch, struct s2_leaf *leaf)
	{
		return s2_store(&s2, gpa(at), payload, batch, leaf);
	}

	// In a batch of its own; the frame, which is the caller's then, is given back.
	enum status store_and_free(u64 at, u64 payload)
	{
		struct s2_leaf leaf = {};
		enum status status = in_batch(&s2, [&](struct s2_batch *batch) {
			return store(at, payload, batch, &leaf);
		});

		if (status == OK) {
			frame_put(leaf.hpa);
		}
		return status;
	}
};
INSTANTIATE_TEST_SUITE_P(formats, S2Store, s2_kinds(), s2_kind_name);

TEST_P(S2Store, the_frame_is_the_callers_and_the_entry_says_what_he_wants)
{
	hpa_t frame = map_block(MIB(2), 0);
	u64 rounds = s2.stats.batches;
	struct s2_leaf leaf = {};
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	ASSERT_EQ(store(MIB(2), 77, &batch, &leaf), OK);
	EXPECT_EQ(leaf.hpa.v, frame.v);
	expect_typed(MIB(2), 0, S2_STORED, 77);
	EXPECT_EQ(s2.stats.leaf_4k, 0u);
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.batches, rounds + 1);
	expect_typed(MIB(2), 0, S2_STORED, 77);
	EXPECT_TRUE(frame_put(frame)) << "nobody else has it";
}

// The fake TLB reads the fake format alone.
class S2StoreTlb : public S2Store
{
};
INSTANTIATE_TEST_SUITE_P(formats, S2StoreTlb, s2_kinds_without_broadcast(), s2_kind_name);

// What a CPU remembers it uses until the close, and no longer (I1).
TEST_P(S2StoreTlb, until_the_close_the_frame_may_be_in_use)
{
	hpa_t frame = map_block(MIB(2), 0), result = {};
	struct s2_leaf leaf = {};
	struct s2_batch batch;

	s2_mark_accessed(&s2, gpa(MIB(2)));
	ASSERT_EQ(fake_access(&s2, gpa(MIB(2)), S2_WRITE, &result), FAKE_OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(store(MIB(2), 1, &batch, &leaf), OK);
	EXPECT_TRUE(leaf.accessed);
	EXPECT_EQ(fake_access(&s2, gpa(MIB(2)), S2_WRITE, &result), FAKE_OK);
	s2_batch_close(&batch);
	s2_entering(&s2);
	s2_left(&s2);
	EXPECT_EQ(fake_access(&s2, gpa(MIB(2)), S2_WRITE, &result), FAKE_FAULT);
	frame_put(frame);
}

// A fault wants it back, before the close or after it: the same frame, at once (I9).
TEST_P(S2Store, the_same_frame_may_be_filled_in_at_any_time)
{
	hpa_t frame = map_block(MIB(2), 0);
	struct s2_leaf leaf = {};
	struct s2_batch batch;

	s2_batch_open(&batch, &s2);
	ASSERT_EQ(store(MIB(2), 1, &batch, &leaf), OK);
	EXPECT_EQ(fill(MIB(2), 0, 1, frame), OK);
	s2_batch_close(&batch);
	expect_maps(MIB(2), frame.v, "rescued before the close");

	s2_batch_open(&batch, &s2);
	ASSERT_EQ(store(MIB(2), 2, &batch, &leaf), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(fill(MIB(2), 0, 2, frame), OK);
	expect_maps(MIB(2), frame.v, "rescued after it");
}

TEST_P(S2Store, many_pages_in_any_order_are_one_round)
{
	struct s2_leaf leaf[64] = {};
	struct s2_batch batch;
	u64 rounds;

	for (u64 i = 0; i < 64; i++) {
		map_block(MIB(2) + i * PAGE_SIZE, 0);
	}
	rounds = s2.stats.batches;
	s2_batch_open(&batch, &s2);
	for (u64 i = 0; i < 64; i++) {
		u64 page = i * 37 % 64;

		ASSERT_EQ(store(MIB(2) + page * PAGE_SIZE, i, &batch, &leaf[i]), OK);
	}
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.batches, rounds + 1);
	for (auto &one : leaf) {
		frame_put(one.hpa);
	}
}

TEST_P(S2Store, what_is_no_single_page_of_its_own_is_refused)
{
	hpa_t frame, block;

	EXPECT_EQ(store_and_free(MIB(2), 1), NOENT) << "nothing there";
	block = map_block(MIB(4), 1);
	EXPECT_EQ(store_and_free(MIB(4), 1), NOENT) << "a large leaf";
	expect_maps(MIB(4), block.v, "still there");
	ASSERT_EQ(s2_map(&s2, gpa(MIB(6)), hpa(BIT(39)), PAGE_SIZE, kRwx, S2_ERROR), OK);
	EXPECT_EQ(store_and_free(MIB(6), 1), DENIED) << "nobody's memory";
	frame = map_block(MIB(8), 0);
	frame_get(frame);
	EXPECT_EQ(store_and_free(MIB(8), 1), DENIED) << "another holder";
	frame_put(frame);
	EXPECT_EQ(store_and_free(MIB(8), BIT(48)), INVALID);
	EXPECT_EQ(store_and_free(MIB(8) + 1, 1), INVALID);
	EXPECT_EQ(store_and_free(1ull << 40, 1), INVALID);
	EXPECT_EQ(store_and_free(MIB(8), 1), OK);
	EXPECT_EQ(store_and_free(MIB(8), 1), NOENT) << "stored already";
}

// A sender of written pages would not hear of it.
TEST_P(S2Store, while_writes_are_logged_nothing_is_taken)
{
	hpa_t frame = map_block(MIB(2), 0);

	ASSERT_EQ(in_batch(&s2, [&](struct s2_batch *b) { return s2_dirty_start(&s2, b); }), OK);
	EXPECT_EQ(store_and_free(MIB(2), 1), DENIED);
	expect_maps(MIB(2), frame.v, "logged");
	s2_dirty_stop(&s2);
	EXPECT_EQ(store_and_free(MIB(2), 1), OK);
}

TEST_P(S2Store, what_another_batch_has_open_is_waited_for)
{
	struct s2_batch batch;

	map_block(MIB(2), 0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(store_and_free(MIB(2), 1), AGAIN);
	s2_batch_close(&batch);
	EXPECT_EQ(store_and_free(MIB(2), 1), NOENT);
}

} // namespace
