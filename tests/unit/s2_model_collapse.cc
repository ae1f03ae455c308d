// Collapse with its reasons, and the close of batches, which completes it.
#include "s2_model_steps.h"

#include <algorithm>

namespace s2_model
{

using model::Remembered;
using model::Sight;
using model::Verdict;

// ---- Collapse --------------------------------------------------------------------------------

// Is the region made of leaves of `level` - 1 that are one after another, and all alike? *why: what
// is the first that is not.
bool Machine::is_uniform(const Range &region, unsigned level, enum s2_why *why)
{
	u64 step = s2_span(f_, level - 1), first_pa = 0;
	model::ReferencePage first;

	for (u64 at = region.start; at < region.end(); at += step) {
		std::optional<model::ReferencePage> page = map_.find(at);

		if (level > 1 && hardware_->table_at(at, level - 1)) {
			*why = S2_MIXED;
			return false;
		}
		if (!page) {
			*why = s2_query(&s2, gpa(at)).kind == S2_TRANSIT ? S2_IS_OPEN
									 : S2_HAS_HOLES;
			return false;
		}
		if (at == region.start) {
			first = *page;
			first_pa = page->pa;
		}
		if (page->pa != first_pa + (at - region.start)) {
			*why = S2_SCATTERED;
			return false;
		}
		if (page->perm != first.perm || page->memory_name != first.memory_name ||
		    page->ignore_pat != first.ignore_pat) {
			*why = S2_MIXED;
			return false;
		}
		/* Over to the high bits of addresses: whatever comes after, this cannot be. */
		if ((page->pa ^ first_pa) >> (64 - __builtin_clzll(f_->address))) {
			*why = S2_MISALIGNED;
			return false;
		}
	}
	*why = is_aligned(first_pa, region.size) ? S2_FOLDED : S2_MISALIGNED;
	return *why == S2_FOLDED;
}

// S2_WHY_COUNT: cannot be told from outside.
enum s2_why Machine::expected_why(const Range &region, unsigned level)
{
	Sight s = hardware_->look(region.start);
	enum s2_why why;

	if (s.verdict == Verdict::Done && s.level >= level) {
		return S2_LARGE_ALREADY;
	}
	if (s.verdict == Verdict::NotMapped && s.level >= level) {
		if (is_broken(region.start)) {
			return S2_WHY_COUNT;
		}
		return s2_query(&s2, gpa(region.start)).kind == S2_TRANSIT ? S2_IS_OPEN
									   : S2_HAS_HOLES;
	}
	for (u64 at = region.start; level > 1 && at < region.end(); at += s2_span(f_, level - 1)) {
		if (is_broken(at)) {
			return S2_WHY_COUNT;
		}
	}
	is_uniform(region, level, &why);
	return why;
}

// Each reason as often as it was expected; `first` is the first region.
void Machine::judge_whys(const std::vector<enum s2_why> &expected,
			 const struct s2_collapsed &report, const Range &first)
{
	u64 unknown = std::count(expected.begin(), expected.end(), S2_WHY_COUNT);

	for (unsigned why = 0; !expected.empty() && why < S2_WHY_COUNT; why++) {
		u64 least = std::count(expected.begin(), expected.end(), why);

		if (report.count[why] < least || report.count[why] > least + unknown) {
			wrong(std::string("collapse says ") + std::to_string(report.count[why]) +
				      " times, not " + std::to_string(least) + ": " +
				      s2_why_text((enum s2_why)why),
			      first.start);
		}
	}
}

// What is folded, or may be, is out of reach until the close.
void Machine::note_folds(Open &open, const std::vector<enum s2_why> &expected, const Range &first)
{
	Range region = first;

	for (enum s2_why why : expected) {
		if (why == S2_FOLDED || why == S2_WHY_COUNT) {
			open.folds.push_back({region, why == S2_WHY_COUNT});
			open.broken.push_back(region);
			open.touched.push_back(region);
		}
		region.start += region.size;
	}
}

void Machine::collapse(const Op &op)
{
	Range range = range_of(op);
	unsigned level = op.pages == 0 ? 2 : 1;
	u64 span = s2_span(f_, level);
	Open &open = open_batch(op, false);
	bool exists = level <= s2.root_level && s2_level_may_be_leaf(f_, level);
	struct s2_collapsed report = {};
	std::vector<enum s2_why> expected;
	u64 start = align_up(range.start, span);

	for (u64 at = start; exists && at + span <= range.end(); at += span) {
		expected.push_back(expected_why({at, span}, level));
	}
	if (pick(op, PICK_BUDGET, 3) == 0) {
		open.batch.budget = s2_table_entries(f_);
	}
	begin({range, false, 0, false});
	enum status status = in_steps(
		range.start, range.end(), &open.batch,
		[&](u64 at, u64 size) {
			struct s2_collapsed part;
			enum status status =
				s2_collapse(&s2, gpa(at), size, level, &open.batch, &part);

			for (unsigned why = 0; why < S2_WHY_COUNT; why++) {
				report.count[why] += part.count[why];
			}
			return status;
		},
		[](u64, u64, enum status) {});

	expect_status(status, {OK}, op);
	if (!exists && report.count[S2_NO_SUCH_LEAF] == 0) {
		wrong("collapse to a leaf that there is not", start);
	}
	judge_whys(expected, report, {start, span});
	note_folds(open, expected, {start, span});
	end();
	judge(range);
	done_with_batch(op);
}

// ---- The close -------------------------------------------------------------------------------

void Machine::close(unsigned slot)
{
	std::optional<Open> &open = open_[slot % kBatches];

	if (!open) {
		return;
	}
	leave(0);
	s2_batch_close(&open->batch);
	Open closed = std::move(*open);

	open.reset();
	for (const Fold &fold : closed.folds) {
		Sight s = hardware_->look(fold.region.start);
		bool accessed = false, dirty = false;

		map_.for_each(fold.region.start, fold.region.size,
			      [&](u64, u64, const model::ReferencePage &page) {
				      accessed |= page.accessed;
				      dirty |= page.dirty;
				      return true;
			      });
		if (s.size >= fold.region.size && s.verdict == Verdict::Done) {
			if (s.accessed != accessed || (!is_arm_ && s.dirty != dirty)) {
				wrong("a fold has not the flags of its pages", fold.region.start);
			}
			map_.set_largest(fold.region.start, fold.region.size, 0);
			map_.set_accessed(fold.region.start, fold.region.size, accessed);
			if (dirty) {
				map_.set_dirty(fold.region.start, fold.region.size);
			}
		}
		if (!fold.disturbed && !is_broken(fold.region.start) && s.size < fold.region.size) {
			wrong("a fold that nobody disturbed is undone", fold.region.start);
		}
	}
	for (const std::vector<Range> &ranges : {closed.touched, closed.broken}) {
		for (const Range &range : ranges) {
			remembered_->look_at(range.start, range.end());
			judge_page(range.start);
			judge_page(range.end() - page_);
		}
	}
	for (const Range &range : closed.changed) {
		std::string stale =
			remembered_->stale_in(Remembered::ALL, range.start, range.end());

		if (!stale.empty()) {
			wrong("after the close " + stale, range.start);
		}
	}
	judge_counts();
	judge_memory_of_cpus(Remembered::ALL);
}

void Machine::close_by_op(const Op &op)
{
	close((unsigned)pick(op, PICK_BATCH, 2));
}

} // namespace s2_model
