// What tests of several roots over one memory stand on: each format with the manual's walk of its
// raw tables beside it.
#ifndef S2_ROOTS_TEST_H
#define S2_ROOTS_TEST_H

#include "../model/ept.h"
#include "../model/npt.h"
#include "s2_test_machine.h"

extern "C" {
#include "hyp/s2_view.h"
}

// What hardware would make of an address, by the root of a space alone.
struct RawLeaf {
	bool there = false;
	u64 pa = 0, size = 0;
	u8 perm = 0; // execution: as a whole
	std::string complaints;
};

template <typename Walk> RawLeaf raw_of(const Walk &walk, bool there, bool executes)
{
	RawLeaf raw;

	raw.there = there;
	raw.pa = walk.pa;
	raw.size = walk.size;
	raw.perm = (walk.rights.read ? S2_READ : 0) | (walk.rights.write ? S2_WRITE : 0) |
		   (executes ? S2_EXEC : 0);
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
		RawLeaf raw;
		bool is_x86 = on_x86(space, [&](auto &&walker, const auto &registers) {
			model::x86::Walk walk = walker.look(registers, at);

			raw = raw_of(walk, walk.is_leaf(), walk.rights.execute_supervisor);
		});

		return is_x86 ? raw : raw_armv8(space, at);
	}

	// As what is used gets its mark: by hardware, or by the fault of a first use.
	void touch(const struct s2 &space, u64 at)
	{
		bool faults = true;

		on_x86(space, [&](auto &&walker, const auto &registers) {
			model::x86::Walk walk =
				walker.translate(registers, at, model::x86::Access::Read);

			faults = walk.fault == model::x86::FaultKind::NotAccessed;
		});
		if (faults) {
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
	// Calls `fn` with the manual's walker and what leads to the root. False: the format is not
	// x86's.
	template <typename Fn> static bool on_x86(const struct s2 &space, Fn fn)
	{
		model::HostMemory memory;

		if (space.format == &s2_ept || space.format == &s2_ept_software) {
			bool flags = space.format->accessed_table != 0;
			model::ept::Features features;
			model::ept::Registers registers;

			features.pa_bits = 48;
			registers.eptp = s2_ept_pointer(&space, flags);
			registers.unused_type = !flags;
			fn(model::ept::Walker(features, memory), registers);
			return true;
		}
		if (space.format == &s2_npt) {
			model::npt::Registers registers;

			registers.ncr3 = ptr_hpa(space.top).v;
			fn(model::npt::Walker({}, memory), registers);
			return true;
		}
		return false;
	}

	static RawLeaf raw_armv8(const struct s2 &space, u64 at)
	{
		model::HostMemory memory;
		model::Features features;
		model::Registers registers;

		registers.vtcr = s2_armv8_vtcr(&space, {5, true, true, false});
		registers.vttbr = ptr_hpa(space.root).v | 1ull << 48;
		registers.fwb = space.format == &s2_armv8_4k_fwb;

		model::Walk walk = model::Walker(features, memory).look(registers, at);

		return raw_of(walk, walk.ok(), walk.rights.execute_el1);
	}
};

#endif
