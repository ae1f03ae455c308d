/*
 * The hardware's view of AMD's nested page tables: an independent judge.
 *
 * Written from the AMD64 Architecture Programmer's Manual, volume 2, chapters 5.3 "Long-Mode Page
 * Translation" and 15.25 "Nested Paging", and from nothing of the code that it judges. Nested
 * tables are ordinary long-mode tables, read as the host's CR4 and EFER had been at VMRUN. Every
 * guest access is a user access to them, and every access of the CPU to the guest's own page tables
 * is a user write; the host's CR0.WP has no say.
 *
 * Faults are #NPF with EXITINFO1 as qualification. Not modelled: hosts outside long mode, guest
 * mode execute trap, supervisor shadow stacks, memory encryption, MTRRs. Protection keys and the
 * global bit mean nothing here.
 */
#ifndef TESTS_MODEL_NPT_H
#define TESTS_MODEL_NPT_H

#include "x86_walk.h"

namespace model
{
namespace npt
{

/* What the CPU implements. */
struct Features {
	unsigned pa_bits = 48;	 /* CPUID 80000008H EAX[7:0] */
	bool large_1g = true;	 /* CPUID 80000001H EDX[26] */
	bool five_levels = true; /* CPUID 7 ECX[16]: LA57 */
	bool no_execute = true;	 /* CPUID 80000001H EDX[20] */
	bool accessed_despite_fault = false;
};

/* Host state at VMRUN, and of the VMCB. */
struct Registers {
	u64 ncr3 = 0;
	u64 cr4 = 1 << 5;	      /* PAE; LA57 is bit 12 */
	u64 efer = 0xd01;	      /* NXE, LMA, LME, SCE */
	u64 pat = 0x0007040600070406; /* of the reset: WB, WT, UC-, UC, twice */
	u64 asid = 1;
};

class Walker : public x86::Walker
{
      public:
	Walker(Features features, Memory &memory)
	    : x86::Walker(memory, features.accessed_despite_fault), features_(features)
	{
	}

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
	x86::Access treated_as(const x86::Config &config, x86::Access access) const override;
	void explain_fault(const x86::Config &config, x86::Access access,
			   x86::Walk &w) const override;

      private:
	bool is_large(int level, u64 entry) const;
	u64 reserved_bits(const x86::Config &config, int level, u64 entry) const;

	Features features_;
};

} // namespace npt
} // namespace model

#endif
