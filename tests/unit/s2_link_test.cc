// Sub-tables in several roots: what one space maps is there in all that link it, and goes from all.
#include "s2_roots_test.h"

#include <atomic>
#include <thread>
#include <vector>

namespace
{

// The fixture's space is the shared one.
class S2Link : public S2RootsTest
{
      protected:
	static constexpr u64 kRegion = GIB(2), kSize = MIB(8);

	void SetUp() override
	{
		S2RootsTest::SetUp();
		ASSERT_EQ(s2_init(&unified, GetParam().format, 40, kOwner), OK);
	}

	void TearDown() override
	{
		for (struct s2 *space : {&unified, &restricted}) {
			for (struct s2_loan loan : space->loans) {
				if (loan.end) {
					EXPECT_EQ(s2_unlink(space, gpa(loan.start),
							    loan.end - loan.start),
						  OK);
				}
			}
			if (space->root) {
				s2_destroy(space);
			}
		}
		S2RootsTest::TearDown();
	}

	enum status link(u64 at = kRegion, u64 size = kSize)
	{
		return s2_link(&unified, &s2, gpa(at), size);
	}

	// Both translate `at` alike, as query and hardware see it.
	void expect_alike(struct s2 *space, u64 at, struct s2 *to)
	{
		struct s2_leaf a = s2_query(space, gpa(at)), b = s2_query(to, gpa(at));

		ASSERT_EQ(a.kind, b.kind) << std::hex << at;
		EXPECT_EQ(a.hpa.v, b.hpa.v) << std::hex << at;
		EXPECT_EQ(a.level, b.level);
		EXPECT_EQ(a.attr.perm, b.attr.perm);
		if (has_hardware()) {
			RawLeaf x = raw(*space, at), y = raw(*to, at);

			EXPECT_EQ(x.there, a.kind == S2_LEAF) << std::hex << at;
			EXPECT_EQ(x.there, y.there);
			EXPECT_EQ(x.pa, y.pa);
			EXPECT_EQ(x.size, y.size);
			EXPECT_EQ(x.perm, y.perm);
			EXPECT_EQ(x.complaints + y.complaints, "");
		}
	}

	u64 table_refs(struct s2 *space, u64 at, unsigned level)
	{
		struct s2_cursor c;

		s2_cursor_start(&c, space, gpa(at));
		s2_cursor_descend(&c, level);
		u64 *table = c.level == level ? s2_entry_below(c.format, c.entry, level) : nullptr;

		return table ? frame_of(ptr_hpa(table))->refs : 0;
	}

	struct s2 unified = {}, restricted = {};
};
INSTANTIATE_TEST_SUITE_P(formats, S2Link, s2_kinds(), s2_kind_name);

TEST_P(S2Link, what_is_mapped_before_and_after_is_there_in_both)
{
	map_block(kRegion, 0);
	map_block(kRegion + MIB(2), 0);
	ASSERT_EQ(link(), OK);
	map_block(kRegion + MIB(4), 0);
	map_block(kRegion + MIB(4) + PAGE_SIZE, 0);
	hpa_t frame = guest_block(0);
	ASSERT_EQ(s2_map_leaf(&s2, gpa(kRegion + MIB(6)), 0, frame, kRwx), OK);
	for (u64 at = kRegion - PAGE_SIZE; at < kRegion + kSize + MIB(2); at += PAGE_SIZE) {
		expect_alike(&unified, at, &s2);
	}
	EXPECT_EQ(s2_query(&unified, gpa(kRegion + MIB(6))).hpa.v, frame.v);
	EXPECT_EQ(s2.stats.leaf_4k, 5u);
	EXPECT_EQ(unified.stats.leaf_4k, 0u) << "leaves are counted once";
	EXPECT_EQ(table_refs(&s2, kRegion, 1), 2u);
	EXPECT_TRUE(s2_validate(&unified, gpa(kRegion), PAGE_SIZE, S2_RWX));
	EXPECT_EQ(s2_source(&unified, gpa(kRegion)), &s2);
	EXPECT_EQ(s2_source(&unified, gpa(kRegion - 1)), &unified);
	EXPECT_EQ(s2_source(&unified, gpa(kRegion + kSize)), &unified);
}

TEST_P(S2Link, after_the_close_no_cpu_translates_through_the_link)
{
	struct s2_batch batch;
	u64 rounds;

	map_block(kRegion, 0);
	for (u64 i = 0; i < 512; i++) {
		map_block(kRegion + MIB(2) + i * PAGE_SIZE, 0);
	}
	ASSERT_EQ(link(), OK);
	remember(&unified, kRegion, S2_WRITE);
	remember(&unified, kRegion + MIB(2) + 17 * PAGE_SIZE, S2_WRITE);
	rounds = s2.stats.batches;
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_protect(&s2, gpa(kRegion), PAGE_SIZE, S2_READ, &batch), OK);
	ASSERT_EQ(s2_unmap(&s2, gpa(kRegion + MIB(2)), MIB(2), &batch), OK);
	EXPECT_TRUE(fake_tlb_holds(&unified, gpa(kRegion + MIB(2) + 17 * PAGE_SIZE)));
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.batches, rounds + 1);
	EXPECT_FALSE(any_cpu_gets(&unified, kRegion, S2_WRITE));
	EXPECT_TRUE(any_cpu_gets(&unified, kRegion, S2_READ));
	EXPECT_FALSE(any_cpu_gets(&unified, kRegion + MIB(2) + 17 * PAGE_SIZE, S2_READ));
	expect_alike(&unified, kRegion + MIB(2), &s2);
	// Its table is linked, so it stayed, and what is mapped anew is there in both.
	EXPECT_EQ(table_refs(&s2, kRegion + MIB(2), 1), 2u);
	map_block(kRegion + MIB(2) + PAGE_SIZE, 0);
	expect_alike(&unified, kRegion + MIB(2) + PAGE_SIZE, &s2);
	EXPECT_EQ(s2_query(&unified, gpa(kRegion + MIB(2) + PAGE_SIZE)).kind, S2_LEAF);
	ASSERT_EQ(unmap(kRegion, kSize), OK);
	ASSERT_EQ(unmap(0, BIT(40)), OK);
	EXPECT_EQ(table_refs(&s2, kRegion, 1), 2u);
	EXPECT_EQ(s2.stats.leaf_4k, 0u);
}

TEST_P(S2Link, the_linking_space_changes_nothing_in_the_range)
{
	hpa_t frame = guest_block(9), list[] = {frame};
	struct s2_collapsed report;
	struct s2_batch batch;
	struct s2_harvest h = {};

	for (u64 i = 0; i < 512; i++) {
		map_block(kRegion + i * PAGE_SIZE, 0);
	}
	ASSERT_EQ(link(), OK);
	s2_batch_open(&batch, &unified);
	for (u64 at : {kRegion, kRegion - MIB(2), kRegion + kSize - MIB(2)}) {
		EXPECT_EQ(s2_map(&unified, gpa(at), frame, MIB(4), kRwx, S2_ERROR), DENIED);
		EXPECT_EQ(s2_unmap(&unified, gpa(at), MIB(4), &batch), DENIED);
		EXPECT_EQ(s2_protect(&unified, gpa(at), MIB(4), S2_READ, &batch), DENIED);
		EXPECT_EQ(s2_split_range(&unified, gpa(at), MIB(4), 0, &batch), DENIED);
	}
	EXPECT_EQ(s2_map(&unified, gpa(kRegion + MIB(6)), frame, PAGE_SIZE, kRwx, S2_ERROR),
		  DENIED);
	EXPECT_EQ(
		s2_map(&unified, gpa(kRegion + MIB(6)), hpa(1ull << 41), PAGE_SIZE, kRwx, S2_ERROR),
		DENIED);
	EXPECT_EQ(s2_map_list(&unified, gpa(kRegion + MIB(6)), list, 1, kRwx, S2_ERROR), DENIED);
	EXPECT_EQ(s2_map_leaf(&unified, gpa(kRegion + MIB(6)), 0, frame, kRwx), DENIED);
	EXPECT_EQ(s2_map_leaf(&unified, gpa(GIB(2)), 2, hpa(GIB(4)), kRwx), DENIED);
	EXPECT_EQ(s2_unmap(&unified, gpa(kRegion), PAGE_SIZE, &batch), DENIED);
	EXPECT_EQ(s2_split(&unified, gpa(kRegion), 0, &batch), DENIED);
	EXPECT_EQ(s2_collapse(&unified, gpa(kRegion), MIB(2), 1, &batch, &report), OK);
	EXPECT_EQ(report.why, S2_IS_LINKED);
	h.clear = true;
	EXPECT_EQ(s2_harvest(&unified, gpa(kRegion), MIB(2), &h), DENIED);
	EXPECT_EQ(batch.entries, 0u);
	s2_batch_close(&batch);
	// Outside it does as it likes.
	EXPECT_EQ(s2_map(&unified, gpa(kRegion - MIB(2)), frame, MIB(2), kRwx, S2_ERROR), OK);
	s2_batch_open(&batch, &unified);
	EXPECT_EQ(s2_unmap(&unified, gpa(kRegion - MIB(2)), MIB(2), &batch), OK);
	s2_batch_close(&batch);
	for (u64 i = 0; i < 512; i++) {
		expect_alike(&unified, kRegion + i * PAGE_SIZE, &s2);
	}
	EXPECT_EQ(s2.stats.leaf_4k, 512u);
}

// Harvest of either space, whichever the guest came by.
TEST_P(S2Link, what_is_used_through_one_root_is_young_in_both)
{
	struct s2_harvest h = {};

	map_block(kRegion, 0);
	map_block(kRegion + PAGE_SIZE, 0);
	ASSERT_EQ(link(), OK);
	h.clear = true;
	ASSERT_EQ(s2_harvest(&s2, gpa(kRegion), kSize, &h), OK);
	EXPECT_EQ(h.young_count, 2u);
	for (struct s2 *by : {&unified, &s2}) {
		u64 asked = unified.flush_generation;

		touch(*by, kRegion + PAGE_SIZE);
		h = {};
		ASSERT_EQ(s2_harvest(&unified, gpa(kRegion), kSize, &h), OK);
		EXPECT_EQ(h.young_count, 1u) << "test alone";
		h = {};
		h.clear = true;
		ASSERT_EQ(s2_harvest(&s2, gpa(kRegion), kSize, &h), OK);
		EXPECT_EQ(h.young_count, 1u);
		EXPECT_EQ(unified.flush_generation, asked + 1) << "its CPUs owe a flush too";
		h = {};
		h.clear = true;
		ASSERT_EQ(s2_harvest(&s2, gpa(kRegion), kSize, &h), OK);
		EXPECT_EQ(h.young_count, 0u);
		touch(*by, kRegion);
		h = {};
		h.clear = true;
		h.finest = 1;
		ASSERT_EQ(s2_harvest(&s2, gpa(kRegion), kSize, &h), OK);
		EXPECT_EQ(h.young_count, 1u) << "of 2 MiB as a whole";
	}
}

TEST_P(S2Link, who_links_watches_and_frees_what_is_its_own)
{
	const u64 unused = MIB(4), used = MIB(6);
	struct s2_harvest h = {};
	hpa_t frames[2] = {guest_block(0), guest_block(0)};

	// Tables of 1 GiB, so that those of pages still tell of use.
	map_block(GIB(4), 0);
	ASSERT_EQ(link(GIB(4), GIB(1)), OK);
	ASSERT_EQ(s2_map(&unified, gpa(unused), frames[0], PAGE_SIZE, kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2_map(&unified, gpa(used), frames[1], PAGE_SIZE, kRwx, S2_ERROR), OK);
	h.clear = true;
	ASSERT_EQ(s2_harvest(&unified, gpa(0), GIB(4), &h), OK);
	EXPECT_EQ(h.young_count, 2u);
	EXPECT_EQ(s2_harvest(&unified, gpa(0), GIB(4) + MIB(2), &h), DENIED);
	touch(unified, used);
	EXPECT_EQ(harvest_and_free(&unified, unused, MIB(4), &h), OK);
	EXPECT_EQ(h.young_count, 1u);
	EXPECT_EQ(s2_query(&unified, gpa(unused)).kind, S2_EMPTY);
	EXPECT_EQ(s2_query(&unified, gpa(used)).kind, S2_LEAF);
	EXPECT_FALSE(s2_query(&unified, gpa(used)).accessed);
	EXPECT_TRUE(s2_query(&s2, gpa(GIB(4))).accessed) << "nobody asked that space";
	ASSERT_EQ(unmap_of(&unified, used, PAGE_SIZE), OK);
}

TEST_P(S2Link, splits_go_on_and_collapse_leaves_linked_tables)
{
	hpa_t block = map_block(GIB(4) + MIB(2), 1);
	struct s2_collapsed report;
	struct s2_batch batch;

	// Whole gigabytes: the linked tables are those above, in which leaves of 2 MiB are.
	ASSERT_EQ(link(GIB(4), GIB(1)), OK);
	expect_alike(&unified, GIB(4) + MIB(2), &s2);
	EXPECT_EQ(table_refs(&s2, GIB(4), 2), 2u);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(GIB(4) + MIB(2)), 0, &batch), OK);
	s2_batch_close(&batch);
	expect_alike(&unified, GIB(4) + MIB(2) + 5 * PAGE_SIZE, &s2);
	EXPECT_EQ(s2_query(&unified, gpa(GIB(4) + MIB(2))).level, 0);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(GIB(4) + MIB(2)), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(report.count[S2_FOLDED], 1u);
	expect_alike(&unified, GIB(4) + MIB(2), &s2);
	EXPECT_EQ(s2_query(&unified, gpa(GIB(4) + MIB(2))).level, 1);
	EXPECT_EQ(s2_query(&unified, gpa(GIB(4) + MIB(2))).hpa.v, block.v);
	// And where the table itself is linked, it stays.
	ASSERT_EQ(unmap(GIB(4) + MIB(2), MIB(2)), OK);
	ASSERT_EQ(s2_unlink(&unified, gpa(GIB(4)), GIB(1)), OK);
	for (u64 i = 0; i < 512; i++) {
		hpa_t page = i == 0 ? guest_block(9) : hpa_add(block, i * PAGE_SIZE);

		block = i == 0 ? page : block;
		if (i == 0) {
			frame_split(block, 0);
		}
		ASSERT_EQ(
			s2_map(&s2, gpa(kRegion + i * PAGE_SIZE), page, PAGE_SIZE, kRwx, S2_ERROR),
			OK);
	}
	ASSERT_EQ(link(), OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(kRegion), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(report.count[S2_IS_LINKED], 1u);
	expect_alike(&unified, kRegion, &s2);
	ASSERT_EQ(s2_unlink(&unified, gpa(kRegion), kSize), OK);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(kRegion), MIB(2), 1, &batch, &report), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(report.count[S2_FOLDED], 1u);
}

TEST_P(S2Link, after_unlinking_nothing_translates_and_all_is_as_before)
{
	u64 free_at_start = frame_count(FRAME_FREE), tables = unified.stats.tables;

	ASSERT_EQ(link(), OK);
	map_block(kRegion, 0);
	remember(&unified, kRegion, S2_READ);
	ASSERT_EQ(s2_unlink(&unified, gpa(kRegion), kSize), OK);
	EXPECT_FALSE(any_cpu_gets(&unified, kRegion, S2_READ));
	EXPECT_TRUE(any_cpu_gets(&s2, kRegion, S2_READ));
	EXPECT_EQ(unified.stats.tables, tables);
	EXPECT_EQ(table_refs(&s2, kRegion, 1), 1u);
	EXPECT_EQ(s2_source(&unified, gpa(kRegion)), &unified);
	EXPECT_EQ(s2.dependent_count + unified.loan_count, 0u);
	EXPECT_EQ(s2.linked_level, S2_LEVELS_MAX);
	EXPECT_EQ(unified.linked_level, S2_LEVELS_MAX);
	EXPECT_EQ(s2_unlink(&unified, gpa(kRegion), kSize), NOENT);
	// Its own again; and the other's tables go when they are empty.
	hpa_t frame = guest_block(0);
	EXPECT_EQ(s2_map_leaf(&unified, gpa(kRegion), 0, frame, kRwx), OK);
	for (struct s2 *space : {&unified, &s2}) {
		struct s2_batch batch;

		s2_batch_open(&batch, space);
		EXPECT_EQ(s2_unmap(space, gpa(kRegion), kSize, &batch), OK);
		s2_batch_close(&batch);
	}
	for (u64 at = kRegion; at < kRegion + kSize; at += MIB(2)) {
		hpa_t page = guest_block(0);

		ASSERT_EQ(s2_map(&s2, gpa(at), page, PAGE_SIZE, kRwx, S2_ERROR), OK);
		ASSERT_EQ(unmap(at, PAGE_SIZE), OK);
	}
	EXPECT_EQ(frame_count(FRAME_FREE), free_at_start);
}

// Fuchsia's three: what is private to user code, what all share, and who sees both.
TEST_P(S2Link, a_unified_space_links_a_shared_and_a_restricted_one)
{
	hpa_t private_page = guest_block(0);
	hpa_t shared_page = map_block(GIB(4), 0);
	struct s2_batch batch;

	ASSERT_EQ(s2_init(&restricted, GetParam().format, 40, kOwner), OK);
	ASSERT_EQ(s2_map(&restricted, gpa(MIB(2)), private_page, PAGE_SIZE, kRwx, S2_ERROR), OK);
	ASSERT_EQ(s2_link(&unified, &restricted, gpa(0), GIB(2)), OK);
	ASSERT_EQ(s2_link(&unified, &s2, gpa(GIB(4)), GIB(4)), OK);
	EXPECT_EQ(s2_query(&unified, gpa(MIB(2))).hpa.v, private_page.v);
	EXPECT_EQ(s2_query(&unified, gpa(GIB(4))).hpa.v, shared_page.v);
	expect_alike(&unified, MIB(2), &restricted);
	expect_alike(&unified, GIB(4), &s2);
	EXPECT_EQ(s2_query(&s2, gpa(MIB(2))).kind, S2_EMPTY);
	EXPECT_EQ(s2_query(&restricted, gpa(GIB(4))).kind, S2_EMPTY);
	EXPECT_EQ(s2_source(&unified, gpa(MIB(2))), &restricted);
	EXPECT_EQ(s2_source(&unified, gpa(GIB(3))), &unified);
	EXPECT_EQ(s2_source(&unified, gpa(GIB(4))), &s2);
	// A fault in the unified space is its source's; a close of either reaches it.
	hpa_t next = guest_block(0);
	ASSERT_EQ(s2_map_leaf(s2_source(&unified, gpa(MIB(4))), gpa(MIB(4)), 0, next, kRwx), OK);
	remember(&unified, MIB(4), S2_WRITE);
	remember(&unified, GIB(4), S2_WRITE);
	s2_batch_open(&batch, &restricted);
	ASSERT_EQ(s2_unmap(&restricted, gpa(0), GIB(2), &batch), OK);
	s2_batch_close(&batch);
	EXPECT_FALSE(any_cpu_gets(&unified, MIB(4), S2_READ));
	EXPECT_TRUE(any_cpu_gets(&unified, GIB(4), S2_WRITE));
	ASSERT_EQ(unmap(0, GIB(16)), OK);
	EXPECT_FALSE(any_cpu_gets(&unified, GIB(4), S2_READ));
}

TEST_P(S2Link, several_spaces_link_one)
{
	map_block(kRegion, 0);
	ASSERT_EQ(s2_init(&restricted, GetParam().format, 40, kOwner), OK);
	ASSERT_EQ(link(), OK);
	ASSERT_EQ(s2_link(&restricted, &s2, gpa(kRegion), MIB(2)), OK);
	EXPECT_EQ(table_refs(&s2, kRegion, 1), 3u);
	EXPECT_EQ(table_refs(&s2, kRegion + MIB(2), 1), 2u);
	remember(&unified, kRegion, S2_READ);
	remember(&restricted, kRegion, S2_READ);
	ASSERT_EQ(s2_unlink(&unified, gpa(kRegion), kSize), OK);
	EXPECT_TRUE(any_cpu_gets(&restricted, kRegion, S2_READ));
	ASSERT_EQ(unmap(kRegion, PAGE_SIZE), OK);
	EXPECT_FALSE(any_cpu_gets(&restricted, kRegion, S2_READ));
	EXPECT_EQ(table_refs(&s2, kRegion, 1), 2u);
}

TEST_P(S2Link, one_space_links_several_ranges_of_another)
{
	ASSERT_EQ(link(kRegion, MIB(2)), OK);
	ASSERT_EQ(link(kRegion + MIB(4), MIB(2)), OK);
	EXPECT_EQ(s2.dependent_count, 1u);
	map_block(kRegion, 0);
	map_block(kRegion + MIB(2), 0);
	map_block(kRegion + MIB(4), 0);
	expect_alike(&unified, kRegion, &s2);
	expect_alike(&unified, kRegion + MIB(4), &s2);
	EXPECT_EQ(s2_query(&unified, gpa(kRegion + MIB(2))).kind, S2_EMPTY);
	ASSERT_EQ(s2_unlink(&unified, gpa(kRegion), MIB(2)), OK);
	remember(&unified, kRegion + MIB(4), S2_READ);
	ASSERT_EQ(unmap(kRegion, MIB(8)), OK);
	EXPECT_FALSE(any_cpu_gets(&unified, kRegion + MIB(4), S2_READ));
}

TEST_P(S2Link, a_link_that_cannot_be_is_refused_and_changes_nothing)
{
	struct s2 third = {};
	u64 tables = s2.stats.tables + unified.stats.tables;
	hpa_t frame = guest_block(0);
	struct s2_batch batch;

	EXPECT_EQ(link(kRegion + PAGE_SIZE, MIB(2)), INVALID);
	EXPECT_EQ(link(kRegion, MIB(1)), INVALID);
	EXPECT_EQ(link(kRegion, 0), INVALID);
	EXPECT_EQ(link(BIT(40) - MIB(2), MIB(4)), INVALID);
	EXPECT_EQ(link(MIB(2), GIB(128)), INVALID) << "too many entries";
	EXPECT_EQ(s2_link(&s2, &s2, gpa(kRegion), kSize), INVALID);
	map_block(kRegion + MIB(2), 1);
	EXPECT_EQ(link(), EXISTS) << "a leaf is where a table should be";
	ASSERT_EQ(unmap(kRegion + MIB(2), MIB(2)), OK);
	ASSERT_EQ(s2_map(&unified, gpa(kRegion + kSize - PAGE_SIZE), frame, PAGE_SIZE, kRwx,
			 S2_ERROR),
		  OK);
	EXPECT_EQ(link(), EXISTS) << "something is in the way";
	s2_batch_open(&batch, &unified);
	ASSERT_EQ(s2_unmap(&unified, gpa(kRegion), kSize, &batch), OK);
	s2_batch_close(&batch);
	EXPECT_EQ(s2.stats.tables + unified.stats.tables, tables);
	EXPECT_EQ(s2.dependent_count + unified.loan_count, 0u);
	ASSERT_EQ(link(), OK);
	EXPECT_EQ(link(kRegion + MIB(2), MIB(2)), EXISTS);
	ASSERT_EQ(s2_init(&third, GetParam().format, 40, kOwner), OK);
	EXPECT_EQ(s2_link(&third, &unified, gpa(0), MIB(2)), INVALID) << "a chain";
	EXPECT_EQ(s2_link(&s2, &third, gpa(0), MIB(2)), INVALID) << "a chain";
	EXPECT_EQ(s2_view_init(&restricted, &unified, S2_READ), INVALID);
	restricted = {};
	EXPECT_EQ(s2_unlink(&unified, gpa(kRegion), MIB(2)), NOENT) << "another range";
	for (u64 i = 1; i < S2_LOANS_MAX; i++) {
		ASSERT_EQ(link(kRegion + i * GIB(1), MIB(2)), OK);
	}
	EXPECT_EQ(link(0, MIB(2)), FULL);
	s2_destroy(&third);
}

// A root that logging has put on hold is not the only way to tables that others link.
TEST_P(S2Link, writes_are_logged_in_no_space_that_has_tables_in_common)
{
	auto start = [](struct s2 *space) {
		return in_batch(space,
				[&](s2_batch *batch) { return s2_dirty_start(space, batch); });
	};

	for (struct s2 *space : {&s2, &unified}) {
		ASSERT_EQ(start(space), OK);
		EXPECT_EQ(link(), INVALID);
		s2_dirty_stop(space);
	}
	ASSERT_EQ(link(), OK);
	EXPECT_EQ(start(&s2), DENIED);
	EXPECT_EQ(start(&unified), DENIED);
	ASSERT_EQ(s2_unlink(&unified, gpa(kRegion), kSize), OK);
	for (struct s2 *space : {&s2, &unified}) {
		EXPECT_EQ(start(space), OK);
		s2_dirty_stop(space);
	}
}

TEST_P(S2Link, spaces_of_different_formats_share_no_tables)
{
	// Of the same shape, so that nothing but the bits would be wrong.
	const struct s2_format *f = GetParam().format == &s2_ept ? &s2_ept_mbec : &s2_ept;
	u64 tables = s2.stats.tables;

	ASSERT_EQ(s2_init(&restricted, f, 40, kOwner), OK);
	EXPECT_EQ(s2_link(&restricted, &s2, gpa(kRegion), kSize), INVALID);
	EXPECT_EQ(s2_link(&s2, &restricted, gpa(kRegion), kSize), INVALID);
	EXPECT_EQ(s2.dependent_count + s2.loan_count, 0u);
	EXPECT_EQ(s2.stats.tables, tables);
}

TEST_P(S2Link, a_range_is_linked_only_where_both_spaces_have_it)
{
	const u64 end = GIB(4);

	ASSERT_EQ(s2_init(&restricted, GetParam().format, 32, kOwner), OK);
	for (u64 at : {end, end - MIB(2), end + GIB(1)}) {
		EXPECT_EQ(s2_link(&unified, &restricted, gpa(at), MIB(4)), INVALID);
		EXPECT_EQ(s2_link(&restricted, &unified, gpa(at), MIB(4)), INVALID);
	}
	EXPECT_EQ(unified.loan_count + unified.dependent_count, 0u);
	ASSERT_EQ(s2_link(&unified, &restricted, gpa(end - MIB(2)), MIB(2)), OK);
	hpa_t frame = guest_block(0);

	ASSERT_EQ(s2_map(&restricted, gpa(end - PAGE_SIZE), frame, PAGE_SIZE, kRwx, S2_ERROR), OK);
	expect_alike(&unified, end - PAGE_SIZE, &restricted);
	EXPECT_EQ(s2_query(&unified, gpa(end - PAGE_SIZE)).hpa.v, frame.v);
}

TEST_P(S2Link, a_view_neither_links_nor_is_linked_nor_unlinked)
{
	struct s2 view = {};

	ASSERT_EQ(s2_view_init(&view, &s2, S2_READ), OK);
	EXPECT_EQ(s2_link(&view, &unified, gpa(kRegion), kSize), INVALID);
	EXPECT_EQ(s2_link(&unified, &view, gpa(kRegion), kSize), INVALID);
	EXPECT_EQ(unified.loan_count + unified.dependent_count, 0u);
	// The range that it has of its base is no link, though that is what it is on loan from.
	EXPECT_EQ(s2_unlink(&view, gpa(0), BIT(40)), NOENT);
	hpa_t frame = map_block(kRegion, 0);
	EXPECT_EQ(s2_view_fault(&view, gpa(kRegion), S2_READ), OK);
	EXPECT_EQ(s2_query(&view, gpa(kRegion)).hpa.v, frame.v);
	s2_view_destroy(&view);
}

TEST_P(S2Link, a_link_is_taken_back_as_a_whole_or_not_at_all)
{
	ASSERT_EQ(link(), OK);
	map_block(kRegion, 0);
	map_block(kRegion + MIB(2), 0);
	EXPECT_EQ(s2_unlink(&unified, gpa(kRegion + MIB(2)), kSize - MIB(2)), NOENT);
	EXPECT_EQ(s2_unlink(&unified, gpa(kRegion), kSize - MIB(2)), NOENT);
	EXPECT_EQ(s2_unlink(&unified, gpa(kRegion - MIB(2)), kSize + MIB(2)), NOENT);
	expect_alike(&unified, kRegion, &s2);
	expect_alike(&unified, kRegion + MIB(2), &s2);
	EXPECT_EQ(s2_query(&unified, gpa(kRegion + MIB(2))).kind, S2_LEAF);
	EXPECT_EQ(s2_unlink(&unified, gpa(kRegion), kSize), OK);
}

TEST_P(S2Link, while_a_batch_is_open_a_link_is_refused)
{
	enum status status = OK;
	std::atomic<bool> done{false};
	struct s2_batch batch;
	u64 clock;

	map_block(GIB(4), 1);
	map_block(GIB(4) + MIB(2), 1);
	s2_batch_open(&batch, &s2);
	ASSERT_EQ(s2_split(&s2, gpa(GIB(4)), 0, &batch), OK);
	clock = unified.generation;
	std::thread other([&] {
		fake_cpu_become(1);
		status = link(GIB(4), MIB(2));
		done = true;
	});
	// It has tried, and taken itself out again; then it waits for batches that know of it.
	while (!done && (load_acquire(&unified.generation) == clock ||
			 load_acquire(&s2.dependent_count) != 0)) {
		std::this_thread::yield();
	}
	s2_batch_close(&batch);
	other.join();
	EXPECT_EQ(status, AGAIN);
	EXPECT_EQ(link(GIB(4), MIB(2)), OK);
	expect_alike(&unified, GIB(4), &s2);
	// The same in the linking space.
	hpa_t frame = guest_block(0);
	ASSERT_EQ(s2_map(&unified, gpa(kRegion), frame, PAGE_SIZE, kRwx, S2_ERROR), OK);
	hpa_t neighbour = guest_block(9);
	ASSERT_EQ(s2_map(&unified, gpa(kRegion + kSize), neighbour, MIB(2), kRwx, S2_ERROR), OK);
	s2_batch_open(&batch, &unified);
	ASSERT_EQ(s2_unmap(&unified, gpa(kRegion), PAGE_SIZE, &batch), OK);
	EXPECT_EQ(link(), AGAIN);
	s2_batch_close(&batch);
	EXPECT_EQ(link(), OK);
}

TEST_P(S2Link, running_out_of_memory_changes_nothing)
{
	for (u64 left = 0;; left++) {
		u64 before, shared_tables;
		enum status status;

		s2_destroy(&s2);
		s2_destroy(&unified);
		fake_memory(kMemory);
		ASSERT_EQ(s2_init(&s2, GetParam().format, 40, kOwner), OK);
		ASSERT_EQ(s2_init(&unified, GetParam().format, 40, kOwner), OK);
		map_block(GIB(3) - PAGE_SIZE, 0);
		before = unified.stats.tables;
		shared_tables = s2.stats.tables;
		fake_memory_leave(left);
		// Across a boundary of 1 GiB: of the shared space's tables some are there.
		status = link(GIB(3) - MIB(4), MIB(6));
		EXPECT_EQ(unified.stats.leaf_4k, 0u);
		if (status == OK) {
			// Of pages, two are missing; above them one, and in the unified space both.
			EXPECT_EQ(left, 2u + 1 + 2);
			expect_alike(&unified, GIB(3) - PAGE_SIZE, &s2);
			break;
		}
		ASSERT_EQ(status, NOMEM);
		EXPECT_EQ(frame_count(FRAME_FREE), left);
		EXPECT_EQ(unified.stats.tables, before);
		EXPECT_EQ(s2.stats.tables, shared_tables);
		EXPECT_EQ(s2_query(&unified, gpa(GIB(3) - PAGE_SIZE)).kind, S2_EMPTY);
		EXPECT_EQ(s2.dependent_count + unified.loan_count, 0u);
	}
	taken_for_good = frame_count(FRAME_HYP);
}

TEST_P(S2Link, spaces_go_in_order)
{
	ASSERT_EQ(link(), OK);
	EXPECT_DEATH(s2_destroy(&s2), "dependent_count");
	EXPECT_DEATH(s2_destroy(&unified), "loan_count");
}

TEST_P(S2Link, a_view_of_a_shared_space_and_a_link_live_side_by_side)
{
	struct s2 view = {};

	map_block(kRegion, 0);
	ASSERT_EQ(link(), OK);
	ASSERT_EQ(s2_view_init(&view, &s2, S2_READ), OK);
	ASSERT_EQ(s2_view_fault(&view, gpa(kRegion), S2_READ), OK);
	remember(&view, kRegion, S2_READ);
	remember(&unified, kRegion, S2_READ);
	ASSERT_EQ(unmap(kRegion, PAGE_SIZE), OK);
	EXPECT_FALSE(any_cpu_gets(&view, kRegion, S2_READ));
	EXPECT_FALSE(any_cpu_gets(&unified, kRegion, S2_READ));
	s2_view_destroy(&view);
}

// Frames and tables are not given back while somebody walks by the link.
TEST_P(S2Link, a_close_waits_for_walks_through_the_link)
{
	std::atomic<bool> in{false}, may_end{false}, ended{false}, closed{false};

	map_block(kRegion, 0);
	ASSERT_EQ(link(), OK);
	std::thread walker([&] {
		fake_cpu_become(1);
		u64 outer = s2_walk_begin(&unified);

		in = true;
		while (!may_end) {
			std::this_thread::yield();
		}
		ended = true;
		s2_walk_end(&unified, outer);
	});
	while (!in) {
		std::this_thread::yield();
	}
	u64 clock = unified.generation;
	std::thread helper([&] {
		// The close below is under way once it has moved the clock of the unified space.
		while (load_acquire(&unified.generation) == clock && !closed) {
			std::this_thread::yield();
		}
		may_end = true;
	});
	EXPECT_EQ(unmap(kRegion, PAGE_SIZE), OK);
	EXPECT_TRUE(ended);
	closed = true;
	helper.join();
	walker.join();
}

} // namespace
