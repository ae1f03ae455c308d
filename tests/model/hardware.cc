/* See hardware.h. */
#include "hardware.h"

namespace model
{
namespace
{

unsigned perm_of(const Rights &r)
{
	return (r.read ? REF_READ : 0) | (r.write ? REF_WRITE : 0) |
	       (r.execute_el1 ? REF_EXEC_KERNEL : 0) | (r.execute_el0 ? REF_EXEC_USER : 0);
}

unsigned perm_of(const x86::Rights &r)
{
	return (r.read ? REF_READ : 0) | (r.write ? REF_WRITE : 0) |
	       (r.execute_supervisor ? REF_EXEC_KERNEL : 0) | (r.execute_user ? REF_EXEC_USER : 0);
}

class Armv8 : public Hardware
{
      public:
	Armv8(Walker &walker, const Registers &registers)
	    : walker_(walker), registers_(registers), config_(walker.decode(registers))
	{
		root = config_.root;
		root_entries = config_.root_entries;
		root_level = unsigned(3 - config_.start_level);
		page_shift = config_.granule_shift;
		index_bits = config_.stride;
	}

	Sight look(u64 ipa) override
	{
		return sight(walker_.look(registers_, ipa), ipa);
	}

	Sight access(u64 ipa, unsigned perm) override
	{
		Access access = perm == REF_READ	  ? Access::Read
				: perm == REF_WRITE	  ? Access::Write
				: perm == REF_EXEC_KERNEL ? Access::ExecuteEl1
							  : Access::ExecuteEl0;

		return sight(walker_.translate(registers_, ipa, access), ipa);
	}

	Word word(unsigned level, u64 ipa, u64 value) override
	{
		Walk w = walker_.take(registers_, ipa, 3 - int(level), value);
		Word word;

		if (!w.complaints.empty()) {
			word.complaint = w.complaints[0];
		} else if (!w.ok() && w.fault != FaultKind::Translation) {
			word.complaint = w.text();
		}
		if (w.size != 0) {
			word.kind = Word::Leaf;
			word.pa = w.pa_start;
			word.perm = perm_of(w.rights);
			word.memory = w.memory;
			word.contiguous = w.contiguous;
			word.fetchable = w.accessed;
			word.dirty = !w.writable_clean;
		} else if (w.steps.back().next != 0) {
			word.kind = Word::Table;
			word.pa = w.steps.back().next;
			word.fetchable = true;
		}
		return word;
	}

	u64 table_at(u64 ipa, unsigned level) override
	{
		for (const Step &step : walker_.look(registers_, ipa).steps) {
			if (step.level == 3 - int(level)) {
				return step.next;
			}
		}
		return 0;
	}

	std::string text(u64 ipa) override
	{
		return walker_.look(registers_, ipa).text();
	}

	std::string difference(const ReferenceMap &map,
			       const ReferenceMap::Excused &excused) override
	{
		return map.difference(walker_, registers_, true, excused);
	}

	std::string refusal() override
	{
		return !config_.error.empty()	    ? config_.error
		       : config_.root_out_of_range  ? "the root is beyond the output size"
		       : config_.complaints.empty() ? ""
						    : config_.complaints[0];
	}

      private:
	Sight sight(const Walk &w, u64 ipa) const
	{
		static const Verdict verdicts[] = {Verdict::Done,      Verdict::Wrong,
						   Verdict::NotMapped, Verdict::NotAccessed,
						   Verdict::Forbidden, Verdict::Wrong};
		Sight s;

		s.verdict = verdicts[unsigned(w.fault)];
		s.level = unsigned(3 - w.level);
		s.size = span(s.level);
		s.start = ipa & ~(s.size - 1);
		s.pa = w.pa;
		s.perm = perm_of(w.rights);
		s.memory = w.memory;
		s.accessed = w.accessed;
		s.contiguous = w.contiguous;
		s.complaint = !w.complaints.empty();
		return s;
	}

	Walker &walker_;
	Registers registers_;
	Config config_;
};

template <typename AnyWalker, typename AnyRegisters> class X86 : public Hardware
{
      public:
	X86(AnyWalker &walker, const AnyRegisters &registers)
	    : walker_(walker), base_(walker), registers_(registers),
	      config_(walker.decode(registers))
	{
		root = config_.root;
		root_entries = 512;
		root_level = unsigned(config_.levels - 1);
	}

	Sight look(u64 ipa) override
	{
		return sight(base_.look(config_, ipa));
	}

	Sight access(u64 ipa, unsigned perm) override
	{
		x86::Access access = perm == REF_READ	       ? x86::Access::Read
				     : perm == REF_WRITE       ? x86::Access::Write
				     : perm == REF_EXEC_KERNEL ? x86::Access::ExecuteSupervisor
							       : x86::Access::ExecuteUser;

		return sight(base_.translate(config_, ipa, access));
	}

	Word word(unsigned level, u64 ipa, u64 value) override
	{
		x86::Walk w = base_.take(config_, ipa, int(level) + 1, value);
		Word word;

		if (!w.complaints.empty()) {
			word.complaint = w.complaints[0];
		}
		word.fetchable = config_.flags ? w.all_accessed : !w.unused;
		if (w.is_leaf()) {
			word.kind = Word::Leaf;
			word.pa = w.pa_start;
			word.perm = perm_of(w.rights);
			word.memory = w.memory;
			word.ignore_pat = w.ignore_pat;
			word.dirty = !config_.flags || w.dirty;
		} else if (w.steps.back().next != 0) {
			word.kind = Word::Table;
			word.pa = w.steps.back().next;
			word.perm = perm_of(w.rights);
		}
		return word;
	}

	u64 table_at(u64 ipa, unsigned level) override
	{
		for (const x86::Step &step : base_.look(config_, ipa).steps) {
			if (step.level == int(level) + 1) {
				return step.next;
			}
		}
		return 0;
	}

	std::string text(u64 ipa) override
	{
		return base_.look(config_, ipa).text();
	}

	std::string difference(const ReferenceMap &map,
			       const ReferenceMap::Excused &excused) override
	{
		return map.difference(walker_, registers_, true, excused);
	}

	std::string refusal() override
	{
		return config_.error.empty() && !config_.complaints.empty() ? config_.complaints[0]
									    : config_.error;
	}

      private:
	Sight sight(const x86::Walk &w) const
	{
		static const Verdict verdicts[] = {Verdict::Done,      Verdict::NotMapped,
						   Verdict::Forbidden, Verdict::Wrong,
						   Verdict::Wrong,     Verdict::NotAccessed};
		Sight s;

		s.verdict = verdicts[unsigned(w.fault)];
		s.level = unsigned(w.level - 1);
		s.size = span(s.level);
		s.start = w.start & ~(s.size - 1);
		s.pa = w.pa;
		s.perm = perm_of(w.rights);
		s.memory = w.memory;
		s.ignore_pat = w.ignore_pat;
		s.accessed = w.accessed;
		s.dirty = w.dirty;
		s.complaint = !w.complaints.empty();
		return s;
	}

	AnyWalker &walker_;
	x86::Walker &base_;
	AnyRegisters registers_;
	x86::Config config_;
};

} // namespace

std::unique_ptr<Hardware> hardware(Walker &walker, const Registers &registers)
{
	return std::make_unique<Armv8>(walker, registers);
}

std::unique_ptr<Hardware> hardware(ept::Walker &walker, const ept::Registers &registers)
{
	auto face = std::make_unique<X86<ept::Walker, ept::Registers>>(walker, registers);

	face->present = registers.mode_based_execute ? 0x407 : 7;
	return face;
}

std::unique_ptr<Hardware> hardware(npt::Walker &walker, const npt::Registers &registers)
{
	return std::make_unique<X86<npt::Walker, npt::Registers>>(walker, registers);
}

} // namespace model
