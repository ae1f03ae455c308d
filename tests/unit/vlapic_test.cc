/* The virtual local APIC as the SDM has it (volume 3A, chapter 10): an xAPIC's page, an x2APIC's
 * MSRs, what is delivered when, who is meant by a message, and the timer. */
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

extern "C" {
#include "../../arch/x86_64/vlapic.h"
}

namespace
{

/* Offsets in the page, table 10-1. */
enum : u32 {
	ID = 0x020,
	VERSION = 0x030,
	TPR = 0x080,
	APR = 0x090,
	PPR = 0x0a0,
	EOI = 0x0b0,
	RRD = 0x0c0,
	LDR = 0x0d0,
	DFR = 0x0e0,
	SVR = 0x0f0,
	ISR = 0x100,
	TMR = 0x180,
	IRR = 0x200,
	ESR = 0x280,
	CMCI = 0x2f0,
	ICR = 0x300,
	ICR_HIGH = 0x310,
	LVT_TIMER = 0x320,
	LVT_THERMAL = 0x330,
	LVT_PERFORMANCE = 0x340,
	LVT_LINT0 = 0x350,
	LVT_LINT1 = 0x360,
	LVT_ERROR = 0x370,
	INITIAL = 0x380,
	CURRENT = 0x390,
	DIVIDE = 0x3e0,
	SELF_IPI = 0x3f0,
};

constexpr u32 kBase = 0x1b, kTscDeadline = 0x6e0;
constexpr u64 kBootCpu = BIT(8), kX2 = BIT(10), kEnable = BIT(11);
constexpr u64 kPage = 0xfee00000;
constexpr u32 kMasked = 1u << 16, kPeriodic = 1u << 17, kTscMode = 1u << 18;
constexpr u32 kBy1 = 0xb, kBy2 = 0x0, kBy128 = 0xa;
constexpr u64 kNever = ~0ull;

constexpr u32 kLowest = 1u << 8, kSmi = 2u << 8, kNmi = 4u << 8, kInit = 5u << 8,
	      kStartup = 6u << 8;
constexpr u32 kLogical = 1u << 11, kAssert = 1u << 14, kLevel = 1u << 15;
constexpr u32 kSelf = 1u << 18, kAll = 2u << 18, kOthers = 3u << 18;

constexpr u32 kIllegalSent = 1u << 5, kIllegalReceived = 1u << 6, kIllegalRegister = 1u << 7;

const u32 kLvts[] = {LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR};

struct Sent {
	const struct vlapic *from;
	struct vapic_message message;
};
std::vector<Sent> sent;
std::vector<u8> level_ended;

void note_sent(struct vlapic *from, const struct vapic_message *message)
{
	sent.push_back({from, *message});
}

void note_level_ended(struct vlapic *, u8 vector)
{
	level_ended.push_back(vector);
}

const struct vlapic_ops ops = {note_sent, note_level_ended};

/* A local APIC and the guest that uses it. */
struct Apic {
	struct vlapic v = {};
	u64 now = 1000;

	explicit Apic(u32 id = 0, bool boot = false)
	{
		vlapic_init(&v, id, boot, 40, &ops);
	}

	/* As an operating system has it soon after its start. */
	Apic &on()
	{
		put(SVR, 0x1ff);
		return *this;
	}

	Apic &x2()
	{
		EXPECT_TRUE(wrmsr(kBase, kPage | kEnable | kX2));
		EXPECT_TRUE(set(SVR, 0x1ff));
		return *this;
	}

	u32 get(u32 offset)
	{
		return vlapic_read(&v, offset, now);
	}

	void put(u32 offset, u32 value)
	{
		vlapic_write(&v, offset, now, value);
	}

	bool rdmsr(u32 msr, u64 *value)
	{
		return vlapic_read_msr(&v, msr, now, value);
	}

	u64 rdmsr(u32 msr)
	{
		u64 value = 0xbad0bad0bad0bad0;

		EXPECT_TRUE(rdmsr(msr, &value)) << std::hex << msr;
		return value;
	}

	bool wrmsr(u32 msr, u64 value)
	{
		return vlapic_write_msr(&v, msr, now, value);
	}

	/* An x2APIC's register, by its offset in an xAPIC's page. */
	bool set(u32 offset, u64 value)
	{
		return wrmsr(0x800 + offset / 16, value);
	}

	u64 value_of(u32 offset)
	{
		return rdmsr(0x800 + offset / 16);
	}

	bool readable(u32 offset)
	{
		u64 value;

		return rdmsr(0x800 + offset / 16, &value);
	}

	bool post(u8 vector, bool level = false)
	{
		return vlapic_post(&v, vector, level);
	}

	int pending()
	{
		return vlapic_pending(&v);
	}

	void accept(int vector)
	{
		ASSERT_EQ(pending(), vector);
		vlapic_accept(&v, vector);
	}

	/* Requested and taken at once. */
	void serve(u8 vector, bool level = false)
	{
		post(vector, level);
		accept(vector);
	}

	u32 errors()
	{
		put(ESR, 0);
		return get(ESR);
	}

	bool expire()
	{
		return vlapic_timer_expire(&v, now);
	}

	u64 deadline()
	{
		return vlapic_timer_deadline(&v);
	}

	void timer(u32 lvt, u32 count, u32 divide = kBy1)
	{
		put(DIVIDE, divide);
		put(LVT_TIMER, lvt);
		put(INITIAL, count);
	}

	bool bit(u32 first, u8 vector)
	{
		return get(first + 16 * (vector / 32)) >> vector % 32 & 1;
	}
};

class Vlapic : public testing::Test
{
      protected:
	void SetUp() override
	{
		sent.clear();
		level_ended.clear();
	}
};

/* ---- Modes and IA32_APIC_BASE -----------------------------------------------------------------
 */

TEST_F(Vlapic, comes_up_as_an_xapic_at_its_usual_place)
{
	Apic boot(0, true), other(1);

	EXPECT_EQ(boot.rdmsr(kBase), kPage | kEnable | kBootCpu);
	EXPECT_EQ(other.rdmsr(kBase), kPage | kEnable);
	EXPECT_EQ(vlapic_page(&boot.v), kPage);
}

TEST_F(Vlapic, registers_after_power_up_are_the_manuals)
{
	Apic a(3);

	EXPECT_EQ(a.get(ID), 3u << 24);
	EXPECT_EQ(a.get(VERSION) & 0xff, 0x14u);
	EXPECT_EQ(a.get(VERSION) >> 16 & 0xff, 5u) << "six LVT entries";
	EXPECT_EQ(a.get(VERSION) >> 24 & 1, 0u) << "EOI broadcasts are not suppressed";
	EXPECT_EQ(a.get(SVR), 0xffu);
	EXPECT_EQ(a.get(DFR), 0xffffffffu);
	for (u32 lvt : kLvts) {
		EXPECT_EQ(a.get(lvt), kMasked) << std::hex << lvt;
	}
	for (u32 reg : {TPR, PPR, LDR, ESR, ICR, ICR_HIGH, INITIAL, CURRENT, DIVIDE}) {
		EXPECT_EQ(a.get(reg), 0u) << std::hex << reg;
	}
	for (u32 i = 0; i < 24; i++) {
		EXPECT_EQ(a.get(ISR + 16 * i), 0u) << i;
	}
	EXPECT_EQ(a.errors(), 0u);
}

TEST_F(Vlapic, mode_changes_are_those_of_figure_10_27)
{
	constexpr u64 off = kPage, x = kPage | kEnable, x2 = kPage | kEnable | kX2,
		      bad = kPage | kX2;
	const struct {
		std::vector<u64> path; /* from power-up, an xAPIC */
		u64 to;
		bool allowed;
	} changes[] = {
		{{off}, off, true},   {{off}, x, true},	      {{off}, x2, false},
		{{off}, bad, false},  {{}, off, true},	      {{}, x, true},
		{{}, x2, true},	      {{}, bad, false},	      {{x2}, off, true},
		{{x2}, x, false},     {{x2}, x2, true},	      {{x2}, bad, false},
		{{x2, off}, x, true}, {{x2, off}, x2, false},
	};

	for (const auto &change : changes) {
		Apic a;
		u64 before;

		for (u64 step : change.path) {
			ASSERT_TRUE(a.wrmsr(kBase, step));
		}
		before = a.rdmsr(kBase);
		EXPECT_EQ(a.wrmsr(kBase, change.to), change.allowed)
			<< std::hex << before << " -> " << change.to;
		EXPECT_EQ(a.rdmsr(kBase), change.allowed ? change.to : before);
	}
}

TEST_F(Vlapic, reserved_bits_of_the_base_fault)
{
	Apic a;

	for (u32 bit : {0u, 1u, 7u, 9u, 40u, 51u, 52u, 63u}) {
		EXPECT_FALSE(a.wrmsr(kBase, kPage | kEnable | BIT(bit))) << bit;
	}
	EXPECT_TRUE(a.wrmsr(kBase, BITS(39, 12) | kEnable | kBootCpu));
	EXPECT_EQ(a.rdmsr(kBase), BITS(39, 12) | kEnable | kBootCpu);
	EXPECT_EQ(vlapic_page(&a.v), BITS(39, 12));
}

TEST_F(Vlapic, page_is_there_for_an_xapic_only)
{
	Apic x2, off;

	x2.x2();
	ASSERT_TRUE(off.wrmsr(kBase, kPage));
	for (Apic *a : {&x2, &off}) {
		EXPECT_EQ(vlapic_page(&a->v), VLAPIC_PAGE_NONE);
		EXPECT_EQ(a->get(VERSION), 0xffffffffu);
		a->put(ICR, kAll | 0x40);
		EXPECT_EQ(a->get(VERSION), 0xffffffffu);
	}
	EXPECT_TRUE(sent.empty());
	x2.put(TPR, 0x50);
	EXPECT_EQ(x2.value_of(TPR), 0u);
}

TEST_F(Vlapic, msrs_are_there_for_an_x2apic_only)
{
	Apic x, off;
	u64 value;

	x.on();
	ASSERT_TRUE(off.wrmsr(kBase, kPage));
	for (Apic *a : {&x, &off}) {
		for (u32 msr = 0x800; msr <= 0x8ff; msr++) {
			EXPECT_FALSE(a->rdmsr(msr, &value)) << std::hex << msr;
			EXPECT_FALSE(a->wrmsr(msr, 0)) << std::hex << msr;
		}
		EXPECT_TRUE(a->rdmsr(kBase, &value));
		EXPECT_TRUE(a->rdmsr(kTscDeadline, &value));
	}
}

TEST_F(Vlapic, becoming_an_x2apic_keeps_all_but_logical_id_and_destination)
{
	Apic a(0x25);

	a.on();
	a.put(TPR, 0x30);
	a.put(LDR, 0x04000000);
	a.put(LVT_LINT1, 0x400);
	a.put(DIVIDE, kBy128);
	a.put(ICR_HIGH, 0x77000000);
	a.put(ICR, kOthers | 0x44);
	a.serve(0x80);
	a.post(0x51);
	ASSERT_TRUE(a.wrmsr(kBase, kPage | kEnable | kX2));
	EXPECT_EQ(a.value_of(TPR), 0x30u);
	EXPECT_EQ(a.value_of(SVR), 0x1ffu);
	EXPECT_EQ(a.value_of(LVT_LINT1), 0x400u);
	EXPECT_EQ(a.value_of(DIVIDE), kBy128);
	EXPECT_EQ(a.value_of(ICR), kOthers | 0x44u) << "upper half gone";
	EXPECT_EQ(a.value_of(ID), 0x25u);
	EXPECT_EQ(a.value_of(LDR), 0x20020u) << "cluster 2, bit 5";
	EXPECT_EQ(a.value_of(ISR + 0x40), 1u);
	EXPECT_EQ(a.value_of(IRR + 0x20), 0x20000u);
}

TEST_F(Vlapic, writing_the_base_again_keeps_an_x2apics_destination)
{
	Apic a;

	a.x2();
	ASSERT_TRUE(a.set(ICR, 0x1234567800000000 | kOthers | 0x44));
	ASSERT_TRUE(a.wrmsr(kBase, kPage | kEnable | kX2 | kBootCpu));
	EXPECT_EQ(a.value_of(ICR), 0x1234567800000000 | kOthers | 0x44);
}

TEST_F(Vlapic, being_off_forgets_all_but_the_id)
{
	for (bool x2 : {false, true}) {
		Apic a(9);

		a.on();
		a.put(TPR, 0x30);
		a.put(LDR, 0x04000000);
		a.put(DFR, 0x0fffffff);
		a.timer(kPeriodic | 0x40, 100);
		a.serve(0x80, true);
		a.post(0x70);
		a.put(DIVIDE, kBy128);
		a.post(1);
		a.put(ESR, 0);
		a.post(1);
		if (x2) {
			a.x2();
		}
		ASSERT_TRUE(a.wrmsr(kBase, kPage));
		EXPECT_EQ(a.pending(), -1);
		EXPECT_EQ(a.deadline(), kNever);
		ASSERT_TRUE(a.wrmsr(kBase, kPage | kEnable));
		EXPECT_EQ(a.get(ID), 9u << 24);
		EXPECT_EQ(a.get(SVR), 0xffu);
		EXPECT_EQ(a.get(TPR), 0u);
		EXPECT_EQ(a.get(LDR), 0u);
		EXPECT_EQ(a.get(DFR), 0xffffffffu);
		EXPECT_EQ(a.get(LVT_TIMER), kMasked);
		EXPECT_EQ(a.get(INITIAL), 0u);
		EXPECT_EQ(a.get(DIVIDE), 0u);
		EXPECT_EQ(a.get(ESR), 0u);
		EXPECT_EQ(a.errors(), 0u);
		EXPECT_FALSE(a.bit(ISR, 0x80));
		EXPECT_FALSE(a.bit(TMR, 0x80));
		EXPECT_FALSE(a.bit(IRR, 0x70));
	}
}

TEST_F(Vlapic, init_keeps_the_mode_and_reset_does_not)
{
	Apic a(0x1234);

	a.x2();
	ASSERT_TRUE(a.set(TPR, 0x40));
	ASSERT_TRUE(a.set(ICR, 0x1200000044 | kNmi));
	a.serve(0x99);
	a.post(0x88);
	vlapic_reset(&a.v, true);
	EXPECT_EQ(a.rdmsr(kBase), kPage | kEnable | kX2);
	EXPECT_EQ(a.value_of(ID), 0x1234u);
	EXPECT_EQ(a.value_of(LDR), 0x1230010u);
	EXPECT_EQ(a.value_of(SVR), 0xffu);
	EXPECT_EQ(a.value_of(TPR), 0u);
	EXPECT_EQ(a.value_of(ICR), 0u);
	EXPECT_EQ(vlapic_ppr(&a.v), 0u);
	EXPECT_EQ(a.pending(), -1);
	vlapic_reset(&a.v, false);
	EXPECT_EQ(a.rdmsr(kBase), kPage | kEnable);
}

TEST_F(Vlapic, init_leaves_one_that_is_off_off)
{
	Apic a;

	ASSERT_TRUE(a.wrmsr(kBase, kPage));
	vlapic_reset(&a.v, true);
	EXPECT_EQ(a.rdmsr(kBase), kPage);
}

/* ---- The MSRs, table 10-6 ----------------------------------------------------------------------
 */

TEST_F(Vlapic, x2apic_has_the_registers_of_its_table_and_no_others)
{
	std::set<u32> read = {0x802, 0x803, 0x808, 0x80a, 0x80d, 0x80f, 0x828, 0x830, 0x832,
			      0x833, 0x834, 0x835, 0x836, 0x837, 0x838, 0x839, 0x83e};
	std::set<u32> written = {0x808, 0x80b, 0x80f, 0x828, 0x830, 0x832, 0x833,
				 0x834, 0x835, 0x836, 0x837, 0x838, 0x83e, 0x83f};
	Apic a;

	for (u32 msr = 0x810; msr < 0x828; msr++) {
		read.insert(msr);
	}
	a.x2();
	for (u32 msr = 0x7ff; msr <= 0x900; msr++) {
		u64 value;

		EXPECT_EQ(a.rdmsr(msr, &value), read.count(msr) == 1) << std::hex << msr;
		EXPECT_EQ(a.wrmsr(msr, 0), written.count(msr) == 1) << std::hex << msr;
	}
}

TEST_F(Vlapic, reserved_bits_of_msrs_fault_one_by_one)
{
	const struct {
		u32 offset;
		u64 allowed;
	} regs[] = {
		{TPR, 0xff},
		{EOI, 0},
		{SVR, 0x3ff},
		{ESR, 0},
		{ICR, 0xffffffff000cdfff}, /* bit 12 was the delivery status: ignored */
		{LVT_TIMER, 0x710ff},
		{LVT_THERMAL, 0x117ff},
		{LVT_PERFORMANCE, 0x117ff},
		{LVT_LINT0, 0x1f7ff},
		{LVT_LINT1, 0x1f7ff},
		{LVT_ERROR, 0x110ff},
		{INITIAL, 0xffffffff},
		{DIVIDE, 0xb},
		{SELF_IPI, 0xff},
	};

	for (const auto &reg : regs) {
		for (u32 bit = 0; bit < 64; bit++) {
			Apic a;

			a.x2();
			EXPECT_EQ(a.set(reg.offset, BIT(bit)), (reg.allowed >> bit & 1) == 1)
				<< std::hex << reg.offset << " bit " << std::dec << bit;
		}
	}
}

TEST_F(Vlapic, write_that_faults_changes_nothing)
{
	Apic a;

	a.x2();
	ASSERT_TRUE(a.set(TPR, 0x20));
	EXPECT_FALSE(a.set(TPR, 0x130));
	EXPECT_EQ(a.value_of(TPR), 0x20u);
	EXPECT_FALSE(a.set(TPR, BIT(32) | 0x30));
	EXPECT_EQ(a.value_of(TPR), 0x20u);
	EXPECT_FALSE(a.set(ICR, BIT(20) | kOthers | 0x40));
	EXPECT_EQ(a.value_of(ICR), 0u);
	EXPECT_TRUE(sent.empty());
	a.serve(0x50);
	EXPECT_FALSE(a.set(EOI, 1));
	EXPECT_EQ(a.value_of(ISR + 0x20), 0x10000u);
	EXPECT_TRUE(a.set(EOI, 0));
	EXPECT_EQ(a.value_of(ISR + 0x20), 0u);
}

TEST_F(Vlapic, read_only_bits_may_be_written_back_and_stay_zero)
{
	Apic a;

	a.x2();
	EXPECT_TRUE(a.set(LVT_LINT0, 0x1f7ff));
	EXPECT_EQ(a.value_of(LVT_LINT0), 0x1a7ffu);
	EXPECT_TRUE(a.set(ICR, kOthers | 0x1055));
	EXPECT_EQ(a.value_of(ICR), kOthers | 0x55u);
}

/* ---- The page ----------------------------------------------------------------------------------
 */

TEST_F(Vlapic, page_masks_what_cannot_be_written)
{
	const struct {
		u32 offset, all_ones;
	} regs[] = {
		{ID, 0x05000000},
		{VERSION, 0x00050014},
		{TPR, 0xff},
		{PPR, 0xff},
		{LDR, 0xff000000},
		{DFR, 0xffffffff},
		{SVR, 0x3ff},
		{ICR_HIGH, 0xff000000},
		{LVT_TIMER, 0x700ff},
		{LVT_THERMAL, 0x107ff},
		{LVT_PERFORMANCE, 0x107ff},
		{LVT_LINT0, 0x1a7ff},
		{LVT_LINT1, 0x1a7ff},
		{LVT_ERROR, 0x100ff},
		{DIVIDE, 0xb},
		{ISR, 0},
		{TMR + 0x70, 0},
		{IRR + 0x20, 0},
	};
	Apic a(5);

	for (const auto &reg : regs) {
		a.put(reg.offset, 0xffffffff);
	}
	for (const auto &reg : regs) {
		EXPECT_EQ(a.get(reg.offset), reg.all_ones) << std::hex << reg.offset;
	}
	a.put(DFR, 0);
	EXPECT_EQ(a.get(DFR), 0x0fffffffu);
	a.put(ICR, 0xffffffff);
	EXPECT_EQ(a.get(ICR), 0xccfffu);
	EXPECT_EQ(a.get(ICR_HIGH), 0xff000000u);
	EXPECT_EQ(a.errors() & kIllegalRegister, 0u);
}

TEST_F(Vlapic, reserved_registers_of_the_page_read_as_zero_and_are_an_error)
{
	for (u32 offset : {0x000u, 0x010u, 0x040u, 0x070u, (u32)APR, (u32)RRD, 0x290u, 0x2e0u,
			   (u32)CMCI, 0x3a0u, 0x3d0u, (u32)SELF_IPI, 0x400u, 0xff0u, 0xfffffff0u}) {
		Apic a;

		EXPECT_EQ(a.get(offset), 0u) << std::hex << offset;
		EXPECT_EQ(a.errors(), kIllegalRegister) << std::hex << offset;
		a.put(offset, 0x40);
		EXPECT_EQ(a.errors(), kIllegalRegister) << std::hex << offset;
		EXPECT_EQ(a.pending(), -1);
	}
}

TEST_F(Vlapic, page_has_nothing_between_its_registers)
{
	Apic a(3);

	a.on();
	for (u32 within : {1u, 4u, 8u, 12u, 15u}) {
		EXPECT_EQ(a.get(ID + within), 0u);
		a.put(TPR + within, 0x50);
		a.put(0x400 + within, 0);
	}
	EXPECT_EQ(a.get(TPR), 0u);
	EXPECT_EQ(a.errors(), 0u);
}

TEST_F(Vlapic, write_only_register_of_the_page_reads_as_zero_without_error)
{
	Apic a;

	EXPECT_EQ(a.get(EOI), 0u);
	a.put(PPR, 0x10);
	a.put(CURRENT, 0x10);
	EXPECT_EQ(a.errors(), 0u);
}

TEST_F(Vlapic, id_of_an_xapic_is_eight_bits)
{
	Apic a(0xfe);

	EXPECT_EQ(a.get(ID), 0xfe000000u);
	a.put(ID, 0x11000000);
	EXPECT_EQ(a.get(ID), 0xfe000000u);
}

/* ---- Software enable, 10.4.7.2 ------------------------------------------------------------------
 */

TEST_F(Vlapic, software_disabling_masks_the_lvt_until_each_is_unmasked)
{
	Apic a;

	a.on();
	for (u32 lvt : kLvts) {
		a.put(lvt, 0x40);
		EXPECT_EQ(a.get(lvt), 0x40u);
	}
	a.put(SVR, 0xff);
	for (u32 lvt : kLvts) {
		EXPECT_EQ(a.get(lvt), kMasked | 0x40) << std::hex << lvt;
		a.put(lvt, 0x41);
		EXPECT_EQ(a.get(lvt), kMasked | 0x41) << "cannot be unmasked now";
	}
	a.put(SVR, 0x1ff);
	for (u32 lvt : kLvts) {
		EXPECT_EQ(a.get(lvt), kMasked | 0x41) << std::hex << lvt;
		a.put(lvt, 0x41);
		EXPECT_EQ(a.get(lvt), 0x41u);
	}
}

TEST_F(Vlapic, software_disabled_takes_no_new_vector_and_keeps_the_old)
{
	Apic a;

	EXPECT_FALSE(a.post(0x50)) << "disabled after power-up";
	a.on();
	EXPECT_TRUE(a.post(0x51));
	a.put(SVR, 0xff);
	EXPECT_FALSE(a.post(0x60));
	EXPECT_FALSE(a.bit(IRR, 0x60));
	EXPECT_EQ(a.pending(), 0x51);
}

TEST_F(Vlapic, software_disabled_still_sends)
{
	Apic a;

	a.put(ICR, kOthers | kInit | kAssert);
	ASSERT_EQ(sent.size(), 1u);
	EXPECT_EQ(sent[0].message.mode, VAPIC_INIT);
}

/* ---- Delivery, 10.8
 * ------------------------------------------------------------------------------ */

TEST_F(Vlapic, every_legal_vector_goes_its_way)
{
	for (u32 vector = 16; vector < 256; vector++) {
		Apic a;

		a.on();
		EXPECT_TRUE(a.post(vector));
		EXPECT_TRUE(a.bit(IRR, vector));
		EXPECT_EQ(a.pending(), (int)vector);
		EXPECT_FALSE(a.bit(ISR, vector));
		a.accept(vector);
		EXPECT_FALSE(a.bit(IRR, vector));
		EXPECT_TRUE(a.bit(ISR, vector));
		EXPECT_EQ(a.get(PPR), vector & 0xf0);
		a.put(EOI, 0);
		EXPECT_FALSE(a.bit(ISR, vector));
		EXPECT_EQ(a.get(PPR), 0u);
		EXPECT_EQ(a.pending(), -1);
	}
}

TEST_F(Vlapic, illegal_vector_is_an_error_and_no_request)
{
	for (u32 vector = 0; vector < 16; vector++) {
		Apic a;

		a.on();
		EXPECT_FALSE(a.post(vector));
		EXPECT_EQ(a.get(IRR), 0u);
		EXPECT_EQ(a.pending(), -1);
		EXPECT_EQ(a.errors(), kIllegalReceived);
	}
}

TEST_F(Vlapic, second_post_is_new_only_after_the_first_was_taken)
{
	Apic a;

	a.on();
	EXPECT_TRUE(a.post(0x40));
	EXPECT_FALSE(a.post(0x40));
	EXPECT_TRUE(a.post(0x41)) << "a neighbour";
	a.accept(0x41);
	vlapic_eoi(&a.v);
	a.accept(0x40);
	EXPECT_TRUE(a.post(0x40)) << "one in service, one requested";
	EXPECT_EQ(a.pending(), -1) << "but not before its end";
	a.put(EOI, 0);
	EXPECT_EQ(a.pending(), 0x40);
}

TEST_F(Vlapic, most_urgent_comes_first_and_interrupts_lower_classes_only)
{
	Apic a;

	a.on();
	a.post(0x31);
	a.post(0x45);
	a.post(0x48);
	a.accept(0x48);
	EXPECT_EQ(a.pending(), -1) << "0x45 is of the same class";
	a.post(0x4f);
	EXPECT_EQ(a.pending(), -1) << "higher, but of the same class";
	a.post(0x50);
	a.accept(0x50);
	EXPECT_EQ(a.get(PPR), 0x50u);
	a.put(EOI, 0);
	EXPECT_FALSE(a.bit(ISR, 0x50)) << "the most urgent one ends";
	EXPECT_TRUE(a.bit(ISR, 0x48));
	EXPECT_EQ(a.pending(), -1);
	a.put(EOI, 0);
	a.accept(0x4f);
	a.put(EOI, 0);
	a.accept(0x45);
	a.put(EOI, 0);
	a.accept(0x31);
	a.put(EOI, 0);
	EXPECT_EQ(a.pending(), -1);
}

TEST_F(Vlapic, task_priority_holds_back_its_class_and_below)
{
	Apic a;

	a.on();
	a.post(0x4f);
	a.put(TPR, 0x40);
	EXPECT_EQ(a.pending(), -1);
	a.put(TPR, 0x4f);
	EXPECT_EQ(a.pending(), -1);
	a.post(0x50);
	EXPECT_EQ(a.pending(), 0x50) << "the lower four bits of the priority do not count";
	a.put(TPR, 0xff);
	a.post(0xff);
	EXPECT_EQ(a.pending(), -1);
	a.put(TPR, 0x3f);
	EXPECT_EQ(a.pending(), 0xff);
}

TEST_F(Vlapic, processor_priority_is_the_higher_of_task_and_service)
{
	const struct {
		u8 tpr;
		u8 serving; /* 0: none */
		u8 ppr;
	} cases[] = {
		{0x00, 0, 0x00},    {0x37, 0, 0x37},	{0x37, 0x4a, 0x40},
		{0x57, 0x4a, 0x57}, {0x47, 0x4a, 0x47}, {0x00, 0xfe, 0xf0},
	};

	for (const auto &c : cases) {
		Apic a;

		a.on();
		if (c.serving) {
			a.serve(c.serving);
		}
		a.put(TPR, c.tpr);
		EXPECT_EQ(a.get(PPR), c.ppr) << std::hex << (int)c.tpr << " " << (int)c.serving;
		EXPECT_EQ(vlapic_ppr(&a.v), c.ppr);
	}
}

TEST_F(Vlapic, cr8_is_the_upper_half_of_the_task_priority)
{
	Apic a;

	a.put(TPR, 0x5a);
	EXPECT_EQ(vlapic_tpr(&a.v), 5u);
	EXPECT_TRUE(vlapic_set_tpr(&a.v, 15));
	EXPECT_EQ(a.get(TPR), 0xf0u) << "the lower half becomes 0";
	EXPECT_FALSE(vlapic_set_tpr(&a.v, 16));
	EXPECT_FALSE(vlapic_set_tpr(&a.v, BIT(63)));
	EXPECT_EQ(a.get(TPR), 0xf0u);
}

TEST_F(Vlapic, end_without_anything_in_service_does_nothing)
{
	Apic a;
	struct vlapic_ended ended;

	a.on();
	a.post(0x40, true);
	a.put(EOI, 0);
	ended = vlapic_eoi(&a.v);
	EXPECT_EQ(ended.vector, VLAPIC_NOTHING);
	EXPECT_FALSE(ended.level);
	EXPECT_TRUE(level_ended.empty());
	EXPECT_EQ(a.pending(), 0x40);
}

TEST_F(Vlapic, end_of_a_level_is_told_and_that_of_an_edge_is_not)
{
	for (bool x2 : {false, true}) {
		Apic a;

		level_ended.clear();
		a.on();
		if (x2) {
			a.x2();
		}
		a.serve(0x61, true);
		a.serve(0x72, false);
		EXPECT_TRUE(x2 ? a.set(EOI, 0) : (a.put(EOI, 0), true));
		EXPECT_TRUE(level_ended.empty());
		EXPECT_TRUE(x2 ? a.set(EOI, 0) : (a.put(EOI, 0xffffffff), true));
		EXPECT_EQ(level_ended, std::vector<u8>{0x61});
	}
}

TEST_F(Vlapic, trigger_mode_is_that_of_the_last_request)
{
	Apic a;

	a.on();
	a.post(0x61, true);
	EXPECT_TRUE(a.bit(TMR, 0x61));
	a.post(0x61, false);
	EXPECT_FALSE(a.bit(TMR, 0x61));
	a.post(0x61, true);
	a.accept(0x61);
	EXPECT_TRUE(a.bit(TMR, 0x61));
	EXPECT_FALSE(a.bit(TMR, 0x60));
	EXPECT_FALSE(a.bit(TMR, 0x81));
	struct vlapic_ended ended = vlapic_eoi(&a.v);
	EXPECT_EQ(ended.vector, 0x61);
	EXPECT_TRUE(ended.level);
	EXPECT_TRUE(level_ended.empty()) << "the caller tells";
}

TEST_F(Vlapic, posts_from_many_cpus_are_each_new_exactly_once)
{
	Apic a;
	std::atomic<u32> news{0};
	std::atomic<bool> done{false};
	std::vector<std::thread> posters;
	u32 taken = 0;

	a.on();
	for (u32 n = 0; n < 3; n++) {
		posters.emplace_back([&a, &news, n] {
			for (u32 i = 0; i < 20000; i++) {
				news += a.post(0x20 + (i * 7 + n) % 0xc0, i % 5 == 0);
			}
		});
	}
	std::thread cpu([&] {
		for (bool last = false; !last;) {
			last = done;
			for (int vector; (vector = vlapic_pending(&a.v)) >= 0;) {
				vlapic_accept(&a.v, vector);
				vlapic_eoi(&a.v);
				taken++;
			}
		}
	});
	for (std::thread &poster : posters) {
		poster.join();
	}
	done = true;
	cpu.join();
	EXPECT_EQ(taken, news.load());
	EXPECT_EQ(a.pending(), -1);
}

/* ---- Ends without an exit
 * ------------------------------------------------------------------------- */

TEST_F(Vlapic, end_may_be_skipped_for_one_lone_edge)
{
	Apic a;

	a.on();
	EXPECT_FALSE(vlapic_can_skip_eoi(&a.v)) << "nothing in service";
	a.serve(0x55);
	EXPECT_TRUE(vlapic_can_skip_eoi(&a.v));
	a.post(0x54);
	EXPECT_FALSE(vlapic_can_skip_eoi(&a.v)) << "the same class waits";
}

TEST_F(Vlapic, end_may_not_be_skipped_while_something_waits_for_it)
{
	const struct {
		u8 waiting;
		bool skip;
	} cases[] = {{0x10, false}, {0x3f, false}, {0x50, false}, {0x5f, false}, {0x60, true}};

	for (const auto &c : cases) {
		Apic a;

		a.on();
		a.serve(0x55);
		a.post(c.waiting);
		EXPECT_EQ(vlapic_can_skip_eoi(&a.v), c.skip) << std::hex << (int)c.waiting;
	}
}

TEST_F(Vlapic, end_may_not_be_skipped_for_what_waits_behind_something_urgent)
{
	Apic a;

	a.on();
	a.serve(0x55);
	a.post(0xe0);
	a.post(0x30);
	EXPECT_FALSE(vlapic_can_skip_eoi(&a.v));
}

TEST_F(Vlapic, end_may_not_be_skipped_of_a_level_or_of_one_of_two)
{
	Apic level, two, same_word;

	level.on();
	level.serve(0x55, true);
	EXPECT_FALSE(vlapic_can_skip_eoi(&level.v));
	two.on();
	two.serve(0x35);
	two.serve(0xe5);
	EXPECT_FALSE(vlapic_can_skip_eoi(&two.v));
	vlapic_eoi(&two.v);
	EXPECT_TRUE(vlapic_can_skip_eoi(&two.v));
	same_word.on();
	same_word.serve(0x45);
	same_word.serve(0x55);
	EXPECT_FALSE(vlapic_can_skip_eoi(&same_word.v));
}

/* ---- Errors, 10.5.3
 * -------------------------------------------------------------------------------- */

TEST_F(Vlapic, errors_are_shown_by_a_write_and_cleared_by_the_next)
{
	Apic a;

	a.on();
	a.post(3);
	a.get(0x400);
	EXPECT_EQ(a.get(ESR), 0u) << "not before a write";
	a.put(ESR, 0);
	EXPECT_EQ(a.get(ESR), kIllegalReceived | kIllegalRegister);
	EXPECT_EQ(a.get(ESR), kIllegalReceived | kIllegalRegister) << "reading clears nothing";
	a.put(ESR, 0xffffffff);
	EXPECT_EQ(a.get(ESR), 0u);
}

TEST_F(Vlapic, first_error_since_a_write_interrupts)
{
	Apic a;

	a.on();
	a.put(LVT_ERROR, 0xfe);
	EXPECT_TRUE(a.post(0)) << "the error interrupt is new";
	EXPECT_EQ(a.pending(), 0xfe);
	a.accept(0xfe);
	a.put(EOI, 0);
	EXPECT_FALSE(a.post(1));
	EXPECT_EQ(a.pending(), -1) << "not armed again";
	a.put(ESR, 0);
	EXPECT_TRUE(a.post(1));
	EXPECT_EQ(a.pending(), 0xfe);
}

TEST_F(Vlapic, masked_error_is_noted_only)
{
	Apic a;

	a.on();
	a.put(LVT_ERROR, kMasked | 0xfe);
	EXPECT_FALSE(a.post(0));
	EXPECT_EQ(a.pending(), -1);
	EXPECT_EQ(a.errors(), kIllegalReceived);
}

TEST_F(Vlapic, error_whose_own_vector_is_illegal_ends_there)
{
	Apic a;

	a.on();
	a.put(LVT_ERROR, 5);
	a.get(0x400);
	EXPECT_EQ(a.pending(), -1);
	EXPECT_EQ(a.errors(), kIllegalRegister | kIllegalReceived);
}

/* ---- Sending, 10.6
 * ----------------------------------------------------------------------------------- */

TEST_F(Vlapic, xapic_command_is_sent_by_its_low_half)
{
	Apic a;

	a.on();
	a.put(ICR_HIGH, 0x07000000);
	EXPECT_TRUE(sent.empty());
	a.put(ICR, kAssert | 0x45);
	ASSERT_EQ(sent.size(), 1u);
	EXPECT_EQ(sent[0].from, &a.v);
	EXPECT_EQ(sent[0].message.destination, 7u);
	EXPECT_EQ(sent[0].message.vector, 0x45);
	EXPECT_EQ(sent[0].message.mode, VAPIC_FIXED);
	EXPECT_EQ(sent[0].message.shorthand, VAPIC_TO_DESTINATION);
	EXPECT_FALSE(sent[0].message.logical);
	EXPECT_FALSE(sent[0].message.wide);
	EXPECT_FALSE(sent[0].message.level);
	EXPECT_EQ(a.get(ICR), kAssert | 0x45u) << "delivered, as its status says";
	a.put(ICR, kAssert | kLogical | kLowest | 0x46);
	ASSERT_EQ(sent.size(), 2u);
	EXPECT_EQ(sent[1].message.destination, 7u);
	EXPECT_TRUE(sent[1].message.logical);
	EXPECT_EQ(sent[1].message.mode, VAPIC_LOWEST);
}

TEST_F(Vlapic, x2apic_command_is_one_write_with_a_wide_destination)
{
	Apic a;

	a.x2();
	ASSERT_TRUE(a.set(ICR, 0x1234567800000000 | kStartup | kLogical | 0x9a));
	ASSERT_EQ(sent.size(), 1u);
	EXPECT_EQ(sent[0].message.destination, 0x12345678u);
	EXPECT_EQ(sent[0].message.vector, 0x9a);
	EXPECT_EQ(sent[0].message.mode, VAPIC_STARTUP);
	EXPECT_TRUE(sent[0].message.logical);
	EXPECT_TRUE(sent[0].message.wide);
	EXPECT_EQ(a.value_of(ICR), 0x1234567800000000 | kStartup | kLogical | 0x9a);
}

TEST_F(Vlapic, ipi_is_an_edge_whatever_its_trigger_bit)
{
	Apic a;

	a.on();
	a.put(ICR, kLevel | kAssert | 0x45);
	ASSERT_EQ(sent.size(), 1u);
	EXPECT_FALSE(sent[0].message.level);
	a.put(ICR, kSelf | kLevel | kAssert | 0x46);
	EXPECT_FALSE(a.bit(TMR, 0x46));
}

TEST_F(Vlapic, valid_combinations_of_shorthand_and_mode_are_those_of_table_10_3)
{
	const u32 shorthands[] = {0, kSelf, kAll, kOthers};
	/* Bit n: mode n is sent; of itself alone it is posted. */
	const u32 valid[] = {0x73, 0x01, 0x01, 0x73};

	for (u32 s = 0; s < 4; s++) {
		for (u32 mode = 0; mode < 8; mode++) {
			Apic a;
			bool expected = valid[s] >> mode & 1;

			sent.clear();
			a.on();
			a.put(ICR, shorthands[s] | mode << 8 | kAssert | 0x77);
			EXPECT_EQ(sent.size() == 1, expected && s != 1) << s << " " << mode;
			EXPECT_EQ(a.pending(), expected && s == 1 ? 0x77 : -1) << s << " " << mode;
			EXPECT_EQ(a.errors(), 0u);
			if (!sent.empty()) {
				EXPECT_EQ(sent[0].message.mode, mode);
				EXPECT_EQ(sent[0].message.shorthand, s);
			}
		}
	}
}

TEST_F(Vlapic, level_deassert_of_init_goes_nowhere)
{
	Apic a;

	a.on();
	a.put(ICR, kInit | kLevel);
	EXPECT_TRUE(sent.empty());
	a.put(ICR, kInit | kLevel | kAssert);
	a.put(ICR, kInit | kAssert);
	EXPECT_EQ(sent.size(), 2u);
	a.put(ICR, kInit);
	EXPECT_EQ(sent.size(), 3u) << "an edge";
}

TEST_F(Vlapic, illegal_vector_is_not_sent)
{
	for (u32 mode : {0u, kLowest}) {
		Apic a;

		sent.clear();
		a.on();
		a.put(ICR, mode | kAssert | 15);
		EXPECT_TRUE(sent.empty());
		EXPECT_EQ(a.errors(), kIllegalSent);
		a.put(ICR, mode | kAssert | 16);
		EXPECT_EQ(sent.size(), 1u);
		EXPECT_EQ(a.errors(), 0u);
	}
	for (u32 mode : {kNmi, kInit, kStartup}) {
		Apic a;

		sent.clear();
		a.on();
		a.put(ICR, mode | kAssert | 0);
		EXPECT_EQ(sent.size(), 1u) << "their vector is none";
		EXPECT_EQ(a.errors(), 0u);
	}
}

TEST_F(Vlapic, self_ipi_is_posted_at_once)
{
	Apic a;

	a.x2();
	EXPECT_TRUE(a.set(SELF_IPI, 0x10));
	EXPECT_EQ(a.pending(), 0x10);
	EXPECT_TRUE(a.set(SELF_IPI, 0x99));
	EXPECT_EQ(a.pending(), 0x99);
	EXPECT_TRUE(a.set(SELF_IPI, 0x08));
	EXPECT_TRUE(a.set(ICR, kSelf | 0x09));
	EXPECT_TRUE(a.set(ESR, 0));
	EXPECT_EQ(a.value_of(ESR), kIllegalSent);
	EXPECT_TRUE(a.set(ICR, kSelf | 0x9a));
	EXPECT_EQ(a.pending(), 0x9a);
	EXPECT_TRUE(sent.empty());
}

/* ---- Who is meant, 10.6.2
 * ------------------------------------------------------------------------------ */

struct vapic_message to(u32 destination, bool logical = false, bool wide = false)
{
	struct vapic_message message = {};

	message.destination = destination;
	message.vector = 0x50;
	message.logical = logical;
	message.wide = wide;
	return message;
}

bool hits(Apic &target, struct vapic_message message, Apic *source = nullptr)
{
	return vlapic_matches(&target.v, source ? &source->v : nullptr, &message);
}

TEST_F(Vlapic, physical_destination_is_an_id)
{
	Apic a(5), b(0x105);

	a.on();
	b.x2();
	EXPECT_TRUE(hits(a, to(5)));
	EXPECT_FALSE(hits(a, to(4)));
	EXPECT_TRUE(hits(a, to(5, false, true)));
	EXPECT_FALSE(hits(a, to(0x105, false, true)));
	EXPECT_TRUE(hits(b, to(0x105, false, true)));
	EXPECT_FALSE(hits(b, to(5)));
}

TEST_F(Vlapic, all_ones_are_everybody)
{
	Apic x(1), x2(0x300);

	x.on();
	x2.x2();
	for (bool logical : {false, true}) {
		EXPECT_TRUE(hits(x, to(0xff, logical)));
		EXPECT_TRUE(hits(x2, to(0xff, logical)));
		EXPECT_TRUE(hits(x, to(0xffffffff, logical, true)));
		EXPECT_TRUE(hits(x2, to(0xffffffff, logical, true)));
		EXPECT_FALSE(hits(x, to(0xff, false, true))) << "an id like any other";
		EXPECT_FALSE(hits(x2, to(0xff, logical, true)));
	}
}

TEST_F(Vlapic, flat_logical_ids_are_a_bit_each)
{
	Apic a(1);

	a.on();
	EXPECT_FALSE(hits(a, to(0x7f, true))) << "no id yet";
	a.put(LDR, 0x24000000);
	EXPECT_TRUE(hits(a, to(0x04, true)));
	EXPECT_TRUE(hits(a, to(0x20, true)));
	EXPECT_TRUE(hits(a, to(0xe4, true)));
	EXPECT_FALSE(hits(a, to(0xdb, true)));
	EXPECT_FALSE(hits(a, to(0, true)));
	EXPECT_TRUE(hits(a, to(0xff, true, true)));
	EXPECT_FALSE(hits(a, to(0x104, true, true)));
}

TEST_F(Vlapic, cluster_logical_ids_are_a_cluster_and_a_bit)
{
	Apic a(1);

	a.on();
	a.put(DFR, 0x0fffffff);
	a.put(LDR, 0x32000000);
	EXPECT_TRUE(hits(a, to(0x32, true)));
	EXPECT_TRUE(hits(a, to(0x3f, true)));
	EXPECT_FALSE(hits(a, to(0x3d, true)));
	EXPECT_FALSE(hits(a, to(0x22, true)));
	EXPECT_FALSE(hits(a, to(0x30, true)));
	EXPECT_TRUE(hits(a, to(0xff, true)));
	a.put(DFR, 0x5fffffff);
	EXPECT_FALSE(hits(a, to(0x32, true))) << "there is no such model";
}

TEST_F(Vlapic, x2apic_logical_ids_are_made_of_the_id)
{
	Apic a(0x1234);

	a.x2();
	EXPECT_EQ(a.value_of(LDR), 0x01230010u);
	EXPECT_TRUE(hits(a, to(0x01230010, true, true)));
	EXPECT_TRUE(hits(a, to(0x0123ffff, true, true)));
	EXPECT_FALSE(hits(a, to(0x0123ffef, true, true)));
	EXPECT_FALSE(hits(a, to(0x01220010, true, true)));
	EXPECT_FALSE(hits(a, to(0x10, true, true)));
}

TEST_F(Vlapic, narrow_logical_destination_reaches_the_first_x2apics)
{
	Apic a(3), b(0x13);

	a.x2();
	b.x2();
	EXPECT_TRUE(hits(a, to(0x08, true)));
	EXPECT_FALSE(hits(a, to(0x04, true)));
	EXPECT_FALSE(hits(b, to(0x08, true)));
}

TEST_F(Vlapic, shorthands_need_no_destination)
{
	Apic a(1), b(2);
	struct vapic_message message = to(77);

	a.on();
	b.on();
	message.shorthand = VAPIC_TO_SELF;
	EXPECT_TRUE(hits(a, message, &a));
	EXPECT_FALSE(hits(b, message, &a));
	message.shorthand = VAPIC_TO_ALL;
	EXPECT_TRUE(hits(a, message, &a));
	EXPECT_TRUE(hits(b, message, &a));
	message.shorthand = VAPIC_TO_OTHERS;
	EXPECT_FALSE(hits(a, message, &a));
	EXPECT_TRUE(hits(b, message, &a));
}

TEST_F(Vlapic, software_disabled_gets_nmi_init_and_startup_only)
{
	Apic a(1);
	struct vapic_message message = to(1);

	for (u8 mode : {VAPIC_FIXED, VAPIC_LOWEST}) {
		message.mode = mode;
		EXPECT_FALSE(hits(a, message));
	}
	for (u8 mode : {VAPIC_NMI, VAPIC_INIT, VAPIC_STARTUP}) {
		message.mode = mode;
		EXPECT_TRUE(hits(a, message));
	}
	a.on();
	message.mode = VAPIC_LOWEST;
	EXPECT_TRUE(hits(a, message));
}

TEST_F(Vlapic, one_that_is_off_gets_nothing)
{
	Apic a(1);

	a.on();
	ASSERT_TRUE(a.wrmsr(kBase, kPage));
	for (u8 mode : {VAPIC_FIXED, VAPIC_NMI, VAPIC_INIT, VAPIC_STARTUP}) {
		for (u8 shorthand : {VAPIC_TO_DESTINATION, VAPIC_TO_ALL}) {
			struct vapic_message message = to(1);

			message.mode = mode;
			message.shorthand = shorthand;
			EXPECT_FALSE(hits(a, message));
		}
	}
	EXPECT_FALSE(a.post(0x50));
}

/* ---- Timer, 10.5.4
 * ----------------------------------------------------------------------------------------- */

TEST_F(Vlapic, one_shot_counts_down_fires_once_and_stays_at_zero)
{
	Apic a;

	a.on();
	EXPECT_EQ(a.deadline(), kNever);
	a.timer(0x40, 500);
	EXPECT_EQ(a.deadline(), 1500u);
	EXPECT_EQ(a.get(CURRENT), 500u);
	a.now = 1200;
	EXPECT_EQ(a.get(CURRENT), 300u);
	EXPECT_EQ(a.get(INITIAL), 500u);
	a.now = 1499;
	EXPECT_FALSE(a.expire());
	EXPECT_EQ(a.get(CURRENT), 1u);
	a.now = 1500;
	EXPECT_EQ(a.get(CURRENT), 0u);
	EXPECT_TRUE(a.expire());
	EXPECT_EQ(a.pending(), 0x40);
	EXPECT_EQ(a.deadline(), kNever);
	EXPECT_FALSE(a.expire());
	a.now = 9999;
	EXPECT_EQ(a.get(CURRENT), 0u);
	EXPECT_EQ(a.get(INITIAL), 500u);
}

TEST_F(Vlapic, count_of_zero_stops)
{
	Apic a;

	a.on();
	a.timer(0x40, 500);
	a.put(INITIAL, 0);
	EXPECT_EQ(a.deadline(), kNever);
	EXPECT_EQ(a.get(CURRENT), 0u);
	a.now = 5000;
	EXPECT_FALSE(a.expire());
	EXPECT_EQ(a.pending(), -1);
}

TEST_F(Vlapic, divides_by_every_power_of_two_up_to_128)
{
	const u32 codes[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};

	for (u32 shift = 0; shift < 8; shift++) {
		Apic a;

		a.on();
		a.timer(0x40, 10, codes[shift]);
		EXPECT_EQ(a.deadline(), 1000 + (10ull << shift)) << shift;
		a.now = 1000 + (1ull << shift);
		EXPECT_EQ(a.get(CURRENT), 9u) << shift;
		a.now -= 1;
		EXPECT_EQ(a.get(CURRENT), 10u) << "a count is gone at its end";
	}
}

TEST_F(Vlapic, longest_count_at_the_slowest_pace_does_not_overflow)
{
	Apic a;

	a.on();
	a.timer(0x40, 0xffffffff, kBy128);
	EXPECT_EQ(a.deadline(), 1000 + (0xffffffffull << 7));
	EXPECT_EQ(a.get(CURRENT), 0xffffffffu);
	a.now = kNever - 10;
	a.put(INITIAL, 0xffffffff);
	EXPECT_EQ(a.deadline(), kNever);
	EXPECT_FALSE(a.expire());
	EXPECT_LE(a.get(CURRENT), 0xffffffffu);
}

TEST_F(Vlapic, periodic_goes_on_without_drift)
{
	Apic a;

	a.on();
	a.now = 1033;
	a.timer(kPeriodic | 0x40, 100);
	for (u64 n = 1; n < 50; n++) {
		a.now = 1033 + 100 * n + n; /* later and later, by less than a period */
		EXPECT_TRUE(a.expire());
		EXPECT_EQ(a.deadline(), 1033 + 100 * (n + 1));
		a.accept(0x40);
		a.put(EOI, 0);
	}
}

TEST_F(Vlapic, periodic_that_missed_periods_keeps_its_step_and_interrupts_once)
{
	Apic a;

	a.on();
	a.now = 1033;
	a.timer(kPeriodic | 0x40, 100);
	a.now = 1033 + 100 * 1000000007ull + 42;
	EXPECT_EQ(a.get(CURRENT), 58u) << "nobody looked since the first, and it still counts";
	EXPECT_TRUE(a.expire());
	EXPECT_EQ(a.deadline(), a.now + 58);
	EXPECT_EQ(a.get(CURRENT), 58u);
	EXPECT_FALSE(a.expire());
	a.now += 58;
	EXPECT_EQ(a.get(CURRENT), 100u) << "reloaded as it reaches zero";
	EXPECT_FALSE(a.expire()) << "requested already";
	EXPECT_EQ(a.deadline(), a.now + 100);
}

TEST_F(Vlapic, shortest_period_far_behind_takes_no_time)
{
	Apic a;

	a.on();
	a.timer(kPeriodic | 0x40, 1);
	a.now = kNever - 1;
	EXPECT_TRUE(a.expire());
	EXPECT_EQ(a.deadline(), kNever);
	a.now = kNever;
	EXPECT_FALSE(a.expire());
	EXPECT_EQ(a.get(CURRENT), 1u);
}

TEST_F(Vlapic, masked_timer_runs_in_silence)
{
	Apic a;

	a.on();
	a.timer(kMasked | 0x40, 100);
	a.now = 1100;
	EXPECT_FALSE(a.expire());
	EXPECT_EQ(a.pending(), -1);
	EXPECT_EQ(a.deadline(), kNever);
	a.put(LVT_TIMER, 0x40);
	EXPECT_FALSE(a.expire()) << "what was masked is lost";
	a.timer(kMasked | kPeriodic | 0x40, 100);
	a.now += 130;
	EXPECT_FALSE(a.expire());
	EXPECT_EQ(a.deadline(), a.now + 70);
	a.put(LVT_TIMER, kPeriodic | 0x40);
	a.now += 70;
	EXPECT_TRUE(a.expire());
}

TEST_F(Vlapic, what_was_due_comes_before_a_change)
{
	const struct {
		const char *what;
		void (*change)(Apic &);
	} changes[] = {
		{"count", [](Apic &a) { a.put(INITIAL, 7); }},
		{"mask", [](Apic &a) { a.put(LVT_TIMER, kMasked | 0x40); }},
		{"mode", [](Apic &a) { a.put(LVT_TIMER, kTscMode | 0x41); }},
		{"pace", [](Apic &a) { a.put(DIVIDE, kBy2); }},
		{"software disable", [](Apic &a) { a.put(SVR, 0xff); }},
	};

	for (const auto &c : changes) {
		Apic a;

		a.on();
		a.timer(0x40, 100);
		a.now = 1100;
		c.change(a);
		EXPECT_EQ(a.pending(), 0x40) << c.what;
	}
}

TEST_F(Vlapic, tsc_deadline_that_was_due_comes_before_the_next)
{
	Apic a;

	a.on();
	a.put(LVT_TIMER, kTscMode | 0xec);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 2000));
	a.now = 2000;
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 3000));
	EXPECT_EQ(a.pending(), 0xec);
	EXPECT_EQ(a.deadline(), 3000u);
}

TEST_F(Vlapic, change_of_pace_goes_on_from_the_count)
{
	Apic a;

	a.on();
	a.timer(0x40, 100, kBy1);
	a.now += 40;
	a.put(DIVIDE, kBy2);
	EXPECT_EQ(a.get(CURRENT), 60u);
	EXPECT_EQ(a.deadline(), a.now + 120);
	a.now += 120;
	EXPECT_TRUE(a.expire());
}

TEST_F(Vlapic, change_of_pace_starts_nothing)
{
	Apic a;

	a.on();
	a.timer(0x40, 100);
	a.now += 100;
	a.expire();
	a.put(DIVIDE, kBy2);
	EXPECT_EQ(a.deadline(), kNever);
}

TEST_F(Vlapic, one_shot_may_become_periodic_and_back_while_it_counts)
{
	Apic a;

	a.on();
	a.timer(0x40, 100);
	a.now += 30;
	a.put(LVT_TIMER, kPeriodic | 0x40);
	EXPECT_EQ(a.get(CURRENT), 70u);
	a.now += 70;
	EXPECT_TRUE(a.expire());
	EXPECT_EQ(a.deadline(), a.now + 100);
	a.put(LVT_TIMER, 0x40);
	EXPECT_EQ(a.deadline(), a.now + 100);
	a.now += 100;
	a.expire();
	EXPECT_EQ(a.deadline(), kNever);
}

TEST_F(Vlapic, tsc_deadline_fires_when_the_counter_gets_there)
{
	Apic a;

	a.x2();
	ASSERT_TRUE(a.set(LVT_TIMER, kTscMode | 0xec));
	EXPECT_EQ(a.rdmsr(kTscDeadline), 0u);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 5000));
	EXPECT_EQ(a.rdmsr(kTscDeadline), 5000u);
	EXPECT_EQ(a.deadline(), 5000u);
	EXPECT_EQ(a.value_of(CURRENT), 0u);
	a.now = 4999;
	EXPECT_FALSE(a.expire());
	a.now = 5000;
	EXPECT_TRUE(a.expire());
	EXPECT_EQ(a.pending(), 0xec);
	EXPECT_EQ(a.rdmsr(kTscDeadline), 0u);
	EXPECT_EQ(a.deadline(), kNever);
}

TEST_F(Vlapic, tsc_deadline_in_the_past_fires_at_once)
{
	Apic a;

	a.on();
	a.put(LVT_TIMER, kTscMode | 0xec);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 1));
	EXPECT_LE(a.deadline(), a.now);
	EXPECT_TRUE(a.expire());
}

TEST_F(Vlapic, tsc_deadline_reads_as_zero_as_soon_as_it_passed)
{
	Apic a;

	a.on();
	a.put(LVT_TIMER, kTscMode | 0xec);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 2000));
	a.now = 2000;
	EXPECT_EQ(a.rdmsr(kTscDeadline), 0u);
	EXPECT_EQ(a.pending(), 0xec);
}

TEST_F(Vlapic, tsc_deadline_moves_and_is_disarmed_by_zero)
{
	Apic a;

	a.on();
	a.put(LVT_TIMER, kTscMode | 0xec);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 2000));
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 3000));
	EXPECT_EQ(a.deadline(), 3000u);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 0));
	EXPECT_EQ(a.deadline(), kNever);
	a.now = 9000;
	EXPECT_FALSE(a.expire());
	ASSERT_TRUE(a.wrmsr(kTscDeadline, ~0ull));
	EXPECT_EQ(a.rdmsr(kTscDeadline), ~0ull);
	EXPECT_EQ(a.deadline(), kNever);
}

TEST_F(Vlapic, masked_tsc_deadline_is_disarmed_without_an_interrupt)
{
	Apic a;

	a.on();
	a.put(LVT_TIMER, kMasked | kTscMode | 0xec);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 2000));
	a.now = 2000;
	EXPECT_FALSE(a.expire());
	EXPECT_EQ(a.rdmsr(kTscDeadline), 0u);
	EXPECT_EQ(a.pending(), -1);
}

TEST_F(Vlapic, each_timer_ignores_the_other_ones_register)
{
	Apic a;

	a.on();
	a.timer(0x40, 100);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 1050));
	EXPECT_EQ(a.rdmsr(kTscDeadline), 0u);
	EXPECT_EQ(a.deadline(), 1100u);
	a.put(LVT_TIMER, kTscMode | 0x40);
	EXPECT_EQ(a.deadline(), kNever) << "a change of mode disarms";
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 3000));
	a.put(INITIAL, 100);
	a.put(DIVIDE, kBy2);
	EXPECT_EQ(a.get(INITIAL), 0u);
	EXPECT_EQ(a.deadline(), 3000u);
	a.put(LVT_TIMER, kPeriodic | 0x40);
	EXPECT_EQ(a.deadline(), kNever);
	EXPECT_EQ(a.get(CURRENT), 0u);
	a.now = 4000;
	EXPECT_FALSE(a.expire());
}

TEST_F(Vlapic, mask_of_a_tsc_deadline_does_not_disarm)
{
	Apic a;

	a.on();
	a.put(LVT_TIMER, kTscMode | 0xec);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 2000));
	a.put(LVT_TIMER, kMasked | kTscMode | 0xec);
	a.put(LVT_TIMER, kTscMode | 0xed);
	EXPECT_EQ(a.deadline(), 2000u);
	a.now = 2000;
	EXPECT_TRUE(a.expire());
	EXPECT_EQ(a.pending(), 0xed);
}

TEST_F(Vlapic, reserved_timer_mode_runs_nothing)
{
	Apic a;

	a.on();
	a.timer(kPeriodic | kTscMode | 0x40, 100);
	ASSERT_TRUE(a.wrmsr(kTscDeadline, 1100));
	EXPECT_EQ(a.get(LVT_TIMER), kPeriodic | kTscMode | 0x40);
	EXPECT_EQ(a.deadline(), kNever);
	EXPECT_EQ(a.get(CURRENT), 0u);
}

TEST_F(Vlapic, timer_with_an_illegal_vector_is_an_error)
{
	Apic a;

	a.on();
	a.timer(0x0f, 100);
	a.now += 100;
	EXPECT_FALSE(a.expire());
	EXPECT_EQ(a.pending(), -1);
	EXPECT_EQ(a.errors(), kIllegalReceived);
}

TEST_F(Vlapic, counter_that_went_back_shows_no_more_than_the_initial_count)
{
	Apic a;

	a.on();
	a.timer(0x40, 100);
	a.now = 0;
	EXPECT_EQ(a.get(CURRENT), 100u);
}

/* ---- Anything at all
 * ------------------------------------------------------------------------------------------ */

/* The sanitizers are the judges here, and what must hold of any local APIC. */
TEST_F(Vlapic, any_sequence_of_accesses_leaves_it_in_a_legal_state)
{
	std::mt19937_64 random(7);

	for (u32 round = 0; round < 20; round++) {
		Apic a(random() % 600);

		a.on();
		for (u32 i = 0; i < 5000; i++) {
			u64 value = random() >> random() % 64;
			int vector;

			a.now = random() % 4 ? a.now + random() % 1000 : random() >> random() % 64;
			switch (random() % 8) {
			case 0:
				a.put(random() % 0x42 * 16, value);
				break;
			case 1:
				a.get(random() % 0x420);
				break;
			case 2:
				a.wrmsr(0x800 + random() % 0x42, value);
				break;
			case 3:
				a.rdmsr(0x800 + random() % 0x42, &value);
				break;
			case 4:
				a.wrmsr(random() % 8 ? kTscDeadline : kBase,
					random() % 2 ? value : kPage | (value & 3) << 10);
				break;
			case 5:
				a.post(value, random() % 2);
				break;
			case 6:
				a.expire();
				ASSERT_TRUE(a.deadline() > a.now || a.now == kNever);
				break;
			case 7:
				a.put(SVR, 0x1ff);
				break;
			}
			vector = a.pending();
			if (vector >= 0) {
				ASSERT_GE(vector, 16);
				ASSERT_GT(vector >> 4, vlapic_ppr(&a.v) >> 4);
				vlapic_accept(&a.v, vector);
				ASSERT_EQ(vlapic_ppr(&a.v), vector & 0xf0);
			}
			for (const Sent &s : sent) {
				ASSERT_TRUE(!vapic_is_vector(&s.message) || s.message.vector >= 16);
				ASSERT_NE(s.message.shorthand, VAPIC_TO_SELF);
			}
			sent.clear();
		}
	}
}

} // namespace
