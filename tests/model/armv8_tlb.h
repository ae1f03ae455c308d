/*
 * A TLB that remembers every legal stage-2 translation, and forgets only what it is told to.
 *
 * Each PE keeps, by VMID, leaves ("stage-2 only"), the same leaves joined with the guest's stage 1
 * ("combined": TLBI IPAS2 does not reach these, D8.13.5), and table descriptors (walk caches). Any
 * legal entry of an attached space may be fetched at any time, so the model fetches all of them,
 * before and after every maintenance operation: what could be cached, is. (To invalidate what would
 * be fetched again at once is to do nothing, and so it is done.)
 *
 * It speaks up by itself (errors()) when two entries for one address exist that the manual forbids
 * to coexist: break-before-make was not done (D8.14.1). stale() is for the end of an operation:
 * what is remembered that the tables no longer say.
 *
 * TLBI operands are the register values that hardware is given, decoded here anew. An invalidated
 * entry may be used until dsb(); until then it still counts.
 */
#ifndef TESTS_MODEL_ARMV8_TLB_H
#define TESTS_MODEL_ARMV8_TLB_H

#include <map>

#include "armv8_stage2.h"

namespace model
{

/* What a TLBI by address names: what it does not, may stay. */
struct TlbiRange {
	u64 start, end;
	int level;	   /* leaves of this level, or ANY_LEVEL; tables above it go too */
	std::string error; /* nothing is invalidated, and why */

	static constexpr int ANY_LEVEL = -2;
};
TlbiRange decode_ipas2e1(u64 operand, const Features &features);
TlbiRange decode_ripas2e1(u64 operand, const Config &config);

struct TlbEntry {
	enum Kind { Stage2, Combined, Table } kind;
	int level;
	u64 ipa, size;
	u64 pa; /* of the leaf's first byte, or of the table */
	MemoryType memory;
	Rights rights;
	bool contiguous;
	bool doomed;			    /* invalidated, but no DSB has waited for it */
	u64 descriptor_address, descriptor; /* it was fetched from here */

	std::string text() const;
};

struct ModelTlb {
	static constexpr int ALL = -1; /* every PE: the -IS forms of TLBI */

	/* bbm_level: ID_AA64MMFR2.BBM. 2 allows a block to change to equal pages and back. */
	ModelTlb(Walker &walker, unsigned cpus = 1, unsigned bbm_level = 0);

	/*
	 * A VMID is in use with these tables from here on / no PE uses it any more. What is cached
	 * of a VMID that was given up harms nobody, until the VMID is attached again: that is an
	 * error.
	 */
	void attach(const Registers &registers);
	void detach(const Registers &registers);

	/* An access on `cpu`: what the tables say is remembered, as far as it is legal to. */
	Walk access(unsigned cpu, const Registers &registers, u64 ipa, Access access);

	/* Everything that is legal now, on every PE. */
	void prefetch_all();

	/* Operations; `operand` is Xt. ALL: broadcast; else on that PE alone. */
	void ipas2e1(u64 vmid, u64 operand, int cpu = ALL, bool last_level = false);
	void ripas2e1(u64 vmid, u64 operand, int cpu = ALL, bool last_level = false);
	void vmalle1(u64 vmid, int cpu = ALL);
	void vmalls12e1(u64 vmid, int cpu = ALL);
	void alle1(int cpu = ALL);
	void dsb();

	/* All that the PE might use for `ipa` now. */
	std::vector<TlbEntry> cached(unsigned cpu, u64 vmid, u64 ipa) const;
	size_t count() const;

	/* What was done wrong so far, in whole sentences. */
	const std::vector<std::string> &errors() const
	{
		return errors_;
	}

	/* Of attached spaces: what allows or reaches what the tables do not. None after a close. */
	std::vector<std::string> stale();

      private:
	/* Entries by log2 of their size and by start, of one PE and VMID. */
	using Space = std::map<std::pair<unsigned, u64>, std::vector<TlbEntry>>;
	using Doom = std::function<bool(const TlbEntry &)>;

	void insert(Space &space, const TlbEntry &entry);
	template <typename Any, typename Fn>
	static void each_overlap(Any &space, u64 start, u64 end, Fn fn);
	void check_against(const Space &space, const TlbEntry &entry);
	void complain_if_conflict(const TlbEntry &old, const TlbEntry &entry);
	void remember_table(unsigned cpu, u64 vmid, const Config &config, u64 ipa,
			    const Step &step);
	void remember_leaf(unsigned cpu, u64 vmid, const Walk &walk);
	/* What `doom` says of entries that overlap [start, end). */
	void invalidate(int cpu, u64 vmid, bool every_vmid, u64 start, u64 end, const Doom &doom);
	void error(const std::string &sentence);
	std::string why_stale(const Registers &registers, const TlbEntry &entry);

	Walker &walker_;
	unsigned bbm_level_;
	std::map<u64, Registers> attached_; /* by VMID */
	std::map<u64, Seen> fetched_;	    /* by VMID: every PE has what these say */
	bool any_doomed_ = false;
	std::vector<std::map<u64, Space>> pes_; /* by VMID */
	std::vector<std::string> errors_;
};

} // namespace model

#endif
