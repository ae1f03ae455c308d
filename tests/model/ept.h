/*
 * The hardware's view of EPT: an independent judge.
 *
 * Written from Intel's Software Developer's Manual, volume 3C, chapter 29 "VMX Support for Address
 * Translation" (of 2023; in other editions the number is another), and from nothing of the code
 * that it judges. Given the EPTP, the controls that matter and raw memory it translates an access
 * as a CPU would: violations with their exit qualification, misconfigurations with the reason,
 * memory types, accessed and dirty flags with their updates.
 *
 * An entry that is not present and whose address bits name memory that the L1 data cache may hold
 * is complained about: a CPU that has L1TF lets a guest read that memory.
 *
 * A host may use what is reserved: where it says so (unused_type), a leaf that is misconfigured by
 * its memory type alone, which is 2, stands for a write-back page that was not used yet. The CPU
 * exits all the same, and caches nothing (29.4.2); it is only no mistake then. Any other type but
 * write-back is one.
 *
 * Taken to be off, so that their bits are ignored as the manual says: sub-page write permissions
 * (61), supervisor shadow stacks (60), paging-write access (58), verification of guest paging (57).
 * GPAs of accesses are translations of linear addresses (bit 7 of the qualification is set).
 */
#ifndef TESTS_MODEL_EPT_H
#define TESTS_MODEL_EPT_H

#include "x86_walk.h"

namespace model
{
namespace ept
{

/* What the CPU implements: IA32_VMX_EPT_VPID_CAP, and MAXPHYADDR of CPUID 80000008H. */
struct Features {
	unsigned pa_bits = 46;
	bool execute_only = true;   /* bit 0 */
	bool five_levels = true;    /* bit 7 */
	bool uncached_walk = true;  /* bit 8: EPTP memory type UC; WB there always is */
	bool large_2m = true;	    /* bit 16 */
	bool large_1g = true;	    /* bit 17 */
	bool accessed_dirty = true; /* bit 21 */
	bool accessed_despite_violation = false; /* the manual leaves that to the CPU */

	/* May L1 hold any of [start, end)? Unset: this CPU has no L1TF. */
	std::function<bool(u64 start, u64 end)> l1_may_hold;
};

/* Fields of the VMCS. */
struct Registers {
	u64 eptp = 0;
	u64 vpid = 1;
	bool mode_based_execute = false;   /* secondary control, bit 22 */
	bool violation_exceptions = false; /* "EPT-violation #VE", bit 18 */
	bool unused_type = false;	   /* the host's own: see above */
};

class Walker : public x86::Walker
{
      public:
	Walker(Features features, Memory &memory)
	    : x86::Walker(memory, features.accessed_despite_violation),
	      features_(std::move(features))
	{
	}

	/* As VM entry checks it (27.2.1.1). */
	x86::Config decode(const Registers &registers) const;

	x86::Walk translate(const Registers &registers, u64 gpa, x86::Access access)
	{
		return x86::Walker::translate(decode(registers), gpa, access);
	}
	x86::Walk look(const Registers &registers, u64 gpa)
	{
		return x86::Walker::look(decode(registers), gpa);
	}
	void for_each(const Registers &registers, const x86::Visitor &fn)
	{
		x86::Walker::for_each(decode(registers), fn);
	}
	std::string complaints(const Registers &registers)
	{
		return x86::Walker::complaints(decode(registers));
	}

      protected:
	Entry classify(const x86::Config &config, int level, u64 entry,
		       std::string *why) const override;
	x86::Rights rights(const x86::Config &config, u64 entry) const override;
	u64 address(u64 entry, unsigned shift) const override;
	void decode_memory(const x86::Config &config, int level, u64 entry,
			   x86::Walk &w) const override;
	std::string hazard(const x86::Config &config, int level, u64 entry) const override;
	x86::Access treated_as(const x86::Config &config, x86::Access access) const override;
	void explain_fault(const x86::Config &config, x86::Access access,
			   x86::Walk &w) const override;

      private:
	bool is_large(int level, u64 entry) const;
	std::string misconfiguration(const x86::Config &config, int level, u64 entry) const;
	bool is_unused(const x86::Config &config, int level, u64 entry) const;
	u64 reserved_bits(int level, u64 entry) const;

	Features features_;
};

} // namespace ept
} // namespace model

#endif
