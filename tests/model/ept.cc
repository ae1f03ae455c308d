/* See ept.h. Sections are those of the SDM, volume 3C, of 2023. */
#include "ept.h"

namespace model
{
namespace ept
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

/* Entries: tables 29-1 to 29-7. */
constexpr u64 READ = bit(0), WRITE = bit(1), EXECUTE = bit(2);
constexpr u64 IGNORE_PAT = bit(6), LARGE = bit(7);
constexpr u64 ACCESSED = bit(8), DIRTY = bit(9);
constexpr u64 EXECUTE_USER = bit(10);
constexpr u64 SUPPRESS_EXCEPTION = bit(63);

/* EPTP: table 25-9. */
constexpr u64 EPTP_FLAGS = bit(6);
constexpr u64 EPTP_SHADOW_STACK = bit(7);

unsigned memory_type(u64 entry)
{
	return unsigned(entry >> 3) & 7;
}

u64 present_bits(const Config &c)
{
	return READ | WRITE | EXECUTE | (c.user_execute ? EXECUTE_USER : 0);
}

constexpr unsigned WRITE_BACK = 6;
constexpr unsigned UNUSED = 2; /* reserved, and a host's to use (Registers::unused_type) */

/* Exit qualification bits 0 to 2: what was tried (table 28-7). */
u64 tried(const Config &c, Access access)
{
	switch (access) {
	case Access::Read:
		return 1;
	case Access::Write:
		return 2;
	case Access::ExecuteSupervisor:
	case Access::ExecuteUser:
		return 4;
	default:
		/* With A/D flags on, the CPU's own accesses to guest tables are both. */
		return c.flags ? 3 : access == Access::TableRead ? 1 : 2;
	}
}

} // namespace

Config Walker::decode(const Registers &registers) const
{
	const u64 eptp = registers.eptp;
	unsigned length = unsigned(eptp >> 3) & 7;
	Config c;

	c.levels = int(length) + 1;
	c.root = c.tag = eptp & mask(51, 12);
	c.linear_tag = registers.vpid;
	c.accessed = ACCESSED;
	c.dirty = DIRTY;
	c.flags = eptp & EPTP_FLAGS;
	c.user_execute = registers.mode_based_execute;
	c.exceptions = registers.violation_exceptions;
	c.unused_type = registers.unused_type;
	if ((eptp & 7) != 6 && !((eptp & 7) == 0 && features_.uncached_walk)) {
		c.error = format("EPTP 0x%llx has an unsupported memory type", eptp);
	} else if (length != 3 && !(length == 4 && features_.five_levels)) {
		c.error = format("EPTP 0x%llx has an unsupported page-walk length", eptp);
		c.levels = 4;
	} else if (c.flags && !features_.accessed_dirty) {
		c.error = format("EPTP 0x%llx enables flags that the CPU does not have", eptp);
	} else if (eptp & (EPTP_SHADOW_STACK | mask(11, 8) | mask(63, features_.pa_bits))) {
		c.error = format("EPTP 0x%llx has reserved bits set", eptp);
	}
	if ((eptp & 7) == 0) {
		c.complaints.push_back("EPTP makes every walk uncached");
	}
	return c;
}

bool Walker::is_large(int level, u64 entry) const
{
	return (entry & LARGE) &&
	       ((level == 2 && features_.large_2m) || (level == 3 && features_.large_1g));
}

/* Must be 0 in an entry that is present (tables 29-1 to 29-7). */
u64 Walker::reserved_bits(int level, u64 entry) const
{
	u64 beyond = mask(51, features_.pa_bits);

	if (level == 1) {
		return beyond;
	}
	if (is_large(level, entry)) {
		return beyond | mask(12 + 9 * unsigned(level - 1) - 1, 12);
	}
	return beyond | mask(7, 3);
}

/* Section 29.3.3.1; "" when the entry is well-formed. */
std::string Walker::misconfiguration(const Config &c, int level, u64 entry) const
{
	u64 execute = EXECUTE | (c.user_execute ? EXECUTE_USER : 0);
	u64 reserved = entry & reserved_bits(level, entry);
	bool leaf = level == 1 || is_large(level, entry);
	MemoryType type;

	if (!(entry & READ) && (entry & WRITE)) {
		return format("entry 0x%llx is writable and not readable", entry);
	}
	if (!(entry & READ) && (entry & execute) && !features_.execute_only) {
		return format("entry 0x%llx is execute-only, which the CPU does not have", entry);
	}
	if (reserved != 0) {
		return format("entry 0x%llx has reserved bits 0x%llx set", entry, reserved);
	}
	if (leaf && (!x86::memory_type_of(memory_type(entry), &type) || memory_type(entry) == 7)) {
		return format("entry 0x%llx has reserved memory type %llu", entry,
			      memory_type(entry));
	}
	if (leaf && c.unused_type && memory_type(entry) != WRITE_BACK) {
		return format("entry 0x%llx has memory type %llu, which can be no unused page's",
			      entry, memory_type(entry));
	}
	return "";
}

/* Malformed by its memory type, and by nothing else. */
bool Walker::is_unused(const Config &c, int level, u64 entry) const
{
	u64 good = (entry & ~mask(5, 3)) | WRITE_BACK << 3;

	return c.unused_type && (level == 1 || is_large(level, entry)) &&
	       memory_type(entry) == UNUSED && misconfiguration(c, level, good).empty();
}

Walker::Entry Walker::classify(const Config &c, int level, u64 entry, std::string *why) const
{
	if (!(entry & present_bits(c))) {
		return Entry::Absent;
	}
	std::string reason = misconfiguration(c, level, entry);

	if (!reason.empty() && is_unused(c, level, entry)) {
		return Entry::Unused;
	}
	if (!reason.empty()) {
		if (why != nullptr) {
			*why = reason;
		}
		return Entry::Malformed;
	}
	return level == 1 || is_large(level, entry) ? Entry::Leaf : Entry::Table;
}

Rights Walker::rights(const Config &c, u64 entry) const
{
	Rights r;

	r.read = entry & READ;
	r.write = entry & WRITE;
	r.execute_supervisor = entry & EXECUTE;
	r.execute_user = entry & (c.user_execute ? EXECUTE_USER : EXECUTE);
	return r;
}

u64 Walker::address(u64 entry, unsigned shift) const
{
	return entry & mask(51, shift);
}

void Walker::decode_memory(const Config &, int, u64 entry, Walk &w) const
{
	x86::memory_type_of(w.unused ? WRITE_BACK : memory_type(entry), &w.memory);
	w.ignore_pat = entry & IGNORE_PAT;
}

/*
 * L1 terminal fault: the CPU loads ahead from the address in an entry that is not present, and of a
 * large one if bit 7 says so. Bits that it has no address lines for do not count.
 */
std::string Walker::hazard(const Config &c, int level, u64 entry) const
{
	if (!features_.l1_may_hold) {
		return "";
	}
	u64 size = level > 1 && is_large(level, entry) ? bit(c.shift(level)) : bit(12);
	u64 start = entry & mask(features_.pa_bits - 1, 12) & ~(size - 1);

	if (!features_.l1_may_hold(start, start + size)) {
		return "";
	}
	return format("L1TF: entry 0x%llx is not present and names memory at 0x%llx", entry, start);
}

/* Section 29.3.3.2. */
Access Walker::treated_as(const Config &c, Access access) const
{
	return access == Access::TableRead && c.flags ? Access::TableWrite : access;
}

/* Exit qualification (table 28-7), and whether the violation is convertible (26.5.7.1). */
void Walker::explain_fault(const Config &c, Access access, Walk &w) const
{
	bool table = access == Access::TableRead || access == Access::TableWrite;

	if (w.fault != FaultKind::Absent && w.fault != FaultKind::Forbidden) {
		return;
	}
	w.qualification = tried(c, access) | bit(7) | (table ? 0 : bit(8));
	if (w.fault == FaultKind::Forbidden) {
		w.qualification |= w.rights.read ? bit(3) : 0;
		w.qualification |= w.rights.write ? bit(4) : 0;
		w.qualification |= w.rights.execute_supervisor ? bit(5) : 0;
		w.qualification |= c.user_execute && w.rights.execute_user ? bit(6) : 0;
	}
	/* The entry that was not present, or the one that maps the page, decides. */
	w.exception =
		c.exceptions && !w.steps.empty() && !(w.steps.back().value & SUPPRESS_EXCEPTION);
}

} // namespace ept
} // namespace model
