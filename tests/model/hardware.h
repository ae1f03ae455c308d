/*
 * The judges of all formats behind one face, for tests that go over every one of them: where the
 * tables are, what hardware does with an address, and what one word of a table says.
 *
 * Levels are counted from the page: 0 maps a page, whatever the manual calls it.
 */
#ifndef TESTS_MODEL_HARDWARE_H
#define TESTS_MODEL_HARDWARE_H

#include <memory>

#include "armv8_stage2.h"
#include "ept.h"
#include "npt.h"
#include "reference_map.h"

namespace model
{

enum class Verdict { Done, NotMapped, Forbidden, NotAccessed, Wrong };

/* What hardware does with an address. */
struct Sight {
	Verdict verdict = Verdict::Wrong;
	unsigned level = 0;	 /* of the last entry that was read */
	u64 start = 0, size = 0; /* what that entry spans */
	u64 pa = 0;		 /* of the byte; good when there is a leaf */
	unsigned perm = 0;	 /* REF_... */
	MemoryType memory = MemoryType::Device;
	bool ignore_pat = false, accessed = false, dirty = false;
	bool contiguous = false; /* a TLB may hold all of its group as one */
	bool complaint = false;	 /* see text() */
};

/* What one word of a table says, by itself. */
struct Word {
	enum Kind { Nothing, Table, Leaf } kind = Nothing;
	u64 pa = 0; /* of the table, or of the leaf's first byte */
	unsigned perm = 0;
	MemoryType memory = MemoryType::Device;
	bool ignore_pat = false;
	bool contiguous = false;
	bool fetchable = false; /* a TLB may hold it: its accessed flag is set, or there is none */
	bool dirty = false;	/* a write by it does not look at the tables again */
	std::string complaint;
};

class Hardware
{
      public:
	virtual ~Hardware() = default;

	virtual Sight look(u64 ipa) = 0;
	/* `perm`: one of REF_..., what is tried. */
	virtual Sight access(u64 ipa, unsigned perm) = 0;
	virtual Word word(unsigned level, u64 ipa, u64 value) = 0;
	/* The table that an entry of `level` leads to on the way to `ipa`, or 0. */
	virtual u64 table_at(u64 ipa, unsigned level) = 0;
	virtual std::string text(u64 ipa) = 0;
	virtual std::string difference(const ReferenceMap &map,
				       const ReferenceMap::Excused &excused) = 0;
	/* "" or why hardware would not run with these registers. */
	virtual std::string refusal() = 0;

	/* The shape of the tables. */
	u64 root = 0, root_entries = 0;
	unsigned root_level = 0, page_shift = 12, index_bits = 9;
	u64 present = 1; /* any of these bits: not an entry that says nothing */

	unsigned shift(unsigned level) const
	{
		return page_shift + index_bits * level;
	}
	u64 span(unsigned level) const
	{
		return u64(1) << shift(level);
	}
	u64 entries(unsigned level) const
	{
		return level == root_level ? root_entries : u64(1) << index_bits;
	}
};

std::unique_ptr<Hardware> hardware(Walker &walker, const Registers &registers);
std::unique_ptr<Hardware> hardware(ept::Walker &walker, const ept::Registers &registers);
std::unique_ptr<Hardware> hardware(npt::Walker &walker, const npt::Registers &registers);

} // namespace model

#endif
