// Protect, budgets, lists of frames, upgrades, and what a batch promises about its pieces.
#include "s2_test_machine.h"

#include <vector>

namespace
{

class S2Range : public S2Test
{
      protected:
	struct s2_attr attr_at(u64 at)
	{
		return s2_query(&s2, gpa(at)).attr;
	}

	enum status protect(u64 at, u64 size, u8 perm)
	{
		return protect_of(&s2, at, size, perm);
	}

	// Frames outside the frame table: as many as one likes.
	void map_device(u64 at, u64 size, u64 shift = 0)
	{
		ASSERT_EQ(s2_map(&s2, gpa(at), hpa(kDevice + at + shift), size, kRwx, S2_ERROR),
			  OK);
	}

	static constexpr u64 kDevice = 1ull << 43;
};
INSTANTIATE_TEST_SUITE_P(formats, S2Range, s2_kinds(), s2_kind_name);

TEST_P(S2Range, protect_changes_permissions_and_nothing_else)
{
	map_device(MIB(2), MIB(2), PAGE_SIZE);
	EXPECT_EQ(protect(MIB(2), MIB(2), S2_RX), OK);
	for (u64 at = MIB(2); at < MIB(4); at += PAGE_SIZE) {
		struct s2_leaf leaf = s2_query(&s2, gpa(at));

		ASSERT_EQ(leaf.kind, S2_LEAF);
		EXPECT_EQ(leaf.attr.perm, S2_RX);
		EXPECT_EQ(leaf.attr.memory, S2_NORMAL);
		EXPECT_EQ(leaf.hpa.v, kDevice + at + PAGE_SIZE);
	}
	EXPECT_EQ(protect(MIB(2), MIB(2), S2_RWX), OK);
	EXPECT_EQ(attr_at(MIB(2)).perm, S2_RWX);
}

TEST_P(S2Range, protect_splits_what_sticks_out)
{
	map_device(MIB(2), MIB(6));
	EXPECT_EQ(protect(MIB(3), MIB(4), S2_READ), OK);
	EXPECT_EQ(attr_at(MIB(3) - 1).perm, S2_RWX);
	EXPECT_EQ(attr_at(MIB(3)).perm, S2_READ);
	EXPECT_EQ(attr_at(MIB(7) - 1).perm, S2_READ);
	EXPECT_EQ(attr_at(MIB(7)).perm, S2_RWX);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).level, 1) << "a block inside the range stays whole";
	EXPECT_EQ(s2.stats.splits, 2u);
}

TEST_P(S2Range, protect_is_one_round_however_many_pages)
{
	u64 rounds = s2.stats.batches;

	map_device(0, MIB(64), PAGE_SIZE);
	EXPECT_EQ(protect(0, MIB(64), S2_READ), OK);
	EXPECT_EQ(s2.stats.batches, rounds + 1);
}

TEST_P(S2Range, protect_that_changes_nothing_asks_for_no_invalidation)
{
	u64 rounds = s2.stats.batches;

	map_device(0, MIB(4), PAGE_SIZE);
	EXPECT_EQ(protect(0, MIB(4), S2_RWX), OK);
	EXPECT_EQ(protect(MIB(8), MIB(4), S2_READ), OK) << "nothing is mapped there";
	EXPECT_EQ(s2.stats.batches, rounds);
}

TEST_P(S2Range, after_the_close_no_cpu_writes_what_may_only_be_read)
{
	hpa_t out;

	map_block(MIB(2), 1);
	s2_entering(&s2);
	ASSERT_EQ(fake_access(&s2, gpa(MIB(2) + 9), S2_WRITE, &out), FAKE_OK);
	s2_left(&s2);
	EXPECT_EQ(protect(MIB(2), MIB(2), S2_READ), OK);
	s2_entering(&s2);
	EXPECT_EQ(fake_access(&s2, gpa(MIB(2) + 9), S2_WRITE, &out), FAKE_FAULT);
	EXPECT_EQ(fake_access(&s2, gpa(MIB(2) + 9), S2_READ, &out), FAKE_OK);
	s2_left(&s2);
}

TEST_P(S2Range, what_a_format_cannot_say_is_invalid)
{
	unsigned refused = 0;

	map_device(0, PAGE_SIZE);
	for (unsigned perm = 0; perm < 256; perm++) {
		bool can = perm <= S2_RWX && (GetParam().format->perms >> perm & 1);
		struct s2_attr attr = {(u8)perm, S2_NORMAL};

		EXPECT_EQ(protect(0, PAGE_SIZE, (u8)perm), can ? OK : INVALID) << perm;
		EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice), MIB(2), attr, S2_ERROR),
			  can ? OK : INVALID);
		EXPECT_EQ(s2_map(&s2, gpa(MIB(4)), hpa(kDevice), PAGE_SIZE, attr, S2_ERROR),
			  can ? OK : INVALID);
		EXPECT_EQ(s2_map_leaf(&s2, gpa(MIB(6)), 0, hpa(kDevice), attr), can ? OK : INVALID);
		unmap(MIB(2), MIB(8));
		refused += !can;
	}
	EXPECT_GT(refused, 200u);
	EXPECT_EQ(
		s2_map(&s2, gpa(MIB(2)), hpa(kDevice), MIB(2), {S2_RWX, S2_MEMORY_TYPES}, S2_ERROR),
		INVALID);
}

TEST_P(S2Range, protect_without_memory_for_a_split_changes_nothing)
{
	hpa_t block = map_block(MIB(4), 1);

	fake_memory_leave(0);
	EXPECT_EQ(protect(MIB(4) + PAGE_SIZE, PAGE_SIZE, S2_READ), NOMEM);
	EXPECT_EQ(protect(MIB(4) + PAGE_SIZE, MIB(3), S2_READ), NOMEM);
	EXPECT_EQ(attr_at(MIB(4) + PAGE_SIZE).perm, S2_RWX);
	expect_maps(MIB(4), block.v, "kept");
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2Range, unmap_may_be_allowed_to_take_the_whole_leaf)
{
	struct s2_batch batch;

	map_device(MIB(2), MIB(8));
	fake_memory_leave(0);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(3)), MIB(4), &batch), NOMEM);
	batch.enlarge = true;
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(3)), MIB(4), &batch), OK);
	s2_batch_close(&batch);
	expect_nothing(MIB(2));
	expect_nothing(MIB(8) - 1);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(8))).kind, S2_LEAF) << "the next leaf was not touched";
	s2_batch_open(&batch, &s2);
	batch.enlarge = true;
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(9)), PAGE_SIZE, &batch), OK);
	s2_batch_close(&batch);
	expect_nothing(MIB(8));
	taken_for_good = frame_count(FRAME_HYP);
}

// With memory for some of the tables less goes than with none: what the last one left whole.
TEST_P(S2Range, unmap_takes_no_more_of_a_leaf_than_it_has_no_tables_for)
{
	struct s2_batch batch;

	map_device(GIB(1), GIB(1));
	fake_memory_leave(1);
	s2_batch_open(&batch, &s2);
	batch.enlarge = true;
	EXPECT_EQ(s2_unmap(&s2, gpa(GIB(1) + MIB(5)), MIB(2), &batch), OK);
	s2_batch_close(&batch);
	expect_nothing(GIB(1) + MIB(4));
	expect_nothing(GIB(1) + MIB(8) - 1);
	EXPECT_EQ(s2.stats.leaf_2m, 510u);
	EXPECT_EQ(s2_query(&s2, gpa(GIB(1) + MIB(8))).level, 1);
	taken_for_good = frame_count(FRAME_HYP);
}

// ---- Budgets ---------------------------------------------------------------------------------

TEST_P(S2Range, a_budget_stops_an_operation_and_it_goes_on)
{
	struct s2_batch batch;
	unsigned calls = 0;
	u64 at = MIB(2), end = MIB(10);

	map_device(at, end - at, PAGE_SIZE);
	s2_batch_open(&batch, &s2);
	for (enum status status = MORE; status == MORE; calls++) {
		batch.budget = 100;
		status = s2_protect(&s2, gpa(at), end - at, S2_READ, &batch);
		ASSERT_TRUE(status == MORE || status == OK);
		ASSERT_LE(batch.next, at + 100 * PAGE_SIZE);
		ASSERT_GT(batch.next, at);
		EXPECT_EQ(attr_at(batch.next - PAGE_SIZE).perm, S2_READ);
		if (status == MORE) {
			EXPECT_EQ(attr_at(batch.next).perm, S2_RWX);
		}
		at = batch.next;
	}
	s2_batch_close(&batch);
	EXPECT_EQ(at, end);
	EXPECT_EQ(calls, 21u) << "2,048 entries, 100 a call";
	EXPECT_EQ(s2.stats.batches, 1u);
}

TEST_P(S2Range, unmap_in_small_steps_leaves_nothing)
{
	struct s2_batch batch;
	u64 at = MIB(2), end = MIB(10);

	map_device(at, end - at, PAGE_SIZE);
	map_device(GIB(1), MIB(2));
	s2_batch_open(&batch, &s2);
	for (enum status status = MORE; status == MORE;) {
		batch.budget = 7;
		status = s2_unmap(&s2, gpa(at), end - at, &batch);
		ASSERT_TRUE(status == MORE || status == OK);
		at = batch.next;
	}
	batch.budget = 0;
	EXPECT_EQ(s2_unmap(&s2, gpa(GIB(1)), MIB(2), &batch), MORE) << "nothing is left of it";
	EXPECT_EQ(batch.next, GIB(1));
	EXPECT_EQ(s2_unmap(&s2, gpa(GIB(1)), PAGE_SIZE, &batch), MORE);
	batch.budget = ~0ull;
	EXPECT_EQ(s2_unmap(&s2, gpa(GIB(1)), MIB(2), &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.leaf_4k + s2.stats.leaf_2m, 0u);
	EXPECT_EQ(s2.stats.tables, tables_at_start);
}

TEST_P(S2Range, a_range_is_split_in_steps)
{
	struct s2_batch batch;
	u64 at = 0, calls = 0;

	map_device(0, MIB(16));
	s2_batch_open(&batch, &s2);
	for (enum status status = MORE; status == MORE; calls++) {
		batch.budget = 600;
		status = s2_split_range(&s2, gpa(at), MIB(16) - at, 0, &batch);
		ASSERT_TRUE(status == MORE || status == OK);
		at = batch.next;
	}
	s2_batch_close(&batch);
	EXPECT_GT(calls, 2u);
	EXPECT_EQ(s2.stats.leaf_4k, 4096u);
	EXPECT_EQ(s2.stats.leaf_2m, 0u);
	EXPECT_EQ(s2.stats.batches, 1u);
	for (u64 page = 0; page < MIB(16); page += PAGE_SIZE) {
		expect_maps(page, kDevice + page, "split");
	}
}

TEST_P(S2Range, a_large_leaf_is_split_all_the_way_at_once)
{
	struct s2_batch batch;

	map_device(GIB(1), GIB(1));
	ASSERT_EQ(s2_query(&s2, gpa(GIB(1))).level, 2);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_split_range(&s2, gpa(GIB(1)), GIB(1), 1, &batch), OK);
	EXPECT_EQ(s2_split(&s2, gpa(GIB(1) + MIB(5)), 0, &batch), OK) << "below what is pending";
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.leaf_2m, 511u);
	EXPECT_EQ(s2.stats.leaf_4k, 512u);
	EXPECT_EQ(s2.stats.batches, 1u);
	for (u64 at = GIB(1); at < GIB(2); at += MIB(1)) {
		expect_maps(at, kDevice + at, "split");
	}
}

TEST_P(S2Range, splitting_without_memory_says_how_far_it_came)
{
	struct s2_batch batch;

	map_device(0, MIB(16));
	fake_memory_leave(3);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_split_range(&s2, gpa(0), MIB(16), 0, &batch), NOMEM);
	EXPECT_EQ(batch.next, MIB(6));
	s2_batch_close(&batch);
	for (u64 page = 0; page < MIB(16); page += PAGE_SIZE) {
		expect_maps(page, kDevice + page, "kept");
	}
	taken_for_good = frame_count(FRAME_HYP);
}

// ---- What is broken until the close ----------------------------------------------------------

TEST_P(S2Range, a_split_block_waits_for_the_close_and_its_batch_may_go_on_in_it)
{
	struct s2_batch batch;
	hpa_t block = map_block(MIB(2), 1);

	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(2) + 7 * PAGE_SIZE), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(s2_protect(&s2, gpa(MIB(3)), MIB(1), S2_READ, &batch), OK);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(3))).kind, S2_TRANSIT) << "a fault would wait";
	EXPECT_EQ(s2_mark_accessed(&s2, gpa(MIB(3))), NOENT);
	s2_batch_close(&batch);
	expect_nothing(MIB(2));
	expect_nothing(MIB(2) + 7 * PAGE_SIZE);
	expect_maps(MIB(2) + PAGE_SIZE, block.v + PAGE_SIZE, "sibling");
	EXPECT_EQ(attr_at(MIB(2) + PAGE_SIZE).perm, S2_RWX);
	EXPECT_EQ(attr_at(MIB(3)).perm, S2_READ);
	EXPECT_EQ(s2.stats.batches, 1u);
	EXPECT_EQ(s2.stats.splits, 1u);
}

TEST_P(S2Range, another_batch_may_work_in_a_block_that_is_split)
{
	struct s2_batch first, second;
	hpa_t block = map_block(MIB(2), 1);

	s2_batch_open(&first, &s2);
	s2_batch_open(&second, &s2);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &first), OK);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(3)), PAGE_SIZE, &second), OK);
	s2_batch_close(&second);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(3) + PAGE_SIZE)).kind, S2_TRANSIT);
	s2_batch_close(&first);
	expect_nothing(MIB(2));
	expect_nothing(MIB(3));
	expect_maps(MIB(3) + PAGE_SIZE, block.v + MIB(1) + PAGE_SIZE, "sibling");
}

// What a TLB has of the block is of the block's level, although the table below it is of pages.
TEST_P(S2Range, a_page_of_a_block_that_is_split_is_forgotten_at_any_level)
{
	struct s2_batch first, second;
	static unsigned levels;
	struct fake_flush_hook before = fake_flush_hook;

	if (!GetParam().broadcasts) {
		GTEST_SKIP() << "no invalidation names a level here";
	}
	map_block(MIB(2), 1);
	s2_batch_open(&first, &s2);
	s2_batch_open(&second, &s2);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &first), OK);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(3)), PAGE_SIZE, &second), OK);
	levels = 0;
	fake_flush_hook.range = [](void *, const struct s2 *, gpa_t, u64, unsigned level) {
		levels |= 1u << level;
	};
	s2_batch_close(&second);
	EXPECT_EQ(levels, 1u << S2_LEVELS_MAX);
	fake_flush_hook = before;
	s2_batch_close(&first);
}

// The box for shared frames is smaller than a run: no frame goes before all CPUs forgot it.
TEST_P(S2Range, shared_frames_of_a_long_run_go_back_after_their_invalidation)
{
	constexpr u64 kFrames = 3 * S2_BATCH_SHARED;
	hpa_t frames[kFrames], out;
	struct s2_batch batch;
	static bool stale;

	for (u64 i = 0; i < kFrames; i++) {
		frames[i] = guest_block(0);
		frame_get(frames[i]);
	}
	ASSERT_EQ(s2_map_list(&s2, gpa(0), frames, kFrames, kRwx, S2_ERROR), OK);
	s2_entering(&s2);
	for (u64 i = 0; i < kFrames; i++) {
		ASSERT_EQ(fake_access(&s2, gpa(i * PAGE_SIZE), S2_READ, &out), FAKE_OK);
	}
	s2_left(&s2);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_unmap(&s2, gpa(0), kFrames * PAGE_SIZE, &batch), OK);
	stale = false;
	s2_entering(&s2);
	for (u64 i = 0; i < kFrames; i++) {
		if (frame_of(frames[i])->refs == 1) { // the leaf's reference has gone back
			stale |= fake_access(&s2, gpa(i * PAGE_SIZE), S2_READ, &out) == FAKE_OK;
		}
	}
	s2_left(&s2);
	EXPECT_FALSE(stale);
	s2_batch_close(&batch);
	for (hpa_t frame : frames) {
		EXPECT_TRUE(frame_put(frame));
	}
}

TEST_P(S2Range, a_split_block_may_go_whole_before_the_close)
{
	struct s2_batch batch;

	map_block(MIB(2), 1);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(s2_unmap(&s2, gpa(0), MIB(4), &batch), OK);
	s2_batch_close(&batch);
	expect_nothing(MIB(2));
	expect_nothing(MIB(3));
	EXPECT_EQ(s2.stats.leaf_4k + s2.stats.leaf_2m, 0u);
	EXPECT_EQ(s2.stats.tables, tables_at_start);
}

TEST_P(S2Range, a_cpu_that_changes_sizes_at_once_needs_no_break)
{
	struct s2_batch batch;
	hpa_t block = map_block(MIB(2), 1);

	s2.traits |= S2_SIZE_CHANGE;
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	expect_maps(MIB(2) + PAGE_SIZE, block.v + PAGE_SIZE, "not a moment away");
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).level, 0);
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.batches, 1u) << "the block's translation goes all the same";
}

TEST_P(S2Range, walkers_that_do_not_snoop_get_each_line_once)
{
	struct s2_batch batch;

	s2.traits |= S2_NONCOHERENT;
	map_device(MIB(2), MIB(2), PAGE_SIZE);
	fake_lines_cleaned = 0;
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_protect(&s2, gpa(MIB(2)), MIB(1), S2_READ, &batch), OK);
	EXPECT_EQ(fake_lines_cleaned, 256u * 8 / FAKE_LINE);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(3)), 8 * PAGE_SIZE, &batch), OK);
	EXPECT_EQ(fake_lines_cleaned, 256u * 8 / FAKE_LINE + 1);
	EXPECT_EQ(s2_unmap(&s2, gpa(MIB(3) + MIB(1) / 2), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(fake_lines_cleaned, 256u * 8 / FAKE_LINE + 2);
	s2_batch_close(&batch);
}

// ---- Lists and upgrades ------------------------------------------------------------------------

TEST_P(S2Range, a_list_of_frames_is_mapped_page_by_page)
{
	std::vector<hpa_t> frames;

	for (u64 i = 0; i < 1000; i++) {
		frames.push_back(i % 3 ? hpa(kDevice + i * 7 * PAGE_SIZE) : guest_block(0));
	}
	ASSERT_EQ(s2_map_list(&s2, gpa(MIB(1)), frames.data(), frames.size(), kRwx, S2_ERROR), OK);
	for (u64 i = 0; i < frames.size(); i++) {
		expect_maps(MIB(1) + i * PAGE_SIZE, frames[i].v, "list");
	}
	EXPECT_EQ(s2.stats.leaf_4k, 1000u);
	EXPECT_EQ(unmap(MIB(1), 1000 * PAGE_SIZE), OK);
}

TEST_P(S2Range, a_list_with_a_bad_frame_maps_nothing)
{
	hpa_t good = guest_block(0), own = ptr_hpa(hyp_alloc(PAGE_SIZE));
	hpa_t denied[] = {good, own}, crooked[] = {good, hpa(kDevice + 1)};

	EXPECT_EQ(s2_map_list(&s2, gpa(0), denied, 2, kRwx, S2_ERROR), DENIED);
	EXPECT_EQ(s2_map_list(&s2, gpa(0), crooked, 2, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map_list(&s2, gpa(0), crooked, 0, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map_list(&s2, gpa(0), crooked, ~0ull >> 12, kRwx, S2_ERROR), INVALID);
	EXPECT_EQ(s2_map_list(&s2, gpa(0), &good, BIT(52) + 1, kRwx, S2_ERROR), INVALID);
	expect_nothing(0);
	frame_put(good);
	hyp_free(hpa_ptr(own));
}

TEST_P(S2Range, a_list_skips_exactly_what_is_mapped)
{
	hpa_t there = map_block(2 * PAGE_SIZE, 0);
	hpa_t frames[5];

	for (u64 i = 0; i < 5; i++) {
		frames[i] = hpa(kDevice + i * 3 * PAGE_SIZE);
	}
	EXPECT_EQ(s2_map_list(&s2, gpa(0), frames, 5, kRwx, S2_ERROR), EXISTS);
	expect_nothing(0);
	EXPECT_EQ(s2_map_list(&s2, gpa(0), frames, 5, kRwx, S2_SKIP), OK);
	expect_maps(2 * PAGE_SIZE, there.v, "was there");
	expect_maps(3 * PAGE_SIZE, frames[3].v, "list");
}

TEST_P(S2Range, an_upgrade_adds_rights_to_the_same_frames_alone)
{
	u64 rounds = s2.stats.batches;

	ASSERT_EQ(s2_map(&s2, gpa(0), hpa(kDevice), MIB(4), {S2_READ, S2_NORMAL}, S2_ERROR), OK);
	unmap(MIB(1), PAGE_SIZE);
	rounds = s2.stats.batches;
	EXPECT_EQ(s2_map(&s2, gpa(0), hpa(kDevice), MIB(4), {S2_RW, S2_NORMAL}, S2_UPGRADE), OK);
	for (u64 at = 0; at < MIB(4); at += PAGE_SIZE) {
		ASSERT_EQ(attr_at(at).perm, S2_RW) << std::hex << at;
		expect_maps(at, kDevice + at, "upgraded");
	}
	EXPECT_EQ(s2_map(&s2, gpa(0), hpa(kDevice), MIB(4), {S2_READ, S2_NORMAL}, S2_UPGRADE), OK);
	EXPECT_EQ(attr_at(0).perm, S2_RW) << "an upgrade takes nothing away";
	EXPECT_EQ(s2.stats.batches, rounds + GetParam().broadcasts)
		<< "a TLB may keep what it faulted on, where faults forget nothing";
	EXPECT_EQ(s2_map(&s2, gpa(MIB(2)), hpa(kDevice), MIB(2), kRwx, S2_UPGRADE), EXISTS)
		<< "other frames";
	EXPECT_EQ(attr_at(MIB(2)).perm, S2_RW);
}

TEST_P(S2Range, an_upgrade_of_a_list_looks_at_each_frame)
{
	hpa_t frames[3] = {hpa(kDevice + MIB(2)), hpa(kDevice + MIB(2) + PAGE_SIZE),
			   hpa(kDevice + MIB(2) + 3 * PAGE_SIZE)};

	map_device(MIB(2), MIB(2)); // one block
	EXPECT_EQ(s2_map_list(&s2, gpa(MIB(2)), frames, 2, kRwx, S2_UPGRADE), OK);
	EXPECT_EQ(s2_map_list(&s2, gpa(MIB(2)), frames, 3, kRwx, S2_UPGRADE), EXISTS);
}

// Which leaves a batch asked every TLB to forget.
struct Forgotten {
	u64 start, end;
	bool of_level_1;
	void note(u64 first, u64 size, unsigned level)
	{
		start = first < start ? first : start;
		end = first + size > end ? first + size : end;
		of_level_1 |= level >= 1;
	}
	static void range(void *self, const struct s2 *, gpa_t at, u64 size, unsigned level)
	{
		static_cast<Forgotten *>(self)->note(at.v, size, level);
	}
	static void space(void *self, const struct s2 *)
	{
		static_cast<Forgotten *>(self)->note(0, ~0ull, S2_LEVELS_MAX);
	}
};

// Another batch has split the leaf, and not flushed: TLBs still have it by one large translation.
// What is forgotten when its first page is unmapped.
static Forgotten unmap_what_another_splits(struct s2 *s2)
{
	Forgotten forgotten = {~0ull, 0, false};
	struct s2_batch splits, batch;

	s2_batch_open(&splits, s2);
	EXPECT_EQ(s2_split(s2, gpa(MIB(2)), 0, &splits), OK);
	s2_batch_open(&batch, s2);
	EXPECT_EQ(s2_unmap(s2, gpa(MIB(2)), PAGE_SIZE, &batch), OK);
	fake_flush_hook = {&forgotten, Forgotten::range, nullptr, Forgotten::space, nullptr};
	s2_batch_close(&batch);
	fake_flush_hook = {};
	s2_batch_close(&splits);
	return forgotten;
}

TEST_P(S2Range, unmap_of_what_another_batch_splits_forgets_the_larger_leaf_too)
{
	map_block(MIB(2), 1);

	Forgotten forgotten = unmap_what_another_splits(&s2);

	if (GetParam().broadcasts) {
		EXPECT_TRUE(forgotten.of_level_1);
		EXPECT_LE(forgotten.start, MIB(2));
		EXPECT_GE(forgotten.end, MIB(2) + PAGE_SIZE);
	}
	expect_nothing(MIB(2));
}

// A leaf that becomes a table at once is in no BROKEN state that others could see.
TEST_P(S2Range, where_splits_need_no_break_no_invalidation_is_of_one_size_alone)
{
	s2.traits |= S2_SIZE_CHANGE;
	map_block(MIB(2), 1);

	Forgotten forgotten = unmap_what_another_splits(&s2);

	EXPECT_TRUE(forgotten.of_level_1 || !GetParam().broadcasts);
}

// Pages of [0, 1 GiB) that were used since the last time.
static u64 harvest_young(struct s2 *s2)
{
	struct s2_harvest h = {};

	h.clear = true;
	EXPECT_EQ(s2_harvest(s2, gpa(0), GIB(1), &h), OK);
	return h.young_count;
}

// Where software marks tables as used; hardware does so at the guest's first access.
static bool software_marks(const struct s2 *s2)
{
	return s2_table_flag(s2) != s2->format->accessed_table;
}

TEST_P(S2Range, what_is_mapped_into_a_table_that_was_harvested_counts_as_used)
{
	map_block(MIB(2), 0);
	map_device(MIB(2) + PAGE_SIZE, PAGE_SIZE);
	EXPECT_EQ(harvest_young(&s2), 2u);
	EXPECT_EQ(harvest_young(&s2), 0u);
	if (software_marks(&s2)) {
		map_block(MIB(2) + 2 * PAGE_SIZE, 0);
		EXPECT_EQ(harvest_young(&s2), 1u) << "memory";
		map_device(MIB(2) + 3 * PAGE_SIZE, PAGE_SIZE);
		EXPECT_EQ(harvest_young(&s2), 1u) << "a page of a device";
	}
}

TEST_P(S2Range, what_a_harvest_finds_broken_is_not_forgotten_by_the_next)
{
	struct s2_batch batch;

	map_block(MIB(2), 1);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	EXPECT_EQ(harvest_young(&s2), 0u);
	s2_batch_close(&batch);
	if (software_marks(&s2)) {
		EXPECT_EQ(harvest_young(&s2), MIB(2) / PAGE_SIZE);
	}
}

} // namespace
