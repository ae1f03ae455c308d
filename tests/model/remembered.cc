/* See remembered.h. */
#include "remembered.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace model
{
namespace
{

std::string hex(u64 v)
{
	char text[32];

	std::snprintf(text, sizeof(text), "0x%llx", (unsigned long long)v);
	return text;
}

bool within(unsigned perm, unsigned other)
{
	return (perm & ~other) == 0;
}

} // namespace

Remembered::Remembered(Hardware &hardware, Memory &memory, unsigned cpus, MeetingRules rules)
    : hardware_(hardware), memory_(memory), rules_(rules), everyone_((1u << cpus) - 1),
      inside_(everyone_)
{
	add_table(hardware_.root, 0, hardware_.root_level);
}

void Remembered::error(const std::string &sentence)
{
	if (error_.empty()) {
		error_ = sentence;
	}
}

/* ---- What changed ------------------------------------------------------------------------------
 */

void Remembered::look_at(u64 start, u64 end)
{
	visit(tables_.at(hardware_.root), start, end);
}

/* Only the entries that [start, end) goes through; all of a table that is new. */
void Remembered::visit(Table &t, u64 start, u64 end)
{
	unsigned shift = hardware_.shift(t.level);
	u64 count = t.words.size(), table_end = t.ipa + (count << shift);
	u64 first = start > t.ipa ? (start - t.ipa) >> shift : 0;
	u64 last = end < table_end ? (end - 1 - t.ipa) >> shift : count - 1;
	const u64 *now = memory_.words(t.address, count);

	if (now == nullptr) {
		error("a table at " + hex(t.address) + " is no memory");
		return;
	}
	if (t.level == 0 &&
	    std::memcmp(now + first, t.words.data() + first, (last + 1 - first) * 8) == 0) {
		return;
	}
	for (u64 i = first; i <= last;) {
		if (now[i] != t.words[i]) {
			u64 next = i + 1;

			/* Above the pages, tables look as if they were alike: one by one. */
			while (next <= last && now[next] != t.words[next] &&
			       (t.level == 0 ||
				!((now[next] | t.words[next] | now[i] | t.words[i]) &
				  hardware_.present))) {
				next++;
			}
			next = std::min(alike(t, t.words.data(), i, next, false),
					alike(t, now, i, next, true));
			change(t, now, i, next);
			if (t.level == 0 || !(now[i] & hardware_.present)) {
				i = next;
				continue;
			}
		}
		if (t.level > 0 && (now[i] & hardware_.present)) {
			u64 at = t.ipa + (i << shift);
			Word word = hardware_.word(t.level, at, now[i]);
			auto below = tables_.find(word.pa);

			if (word.kind == Word::Table && below != tables_.end()) {
				visit(below->second, std::max(start, at),
				      std::min(end, at + (u64(1) << shift)));
			}
		}
		i++;
	}
}

/* Up to where, from index `from` on, the words say nothing (and are the same, when `exactly`), or
 * the same of neighbouring frames. */
u64 Remembered::alike(const Table &t, const u64 *words, u64 from, u64 end, bool exactly) const
{
	u64 step = words[from] & hardware_.present ? hardware_.span(t.level) : 0, i = from + 1;

	if (step == 0 && !exactly) {
		while (i < end && !(words[i] & hardware_.present)) {
			i++;
		}
		return i;
	}
	while (i < end && words[i] == words[i - 1] + step) {
		i++;
	}
	return i;
}

Remembered::Run Remembered::run_of(const Table &t, u64 index, u64 count, const Word &word) const
{
	u64 span = hardware_.span(t.level);
	unsigned combined = word.kind == Word::Table ? 0 : everyone_;

	return {word.kind, t.level,	t.ipa + index * span, count * span,    word.pa,
		word.perm, word.memory, word.ignore_pat,      word.contiguous, word.dirty,
		everyone_, combined};
}

/* Entries [from, to) are alike before, and alike now. */
void Remembered::change(Table &t, const u64 *now, u64 from, u64 to)
{
	u64 at = t.ipa + (from << hardware_.shift(t.level));
	Word before = hardware_.word(t.level, at, t.words[from]);
	Word word = hardware_.word(t.level, at, now[from]);
	Run lost = run_of(t, from, to - from, before), gained = run_of(t, from, to - from, word);

	if (!word.complaint.empty()) {
		error(word.complaint + " at IPA " + hex(at));
	}
	std::copy(now + from, now + to, t.words.data() + from);
	if (before.kind == Word::Leaf) {
		pages_ -= lost.size >> hardware_.page_shift;
	}
	if (before.kind != Word::Nothing && before.fetchable) {
		lose(lost, word);
	}
	if (before.kind == Word::Table && !(word.kind == Word::Table && word.pa == before.pa)) {
		drop_table(before.pa);
	}
	if (word.kind == Word::Leaf) {
		pages_ += gained.size >> hardware_.page_shift;
	}
	if (word.kind != Word::Nothing && word.fetchable) {
		gain(gained);
	}
	if (word.kind == Word::Table && !(before.kind == Word::Table && word.pa == before.pa)) {
		add_table(word.pa, at, t.level - 1); /* `t` may have moved */
	}
}

/* All that a new table holds is new. */
void Remembered::add_table(u64 address, u64 ipa, unsigned level)
{
	drop_table(address); /* it was somewhere else before, out of our sight */
	Table &t = tables_[address];

	t = {address, ipa, level, std::vector<u64>(hardware_.entries(level), 0)};
	visit(t, ipa, ipa + (t.words.size() << hardware_.shift(level)));
}

/* Nobody comes to the table any more: all it said when it was looked at is a ghost. */
void Remembered::drop_table(u64 address)
{
	auto found = tables_.find(address);

	if (found == tables_.end()) {
		return;
	}
	Table t = std::move(found->second);
	std::vector<u64> nothing(t.words.size(), 0);

	tables_.erase(found);
	for (u64 i = 0; i < t.words.size();) {
		u64 next =
			t.level == 0 ? alike(t, t.words.data(), i, t.words.size(), false) : i + 1;

		if (t.words[i] & hardware_.present) {
			change(t, nothing.data(), i, next);
		}
		i = next;
	}
}

/* ---- Ghosts -------------------------------------------------------------------------------------
 */

/* No ghost where the new entry says as much and more: what reaches that reaches both. */
void Remembered::lose(const Run &run, const Word &instead)
{
	bool more = instead.kind == run.kind && instead.fetchable && instead.pa == run.pa &&
		    instead.memory == run.memory && instead.ignore_pat == run.ignore_pat &&
		    instead.contiguous == run.contiguous && within(run.perm, instead.perm) &&
		    (!run.dirty || instead.dirty);

	if (!more) {
		keep(run);
	}
}

/* Joins neighbours that are alike. */
void Remembered::keep(const Run &run)
{
	auto same = [&](const Run &o) {
		return o.kind == run.kind && o.level == run.level && o.perm == run.perm &&
		       o.memory == run.memory && o.ignore_pat == run.ignore_pat &&
		       o.contiguous == run.contiguous && o.dirty == run.dirty &&
		       o.stage2 == run.stage2 && o.combined == run.combined;
	};

	for (Run &o : ghosts_) {
		if (same(o) && run.ipa >= o.ipa && run.ipa + run.size <= o.ipa + o.size &&
		    run.pa - run.ipa == o.pa - o.ipa) {
			return;
		}
	}
	if (!ghosts_.empty() && run.kind == Word::Leaf && same(ghosts_.back()) &&
	    ghosts_.back().ipa + ghosts_.back().size == run.ipa &&
	    ghosts_.back().pa - ghosts_.back().ipa == run.pa - run.ipa) {
		ghosts_.back().size += run.size;
		return;
	}
	ghosts_.push_back(run);
}

/* New entries may be fetched at once, beside whatever ghosts there are. */
void Remembered::gain(const Run &run)
{
	for (const Run &ghost : ghosts_) {
		if (((ghost.stage2 | ghost.combined) & inside_) && ghost.ipa < run.ipa + run.size &&
		    run.ipa < ghost.ipa + ghost.size) {
			meet(ghost, run);
		}
	}
}

/*
 * May both be cached at once? Permissions, accessed and dirty state may change under a live entry;
 * frame and memory type may not; by break-before-make (DDI 0487, D8.14.1) nor size nor which table.
 */
void Remembered::meet(const Run &ghost, const Run &run)
{
	const char *what = nullptr;

	if (ghost.kind == Word::Table && run.kind == Word::Table) {
		if (rules_.tables && ghost.level == run.level && ghost.pa != run.pa) {
			what = "a table was replaced by another";
		}
	} else if (ghost.kind != run.kind) {
		unsigned table = ghost.kind == Word::Table ? ghost.level : run.level;
		unsigned leaf = ghost.kind == Word::Table ? run.level : ghost.level;

		if (rules_.sizes && leaf >= table) {
			what = ghost.kind == Word::Leaf ? "a leaf became a table"
							: "a table became a leaf";
		}
	} else if (ghost.pa - ghost.ipa != run.pa - run.ipa) {
		what = "the frame changed";
	} else if (ghost.memory != run.memory || ghost.ignore_pat != run.ignore_pat) {
		what = "the memory type changed";
	} else if (ghost.level != run.level) {
		bool code = (ghost.perm & REF_EXEC) && (run.perm & REF_EXEC);

		what = rules_.sizes		      ? "the size changed"
		       : rules_.sizes_of_code && code ? "the size of code changed"
						      : nullptr;
	} else if (rules_.sizes && ghost.contiguous != run.contiguous) {
		what = "the contiguous bit changed";
	}
	if (what) {
		error(std::string(what) + " while the old is remembered, at IPA " + hex(ghost.ipa) +
		      " size " + hex(ghost.size) + " level " + std::to_string(ghost.level) +
		      " to " + hex(ghost.pa) + "; new is IPA " + hex(run.ipa) + " size " +
		      hex(run.size) + " level " + std::to_string(run.level) + " to " + hex(run.pa));
	}
}

/* ---- CPUs ---------------------------------------------------------------------------------------
 */

void Remembered::leave(unsigned cpu)
{
	inside_ &= ~(1u << cpu);
}

void Remembered::enter(unsigned cpu)
{
	inside_ |= 1u << cpu;
}

/* ---- Invalidations ------------------------------------------------------------------------------
 */

void Remembered::forget_stage2(unsigned cpus, u64 start, u64 end, int level)
{
	/* One page after another makes one range. */
	if (!forgets_.empty()) {
		Forget &last = forgets_.back();

		if (last.stage2 && !last.combined && last.cpus == cpus && last.level == level &&
		    last.end == start) {
			last.end = end;
			return;
		}
	}
	forgets_.push_back({cpus, true, false, start, end, level});
}

void Remembered::forget_combined(unsigned cpus)
{
	forgets_.push_back({cpus, false, true, 0, ~u64(0), ANY_LEVEL});
}

void Remembered::forget_all(unsigned cpus)
{
	forgets_.push_back({cpus, true, true, 0, ~u64(0), ANY_LEVEL});
}

/*
 * False: nothing of the ghost is left. What is named is forgotten; what lies around it in the run
 * is cut off and stays. A leaf of another level than was named need not go; tables go above that
 * level. An entry that is named in part goes as a whole.
 */
bool Remembered::forget_part(Run &ghost, const Forget &f, std::vector<Run> &rest)
{
	u64 span = hardware_.span(ghost.level);
	u64 start = std::max(ghost.ipa, f.start & ~(span - 1));
	u64 ghost_end = ghost.ipa + ghost.size;
	u64 end = f.end >= ghost_end ? ghost_end : (f.end + span - 1) & ~(span - 1);
	bool table = ghost.kind == Word::Table;

	if (start >= end || (f.level != ANY_LEVEL &&
			     (table ? int(ghost.level) <= f.level : int(ghost.level) != f.level))) {
		return true;
	}
	if (start > ghost.ipa) {
		Run before = ghost;

		before.size = start - ghost.ipa;
		rest.push_back(before);
	}
	if (end < ghost_end) {
		Run after = ghost;

		after.ipa = end;
		after.size = ghost_end - end;
		after.pa += end - ghost.ipa;
		rest.push_back(after);
	}
	ghost.pa += start - ghost.ipa;
	ghost.ipa = start;
	ghost.size = end - start;
	ghost.stage2 &= f.stage2 ? ~f.cpus : ALL;
	ghost.combined &= f.combined ? ~f.cpus : ALL;
	return ghost.stage2 | ghost.combined;
}

void Remembered::wait()
{
	for (const Forget &f : forgets_) {
		std::vector<Run> before, rest;

		std::swap(before, ghosts_);
		for (Run &ghost : before) {
			rest.clear();
			if (forget_part(ghost, f, rest)) {
				keep(ghost);
			}
			for (const Run &run : rest) {
				keep(run);
			}
		}
	}
	forgets_.clear();
}

/* ---- What is stale ------------------------------------------------------------------------------
 */

/* "" when the tables still say what the entry says of this address. */
std::string Remembered::why_stale(const Run &ghost, u64 at)
{
	if (ghost.kind == Word::Table) {
		return hardware_.table_at(at, ghost.level) == ghost.pa
			       ? ""
			       : "the table is not linked there any more";
	}
	Sight s = hardware_.look(at);

	if (s.verdict != Verdict::Done) {
		return "the tables have: " + hardware_.text(at);
	}
	if (s.pa != ghost.pa + (at - ghost.ipa)) {
		return "the tables translate it to " + hex(s.pa);
	}
	if (s.memory != ghost.memory || s.ignore_pat != ghost.ignore_pat) {
		return "the memory type is another";
	}
	if (!within(ghost.perm, s.perm)) {
		return "the tables allow less";
	}
	return "";
}

bool Remembered::is_usable(const Run &ghost, unsigned cpus) const
{
	return (ghost.stage2 | ghost.combined) & cpus & inside_;
}

/* Of the part in [start, end). */
std::string Remembered::stale_run(const Run &ghost, u64 start, u64 end, const Excused &excused)
{
	u64 span = hardware_.span(ghost.level);
	u64 first = std::max(ghost.ipa, start), last = std::min(ghost.ipa + ghost.size, end) - 1;
	u64 count = (last - first) / span + 1;

	for (u64 i = 0; i < std::min<u64>(count, 4); i++) {
		u64 at = i == 0	  ? first
			 : i == 1 ? last
				  : first + span * ((sample_ += 7919) % count);

		at &= ~(hardware_.span(0) - 1);
		if (excused(at & ~(span - 1), span)) {
			continue;
		}
		std::string why = why_stale(ghost, at);

		if (!why.empty()) {
			return std::string(ghost.kind == Word::Table ? "a table" : "a leaf") +
			       " of level " + std::to_string(ghost.level) + " at IPA " + hex(at) +
			       " is remembered by CPUs " + hex(ghost.stage2) + " and, combined, " +
			       hex(ghost.combined) + ": " + why;
		}
	}
	return "";
}

std::string Remembered::stale(unsigned cpus, const Excused &excused)
{
	for (const Run &ghost : ghosts_) {
		if (is_usable(ghost, cpus)) {
			std::string why = stale_run(ghost, 0, ~u64(0), excused);

			if (!why.empty()) {
				return why;
			}
		}
	}
	return "";
}

std::string Remembered::stale_in(unsigned cpus, u64 start, u64 end)
{
	for (const Run &ghost : ghosts_) {
		if (ghost.kind == Word::Leaf && is_usable(ghost, cpus) && ghost.ipa < end &&
		    start < ghost.ipa + ghost.size) {
			std::string why =
				stale_run(ghost, start, end, [](u64, u64) { return false; });

			if (!why.empty()) {
				return why;
			}
		}
	}
	return "";
}

u64 Remembered::unwatched(unsigned cpus, const Excused &excused)
{
	for (const Run &ghost : ghosts_) {
		if (ghost.kind != Word::Leaf || !is_usable(ghost, cpus) ||
		    excused(ghost.ipa, ghost.size)) {
			continue;
		}
		Sight s = hardware_.look(ghost.ipa);

		if (s.verdict == Verdict::Done && s.pa == ghost.pa && !s.accessed) {
			return ghost.ipa;
		}
	}
	return ~u64(0);
}

} // namespace model
