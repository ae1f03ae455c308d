// Harvest: what was used has to be told, what is told may have been.
#include "s2_model_steps.h"

#include <algorithm>

namespace s2_model
{

using model::Sight;
using model::Verdict;

// ---- Harvest ---------------------------------------------------------------------------------

struct Machine::Asked {
	Range range;
	bool clear;
	u8 tables, finest;
	std::vector<std::pair<u64, unsigned>> young; // where, and of which level
};

void Machine::harvest(const Op &op)
{
	u64 how = pick(op, PICK_HARVEST, 6);
	Asked asked = {range_of(op), (how & 1) != 0, (u8)(how / 2 % 3), (u8)(how / 8 % 4 == 0), {}};
	bool frees = asked.tables == S2_TABLES_FREE && asked.clear;
	Open *open = nullptr;
	enum status status;

	asked.tables =
		asked.tables == S2_TABLES_FREE && !frees ? (u8)S2_TABLES_CLEAR : asked.tables;
	if (frees) {
		open = &open_batch(op, false);
		disturb(asked.range);
	}
	begin({asked.range, false, 0, true});
	for (u64 at = asked.range.start;;) {
		std::vector<u64> bits((asked.range.end() - at) / page_ / 64 + 1, 0);
		size_t before = asked.young.size();
		struct s2_harvest h = {};

		h.clear = asked.clear;
		h.tables = asked.tables;
		h.finest = asked.finest;
		h.bitmap = bits.data();
		h.context = &asked;
		h.young = [](void *context, gpa_t a, unsigned level) {
			static_cast<Asked *>(context)->young.push_back({a.v, level});
		};
		h.budget = pick(op, PICK_BUDGET, 3) == 0 ? 1 + op.pages / 4 : 0;
		h.batch = open ? &open->batch : nullptr;
		status = s2_harvest(&s2, gpa(at), asked.range.end() - at, &h);
		if (h.young_count != asked.young.size() - before) {
			wrong("harvest counts other than it tells", at);
		}
		for (size_t i = before; i < asked.young.size(); i++) {
			u64 page = (std::max(asked.young[i].first, at) - at) / page_;

			if (!(bits[page / 64] >> page % 64 & 1)) {
				wrong("harvest tells what is not in its bitmap", at);
			}
		}
		if (status != MORE) {
			break;
		}
		if (h.next <= at) {
			wrong("harvest makes no step ahead", at);
		}
		at = h.next;
	}
	expect_status(status, {OK}, op);
	judge_harvest(asked, open);
	end();
	judge(asked.range);
	if (open) {
		done_with_batch(op);
	}
}

bool Machine::is_leaf(u64 at, unsigned level)
{
	Sight s = hardware_->look(at);

	return s.verdict == Verdict::Done && s.level >= level;
}

// Of a group with the contiguous hint any flag tells of all of it; what of it lies outside of the
// range keeps all of them.
Machine::Range Machine::told_of(u64 at, unsigned level)
{
	std::optional<Range> group = is_leaf(at, level) ? group_at(at) : std::nullopt;

	return group ? *group : Range{at, s2_span(f_, level)};
}

// Tables of which nothing was used may be gone, as wholes.
void Machine::judge_harvest_table(const Asked &asked, const Range &table, Open *open)
{
	u64 first = ~0ull;
	bool used = false;

	map_.for_each(table.start, table.size, [&](u64 at, u64, const model::ReferencePage &page) {
		first = std::min(first, at);
		used |= page.used;
		return true;
	});
	if (first == ~0ull && s2_query(&s2, gpa(table.start)).kind == S2_TRANSIT) {
		open->touched.push_back(table); // an empty one
	}
	if (first == ~0ull || is_broken(first) ||
	    hardware_->look(first).verdict != Verdict::NotMapped) {
		return;
	}
	if (used || table.start < asked.range.start || table.end() > asked.range.end()) {
		wrong("harvest freed a table that was used", first);
	}
	note_changed(*open, table, {});
	map_.unmap(table.start, table.size);
	open->touched.push_back(table);
}

/*
 * All that was used since it was last asked is told; what is told has its flag set, or lies in a
 * table that has. What was asked for is watched anew.
 */
void Machine::judge_harvest(const Asked &asked, Open *open)
{
	u64 span = s2_span(f_, 1), told = asked.range.start;
	size_t next = 0;

	for (u64 at = align_down(asked.range.start, span); open && at < asked.range.end();
	     at += span) {
		judge_harvest_table(asked, {at, span}, open);
	}
	map_.for_each(asked.range.start, asked.range.size,
		      [&](u64 at, u64 size, const model::ReferencePage &page) {
			      while (next < asked.young.size() &&
				     asked.young[next].first < at + size) {
				      told = asked.young[next].first +
					     s2_span(f_, asked.young[next].second);
				      next++;
			      }
			      if (page.used && told < at + size && told <= at && !is_broken(at)) {
				      wrong("harvest does not tell of a page that was used", at);
			      }
			      return true;
		      });
	for (auto [at, level] : asked.young) {
		Range region = told_of(at, level);
		bool leaf = is_leaf(at, level), any = false;

		map_.for_each(region.start, region.size,
			      [&](u64, u64, const model::ReferencePage &page) {
				      any |= page.accessed;
				      return !any;
			      });
		if (leaf && !any) {
			wrong("harvest tells of a page whose flag is not set", at);
		}
	}
	for (auto [at, level] : asked.young) {
		Range region = {at, s2_span(f_, level)}, told = told_of(at, level);
		bool leaf = is_leaf(at, level);
		bool cut = told.size > region.size &&
			   (told.start < asked.range.start || told.end() > asked.range.end());

		if (leaf && asked.clear && !cut) {
			map_.set_accessed(at, region.size, false);
			map_.set_used(at, region.size, false);
		}
		for (u64 i = at; !leaf && asked.clear && i < region.end(); i += page_) {
			auto page = map_.find(i);
			Sight now = page && page->accessed ? hardware_->look(i) : Sight();

			if (now.verdict == Verdict::Done && !now.accessed) {
				map_.set_accessed(i, page_, false);
			}
		}
	}
	if (asked.clear) {
		map_.set_used(asked.range.start, asked.range.size, false);
	}
}

} // namespace s2_model
