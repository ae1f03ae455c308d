// Collapse and the contiguous hint with their reasons, and the close of batches, which completes
// it.
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

// ---- The contiguous hint -----------------------------------------------------------------------

// The group that the leaf at `ipa` is in, if it has the hint.
std::optional<Machine::Range> Machine::group_at(u64 ipa)
{
	Sight s = hardware_->look(ipa);
	u64 size = s.verdict == Verdict::Done && s.contiguous
			   ? s.size << f_->contiguous_log2[s.level]
			   : 0;

	return size ? std::optional<Range>({align_down(ipa, size), size}) : std::nullopt;
}

// An operation begins: groups that it has to do with may be out of reach, with their tables.
void Machine::look_at_groups()
{
	for (auto &[start, group] : groups_) {
		if (!group.range.overlaps(work_->range)) {
			continue;
		}
		u64 span = s2_span(f_, group.level + 1);

		work_broken_.push_back({align_down(start, span), span});
		map_.for_each(start, group.range.size,
			      [&](u64, u64, const model::ReferencePage &page) {
				      group.accessed |= page.accessed;
				      return true;
			      });
	}
}

// Where the hint is gone, what was used of the group counts for each leaf that is left.
void Machine::settle_groups()
{
	for (auto it = groups_.begin(); it != groups_.end();) {
		const Group group = it->second;
		bool hidden = false, hinted = group_at(group.range.start).has_value();

		for (const auto &open : open_) {
			for (size_t i = 0; open && i < open->broken.size(); i++) {
				hidden |= open->broken[i].overlaps(group.range);
			}
		}
		if (hinted || hidden) {
			it->second.accessed = false;
			++it;
			continue;
		}
		for (u64 at = group.range.start; at < group.range.end();) {
			Sight s = hardware_->look(at);

			// Parts of what was split meanwhile have what the whole had.
			if (s.verdict == Verdict::Done && s.level <= group.level) {
				if (s.level == group.level && group.accessed && !s.accessed) {
					wrong("the use of a group is forgotten with its hint", at);
				}
				map_.set_accessed(at, s.size, s.accessed);
			}
			at = s.start + s.size;
		}
		it = groups_.erase(it);
	}
}

// S2_WHY_COUNT: cannot be told from outside.
enum s2_why Machine::expected_hint(const Range &group, unsigned level)
{
	Sight s = hardware_->look(group.start);
	enum s2_why why;

	for (u64 at = group.start; at < group.end(); at += s2_span(f_, level)) {
		if (is_broken(at)) {
			return S2_WHY_COUNT;
		}
	}
	if (s.verdict == Verdict::Done && (s.level > level || (s.level == level && s.contiguous))) {
		return S2_LARGE_ALREADY;
	}
	if (s.verdict == Verdict::NotMapped && s.level > level) {
		return s2_query(&s2, gpa(group.start)).kind == S2_TRANSIT ? S2_IS_OPEN
									  : S2_HAS_HOLES;
	}
	is_uniform(group, level + 1, &why);
	return why;
}

void Machine::hint(const Op &op)
{
	Range range = range_of(op);
	unsigned level = op.pages == 0 ? 1 : (unsigned)(pick(op, PICK_LEVEL, 3) == 0);
	u64 size = s2_span(f_, level) << f_->contiguous_log2[level];
	bool exists = f_->contiguous_log2[level] && level < s2.root_level;
	u64 table = s2_span(f_, level + 1), start = align_up(range.start, size);
	struct s2_collapsed report = {};
	std::vector<enum s2_why> expected;

	for (u64 at = start; exists && at + size <= range.end(); at += size) {
		expected.push_back(expected_hint({at, size}, level));
	}
	u64 first = align_down(range.start, table);

	begin({range, false, 0, false}, {{first, align_up(range.end(), table) - first}});
	expect_status(s2_hint(&s2, gpa(range.start), range.size, level, &report), {OK}, op);
	if (!exists && report.count[S2_NO_SUCH_LEAF] == 0) {
		wrong("a hint that there is not", start);
	}
	judge_whys(expected, report, {start, size});
	for (size_t i = 0; i < expected.size(); i++) {
		Range group = {start + i * size, size};

		if (expected[i] == S2_FOLDED && !group_at(group.start)) {
			wrong("a group has no hint", group.start);
		}
		if (expected[i] == S2_FOLDED || expected[i] == S2_WHY_COUNT) {
			groups_[group.start] = {group, level, false};
		}
	}
	end();
	judge(range);
}

void Machine::unhint(const Op &op)
{
	Range range = range_of(op);

	begin({range, false, 0, false});
	expect_status(s2_unhint(&s2, gpa(range.start), range.size), {OK}, op);
	end();
	for (u64 at = range.start; at < range.end(); at += page_) {
		if (group_at(at)) {
			wrong("a hint is left", at);
		}
		at = op.pages ? at : hardware_->look(at).start + hardware_->look(at).size - page_;
	}
	judge(range);
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
	settle_groups();
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
	settle_groups();
	judge_counts();
	judge_memory_of_cpus(Remembered::ALL);
}

void Machine::close_by_op(const Op &op)
{
	close((unsigned)pick(op, PICK_BATCH, 2));
}

} // namespace s2_model
