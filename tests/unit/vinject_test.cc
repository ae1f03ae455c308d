/* Exceptions that the hypervisor makes a guest take, against AArch64.TakeException() of the manual.
 */
#include "guest_test_machine.h"

extern "C" {
#include "../../arch/arm64/vid.h"
#include "../../arch/arm64/vinject.h"
}

namespace
{

constexpr u64 PC = GIB(1) + 0x1234;
constexpr u64 VECTORS = GIB(1) + 0x8000;
constexpr u64 FAULT = 0xffff800012345678;

constexpr u64 EL0_32 = 0x10, EL0 = 0x0, EL1T = 0x4, EL1H = 0x5;
constexpr u64 DAIF = 0x3c0;
constexpr u64 NZCV = BITS(31, 28), DIT = BIT(24), UAO = BIT(23), PAN = BIT(22), SS = BIT(21),
	      ILLEGAL = BIT(20), SSBS = BIT(12), BTYPE = BITS(11, 10), TCO = BIT(25);
constexpr u64 SPAN = BIT(23), DSSBS = BIT(44);

constexpr u64 ESR_DABT = 0x24ull << 26, ESR_IABT = 0x20ull << 26, ESR_IL = BIT(25);

class Vinject : public GuestMachine
{
      protected:
	void SetUp() override
	{
		GuestMachine::SetUp();
		fake_el1.regs[EL1_VBAR] = VECTORS;
		fake_el1.regs[EL1_SCTLR] = SPAN;
		fake_el1.fault_address = FAULT;
		vm->arch.id[VID_AA64MMFR1] = BIT(20);
		vm->arch.id[VID_AA64PFR1] = BIT(5);
	}

	void undefined_at(u64 pstate)
	{
		vcpu->arch.pc = PC;
		vcpu->arch.pstate = pstate;
		vinject_undefined(vcpu);
		EXPECT_EQ(fake_el1.regs[EL1_ELR], PC);
		EXPECT_EQ(fake_el1.regs[EL1_SPSR], pstate);
	}

	u64 abort_at(u64 pstate, u64 syndrome)
	{
		vcpu->arch.pc = PC;
		vcpu->arch.pstate = pstate;
		vcpu->exit.syndrome = syndrome;
		vinject_abort(vcpu);
		EXPECT_EQ(fake_el1.regs[EL1_ELR], PC);
		EXPECT_EQ(fake_el1.regs[EL1_SPSR], pstate);
		EXPECT_EQ(fake_el1.regs[EL1_FAR], FAULT);
		return fake_el1.regs[EL1_ESR];
	}
};

TEST_F(Vinject, vector_is_chosen_by_where_the_guest_was)
{
	undefined_at(EL1T);
	EXPECT_EQ(vcpu->arch.pc, VECTORS + 0x000);
	undefined_at(EL1H);
	EXPECT_EQ(vcpu->arch.pc, VECTORS + 0x200);
	undefined_at(EL0);
	EXPECT_EQ(vcpu->arch.pc, VECTORS + 0x400);
	undefined_at(EL0_32);
	EXPECT_EQ(vcpu->arch.pc, VECTORS + 0x600);
}

TEST_F(Vinject, undefined_instruction_has_an_unknown_reason)
{
	undefined_at(EL1H);
	EXPECT_EQ(fake_el1.regs[EL1_ESR], ESR_IL);
	EXPECT_EQ(fake_el1.regs[EL1_FAR], 0u);
}

TEST_F(Vinject, pstate_keeps_flags_and_dit_and_clears_the_rest)
{
	undefined_at(NZCV | DIT | TCO | UAO | SS | ILLEGAL | SSBS | BTYPE | EL0);
	EXPECT_EQ(vcpu->arch.pstate, NZCV | DIT | DAIF | EL1H);
	undefined_at(EL1H);
	EXPECT_EQ(vcpu->arch.pstate, DAIF | EL1H);
}

/* Q, IT, GE, E, T of AArch32 lie where AArch64 has other bits. */
TEST_F(Vinject, pstate_of_aarch32_leaves_nothing_behind)
{
	undefined_at(BITS(31, 0) & ~(PAN | BITS(3, 0)));
	EXPECT_EQ(vcpu->arch.pstate, NZCV | DIT | DAIF | EL1H);
}

TEST_F(Vinject, pan_follows_span)
{
	undefined_at(EL0);
	EXPECT_FALSE(vcpu->arch.pstate & PAN);
	undefined_at(EL1H | PAN);
	EXPECT_TRUE(vcpu->arch.pstate & PAN) << "kept";
	fake_el1.regs[EL1_SCTLR] = 0;
	undefined_at(EL0);
	EXPECT_TRUE(vcpu->arch.pstate & PAN) << "set";
	vm->arch.id[VID_AA64MMFR1] = 0;
	undefined_at(EL0);
	EXPECT_FALSE(vcpu->arch.pstate & PAN) << "not there";
}

TEST_F(Vinject, ssbs_follows_dssbs)
{
	fake_el1.regs[EL1_SCTLR] = SPAN | DSSBS;
	undefined_at(EL0);
	EXPECT_TRUE(vcpu->arch.pstate & SSBS);
	vm->arch.id[VID_AA64PFR1] = 0;
	undefined_at(EL0);
	EXPECT_FALSE(vcpu->arch.pstate & SSBS);
}

TEST_F(Vinject, abort_names_the_level_it_came_from)
{
	EXPECT_EQ(abort_at(EL0, ESR_DABT | 0x07), (0x24ull << 26) | ESR_IL | 0x10);
	EXPECT_EQ(vcpu->arch.pc, VECTORS + 0x400);
	EXPECT_EQ(abort_at(EL0_32, ESR_DABT | 0x07), (0x24ull << 26) | ESR_IL | 0x10);
	EXPECT_EQ(vcpu->arch.pc, VECTORS + 0x600);
	EXPECT_EQ(abort_at(EL1H, ESR_DABT | 0x07), (0x25ull << 26) | ESR_IL | 0x10);
	EXPECT_EQ(abort_at(EL1T, ESR_DABT | 0x07), (0x25ull << 26) | ESR_IL | 0x10);
	EXPECT_EQ(abort_at(EL0, ESR_IABT | 0x07), (0x20ull << 26) | ESR_IL | 0x10);
	EXPECT_EQ(abort_at(EL1H, ESR_IABT | 0x07), (0x21ull << 26) | ESR_IL | 0x10);
}

TEST_F(Vinject, abort_tells_writes_and_cache_maintenance)
{
	EXPECT_EQ(abort_at(EL1H, ESR_DABT | BIT(6) | 0x07) & 0x1ffffff, BIT(6) | 0x10);
	EXPECT_EQ(abort_at(EL1H, ESR_DABT | BIT(8) | BIT(6) | 0x07) & 0x1ffffff,
		  BIT(8) | BIT(6) | 0x10);
	/* Of what only EL2 sees nothing is told: ISV and what it makes valid, S1PTW. */
	EXPECT_EQ(abort_at(EL1H, ESR_DABT | BITS(24, 14) | BIT(7) | 0x07) & 0x1ffffff, 0x10u);
}

} // namespace
