// Views: one memory, several permissions, and never more than the base allows.
#include "s2_roots_test.h"

#include <random>
#include <thread>
#include <vector>

namespace
{

class S2View : public S2RootsTest
{
      protected:
	void SetUp() override
	{
		S2RootsTest::SetUp();
		ASSERT_EQ(s2_view_init(&view, &s2, S2_RX), OK);
	}

	void TearDown() override
	{
		if (view.root) {
			s2_view_destroy(&view);
		}
		S2RootsTest::TearDown();
	}

	enum status protect_view(u64 at, u64 size, u8 perm)
	{
		return in_batch(&view, [&](struct s2_batch *batch) {
			return s2_view_protect(&view, gpa(at), size, perm, batch);
		});
	}

	enum status protect_base(u64 at, u64 size, u8 perm)
	{
		return protect_of(&s2, at, size, perm);
	}

	enum status fault(u64 at, u8 access)
	{
		return s2_view_fault(&view, gpa(at), access);
	}

	// The view has what the base has, with these permissions, as query and hardware see it.
	void expect_view(u64 at, u8 perm, u64 size)
	{
		struct s2_leaf base = s2_query(&s2, gpa(at)), leaf = s2_query(&view, gpa(at));

		ASSERT_EQ(base.kind, S2_LEAF) << std::hex << at;
		ASSERT_EQ(leaf.kind, S2_LEAF) << std::hex << at;
		EXPECT_EQ(leaf.hpa.v, base.hpa.v) << std::hex << at;
		EXPECT_EQ(leaf.attr.perm, perm) << std::hex << at;
		EXPECT_EQ(leaf.attr.memory, base.attr.memory);
		EXPECT_EQ(s2_span(view.format, leaf.level), size) << std::hex << at;
		if (has_hardware()) {
			RawLeaf entry = raw(view, at);

			EXPECT_TRUE(entry.there);
			EXPECT_EQ(entry.pa, base.hpa.v);
			EXPECT_EQ(entry.perm, perm);
			EXPECT_EQ(entry.size, size);
			EXPECT_EQ(entry.complaints, "");
		}
	}

	void expect_view_empty(u64 at)
	{
		EXPECT_EQ(s2_query(&view, gpa(at)).kind, S2_EMPTY) << std::hex << at;
		if (has_hardware()) {
			EXPECT_FALSE(raw(view, at).there) << std::hex << at;
		}
	}

	struct s2 view = {};
};
INSTANTIATE_TEST_SUITE_P(formats, S2View, s2_kinds(), s2_kind_name);

TEST_P(S2View, shows_the_bases_memory_with_fewer_permissions)
{
	map_block(MIB(4), 1);
	map_block(MIB(8), 0);
	EXPECT_EQ(fault(MIB(4) + 12345, S2_READ), OK);
	EXPECT_EQ(fault(MIB(8), S2_EXEC), OK);
	expect_view(MIB(4), S2_RX, MIB(2));
	expect_view(MIB(8), S2_RX, PAGE_SIZE);
	expect_view_empty(MIB(8) + PAGE_SIZE);
	EXPECT_EQ(fault(MIB(4), S2_WRITE), DENIED);
	expect_view(MIB(4), S2_RX, MIB(2));
	EXPECT_EQ(s2_query(&s2, gpa(MIB(4))).attr.perm, S2_RWX) << "the base is as it was";
}

TEST_P(S2View, what_the_base_lacks_is_the_bases_fault)
{
	hpa_t frame = guest_block(0);

	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), frame, PAGE_SIZE, {S2_READ, S2_NORMAL}, S2_ERROR), OK);
	EXPECT_EQ(fault(MIB(4), S2_READ), NOENT);
	EXPECT_EQ(fault(MIB(2), S2_EXEC), NOENT);
	expect_view_empty(MIB(2));
	EXPECT_EQ(fault(MIB(2), S2_READ), OK);
	expect_view(MIB(2), S2_READ, PAGE_SIZE);
	EXPECT_EQ(fault(1ull << 40, S2_READ), NOENT);
	EXPECT_EQ(s2_source(&view, gpa(MIB(2))), &s2);
	EXPECT_EQ(s2_source(&s2, gpa(MIB(2))), &s2);
}

TEST_P(S2View, after_the_bases_close_no_cpu_translates_through_the_view)
{
	u64 free_at_start = frame_count(FRAME_FREE), rounds;
	struct s2_batch batch;

	map_block(MIB(2), 1);
	map_block(MIB(4), 0);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	ASSERT_EQ(fault(MIB(4), S2_READ), OK);
	remember(&view, MIB(2) + 5 * PAGE_SIZE, S2_READ);
	remember(&view, MIB(4), S2_READ);
	remember(&s2, MIB(4), S2_READ);
	rounds = s2.stats.batches;
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2)), MIB(4), &batch), OK);
	EXPECT_TRUE(fake_tlb_holds(&view, gpa(MIB(4)))) << "the fake TLB forgot by itself";
	EXPECT_EQ(fault(MIB(4), S2_READ), AGAIN) << "the batch is open";
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.batches, rounds + 1);
	EXPECT_EQ(view.stats.batches, 0u);
	EXPECT_FALSE(any_cpu_gets(&view, MIB(2) + 5 * PAGE_SIZE, S2_READ));
	EXPECT_FALSE(any_cpu_gets(&view, MIB(4), S2_READ));
	EXPECT_FALSE(any_cpu_gets(&s2, MIB(4), S2_READ));
	EXPECT_EQ(fault(MIB(4), S2_READ), NOENT);
	expect_view_empty(MIB(2));
	EXPECT_EQ(view.stats.leaf_2m + view.stats.leaf_4k, 0u);
	EXPECT_EQ(frame_count(FRAME_FREE), free_at_start) << "the view's tables went too";
}

// A part of a leaf: the view's whole leaf goes, and comes again in parts.
TEST_P(S2View, a_part_that_the_base_forbids_is_forbidden_in_the_view)
{
	ASSERT_EQ(protect_view(0, GIB(1), S2_RWX), OK);
	map_block(MIB(2), 1);
	ASSERT_EQ(fault(MIB(2), S2_WRITE), OK);
	expect_view(MIB(2), S2_RWX, MIB(2));
	remember(&view, MIB(2) + 7 * PAGE_SIZE, S2_WRITE);
	ASSERT_EQ(protect_base(MIB(2) + 7 * PAGE_SIZE, PAGE_SIZE, S2_READ), OK);
	EXPECT_FALSE(any_cpu_gets(&view, MIB(2) + 7 * PAGE_SIZE, S2_WRITE));
	expect_view_empty(MIB(2));
	EXPECT_EQ(fault(MIB(2) + 7 * PAGE_SIZE, S2_WRITE), NOENT);
	EXPECT_EQ(fault(MIB(2) + 7 * PAGE_SIZE, S2_READ), OK);
	EXPECT_EQ(fault(MIB(2) + 8 * PAGE_SIZE, S2_WRITE), OK);
	expect_view(MIB(2) + 7 * PAGE_SIZE, S2_READ, PAGE_SIZE);
	expect_view(MIB(2) + 8 * PAGE_SIZE, S2_RWX, PAGE_SIZE);
}

TEST_P(S2View, leaves_are_large_again_when_the_bases_are)
{
	struct s2_collapsed report;
	struct s2_batch batch;

	map_block(MIB(2), 1);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(MIB(2)), 0, &batch), OK);
	EXPECT_EQ(fault(MIB(2), S2_READ), AGAIN);
	s2_batch_close(&batch);
	for (u64 at = MIB(2); at < MIB(4); at += PAGE_SIZE) {
		ASSERT_EQ(fault(at, S2_READ), OK);
	}
	expect_view(MIB(2), S2_RX, PAGE_SIZE);
	EXPECT_EQ(view.stats.leaf_4k, 512u);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(MIB(2)), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	ASSERT_EQ(report.count[S2_FOLDED], 1u);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	expect_view(MIB(2), S2_RX, MIB(2));
}

TEST_P(S2View, rules_outlive_what_is_mapped)
{
	map_block(MIB(2), 1);
	ASSERT_EQ(protect_view(MIB(2) + PAGE_SIZE, PAGE_SIZE, S2_RW), OK);
	EXPECT_EQ(fault(MIB(2) + PAGE_SIZE, S2_WRITE), OK);
	EXPECT_EQ(fault(MIB(2) + PAGE_SIZE, S2_EXEC), DENIED);
	EXPECT_EQ(fault(MIB(2), S2_EXEC), OK);
	expect_view(MIB(2) + PAGE_SIZE, S2_RW, PAGE_SIZE);
	expect_view(MIB(2), S2_RX, PAGE_SIZE);
	ASSERT_EQ(unmap(MIB(2), MIB(2)), OK);
	map_block(MIB(2), 1);
	expect_view_empty(MIB(2) + PAGE_SIZE);
	EXPECT_EQ(fault(MIB(2) + PAGE_SIZE, S2_WRITE), OK);
	expect_view(MIB(2) + PAGE_SIZE, S2_RW, PAGE_SIZE);
	EXPECT_EQ(fault(MIB(2), S2_WRITE), DENIED);
}

TEST_P(S2View, a_rule_that_begins_in_a_large_leaf_divides_it_no_more_than_it_has_to)
{
	const u64 begin = GIB(1) + MIB(3);

	ASSERT_EQ(s2_map(&s2, gpa(GIB(1)), hpa(BIT(43)), GIB(2), kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2.stats.leaf_1g, 2u);
	ASSERT_EQ(protect_view(begin, GIB(2), S2_READ), OK);
	for (u64 at : {GIB(1) + MIB(1), begin - PAGE_SIZE, begin, GIB(1) + MIB(5), GIB(2)}) {
		ASSERT_EQ(fault(at, S2_READ), OK) << std::hex << at;
	}
	expect_view(GIB(1) + MIB(1), S2_RX, MIB(2));
	expect_view(begin - PAGE_SIZE, S2_RX, PAGE_SIZE);
	expect_view(begin, S2_READ, PAGE_SIZE);
	expect_view(GIB(1) + MIB(5), S2_READ, MIB(2));
	expect_view(GIB(2), S2_READ, GIB(1));
	EXPECT_EQ(s2.stats.leaf_1g, 2u) << "the base is as it was";
}

TEST_P(S2View, a_rule_is_in_force_at_its_close)
{
	struct s2_batch batch;

	map_block(MIB(2), 1);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	remember(&view, MIB(2) + 3 * PAGE_SIZE, S2_READ);
	remember(&s2, MIB(2) + 3 * PAGE_SIZE, S2_WRITE);
	s2_batch_open(&batch, &view);
	ASSERT_EQ(s2_view_protect(&view, gpa(MIB(2) + 3 * PAGE_SIZE), PAGE_SIZE, 0, &batch), OK);
	EXPECT_TRUE(fake_tlb_holds(&view, gpa(MIB(2) + 3 * PAGE_SIZE)));
	s2_batch_close(&batch);
	EXPECT_FALSE(any_cpu_gets(&view, MIB(2) + 3 * PAGE_SIZE, S2_READ));
	EXPECT_EQ(fault(MIB(2) + 3 * PAGE_SIZE, S2_READ), DENIED);
	EXPECT_EQ(fault(MIB(2) + 4 * PAGE_SIZE, S2_READ), OK);
	expect_view(MIB(2) + 4 * PAGE_SIZE, S2_RX, PAGE_SIZE);
	EXPECT_TRUE(any_cpu_gets(&s2, MIB(2) + 3 * PAGE_SIZE, S2_WRITE)) << "the base has no rule";
	EXPECT_EQ(s2.stats.batches, 0u);
	// And back: the leaf may be whole again.
	ASSERT_EQ(protect_view(MIB(2) + 3 * PAGE_SIZE, PAGE_SIZE, S2_RX), OK);
	ASSERT_EQ(fault(MIB(2) + 3 * PAGE_SIZE, S2_READ), OK);
	EXPECT_EQ(protect_view(MIB(2), MIB(2), S2_RX), OK);
	ASSERT_EQ(fault(MIB(2) + 3 * PAGE_SIZE, S2_READ), OK);
	expect_view(MIB(2) + 3 * PAGE_SIZE, S2_RX, MIB(2));
}

// Against a plain list, page by page.
TEST_P(S2View, rules_say_what_was_said_last)
{
	const u8 perms[] = {0, S2_READ, S2_RW, S2_RX, S2_RWX};
	const u64 pages = 64;
	std::vector<u8> expected(pages, S2_RX);
	std::mt19937 random(3);

	for (u64 i = 0; i < pages; i++) {
		map_block(MIB(2) + i * PAGE_SIZE, 0);
	}
	for (int round = 0; round < 200; round++) {
		u64 first = random() % pages, count = 1 + random() % 8;
		u8 perm = perms[random() % 5];

		count = std::min(count, pages - first);
		ASSERT_EQ(protect_view(MIB(2) + first * PAGE_SIZE, count * PAGE_SIZE, perm), OK);
		std::fill_n(expected.begin() + (long)first, count, perm);
		for (u64 i = 0; i < pages; i++) {
			for (u8 access : {+S2_READ, +S2_WRITE, +S2_EXEC}) {
				ASSERT_EQ(fault(MIB(2) + i * PAGE_SIZE, access),
					  (expected[i] & access) == access ? OK : DENIED)
					<< "page " << i << ", round " << round;
			}
		}
	}
	EXPECT_EQ(fault(MIB(2) + pages * PAGE_SIZE, S2_WRITE), DENIED);
	EXPECT_EQ(view.stats.leaf_4k,
		  frame_count(FRAME_GUEST) - (u64)std::count(expected.begin(), expected.end(), 0));
}

TEST_P(S2View, too_many_rules_are_refused_and_the_others_kept)
{
	u64 at = MIB(2), last = BIT(40) - PAGE_SIZE;
	enum status status;

	ASSERT_EQ(protect_view(last, PAGE_SIZE, S2_RW), OK);
	while ((status = protect_view(at, PAGE_SIZE, 0)) == OK) {
		at += 2 * PAGE_SIZE;
	}
	EXPECT_EQ(status, FULL);
	EXPECT_EQ((at - MIB(2)) / (2 * PAGE_SIZE), 254u);
	for (u64 page = MIB(2); page < at; page += PAGE_SIZE) {
		EXPECT_EQ(fault(page, S2_READ), page % (2 * PAGE_SIZE) ? NOENT : DENIED);
	}
	EXPECT_EQ(fault(at, S2_READ), NOENT) << "refused, so not in force";
	EXPECT_EQ(fault(last, S2_WRITE), NOENT);
	EXPECT_EQ(fault(last, S2_EXEC), DENIED);
	// What is alike is joined, so there is room again.
	EXPECT_EQ(protect_view(MIB(2), at - MIB(2), 0), OK);
	EXPECT_EQ(protect_view(at + PAGE_SIZE, PAGE_SIZE, 0), OK);
	EXPECT_EQ(fault(last, S2_EXEC), DENIED);
}

TEST_P(S2View, running_out_of_memory_changes_nothing)
{
	s2_view_destroy(&view);
	for (u64 left = 0;; left++) {
		enum status status;

		s2_destroy(&s2);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		map_block(MIB(4), 0);
		fake_memory_leave(left);
		status = s2_view_init(&view, &s2, S2_RX);
		if (status == OK) {
			status = fault(MIB(4), S2_READ);
			status = status == OK ? protect_view(MIB(4), PAGE_SIZE, S2_READ) : status;
		}
		if (status == OK) {
			EXPECT_GT(left, 4u) << "a root, rules, tables, rules again";
			EXPECT_EQ(fault(MIB(4), S2_EXEC), DENIED);
			break;
		}
		ASSERT_EQ(status, NOMEM);
		if (view.root) {
			struct s2_leaf leaf = s2_query(&view, gpa(MIB(4)));

			EXPECT_EQ(leaf.kind == S2_LEAF ? leaf.attr.perm : (u8)S2_RX, S2_RX);
			s2_view_destroy(&view);
		}
		EXPECT_EQ(frame_count(FRAME_FREE), left);
		EXPECT_EQ(s2.dependent_count, 0u);
	}
	s2_view_destroy(&view);
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2View, is_not_changed_by_range_operations)
{
	hpa_t frame = guest_block(9), list[] = {frame};
	struct s2_collapsed report;
	struct s2_batch batch;

	map_block(MIB(2), 1);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	s2_batch_open(&batch, &view);
	EXPECT_EQ(s2_map(&view, gpa(MIB(4)), frame, MIB(2), kRwx, S2_ERROR), DENIED);
	EXPECT_EQ(s2_map(&view, gpa(MIB(4)), frame, PAGE_SIZE, kRwx, S2_ERROR), DENIED);
	EXPECT_EQ(s2_map(&view, gpa(MIB(2)), s2_query(&s2, gpa(MIB(2))).hpa, MIB(2), kRwx,
			 S2_UPGRADE),
		  DENIED);
	EXPECT_EQ(s2_map(&view, gpa(MIB(4)), hpa(1ull << 41), PAGE_SIZE, kRwx, S2_ERROR), DENIED);
	EXPECT_EQ(s2_map_list(&view, gpa(MIB(4)), list, 1, kRwx, S2_ERROR), DENIED);
	EXPECT_EQ(s2_map_leaf(&view, gpa(MIB(4)), 1, frame, kRwx), DENIED);
	EXPECT_EQ(s2_unmap(&view, gpa(MIB(2)), MIB(2), &batch), DENIED);
	EXPECT_EQ(s2_unmap(&view, gpa(MIB(2)), PAGE_SIZE, &batch), DENIED);
	EXPECT_EQ(s2_protect(&view, gpa(MIB(2)), MIB(2), S2_RWX, &batch), DENIED);
	EXPECT_EQ(s2_split(&view, gpa(MIB(2)), 0, &batch), DENIED);
	EXPECT_EQ(s2_split_range(&view, gpa(MIB(2)), MIB(2), 0, &batch), DENIED);
	EXPECT_EQ(s2_collapse(&view, gpa(MIB(2)), MIB(2), 1, &batch, &report), OK);
	EXPECT_EQ(report.why, S2_IS_LINKED);
	EXPECT_EQ(batch.entries, 0u);
	s2_batch_close(&batch);
	expect_view(MIB(2), S2_RX, MIB(2));
	expect_view_empty(MIB(4));
	frame_put(frame);
}

TEST_P(S2View, many_pages_are_one_round_with_any_number_of_views)
{
	struct s2 more[S2_DEPENDENTS_MAX] = {};
	u64 pages = 300, rounds = 0;
	static u64 waits;

	for (int i = 0; i < S2_DEPENDENTS_MAX - 1; i++) {
		ASSERT_EQ(s2_view_init(&more[i], &s2, S2_RWX), OK);
	}
	EXPECT_EQ(s2_view_init(&more[S2_DEPENDENTS_MAX - 1], &s2, S2_RWX), FULL);
	for (u64 i = 0; i < pages; i++) {
		map_block(MIB(2) + i * PAGE_SIZE, 0);
		for (int v = 0; v < S2_DEPENDENTS_MAX - 1; v++) {
			ASSERT_EQ(s2_view_fault(&more[v], gpa(MIB(2) + i * PAGE_SIZE), S2_READ),
				  OK);
		}
		EXPECT_EQ(frame_of(s2_query(&s2, gpa(MIB(2) + i * PAGE_SIZE)).hpa)->refs, 1u);
	}
	rounds = s2.stats.batches;
	waits = 0;
	fake_flush_hook.tail = [](void *, const struct s2 *) { waits++; };
	fake_flush_hook.space = fake_flush_hook.tail;
	ASSERT_EQ(unmap(MIB(2), pages * PAGE_SIZE), OK);
	fake_flush_hook = {};
	EXPECT_EQ(s2.stats.batches, rounds + 1);
	EXPECT_EQ(waits, GetParam().broadcasts ? 1u + S2_DEPENDENTS_MAX : 0u) << "one a space";
	for (int i = 0; i < S2_DEPENDENTS_MAX - 1; i++) {
		EXPECT_EQ(more[i].stats.flush_whole, GetParam().broadcasts ? 0u : 1u);
		EXPECT_EQ(s2_query(&more[i], gpa(MIB(2))).kind, S2_EMPTY);
		s2_view_destroy(&more[i]);
	}
}

TEST_P(S2View, a_batch_that_overflows_leaves_the_view_nothing)
{
	u64 places = 3 * S2_BATCH_RANGES;
	struct s2_batch batch;

	for (u64 i = 0; i < places; i++) {
		map_block(MIB(2) + i * MIB(4), 0);
		ASSERT_EQ(fault(MIB(2) + i * MIB(4), S2_READ), OK);
	}
	map_block(GIB(3), 0);
	ASSERT_EQ(fault(GIB(3), S2_READ), OK);
	s2_batch_open(&batch, &s2);
	for (u64 i = 0; i < places; i++) {
		ASSERT_EQ(s2_unmap(&s2, gpa(MIB(2) + i * MIB(4)), PAGE_SIZE, &batch), OK);
	}
	ASSERT_TRUE(batch.everything);
	s2_batch_close(&batch);
	for (u64 i = 0; i < places; i++) {
		expect_view_empty(MIB(2) + i * MIB(4));
	}
	EXPECT_EQ(fault(GIB(3), S2_READ), OK);
	expect_view(GIB(3), S2_RX, PAGE_SIZE);
}

// The box for frames with other holders is full in the middle of the operation, which then flushes.
TEST_P(S2View, a_flush_in_the_middle_of_an_operation_covers_the_view)
{
	hpa_t frame = guest_block(0);
	u64 pages = 2 * S2_BATCH_SHARED;

	for (u64 i = 0; i < pages; i++) {
		if (i > 0) {
			frame_get(frame);
		}
		ASSERT_EQ(
			s2_map(&s2, gpa(MIB(2) + i * PAGE_SIZE), frame, PAGE_SIZE, kRwx, S2_ERROR),
			OK);
		ASSERT_EQ(fault(MIB(2) + i * PAGE_SIZE, S2_READ), OK);
		remember(&view, MIB(2) + i * PAGE_SIZE, S2_READ);
	}
	ASSERT_EQ(unmap(MIB(2), pages * PAGE_SIZE), OK);
	for (u64 i = 0; i < pages; i++) {
		EXPECT_FALSE(any_cpu_gets(&view, MIB(2) + i * PAGE_SIZE, S2_READ));
	}
	EXPECT_EQ(view.stats.leaf_4k, 0u);
}

TEST_P(S2View, who_is_refused_permission_and_then_gets_it_is_flushed)
{
	static u64 ranges;
	struct s2_batch batch;

	map_block(MIB(2), 0);
	ASSERT_EQ(protect_view(0, GIB(1), S2_RW), OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_dirty_start(&s2, &batch), OK);
	s2_batch_close(&batch);
	ASSERT_EQ(s2_dirty_fault(&s2, gpa(MIB(2)), false), OK);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	ASSERT_EQ(fault(MIB(2), S2_WRITE), NOENT);
	// A page that counts as written gets the right to be, without a batch.
	ASSERT_EQ(s2_dirty_fault(&s2, gpa(MIB(2)), true), OK);
	ranges = 0;
	fake_flush_hook.range = [](void *, const struct s2 *space, gpa_t at, u64, unsigned) {
		ranges += space->rules && at.v == MIB(2);
	};
	EXPECT_EQ(fault(MIB(2), S2_WRITE), OK);
	fake_flush_hook = {};
	EXPECT_EQ(ranges, GetParam().broadcasts ? 1u : 0u);
	EXPECT_TRUE(s2_query(&view, gpa(MIB(2))).attr.perm & S2_WRITE);
	s2_dirty_stop(&s2);
}

// Where all know at once of rights that the base's leaf gets, views look at it anew.
TEST_P(S2View, rights_that_a_map_adds_reach_the_view)
{
	map_block(MIB(2), 0);
	ASSERT_EQ(protect_view(0, GIB(1), S2_RW), OK);
	ASSERT_EQ(protect_base(MIB(2), PAGE_SIZE, S2_READ), OK);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	expect_view(MIB(2), S2_READ, PAGE_SIZE);
	ASSERT_EQ(s2_map(&s2, gpa(MIB(2)), s2_query(&s2, gpa(MIB(2))).hpa, PAGE_SIZE, kRwx,
			 S2_UPGRADE),
		  OK);
	EXPECT_EQ(s2_query(&view, gpa(MIB(2))).kind == S2_LEAF, !GetParam().broadcasts);
	EXPECT_EQ(fault(MIB(2), S2_WRITE), OK);
	expect_view(MIB(2), S2_RW, PAGE_SIZE);
}

// A fault that saw the base before the change puts its leaf late: while the close waits for it.
TEST_P(S2View, a_fault_that_is_late_leaves_nothing_behind)
{
	std::atomic<bool> in{false}, closed{false};
	u64 clock = view.generation;

	map_block(MIB(2), 0);
	struct s2_leaf old = s2_query(&s2, gpa(MIB(2)));
	std::thread late([&] {
		fake_cpu_become(1);
		u64 outer = s2_walk_begin(&view);
		struct s2_cursor c;

		in = true;
		while (load_acquire(&view.generation) == clock && !closed) {
			std::this_thread::yield();
		}
		s2_cursor_start(&c, &view, gpa(MIB(2)));
		EXPECT_EQ(s2_put_entry(&c, 0,
				       s2_leaf_bits(&view, old.attr, 0) |
					       s2_address_bits(view.format, old.hpa),
				       0),
			  OK);
		s2_walk_end(&view, outer);
	});
	while (!in) {
		std::this_thread::yield();
	}
	EXPECT_EQ(unmap(MIB(2), PAGE_SIZE), OK);
	closed = true;
	late.join();
	expect_view_empty(MIB(2));
	EXPECT_EQ(view.stats.leaf_4k, 0u);
}

// The view's leaves may be smaller than the base's, so no level is hinted at.
TEST_P(S2View, is_invalidated_at_every_level)
{
	static std::vector<unsigned> levels;
	static const struct s2 *which;

	map_block(MIB(2), 1);
	ASSERT_EQ(protect_view(MIB(2), PAGE_SIZE, S2_READ), OK);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	levels.clear();
	which = &view;
	fake_flush_hook.range = [](void *, const struct s2 *space, gpa_t, u64, unsigned level) {
		if (space == which) {
			levels.push_back(level);
		}
	};
	ASSERT_EQ(unmap(MIB(2), MIB(2)), OK);
	fake_flush_hook = {};
	EXPECT_EQ(levels.empty(), !GetParam().broadcasts);
	for (unsigned level : levels) {
		EXPECT_EQ(level, (unsigned)S2_LEVELS_MAX);
	}
}

TEST_P(S2View, what_dirty_logging_holds_is_the_bases_fault)
{
	struct s2_cursor c;
	u64 linked;

	map_block(MIB(2), 0);
	s2_cursor_start(&c, &s2, gpa(MIB(2)));
	s2_cursor_descend(&c, 1);
	linked = c.entry;
	ASSERT_TRUE(s2_entry_set(
		&c, s2_leading_entry(c.format, S2_HELD, s2_entry_table(c.format, linked), 1, false),
		nullptr));
	ASSERT_EQ(s2_query(&s2, gpa(MIB(2))).kind, S2_LEAF);
	EXPECT_EQ(fault(MIB(2), S2_READ), NOENT);
	expect_view_empty(MIB(2));
	ASSERT_TRUE(s2_entry_set(&c, linked, nullptr));
	EXPECT_EQ(fault(MIB(2), S2_READ), OK);
}

TEST_P(S2View, a_base_with_a_view_is_not_destroyed_nor_a_view_as_a_plain_space)
{
	EXPECT_DEATH(s2_destroy(&s2), "dependent_count");
	EXPECT_DEATH(s2_destroy(&view), "loan_count");
}

TEST_P(S2View, nonsense_is_invalid)
{
	struct s2_batch batch;
	struct s2 other = {};

	EXPECT_EQ(s2_view_init(&other, &view, S2_RX), INVALID) << "a view of a view";
	EXPECT_EQ(s2_view_init(&other, &s2, 0x10), INVALID);
	s2_batch_open(&batch, &view);
	EXPECT_EQ(s2_view_protect(&view, gpa(1), PAGE_SIZE, S2_READ, &batch), INVALID);
	EXPECT_EQ(s2_view_protect(&view, gpa(0), 0, S2_READ, &batch), INVALID);
	EXPECT_EQ(s2_view_protect(&view, gpa(0), PAGE_SIZE, 0x10, &batch), INVALID);
	s2_batch_close(&batch);
	s2_batch_open(&batch, &s2);
	EXPECT_EQ(s2_view_protect(&s2, gpa(0), PAGE_SIZE, S2_READ, &batch), INVALID);
	s2_batch_close(&batch);
}

// NPT cannot forbid to read alone, EPT not where it lets write.
TEST_P(S2View, allows_what_its_format_can_say_and_nothing_else)
{
	map_block(MIB(2), 0);
	for (u8 perm = 1; perm <= S2_RWX; perm++) {
		bool sayable = view.format->perms >> perm & 1;
		u8 allowed = sayable ? perm : (u8)S2_RX;
		struct s2 other = {};

		SCOPED_TRACE(perm);
		ASSERT_EQ(protect_view(MIB(2), PAGE_SIZE, S2_RX), OK);
		EXPECT_EQ(protect_view(MIB(2), PAGE_SIZE, perm), sayable ? OK : INVALID);
		EXPECT_EQ(s2_view_init(&other, &s2, perm), sayable ? OK : INVALID);
		ASSERT_EQ(fault(MIB(2), allowed), OK);
		EXPECT_EQ(s2_query(&view, gpa(MIB(2))).attr.perm, allowed);
		if (other.root) {
			EXPECT_EQ(s2_view_fault(&other, gpa(MIB(2)), perm), OK);
			s2_view_destroy(&other);
		}
		EXPECT_EQ(s2.dependent_count, 1u);
	}
}

TEST_P(S2View, a_harvest_watches_anew_what_is_used_through_the_view)
{
	struct s2_harvest h = {};

	map_block(MIB(2), 0);
	map_block(MIB(2) + PAGE_SIZE, 0);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	ASSERT_EQ(fault(MIB(2) + PAGE_SIZE, S2_READ), OK);
	for (u64 used : {2, 0, 1, 0}) {
		if (used == 1) {
			touch(view, MIB(2));
		}
		h = {};
		h.clear = true;
		EXPECT_EQ(s2_harvest(&view, gpa(0), GIB(1), &h), OK);
		EXPECT_EQ(h.young_count, used);
	}
	EXPECT_FALSE(s2_query(&view, gpa(MIB(2))).accessed);
	EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).accessed) << "the base was not asked";
}

// Where invalidations are not broadcast, CPUs in the guest are waited for.
class S2ViewGenerations : public S2View
{
};
INSTANTIATE_TEST_SUITE_P(formats, S2ViewGenerations,
			 ::testing::Values(S2Kind{"fake_generations", arch_s2_format(), false},
					   S2Kind{"ept", &s2_ept, false},
					   S2Kind{"ept_software", &s2_ept_software, false},
					   S2Kind{"npt", &s2_npt, false}),
			 s2_kind_name);

// A CPU whose guest may switch roots by itself says that it is in each of them.
TEST_P(S2ViewGenerations, a_close_waits_for_cpus_in_the_view)
{
	std::atomic<bool> in{false}, left{false};

	map_block(MIB(2), 0);
	ASSERT_EQ(fault(MIB(2), S2_READ), OK);
	std::thread guest([&] {
		fake_cpu_become(1);
		s2_entering(&view);
		in = true;
		while (!fake_cpu_take_kick(1)) {
			std::this_thread::yield();
		}
		left = true;
		s2_left(&view);
	});
	while (!in) {
		std::this_thread::yield();
	}
	ASSERT_EQ(unmap(MIB(2), PAGE_SIZE), OK);
	EXPECT_TRUE(left);
	EXPECT_EQ(view.stats.kicks, 1u);
	guest.join();
}

// Where hardware keeps dirty state, what is written through a view must not be missed in the base.
class S2ViewDirty : public S2View
{
      protected:
	void SetUp() override
	{
		fake_traits = S2_HARDWARE_DIRTY | S2_HARDWARE_ACCESSED;
		S2View::SetUp();
	}

	void TearDown() override
	{
		S2View::TearDown();
		fake_traits = 0;
	}

	// Takes the marks back as dirty logging does: in a batch of the base.
	void clean(u64 at)
	{
		struct s2_batch batch;
		struct s2_cursor c;

		s2_batch_open(&batch, &s2);
		s2_cursor_start(&c, &s2, gpa(at));
		s2_cursor_descend(&c, 0);
		u64 entry = c.entry & ~c.format->dirty;

		if (c.format->log_is_hardware) {
			entry = (entry & ~c.format->write) | c.format->log;
		}
		ASSERT_TRUE(s2_entry_set(&c, entry, &batch));
		s2_batch_close(&batch);
	}
};
INSTANTIATE_TEST_SUITE_P(formats, S2ViewDirty, s2_kinds(), s2_kind_name);

TEST_P(S2ViewDirty, a_write_through_the_view_is_noted_in_the_base)
{
	map_block(MIB(2), 0);
	ASSERT_EQ(protect_view(0, GIB(1), S2_RW), OK);
	for (int round = 0; round < 3; round++) {
		clean(MIB(2));
		ASSERT_FALSE(s2_query(&s2, gpa(MIB(2))).dirty);
		EXPECT_FALSE(any_cpu_gets(&view, MIB(2), S2_WRITE));
		ASSERT_EQ(fault(MIB(2), S2_READ), OK);
		EXPECT_EQ(s2_query(&view, gpa(MIB(2))).attr.perm, S2_READ);
		EXPECT_FALSE(s2_query(&s2, gpa(MIB(2))).dirty);
		ASSERT_EQ(fault(MIB(2), S2_WRITE), OK);
		EXPECT_EQ(s2_query(&view, gpa(MIB(2))).attr.perm, S2_RW);
		EXPECT_TRUE(s2_query(&s2, gpa(MIB(2))).dirty);
		remember(&view, MIB(2), S2_WRITE);
	}
}

TEST(S2EptList, has_a_pointer_for_each_space_and_none_behind)
{
	alignas(4096) u64 list[S2_EPT_LIST];
	struct s2 spaces[2] = {};
	const struct s2 *const some[] = {&spaces[0], nullptr, &spaces[1]};
	alignas(4096) static u64 tables[2][512];
	model::HostMemory memory;

	fake_memory(MIB(2));
	for (int i = 0; i < 2; i++) {
		spaces[i].format = &s2_ept;
		spaces[i].top = tables[i];
	}
	std::fill_n(list, S2_EPT_LIST, 0x55u);
	s2_ept_list(list, some, 3, true);
	for (u32 i = 0; i < S2_EPT_LIST; i++) {
		model::ept::Features features;
		model::ept::Registers registers;

		features.pa_bits = 48;
		registers.eptp = list[i];
		model::x86::Config config = model::ept::Walker(features, memory).decode(registers);

		if (i == 0 || i == 2) {
			EXPECT_EQ(config.error, "");
			EXPECT_EQ(config.root, (u64)tables[i / 2]);
			EXPECT_EQ(list[i], s2_ept_pointer(some[i], true));
		} else {
			EXPECT_NE(config.error, "") << i;
		}
	}
}

} // namespace
