// What is said of EPT entries that are wrong: each against the manual's walker, and in the tables
// of a space that somebody has spoilt.
#include <algorithm>
#include <random>

#include "../model/ept.h"
#include "s2_test_machine.h"

extern "C" {
#include "../../arch/x86_64/s2_ept_check.h"
}

namespace
{

const struct s2_ept_cpu kCpu = {46, true, true};
const struct s2_ept_cpu kHost = {48, true, true}; // where the fake machine's memory is

model::ept::Features features_of(const struct s2_ept_cpu &cpu)
{
	model::ept::Features features;

	features.pa_bits = cpu.address_bits;
	features.execute_only = cpu.execute_only;
	features.large_1g = cpu.gib_pages;
	return features;
}

// ---- Entries

class S2EptEntry : public ::testing::TestWithParam<const struct s2_format *>
{
      protected:
	const struct s2_format *f = GetParam();

	enum s2_ept_verdict check(u64 entry, unsigned level, struct s2_ept_cpu cpu = kCpu)
	{
		return s2_ept_check_entry(f, &cpu, entry, level);
	}

	u64 leaf(unsigned level, u8 perm = S2_RWX)
	{
		return s2_leaf_entry(f, hpa(GIB(1)), {perm, S2_NORMAL, false}, level);
	}

	u64 table()
	{
		return s2_table_entry(f, reinterpret_cast<u64 *>(GIB(1)));
	}
};

INSTANTIATE_TEST_SUITE_P(formats, S2EptEntry,
			 ::testing::Values(&s2_ept, &s2_ept_mbec, &s2_ept5, &s2_ept5_mbec,
					   &s2_ept_software),
			 [](const auto &info) {
				 std::string name = info.param->name;

				 std::replace(name.begin(), name.end(), ' ', '_');
				 return name;
			 });

// Whatever an entry's bits are, it is a misconfiguration exactly where the manual has one.
TEST_P(S2EptEntry, is_judged_as_the_manual_does)
{
	std::mt19937_64 random(1);
	unsigned seen[16] = {};

	for (unsigned i = 0; i < 200000; i++) {
		struct s2_ept_cpu cpu = {u8(random() % 2 ? 52 : 40), random() % 2 != 0,
					 random() % 2 != 0};
		unsigned level = random() % f->levels;
		// Few address bits, and mostly all rights: else nearly all would be wrong.
		u64 entry = random() & random() & random();

		entry |= random() % 4 ? f->table : 0;
		entry |= random() % 2 ? 6 << 3 : 0;
		entry &= random() % 2 ? ~BITS(51, 12) : ~0ull;
		entry &= random() % 2 ? ~BITS(6, 3) : ~0ull;

		model::HostMemory memory;
		model::ept::Walker walker(features_of(cpu), memory);
		model::ept::Registers registers;

		registers.eptp = u64(f->levels - 1) << 3 | 6;
		registers.mode_based_execute = f->present & BIT(10);
		registers.unused_type = false;

		model::x86::Walk w = static_cast<model::x86::Walker &>(walker).take(
			walker.decode(registers), 0, int(level) + 1, entry);
		enum s2_ept_verdict verdict = check(entry, level, cpu);
		bool wrong = verdict >= S2_EPT_ONLY_WRITE && verdict != S2_EPT_WITHHOLDS;

		seen[verdict]++;
		ASSERT_EQ(wrong || verdict == S2_EPT_UNUSED,
			  w.fault == model::x86::FaultKind::Malformed)
			<< std::hex << entry << " of level " << level << ": "
			<< s2_ept_check_text(verdict) << "; " << w.text();
		ASSERT_EQ(verdict == S2_EPT_ABSENT, w.fault == model::x86::FaultKind::Absent);
		ASSERT_EQ(verdict == S2_EPT_LEAF, w.is_leaf());
		ASSERT_EQ(verdict == S2_EPT_TABLE || verdict == S2_EPT_WITHHOLDS,
			  w.ok() && !w.is_leaf());
	}
	for (unsigned verdict = 0; verdict < S2_EPT_NOWHERE; verdict++) {
		bool never = verdict == S2_EPT_UNUSED && f != &s2_ept_software;

		EXPECT_EQ(seen[verdict] == 0, never)
			<< s2_ept_check_text((enum s2_ept_verdict)verdict);
	}
}

TEST_P(S2EptEntry, that_lamina_writes_is_never_wrong)
{
	for (u8 perm = 1; perm <= S2_RWX; perm++) {
		for (u8 memory = 0; memory < S2_MEMORY_TYPES; memory++) {
			struct s2_attr attr = {perm, memory, false};

			for (unsigned level = 0; level <= 2 && s2_format_says(f, attr); level++) {
				u64 entry = s2_leaf_entry(f, hpa(GIB(1)), attr, level);

				EXPECT_EQ(check(entry, level), S2_EPT_LEAF);
				EXPECT_EQ(check(entry | f->dirty | f->log | f->cow, level),
					  S2_EPT_LEAF);
				EXPECT_EQ(check(entry & ~f->accessed, level),
					  f->accessed_table ? S2_EPT_LEAF : S2_EPT_UNUSED);
			}
		}
	}
	for (unsigned level = 1; level < f->levels; level++) {
		EXPECT_EQ(check(table(), level), S2_EPT_TABLE);
		EXPECT_EQ(check(table() | f->accessed_table | f->accessed_table_mark, level),
			  S2_EPT_TABLE);
	}
	for (enum s2_kind kind : {S2_TRANSIT, S2_BROKEN, S2_HELD, S2_POISON, S2_STORED, S2_MMIO}) {
		EXPECT_EQ(check(s2_absent_entry(f, kind, BITS(47, 0)), 0), S2_EPT_ABSENT);
	}
}

TEST_P(S2EptEntry, is_told_what_is_wrong_with_it)
{
	EXPECT_EQ(check(leaf(0) & ~BIT(0), 0), S2_EPT_ONLY_WRITE);
	EXPECT_EQ(check(leaf(0) & ~BITS(1, 0), 0, {46, true, false}), S2_EPT_ONLY_EXECUTE);
	EXPECT_EQ(check(leaf(0) & ~BITS(1, 0), 0), S2_EPT_LEAF) << "this CPU has it";
	EXPECT_EQ(check(leaf(0) | BIT(46), 0), S2_EPT_RESERVED) << "beyond the addresses";
	EXPECT_EQ(check(leaf(0) | BIT(45), 0), S2_EPT_LEAF);
	EXPECT_EQ(check(leaf(0) | BIT(51), 0, {52, true, true}), S2_EPT_LEAF);
	EXPECT_EQ(check(leaf(1) | BIT(12), 1), S2_EPT_RESERVED) << "below a block's address";
	EXPECT_EQ(check(leaf(2) | BIT(29), 2), S2_EPT_RESERVED);
	EXPECT_EQ(check(leaf(2), 2, {46, false, true}), S2_EPT_RESERVED) << "no such leaf";
	EXPECT_EQ(check(leaf(2), 3), S2_EPT_RESERVED) << "nor there, ever";
	EXPECT_EQ(check(table() | BIT(3), 1), S2_EPT_RESERVED) << "a table has no memory type";
	for (u64 type : {3, 7}) {
		EXPECT_EQ(check((leaf(1) & ~BITS(5, 3)) | type << 3, 1), S2_EPT_MEMORY_TYPE);
	}
	EXPECT_EQ(check(table() & ~BIT(1), 1), S2_EPT_WITHHOLDS);
}

// ---- Walks

class S2EptWalk : public S2Test
{
      protected:
	void SetUp() override
	{
		S2Test::SetUp();
		frame_ = map_block(MIB(4), 0);
		map_block(MIB(6), 1);
	}

	struct s2_ept_walk walk(u64 at)
	{
		return s2_ept_check_walk(&s2, &kHost, gpa(at));
	}

	enum s2_ept_verdict last(u64 at)
	{
		struct s2_ept_walk w = walk(at);

		return w.steps[w.count - 1].verdict;
	}

	// The entry of a level on the way to MIB(4).
	u64 &entry(unsigned level)
	{
		for (const struct s2_ept_step &step : walk(MIB(4)).steps) {
			if (step.at.v && step.level == level) {
				return *(u64 *)hpa_ptr(step.at);
			}
		}
		throw std::logic_error("no such level");
	}

	// Spoils an entry, and mends it before the space is looked at by others.
	template <typename Fn> void with(unsigned level, u64 value, Fn fn)
	{
		u64 &word = entry(level), before = word;

		word = value;
		fn(walk(MIB(4)));
		word = before;
	}

	hpa_t frame_ = {};
};

INSTANTIATE_TEST_SUITE_P(formats, S2EptWalk,
			 ::testing::Values(S2Kind{"ept", &s2_ept, false},
					   S2Kind{"ept5", &s2_ept5, false},
					   S2Kind{"ept_software", &s2_ept_software, false}),
			 s2_kind_name);

TEST_P(S2EptWalk, shows_each_level_from_hardwares_top_down)
{
	struct s2_ept_walk w = walk(MIB(4) + 5);

	ASSERT_EQ(w.count, s2.format->levels);
	EXPECT_EQ(w.steps[0].at.v, ptr_hpa(s2.top).v);
	for (unsigned i = 0; i < w.count; i++) {
		unsigned level = s2.format->top_level - i;

		EXPECT_EQ(w.steps[i].level, level);
		EXPECT_EQ(w.steps[i].entry, *(u64 *)hpa_ptr(w.steps[i].at));
		EXPECT_EQ(w.steps[i].verdict, level ? S2_EPT_TABLE : S2_EPT_LEAF);
	}
	EXPECT_EQ(s2_entry_hpa(s2.format, w.steps[w.count - 1].entry).v, frame_.v);
	EXPECT_EQ(w.perm, S2_RWX);
	EXPECT_EQ(s2_ept_check_mistake(&w), nullptr);
	EXPECT_EQ(walk(MIB(6)).count, s2.format->levels - 1u) << "a block";
	EXPECT_EQ(last(MIB(4) + PAGE_SIZE), S2_EPT_ABSENT);
	EXPECT_EQ(walk(BIT(40)).count, 0u) << "outside";
}

TEST_P(S2EptWalk, finds_the_mistake_and_goes_no_further)
{
	const struct s2_format *f = s2.format;

	for (unsigned level = 1; level < f->levels; level++) {
		with(level, entry(level) | BIT(3), [&](struct s2_ept_walk w) {
			const struct s2_ept_step *step = s2_ept_check_mistake(&w);

			ASSERT_NE(step, nullptr);
			EXPECT_EQ(step->level, level);
			EXPECT_EQ(step->verdict, S2_EPT_RESERVED);
			EXPECT_EQ(w.count, f->levels - level);
		});
		with(level, entry(level) & ~BIT(1), [&](struct s2_ept_walk w) {
			EXPECT_EQ(s2_ept_check_mistake(&w)->verdict, S2_EPT_WITHHOLDS);
		});
		for (u64 nowhere : {frame_.v, u64(0), u64(BIT(45))}) {
			with(level, f->table | nowhere, [&](struct s2_ept_walk w) {
				EXPECT_EQ(s2_ept_check_mistake(&w)->verdict, S2_EPT_NOWHERE);
				EXPECT_EQ(s2_ept_check_mistake(&w)->level, level);
			});
		}
	}
	with(0, entry(0) & ~BIT(0), [&](struct s2_ept_walk w) {
		EXPECT_EQ(s2_ept_check_mistake(&w)->verdict, S2_EPT_ONLY_WRITE);
		EXPECT_FALSE(s2_ept_check_explains(&w, S2_READ));
	});
}

TEST_P(S2EptWalk, explains_what_is_missing_forbidden_or_not_used_yet)
{
	struct s2_ept_walk w = walk(MIB(4));
	bool software = s2.format == &s2_ept_software;

	EXPECT_FALSE(s2_ept_check_explains(&w, S2_WRITE)) << "all is allowed";
	EXPECT_FALSE(s2_ept_check_explains(&w, 0)) << "and nothing misconfigured";
	ASSERT_EQ(protect_of(&s2, MIB(4), PAGE_SIZE, S2_READ), OK);
	w = walk(MIB(4));
	EXPECT_TRUE(s2_ept_check_explains(&w, S2_WRITE));
	EXPECT_TRUE(s2_ept_check_explains(&w, S2_READ | S2_WRITE));
	EXPECT_TRUE(s2_ept_check_explains(&w, S2_EXEC_KERNEL));
	EXPECT_FALSE(s2_ept_check_explains(&w, S2_READ));
	w = walk(MIB(4) + PAGE_SIZE);
	EXPECT_TRUE(s2_ept_check_explains(&w, S2_READ));
	w = walk(BIT(40));
	EXPECT_TRUE(s2_ept_check_explains(&w, S2_READ));

	struct s2_harvest h = {};

	h.clear = true;
	ASSERT_EQ(s2_harvest(&s2, gpa(0), MIB(8), &h), OK);
	w = walk(MIB(4));
	EXPECT_EQ(last(MIB(4)), software ? S2_EPT_UNUSED : S2_EPT_LEAF);
	EXPECT_EQ(s2_ept_check_explains(&w, 0), software);
	EXPECT_EQ(s2_ept_check_mistake(&w), nullptr);
	ASSERT_EQ(s2_mark_accessed(&s2, gpa(MIB(4))), OK);
	EXPECT_EQ(last(MIB(4)), S2_EPT_LEAF);
}

// ---- Patience

TEST(S2EptPatience, ends_when_nothing_explains_the_same_access_again_and_again)
{
	struct s2_ept_patience p = {};
	unsigned times = 1;

	while (!(s2_ept_check_repeats(&p, gpa(1), S2_READ) && s2_ept_check_gives_up(&p, false))) {
		ASSERT_LT(++times, 1000u);
	}
	EXPECT_EQ(times, 2 * S2_EPT_SUSPICIOUS + 1u);
}

TEST(S2EptPatience, begins_anew_with_each_explanation_and_each_other_access)
{
	struct s2_ept_patience p = {};

	for (unsigned i = 1; i <= 1000; i++) {
		bool suspicious = s2_ept_check_repeats(&p, gpa(1), S2_READ);

		EXPECT_EQ(suspicious, i % (S2_EPT_SUSPICIOUS + 1) == 0);
		EXPECT_FALSE(suspicious && s2_ept_check_gives_up(&p, true));
	}
	for (unsigned i = 0; i < 1000; i++) {
		EXPECT_FALSE(s2_ept_check_repeats(&p, gpa(i % 2), S2_READ));
	}
	for (unsigned i = 0; i < 1000; i++) {
		EXPECT_FALSE(s2_ept_check_repeats(&p, gpa(1), i % 2 ? S2_READ : S2_WRITE));
	}
	// A misconfiguration is walked for at once, whatever came before.
	p = {};
	for (unsigned i = 0; i < 2 * S2_EPT_SUSPICIOUS; i++) {
		s2_ept_check_repeats(&p, gpa(1), 0);
		EXPECT_FALSE(s2_ept_check_gives_up(&p, false));
	}
	s2_ept_check_repeats(&p, gpa(1), 0);
	EXPECT_TRUE(s2_ept_check_gives_up(&p, false));
}

} // namespace
