// The contiguous hint, over ARMv8's formats, beside the manual's walk and a TLB that remembers all
// and complains of what may not be: groups with half a hint, hints that come and go unbroken.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "../model/armv8_tlb.h"
#include "s2_test_machine.h"

extern "C" {
#include "hyp/s2_share.h"
#include "hyp/s2_view.h"
}

namespace
{

struct HintKind {
	const char *name;
	const struct s2_format *format;
	u8 traits;
};

std::vector<HintKind> kinds()
{
	return {
		{"k4", &s2_armv8_4k, 0},
		{"k4_accessed", &s2_armv8_4k, S2_HARDWARE_ACCESSED},
		{"k4_dirty", &s2_armv8_4k, S2_HARDWARE_ACCESSED | S2_HARDWARE_DIRTY},
		{"k4_size_change", &s2_armv8_4k, S2_SIZE_CHANGE | S2_HARDWARE_ACCESSED},
		{"k4_fwb", &s2_armv8_4k_fwb, S2_NONCOHERENT},
		{"k4_lpa2", &s2_armv8_4k_lpa2, S2_HARDWARE_ACCESSED},
		{"k16", &s2_armv8_16k, 0},
		{"k16_size_change", &s2_armv8_16k, S2_SIZE_CHANGE},
		{"k16_lpa2", &s2_armv8_16k_lpa2_fwb, S2_HARDWARE_ACCESSED},
		{"k64", &s2_armv8_64k, 0},
		{"k64_size_change", &s2_armv8_64k, S2_SIZE_CHANGE},
		{"k64_lpa", &s2_armv8_64k_lpa, S2_HARDWARE_ACCESSED},
	};
}

class S2Hint : public ::testing::TestWithParam<HintKind>
{
      protected:
	static constexpr u16 kOwner = 7;
	static constexpr u64 kDevice = 1ull << 43;

	void SetUp() override
	{
		f = GetParam().format;
		fake_broadcasts = true;
		fake_cpus(2);
		fake_memory(MIB(64));
		free_before = frame_count(FRAME_FREE);
		start(&s2, 5);
		start(&other, 6);
		page = s2_span(f, 0);
		count = BIT(f->contiguous_log2[0]);
		group = count * page;
		base = 4 * s2_span(f, 1);
		features.pa_bits = f->address_high ? 52 : 48;
		features.lpa2 = f->address_high && f->page_shift != 16;
		features.hafdbs = s2.traits & S2_HARDWARE_DIRTY	     ? 2
				  : s2.traits & S2_HARDWARE_ACCESSED ? 1
								     : 0;
		features.xnx = f->perms == 0xffff;
		walker = std::make_unique<model::Walker>(features, memory);
		tlb = std::make_unique<model::ModelTlb>(*walker, 2,
							s2.traits & S2_SIZE_CHANGE ? 2 : 0);
		for (struct s2 *space : {&s2, &other}) {
			tlb->attach(registers(space));
		}
		fake_flush_hook = {this, on_range, on_tail, on_space, nullptr, nullptr, on_written};
	}

	void TearDown() override
	{
		judge();
		fake_flush_hook = {};
		s2_destroy(&other);
		s2_destroy(&s2);
		EXPECT_EQ(frame_count(FRAME_FREE) + taken_for_good, free_before) << "frames leaked";
	}

	void start(struct s2 *space, u64 vmid)
	{
		ASSERT_EQ(s2_init(space, f, 40, kOwner), OK);
		space->traits = GetParam().traits;
		space->ident = vmid;
	}

	model::Registers registers(const struct s2 *space)
	{
		model::Registers r;

		r.vtcr = s2_armv8_vtcr(space, {f->address_high ? 6u : 5u,
					       (space->traits & S2_HARDWARE_ACCESSED) != 0, true,
					       (space->traits & S2_HARDWARE_DIRTY) != 0});
		r.vttbr = ptr_hpa(space->top).v | space->ident << 48;
		r.fwb = f->memories >> S2_FORCED & 1;
		return r;
	}

	// As arch/arm64/s2_tlb.c issues them, with and without FEAT_TLBIRANGE in turn.
	static void on_range(void *context, const struct s2 *space, gpa_t first, u64 size,
			     unsigned level)
	{
		S2Hint *t = static_cast<S2Hint *>(context);
		bool by_range = t->flushes++ % 2;
		struct s2_armv8_flush flush = {t->f,  first.v,	first.v + size,
					       level, by_range, true};
		enum s2_armv8_tlbi next;
		u64 operand;

		if (t->at_flush) {
			std::exchange(t->at_flush, nullptr)();
		}
		while ((next = s2_armv8_flush_next(&flush, &operand)) != FLUSH_DONE) {
			if (next == FLUSH_IPAS2E1IS) {
				t->tlb->ipas2e1(space->ident, operand);
			} else if (next == FLUSH_RIPAS2E1IS) {
				t->tlb->ripas2e1(space->ident, operand);
			} else {
				t->tlb->vmalls12e1(space->ident);
			}
		}
	}

	static void on_tail(void *context, const struct s2 *space)
	{
		S2Hint *t = static_cast<S2Hint *>(context);

		t->tlb->dsb();
		t->tlb->vmalle1(space->ident);
		t->tlb->dsb();
	}

	static void on_space(void *context, const struct s2 *space)
	{
		S2Hint *t = static_cast<S2Hint *>(context);

		t->tlb->vmalls12e1(space->ident);
		t->tlb->dsb();
	}

	// CPUs fetch what there is between two writes.
	static void on_written(void *context)
	{
		S2Hint *t = static_cast<S2Hint *>(context);

		t->tlb->prefetch_all();
		if (t->at_write) {
			std::function<void()>(t->at_write)();
		}
	}

	// With no batch open: no half groups, nothing stale, and nothing was done wrong.
	void judge()
	{
		tlb->prefetch_all();
		for (const std::string &error : tlb->errors()) {
			ADD_FAILURE() << error;
		}
		for (const std::string &stale : tlb->stale()) {
			ADD_FAILURE() << stale;
		}
		for (struct s2 *space : {&s2, &other}) {
			model::Seen seen;

			walker->for_each_new(
				registers(space), seen, [&](const model::Walk &walk, bool) {
					auto look = walker->look(registers(space), walk.ipa_start);

					for (const std::string &complaint : look.complaints) {
						ADD_FAILURE() << complaint;
					}
				});
		}
	}

	void map(u64 at, u64 to, u64 size, struct s2_attr attr = kRwx, struct s2 *space = nullptr)
	{
		ASSERT_EQ(s2_map(space ? space : &s2, gpa(at), hpa(to), size, attr, S2_ERROR), OK);
	}

	// One group of pages, in a table that has others.
	void map_group(u64 at, struct s2_attr attr = kRwx)
	{
		map(at, kDevice + at, group, attr);
	}

	struct s2_collapsed hint(u64 at, u64 size, unsigned level = 0)
	{
		struct s2_collapsed report;

		EXPECT_EQ(s2_hint(&s2, gpa(at), size, level, &report), OK);
		return report;
	}

	// A group at `base` with the hint, and another, which is to keep it.
	void two_groups()
	{
		map_group(base);
		map_group(base + 2 * group);
		ASSERT_EQ(hint(base, 3 * group).count[S2_FOLDED], 2u);
		judge();
	}

	bool hinted(u64 at, const struct s2 *space = nullptr)
	{
		model::Walk walk = walker->look(registers(space ? space : &s2), at);

		EXPECT_EQ(s2_query(const_cast<struct s2 *>(space ? space : &s2), gpa(at)).hinted,
			  walk.ok() && walk.contiguous);
		return walk.ok() && walk.contiguous;
	}

	// Of the group at `at`: none, or all.
	void expect_hint(bool expected, u64 at, const char *what, u64 step = 0)
	{
		step = step ? step : page;
		for (u64 i = 0; i < group / page; i++) {
			EXPECT_EQ(hinted(at + i * step), expected) << what << ", page " << i;
		}
	}

	void in_batch(std::function<void(struct s2_batch *)> work, struct s2 *space = nullptr)
	{
		struct s2_batch batch;

		s2_batch_open(&batch, space ? space : &s2);
		work(&batch);
		tlb->prefetch_all();
		s2_batch_close(&batch);
		judge();
	}

	void set_accessed(u64 at, bool accessed)
	{
		struct s2_cursor c;

		s2_cursor_start(&c, &s2, gpa(at));
		s2_cursor_descend_all(&c, 0);
		(accessed ? s2_slot_set_flag(&s2, c.slot, f->accessed)
			  : (void)s2_slot_clear_flag(&s2, c.slot, f->accessed));
	}

	bool accessed(u64 at)
	{
		return s2_query(&s2, gpa(at)).accessed;
	}

	struct Told {
		std::vector<u64> young;
		struct s2_harvest h = {};
	};
	Told harvest(u64 at, u64 size, bool clear, u64 budget = 0)
	{
		Told told;
		enum status status;

		told.h.clear = clear;
		told.h.context = &told.young;
		told.h.young = [](void *context, gpa_t where, unsigned) {
			static_cast<std::vector<u64> *>(context)->push_back(where.v);
		};
		told.h.budget = budget;
		for (u64 end = at + size;
		     (status = s2_harvest(&s2, gpa(at), end - at, &told.h)) == MORE;) {
			at = told.h.next;
		}
		EXPECT_EQ(status, OK);
		return told;
	}

	hpa_t guest_block(u64 bytes)
	{
		unsigned order = 0;

		while (order_bytes(order) < bytes) {
			order++;
		}
		return frame_alloc(order, FRAME_GUEST, kOwner);
	}

	// A group of RAM.
	hpa_t map_ram(u64 at, struct s2 *space = nullptr)
	{
		hpa_t block = guest_block(group);

		map(at, block.v, group, kRwx, space);
		return block;
	}

	struct s2 s2 = {}, other = {};
	const struct s2_format *f;
	u64 page, count, group, base, free_before, taken_for_good = 0, flushes = 0;
	std::function<void()> at_flush; // once
	std::function<void()> at_write; // every time
	model::HostMemory memory;
	model::Features features;
	std::unique_ptr<model::Walker> walker;
	std::unique_ptr<model::ModelTlb> tlb;
};
INSTANTIATE_TEST_SUITE_P(formats, S2Hint, ::testing::ValuesIn(kinds()),
			 [](const auto &info) { return info.param.name; });

// ---- With the hint ---------------------------------------------------------------------------

TEST_P(S2Hint, a_group_gets_it_and_translates_as_before)
{
	map_group(base);
	u64 tables = s2.stats.tables, before = flushes;

	EXPECT_FALSE(hinted(base));
	EXPECT_EQ(hint(base, group).count[S2_FOLDED], 1u);
	EXPECT_EQ(flushes - before, s2.traits & S2_SIZE_CHANGE ? 0u : 1u);
	expect_hint(true, base, "the group");
	for (u64 at = base; at < base + group; at += page) {
		EXPECT_EQ(s2_query(&s2, gpa(at + 5)).hpa.v, kDevice + at + 5);
		EXPECT_EQ(s2_query(&s2, gpa(at)).attr.perm, S2_RWX);
	}
	EXPECT_EQ(s2.stats.leaf_4k, count);
	EXPECT_EQ(s2.stats.tables, tables);
	EXPECT_EQ(s2.stats.hints, 1u);
	EXPECT_EQ(hint(base, group).count[S2_LARGE_ALREADY], 1u);
	EXPECT_EQ(s2.stats.hints, 1u);
}

TEST_P(S2Hint, groups_of_one_table_are_one_invalidation)
{
	for (u64 i = 0; i < 4; i++) {
		map_group(base + 2 * i * group);
	}
	u64 before = flushes;
	struct s2_collapsed report = hint(base, 8 * group);

	EXPECT_EQ(report.count[S2_FOLDED], 4u);
	EXPECT_EQ(report.count[S2_HAS_HOLES], 4u);
	EXPECT_EQ(flushes - before, s2.traits & S2_SIZE_CHANGE ? 0u : 1u);
}

TEST_P(S2Hint, only_whole_groups_are_looked_at)
{
	map_group(base);
	struct s2_collapsed report = hint(base + page, 2 * group - 2 * page);

	for (u64 n : report.count) {
		EXPECT_EQ(n, 0u);
	}
	expect_hint(false, base, "in part");
}

TEST_P(S2Hint, blocks_have_groups_too)
{
	u64 block = s2_span(f, 1), blocks = BIT(f->contiguous_log2[1]);

	map(0, kDevice, blocks * block);
	struct s2_collapsed report = hint(0, blocks * block, 1);

	if (s2.root_level == 1) {
		EXPECT_EQ(report.why, S2_NO_SUCH_LEAF) << "not in a root";
		return;
	}
	EXPECT_EQ(report.count[S2_FOLDED], 1u);
	EXPECT_TRUE(hinted(0) && hinted(blocks * block - page));
	judge();
	in_batch([&](struct s2_batch *batch) {
		EXPECT_EQ(s2_unmap(&s2, gpa(3 * block + page), page, batch), OK);
	});
	EXPECT_FALSE(hinted(0));
	EXPECT_FALSE(hinted(3 * block));
	EXPECT_EQ(s2_query(&s2, gpa(3 * block)).level, 0);
	EXPECT_EQ(s2_query(&s2, gpa(4 * block)).level, 1);
}

TEST_P(S2Hint, every_reason_is_told)
{
	struct s2_collapsed report;

	EXPECT_EQ(hint(base, group).why, S2_HAS_HOLES);
	map(base, kDevice, group - page);
	EXPECT_EQ(hint(base, group).why, S2_HAS_HOLES) << "the last one is missing";
	map(base + group - page, kDevice + 2 * group, page);
	EXPECT_EQ(hint(base, group).why, S2_SCATTERED);
	map(base + group, kDevice + page, group);
	EXPECT_EQ(hint(base + group, group).why, S2_MISALIGNED);
	map_group(base + 2 * group);
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_protect(&s2, gpa(base + 2 * group), page, S2_READ, batch), OK);
	});
	report = hint(base + 2 * group, group);
	EXPECT_EQ(report.why, S2_MIXED);
	EXPECT_EQ(report.last_refused.v, base + 2 * group);
	map(s2_span(f, 1), kDevice, s2_span(f, 1));
	EXPECT_EQ(hint(s2_span(f, 1), group).count[S2_LARGE_ALREADY], 1u) << "in a block";
	EXPECT_EQ(hint(base, group, s2.root_level).why, S2_NO_SUCH_LEAF);
	EXPECT_EQ(s2.stats.hints, 0u);
	EXPECT_EQ(s2_hint(&s2, gpa(1), group, 0, &report), INVALID);
	EXPECT_EQ(s2_hint(&s2, gpa(base), group, S2_LEVELS_MAX, &report), INVALID);
	EXPECT_EQ(s2_unhint(&s2, gpa(base), 0), INVALID);
}

TEST_P(S2Hint, what_is_shared_or_logged_is_refused)
{
	map_ram(base);
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_fork(&s2, &other, gpa(base), page, batch), OK);
	});
	EXPECT_EQ(hint(base, group).why, S2_IS_SHARED);
	map_group(base + group);
	in_batch([&](struct s2_batch *batch) { ASSERT_EQ(s2_dirty_start(&s2, batch), OK); });
	EXPECT_EQ(hint(base + group, group).why, S2_IS_LOGGED);
	s2_dirty_stop(&s2);
	EXPECT_EQ(hint(base + group, group).count[S2_FOLDED], 1u);
}

TEST_P(S2Hint, what_a_batch_has_in_transit_is_a_reason)
{
	map_group(base);
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_unmap(&s2, gpa(base + page), page, batch), OK);
		EXPECT_EQ(hint(base, group).why, S2_IS_OPEN);
	});
}

TEST_P(S2Hint, it_needs_no_memory)
{
	two_groups();
	fake_memory_leave(0);
	taken_for_good = frame_count(FRAME_HYP);
	EXPECT_EQ(s2_unhint(&s2, gpa(base), group), OK);
	EXPECT_EQ(hint(base, group).count[S2_FOLDED], 1u);
	in_batch([&](struct s2_batch *batch) {
		EXPECT_EQ(s2_unmap(&s2, gpa(base), page, batch), OK);
	});
	expect_hint(true, base + 2 * group, "the other");
}

TEST_P(S2Hint, dump_tells_groups_apart)
{
	std::vector<struct s2_region> regions;

	map_group(base);
	map_group(base + group);
	ASSERT_EQ(hint(base + group, group).count[S2_FOLDED], 1u);
	s2_dump(
		&s2, gpa(base), 2 * group,
		[](void *context, const struct s2_region *region) {
			static_cast<std::vector<struct s2_region> *>(context)->push_back(*region);
		},
		&regions);
	ASSERT_EQ(regions.size(), 2u);
	EXPECT_FALSE(regions[0].hinted);
	EXPECT_TRUE(regions[1].hinted);
	EXPECT_EQ(regions[1].gpa.v, base + group);
	EXPECT_EQ(regions[1].size, group);
}

// ---- Whoever changes a part ------------------------------------------------------------------

TEST_P(S2Hint, unmapping_a_page_takes_it_from_the_others)
{
	two_groups();
	in_batch([&](struct s2_batch *batch) {
		EXPECT_EQ(s2_unmap(&s2, gpa(base + 3 * page), page, batch), OK);
		EXPECT_EQ(s2_query(&s2, gpa(base + 2 * page)).kind, S2_LEAF)
			<< "the others stay in reach";
	});
	for (u64 i = 0; i < count; i++) {
		EXPECT_EQ(s2_query(&s2, gpa(base + i * page)).kind, i == 3 ? S2_EMPTY : S2_LEAF);
		EXPECT_FALSE(hinted(base + i * page));
	}
	expect_hint(true, base + 2 * group, "the other");
}

TEST_P(S2Hint, whole_groups_go_without_a_trace)
{
	two_groups();
	in_batch([&](struct s2_batch *batch) {
		EXPECT_EQ(s2_unmap(&s2, gpa(base), group, batch), OK);
	});
	expect_hint(true, base + 2 * group, "the other");
	in_batch([&](struct s2_batch *batch) {
		EXPECT_EQ(s2_unmap(&s2, gpa(base), s2_span(f, 1), batch), OK);
	});
	EXPECT_EQ(s2.stats.leaf_4k, 0u);
}

TEST_P(S2Hint, a_budget_may_end_in_a_group)
{
	two_groups();
	in_batch([&](struct s2_batch *batch) {
		batch->budget = 5;
		EXPECT_EQ(s2_unmap(&s2, gpa(base), 3 * group, batch), MORE);
		EXPECT_EQ(batch->next, base + 5 * page);
	});
	expect_hint(true, base + 2 * group, "the other");
}

TEST_P(S2Hint, protect_takes_it_away)
{
	two_groups();
	in_batch([&](struct s2_batch *batch) {
		EXPECT_EQ(s2_protect(&s2, gpa(base + 2 * page), page, S2_READ, batch), OK);
	});
	expect_hint(false, base, "in part");
	in_batch([&](struct s2_batch *batch) {
		EXPECT_EQ(s2_protect(&s2, gpa(base + 2 * group), group, S2_READ, batch), OK);
	});
	EXPECT_EQ(hint(base + 2 * group, group).count[S2_FOLDED], 1u) << "as it is now";
	EXPECT_EQ(s2_query(&s2, gpa(base + 2 * group)).attr.perm, S2_READ);
}

TEST_P(S2Hint, more_rights_take_it_away)
{
	map_group(base, {S2_READ, S2_NORMAL});
	ASSERT_EQ(hint(base, group).count[S2_FOLDED], 1u);
	ASSERT_EQ(s2_map(&s2, gpa(base + page), hpa(kDevice + base + page), page, kRwx, S2_UPGRADE),
		  OK);
	judge();
	expect_hint(false, base, "a page has more rights");
	EXPECT_EQ(s2_query(&s2, gpa(base + page)).attr.perm, S2_RWX);
	EXPECT_EQ(s2_query(&s2, gpa(base)).attr.perm, S2_READ);
}

TEST_P(S2Hint, a_fork_takes_it_away_and_the_child_never_has_it)
{
	map_ram(base);
	ASSERT_EQ(hint(base, group).count[S2_FOLDED], 1u);
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_fork(&s2, &other, gpa(base), group, batch), OK);
	});
	expect_hint(false, base, "withheld");
	EXPECT_FALSE(hinted(base, &other));
	EXPECT_TRUE(s2_query(&s2, gpa(base)).shared);
	hpa_t fresh = guest_block(page);

	ASSERT_EQ(s2_cow_fault(&s2, gpa(base + page), fresh, 0), OK);
	judge();
}

TEST_P(S2Hint, merging_takes_it_from_both_pages_groups)
{
	struct s2_member ours = {&s2, 0}, theirs = {&other, 0};
	struct s2_collapsed report;
	struct s2_rmap rmap = {};

	ASSERT_EQ(s2_rmap_init(&rmap, 8), OK);
	memset(hpa_ptr(map_ram(base)), 5, group);
	memset(hpa_ptr(map_ram(base, &other)), 5, group);
	ASSERT_EQ(hint(base, group).count[S2_FOLDED], 1u);
	ASSERT_EQ(s2_hint(&other, gpa(base), group, 0, &report), OK);
	ASSERT_EQ(report.count[S2_FOLDED], 1u);
	struct s2_holder *a = s2_offer(&rmap, &ours, gpa(base));
	struct s2_holder *b = s2_offer(&rmap, &theirs, gpa(base + page));

	EXPECT_EQ(s2_merge(&rmap, a, b), OK);
	judge();
	expect_hint(false, base, "ours");
	EXPECT_FALSE(hinted(base, &other));
	EXPECT_EQ(s2_query(&s2, gpa(base)).hpa.v, s2_query(&other, gpa(base + page)).hpa.v);
	s2_rmap_destroy(&rmap);
}

TEST_P(S2Hint, logging_takes_it_away_table_by_table)
{
	std::vector<u64> bits(s2_span(f, 1) / page / 64, 0);

	two_groups();
	map_group(base + s2_span(f, 1));
	ASSERT_EQ(hint(base + s2_span(f, 1), group).count[S2_FOLDED], 1u);
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_dirty_start(&s2, batch), OK);
		/* A fault may be here before the close. */
		EXPECT_EQ(s2_dirty_fault(&s2, gpa(base + page), true), OK);
		EXPECT_TRUE(tlb->errors().empty()) << tlb->errors()[0];
	});
	expect_hint(false, base, "logged");
	expect_hint(false, base + 2 * group, "logged");
	ASSERT_EQ(s2_dirty_get(&s2, gpa(base), s2_span(f, 1), bits.data()), OK);
	EXPECT_EQ(bits[0], 2u) << "one page was written";
	EXPECT_EQ(s2_dirty_fault(&s2, gpa(base + s2_span(f, 1)), true), OK);
	expect_hint(false, base + s2_span(f, 1), "logged later");
	s2_dirty_stop(&s2);
	judge();
	EXPECT_EQ(hint(base, 3 * group).count[S2_FOLDED], 2u);
}

TEST_P(S2Hint, tables_that_logging_never_came_to_keep_it)
{
	two_groups();
	in_batch([&](struct s2_batch *batch) { ASSERT_EQ(s2_dirty_start(&s2, batch), OK); });
	s2_dirty_stop(&s2);
	expect_hint(true, base, "as before");
}

TEST_P(S2Hint, a_table_with_hints_becomes_a_block)
{
	struct s2_collapsed report;
	u64 block = s2_span(f, 1);

	map(base + page, kDevice + page, block - page); // not by one leaf
	map(base, kDevice, page);
	ASSERT_EQ(hint(base, 2 * group).count[S2_FOLDED], 2u);
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_collapse(&s2, gpa(base), block, 1, batch, &report), OK);
		EXPECT_EQ(report.count[S2_FOLDED], 1u);
	});
	EXPECT_EQ(s2_query(&s2, gpa(base)).level, 1);
	EXPECT_FALSE(hinted(base));
}

TEST_P(S2Hint, a_fold_that_is_undone_has_no_half_groups)
{
	struct s2_collapsed report;
	u64 block = s2_span(f, 1);

	map(base + page, kDevice + page, block - page);
	map(base, kDevice, page);
	ASSERT_EQ(hint(base, block).count[S2_FOLDED], block / group);
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_collapse(&s2, gpa(base), block, 1, batch, &report), OK);
		in_batch([&](struct s2_batch *unmap) {
			ASSERT_EQ(s2_unmap(&s2, gpa(base + 2 * page), page, unmap), OK);
		});
	});
	EXPECT_EQ(s2.stats.collapses_undone, 1u);
	expect_hint(false, base, "in part");
	EXPECT_EQ(s2_query(&s2, gpa(base + 2 * page)).kind, S2_EMPTY);
}

// Tables that were broken when logging began are not looked at again: they come back as they were,
// all of them written, and lose their hints when they are cleaned.
TEST_P(S2Hint, tables_that_come_back_while_writes_are_logged_lose_it_when_cleaned)
{
	struct s2_collapsed report;
	u64 block = s2_span(f, 1), broken = base + block;
	std::vector<u64> bits(block / page / 64, ~0ull), got(bits.size(), 0), first(bits.size(), 0);
	struct s2_batch fold, log;

	map(base + page, kDevice + page, block - page);
	map(base, kDevice, page);
	ASSERT_EQ(hint(base, block).count[S2_FOLDED], block / group);
	map(broken, kDevice + block, block);
	s2_batch_open(&fold, &s2);
	ASSERT_EQ(s2_collapse(&s2, gpa(base), block, 1, &fold, &report), OK);
	EXPECT_EQ(hint(base, group).why, S2_IS_OPEN);
	ASSERT_EQ(s2_split(&s2, gpa(broken), 0, &fold), OK);
	if (!(s2.traits & S2_SIZE_CHANGE)) {
		EXPECT_EQ(hint(broken, group).why, S2_IS_OPEN);
	}
	s2_batch_open(&log, &s2);
	ASSERT_EQ(s2_dirty_start(&s2, &log), OK);
	s2_batch_close(&log);
	s2_dirty_fault(&s2, gpa(0),
		       true); // the tables above are looked at, and pass what is broken
	s2_batch_close(&fold);
	judge();
	EXPECT_EQ(s2.stats.collapses_undone, 1u);
	EXPECT_FALSE(hinted(broken));
	ASSERT_EQ(s2_dirty_get(&s2, gpa(base), block, got.data()), OK);
	EXPECT_EQ(got, bits);
	first[0] = 2;
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_dirty_clear(&s2, gpa(base), block, first.data(), 0, batch), OK);
	});
	expect_hint(false, base, "a page of it is clean");
	in_batch([&](struct s2_batch *batch) {
		ASSERT_EQ(s2_dirty_clear(&s2, gpa(base), block, bits.data(), 0, batch), OK);
	});
	expect_hint(false, base + block - group, "clean");
	ASSERT_EQ(s2_dirty_fault(&s2, gpa(base + page), true), OK);
	got.assign(bits.size(), 0);
	ASSERT_EQ(s2_dirty_get(&s2, gpa(base), block, got.data()), OK);
	EXPECT_EQ(got[0], 2u);
	s2_dirty_stop(&s2);
}

TEST_P(S2Hint, a_linked_table_has_none_and_gets_none)
{
	u64 block = s2_span(f, 1), region = align_down(base, block);

	two_groups();
	ASSERT_EQ(s2_link(&other, &s2, gpa(region), block), OK);
	judge();
	expect_hint(false, base, "in two spaces");
	EXPECT_FALSE(hinted(base, &other));
	EXPECT_EQ(hint(base, group).why, S2_IS_LINKED);
	EXPECT_EQ(s2_unhint(&other, gpa(region), block), DENIED);
	struct s2_collapsed report;

	EXPECT_EQ(s2_hint(&other, gpa(region), block, 0, &report), DENIED);
	ASSERT_EQ(s2_unlink(&other, gpa(region), block), OK);
	EXPECT_EQ(hint(base, group).count[S2_FOLDED], 1u);
}

// Tables below a linked one are the shared space's as ever, and both spaces' CPUs forget.
TEST_P(S2Hint, below_a_linked_table_it_comes_and_goes)
{
	u64 region = s2_span(f, 2);

	if (s2.root_level < 2) {
		return;
	}
	map_group(region);
	ASSERT_EQ(s2_link(&other, &s2, gpa(region), region), OK);
	EXPECT_EQ(hint(region, group).count[S2_FOLDED], 1u);
	judge();
	EXPECT_TRUE(hinted(region, &other));
	in_batch([&](struct s2_batch *batch) {
		EXPECT_EQ(s2_unmap(&s2, gpa(region), page, batch), OK);
	});
	EXPECT_FALSE(hinted(region + page, &other));
	ASSERT_EQ(s2_unlink(&other, gpa(region), region), OK);
}

// ---- Flags -----------------------------------------------------------------------------------

TEST_P(S2Hint, any_flag_tells_of_the_whole_group)
{
	two_groups();
	harvest(base, 3 * group, true);
	EXPECT_TRUE(harvest(base, 3 * group, true).young.empty());
	ASSERT_EQ(s2_mark_accessed(&s2, gpa(base + 5 * page)), OK);
	expect_hint(true, base, "a use changes nothing");
	Told told = harvest(base, 3 * group, false);

	EXPECT_EQ(told.young.size(), count);
	EXPECT_EQ(told.h.young_count, count);
	EXPECT_EQ(told.young.front(), base);
	EXPECT_EQ(told.young.back(), base + group - page);
	EXPECT_EQ(harvest(base, 3 * group, true).young.size(), count) << "was only tested";
	EXPECT_FALSE(accessed(base + 5 * page));
	EXPECT_TRUE(harvest(base, 3 * group, true).young.empty()) << "watched anew";
	expect_hint(true, base, "as before");
}

TEST_P(S2Hint, a_part_of_a_group_is_told_and_not_cleared)
{
	two_groups();
	harvest(base, 3 * group, true);
	ASSERT_EQ(s2_mark_accessed(&s2, gpa(base + page)), OK);
	EXPECT_EQ(harvest(base + 3 * page, 2 * page, true).young.size(), 2u);
	EXPECT_EQ(harvest(base, group - page, true).young.size(), count - 1);
	EXPECT_EQ(harvest(base, group, true).young.size(), count) << "nobody has missed it";
	EXPECT_TRUE(harvest(base, group, true).young.empty());
}

TEST_P(S2Hint, a_budget_does_not_cut_a_group)
{
	two_groups();
	harvest(base, 3 * group, true);
	ASSERT_EQ(s2_mark_accessed(&s2, gpa(base + group - page)), OK);
	Told told = harvest(base - 2 * page, 3 * group, true, 3);

	EXPECT_EQ(told.young.size(), count);
	EXPECT_TRUE(harvest(base, 3 * group, true).young.empty());
}

TEST_P(S2Hint, blocks_flags_are_their_groups)
{
	u64 block = s2_span(f, 1), blocks = BIT(f->contiguous_log2[1]);

	map(0, kDevice, blocks * block);
	if (hint(0, blocks * block, 1).count[S2_FOLDED] == 0) {
		return; // in a root
	}
	harvest(0, blocks * block, true);
	ASSERT_EQ(s2_mark_accessed(&s2, gpa(2 * block)), OK);
	EXPECT_EQ(harvest(block, 2 * block, true).young.size(), 2u);
	EXPECT_EQ(harvest(0, blocks * block, true, 1).young.size(), blocks);
	EXPECT_TRUE(harvest(0, blocks * block, true).young.empty());
}

TEST_P(S2Hint, when_it_goes_each_leaf_has_the_groups_flag)
{
	two_groups();
	harvest(base, 3 * group, true);
	ASSERT_EQ(s2_mark_accessed(&s2, gpa(base + 5 * page)), OK);
	ASSERT_EQ(s2_unhint(&s2, gpa(base), 3 * group), OK);
	judge();
	for (u64 i = 0; i < count; i++) {
		EXPECT_TRUE(accessed(base + i * page));
		EXPECT_FALSE(accessed(base + 2 * group + i * page));
	}
	EXPECT_EQ(harvest(base, 3 * group, true).young.size(), count);
}

// ---- At once with others ---------------------------------------------------------------------

// Hints change in a table where a fault has claimed a leaf: it finds its claim all the same.
TEST_P(S2Hint, a_claim_is_settled_behind_a_broken_entry)
{
	struct Claim {
		struct s2_change change; // first
		std::atomic<bool> claimed{false}, cut{false};
	} claim;
	u64 at = base + group;

	two_groups();
	ASSERT_EQ(s2_unhint(&s2, gpa(base), group), OK);
	map_group(at);
	claim.change = {};
	claim.change.at = gpa(at);
	claim.change.judge = [](struct s2_change *, struct s2_cursor *) { return OK; };
	claim.change.replace = [](struct s2_change *change) {
		Claim *c = reinterpret_cast<Claim *>(change);

		c->claimed = true;
		while (!c->cut) {
			std::this_thread::yield();
		}
		return change->leaf;
	};
	std::atomic<enum status> status{NOENT};
	std::thread guest([&] {
		fake_cpu_become(1);
		status = s2_change_leaf(&s2, &claim.change);
	});

	while (!claim.claimed) {
		std::this_thread::yield();
	}
	if (s2.traits & S2_SIZE_CHANGE) {
		claim.cut = true; // nothing to stop at
	} else {
		at_flush = [&] {
			claim.cut = true;
			guest.join();
		};
	}
	EXPECT_EQ(hint(base, group).count[S2_FOLDED], 1u);
	if (guest.joinable()) {
		guest.join();
	}
	EXPECT_EQ(status, OK);
	EXPECT_EQ(s2_query(&s2, gpa(at)).kind, S2_LEAF);
}

// A walk that began before the table was cut off may claim a leaf until the last moment.
TEST_P(S2Hint, a_claim_at_the_last_moment_leaves_no_half_group)
{
	struct s2_batch claim;
	struct s2_cursor c;
	u64 leaf;

	map_group(base);
	if (s2.traits & S2_SIZE_CHANGE) {
		return; // no moment to come in
	}
	s2_batch_open(&claim, &s2);
	s2_cursor_start(&c, &s2, gpa(base + 3 * page));
	s2_cursor_descend(&c, 0);
	leaf = c.entry;
	at_flush = [&] { ASSERT_TRUE(s2_entry_set(&c, s2_claim_entry(&claim), nullptr)); };
	EXPECT_EQ(hint(base, group).why, S2_IS_OPEN);
	ASSERT_TRUE(s2_entry_set(&c, leaf, nullptr));
	s2_batch_close(&claim);
	expect_hint(false, base, "one was claimed");
}

// The claim is let go again when others of the group have the hint already.
TEST_P(S2Hint, a_claim_that_goes_at_the_last_moment_leaves_no_half_group)
{
	struct s2_batch claim;
	struct s2_cursor c;
	u64 leaf;

	map_group(base);
	if ((s2.traits & S2_SIZE_CHANGE) || !(s2.traits & S2_NONCOHERENT)) {
		return; // no moment to come in, or no hook for the second
	}
	s2_batch_open(&claim, &s2);
	s2_cursor_start(&c, &s2, gpa(base + 3 * page));
	s2_cursor_descend(&c, 0);
	leaf = c.entry;
	at_flush = [&] {
		ASSERT_TRUE(s2_entry_set(&c, s2_claim_entry(&claim), nullptr));
		at_write = [&] {
			if (load_relaxed(c.slot + 1) & f->contiguous) {
				at_write = nullptr;
				ASSERT_TRUE(s2_entry_set(&c, leaf, nullptr));
			}
		};
	};
	EXPECT_EQ(hint(base, group).why, S2_IS_OPEN);
	EXPECT_FALSE(at_write);
	s2_batch_close(&claim);
	expect_hint(false, base, "one was claimed");
	EXPECT_EQ(hint(base, group).count[S2_FOLDED], 1u);
}

TEST_P(S2Hint, nobody_claims_a_leaf_that_has_it)
{
	struct s2_change change = {};

	two_groups();
	change.at = gpa(base);
	change.judge = [](struct s2_change *, struct s2_cursor *) { return OK; };
	change.replace = [](struct s2_change *c) { return c->leaf; };
	EXPECT_EQ(s2_change_leaf(&s2, &change), AGAIN);
	expect_hint(true, base, "as before");
}

// ---- Other formats ---------------------------------------------------------------------------

class S2NoHint : public S2Test
{
};
INSTANTIATE_TEST_SUITE_P(formats, S2NoHint,
			 ::testing::Values(S2Kind{"ept", &s2_ept, false},
					   S2Kind{"ept_software", &s2_ept_software, false},
					   S2Kind{"npt", &s2_npt, false},
					   S2Kind{"fake", arch_s2_format(), true}),
			 s2_kind_name);

TEST_P(S2NoHint, formats_without_the_bit_say_so)
{
	struct s2_collapsed report;

	ASSERT_EQ(s2_map(&s2, gpa(KIB(64)), hpa(1ull << 43), KIB(64), kRwx, S2_ERROR), OK);
	EXPECT_FALSE(s2_query(&s2, gpa(KIB(64))).hinted);
	EXPECT_EQ(s2_hint(&s2, gpa(KIB(64)), KIB(64), 0, &report), OK);
	EXPECT_EQ(report.why, S2_NO_SUCH_LEAF);
	EXPECT_EQ(s2_unhint(&s2, gpa(KIB(64)), KIB(64)), OK);
	EXPECT_FALSE(s2.hinted);
}

} // namespace
