/* See armv8_tlb.h. Sections are those of DDI 0487, issue J. */
#include "armv8_tlb.h"

#include <algorithm>
#include <cstdio>

namespace model
{
namespace
{

constexpr int ANY_LEVEL = TlbiRange::ANY_LEVEL;

constexpr u64 bits(u64 v, unsigned hi, unsigned lo)
{
	return (v >> lo) & (~u64(0) >> (63 - (hi - lo)));
}

std::string hex(u64 v)
{
	char text[32];

	std::snprintf(text, sizeof(text), "0x%llx", (unsigned long long)v);
	return text;
}

/*
 * Which entries a hint reaches: a leaf of another level need not go; walk caches go from the root
 * down to the hinted level, unless only the last level was asked for.
 */
bool reaches(const TlbEntry &e, int hint, bool last_level)
{
	if (e.kind == TlbEntry::Table) {
		return !last_level && (hint == ANY_LEVEL || e.level < hint);
	}
	return e.kind == TlbEntry::Stage2 && (hint == ANY_LEVEL || e.level == hint);
}

unsigned log2_of(u64 size)
{
	return 63 - unsigned(__builtin_clzll(size));
}

} // namespace

std::string TlbEntry::text() const
{
	static const char *const kinds[] = {"stage-2", "combined", "table"};

	return std::string(kinds[kind]) + " entry IPA " + hex(ipa) + " size " + hex(size) + " to " +
	       hex(pa);
}

ModelTlb::ModelTlb(Walker &walker, unsigned cpus, unsigned bbm_level)
    : walker_(walker), bbm_level_(bbm_level), pes_(cpus)
{
}

void ModelTlb::error(const std::string &sentence)
{
	if (std::find(errors_.begin(), errors_.end(), sentence) == errors_.end()) {
		errors_.push_back(sentence);
	}
}

void ModelTlb::attach(const Registers &registers)
{
	u64 vmid = walker_.decode(registers).vmid;

	for (auto &pe : pes_) {
		if (!pe[vmid].empty() && !attached_.count(vmid)) {
			error("VMID " + std::to_string(vmid) +
			      " was given to another space with old entries still cached");
		}
	}
	if (attached_.count(vmid) && attached_[vmid].vttbr != registers.vttbr) {
		error("VMID " + std::to_string(vmid) + " is in use for two spaces");
	}
	attached_[vmid] = registers;
	fetched_[vmid] = Seen();
	prefetch_all();
}

void ModelTlb::detach(const Registers &registers)
{
	u64 vmid = walker_.decode(registers).vmid;

	attached_.erase(vmid);
	fetched_.erase(vmid);
}

/*
 * May both be cached at once (D8.14.1)? Permissions, access flag and dirty state may change under a
 * live entry; output address, memory type and size may not.
 */
void ModelTlb::complain_if_conflict(const TlbEntry &old, const TlbEntry &entry)
{
	bool tables = old.kind == TlbEntry::Table && entry.kind == TlbEntry::Table;
	bool leaves = old.kind != TlbEntry::Table && entry.kind != TlbEntry::Table;
	std::string what;

	if (tables) {
		if (old.level == entry.level && old.pa != entry.pa) {
			what = "a table was replaced by another";
		}
	} else if (!leaves) {
		/* A table spans what its descriptor spans: a leaf of that size or more replaces it.
		 */
		const TlbEntry &table = old.kind == TlbEntry::Table ? old : entry;
		const TlbEntry &leaf = old.kind == TlbEntry::Table ? entry : old;

		if (leaf.level <= table.level && bbm_level_ < 2) {
			what = &leaf == &old ? "a block became a table" : "a table became a block";
		}
	} else if (old.pa - old.ipa != entry.pa - entry.ipa) {
		what = "the output address changed";
	} else if (old.memory != entry.memory) {
		what = "the memory type changed";
	} else if (bbm_level_ < 2 && old.size != entry.size) {
		what = "the block size changed";
	} else if (bbm_level_ < 2 && old.contiguous != entry.contiguous) {
		what = "the contiguous bit changed";
	}
	if (!what.empty()) {
		error("no break-before-make: " + what + " while " + old.text() +
		      " may be cached; new is " + entry.text());
	}
}

/* Every entry that overlaps [start, end), of each size that there is. */
template <typename Any, typename Fn>
void ModelTlb::each_overlap(Any &space, u64 start, u64 end, Fn fn)
{
	for (auto any = space.begin(); any != space.end();) {
		unsigned shift = any->first.first;
		auto it = space.lower_bound({shift, start >> shift << shift});

		for (; it != space.end() && it->first.first == shift && it->first.second < end;
		     ++it) {
			for (auto &entry : it->second) {
				fn(entry);
			}
		}
		any = space.lower_bound({shift + 1, 0});
	}
}

void ModelTlb::check_against(const Space &space, const TlbEntry &entry)
{
	each_overlap(space, entry.ipa, entry.ipa + entry.size,
		     [&](const TlbEntry &old) { complain_if_conflict(old, entry); });
}

void ModelTlb::insert(Space &space, const TlbEntry &entry)
{
	std::vector<TlbEntry> &here = space[{log2_of(entry.size), entry.ipa}];

	for (TlbEntry &old : here) {
		if (old.kind == entry.kind && old.level == entry.level && old.pa == entry.pa &&
		    old.memory == entry.memory && old.rights == entry.rights &&
		    old.contiguous == entry.contiguous) {
			old.doomed = false; /* fetched anew after the invalidation */
			old.descriptor_address = entry.descriptor_address;
			old.descriptor = entry.descriptor;
			return;
		}
	}
	check_against(space, entry);
	here.push_back(entry);
}

void ModelTlb::remember_table(unsigned cpu, u64 vmid, const Config &config, u64 ipa,
			      const Step &step)
{
	u64 size = u64(1) << config.shift(step.level);

	insert(pes_[cpu][vmid],
	       {TlbEntry::Table, step.level, ipa & ~(size - 1), size, step.next,
		MemoryType::WriteBack, Rights(), false, false, step.address, step.value});
}

/* Leaves are cached only when they do not fault. */
void ModelTlb::remember_leaf(unsigned cpu, u64 vmid, const Walk &walk)
{
	bool legal = walk.ok() || walk.fault == FaultKind::Permission;

	if (legal && walk.size != 0 && walk.accessed) {
		TlbEntry leaf = {TlbEntry::Stage2,
				 walk.level,
				 walk.ipa_start,
				 walk.size,
				 walk.pa_start,
				 walk.memory,
				 walk.rights,
				 walk.contiguous,
				 false,
				 walk.descriptor_address,
				 walk.descriptor};

		insert(pes_[cpu][vmid], leaf);
		leaf.kind = TlbEntry::Combined;
		insert(pes_[cpu][vmid], leaf);
	}
}

/* Table descriptors on the way are remembered whatever the leaf is. */
Walk ModelTlb::access(unsigned cpu, const Registers &registers, u64 ipa, Access access)
{
	Config config = walker_.decode(registers);
	Walk walk = walker_.translate(registers, ipa, access);

	for (const Step &step : walk.steps) {
		if (step.next != 0) {
			remember_table(cpu, config.vmid, config, ipa, step);
		}
	}
	remember_leaf(cpu, config.vmid, walk);
	return walk;
}

void ModelTlb::prefetch_all()
{
	for (const auto &[vmid, registers] : attached_) {
		Config config = walker_.decode(registers);

		walker_.for_each_new(
			registers, fetched_[vmid], [&, vmid = vmid](const Walk &walk, bool table) {
				for (unsigned cpu = 0; cpu < pes_.size(); cpu++) {
					if (table) {
						remember_table(cpu, vmid, config, walk.ipa_start,
							       walk.steps.back());
					} else {
						remember_leaf(cpu, vmid, walk);
					}
				}
			});
	}
}

/*
 * What could have been fetched until now, was; and what the tables still say is fetched again at
 * once, so only what they do not say any more goes.
 */
void ModelTlb::invalidate(int cpu, u64 vmid, bool every_vmid, u64 start, u64 end, const Doom &doom)
{
	prefetch_all();
	for (unsigned pe = 0; pe < pes_.size(); pe++) {
		if (cpu != ALL && unsigned(cpu) != pe) {
			continue;
		}
		for (auto &[id, space] : pes_[pe]) {
			auto fetched = fetched_.find(id);
			const Seen *seen = fetched == fetched_.end() ? nullptr : &fetched->second;

			if (!every_vmid && id != vmid) {
				continue;
			}
			each_overlap(space, start, end, [&](TlbEntry &e) {
				if (!e.doomed && doom(e) &&
				    !(seen &&
				      seen->has(e.descriptor_address, e.descriptor, e.ipa))) {
					e.doomed = any_doomed_ = true;
				}
			});
		}
	}
}

/* Xt: IPA[47:12] in [35:0], IPA[51:48] in [39:36], TTL in [47:44]. */
TlbiRange decode_ipas2e1(u64 operand, const Features &features)
{
	u64 ipa = bits(operand, 39, 0) << 12;
	unsigned granule = unsigned(bits(operand, 47, 46));
	int hint = int(bits(operand, 45, 44));

	/* TTL[3:2] == 0: no hint. Level 0 of a granule is a hint with FEAT_LPA2 alone. */
	if (granule == 0 || (hint == 0 && !features.lpa2)) {
		hint = ANY_LEVEL;
	}
	return {ipa, ipa + 1, hint, ""};
}

/* Xt: BaseADDR in [36:0], TTL in [38:37], NUM in [43:39], SCALE in [45:44], TG in [47:46]. */
TlbiRange decode_ripas2e1(u64 operand, const Config &config)
{
	static const unsigned granules[4] = {0, 12, 14, 16};
	unsigned shift = granules[bits(operand, 47, 46)];
	int hint = bits(operand, 38, 37) == 0 ? ANY_LEVEL : int(bits(operand, 38, 37));

	if (shift != config.granule_shift) {
		return {0, 0, ANY_LEVEL,
			"RIPAS2E1 names another granule than the tables have: nothing is "
			"invalidated"};
	}
	u64 start = bits(operand, 36, 0) << (config.ds ? 16 : shift);
	u64 pages = (bits(operand, 43, 39) + 1) << (5 * bits(operand, 45, 44) + 1);

	if (hint != ANY_LEVEL && (start & ((u64(1) << config.shift(hint)) - 1)) != 0) {
		return {0, 0, ANY_LEVEL,
			"RIPAS2E1 of " + hex(start) +
				" is not aligned to its level hint: UNPREDICTABLE"};
	}
	return {start, start + (pages << shift), hint, ""};
}

void ModelTlb::ipas2e1(u64 vmid, u64 operand, int cpu, bool last_level)
{
	TlbiRange range = decode_ipas2e1(operand, walker_.features());

	invalidate(cpu, vmid, false, range.start, range.end,
		   [=](const TlbEntry &e) { return reaches(e, range.level, last_level); });
}

void ModelTlb::ripas2e1(u64 vmid, u64 operand, int cpu, bool last_level)
{
	auto space = attached_.find(vmid);

	if (space == attached_.end()) {
		return;
	}
	TlbiRange range = decode_ripas2e1(operand, walker_.decode(space->second));

	if (!range.error.empty()) {
		error(range.error);
		return;
	}
	invalidate(cpu, vmid, false, range.start, range.end,
		   [=](const TlbEntry &e) { return reaches(e, range.level, last_level); });
}

void ModelTlb::vmalle1(u64 vmid, int cpu)
{
	invalidate(cpu, vmid, false, 0, ~u64(0),
		   [](const TlbEntry &e) { return e.kind == TlbEntry::Combined; });
}

void ModelTlb::vmalls12e1(u64 vmid, int cpu)
{
	invalidate(cpu, vmid, false, 0, ~u64(0), [](const TlbEntry &) { return true; });
}

void ModelTlb::alle1(int cpu)
{
	invalidate(cpu, 0, true, 0, ~u64(0), [](const TlbEntry &) { return true; });
}

void ModelTlb::dsb()
{
	prefetch_all();
	if (!any_doomed_) {
		return;
	}
	any_doomed_ = false;
	for (auto &pe : pes_) {
		for (auto &[vmid, space] : pe) {
			for (auto it = space.begin(); it != space.end();) {
				std::vector<TlbEntry> &entries = it->second;

				entries.erase(
					std::remove_if(entries.begin(), entries.end(),
						       [](const TlbEntry &e) { return e.doomed; }),
					entries.end());
				it = entries.empty() ? space.erase(it) : std::next(it);
			}
		}
	}
}

std::vector<TlbEntry> ModelTlb::cached(unsigned cpu, u64 vmid, u64 ipa) const
{
	std::vector<TlbEntry> found;
	auto space = pes_[cpu].find(vmid);

	if (space == pes_[cpu].end()) {
		return found;
	}
	each_overlap(space->second, ipa, ipa + 1, [&](const TlbEntry &e) { found.push_back(e); });
	return found;
}

size_t ModelTlb::count() const
{
	size_t sum = 0;

	for (const auto &pe : pes_) {
		for (const auto &[vmid, space] : pe) {
			for (const auto &[place, entries] : space) {
				sum += entries.size();
			}
		}
	}
	return sum;
}

/* "" when the tables still say what the entry says, for every address of it. */
std::string ModelTlb::why_stale(const Registers &registers, const TlbEntry &entry)
{
	if (entry.kind == TlbEntry::Table) {
		for (const Step &step : walker_.look(registers, entry.ipa).steps) {
			if (step.level == entry.level && step.next == entry.pa) {
				return "";
			}
		}
		return "the table is not linked there any more";
	}
	for (u64 at = entry.ipa; at < entry.ipa + entry.size;) {
		Walk w = walker_.look(registers, at);

		if (!w.ok()) {
			return "the tables have a " + w.text() + " at " + hex(at);
		}
		if (w.pa != entry.pa + (at - entry.ipa)) {
			return "the tables translate " + hex(at) + " to " + hex(w.pa);
		}
		if (w.memory != entry.memory) {
			return "the memory type of " + hex(at) + " is another";
		}
		if (!entry.rights.within(w.rights)) {
			return "the tables allow less at " + hex(at);
		}
		at = w.ipa_start + w.size;
	}
	return "";
}

std::vector<std::string> ModelTlb::stale()
{
	std::vector<std::string> list;

	for (const auto &[vmid, registers] : attached_) {
		for (unsigned cpu = 0; cpu < pes_.size(); cpu++) {
			for (const auto &[place, entries] : pes_[cpu][vmid]) {
				for (const TlbEntry &e : entries) {
					std::string why = why_stale(registers, e);

					if (!why.empty()) {
						list.push_back("CPU " + std::to_string(cpu) +
							       " VMID " + std::to_string(vmid) +
							       ": " + e.text() + ": " + why);
					}
				}
			}
		}
	}
	return list;
}

} // namespace model
