/* Trapped system registers: what the ID registers show and hide, who is undefined, set/way. */
#include "guest_test_machine.h"

#include <string>
#include <vector>

extern "C" {
#include "../../arch/arm64/emulate.h"
#include "../../arch/arm64/vcache.h"
#include "../../arch/arm64/vid.h"
#include "../../arch/arm64/vsysreg.h"
#include "hyp/log.h"
}

namespace
{

struct Register {
	unsigned op0, op1, crn, crm, op2;
};

u64 name_of(Register r)
{
	return VSYSREG(r.op0, r.op1, r.crn, r.crm, r.op2);
}

constexpr u64 EC_OF_SYSREG = 0x18ull << 26;
constexpr u64 IL = 1ull << 25;
constexpr u64 PC = GIB(1) + 0x1000;
constexpr u64 VECTORS = GIB(1) + 0x8000;

class Sysreg : public GuestMachine
{
      protected:
	void SetUp() override
	{
		GuestMachine::SetUp();
		vcpu->arch.pc = PC;
		vcpu->arch.pstate = 0x3c5;
		fake_el1.regs[EL1_VBAR] = VECTORS;
	}

	void access(Register r, bool read, unsigned rt = 1)
	{
		vsysreg_access(vcpu, EC_OF_SYSREG | IL | name_of(r) | (u64)rt << 5 | read);
	}

	bool undefined()
	{
		return vcpu->arch.pc == VECTORS + 0x200;
	}

	/* Value read, pc behind the instruction. */
	u64 read(Register r)
	{
		vcpu->arch.pc = PC;
		vcpu->arch.x[1] = 0x5a5a;
		access(r, true);
		EXPECT_EQ(vcpu->arch.pc, PC + 4);
		return vcpu->arch.x[1];
	}

	void write(Register r, u64 value)
	{
		vcpu->arch.pc = PC;
		vcpu->arch.x[1] = value;
		access(r, false);
	}

	bool is_undefined(Register r, bool is_read)
	{
		vcpu->arch.pc = PC;
		vcpu->arch.pstate = 0x3c5;
		access(r, is_read);
		return undefined();
	}
};

/* ---- ID registers -------------------------------------------------------------------------- */

u64 field(u64 reg, unsigned lsb)
{
	return (reg >> lsb) & 0xf;
}

/* A host that has everything: every field of every register is `value`. */
std::vector<u64> host_of(u64 value)
{
	return std::vector<u64>(VID_COUNT, value * 0x1111111111111111ull);
}

TEST(Vid, hides_what_is_not_virtualised)
{
	u64 guest[VID_COUNT];

	vid_present(host_of(2).data(), 48, guest);
	for (unsigned lsb : {8u, 12u, 28u, 32u, 36u, 40u, 44u, 52u}) {
		EXPECT_EQ(field(guest[VID_AA64PFR0], lsb), 0u) << "PFR0 " << lsb;
	}
	for (unsigned lsb : {8u, 12u, 16u, 24u, 28u, 32u, 36u}) {
		EXPECT_EQ(field(guest[VID_AA64PFR1], lsb), 0u) << "PFR1 " << lsb;
	}
	for (unsigned lsb : {4u, 8u, 32u, 40u, 44u, 48u, 52u}) {
		EXPECT_EQ(field(guest[VID_AA64DFR0], lsb), 0u) << "DFR0 " << lsb;
	}
	EXPECT_EQ(field(guest[VID_AA64DFR0], 36), 0xfu) << "double lock";
	EXPECT_EQ(field(guest[VID_AA64ISAR0], 24), 0u) << "TME";
	EXPECT_EQ(field(guest[VID_AA64ISAR1], 60), 0u) << "LS64";
	EXPECT_EQ(field(guest[VID_INDEX(6, 2)], 0), 0u) << "WFxT";
	for (unsigned lsb : {4u, 8u, 16u, 28u, 32u, 40u}) {
		EXPECT_EQ(field(guest[VID_AA64MMFR1], lsb), 0u) << "MMFR1 " << lsb;
	}
	for (unsigned lsb : {12u, 24u, 40u, 56u}) {
		EXPECT_EQ(field(guest[VID_INDEX(7, 2)], lsb), 0u) << "MMFR2 " << lsb;
	}
	for (unsigned lsb : {12u, 56u}) {
		EXPECT_EQ(field(guest[VID_AA64MMFR0], lsb), 0u) << "MMFR0 " << lsb;
	}
}

TEST(Vid, shows_what_el1_and_el0_use)
{
	u64 guest[VID_COUNT];

	vid_present(host_of(2).data(), 48, guest);
	EXPECT_EQ(field(guest[VID_AA64PFR0], 0), 2u) << "EL0 runs AArch32";
	EXPECT_EQ(field(guest[VID_AA64PFR0], 4), 1u) << "EL1 is AArch64 only";
	EXPECT_EQ(field(guest[VID_AA64PFR0], 24), 1u) << "GIC registers";
	EXPECT_EQ(guest[VID_AA64ISAR0], 0x2222222220222220ull);
	EXPECT_EQ(guest[VID_AA64ISAR1], 0x0022222222222222ull);
	EXPECT_EQ(field(guest[VID_AA64DFR0], 0), 6u);
	EXPECT_EQ(field(guest[VID_AA64MMFR1], 0), 2u) << "access flag and dirty state, stage 1";
	EXPECT_EQ(field(guest[VID_AA64MMFR1], 20), 2u) << "PAN";
	EXPECT_EQ(field(guest[VID_INDEX(7, 2)], 32), 2u) << "LSE2";
	EXPECT_EQ(field(guest[VID_INDEX(7, 2)], 60), 2u) << "E0PD";
}

TEST(Vid, csv2_without_the_registers_of_csv2_2)
{
	for (u64 value : {0u, 1u, 2u, 3u}) {
		u64 guest[VID_COUNT];

		vid_present(host_of(value).data(), 48, guest);
		EXPECT_EQ(field(guest[VID_AA64PFR0], 56), value > 1 ? 1 : value);
	}
}

TEST(Vid, promises_no_address_beyond_the_guests_space)
{
	const std::vector<std::pair<unsigned, u64>> expected = {{32, 0}, {35, 0}, {36, 1}, {39, 1},
								{40, 2}, {42, 3}, {44, 4}, {47, 4},
								{48, 5}, {52, 6}};

	for (auto [bits, parange] : expected) {
		u64 guest[VID_COUNT];

		vid_present(host_of(6).data(), bits, guest);
		EXPECT_EQ(field(guest[VID_AA64MMFR0], 0), parange) << bits;
	}

	u64 guest[VID_COUNT];

	vid_present(host_of(2).data(), 48, guest);
	EXPECT_EQ(field(guest[VID_AA64MMFR0], 0), 2u) << "nor one that the host does not have";
}

TEST(Vid, aarch32_is_told_only_where_el0_can_run_it)
{
	u64 guest[VID_COUNT];

	vid_present(host_of(1).data(), 48, guest);
	for (unsigned i = VID_INDEX(1, 0); i < VID_INDEX(4, 0); i++) {
		EXPECT_EQ(guest[i], 0u) << i;
	}
	vid_present(host_of(2).data(), 48, guest);
	EXPECT_EQ(guest[VID_INDEX(2, 0)], 0x2222222222222222ull);
}

TEST(Vid, unallocated_registers_read_as_zero)
{
	u64 guest[VID_COUNT];

	vid_present(host_of(0xf).data(), 48, guest);
	for (unsigned op2 : {2u, 3u, 4u, 5u, 6u, 7u}) {
		EXPECT_EQ(guest[VID_INDEX(4, op2)], 0u);
	}
	for (unsigned op2 = 1; op2 < 8; op2++) {
		EXPECT_EQ(guest[VID_INDEX(5, op2)], 0u);
	}
	for (unsigned op2 = 0; op2 < 8; op2++) {
		EXPECT_EQ(guest[VID_INDEX(0, op2)], 0u);
	}
}

TEST_F(Sysreg, every_id_register_reads_its_own_value)
{
	for (unsigned i = 0; i < VID_COUNT; i++) {
		vm->arch.id[i] = 1000 + i;
	}
	for (unsigned crm = 0; crm < 8; crm++) {
		for (unsigned op2 = 0; op2 < 8; op2++) {
			EXPECT_EQ(read({3, 0, 0, crm, op2}), 1000u + crm * 8 + op2);
		}
	}
}

TEST_F(Sysreg, id_register_into_the_zero_register_changes_nothing_else)
{
	struct arch_vcpu before = vcpu->arch;

	vm->arch.id[VID_AA64PFR0] = ~0ull;
	access({3, 0, 0, 4, 0}, true, 31);
	before.pc += 4;
	EXPECT_EQ(std::memcmp(&before, &vcpu->arch, sizeof(before)), 0);
}

TEST_F(Sysreg, writes_to_id_registers_are_undefined)
{
	EXPECT_TRUE(is_undefined({3, 0, 0, 4, 0}, false));
}

/* ---- Others -------------------------------------------------------------------------------- */

TEST_F(Sysreg, emulated_instruction_uses_up_btype_and_single_step)
{
	vcpu->arch.pstate = 0x3c5 | BIT(21) | BIT(10) | BIT(22);
	access({3, 0, 0, 4, 0}, true);
	EXPECT_EQ(vcpu->arch.pstate, 0x3c5 | BIT(22));
}

TEST_F(Sysreg, what_a_kernel_touches_on_its_way_up_is_harmless)
{
	for (Register r : std::vector<Register>{{3, 0, 1, 0, 1},
						{2, 0, 1, 3, 4},
						{2, 0, 0, 0, 4},
						{2, 0, 0, 1, 5},
						{2, 0, 0, 0, 6},
						{2, 0, 0, 1, 7},
						{2, 0, 1, 4, 4},
						{2, 0, 7, 8, 6}}) {
		EXPECT_EQ(read(r), 0u);
		write(r, ~0ull);
		EXPECT_EQ(vcpu->arch.pc, PC + 4);
		EXPECT_EQ(read(r), 0u);
	}
	write({2, 0, 1, 0, 4}, 0); /* OSLAR: write-only */
	EXPECT_EQ(vcpu->arch.pc, PC + 4);
	EXPECT_TRUE(is_undefined({2, 0, 1, 0, 4}, true));
	EXPECT_EQ(read({2, 0, 1, 1, 4}), 8u); /* OSLSR: read-only, unlocked */
	EXPECT_TRUE(is_undefined({2, 0, 1, 1, 4}, false));
	EXPECT_EQ(read({3, 0, 12, 12, 5}), 7u); /* ICC_SRE */
}

TEST_F(Sysreg, single_step_bits_of_mdscr_are_the_guests)
{
	write({2, 0, 0, 2, 2}, ~0ull);
	EXPECT_EQ(fake_el1.regs[EL1_MDSCR], BIT(0) | BIT(12) | BIT(13) | BIT(15));
	EXPECT_EQ(read({2, 0, 0, 2, 2}), fake_el1.regs[EL1_MDSCR]);
}

TEST_F(Sysreg, what_is_hidden_is_undefined)
{
	const std::vector<Register> hidden = {
		{2, 0, 0, 2, 4},   /* DBGBVR2: there are two */
		{2, 1, 0, 0, 1},   /* trace */
		{3, 0, 9, 14, 1},  /* PMINTENSET */
		{3, 3, 9, 12, 0},  /* PMCR */
		{3, 3, 14, 15, 7}, /* PMCCFILTR */
		{3, 0, 9, 9, 0},   /* PMSCR */
		{3, 0, 10, 4, 3},  /* LORC */
		{3, 0, 10, 4, 7},  /* LORID */
		{3, 0, 5, 3, 0},   /* ERRIDR */
		{3, 0, 13, 0, 7},  /* SCXTNUM_EL1 */
		{3, 3, 13, 0, 7},  /* SCXTNUM_EL0 */
		{3, 0, 1, 2, 0},   /* ZCR */
		{3, 0, 1, 0, 6},   /* GCR: MTE */
		{3, 0, 15, 0, 0},  /* implementation-defined */
		{3, 7, 11, 3, 1},  /* implementation-defined */
		{3, 4, 1, 1, 0},   /* HCR_EL2 */
		{3, 0, 0, 8, 0},   /* ID space that nobody has */
		{3, 0, 1, 0, 0},   /* SCTLR, though nothing is armed */
	};

	for (Register r : hidden) {
		EXPECT_TRUE(is_undefined(r, true))
			<< r.op0 << r.op1 << " " << r.crn << " " << r.crm << " " << r.op2;
		EXPECT_TRUE(is_undefined(r, false));
	}
}

/* All 2^16 names, both ways: each is done or undefined, and never anything else. */
TEST_F(Sysreg, sweep_of_all_registers_is_survived)
{
	u32 done = 0, missing = 0;

	for (u32 i = 0; i < 0x10000; i++) {
		Register r = {i >> 14, (i >> 11) & 7, (i >> 7) & 15, (i >> 3) & 15, i & 7};

		for (bool is_read : {false, true}) {
			if (is_undefined(r, is_read)) {
				missing++;
			} else {
				EXPECT_EQ(vcpu->arch.pc, PC + 4);
				done++;
			}
		}
	}
	EXPECT_EQ(done + missing, 0x20000u);
	EXPECT_GT(done, 64u);
	EXPECT_LT(done, 64u + 62);
}

TEST_F(Sysreg, other_classes_of_traps_are_undefined)
{
	for (u64 ec : {0x00ull, 0x03ull, 0x05ull, 0x19ull}) {
		vcpu->arch.pc = PC;
		vcpu->arch.pstate = 0x3c5;
		vsysreg_access(vcpu, ec << 26 | IL | 1);
		EXPECT_TRUE(undefined()) << ec;
	}
}

TEST_F(Sysreg, unknown_register_is_reported_once)
{
	log_level = LOG_DEBUG;
	fake_uart_clear();
	for (u32 i = 0; i < 3; i++) {
		is_undefined({3, 0, 15, 0, 0}, true);
	}
	log_level = LOG_INFO;

	std::string log = fake_uart_output();
	size_t first = log.find("undefined system register");

	ASSERT_NE(first, std::string::npos);
	EXPECT_EQ(log.find("undefined system register", first + 1), std::string::npos);
}

/* ---- Set/way ------------------------------------------------------------------------------- */

constexpr u64 CACHES_ON = BIT(0) | BIT(2) | BIT(12);

class SetWay : public Sysreg
{
      protected:
	void touch(u64 at)
	{
		struct exit fault = {};

		fault.gpa = gpa(at);
		fault.access = ACCESS_WRITE;
		ASSERT_EQ(vm_memory_fault(vm, &fault), OK);
	}

	/* As the guest would: again and again, until the instruction is done. Returns how often. */
	u32 set_way()
	{
		u32 tries = 0;

		vcpu->arch.pc = PC;
		do {
			vcache_set_way(vcpu);
			tries++;
		} while (vcpu->arch.pc == PC && tries < 1000);
		EXPECT_EQ(vcpu->arch.pc, PC + 4);
		return tries;
	}

	u32 write_control(Register r, u64 value)
	{
		u32 tries = 0;

		do {
			write(r, value);
			tries++;
		} while (vcpu->arch.pc == PC && tries < 1000);
		EXPECT_EQ(vcpu->arch.pc, PC + 4);
		return tries;
	}
};

TEST_F(SetWay, cleans_all_that_is_mapped_once)
{
	touch(RAM);
	touch(RAM + MIB(20));
	EXPECT_EQ(set_way(), RAM_SIZE / MIB(8));
	EXPECT_EQ(fake_el1.cleaned_bytes, MIB(4));
	for (u32 i = 0; i < 100; i++) {
		EXPECT_EQ(set_way(), 1u);
	}
	EXPECT_EQ(fake_el1.cleaned_bytes, MIB(4));
}

TEST_F(SetWay, cleans_again_when_caches_go_off_and_on)
{
	touch(RAM);
	fake_el1.regs[EL1_SCTLR] = CACHES_ON;
	set_way();
	EXPECT_TRUE(fake_el1.traps_controls);
	EXPECT_EQ(write_control({3, 0, 1, 0, 0}, 0), RAM_SIZE / MIB(8));
	EXPECT_EQ(fake_el1.regs[EL1_SCTLR], 0u);
	EXPECT_EQ(fake_el1.cleaned_bytes, MIB(4));
	EXPECT_TRUE(fake_el1.traps_controls) << "to see them go on again";
	write_control({3, 0, 1, 0, 0}, CACHES_ON);
	EXPECT_EQ(fake_el1.cleaned_bytes, MIB(6));
	EXPECT_FALSE(fake_el1.traps_controls) << "a guest that runs pays nothing";
	EXPECT_EQ(fake_el1.regs[EL1_SCTLR], CACHES_ON);
}

TEST_F(SetWay, writes_that_toggle_nothing_clean_nothing)
{
	touch(RAM);
	set_way();
	u64 cleaned = fake_el1.cleaned_bytes;

	EXPECT_EQ(write_control({3, 0, 1, 0, 0}, BIT(12)), 1u);
	EXPECT_EQ(fake_el1.cleaned_bytes, cleaned);
	EXPECT_EQ(fake_el1.regs[EL1_SCTLR], BIT(12));
}

TEST_F(SetWay, other_controls_reach_their_registers)
{
	const std::vector<std::pair<Register, enum el1_register>> controls = {
		{{3, 0, 2, 0, 0}, EL1_TTBR0},  {{3, 0, 2, 0, 1}, EL1_TTBR1},
		{{3, 0, 2, 0, 2}, EL1_TCR},    {{3, 0, 5, 1, 0}, EL1_AFSR0},
		{{3, 0, 5, 1, 1}, EL1_AFSR1},  {{3, 0, 5, 2, 0}, EL1_ESR},
		{{3, 0, 6, 0, 0}, EL1_FAR},    {{3, 0, 10, 2, 0}, EL1_MAIR},
		{{3, 0, 10, 3, 0}, EL1_AMAIR}, {{3, 0, 13, 0, 1}, EL1_CONTEXTIDR},
	};
	u64 value = 0x1000;

	set_way();
	for (auto [r, reg] : controls) {
		value += 0x1000;
		EXPECT_EQ(write_control(r, value), 1u);
		EXPECT_EQ(fake_el1.regs[reg], value);
	}
	EXPECT_TRUE(fake_el1.traps_controls) << "caches are off: still armed";
}

} // namespace
