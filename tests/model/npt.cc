/* See npt.h. Sections are those of the APM, volume 2. */
#include "npt.h"

namespace model
{
namespace npt
{
namespace
{

using x86::Access;
using x86::bit;
using x86::Config;
using x86::FaultKind;
using x86::format;
using x86::mask;
using x86::Rights;
using x86::Walk;

/* Entries (5.3.3). */
constexpr u64 PRESENT = bit(0), WRITE = bit(1), USER = bit(2);
constexpr u64 ACCESSED = bit(5), DIRTY = bit(6);
constexpr u64 LARGE = bit(7); /* at level 1 it is PAT */
constexpr unsigned PWT = 3, PCD = 4, PAT_OF_PAGE = 7, PAT_OF_LARGE = 12;
constexpr u64 NO_EXECUTE = bit(63);

constexpr u64 CR4_PAE = bit(5), CR4_LA57 = bit(12);
constexpr u64 EFER_LMA = bit(10), EFER_NXE = bit(11);

/* EXITINFO1 (15.25.6). */
constexpr u64 INFO_PRESENT = bit(0), INFO_WRITE = bit(1), INFO_USER = bit(2);
constexpr u64 INFO_RESERVED = bit(3), INFO_FETCH = bit(4);
constexpr u64 INFO_FINAL = bit(32), INFO_TABLE = bit(33);

} // namespace

Config Walker::decode(const Registers &registers) const
{
	Config c;

	c.levels = registers.cr4 & CR4_LA57 ? 5 : 4;
	c.root = registers.ncr3 & mask(51, 12);
	c.tag = registers.asid;
	c.flags = true;
	c.accessed = ACCESSED;
	c.dirty = DIRTY;
	c.no_execute = registers.efer & EFER_NXE;
	c.pat = registers.pat;
	if (!(registers.efer & EFER_LMA) || !(registers.cr4 & CR4_PAE)) {
		c.error = "the host is not in long mode";
	} else if (c.levels == 5 && !features_.five_levels) {
		c.error = "CR4.LA57 on a CPU without it";
	} else if (c.no_execute && !features_.no_execute) {
		c.error = "EFER.NXE on a CPU without it";
	} else if (registers.ncr3 & mask(63, features_.pa_bits)) {
		c.error = format("nCR3 0x%llx has reserved bits set", registers.ncr3);
	} else if (registers.asid == 0) {
		c.error = "ASID 0 is the host's";
	}
	if (registers.ncr3 & mask(11, 0)) {
		c.complaints.push_back(
			format("nCR3 0x%llx has bits below the table's address", registers.ncr3));
	}
	return c;
}

bool Walker::is_large(int level, u64 entry) const
{
	return (entry & LARGE) && (level == 2 || (level == 3 && features_.large_1g));
}

/* Must be zero in an entry that is present (figures 5-19 to 5-29). */
u64 Walker::reserved_bits(const Config &c, int level, u64 entry) const
{
	u64 reserved = mask(51, features_.pa_bits) | (c.no_execute ? 0 : NO_EXECUTE);

	if (level >= 4) {
		return reserved | mask(8, 7);
	}
	if (is_large(level, entry)) {
		return reserved | mask(c.shift(level) - 1, 13);
	}
	return level == 3 ? reserved | LARGE : reserved;
}

Walker::Entry Walker::classify(const Config &c, int level, u64 entry, std::string *why) const
{
	if (!(entry & PRESENT)) {
		return Entry::Absent;
	}
	u64 reserved = entry & reserved_bits(c, level, entry);

	if (reserved != 0) {
		if (why != nullptr) {
			*why = format("entry 0x%llx has reserved bits 0x%llx set", entry, reserved);
		}
		return Entry::Malformed;
	}
	return level == 1 || is_large(level, entry) ? Entry::Leaf : Entry::Table;
}

/* Guest accesses are user accesses (15.25.5): without U/S nothing is allowed. */
Rights Walker::rights(const Config &c, u64 entry) const
{
	bool user = entry & USER;
	Rights r;

	r.read = user;
	r.write = user && (entry & WRITE);
	r.execute_supervisor = r.execute_user = user && !(c.no_execute && (entry & NO_EXECUTE));
	return r;
}

u64 Walker::address(u64 entry, unsigned shift) const
{
	return entry & mask(51, shift);
}

/* PAT, PCD and PWT choose one of eight types (7.8.1). */
void Walker::decode_memory(const Config &c, int level, u64 entry, Walk &w) const
{
	unsigned pat = level == 1 ? PAT_OF_PAGE : PAT_OF_LARGE;
	unsigned index =
		unsigned((entry >> pat & 1) << 2 | (entry >> PCD & 1) << 1 | (entry >> PWT & 1));

	if (!x86::memory_type_of(unsigned(c.pat >> (8 * index)) & 7, &w.memory)) {
		w.complaints.push_back(
			format("entry 0x%llx chooses a reserved type of the PAT", entry));
	}
}

/* The CPU's accesses to the guest's page tables are writes (15.25.5). */
Access Walker::treated_as(const Config &, Access access) const
{
	return access == Access::TableRead ? Access::TableWrite : access;
}

void Walker::explain_fault(const Config &c, Access access, Walk &w) const
{
	bool table = access == Access::TableRead || access == Access::TableWrite;
	bool fetch = access == Access::ExecuteSupervisor || access == Access::ExecuteUser;

	if (w.fault == FaultKind::NoMemory) {
		return;
	}
	w.qualification = INFO_USER | (table ? INFO_TABLE : INFO_FINAL);
	w.qualification |= w.fault != FaultKind::Absent ? INFO_PRESENT : 0;
	w.qualification |= table || access == Access::Write ? INFO_WRITE : 0;
	w.qualification |= w.fault == FaultKind::Malformed ? INFO_RESERVED : 0;
	w.qualification |= fetch && c.no_execute ? INFO_FETCH : 0;
}

} // namespace npt
} // namespace model
