/* See x86_tlb.h. Sections are the SDM's (volume 3C) and the APM's (volume 2). */
#include "x86_tlb.h"

#include <algorithm>

namespace model
{
namespace x86
{
namespace
{

std::string hex(u64 v)
{
	return format("0x%llx", v);
}

unsigned log2_of(u64 size)
{
	return 63 - unsigned(__builtin_clzll(size));
}

bool contains(const TlbEntry &e, u64 gpa)
{
	return gpa >= e.gpa && gpa < e.gpa + e.size;
}

bool is_same(const TlbEntry &a, const TlbEntry &b)
{
	return a.kind == b.kind && a.level == b.level && a.pa == b.pa && a.memory == b.memory &&
	       a.ignore_pat == b.ignore_pat && a.rights == b.rights && a.linear_tag == b.linear_tag;
}

} // namespace

std::string TlbEntry::text() const
{
	static const char *const kinds[] = {"guest-physical", "combined", "global combined",
					    "table"};

	return std::string(kinds[kind]) + " entry GPA " + hex(gpa) + " size " + hex(size) + " to " +
	       hex(pa);
}

Tlb::Tlb(Walker &walker, unsigned cpus, bool two_sizes_hurt, bool violation_forgets)
    : walker_(walker), two_sizes_hurt_(two_sizes_hurt), violation_forgets_(violation_forgets),
      cpus_(cpus)
{
}

void Tlb::error(const std::string &sentence)
{
	if (std::find(errors_.begin(), errors_.end(), sentence) == errors_.end()) {
		errors_.push_back(sentence);
	}
}

void Tlb::enter(unsigned cpu, const Config &config)
{
	if (!config.error.empty()) {
		error("CPU " + std::to_string(cpu) + " cannot enter: " + config.error);
		return;
	}
	cpus_[cpu].running = config;
	prefetch(cpus_[cpu]);
}

void Tlb::leave(unsigned cpu)
{
	prefetch(cpus_[cpu]);
	cpus_[cpu].running.reset();
}

/* What old and new say of one address that both span. Only what one cache holds is compared. */
void Tlb::complain_if_conflict(const TlbEntry &old, const TlbEntry &entry)
{
	bool code = old.rights.execute_supervisor || old.rights.execute_user;
	std::string what;

	code = code && (entry.rights.execute_supervisor || entry.rights.execute_user);
	if (old.kind != entry.kind || old.linear_tag != entry.linear_tag ||
	    entry.kind == TlbEntry::Table) {
		return; /* either table may be walked: what is found there is compared */
	}
	if (old.pa - old.gpa != entry.pa - entry.gpa) {
		what = "to two frames";
	} else if (old.memory != entry.memory || old.ignore_pat != entry.ignore_pat) {
		what = "with two memory types";
	} else if (two_sizes_hurt_ && code && old.size != entry.size) {
		what = "as code with two sizes";
	}
	if (!what.empty()) {
		error("one address is mapped " + what + ": " + old.text() +
		      " may be cached still; new is " + entry.text());
	}
}

/* Against every entry that overlaps, of each size that there is. */
void Tlb::check_against(const Space &space, const TlbEntry &entry)
{
	for (auto any = space.begin(); any != space.end();) {
		unsigned shift = any->first.first;
		auto it = space.lower_bound({shift, entry.gpa >> shift << shift});

		for (; it != space.end() && it->first.first == shift &&
		       it->first.second < entry.gpa + entry.size;
		     ++it) {
			for (const TlbEntry &old : it->second) {
				complain_if_conflict(old, entry);
			}
		}
		any = space.lower_bound({shift + 1, 0});
	}
}

void Tlb::insert(Space &space, const TlbEntry &entry)
{
	std::vector<TlbEntry> &here = space[{log2_of(entry.size), entry.gpa}];

	for (TlbEntry &old : here) {
		if (is_same(old, entry)) {
			old.dirty |= entry.dirty;
			return;
		}
	}
	check_against(space, entry);
	here.push_back(entry);
}

/* Whatever the entries under it are, the pointer is cached; but only once it is accessed. */
void Tlb::remember_table(Space &space, const Config &config, const Walk &walk)
{
	const Step &step = walk.steps.back();

	if (!config.flags || walk.all_accessed) {
		insert(space,
		       {TlbEntry::Table, step.level, walk.start, bit(config.shift(step.level)),
			step.next, MemoryType::WriteBack, false, step.rights, false, 0});
	}
}

void Tlb::remember_leaf(Space &space, const Config &config, const Walk &walk)
{
	bool legal = walk.ok() || walk.fault == FaultKind::Forbidden;
	bool dirty = !config.flags || walk.dirty;

	if (!legal || !walk.is_leaf() || walk.unused || (config.flags && !walk.all_accessed)) {
		return;
	}
	TlbEntry leaf = {TlbEntry::GuestPhysical,
			 walk.level,
			 walk.start,
			 walk.size,
			 walk.pa_start,
			 walk.memory,
			 walk.ignore_pat,
			 walk.rights,
			 dirty,
			 0};

	insert(space, leaf);
	leaf.linear_tag = config.linear_tag;
	leaf.kind = TlbEntry::Combined;
	insert(space, leaf);
	leaf.kind = TlbEntry::Global;
	insert(space, leaf);
}

void Tlb::prefetch(Cpu &cpu)
{
	if (!cpu.running) {
		return;
	}
	const Config &config = *cpu.running;
	Space &space = cpu.spaces[config.tag];

	walker_.for_each(config, [&](const Walk &walk, bool table) {
		if (table) {
			remember_table(space, config, walk);
		} else {
			remember_leaf(space, config, walk);
		}
	});
}

void Tlb::prefetch_all()
{
	for (Cpu &cpu : cpus_) {
		prefetch(cpu);
	}
}

/*
 * The tables forbid the access; could the CPU do it by what it remembers? By a leaf that allows it,
 * or by way of a table that is not linked there any more, whatever is in that now.
 */
bool Tlb::may_not_notice(unsigned cpu, const Walk &walk, u64 gpa, Access access)
{
	for (const TlbEntry &e : cached(cpu, cpus_[cpu].running->tag, gpa)) {
		bool linked = false;

		for (const Step &step : walk.steps) {
			linked |= step.level == e.level && step.next == e.pa;
		}
		if (e.kind == TlbEntry::Table ? !linked : e.rights.allow(access)) {
			return true;
		}
	}
	return false;
}

Walk Tlb::access(unsigned cpu, u64 gpa, Access access)
{
	if (!is_in_guest(cpu)) {
		error("an access of CPU " + std::to_string(cpu) + ", which is in no guest");
		return Walk();
	}
	const Config config = *cpus_[cpu].running;

	prefetch(cpus_[cpu]);
	Walk walk = walker_.translate(config, gpa, access);
	bool violation = walk.fault == FaultKind::Absent || walk.fault == FaultKind::Forbidden;

	if (violation && violation_forgets_ && !may_not_notice(cpu, walk, gpa, access)) {
		forget(cpu, config.tag, [&](const TlbEntry &e) {
			return contains(e, gpa) &&
			       (!e.is_combined() || e.linear_tag == config.linear_tag);
		});
	}
	prefetch(cpus_[cpu]); /* with the flags that the access has set */
	return walk;
}

void Tlb::forget(unsigned cpu, std::optional<u64> tag, const Doom &doom)
{
	for (auto &[id, space] : cpus_[cpu].spaces) {
		if (tag && *tag != id) {
			continue;
		}
		for (auto it = space.begin(); it != space.end();) {
			std::vector<TlbEntry> &here = it->second;

			here.erase(std::remove_if(here.begin(), here.end(), doom), here.end());
			it = here.empty() ? space.erase(it) : std::next(it);
		}
	}
}

std::vector<TlbEntry> Tlb::cached(unsigned cpu, u64 tag, u64 gpa) const
{
	std::vector<TlbEntry> found;
	auto space = cpus_[cpu].spaces.find(tag);

	if (space == cpus_[cpu].spaces.end()) {
		return found;
	}
	for (const auto &[place, entries] : space->second) {
		for (const TlbEntry &e : entries) {
			if (contains(e, gpa)) {
				found.push_back(e);
			}
		}
	}
	return found;
}

size_t Tlb::count() const
{
	size_t sum = 0;

	for (const Cpu &cpu : cpus_) {
		for (const auto &[tag, space] : cpu.spaces) {
			for (const auto &[place, entries] : space) {
				sum += entries.size();
			}
		}
	}
	return sum;
}

std::string Tlb::why_stale_table(const Config &config, const TlbEntry &entry)
{
	for (const Step &step : walker_.look(config, entry.gpa).steps) {
		if (step.level == entry.level && step.next == entry.pa) {
			return entry.rights.within(step.rights) ? "" : "its entry now allows less";
		}
	}
	return "the table is not linked there any more";
}

/* "" when the tables still say what the entry says, for every address of it. */
std::string Tlb::why_stale(const Config &config, const TlbEntry &entry)
{
	if (entry.kind == TlbEntry::Table) {
		return why_stale_table(config, entry);
	}
	for (u64 at = entry.gpa; at < entry.gpa + entry.size;) {
		Walk w = walker_.look(config, at);

		if (!w.ok()) {
			return "the tables have an " + w.text() + " at " + hex(at);
		}
		if (w.pa != entry.pa + (at - entry.gpa)) {
			return "the tables translate " + hex(at) + " to " + hex(w.pa);
		}
		if (w.memory != entry.memory || w.ignore_pat != entry.ignore_pat) {
			return "the memory type of " + hex(at) + " is another";
		}
		if (!entry.rights.within(w.rights)) {
			return "the tables allow less at " + hex(at);
		}
		if (config.flags && entry.dirty && entry.rights.write && !w.dirty) {
			return "a write would leave " + hex(at) + " marked clean";
		}
		at = w.start + w.size;
	}
	return "";
}

void Tlb::stale_of(unsigned cpu, std::vector<std::string> &list)
{
	const Config &config = *cpus_[cpu].running;

	for (const auto &[place, entries] : cpus_[cpu].spaces[config.tag]) {
		for (const TlbEntry &e : entries) {
			bool usable = !e.is_combined() || e.linear_tag == config.linear_tag;
			std::string why = usable ? why_stale(config, e) : "";

			if (!why.empty()) {
				list.push_back("CPU " + std::to_string(cpu) + ": " + e.text() +
					       ": " + why);
			}
		}
	}
}

std::vector<std::string> Tlb::stale()
{
	std::vector<std::string> list;

	for (unsigned cpu = 0; cpu < cpus_.size(); cpu++) {
		if (is_in_guest(cpu)) {
			stale_of(cpu, list);
		}
	}
	return list;
}

} // namespace x86

namespace ept
{

using x86::TlbEntry;

bool Tlb::is_refused(unsigned cpu, const char *name)
{
	prefetch_all();
	if (is_in_guest(cpu)) {
		error(std::string(name) + " by CPU " + std::to_string(cpu) +
		      " while it is in the guest");
		return true;
	}
	return false;
}

/* 29.4.3.1, and INVEPT in chapter 31. */
void Tlb::invept(unsigned cpu, unsigned type, u64 eptp)
{
	if (is_refused(cpu, "INVEPT")) {
		return;
	}
	if (type == ALL_CONTEXT) {
		forget(cpu, {}, [](const TlbEntry &) { return true; });
	} else if (type == SINGLE_CONTEXT) {
		forget(cpu, eptp & x86::mask(51, 12), [](const TlbEntry &) { return true; });
	} else {
		error(x86::format("INVEPT of type %llu, which there is not", type));
	}
}

/* 29.4.3.1, and INVVPID in chapter 31. VPID 0 is the host's. */
void Tlb::invvpid(unsigned cpu, unsigned type, u64 vpid, u64 linear)
{
	bool every_vpid = type == 2;
	bool globals_stay = type == VPID_RETAINING_GLOBALS;

	if (is_refused(cpu, "INVVPID")) {
		return;
	}
	if (type > 3 || (vpid == 0 && !every_vpid)) {
		error(x86::format("INVVPID of type %llu with VPID %llu fails", type, vpid));
		return;
	}
	forget(cpu, {}, [=](const TlbEntry &e) {
		bool here = type != VPID_ADDRESS || (linear >= e.gpa && linear < e.gpa + e.size);
		bool mine = every_vpid ? e.linear_tag != 0 : e.linear_tag == vpid;

		return e.is_combined() && mine && here &&
		       !(globals_stay && e.kind == TlbEntry::Global);
	});
}

} // namespace ept

namespace npt
{

using x86::TlbEntry;

/* 15.16.2, table 15-9. What is not listed there makes VMRUN fail, or is undefined. */
void Tlb::vmrun(unsigned cpu, const x86::Config &config, unsigned tlb_control)
{
	bool by_asid = tlb_control == FLUSH_ASID || tlb_control == FLUSH_ASID_NOT_GLOBAL;

	prefetch_all();
	if (is_in_guest(cpu)) {
		error("VMRUN by CPU " + std::to_string(cpu) + " while it is in the guest");
		return;
	}
	if ((tlb_control > 1 && !by_asid) || (by_asid && !flush_by_asid_)) {
		error(x86::format("VMRUN with TLB_CONTROL %llu, which the CPU does not have",
				  tlb_control));
		return;
	}
	if (tlb_control == FLUSH_ALL) {
		forget(cpu, {}, [](const TlbEntry &) { return true; });
	} else if (tlb_control == FLUSH_ASID) {
		forget(cpu, config.tag, [](const TlbEntry &) { return true; });
	} else if (tlb_control == FLUSH_ASID_NOT_GLOBAL) {
		forget(cpu, config.tag,
		       [](const TlbEntry &e) { return e.kind == TlbEntry::Combined; });
	}
	enter(cpu, config);
}

void Tlb::invlpga(unsigned cpu, u64 linear, u64 asid)
{
	prefetch_all();
	forget(cpu, asid, [=](const TlbEntry &e) {
		return e.is_combined() && linear >= e.gpa && linear < e.gpa + e.size;
	});
}

} // namespace npt
} // namespace model
