// What a format says, hardware does: every format against its contract (hyp/s2_format.h), and the
// raw entries it makes against the independent walkers of tests/model.
#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "../model/ept.h"
#include "../model/npt.h"
#include "../model/sparse_memory.h"

extern "C" {
#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/arm64/s2_vtcr.h"
#include "../../arch/x86_64/s2_ept.h"
#include "../../arch/x86_64/s2_npt.h"
#include "hyp/s2_cursor.h"
#include <arch/s2.h>
}

namespace
{

using model::MemoryType;

enum class Kind { Fake, Ept, Npt, Armv8 };

struct Facts {
	const char *name;
	const struct s2_format *format;
	Kind kind;
	unsigned address_bits; // of output
	bool mbec, xnx, fwb;
};

const Facts kFormats[] = {
	{"fake", arch_s2_format(), Kind::Fake, 48, false, false, false},
	{"ept", &s2_ept, Kind::Ept, 52, false, false, false},
	{"ept_mbec", &s2_ept_mbec, Kind::Ept, 52, true, false, false},
	{"ept5", &s2_ept5, Kind::Ept, 52, false, false, false},
	{"ept5_mbec", &s2_ept5_mbec, Kind::Ept, 52, true, false, false},
	{"ept_software", &s2_ept_software, Kind::Ept, 52, false, false, false},
	{"npt", &s2_npt, Kind::Npt, 52, false, false, false},
	{"npt5", &s2_npt5, Kind::Npt, 52, false, false, false},
	{"armv8_4k", &s2_armv8_4k, Kind::Armv8, 48, false, false, false},
	{"armv8_4k_xnx", &s2_armv8_4k_xnx, Kind::Armv8, 48, false, true, false},
	{"armv8_4k_fwb", &s2_armv8_4k_fwb, Kind::Armv8, 48, false, true, true},
	{"armv8_16k", &s2_armv8_16k, Kind::Armv8, 48, false, false, false},
	{"armv8_16k_xnx", &s2_armv8_16k_xnx, Kind::Armv8, 48, false, true, false},
	{"armv8_16k_fwb", &s2_armv8_16k_fwb, Kind::Armv8, 48, false, true, true},
	{"armv8_64k", &s2_armv8_64k, Kind::Armv8, 48, false, false, false},
	{"armv8_64k_xnx", &s2_armv8_64k_xnx, Kind::Armv8, 48, false, true, false},
	{"armv8_64k_fwb", &s2_armv8_64k_fwb, Kind::Armv8, 48, false, true, true},
	{"armv8_4k_lpa2", &s2_armv8_4k_lpa2, Kind::Armv8, 52, false, true, false},
	{"armv8_4k_lpa2_fwb", &s2_armv8_4k_lpa2_fwb, Kind::Armv8, 52, false, true, true},
	{"armv8_16k_lpa2", &s2_armv8_16k_lpa2, Kind::Armv8, 52, false, true, false},
	{"armv8_16k_lpa2_fwb", &s2_armv8_16k_lpa2_fwb, Kind::Armv8, 52, false, true, true},
	{"armv8_64k_lpa", &s2_armv8_64k_lpa, Kind::Armv8, 52, false, true, false},
	{"armv8_64k_lpa_fwb", &s2_armv8_64k_lpa_fwb, Kind::Armv8, 52, false, true, true},
};

enum class Try { Nothing, Read, Write };

// What hardware made of one access, in words that all formats share.
struct Result {
	bool ok, is_leaf, accessed, contiguous, forced, exception;
	u64 pa, size;
	u8 perm; // of enum s2_perm
	MemoryType memory;
	std::vector<std::string> complaints;
	std::string text;
};

class Hardware
{
      public:
	virtual ~Hardware() = default;
	virtual Result access(const struct s2 &s2, u64 gpa, Try what) = 0;
};

class Armv8 : public Hardware
{
      public:
	Armv8(const Facts &facts, model::Memory &memory, bool dirty)
	    : fwb_(facts.fwb), walker_(features(facts), memory)
	{
		features_.pa_range = 6;
		features_.hardware_access = features_.hardware_dirty = dirty;
	}

	Result access(const struct s2 &s2, u64 gpa, Try what) override
	{
		u64 root = ptr_hpa(s2.root).v;
		model::Registers registers = {s2_armv8_vtcr(&s2, features_),
					      (root & BITS(47, 1)) | root >> 48 << 2, fwb_};
		model::Walk w = what == Try::Nothing ? walker_.look(registers, gpa)
				: what == Try::Read
					? walker_.translate(registers, gpa, model::Access::Read)
					: walker_.translate(registers, gpa, model::Access::Write);

		return {w.ok(),
			w.size != 0,
			w.accessed,
			w.contiguous,
			fwb_ && w.memory == MemoryType::WriteBack,
			false,
			w.pa,
			w.size,
			u8((w.rights.read ? S2_READ : 0) | (w.rights.write ? S2_WRITE : 0) |
			   (w.rights.execute_el1 ? S2_EXEC_KERNEL : 0) |
			   (w.rights.execute_el0 ? S2_EXEC_USER : 0)),
			w.memory,
			w.complaints,
			w.text()};
	}

      private:
	static model::Features features(const Facts &facts)
	{
		model::Features features;

		// A space of 52 bits is on a CPU with them; one of 48 on a CPU of either kind.
		features.pa_bits = facts.address_bits;
		features.lpa2 = facts.address_bits == 52;
		features.xnx = facts.xnx;
		return features;
	}

	bool fwb_;
	struct s2_armv8_features features_ = {};
	model::Walker walker_;
};

Result result_of(const model::x86::Walk &w)
{
	return {w.ok(),
		w.is_leaf(),
		w.accessed,
		false,
		w.ignore_pat,
		w.exception,
		w.pa,
		w.size,
		u8((w.rights.read ? S2_READ : 0) | (w.rights.write ? S2_WRITE : 0) |
		   (w.rights.execute_supervisor ? S2_EXEC_KERNEL : 0) |
		   (w.rights.execute_user ? S2_EXEC_USER : 0)),
		w.memory,
		w.complaints,
		w.text()};
}

class Ept : public Hardware
{
      public:
	Ept(const Facts &facts, model::Memory &memory, model::ept::Features features = wide())
	    : facts_(facts), walker_(features, memory)
	{
	}

	static model::ept::Features wide()
	{
		model::ept::Features features;

		features.pa_bits = 52;
		return features;
	}

	Result access(const struct s2 &s2, u64 gpa, Try what) override
	{
		model::ept::Registers registers;

		registers.eptp = s2_ept_pointer(&s2, facts_.format->accessed_table != 0);
		registers.mode_based_execute = facts_.mbec;
		registers.unused_type = facts_.format == &s2_ept_software;
		registers.violation_exceptions = true;
		return result_of(
			what == Try::Nothing ? walker_.look(registers, gpa)
			: what == Try::Read
				? walker_.translate(registers, gpa, model::x86::Access::Read)
				: walker_.translate(registers, gpa, model::x86::Access::Write));
	}

      private:
	Facts facts_;
	model::ept::Walker walker_;
};

class Npt : public Hardware
{
      public:
	explicit Npt(model::Memory &memory) : walker_(features(), memory)
	{
	}

	Result access(const struct s2 &s2, u64 gpa, Try what) override
	{
		model::npt::Registers registers;

		registers.ncr3 = ptr_hpa(s2.root).v;
		registers.cr4 |= s2.root_level == 4 ? BIT(12) : 0;
		return result_of(
			what == Try::Nothing ? walker_.look(registers, gpa)
			: what == Try::Read
				? walker_.translate(registers, gpa, model::x86::Access::Read)
				: walker_.translate(registers, gpa, model::x86::Access::Write));
	}

      private:
	static model::npt::Features features()
	{
		model::npt::Features features;

		features.pa_bits = 52;
		return features;
	}

	model::npt::Walker walker_;
};

u64 *pointer(u64 address)
{
	return reinterpret_cast<u64 *>(address);
}

class S2Format : public ::testing::TestWithParam<Facts>
{
      protected:
	const Facts &facts = GetParam();
	const struct s2_format *f = facts.format;

	std::vector<unsigned> leaf_levels() const
	{
		std::vector<unsigned> levels;

		for (unsigned level = 0; level < f->levels; level++) {
			if (s2_level_may_be_leaf(f, level)) {
				levels.push_back(level);
			}
		}
		return levels;
	}

	// Everything that can be said of a leaf.
	std::vector<struct s2_attr> attrs() const
	{
		std::vector<struct s2_attr> all;

		for (u8 perm = 0; perm < 16; perm++) {
			for (u8 memory = 0; memory < S2_MEMORY_TYPES; memory++) {
				if ((f->perms >> perm & 1) && (f->memories >> memory & 1)) {
					all.push_back({perm, memory, false});
					if (facts.kind == Kind::Ept) {
						all.push_back({perm, memory, true});
					}
				}
			}
		}
		return all;
	}

	u64 output_mask() const
	{
		return BITS(facts.address_bits - 1, f->page_shift);
	}

	std::unique_ptr<Hardware> hardware(model::Memory &memory, bool dirty = false) const
	{
		switch (facts.kind) {
		case Kind::Ept:
			return std::make_unique<Ept>(facts, memory);
		case Kind::Npt:
			return std::make_unique<Npt>(memory);
		default:
			return std::make_unique<Armv8>(facts, memory, dirty);
		}
	}
};

INSTANTIATE_TEST_SUITE_P(every, S2Format, ::testing::ValuesIn(kFormats),
			 [](const auto &info) { return std::string(info.param.name); });

// Tables made by hand: one way down from the root to a leaf, at addresses that use every bit.
class Way
{
      public:
	Way(const Facts &facts, unsigned root_level, unsigned ipa_bits)
	    : f_(facts.format), address_bits_(facts.address_bits)
	{
		s2.format = f_;
		s2.root_level = u8(root_level);
		s2.ipa_bits = u8(ipa_bits);
		s2.format = facts.format;
		s2.top = s2.root = pointer(table_at(root_level));
		fill(root_level, root_entries());
	}

	u64 root_entries() const
	{
		return BIT(s2.ipa_bits - f_->page_shift - s2.root_level * f_->index_bits);
	}

	// Where the table of this level is.
	u64 table_at(unsigned level) const
	{
		return BIT(address_bits_) - MIB(16) * (level + 1);
	}

	u64 slot(u64 gpa, unsigned level) const
	{
		return table_at(level) + 8 * s2_index(f_, gpa, level, s2.root_level);
	}

	void put(u64 gpa, unsigned level, u64 entry)
	{
		for (unsigned l = s2.root_level; l > level; l--) {
			if (!memory.words.count(table_at(l - 1))) {
				fill(l - 1, s2_table_entries(f_));
			}
			memory.words[slot(gpa, l)] = s2_table_entry(f_, pointer(table_at(l - 1)));
		}
		memory.words[slot(gpa, level)] = entry;
	}

	u64 get(u64 gpa, unsigned level) const
	{
		return memory.words.at(slot(gpa, level));
	}

	struct s2 s2 = {};
	model::SparseMemory memory;

      private:
	void fill(unsigned level, u64 entries)
	{
		for (u64 i = 0; i < entries; i++) {
			memory.words[table_at(level) + 8 * i] = f_->empty;
		}
	}

	const struct s2_format *f_;
	unsigned address_bits_;
};

// Root levels and sizes of spaces that hardware takes: for each level the largest space, and the
// largest with one table.
std::vector<std::pair<unsigned, unsigned>> shapes(const Facts &facts)
{
	const struct s2_format *f = facts.format;
	std::vector<std::pair<unsigned, unsigned>> all;

	for (unsigned level = std::max(f->root_level_min, f->top_level); level < f->levels;
	     level++) {
		unsigned one = f->page_shift + (level + 1) * f->index_bits;
		unsigned side_by_side = __builtin_ctz(f->root_tables_max);
		unsigned most = facts.kind == Kind::Armv8 ? facts.address_bits : 57;

		all.emplace_back(level, std::min(one, most));
		if (one < most && side_by_side != 0 && f->top_level == 0) {
			all.emplace_back(level, std::min(one + side_by_side, most));
		}
	}
	return all;
}

MemoryType memory_of(const Facts &facts, u8 memory)
{
	switch (memory) {
	case S2_NORMAL:
		return facts.fwb ? MemoryType::FromStage1 : MemoryType::WriteBack;
	case S2_UNCACHED: // NPT has UC-, which is no type of the walker's
		return facts.kind == Kind::Npt ? MemoryType::Device : MemoryType::NonCacheable;
	case S2_DEVICE:
		return MemoryType::Device;
	case S2_WRITE_THROUGH:
		return MemoryType::WriteThrough;
	default:
		return MemoryType::WriteBack;
	}
}

void expect_no_complaints(const Result &r)
{
	for (const std::string &complaint : r.complaints) {
		ADD_FAILURE() << complaint;
	}
}

TEST_P(S2Format, every_attribute_comes_back_as_it_was_said)
{
	EXPECT_FALSE(attrs().empty());
	for (unsigned level : leaf_levels()) {
		for (struct s2_attr attr : attrs()) {
			u64 entry = s2_leaf_entry(f, hpa(output_mask() & ~(s2_span(f, level) - 1)),
						  attr, level);
			struct s2_attr back = f->decode(entry, level > 0);

			EXPECT_EQ(back.perm, attr.perm);
			EXPECT_EQ(back.memory, attr.memory);
			EXPECT_EQ(back.notify, attr.notify);
			EXPECT_TRUE(entry & f->accessed);
			EXPECT_EQ(entry & (f->dirty | f->log | f->cow | f->contiguous), 0u);
			EXPECT_EQ((entry & f->write) != 0, (attr.perm & S2_WRITE) != 0);
			EXPECT_NE(entry, f->empty);
			EXPECT_EQ(s2_entry_kind(f, entry, level), S2_LEAF);
		}
	}
}

// Withholding write leaves the other permissions as they are, and never says nonsense.
TEST_P(S2Format, a_leaf_without_its_write_bit_says_the_rest)
{
	for (unsigned level : leaf_levels()) {
		for (struct s2_attr attr : attrs()) {
			u64 entry = f->encode(attr, level > 0) & ~f->write;
			u8 rest = attr.perm & ~S2_WRITE;

			EXPECT_EQ(f->decode(entry, level > 0).perm, rest);
			EXPECT_TRUE(f->perms >> rest & 1);
		}
	}
}

TEST_P(S2Format, permissions_are_in_the_permission_bits_alone)
{
	for (unsigned level : leaf_levels()) {
		for (struct s2_attr a : attrs()) {
			for (struct s2_attr b : attrs()) {
				u64 x = f->encode(a, level > 0), y = f->encode(b, level > 0);

				if (a.memory == b.memory && a.notify == b.notify) {
					EXPECT_EQ((x ^ y) & ~f->perm_mask, 0u);
				} else if (a.perm == b.perm) {
					EXPECT_EQ((x ^ y) & f->perm_mask, 0u);
				}
			}
		}
	}
	EXPECT_EQ(f->write & f->perm_mask, f->write);
}

// An upgrade adds what a leaf lacks to what it has.
TEST_P(S2Format, what_two_permissions_are_together_can_be_said)
{
	const u16 perms = GetParam().format->perms;

	for (unsigned a = 0; a <= S2_RWX; a++) {
		for (unsigned b = 0; b <= S2_RWX; b++) {
			if ((perms >> a & 1) && (perms >> b & 1)) {
				EXPECT_TRUE(perms >> (a | b) & 1) << a << " and " << b;
			}
		}
	}
}

TEST_P(S2Format, marks_are_no_other_bits)
{
	u64 used = f->perm_mask | f->present | f->page | f->large | f->large_mask | f->address |
		   f->address_high;
	u64 table = f->present | f->table | f->large_mask | f->address | f->address_high;

	for (struct s2_attr attr : attrs()) {
		used |= (f->encode(attr, false) | f->encode(attr, true)) & ~f->accessed;
	}
	for (u64 mark : {f->accessed, f->dirty, f->log, f->cow, f->contiguous}) {
		EXPECT_EQ(used & mark, 0u) << std::hex << mark;
		EXPECT_LE(__builtin_popcountll(mark), 1);
		used |= mark;
	}
	EXPECT_EQ(table & f->accessed_table, 0u);
	EXPECT_EQ((table | f->accessed_table) & f->accessed_table_mark, 0u);
	EXPECT_FALSE(f->accessed_table && f->accessed_table_mark);
	EXPECT_NE(f->accessed, 0u);
	EXPECT_NE(f->dirty, 0u);
	EXPECT_NE(f->log, 0u);
	EXPECT_NE(f->cow, 0u);
}

TEST_P(S2Format, a_table_entry_is_a_table)
{
	u64 entry = s2_table_entry(f, pointer(output_mask()));

	for (unsigned level = 1; level < f->levels; level++) {
		EXPECT_EQ(s2_entry_kind(f, entry, level), S2_TABLE);
		EXPECT_EQ(
			s2_entry_kind(f, entry | f->accessed_table | f->accessed_table_mark, level),
			S2_TABLE);
	}
	EXPECT_EQ(s2_entry_hpa(f, entry).v, output_mask());
}

TEST_P(S2Format, each_address_bit_has_a_place)
{
	std::mt19937_64 random(1);

	for (int i = 0; i < 64; i++) {
		u64 a = BIT(i);

		EXPECT_EQ(s2_addresses_fit(f, hpa(a), BIT(f->page_shift)), (a & output_mask()) != 0)
			<< i;
	}
	for (int i = 0; i < 1000; i++) {
		u64 a = random() & output_mask();

		EXPECT_EQ(s2_entry_hpa(f, s2_address_bits(f, hpa(a))).v, a);
		EXPECT_EQ(s2_entry_hpa(f, s2_leaf_entry(f, hpa(a), attrs().front(), 0)).v, a);
	}
	for (unsigned level : leaf_levels()) {
		for (struct s2_attr attr : attrs()) {
			u64 a = output_mask() & ~(s2_span(f, level) - 1);

			EXPECT_EQ(s2_entry_hpa(f, s2_leaf_entry(f, hpa(a), attr, level)).v, a)
				<< "attributes of level " << level << " are no address";
		}
	}
}

std::vector<u64> payloads()
{
	std::vector<u64> all = {0, 1, BITS(47, 0)};
	std::mt19937_64 random(2);

	for (unsigned i = 0; i < 48; i++) {
		all.push_back(BIT(i));
		all.push_back(BITS(47, 0) & ~BIT(i));
		all.push_back(BITS(i, 0));
		all.push_back(random() & BITS(47, 0));
		all.push_back(random() & BITS(i, 0));
	}
	return all;
}

constexpr enum s2_kind kAbsentKinds[] = {S2_TRANSIT, S2_BROKEN, S2_HELD,
					 S2_POISON,  S2_STORED, S2_MMIO};

TEST_P(S2Format, absent_entries_keep_their_kind_and_payload)
{
	EXPECT_EQ(f->present >> 11, 0u);
	EXPECT_EQ(f->absent & (f->present | BITS(62, 11)), 0u);
	EXPECT_EQ(f->absent_invert & ~BITS(62, 15), 0u);
	EXPECT_FALSE(s2_entry_present(f, f->empty));
	for (enum s2_kind kind : kAbsentKinds) {
		for (u64 payload : payloads()) {
			u64 entry = s2_absent_entry(f, kind, payload);

			EXPECT_FALSE(s2_entry_present(f, entry));
			for (unsigned level = 0; level < f->levels; level++) {
				EXPECT_EQ(s2_entry_kind(f, entry, level), kind);
			}
			EXPECT_EQ(s2_absent_payload(f, entry), payload);
		}
	}
}

// ---- Hardware ------------------------------------------------------------------------------

TEST_P(S2Format, hardware_translates_as_was_said)
{
	if (facts.kind == Kind::Fake) {
		GTEST_SKIP() << "no such hardware";
	}
	unsigned seen = 0; // levels of leaves
	for (auto [root_level, ipa_bits] : shapes(facts)) {
		Way way(facts, root_level, ipa_bits);
		auto cpu = hardware(way.memory);

		for (unsigned level : leaf_levels()) {
			u64 span = s2_span(f, level), gpa = BIT(ipa_bits) - 3 * span;
			u64 to = (BIT(facts.address_bits) - MIB(512)) & ~(span - 1);

			if (level > root_level ||
			    ipa_bits < f->page_shift + 2 + level * f->index_bits) {
				continue;
			}
			for (struct s2_attr attr : attrs()) {
				way.put(gpa, level, s2_leaf_entry(f, hpa(to), attr, level));
				Result r = cpu->access(way.s2, gpa + span - 8, Try::Nothing);

				SCOPED_TRACE(r.text);
				expect_no_complaints(r);
				ASSERT_TRUE(r.ok && r.is_leaf);
				EXPECT_EQ(r.pa, to + span - 8);
				EXPECT_EQ(r.size, span);
				EXPECT_EQ(r.perm, attr.perm);
				EXPECT_EQ(r.memory, memory_of(facts, attr.memory));
				EXPECT_EQ(r.forced, attr.memory == S2_FORCED);
				EXPECT_TRUE(r.accessed);
				EXPECT_FALSE(r.contiguous);
				if (attr.perm & S2_READ) {
					EXPECT_TRUE(cpu->access(way.s2, gpa, Try::Read).ok);
				}

				// Its neighbours are not touched by it.
				for (u64 other : {gpa - 8, gpa + span}) {
					Result none = cpu->access(way.s2, other, Try::Read);

					EXPECT_FALSE(none.ok || none.is_leaf);
					EXPECT_FALSE(none.exception);
					expect_no_complaints(none);
				}
			}
			way.put(gpa, level, f->empty);
			seen |= 1u << level;
		}
	}
	EXPECT_EQ(seen, f->leaf_levels);
}

TEST_P(S2Format, hardware_takes_no_notice_of_software_marks)
{
	if (facts.kind == Kind::Fake) {
		GTEST_SKIP() << "no such hardware";
	}
	auto [root_level, ipa_bits] = shapes(facts).back();
	Way way(facts, root_level, ipa_bits);
	auto cpu = hardware(way.memory);

	for (unsigned level : leaf_levels()) {
		for (struct s2_attr attr : attrs()) {
			u64 entry = s2_leaf_entry(f, hpa(s2_span(f, level)), attr, level);

			way.put(0, level, entry | f->cow | f->log | f->dirty);
			for (unsigned above = level + 1; above <= root_level; above++) {
				way.memory.words[way.slot(0, above)] |= f->accessed_table_mark;
			}
			Result r = cpu->access(way.s2, 0, Try::Nothing);

			SCOPED_TRACE(r.text);
			expect_no_complaints(r);
			EXPECT_TRUE(r.ok);
			EXPECT_EQ(r.perm, attr.perm);
			EXPECT_EQ(r.pa, s2_span(f, level));
			EXPECT_EQ(r.memory, memory_of(facts, attr.memory));
		}
		way.put(0, level, f->empty);
	}
}

TEST_P(S2Format, hardware_sets_the_flags_that_the_format_says_are_its_own)
{
	if (facts.kind == Kind::Fake) {
		GTEST_SKIP() << "no such hardware";
	}
	auto [root_level, ipa_bits] = shapes(facts).back();
	bool flags = facts.kind == Kind::Armv8 || f->accessed_table != 0;

	if (!flags) {
		GTEST_SKIP() << "they are all software's";
	}
	for (unsigned level : leaf_levels()) {
		Way way(facts, root_level, ipa_bits);
		auto cpu = hardware(way.memory, true);
		u64 entry =
			s2_leaf_entry(f, hpa(s2_span(f, level)), {S2_RW, S2_NORMAL, false}, level) &
			~f->accessed;

		way.put(0, level, entry);
		EXPECT_EQ(way.get(0, root_level) & f->accessed_table, 0u);
		EXPECT_TRUE(cpu->access(way.s2, 0, Try::Read).ok);
		EXPECT_EQ(way.get(0, level), entry | f->accessed);
		for (unsigned above = level + 1; above <= root_level; above++) {
			EXPECT_EQ(way.get(0, above) & f->accessed_table, f->accessed_table);
		}

		EXPECT_TRUE(cpu->access(way.s2, 0, Try::Write).ok);
		if (f->log_is_hardware) {
			// Write withheld, with the mark: hardware gives it back.
			EXPECT_EQ(way.get(0, level), entry | f->accessed);
			way.put(0, level, (entry | f->log) & ~f->write);
			EXPECT_TRUE(cpu->access(way.s2, 0, Try::Write).ok);
			EXPECT_EQ(way.get(0, level), entry | f->log | f->accessed);
		} else {
			EXPECT_EQ(way.get(0, level), entry | f->accessed | f->dirty);
			way.put(0, level, (entry | f->log) & ~f->write);
			EXPECT_FALSE(cpu->access(way.s2, 0, Try::Write).ok);
		}
	}
}

TEST_P(S2Format, hardware_finds_nothing_behind_absent_entries)
{
	if (facts.kind == Kind::Fake) {
		GTEST_SKIP() << "no such hardware";
	}
	auto [root_level, ipa_bits] = shapes(facts).back();
	Way way(facts, root_level, ipa_bits);
	auto cpu = hardware(way.memory);

	for (unsigned level = 0; level <= root_level; level++) {
		for (enum s2_kind kind : kAbsentKinds) {
			for (u64 payload : payloads()) {
				way.put(0, level, s2_absent_entry(f, kind, payload));
				Result r = cpu->access(way.s2, 0, Try::Read);

				EXPECT_FALSE(r.ok || r.is_leaf || r.exception);
				expect_no_complaints(r);
			}
		}
		way.put(0, level, f->empty);
	}
}

TEST_P(S2Format, hardware_takes_the_contiguous_hint_where_the_format_has_it)
{
	if (!f->contiguous) {
		for (u8 size : f->contiguous_log2) {
			EXPECT_EQ(size, 0);
		}
		return;
	}
	auto [root_level, ipa_bits] = shapes(facts).back();
	Way way(facts, root_level, ipa_bits);
	auto cpu = hardware(way.memory);

	for (unsigned level : leaf_levels()) {
		u64 count = BIT(f->contiguous_log2[level]), span = s2_span(f, level);
		u64 to = (count * span) & output_mask();

		if (count == 1 || level > root_level || to == 0) {
			continue;
		}
		for (u64 i = 0; i < count; i++) {
			way.put(i * span, level,
				s2_leaf_entry(f, hpa(to + i * span), {S2_RWX, S2_NORMAL, false},
					      level) |
					f->contiguous);
		}
		for (u64 i = 0; i < count; i++) {
			Result r = cpu->access(way.s2, i * span, Try::Read);

			EXPECT_TRUE(r.ok && r.contiguous);
			EXPECT_EQ(r.pa, to + i * span);
			expect_no_complaints(r);
		}
		// One less, and the walker sees that the group is broken: its size is what we say.
		way.put((count - 1) * span, level, f->empty);
		EXPECT_FALSE(cpu->access(way.s2, 0, Try::Read).complaints.empty());
		for (u64 i = 0; i < count; i++) {
			way.put(i * span, level, f->empty);
		}
	}
}

// ---- What one format alone has --------------------------------------------------------------

const Facts &facts_of(const struct s2_format *format)
{
	for (const Facts &facts : kFormats) {
		if (facts.format == format) {
			return facts;
		}
	}
	throw std::logic_error("no such format");
}

TEST(S2Ept, what_is_forbidden_is_told_to_the_guest_only_where_it_asked)
{
	for (bool notify : {false, true}) {
		const Facts &facts = facts_of(&s2_ept);
		Way way(facts, 3, 48);
		Ept cpu(facts, way.memory);

		way.put(0, 0, s2_leaf_entry(&s2_ept, hpa(MIB(2)), {S2_READ, S2_NORMAL, notify}, 0));
		EXPECT_EQ(cpu.access(way.s2, 0, Try::Write).exception, notify);
		EXPECT_TRUE(cpu.access(way.s2, 0, Try::Read).ok);
	}
}

// A CPU without flags knows nothing of what they mean to us: to it, the entry is misconfigured.
TEST(S2Ept, the_first_use_of_a_page_exits_where_the_cpu_has_no_flags)
{
	const struct s2_format *f = &s2_ept_software;
	Way way(facts_of(f), 3, 48);
	model::ept::Features features = Ept::wide();
	model::ept::Registers registers;

	features.accessed_dirty = false;
	registers.eptp = s2_ept_pointer(&way.s2, false);
	for (unsigned level = 0; level <= 2; level++) {
		for (u8 memory : {S2_NORMAL, S2_FORCED}) {
			model::ept::Walker cpu(features, way.memory);
			u64 used = s2_leaf_entry(f, hpa(GIB(1)), {S2_RX, memory, false}, level);

			EXPECT_EQ(used & ~f->accessed, used - f->accessed);
			for (bool again : {false, true}) {
				way.put(0, level, again ? used : used & ~f->accessed);
				for (auto what :
				     {model::x86::Access::Read, model::x86::Access::Write,
				      model::x86::Access::ExecuteSupervisor}) {
					model::x86::Walk w = cpu.translate(registers, 0, what);
					bool writes = what == model::x86::Access::Write;

					EXPECT_EQ(w.fault,
						  !again   ? model::x86::FaultKind::Malformed
						  : writes ? model::x86::FaultKind::Forbidden
							   : model::x86::FaultKind::None)
						<< w.text();
				}
			}
			EXPECT_EQ(f->decode(used & ~f->accessed, level > 0).memory, memory);
			EXPECT_EQ(f->decode(used & ~f->accessed, level > 0).perm, S2_RX);
		}
		way.put(0, level, f->empty);
	}
}

// The least that a CPU with L1TF has: 44 bits of address that the L1 cache is looked up by.
TEST(S2Ept, absent_entries_name_no_memory_that_the_l1_cache_may_hold)
{
	for (const Facts &facts : kFormats) {
		model::ept::Features features = Ept::wide();
		u64 leads = GIB(64) - PAGE_SIZE;

		if (facts.kind != Kind::Ept) {
			continue;
		}
		features.pa_bits = 44;
		features.l1_may_hold = [](u64 start, u64 end) {
			return start < GIB(64) && end > PAGE_SIZE;
		};
		Way way({facts.name, facts.format, facts.kind, 44, facts.mbec, false, false}, 3,
			48);
		Ept cpu(facts, way.memory, features);

		for (unsigned level = 0; level <= 3; level++) {
			for (enum s2_kind kind : kAbsentKinds) {
				for (u64 payload : payloads()) {
					u64 entry = s2_absent_entry(facts.format, kind,
								    payload & BITS(27, 0));

					way.put(0, level, entry);
					expect_no_complaints(cpu.access(way.s2, 0, Try::Read));
				}
				way.put(0, level,
					s2_leading_entry(facts.format, kind, pointer(leads), level,
							 true));
				expect_no_complaints(cpu.access(way.s2, 0, Try::Read));
			}
			way.put(0, level, facts.format->empty);
			expect_no_complaints(cpu.access(way.s2, 0, Try::Read));
		}
	}
}

TEST(S2Npt, absent_entries_name_the_upper_half_of_memory_too)
{
	for (u64 payload : payloads()) {
		for (enum s2_kind kind : kAbsentKinds) {
			u64 entry = s2_absent_entry(&s2_npt, kind, payload & BITS(27, 0));

			EXPECT_GE(entry & BITS(43, 12), BIT(43));
		}
	}
}

TEST(S2Ept, the_pointer_says_how_long_a_walk_is)
{
	struct s2 s2 = {};

	s2.top = pointer(0x123456000);
	s2.format = &s2_ept;
	EXPECT_EQ(s2_ept_pointer(&s2, false), 0x12345601eu); // write-back, 4 levels
	EXPECT_EQ(s2_ept_pointer(&s2, true), 0x12345605eu);
	s2.format = &s2_ept5;
	EXPECT_EQ(s2_ept_pointer(&s2, true), 0x123456066u);
}

TEST(S2Ept, an_entry_has_the_bits_of_the_manual)
{
	EXPECT_EQ(s2_leaf_entry(&s2_ept, hpa(0x12345000), {S2_RWX, S2_NORMAL, false}, 0),
		  BIT(63) | 0x12345000 | BIT(8) | 6 << 3 | 7);
	EXPECT_EQ(s2_leaf_entry(&s2_ept_mbec, hpa(MIB(2)),
				{S2_READ | S2_EXEC_USER, S2_FORCED, true}, 1),
		  MIB(2) | BIT(10) | BIT(8) | BIT(7) | BIT(6) | 6 << 3 | 1);
	EXPECT_EQ(s2_table_entry(&s2_ept, pointer(0x1000)), 0x1007u);
	EXPECT_EQ(s2_table_entry(&s2_ept_mbec, pointer(0x1000)), 0x1407u);
}

TEST(S2Npt, an_entry_has_the_bits_of_the_manual)
{
	EXPECT_EQ(s2_leaf_entry(&s2_npt, hpa(0x12345000), {S2_RWX, S2_NORMAL, false}, 0),
		  0x12345000 | BIT(5) | 7u);
	EXPECT_EQ(s2_leaf_entry(&s2_npt, hpa(MIB(2)), {S2_READ, S2_DEVICE, false}, 1),
		  BIT(63) | MIB(2) | BIT(7) | BIT(5) | 3 << 3 | 5);
	EXPECT_EQ(s2_table_entry(&s2_npt, pointer(0x1000)), 0x1007u);
}

} // namespace
