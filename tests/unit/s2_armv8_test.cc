// What is in the bits: ARMv8's entries, VTCR_EL2 and invalidation operands against the manual's
// numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "../model/armv8_tlb.h"
#include "../model/sparse_memory.h"

extern "C" {
#include "../../arch/arm64/s2_armv8.h"
#include "../../arch/arm64/s2_tlbi.h"
#include "../../arch/arm64/s2_vtcr.h"
#include "hyp/s2_cursor.h"
}

namespace
{

const struct s2_attr kRwx = {S2_RWX, S2_NORMAL, false};

const struct s2_format *const kFormats[] = {
	&s2_armv8_4k,		&s2_armv8_4k_xnx,  &s2_armv8_4k_fwb,	  &s2_armv8_16k,
	&s2_armv8_16k_xnx,	&s2_armv8_16k_fwb, &s2_armv8_64k,	  &s2_armv8_64k_xnx,
	&s2_armv8_64k_fwb,	&s2_armv8_4k_lpa2, &s2_armv8_4k_lpa2_fwb, &s2_armv8_16k_lpa2,
	&s2_armv8_16k_lpa2_fwb, &s2_armv8_64k_lpa, &s2_armv8_64k_lpa_fwb,
};

bool is_wide(const struct s2_format *f)
{
	return f->address_high != 0;
}

bool is_lpa2(const struct s2_format *f)
{
	return is_wide(f) && f->page_shift != 16;
}

TEST(S2Armv8, a_normal_writable_page_has_the_bits_of_the_manual)
{
	u64 entry = s2_leaf_entry(&s2_armv8_4k, hpa(0x12345000), kRwx, 0);

	// page, AF, inner shareable, S2AP = read/write, MemAttr = write-back, XN = 0
	EXPECT_EQ(entry, 0x12345000ull | 3 | BIT(10) | (3ull << 8) | (3ull << 6) | (0xfull << 2));
}

TEST(S2Armv8, a_block_is_told_from_a_table_by_bit_1)
{
	EXPECT_EQ(s2_leaf_entry(&s2_armv8_4k, hpa(MIB(2)), kRwx, 1) & 3, 1u);
	EXPECT_TRUE(s2_entry_is_leaf(&s2_armv8_4k, MIB(2) | 1, 1));
	EXPECT_TRUE(s2_entry_is_table(&s2_armv8_4k, MIB(2) | 3, 1));
	EXPECT_TRUE(s2_entry_is_leaf(&s2_armv8_4k, MIB(2) | 3, 0));
}

TEST(S2Armv8, vtcr_for_40_bits_starts_at_the_manuals_level_1)
{
	struct s2 s2 = {};
	struct s2_armv8_features features = {
		.pa_range = 2, .hardware_access = true, .vmid16 = true, .hardware_dirty = false};

	s2.format = &s2_armv8_4k;
	s2.ipa_bits = 40;
	s2.root_level = 2;
	EXPECT_EQ(s2_armv8_vtcr(&s2, features), BIT(31) | 24 | (1ull << 6) | (1ull << 8) |
							(1ull << 10) | (3ull << 12) | (2ull << 16) |
							BIT(19) | BIT(21));
}

// The ranges of one operand after another cover every page once, whatever the count.
TEST(S2Armv8, range_operands_cover_exactly_what_was_asked)
{
	for (u64 pages = 1; pages < 5000; pages += pages < 200 ? 1 : 97) {
		u64 ipa = 0x40000000, left = pages;
		int instructions = 0;

		while (left > 0) {
			u64 taken, operand = s2_armv8_range_operand(&s2_armv8_4k, ipa, left,
								    S2_LEVELS_MAX, &taken);
			u64 num = field_get(operand, BITS(43, 39)),
			    scale = field_get(operand, BITS(45, 44));

			EXPECT_EQ(operand & BITS(36, 0), ipa >> 12);
			EXPECT_EQ(field_get(operand, BITS(47, 46)), 1u);
			EXPECT_EQ(field_get(operand, BITS(38, 37)), 0u);
			ASSERT_GT(taken, 0u);
			ASSERT_GE((num + 1) << (5 * scale + 1), taken) << "a page would be missed";
			ASSERT_LE(taken, left);
			ipa += taken << 12;
			left -= taken;
			instructions++;
		}
		EXPECT_LE(instructions, 4) << pages;
	}
}

TEST(S2Armv8, the_level_hint_counts_as_the_manual_does)
{
	u64 taken;

	EXPECT_EQ(field_get(s2_armv8_range_operand(&s2_armv8_4k, 0, 1, 0, &taken), BITS(38, 37)),
		  3u);
	EXPECT_EQ(field_get(s2_armv8_range_operand(&s2_armv8_4k, 0, 512, 1, &taken), BITS(38, 37)),
		  2u);
}

// Every size of space that a root level of every format can have, as the walker reads it.
TEST(S2Armv8, vtcr_says_what_the_space_is_like)
{
	for (const struct s2_format *f : kFormats) {
		model::SparseMemory memory;
		model::Features features;

		features.pa_bits = is_wide(f) ? 52 : 48;
		features.lpa2 = is_lpa2(f);
		for (unsigned level = f->root_level_min; level < f->levels; level++) {
			unsigned shift = f->page_shift + level * f->index_bits;
			unsigned most = std::min(shift + f->index_bits + 4, features.pa_bits);

			for (unsigned bits = std::max(shift + 1, 25u); bits <= most; bits++) {
				struct s2 s2 = {};

				s2.format = f;
				s2.ipa_bits = u8(bits);
				s2.root_level = u8(level);
				SCOPED_TRACE(std::string(f->name) + ", level " +
					     std::to_string(level) + ", " + std::to_string(bits));
				model::Config c =
					model::Walker(features, memory)
						.decode({s2_armv8_vtcr(&s2, {6, true, true, true}),
							 0, false});

				EXPECT_EQ(c.error, "");
				EXPECT_TRUE(c.complaints.empty()) << c.complaints[0];
				EXPECT_EQ(c.granule_shift, f->page_shift);
				EXPECT_EQ(c.ia_bits, bits);
				EXPECT_EQ(c.oa_bits, features.pa_bits);
				EXPECT_EQ(c.start_level, 3 - int(level));
				EXPECT_EQ(c.root_entries, BIT(bits - shift));
				EXPECT_EQ(c.ds, is_lpa2(f));
				EXPECT_TRUE(c.ha && c.hd);
				EXPECT_EQ(c.shareability, 3u);
			}
		}
	}
}

TEST(S2Armv8, vtcr_has_flags_only_where_the_cpu_has_them)
{
	struct s2 s2 = {};

	s2.format = &s2_armv8_4k;
	s2.ipa_bits = 40;
	s2.root_level = 2;
	for (unsigned i = 0; i < 8; i++) {
		bool access = i & 1, vmid16 = i & 2, dirty = i & 4;
		u64 vtcr = s2_armv8_vtcr(&s2, {5, access, vmid16, dirty});

		EXPECT_EQ((vtcr & BIT(21)) != 0, access);
		EXPECT_EQ((vtcr & BIT(22)) != 0, access && dirty) << "HD is nothing without HA";
		EXPECT_EQ((vtcr & BIT(19)) != 0, vmid16);
	}
}

TEST(S2Armv8, output_addresses_have_no_more_bits_than_entries_hold)
{
	for (const struct s2_format *f : kFormats) {
		struct s2 s2 = {};

		s2.format = f;
		s2.ipa_bits = 40;
		s2.root_level = 2;
		for (unsigned range = 0; range <= 7; range++) {
			u64 vtcr = s2_armv8_vtcr(&s2, {range, false, false, false});

			EXPECT_EQ(field_get(vtcr, BITS(18, 16)),
				  std::min(range, is_wide(f) ? 6u : 5u))
				<< f->name << " " << range;
		}
	}
}

// A space with leaves of one level from `first` on, its tables made by hand; and a TLB that has
// seen all of it.
struct Remembered {
	static constexpr u64 kRoot = MIB(64), kTables = GIB(1), kVmid = 5;

	Remembered(const struct s2_format *f, unsigned level, u64 first, u64 count)
	{
		model::Features features;
		u64 tables = kTables;

		features.pa_bits = is_wide(f) ? 52 : 48;
		features.lpa2 = is_lpa2(f);
		features.small_tables = false;
		s2.format = f;
		s2.root_level = u8(std::min(f->levels - 1, 3));
		s2.ipa_bits = u8(std::min<unsigned>(
			features.pa_bits, f->page_shift + (s2.root_level + 1) * f->index_bits));
		root_entries = BIT(s2.ipa_bits - f->page_shift - s2.root_level * f->index_bits);
		memory.table(kRoot, root_entries * 8);
		for (u64 i = 0; i < count; i++) {
			u64 at = first + i * s2_span(f, level), table = kRoot;

			for (unsigned l = s2.root_level; l > level; l--) {
				u64 &entry = memory.words.at(table +
							     8 * s2_index(f, at, l, s2.root_level));

				if (entry == 0) {
					entry = s2_table_entry(f, reinterpret_cast<void *>(tables));
					memory.table(tables, BIT(f->page_shift));
					tables += BIT(f->page_shift);
				}
				table = s2_entry_hpa(f, entry).v;
			}
			memory.words.at(table + 8 * s2_index(f, at, level, s2.root_level)) =
				s2_leaf_entry(f, hpa(at), {S2_RWX, S2_NORMAL, false}, level);
		}
		walker = std::make_unique<model::Walker>(features, memory);
		tlb = std::make_unique<model::ModelTlb>(*walker);
		registers = {s2_armv8_vtcr(&s2, {6, false, true, false}), kRoot | kVmid << 48,
			     false};
		tlb->attach(registers);
		tlb->prefetch_all();
	}

	// Nothing is mapped any more; what the TLB has of it goes by `flush` alone.
	void unmap_and_flush(struct s2_armv8_flush flush)
	{
		u64 operand;

		for (u64 i = 0; i < root_entries; i++) {
			memory.words[kRoot + 8 * i] = 0;
		}
		for (;;) {
			enum s2_armv8_tlbi tlbi = s2_armv8_flush_next(&flush, &operand);

			if (tlbi == FLUSH_DONE) {
				break;
			}
			instructions++;
			if (tlbi == FLUSH_IPAS2E1IS) {
				tlb->ipas2e1(kVmid, operand);
			} else if (tlbi == FLUSH_RIPAS2E1IS) {
				tlb->ripas2e1(kVmid, operand);
			} else {
				tlb->vmalls12e1(kVmid);
			}
		}
		tlb->dsb();
		tlb->vmalle1(kVmid);
		tlb->dsb();
	}

	struct s2 s2 = {};
	model::SparseMemory memory;
	std::unique_ptr<model::Walker> walker;
	std::unique_ptr<model::ModelTlb> tlb;
	model::Registers registers;
	u64 root_entries, instructions = 0;
};

TEST(S2Armv8, invalidations_of_every_granule_forget_what_was_asked)
{
	for (const struct s2_format *f : kFormats) {
		for (unsigned level = 0; s2_level_may_be_leaf(f, level); level++) {
			for (bool by_range : {false, true}) {
				for (unsigned said : {level, unsigned(S2_LEVELS_MAX)}) {
					u64 span = s2_span(f, level), first = 3 * span, count = 5;
					Remembered r(f, level, first, count);

					SCOPED_TRACE(std::string(f->name) + ", level " +
						     std::to_string(level) +
						     (by_range ? ", by range" : "") +
						     (said == level ? ", with hint" : ""));
					ASSERT_FALSE(r.tlb->cached(0, r.kVmid, first).empty());
					r.unmap_and_flush({f, first, first + count * span, said,
							   by_range, true});
					EXPECT_TRUE(r.tlb->errors().empty()) << r.tlb->errors()[0];
					for (u64 i = 0; i < count; i++) {
						for (auto &e :
						     r.tlb->cached(0, r.kVmid, first + i * span)) {
							// With a hint tables may stay.
							EXPECT_TRUE(said == level &&
								    e.kind ==
									    model::TlbEntry::Table)
								<< e.text();
						}
					}
				}
			}
		}
	}
}

std::vector<std::pair<enum s2_armv8_tlbi, u64>> flushes(u64 pages, unsigned level, bool by_range,
							bool ttl)
{
	struct s2_armv8_flush flush = {&s2_armv8_4k, MIB(64),  MIB(64) + pages * PAGE_SIZE,
				       level,	     by_range, ttl};
	std::vector<std::pair<enum s2_armv8_tlbi, u64>> list;
	enum s2_armv8_tlbi tlbi;
	u64 operand;

	while ((tlbi = s2_armv8_flush_next(&flush, &operand)) != FLUSH_DONE) {
		list.emplace_back(tlbi, operand);
	}
	return list;
}

TEST(S2Armv8, few_leaves_go_one_by_one_and_many_with_the_whole_space)
{
	for (unsigned level : {0u, 1u}) {
		u64 leaf = BIT(9 * level);
		auto few = flushes(512 * leaf, level, false, true);
		auto many = flushes(513 * leaf, level, false, true);

		ASSERT_EQ(few.size(), 512u);
		for (u64 i = 0; i < 512; i++) {
			u64 hint = 4 | (3 - level);

			EXPECT_EQ(few[i].first, FLUSH_IPAS2E1IS);
			EXPECT_EQ(few[i].second, (MIB(64) >> 12) + i * leaf + (hint << 44));
		}
		ASSERT_EQ(many.size(), 1u);
		EXPECT_EQ(many[0].first, FLUSH_VMALLS12E1IS);
	}
	EXPECT_EQ(flushes(1, 0, false, false)[0].second, MIB(64) >> 12)
		<< "no hint without FEAT_TTL";
	EXPECT_EQ(flushes(3, S2_LEVELS_MAX, false, true).size(), 3u)
		<< "of any level: page by page";
}

TEST(S2Armv8, a_range_goes_in_few_instructions_where_there_are_ranges)
{
	auto all = flushes(BIT(18) + 512 + 3, S2_LEVELS_MAX, true, true);

	EXPECT_LE(all.size(), 4u);
	for (auto &[tlbi, operand] : all) {
		EXPECT_EQ(tlbi, FLUSH_RIPAS2E1IS);
	}
	EXPECT_TRUE(flushes(0, 0, true, true).empty());
}

// What the batch reckons with is never less than what it takes, and little more.
TEST(S2Armv8, the_cost_of_a_flush_bounds_its_instructions)
{
	for (u64 pages : std::vector<u64>{1, 3, 515, BIT(18) + 515, BIT(21) + 1, 5 * BIT(21) + 7}) {
		size_t taken = flushes(pages, S2_LEVELS_MAX, true, true).size();
		u64 cost = s2_armv8_flush_cost(&s2_armv8_4k, pages << 12, S2_LEVELS_MAX, true);

		EXPECT_GE(cost, taken) << pages;
		EXPECT_LE(cost, taken + 4) << pages;
	}
	EXPECT_EQ(s2_armv8_flush_cost(&s2_armv8_4k, 7 << 12, S2_LEVELS_MAX, false), 7u);
	EXPECT_EQ(s2_armv8_flush_cost(&s2_armv8_4k, MIB(14), 1, false), 7u);
}

// With LPA2 an instruction begins at a multiple of 64 KiB, so may begin early; it covers all the
// same, and goes on.
TEST(S2Armv8, ranges_of_every_format_cover_what_was_asked)
{
	for (const struct s2_format *f : kFormats) {
		unsigned base_shift = is_lpa2(f) ? 16 : f->page_shift;
		u64 page = BIT(f->page_shift);

		for (u64 pages = 1; pages < 3000; pages += pages < 100 ? 1 : 61) {
			for (u64 start : {GIB(1), GIB(1) + page, GIB(1) + 7 * page}) {
				u64 ipa = start, left = pages;
				int instructions = 0;

				while (left > 0) {
					u64 taken, operand = s2_armv8_range_operand(
							   f, ipa, left, S2_LEVELS_MAX, &taken);
					u64 from = (operand & BITS(36, 0)) << base_shift;
					u64 count = (field_get(operand, BITS(43, 39)) + 1)
						    << (5 * field_get(operand, BITS(45, 44)) + 1);

					ASSERT_GT(taken, 0u);
					ASSERT_LE(taken, left);
					ASSERT_LE(from, ipa);
					ASSERT_LT(ipa - from, KIB(64));
					ASSERT_GE(from + count * page, ipa + taken * page)
						<< f->name << ": a page would be missed";
					ASSERT_EQ(field_get(operand, BITS(47, 46)),
						  f->page_shift == 12	? 1u
						  : f->page_shift == 14 ? 2u
									: 3u);
					ipa += taken * page;
					left -= taken;
					instructions++;
				}
				ASSERT_LE(instructions, 6) << f->name << " " << pages;
			}
		}
	}
}

TEST(S2Armv8, single_invalidations_say_granule_and_level)
{
	struct {
		const struct s2_format *format;
		unsigned level;
		u64 ttl;
	} cases[] = {
		{&s2_armv8_4k, 0, 7},	   {&s2_armv8_4k, 2, 5},   {&s2_armv8_16k, 0, 11},
		{&s2_armv8_16k, 1, 10},	   {&s2_armv8_64k, 1, 14}, {&s2_armv8_64k_lpa, 2, 13},
		{&s2_armv8_4k_lpa2, 3, 0},
	};

	for (auto &c : cases) {
		u64 span = s2_span(c.format, c.level), operand;
		struct s2_armv8_flush flush = {c.format, span, 2 * span, c.level, false, true};

		EXPECT_EQ(s2_armv8_flush_next(&flush, &operand), FLUSH_IPAS2E1IS);
		EXPECT_EQ(operand, span >> 12 | c.ttl << 44) << c.format->name << " " << c.level;
		EXPECT_EQ(s2_armv8_flush_next(&flush, &operand), FLUSH_DONE);
	}
}

} // namespace
