/*
 * What CPUs may remember of one space's tables, however they cache: every translation that was ever
 * legal, until an invalidation forgets it as the architecture says.
 *
 * A CPU may fetch at any time, so whatever the tables say now is remembered by all, and to forget
 * it is to do nothing, since it may be fetched again at once. What has to be written down is
 * therefore only what the tables do not say any more: ghosts. A change of a table makes one, an
 * invalidation lays it, and everything that can go wrong shows as a ghost that lives on: where it
 * meets an entry that it may not meet (no break-before-make; one address with two frames), or when
 * an operation says that it is complete.
 *
 * A ghost stands for a run of neighbouring entries that were alike. It is kept for guest-physical
 * ("stage2") and for combined translations apart, by CPU: an invalidation by address reaches the
 * first alone. It is slower in words than armv8_tlb.h and x86_tlb.h, which say the same of every
 * entry one by one, and a hundred times faster.
 *
 * look_at() says where something may have changed: what it is not told of it finds out later.
 */
#ifndef TESTS_MODEL_REMEMBERED_H
#define TESTS_MODEL_REMEMBERED_H

#include <functional>
#include <unordered_map>
#include <vector>

#include "hardware.h"

namespace model
{

/* What may not meet in a TLB, besides two frames or two memory types for one address. */
struct MeetingRules {
	bool tables = false; /* two tables at one place */
	bool sizes = false; /* two sizes, a table and a leaf, with the contiguous bit and without */
	bool sizes_of_code = false; /* the same, of what may be executed */
};

class Remembered
{
      public:
	static constexpr int ANY_LEVEL = -1;
	static constexpr unsigned ALL = ~0u; /* CPUs, a bit for each */

	Remembered(Hardware &hardware, Memory &memory, unsigned cpus, MeetingRules rules);

	/* Something in [start, end) may be another since the last time; anywhere. */
	void look_at(u64 start, u64 end);
	void look_at_all()
	{
		look_at(0, ~u64(0));
	}

	/* In the guest a CPU fetches, and may not be wrong. All are, at the beginning. */
	void enter(unsigned cpu);
	void leave(unsigned cpu);
	bool is_inside(unsigned cpu) const
	{
		return inside_ >> cpu & 1;
	}

	/* Invalidations reach what there was at the last look. Nothing is gone before wait(). */
	void forget_stage2(unsigned cpus, u64 start, u64 end, int level);
	void forget_combined(unsigned cpus);
	void forget_all(unsigned cpus);
	void wait();

	/*
	 * "", or what a CPU of `cpus` that is inside remembers and the tables do not say, of what
	 * `excused` does not excuse. Of long runs some pages are looked at.
	 */
	using Excused = std::function<bool(u64 start, u64 size)>;
	std::string stale(unsigned cpus, const Excused &excused);

	/* The same of what lies in [start, end) alone, with nothing excused. */
	std::string stale_in(unsigned cpus, u64 start, u64 end);
	/* Where a CPU of `cpus` that is inside can use a leaf without setting its accessed flag,
	 * which is clear; ~0: nowhere. */
	u64 unwatched(unsigned cpus, const Excused &excused);

	/* The first thing that was done wrong; "". */
	const std::string &error() const
	{
		return error_;
	}
	size_t ghosts() const
	{
		return ghosts_.size();
	}
	/* Pages that hardware reaches, as far as was looked. */
	u64 pages() const
	{
		return pages_;
	}

      private:
	struct Run { /* of entries alike */
		Word::Kind kind;
		unsigned level;
		u64 ipa, size; /* of all of it */
		u64 pa;
		unsigned perm;
		MemoryType memory;
		bool ignore_pat, contiguous, dirty;
		unsigned stage2, combined; /* which CPUs have it */
	};
	struct Table {
		u64 address, ipa;
		unsigned level;
		std::vector<u64> words;
	};
	struct Forget {
		unsigned cpus;
		bool stage2, combined;
		u64 start, end;
		int level;
	};

	void visit(Table &table, u64 start, u64 end);
	u64 alike(const Table &table, const u64 *words, u64 from, u64 end, bool exactly) const;
	void change(Table &table, const u64 *now, u64 from, u64 to);
	Run run_of(const Table &table, u64 index, u64 count, const Word &word) const;
	void lose(const Run &run, const Word &instead);
	void gain(const Run &run);
	void add_table(u64 address, u64 ipa, unsigned level);
	void drop_table(u64 address);
	void meet(const Run &ghost, const Run &run);
	bool forget_part(Run &ghost, const Forget &f, std::vector<Run> &rest);
	void keep(const Run &ghost);
	std::string why_stale(const Run &ghost, u64 at);
	std::string stale_run(const Run &ghost, u64 start, u64 end, const Excused &excused);
	bool is_usable(const Run &ghost, unsigned cpus) const;
	void error(const std::string &sentence);

	Hardware &hardware_;
	Memory &memory_;
	MeetingRules rules_;
	unsigned everyone_, inside_;
	u64 pages_ = 0;
	std::unordered_map<u64, Table> tables_; /* by address */
	std::vector<Run> ghosts_;
	std::vector<Forget> forgets_; /* until wait() */
	std::string error_;
	unsigned sample_ = 0;
};

} // namespace model

#endif
