// What tests of several roots over one memory stand on: each format with the manual's walk of its
// raw tables beside it.
#ifndef S2_ROOTS_TEST_H
#define S2_ROOTS_TEST_H

#include "../model/ept.h"
#include "../model/npt.h"
#include "s2_test_machine.h"

extern "C" {
#include "../../arch/x86_64/s2_ept.h"
#include "../../arch/x86_64/s2_npt.h"
#include "hyp/s2_view.h"
}

// What hardware would make of an address, by the root of a space alone.
struct RawLeaf {
	bool there = false;
	u64 pa = 0, size = 0;
	u8 perm = 0; // execution: as a whole
	std::string complaints;
};

inline RawLeaf raw_x86(const model::x86::Walk &walk)
{
	RawLeaf raw;

	raw.there = walk.is_leaf();
	raw.pa = walk.pa;
	raw.size = walk.size;
	raw.perm = (walk.rights.read ? S2_READ : 0) | (walk.rights.write ? S2_WRITE : 0) |
		   (walk.rights.execute_supervisor ? S2_EXEC : 0);
	for (const std::string &complaint : walk.complaints) {
		raw.complaints += complaint + "; ";
	}
	return raw;
}

class S2RootsTest : public S2Test
{
      protected:
	// Is there a manual for the format?
	bool has_hardware() const
	{
		return GetParam().format != arch_s2_format();
	}

	RawLeaf raw(const struct s2 &space, u64 at)
	{
		const struct s2_format *f = space.format;
		model::HostMemory memory;

		if (f == &s2_ept) {
			model::ept::Features features;
			model::ept::Registers registers;

			features.pa_bits = 48;
			registers.eptp = s2_ept_pointer(&space, true);
			return raw_x86(model::ept::Walker(features, memory).look(registers, at));
		}
		if (f == &s2_npt) {
			model::npt::Registers registers;

			registers.ncr3 = ptr_hpa(space.top).v;
			return raw_x86(model::npt::Walker({}, memory).look(registers, at));
		}
		return raw_armv8(space, at, memory);
	}

	// As hardware marks what it uses.
	void touch(const struct s2 &space, u64 at)
	{
		model::HostMemory memory;

		if (space.format == &s2_ept) {
			model::ept::Features features;
			model::ept::Registers registers;

			features.pa_bits = 48;
			registers.eptp = s2_ept_pointer(&space, true);
			model::ept::Walker(features, memory)
				.translate(registers, at, model::x86::Access::Read);
		} else if (space.format == &s2_npt) {
			model::npt::Registers registers;

			registers.ncr3 = ptr_hpa(space.top).v;
			model::npt::Walker({}, memory)
				.translate(registers, at, model::x86::Access::Read);
		} else {
			EXPECT_EQ(s2_mark_accessed(const_cast<struct s2 *>(&space), gpa(at)), OK);
		}
	}

	// A guest's access from every CPU in turn, each of which stays behind with what it
	// remembers.
	void remember(struct s2 *space, u64 at, u8 perm)
	{
		for (u32 cpu = 0; cpu < 2; cpu++) {
			hpa_t out;

			fake_cpu_become(cpu);
			s2_entering(space);
			ASSERT_EQ(fake_access(space, gpa(at), perm, &out), FAKE_OK);
			s2_left(space);
		}
		fake_cpu_become(0);
	}

	// Does any CPU get through to `at`, once it has entered again?
	bool any_cpu_gets(struct s2 *space, u64 at, u8 perm)
	{
		bool any = false;

		for (u32 cpu = 0; cpu < 2; cpu++) {
			hpa_t out;

			fake_cpu_become(cpu);
			s2_entering(space);
			any = fake_access(space, gpa(at), perm, &out) == FAKE_OK || any;
			s2_left(space);
		}
		fake_cpu_become(0);
		return any;
	}

      private:
	RawLeaf raw_armv8(const struct s2 &space, u64 at, model::HostMemory &memory)
	{
		model::Features features;
		model::Registers registers;
		RawLeaf raw;

		registers.vtcr = s2_armv8_vtcr(&space, {5, true, true, false});
		registers.vttbr = ptr_hpa(space.root).v | 1ull << 48;
		registers.fwb = space.format == &s2_armv8_4k_fwb;

		model::Walk walk = model::Walker(features, memory).look(registers, at);

		raw.there = walk.ok();
		raw.pa = walk.pa;
		raw.size = walk.size;
		raw.perm = (walk.rights.read ? S2_READ : 0) | (walk.rights.write ? S2_WRITE : 0) |
			   (walk.rights.execute_el1 ? S2_EXEC : 0);
		for (const std::string &complaint : walk.complaints) {
			raw.complaints += complaint + "; ";
		}
		return raw;
	}
};

inline auto s2_roots_kinds()
{
	return ::testing::Values(S2Kind{"fake_broadcast", arch_s2_format(), true},
				 S2Kind{"fake_generations", arch_s2_format(), false},
				 S2Kind{"armv8", &s2_armv8_4k, true},
				 S2Kind{"armv8_fwb", &s2_armv8_4k_fwb, true},
				 S2Kind{"ept", &s2_ept, false}, S2Kind{"npt", &s2_npt, false});
}

#endif
