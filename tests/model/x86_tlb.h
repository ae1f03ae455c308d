/*
 * The TLBs of x86 CPUs under EPT or NPT: each remembers every legal translation, and forgets only
 * what it is told to.
 *
 * A CPU's TLB is its own: nothing is broadcast, and no operation names a guest-physical range. What
 * is cached stands under a tag: the root's address for EPT (EP4TA; SDM 29.4.1), the ASID for NPT
 * (APM 15.16). Kept are guest-physical translations, the same joined with the guest's own tables
 * ("combined"; with a second tag, the VPID, on Intel; linear addresses are taken to be equal to
 * guest-physical ones) and pointers to tables (paging-structure caches).
 *
 * A CPU fetches only for the guest that it runs: between enter() and leave() anything legal may be
 * fetched at any time, so the model fetches all of it, as prefetch_all() is called: tests call it
 * after each change of a table. An entry is fetched only when its accessed flag is set, or flags
 * are off, and writes use it only when the dirty flag is set too; access() sets them.
 *
 * stale() is for when an operation is said to be complete, and after each enter(): what a CPU that
 * is in a guest remembers of it that the tables no longer say. A CPU outside may remember anything,
 * if it is made to forget before it enters again.
 *
 * It speaks up by itself (errors()) when one CPU may hold two translations of one address to
 * different frames or types, when an operation is given what it refuses, and where the CPU has the
 * erratum, when code is mapped with two sizes at once (Intel's "Machine Check Error Avoidance on
 * Page Size Change").
 */
#ifndef TESTS_MODEL_X86_TLB_H
#define TESTS_MODEL_X86_TLB_H

#include <map>
#include <optional>

#include "ept.h"
#include "npt.h"
#include "x86_walk.h"

namespace model
{
namespace x86
{

struct TlbEntry {
	/* Global: combined, of a page that the guest calls global. */
	enum Kind { GuestPhysical, Combined, Global, Table } kind;
	int level;
	u64 gpa, size;
	u64 pa; /* of the leaf's first byte, or of the table */
	MemoryType memory;
	bool ignore_pat;
	Rights rights;
	bool dirty;	/* a write does not look at the tables again */
	u64 linear_tag; /* of combined ones */

	bool is_combined() const
	{
		return kind == Combined || kind == Global;
	}
	std::string text() const;
};

class Tlb
{
      public:
	/* two_sizes_hurt: the erratum. violation_forgets: an EPT violation does (29.4.3.1). */
	Tlb(Walker &walker, unsigned cpus, bool two_sizes_hurt, bool violation_forgets);

	/* The CPU is in the guest from here on / is not any more. */
	void enter(unsigned cpu, const Config &config);
	void leave(unsigned cpu);

	/* An access of the guest that `cpu` is in. */
	Walk access(unsigned cpu, u64 gpa, Access access);

	/* Everything that is legal now, on every CPU that is in a guest. */
	void prefetch_all();

	/* All that the CPU might use for `gpa` under this tag. */
	std::vector<TlbEntry> cached(unsigned cpu, u64 tag, u64 gpa) const;
	size_t count() const;

	/* What was done wrong so far, in whole sentences. */
	const std::vector<std::string> &errors() const
	{
		return errors_;
	}

	/* Of CPUs in a guest: what allows or reaches what the tables do not. */
	std::vector<std::string> stale();

      protected:
	using Doom = std::function<bool(const TlbEntry &)>;

	/* Of one CPU, under one tag or all. */
	void forget(unsigned cpu, std::optional<u64> tag, const Doom &doom);
	void error(const std::string &sentence);
	bool is_in_guest(unsigned cpu) const
	{
		return cpus_[cpu].running.has_value();
	}

      private:
	/* By log2 of the entry's size and by its start. */
	using Space = std::map<std::pair<unsigned, u64>, std::vector<TlbEntry>>;

	struct Cpu {
		std::map<u64, Space> spaces; /* by tag */
		std::optional<Config> running;
	};

	void prefetch(Cpu &cpu);
	void remember_table(Space &space, const Config &config, const Walk &walk);
	void remember_leaf(Space &space, const Config &config, const Walk &walk);
	void insert(Space &space, const TlbEntry &entry);
	void check_against(const Space &space, const TlbEntry &entry);
	void complain_if_conflict(const TlbEntry &old, const TlbEntry &entry);
	bool may_not_notice(unsigned cpu, const Walk &walk, u64 gpa, Access access);
	std::string why_stale(const Config &config, const TlbEntry &entry);
	std::string why_stale_table(const Config &config, const TlbEntry &entry);
	void stale_of(unsigned cpu, std::vector<std::string> &list);

	Walker &walker_;
	bool two_sizes_hurt_, violation_forgets_;
	std::vector<Cpu> cpus_;
	std::vector<std::string> errors_;
};

} // namespace x86

namespace ept
{

/* Operations are those of VMX root operation: a CPU that is in a guest does none (an error). */
class Tlb : public x86::Tlb
{
      public:
	Tlb(x86::Walker &walker, unsigned cpus = 1, bool two_sizes_hurt = true)
	    : x86::Tlb(walker, cpus, two_sizes_hurt, true)
	{
	}

	static constexpr unsigned SINGLE_CONTEXT = 1, ALL_CONTEXT = 2;
	static constexpr unsigned VPID_ADDRESS = 0, VPID_RETAINING_GLOBALS = 3;

	/* `type` is the register operand; `eptp` is the descriptor's, for single-context. */
	void invept(unsigned cpu, unsigned type, u64 eptp = 0);
	/* Types 0 to 3. Never forgets guest-physical translations. */
	void invvpid(unsigned cpu, unsigned type, u64 vpid = 0, u64 linear = 0);

      private:
	bool is_refused(unsigned cpu, const char *name);
};

} // namespace ept

namespace npt
{

class Tlb : public x86::Tlb
{
      public:
	Tlb(x86::Walker &walker, unsigned cpus = 1, bool flush_by_asid = true)
	    : x86::Tlb(walker, cpus, false, false), flush_by_asid_(flush_by_asid)
	{
	}

	static constexpr unsigned FLUSH_NOTHING = 0, FLUSH_ALL = 1, FLUSH_ASID = 3;
	static constexpr unsigned FLUSH_ASID_NOT_GLOBAL = 7;

	/* VMRUN with the VMCB's TLB_CONTROL: what it names goes, and the CPU is in the guest. */
	void vmrun(unsigned cpu, const x86::Config &config, unsigned tlb_control);
	/* Of one linear address: never enough after a change of nested tables. */
	void invlpga(unsigned cpu, u64 linear, u64 asid);

      private:
	bool flush_by_asid_; /* CPUID 8000000AH EDX[6] */
};

} // namespace npt
} // namespace model

#endif
