// What a machine of s2_model_machine.h does to a space, and what it expects of each: maps of all
// kinds, faults, unmap, protect, splits, and looking.
#include "s2_model_steps.h"

#include <algorithm>

namespace s2_model
{

using model::Sight;
using model::Verdict;

// ---- What an operation is about to change ----------------------------------------------------

bool Machine::any_open() const
{
	return std::any_of(std::begin(open_), std::end(open_),
			   [](const auto &open) { return open.has_value(); });
}

// An open batch, or what is going on, has to do with some of it.
bool Machine::is_touched(u64 start, u64 size) const
{
	Range here = {start, size};
	auto meets = [&](const Range &r) { return r.overlaps(here); };

	for (const auto &open : open_) {
		if (open && (std::any_of(open->touched.begin(), open->touched.end(), meets) ||
			     std::any_of(open->broken.begin(), open->broken.end(), meets))) {
			return true;
		}
	}
	return work_ && (work_->range.overlaps(here) ||
			 std::any_of(work_broken_.begin(), work_broken_.end(), meets));
}

bool Machine::is_broken(u64 ipa) const
{
	for (const auto &open : open_) {
		for (size_t i = 0; open && i < open->broken.size(); i++) {
			if (open->broken[i].overlaps({ipa, 1})) {
				return true;
			}
		}
	}
	return false;
}

// Some of the range is, by the core's own word, which judge_page() judges.
bool Machine::is_in_transit(const Range &range)
{
	u64 span;

	for (u64 at = range.start; any_open() && at < range.end();
	     at = align_down(at, span) + span) {
		struct s2_leaf leaf = s2_query(&s2, gpa(at));

		span = s2_span(f_, leaf.level);
		if (leaf.kind == S2_TRANSIT) {
			return true;
		}
	}
	return false;
}

Machine::Open &Machine::open_batch(const Op &op, bool budgeted)
{
	std::optional<Open> &open = open_[pick(op, PICK_BATCH, 2) % kBatches];
	u64 budget = pick(op, PICK_BUDGET, 3);

	if (!open) {
		open.emplace();
		s2_batch_open(&open->batch, &s2);
	}
	open->batch.budget = ~0ull;
	if (budgeted && budget < 2) {
		open->batch.budget = 1 + op.pages / 8 + budget * pick(op, PICK_OTHER, 8);
	}
	open->batch.enlarge = pick(op, PICK_ENLARGE, 1);
	return *open;
}

void Machine::done_with_batch(const Op &op)
{
	if (!pick(op, PICK_LATER, 1)) {
		close((unsigned)pick(op, PICK_BATCH, 2));
	}
}

// From here to end() the core is at work: CPUs that run in between may see both worlds there.
void Machine::begin(const Work &work, const std::vector<Range> &broken)
{
	leave(0);
	work_ = work;
	work_broken_ = broken;
	accesses_between_ = 4;
	look_at_groups();
}

void Machine::end()
{
	look_again();
	work_.reset();
	settle_groups();
}

void Machine::look_again()
{
	if (work_) {
		remembered_->look_at(work_->range.start, work_->range.end());
		for (const Range &range : work_broken_) {
			remembered_->look_at(range.start, range.end());
		}
	}
}

// Leaves in which the range begins or ends: they have to be broken, and what of them lies in blocks
// that are broken already, and so out of hardware's sight.
std::vector<Machine::Range> Machine::sticking_out(const Range &range)
{
	std::vector<Range> found;

	for (u64 at : {range.start, range.end()}) {
		if (at >> s2.ipa_bits || (s2.traits & S2_SIZE_CHANGE)) {
			continue;
		}
		Sight s = hardware_->look(at);

		if (s.verdict == Verdict::Done && s.start != at) {
			found.push_back({s.start, s.size});
		}
		for (const auto &open : open_) {
			for (size_t i = 0; open && i < open->broken.size(); i++) {
				u64 part = open->broken[i].size / s2_table_entries(f_);

				if (open->broken[i].overlaps({at, 1}) && part > page_) {
					found.push_back({align_down(at, part), part});
				}
			}
		}
	}
	return found;
}

void Machine::add_broken(Open &open, const std::vector<Range> &broken)
{
	open.broken.insert(open.broken.end(), broken.begin(), broken.end());
}

// Folds that are not closed need not come about any more.
void Machine::disturb(const Range &range)
{
	for (auto &open : open_) {
		for (size_t i = 0; open && i < open->folds.size(); i++) {
			open->folds[i].disturbed |= open->folds[i].region.overlaps(range);
		}
	}
}

// Pages that an operation will take away, or give other permissions: at the close nobody remembers
// them as they were, whatever other batches are open.
void Machine::note_changed(Open &open, const Range &range, std::optional<u8> perm)
{
	map_.for_each(range.start, range.size,
		      [&](u64 at, u64 size, const model::ReferencePage &page) {
			      if (perm && page.perm == *perm) {
				      return true;
			      }
			      if (!open.changed.empty() && open.changed.back().end() == at) {
				      open.changed.back().size += size;
			      } else {
				      open.changed.push_back({at, size});
			      }
			      return true;
		      });
}

void Machine::expect_status(enum status got, std::initializer_list<enum status> allowed,
			    const Op &op) const
{
	if (std::find(allowed.begin(), allowed.end(), got) == allowed.end() &&
	    !(got == NOMEM && op.left >= 0)) {
		throw Wrong(std::string("status is: ") + status_name(got) +
			    ", expected: " + status_name(*allowed.begin()));
	}
}

// ---- Mapping ---------------------------------------------------------------------------------

static bool can_say(const struct s2_format *f, struct s2_attr attr)
{
	return (f->perms >> attr.perm & 1) && (f->memories >> attr.memory & 1);
}

// Is any place that the map would fill not closed yet? In blocks that are broken it cannot be seen.
Machine::Transit Machine::holes_in_transit(const Range &range)
{
	Transit transit = NOTHING;
	u64 span;

	for (u64 at = range.start; any_open() && at < range.end();
	     at = align_down(at, span) + span) {
		struct s2_leaf leaf = s2_query(&s2, gpa(at));
		bool broken = is_broken(at);

		span = broken ? page_ : s2_span(f_, leaf.level);
		if (leaf.kind != S2_TRANSIT || map_.find(at)) {
			continue;
		}
		if (!broken) {
			return SOME;
		}
		transit = PERHAPS;
	}
	return transit;
}

// Leaves that stick out of the range would have to be split.
bool Machine::upgrades_more(const Range &range, u8 perm)
{
	for (u64 at : {range.start, range.end() - page_}) {
		Sight s = hardware_->look(at);

		if (s.verdict == Verdict::Done && (perm & ~s.perm) &&
		    (s.start < range.start || s.start + s.size > range.end())) {
			return true;
		}
	}
	return false;
}

// What the header promises, transit aside.
enum status Machine::map_status(const Range &range, enum s2_if_mapped if_mapped, u64 first, u8 perm)
{
	bool same = true;

	if (if_mapped == S2_ERROR) {
		return map_.is_empty(range.start, range.size) ? OK : EXISTS;
	}
	if (if_mapped == S2_UPGRADE) {
		map_.for_each(range.start, range.size,
			      [&](u64 at, u64, const model::ReferencePage &page) {
				      return same = page.pa - at == first - range.start;
			      });
		same = same && !upgrades_more(range, perm);
	}
	return same ? OK : EXISTS;
}

// A list or contiguous memory. The caller has the memory, if it is not OK.
enum status Machine::do_map(const Op &op, const Range &range, hpa_t first, const hpa_t *list,
			    enum s2_if_mapped if_mapped)
{
	struct s2_attr attr = attr_of(op);
	Transit transit = holes_in_transit(range);
	enum status expected = map_status(range, if_mapped, first.v, attr.perm), status;

	begin({range, !list, first.v, false});
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = list ? s2_map_list(&s2, gpa(range.start), list, range.size / page_, attr,
					    if_mapped)
			      : s2_map(&s2, gpa(range.start), first, range.size, attr, if_mapped);
	}
	if (!can_say(f_, attr)) {
		expected = INVALID;
		transit = NOTHING;
	}
	bool hidden = if_mapped == S2_UPGRADE &&
		      (is_broken(range.start) || is_broken(range.end() - page_));

	if (hidden && expected == OK) { // leaves that stick out cannot be seen
		expect_status(status, {OK, EXISTS, AGAIN}, op);
	} else if (transit == PERHAPS || (transit == SOME && expected == EXISTS)) {
		expect_status(status, {expected, AGAIN}, op);
	} else {
		expect_status(status, {transit == SOME ? AGAIN : expected}, op);
	}
	return status;
}

// Holes are filled, and with S2_UPGRADE the rest has more rights. The memory for the rest is given
// back.
void Machine::after_map(const Range &range, u64 first, const hpa_t *list, struct s2_attr attr,
			enum s2_if_mapped if_mapped)
{
	std::vector<Range> holes;
	u64 at = range.start;

	map_.for_each(range.start, range.size,
		      [&](u64 found, u64 size, const model::ReferencePage &) {
			      if (found > at) {
				      holes.push_back({at, found - at});
			      }
			      at = found + size;
			      return true;
		      });
	if (at < range.end()) {
		holes.push_back({at, range.end() - at});
	}
	if (if_mapped == S2_UPGRADE) {
		map_.allow_more(range.start, range.size, attr.perm);
	}
	for (const Range &hole : holes) {
		u64 inside = hole.start - range.start;

		for (u64 i = inside; list && i < inside + hole.size; i += page_) {
			map_.map(range.start + i, page_, page_of(list[i / page_].v, attr));
		}
		if (!list) {
			map_.map(hole.start, hole.size, page_of(first + inside, attr));
		}
	}
}

void Machine::map(const Op &op, enum s2_if_mapped if_mapped)
{
	Range range = range_of(op);
	hpa_t first = take_memory(op, range, if_mapped != S2_ERROR);
	std::vector<Range> before;

	if (hpa_is_none(first)) {
		return;
	}
	map_.for_each(range.start, range.size, [&](u64 at, u64 size, const model::ReferencePage &) {
		before.push_back({at, size});
		return true;
	});
	enum status status = do_map(op, range, first, nullptr, if_mapped);

	if (status != OK) {
		give_memory(first, range.size);
	} else {
		for (const Range &there : before) {
			give_memory(hpa_add(first, there.start - range.start), there.size);
		}
		after_map(range, first.v, nullptr, attr_of(op), if_mapped);
	}
	end();
	judge(range);
}

void Machine::map_new(const Op &op)
{
	map(op, S2_ERROR);
}

void Machine::map_skip(const Op &op)
{
	map(op, S2_SKIP);
}

// More rights for what is there, and more of the same device around it.
static void upgrade_range(const model::ReferenceMap &map, u64 page, u64 *size, u64 start,
			  u64 *first)
{
	std::optional<model::ReferencePage> source = map.find(start);

	if (!source) {
		*size = 0;
		return;
	}
	*first = source->pa;
	for (u64 done = page; done < *size; done += page) {
		auto next = map.find(start + done);

		/* Holes are filled with the rest of the device; frames must not come to twice. */
		if (next ? next->pa != source->pa + done : !is_device(source->pa)) {
			*size = done + (next && is_device(source->pa) ? page : 0);
			return;
		}
	}
}

void Machine::map_upgrade(const Op &op)
{
	Range range = range_of(op);
	u64 first = 0;

	upgrade_range(map_, page_, &range.size, range.start, &first);
	if (range.size == 0) {
		map(op, S2_UPGRADE);
		return;
	}
	disturb(range);
	if (do_map(op, range, hpa(first), nullptr, S2_UPGRADE) == OK) {
		after_map(range, first, nullptr, attr_of(op), S2_UPGRADE);
	}
	end();
	judge(range);
}

void Machine::map_list(const Op &op)
{
	static const enum s2_if_mapped modes[] = {S2_ERROR, S2_SKIP};
	enum s2_if_mapped if_mapped = modes[pick(op, PICK_BUDGET, 1)];
	Range range = range_of(op);
	std::vector<hpa_t> frames;

	range.size = std::min(range.size, 64 * page_);
	hpa_t first = take_memory(op, range, true);

	if (hpa_is_none(first)) {
		return;
	}
	/* Some as they lie, some backwards. */
	for (u64 i = 0; i < range.size; i += page_) {
		frames.push_back(hpa_add(first, i));
	}
	if (pick(op, PICK_OTHER, 1)) {
		std::reverse(frames.begin(), frames.end());
	}
	std::vector<u64> there;

	map_.for_each(range.start, range.size, [&](u64 at, u64 size, const model::ReferencePage &) {
		for (u64 i = 0; i < size; i += page_) {
			there.push_back((at - range.start + i) / page_);
		}
		return true;
	});
	enum status status = do_map(op, range, first, frames.data(), if_mapped);

	if (status != OK) {
		give_memory(first, range.size);
	} else {
		for (u64 i : there) {
			give_memory(frames[i], page_);
		}
		after_map(range, 0, frames.data(), attr_of(op), if_mapped);
	}
	end();
	judge(range);
}

// Pages that are mapped at another place of the area, by single frames, which get one more holder;
// or a whole block, as large as a leaf of level 1.
void Machine::map_shared(const Op &op)
{
	Range range = range_of(op);
	u64 from = area_base(op.area) + pick(op, PICK_OTHER, 24) % area_pages(f_) * page_;
	u64 span = s2_span(f_, 1), size = 0;
	bool large = pick(op, PICK_LEVEL, 1);

	if (large) {
		from = align_down(from, span);
		from = hardware_->look(from).size == span ? from : area_base(op.area + 1);
		range = {align_down(range.start, span), span};
	}
	std::optional<model::ReferencePage> source = map_.find(from);
	Sight s = hardware_->look(from);

	if (large && source && s.verdict == Verdict::Done && s.size == span &&
	    !is_device(source->pa) && frame_of(hpa(source->pa))->order == s2_level_order(f_, 1)) {
		frame_get(hpa(source->pa));
		do_map_shared(op, range, source->pa);
		return;
	}
	while (source && size < std::min(range.size, 16 * page_) && !is_device(source->pa)) {
		auto next = map_.find(from + size);

		if (!next || next->pa != source->pa + size ||
		    frame_of(hpa(next->pa))->order != s2_level_order(f_, 0)) {
			break;
		}
		size += page_;
	}
	if (size == 0) {
		return;
	}
	range.size = size;
	for (u64 i = 0; i < size; i += page_) {
		frame_get(hpa(source->pa + i));
	}
	do_map_shared(op, range, source->pa);
}

void Machine::do_map_shared(const Op &op, const Range &range, u64 pa)
{
	unsigned level = range.size == s2_span(f_, 1) ? 1 : 0;

	if (level == 1 && (hardware_->table_at(range.start, 1) || is_broken(range.start))) {
		frame_put(hpa(pa)); // no place for a leaf of that size
		return;
	}
	enum status status = do_map(op, range, hpa(pa), nullptr, S2_ERROR);

	if (status != OK) {
		give_memory(hpa(pa), range.size);
	} else {
		after_map(range, pa, nullptr, attr_of(op), S2_ERROR);
	}
	end();
	judge(range);
}

// What an access' fault does.
void Machine::fault(const Op &op)
{
	unsigned level = (unsigned)pick(op, PICK_LEVEL, 3);
	struct s2_attr attr = attr_of(op);
	Op aligned = op;

	level = level < 5 ? 0 : level < 7 ? 1 : pick(op, PICK_OTHER, 2) ? 1 : 2;
	aligned.pick &= ~((BIT(5) - 1) << PICK_SHIFT); // not shifted, and aligned as the guest's is
	aligned.pick |= BIT(PICK_SOURCE + 2);
	u64 span = s2_span(f_, level);
	Range range = {align_down(range_of(op).start, span), span};

	if (level > s2.root_level || !s2_level_may_be_leaf(f_, level) ||
	    range.end() > BIT(s2.ipa_bits)) {
		return;
	}
	bool empty = map_.is_empty(range.start, span), transit = is_in_transit({range.start, 1});
	bool table = level > 0 && hardware_->table_at(range.start, level) != 0;
	hpa_t first = level < 2 ? take_memory(aligned, range, false)
				: hpa((1ull << 45) + align_down(range.start % BIT(44), span));
	enum status status;

	if (hpa_is_none(first) || !is_aligned(first.v, span)) {
		give_memory(hpa_is_none(first) ? hpa(0) : first, hpa_is_none(first) ? 0 : span);
		return;
	}
	begin({range, true, first.v, false});
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = s2_map_leaf(&s2, gpa(range.start), level, first, attr);
	}
	if (status != OK) {
		give_memory(first, span);
	} else {
		map_.map(range.start, span, page_of(first.v, attr));
	}
	if (!can_say(f_, attr)) {
		expect_status(status, {INVALID}, op);
	} else {
		expect_status(status, {table ? EXISTS : transit ? AGAIN : empty ? OK : EXISTS}, op);
	}
	end();
	judge(range);
}

// ---- Operations on ranges --------------------------------------------------------------------

// A leaf that there was no table for has gone as a whole: up to `whole`, or what the last table
// made of that. How far at each end, the counts tell.
Machine::Range Machine::what_went(const Range &range, const Range &whole)
{
	for (unsigned low = 0; low <= s2.root_level; low++) {
		for (unsigned high = 0; high <= s2.root_level; high++) {
			u64 start =
				std::max(whole.start, align_down(range.start, s2_span(f_, low)));
			u64 end = std::min(whole.end(), align_up(range.end(), s2_span(f_, high)));

			if (counted_pages() + map_.pages_in(start, end - start) == map_.pages()) {
				return {start, end - start};
			}
		}
	}
	return range; // the counts are wrong, and are judged
}

void Machine::unmap(const Op &op)
{
	Range range = range_of(op), whole = range;
	std::vector<Range> broken = sticking_out(range);
	Open &open = open_batch(op, true);
	enum status status;

	// What has no table for a split may go as a whole.
	for (u64 at : {range.start, range.end()}) {
		Sight s = at >> s2.ipa_bits ? Sight() : hardware_->look(at);

		if (open.batch.enlarge && op.left >= 0 && s.verdict == Verdict::Done &&
		    s.start != at) {
			u64 end = std::max(whole.end(), s.start + s.size);

			whole.start = std::min(whole.start, s.start);
			whole.size = end - whole.start;
		}
	}
	if (is_broken(range.start) || is_broken(range.end()) || is_in_transit(whole)) {
		open.batch.enlarge = false; // what is broken cannot be seen
	}
	disturb(whole);
	begin({whole, false, 0, false}, broken);
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = in_steps(
			range.start, range.end(), &open.batch,
			[&](u64 at, u64 size) { return s2_unmap(&s2, gpa(at), size, &open.batch); },
			[&](u64 at, u64 end, enum status status) {
				if (status == OK || status == MORE) {
					note_changed(open, {at, end - at}, {});
					map_.unmap(at, end - at);
				}
			});
	}
	if (status == OK && whole.size != range.size) {
		Range gone = what_went(range, whole);

		note_changed(open, gone, {});
		map_.unmap(gone.start, gone.size);
	}
	expect_status(status, {OK}, op);
	if (status == OK) {
		open.touched.push_back(whole);
		add_broken(open, broken);
	}
	end();
	judge(range);
	done_with_batch(op);
}

void Machine::protect(const Op &op)
{
	Range range = range_of(op);
	std::vector<Range> broken = sticking_out(range);
	Open &open = open_batch(op, true);
	u8 perm = attr_of(op).perm;
	enum status status;

	disturb(range);
	begin({range, false, 0, false}, broken);
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = in_steps(
			range.start, range.end(), &open.batch,
			[&](u64 at, u64 size) {
				return s2_protect(&s2, gpa(at), size, perm, &open.batch);
			},
			[&](u64 at, u64 end, enum status status) {
				if (status == OK || status == MORE) {
					note_changed(open, {at, end - at}, perm);
					map_.protect(at, end - at, perm);
				}
			});
	}
	expect_status(status, {f_->perms >> perm & 1 ? OK : INVALID}, op);
	if (status == OK) {
		open.touched.push_back(range);
		add_broken(open, broken);
	}
	end();
	judge(range);
	done_with_batch(op);
}

void Machine::split(const Op &op)
{
	u64 at = range_of(op).start + pick(op, PICK_OTHER, 12);
	unsigned level = (unsigned)pick(op, PICK_LEVEL, 2);
	Open &open = open_batch(op, false);
	bool mapped = map_.find(at).has_value(), transit = is_in_transit({at, 1});
	bool valid = level <= s2.root_level && s2_level_may_be_leaf(f_, level);
	Sight s = hardware_->look(at);
	Range leaf = {align_down(at, page_), page_};
	std::vector<Range> broken;
	enum status status;

	if (s.verdict == Verdict::Done && valid) {
		leaf = {s.start, s.size};
	}
	if (s.verdict == Verdict::Done && valid && s.level > level &&
	    !(s2.traits & S2_SIZE_CHANGE)) {
		broken.push_back(leaf);
	}
	if (transit && mapped && valid) { // in a block that is broken already
		Range part = {align_down(at, s2_span(f_, 1)), s2_span(f_, 1)};

		leaf = {align_down(at, page_), page_};
		broken.push_back(part);
	}
	begin({leaf, false, 0, false}, broken);
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = s2_split(&s2, gpa(at), level, &open.batch);
	}
	expect_status(status, {!valid ? INVALID : mapped ? OK : NOENT}, op);
	if (status == OK) {
		/* Of more levels than one, those on the way to `at`. */
		for (unsigned l = s.level; s.verdict == Verdict::Done && l > level; l--) {
			Range way = {align_down(at, s2_span(f_, l)), s2_span(f_, l)};

			map_.set_largest(way.start, way.size, s2_span(f_, l - 1));
		}
		open.touched.push_back(leaf);
		add_broken(open, broken);
	}
	end();
	judge(leaf);
	done_with_batch(op);
}

void Machine::split_range(const Op &op)
{
	Range range = range_of(op);
	unsigned level = op.pages == 0 ? 1 : (unsigned)pick(op, PICK_LEVEL, 1);
	std::vector<Range> broken = sticking_out(range);
	Open &open = open_batch(op, true);
	bool valid = level <= s2.root_level && s2_level_may_be_leaf(f_, level);
	enum status status;

	for (u64 at = range.start; valid && at < range.end() && !(s2.traits & S2_SIZE_CHANGE);) {
		Sight s = hardware_->look(at);

		if (s.verdict == Verdict::Done && s.level > level) {
			broken.push_back({s.start, s.size});
		}
		at = s.start + s.size;
	}
	begin({range, false, 0, false}, broken);
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = in_steps(
			range.start, range.end(), &open.batch,
			[&](u64 at, u64 size) {
				return s2_split_range(&s2, gpa(at), size, level, &open.batch);
			},
			[&](u64 at, u64 end, enum status status) {
				if (status == OK || status == MORE) {
					map_.set_largest(at, end - at, s2_span(f_, level));
				}
			});
	}
	expect_status(status, {valid ? OK : INVALID}, op);
	if (status != INVALID) {
		open.touched.push_back(range);
		add_broken(open, broken);
	}
	end();
	judge(range);
	done_with_batch(op);
}

// ---- Looking ---------------------------------------------------------------------------------

void Machine::mark(const Op &op)
{
	u64 at = range_of(op).start;
	Sight s = hardware_->look(at);
	bool there = s.verdict == Verdict::Done;

	expect_status(s2_mark_accessed(&s2, gpa(at)), {there ? OK : NOENT}, op);
	if (there) {
		map_.set_accessed(s.start, s.size, true);
		/* Hardware that marks tables does so when it is used, and this was no use. */
		if (!f_->accessed_table) {
			map_.set_used(s.start, s.size, true);
		}
		remembered_->look_at(at, at + 1);
	}
	judge_page(at);
}

void Machine::validate(const Op &op)
{
	Range range = range_of(op);
	u8 perm = attr_of(op).perm;
	bool expected = map_.pages_in(range.start, range.size) == range.size / page_;

	if (is_in_transit(range)) {
		return; // it would wait for the close
	}
	map_.for_each(range.start, range.size, [&](u64, u64, const model::ReferencePage &page) {
		return expected = expected && (page.perm & perm) == perm;
	});
	if (s2_validate(&s2, gpa(range.start), range.size, perm) != expected) {
		wrong(expected ? "validate refuses a range" : "validate allows a range",
		      range.start);
	}
}

// Every region is one of the reference, and all of the reference is in some region.
void Machine::dump(const Op &op)
{
	struct Seen {
		const Machine *machine;
		u64 pages, end;
	} seen = {this, 0, 0};
	Range range = range_of(op);
	u64 expected = map_.pages_in(range.start, range.size);
	auto note = [](void *context, const struct s2_region *r) {
		Seen *s = static_cast<Seen *>(context);
		const Machine *m = s->machine;
		auto page = m->map_.find(r->gpa.v);

		if (r->kind != S2_LEAF) {
			return;
		}
		if (!page || page->pa != align_down(r->hpa.v, m->page_) ||
		    page->perm != r->attr.perm || page->memory_name != r->attr.memory ||
		    r->gpa.v < s->end) {
			m->wrong("dump shows another page", r->gpa.v);
		}
		s->end = r->gpa.v + r->size;
		s->pages += r->size / m->page_;
	};

	s2_dump(&s2, gpa(range.start), range.size, note, &seen);
	if (seen.pages > expected || (seen.pages < expected && !any_open())) {
		wrong("dump shows " + std::to_string(seen.pages) + " pages of " +
			      std::to_string(expected),
		      range.start);
	}
}

} // namespace s2_model
