/* See x86_walk.h. */
#include "x86_walk.h"

#include <cstdio>

namespace model
{
namespace x86
{

std::string format(const char *text, u64 a, u64 b)
{
	char line[200];

	std::snprintf(line, sizeof(line), text, (unsigned long long)a, (unsigned long long)b);
	return line;
}

bool memory_type_of(unsigned encoding, MemoryType *type)
{
	switch (encoding) {
	case 0: /* UC, and UC- */
	case 7:
		*type = MemoryType::Device;
		return true;
	case 1: /* WC */
		*type = MemoryType::NonCacheable;
		return true;
	case 4:
		*type = MemoryType::WriteThrough;
		return true;
	case 5:
		*type = MemoryType::WriteProtect;
		return true;
	case 6:
		*type = MemoryType::WriteBack;
		return true;
	default:
		*type = MemoryType::Reserved;
		return false;
	}
}

Rights Rights::operator&(const Rights &o) const
{
	Rights both;

	both.read = read && o.read;
	both.write = write && o.write;
	both.execute_supervisor = execute_supervisor && o.execute_supervisor;
	both.execute_user = execute_user && o.execute_user;
	return both;
}

bool Rights::allow(Access access) const
{
	switch (access) {
	case Access::Write:
	case Access::TableWrite:
		return write;
	case Access::ExecuteSupervisor:
		return execute_supervisor;
	case Access::ExecuteUser:
		return execute_user;
	default:
		return read;
	}
}

std::string Walk::text() const
{
	static const char *const names[] = {"ok",
					    "absent entry",
					    "forbidden access",
					    "malformed entry",
					    "table that is no memory",
					    "page that was not used"};
	std::string line = names[unsigned(fault)] + format(" at level %llu", u64(level));

	if (is_leaf()) {
		line += format(": pa 0x%llx ", pa);
		line += rights.read ? 'r' : '-';
		line += rights.write ? 'w' : '-';
		line += rights.execute_supervisor ? 'x' : '-';
		line += rights.execute_user ? 'u' : '-';
	}
	if (!steps.empty()) {
		line += format(", entry 0x%llx", steps.back().value);
	}
	for (const std::string &complaint : complaints) {
		line += "; " + complaint;
	}
	return line;
}

std::string Walker::hazard(const Config &, int, u64) const
{
	return "";
}

void Walker::take_leaf(const Config &c, int level, Walk &w)
{
	u64 entry = w.steps.back().value;

	w.size = bit(c.shift(level));
	w.pa_start = address(entry, c.shift(level));
	w.accessed = c.unused_type ? !w.unused : (entry & c.accessed) != 0;
	w.dirty = entry & c.dirty;
	decode_memory(c, level, entry, w);
}

/* An entry was read: what becomes of the walk. */
Walker::Next Walker::take_entry(const Config &c, u64 address_of, u64 value, int level, Walk &w)
{
	std::string why;
	Entry kind = classify(c, level, value, &why);

	w.level = level;
	w.steps.push_back({level, address_of, value, 0, w.rights});
	if (kind == Entry::Absent) {
		w.fault = FaultKind::Absent;
		why = hazard(c, level, value);
	} else if (kind == Entry::Malformed) {
		w.fault = FaultKind::Malformed;
	}
	if (!why.empty()) {
		w.complaints.push_back(why);
	}
	if (!w.ok()) {
		return Next::Stop;
	}
	w.rights = w.rights & rights(c, value);
	w.steps.back().rights = w.rights;
	w.all_accessed = w.all_accessed && (value & c.accessed);
	if (kind == Entry::Table) {
		w.steps.back().next = address(value, 12);
		return Next::Table;
	}
	w.unused = kind == Entry::Unused;
	take_leaf(c, level, w);
	return Next::Leaf;
}

Walk Walker::take(const Config &c, u64 gpa, int level, u64 entry)
{
	Walk w;

	w.start = gpa;
	w.all_accessed = true;
	take_entry(c, 0, entry, level, w);
	w.pa = w.pa_start;
	return w;
}

Walk Walker::look(const Config &c, u64 gpa)
{
	Walk w;
	u64 table = c.root;

	w.complaints = c.complaints;
	w.start = gpa;
	w.all_accessed = true;
	if (!c.error.empty() || (gpa >> c.gpa_bits()) != 0) {
		w.fault = FaultKind::Absent;
		w.level = c.levels;
		if (!c.error.empty()) {
			w.complaints.push_back(c.error);
		}
		return w;
	}
	for (int level = c.levels;; level--) {
		u64 at = table + ((gpa >> c.shift(level)) & 511) * 8, value = 0;

		w.start = gpa & ~(bit(c.shift(level)) - 1);
		if (!memory_.read(at, &value)) {
			w.fault = FaultKind::NoMemory;
			w.level = level;
			return w;
		}
		if (take_entry(c, at, value, level, w) != Next::Table) {
			w.pa = w.is_leaf() ? w.pa_start | (gpa & (w.size - 1)) : 0;
			return w;
		}
		table = w.steps.back().next;
	}
}

/*
 * The flags that the access sets, from the root down, each by an atomic update. False: an entry
 * changed meanwhile, and the CPU walks again.
 */
bool Walker::update_flags(const Config &c, Access access, Walk &w)
{
	size_t count = w.steps.size();

	if (!c.flags || (!w.ok() && !accessed_despite_fault_)) {
		return true;
	}
	if (w.fault == FaultKind::Absent || w.fault == FaultKind::Malformed) {
		count -= count != 0; /* the flags of such an entry are no flags */
	}
	for (size_t i = 0; i < count; i++) {
		Step &step = w.steps[i];
		bool leaf = w.is_leaf() && i + 1 == count;
		bool writes = access == Access::Write || access == Access::TableWrite;
		u64 updated = step.value | c.accessed | (leaf && w.ok() && writes ? c.dirty : 0);
		u64 found;

		if (updated != step.value &&
		    !memory_.compare_and_swap(step.address, step.value, updated, &found)) {
			return false;
		}
		step.value = updated;
	}
	if (w.is_leaf()) {
		w.accessed = w.all_accessed = true;
		w.dirty = w.steps.back().value & c.dirty;
	}
	return true;
}

Walk Walker::translate(const Config &c, u64 gpa, Access access)
{
	Access as = treated_as(c, access);

	for (;;) {
		Walk w = look(c, gpa);

		/* In this order: a misconfiguration is found as the entry is read (29.3.3.3). */
		if (w.ok() && w.unused) {
			w.fault = FaultKind::NotAccessed;
		} else if (w.ok() && !w.rights.allow(as)) {
			w.fault = FaultKind::Forbidden;
		}
		if (!w.ok()) {
			explain_fault(c, access, w);
		}
		if (update_flags(c, as, w)) {
			return w;
		}
	}
}

void Walker::visit_entry(const Config &c, u64 at, u64 start, int level, const Walk &above,
			 const Visitor &fn)
{
	u64 value = 0;
	bool there = memory_.read(at, &value);

	/* Most entries are absent, and nothing is to be said of them: no copy is made. */
	if (there && classify(c, level, value, nullptr) == Entry::Absent &&
	    hazard(c, level, value).empty()) {
		return;
	}
	Walk w = above;

	w.start = start;
	if (!there) {
		w.fault = FaultKind::NoMemory;
		w.level = level;
		fn(w, false);
	} else if (take_entry(c, at, value, level, w) == Next::Table) {
		fn(w, true);
		w.complaints.clear();
		visit(c, w.steps.back().next, start, level - 1, w, fn);
	} else {
		w.pa = w.pa_start;
		fn(w, false);
	}
}

void Walker::visit(const Config &c, u64 table, u64 start, int level, const Walk &above,
		   const Visitor &fn)
{
	for (u64 index = 0; index < 512; index++) {
		visit_entry(c, table + index * 8, start + (index << c.shift(level)), level, above,
			    fn);
	}
}

void Walker::for_each(const Config &c, const Visitor &fn)
{
	Walk top;

	top.all_accessed = true;
	if (c.error.empty()) {
		visit(c, c.root, 0, c.levels, top, fn);
	}
}

std::string Walker::complaints(const Config &c)
{
	std::string all = c.error;

	for (const std::string &complaint : c.complaints) {
		all += complaint + "\n";
	}
	for_each(c, [&](const Walk &w, bool) {
		if (!w.complaints.empty() || !w.ok()) {
			all += format("GPA 0x%llx: ", w.start) + w.text() + "\n";
		}
	});
	return all;
}

} // namespace x86
} // namespace model
