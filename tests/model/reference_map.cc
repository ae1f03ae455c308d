/* See reference_map.h. */
#include "reference_map.h"

#include <algorithm>
#include <cstdio>

namespace model
{
namespace
{

std::string at(u64 ipa)
{
	char text[40];

	std::snprintf(text, sizeof(text), "IPA 0x%llx: ", (unsigned long long)ipa);
	return text;
}

unsigned perm_of(bool read, bool write, bool kernel, bool user)
{
	return (read ? REF_READ : 0) | (write ? REF_WRITE : 0) | (kernel ? REF_EXEC_KERNEL : 0) |
	       (user ? REF_EXEC_USER : 0);
}

u64 start_of(const Walk &walk)
{
	return walk.ipa_start;
}

u64 start_of(const x86::Walk &walk)
{
	return walk.start;
}

/* Why a walk cannot even begin, or what is wrong with the registers. */
std::string refusal(const Config &config)
{
	if (config.root_out_of_range) {
		return "the root is beyond the output size";
	}
	return config.error.empty() && !config.complaints.empty() ? config.complaints[0]
								  : config.error;
}

std::string refusal(const x86::Config &config)
{
	return config.error.empty() && !config.complaints.empty() ? config.complaints[0]
								  : config.error;
}

/* How an access ended, in the map's words. Wrong: as no map can say. */
enum class End { Done, NotMapped, Forbidden, NotAccessed, Wrong };

End end_of(const Walk &walk)
{
	switch (walk.fault) {
	case FaultKind::None:
		return End::Done;
	case FaultKind::Translation:
		return End::NotMapped;
	case FaultKind::Permission:
		return End::Forbidden;
	case FaultKind::AccessFlag:
		return End::NotAccessed;
	default:
		return End::Wrong;
	}
}

End end_of(const x86::Walk &walk)
{
	switch (walk.fault) {
	case x86::FaultKind::None:
		return End::Done;
	case x86::FaultKind::Absent:
		return End::NotMapped;
	case x86::FaultKind::Forbidden:
		return End::Forbidden;
	case x86::FaultKind::NotAccessed:
		return End::NotAccessed;
	default:
		return End::Wrong;
	}
}

template <typename Access> struct Attempt {
	Access access;
	unsigned perm;
	const char *name;
};

const Attempt<Access> *attempts(const Walker &)
{
	static const Attempt<Access> list[4] = {
		{Access::Read, REF_READ, "a read "},
		{Access::Write, REF_WRITE, "a write "},
		{Access::ExecuteEl1, REF_EXEC_KERNEL, "a fetch "},
		{Access::ExecuteEl0, REF_EXEC_USER, "a fetch from EL0 "}};

	return list;
}

const Attempt<x86::Access> *attempts(const x86::Walker &)
{
	static const Attempt<x86::Access> list[4] = {
		{x86::Access::Read, REF_READ, "a read "},
		{x86::Access::Write, REF_WRITE, "a write "},
		{x86::Access::ExecuteSupervisor, REF_EXEC_KERNEL, "a fetch "},
		{x86::Access::ExecuteUser, REF_EXEC_USER, "a fetch from user mode "}};

	return list;
}

} // namespace

struct ReferenceMap::Leaf {
	u64 start, size, pa_start;
	unsigned perm;
	MemoryType memory;
	bool accessed;
	std::optional<unsigned> shareability; /* of formats that have it, where it matters */
	std::optional<bool> ignore_pat;
};

ReferenceMap::Leaf ReferenceMap::leaf_of(const Walk &w)
{
	/* Hardware ignores the field for types that are shareable by themselves. */
	bool cacheable = w.memory == MemoryType::WriteBack || w.memory == MemoryType::WriteThrough;
	Leaf leaf = {
		w.ipa_start,
		w.size,
		w.pa_start,
		perm_of(w.rights.read, w.rights.write, w.rights.execute_el1, w.rights.execute_el0),
		w.memory,
		w.accessed,
		{},
		{}};

	if (cacheable) {
		leaf.shareability = w.shareability;
	}
	return leaf;
}

ReferenceMap::Leaf ReferenceMap::leaf_of(const x86::Walk &w)
{
	return {w.start,
		w.size,
		w.pa_start,
		perm_of(w.rights.read, w.rights.write, w.rights.execute_supervisor,
			w.rights.execute_user),
		w.memory,
		w.accessed,
		{},
		w.ignore_pat};
}

/* ---- Chunks ------------------------------------------------------------------------------------
 */

ReferencePage ReferenceMap::page_of(const Chunk &chunk, u64 index) const
{
	if (!chunk.pages.empty()) {
		return chunk.pages[index];
	}
	ReferencePage page = chunk.first;

	page.pa += index * page_size_;
	return page;
}

/* From one word for all to one for each. */
void ReferenceMap::spread(Chunk &chunk)
{
	u64 count = chunk_size_ / page_size_;

	if (!chunk.pages.empty()) {
		return;
	}
	chunk.pages.resize(count);
	for (u64 i = 0; i < count; i++) {
		ReferencePage page = chunk.first;

		page.pa += i * page_size_;
		page.present = chunk.count != 0;
		chunk.pages[i] = page;
	}
}

void ReferenceMap::map(u64 ipa, u64 size, ReferencePage page)
{
	for (u64 done = 0; done < size;) {
		u64 at = ipa + done, inside = at % chunk_size_;
		u64 part = std::min(size - done, chunk_size_ - inside);
		Chunk &chunk = chunks_[at - inside];

		pages_ -= chunk.count;
		page.present = true;
		if (part == chunk_size_) {
			chunk.pages.clear();
			chunk.first = page;
			chunk.count = part / page_size_;
			page.pa += part;
		} else {
			spread(chunk);
		}
		for (u64 i = 0; part != chunk_size_ && i < part; i += page_size_) {
			ReferencePage &here = chunk.pages[(inside + i) / page_size_];

			chunk.count += !here.present;
			here = page;
			page.pa += page_size_;
		}
		pages_ += chunk.count;
		done += part;
	}
}

void ReferenceMap::unmap(u64 ipa, u64 size)
{
	auto it = chunks_.lower_bound(ipa - ipa % chunk_size_);

	while (it != chunks_.end() && it->first < ipa + size) {
		Chunk &chunk = it->second;
		u64 start = std::max(ipa, it->first);
		u64 end = std::min(ipa + size, it->first + chunk_size_);

		pages_ -= chunk.count;
		if (end - start == chunk_size_) {
			chunk.count = 0;
		} else {
			spread(chunk);
		}
		for (u64 at = start; at < end && chunk.count > 0; at += page_size_) {
			ReferencePage &page = chunk.pages[(at - it->first) / page_size_];

			chunk.count -= page.present;
			page.present = false;
		}
		pages_ += chunk.count;
		it = chunk.count == 0 ? chunks_.erase(it) : std::next(it);
	}
}

template <typename Fn> void ReferenceMap::each_page(u64 ipa, u64 size, Fn fn)
{
	auto it = chunks_.lower_bound(ipa - ipa % chunk_size_);

	for (; it != chunks_.end() && it->first < ipa + size; ++it) {
		Chunk &chunk = it->second;
		u64 start = std::max(ipa, it->first);
		u64 end = std::min(ipa + size, it->first + chunk_size_);

		if (chunk.pages.empty() && end - start == chunk_size_) {
			fn(chunk.first);
			continue;
		}
		spread(chunk);
		for (u64 i = (start - it->first) / page_size_; i < (end - it->first) / page_size_;
		     i++) {
			fn(chunk.pages[i]);
		}
	}
}

void ReferenceMap::protect(u64 ipa, u64 size, unsigned perm)
{
	each_page(ipa, size, [=](ReferencePage &page) { page.perm = perm; });
}

void ReferenceMap::allow_more(u64 ipa, u64 size, unsigned perm)
{
	each_page(ipa, size, [=](ReferencePage &page) { page.perm |= perm; });
}

void ReferenceMap::set_largest(u64 ipa, u64 size, u64 largest)
{
	each_page(ipa, size, [=](ReferencePage &page) { page.largest = largest; });
}

void ReferenceMap::set_accessed(u64 ipa, u64 size, bool accessed)
{
	each_page(ipa, size, [=](ReferencePage &page) { page.accessed = accessed; });
}

void ReferenceMap::set_dirty(u64 ipa, u64 size)
{
	each_page(ipa, size, [](ReferencePage &page) { page.dirty = true; });
}

void ReferenceMap::set_used(u64 ipa, u64 size, bool used)
{
	each_page(ipa, size, [=](ReferencePage &page) { page.used = used; });
}

std::optional<ReferencePage> ReferenceMap::find(u64 ipa) const
{
	auto it = chunks_.find(ipa - ipa % chunk_size_);

	if (it == chunks_.end()) {
		return {};
	}
	ReferencePage page = page_of(it->second, ipa % chunk_size_ / page_size_);

	return page.present ? std::optional<ReferencePage>(page) : std::nullopt;
}

void ReferenceMap::for_each(u64 ipa, u64 size, const PageFn &fn) const
{
	auto it = chunks_.lower_bound(ipa - ipa % chunk_size_);

	for (; it != chunks_.end() && it->first < ipa + size; ++it) {
		const Chunk &chunk = it->second;
		u64 start = std::max(ipa, it->first);
		u64 end = std::min(ipa + size, it->first + chunk_size_);
		u64 step = chunk.pages.empty() ? end - start : page_size_;

		for (u64 at = start; at < end; at += step) {
			ReferencePage page = page_of(chunk, (at - it->first) / page_size_);

			if (page.present && !fn(at, step, page)) {
				return;
			}
		}
	}
}

bool ReferenceMap::is_empty(u64 ipa, u64 size) const
{
	bool empty = true;

	for_each(ipa, size, [&](u64, u64, const ReferencePage &) { return empty = false; });
	return empty;
}

u64 ReferenceMap::pages_in(u64 ipa, u64 size) const
{
	u64 bytes = 0;

	for_each(ipa, size, [&](u64, u64 part, const ReferencePage &) {
		bytes += part;
		return true;
	});
	return bytes / page_size_;
}

/* ---- Differences -------------------------------------------------------------------------------
 */

const char *ReferenceMap::page_difference(u64 ipa, const ReferencePage &page,
					  const Leaf &leaf) const
{
	if (page.pa != leaf.pa_start + (ipa - leaf.start)) {
		return "wrong frame: ";
	}
	if (page.perm != leaf.perm) {
		return "wrong permissions: ";
	}
	if (page.memory != leaf.memory) {
		return "wrong memory type: ";
	}
	if (leaf.shareability && *leaf.shareability != page.shareability) {
		return "wrong shareability: ";
	}
	if (leaf.ignore_pat && page.ignore_pat && *leaf.ignore_pat != *page.ignore_pat) {
		return "the guest's PAT has a say, or none, wrongly: ";
	}
	if (page.largest != 0 && leaf.size > page.largest) {
		return "leaf is too large: ";
	}
	return nullptr;
}

template <typename AnyWalk>
std::string ReferenceMap::walk_difference(const AnyWalk &walk, bool accessed) const
{
	bool any_accessed = false;
	const char *what = nullptr;
	u64 seen = 0, where = start_of(walk);

	if (!walk.ok()) {
		return at(start_of(walk)) + walk.text();
	}
	Leaf leaf = leaf_of(walk);

	for_each(leaf.start, leaf.size, [&](u64 ipa, u64 size, const ReferencePage &page) {
		what = page_difference(ipa, page, leaf);
		where = ipa;
		any_accessed |= page.accessed;
		seen += size;
		return what == nullptr;
	});
	if (what == nullptr && seen != leaf.size) {
		what = "should not be mapped, but hardware has ";
		for (where = leaf.start; find(where); where += page_size_) {
		}
	}
	if (what != nullptr) {
		return at(where) + what + walk.text();
	}
	if (accessed && any_accessed != leaf.accessed) {
		return at(leaf.start) + "wrong access flag: " + walk.text();
	}
	return "";
}

template <typename AnyWalker, typename AnyRegisters>
std::string ReferenceMap::difference(AnyWalker &walker, const AnyRegisters &registers,
				     bool accessed, const Excused &excused) const
{
	std::string text = refusal(walker.decode(registers));
	u64 seen = 0;

	if (!text.empty()) {
		return text;
	}
	walker.for_each(registers, [&](const auto &walk, bool table) {
		if (text.empty() && !walk.complaints.empty()) {
			text = at(start_of(walk)) + walk.text();
		}
		if (!table && text.empty()) {
			text = walk_difference(walk, accessed);
			seen += walk.size / page_size_;
		}
	});
	if (!text.empty() || seen == pages_) {
		return text;
	}
	for (const auto &[start, chunk] : chunks_) {
		for (u64 ipa = start; ipa < start + chunk_size_; ipa += page_size_) {
			auto walk = walker.look(registers, ipa);

			if (walk.ok()) {
				ipa = start_of(walk) + walk.size - page_size_;
			} else if (page_of(chunk, (ipa - start) / page_size_).present &&
				   !(excused && excused(ipa))) {
				return at(ipa) + "should be mapped, but hardware has a " +
				       walk.text();
			}
		}
	}
	return "";
}

template <typename AnyWalker, typename AnyRegisters>
std::string ReferenceMap::difference_at(AnyWalker &walker, const AnyRegisters &registers,
					u64 ipa) const
{
	std::optional<ReferencePage> page = find(ipa);

	for (unsigned i = 0; i < 4; i++) {
		const auto &a = attempts(walker)[i];
		auto walk = walker.translate(registers, ipa, a.access);
		End end = end_of(walk);
		End expected = !page			? End::NotMapped
			       : !(page->perm & a.perm) ? End::Forbidden
							: End::Done;

		if (end == End::NotAccessed && page && !page->accessed) {
			continue;
		}
		if (end != expected || !walk.complaints.empty()) {
			return at(ipa) + a.name + "gets " + walk.text();
		}
		if (walk.ok() && walk.pa != page->pa + (ipa & (page_size_ - 1))) {
			return at(ipa) + a.name + "reaches the wrong frame: " + walk.text();
		}
	}
	return "";
}

/* The formats there are. */
template std::string ReferenceMap::difference(Walker &, const Registers &, bool,
					      const Excused &) const;
template std::string ReferenceMap::difference_at(Walker &, const Registers &, u64) const;
template std::string ReferenceMap::difference(ept::Walker &, const ept::Registers &, bool,
					      const Excused &) const;
template std::string ReferenceMap::difference_at(ept::Walker &, const ept::Registers &, u64) const;
template std::string ReferenceMap::difference(npt::Walker &, const npt::Registers &, bool,
					      const Excused &) const;
template std::string ReferenceMap::difference_at(npt::Walker &, const npt::Registers &, u64) const;

} // namespace model
