/* See reference_map.h. */
#include "reference_map.h"

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

unsigned perm_of(bool read, bool write, bool execute)
{
	return (read ? REF_READ : 0) | (write ? REF_WRITE : 0) | (execute ? REF_EXEC : 0);
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
		{Access::ExecuteEl1, REF_EXEC, "a fetch "},
		{Access::ExecuteEl0, REF_EXEC, "a fetch from EL0 "}};

	return list;
}

const Attempt<x86::Access> *attempts(const x86::Walker &)
{
	static const Attempt<x86::Access> list[4] = {
		{x86::Access::Read, REF_READ, "a read "},
		{x86::Access::Write, REF_WRITE, "a write "},
		{x86::Access::ExecuteSupervisor, REF_EXEC, "a fetch "},
		{x86::Access::ExecuteUser, REF_EXEC, "a fetch from user mode "}};

	return list;
}

} // namespace

struct ReferenceMap::Leaf {
	u64 start, size, pa_start;
	unsigned perm;
	bool executes_alike; /* privileged code and the rest */
	MemoryType memory;
	bool accessed;
	std::optional<unsigned> shareability; /* of formats that have it, where it matters */
	std::optional<bool> ignore_pat;
};

ReferenceMap::Leaf ReferenceMap::leaf_of(const Walk &w)
{
	/* Hardware ignores the field for types that are shareable by themselves. */
	bool cacheable = w.memory == MemoryType::WriteBack || w.memory == MemoryType::WriteThrough;
	Leaf leaf = {w.ipa_start,
		     w.size,
		     w.pa_start,
		     perm_of(w.rights.read, w.rights.write, w.rights.execute_el1),
		     w.rights.execute_el0 == w.rights.execute_el1,
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
		perm_of(w.rights.read, w.rights.write, w.rights.execute_supervisor),
		w.rights.execute_user == w.rights.execute_supervisor,
		w.memory,
		w.accessed,
		{},
		w.ignore_pat};
}

void ReferenceMap::map(u64 ipa, u64 size, ReferencePage page)
{
	for (u64 done = 0; done < size; done += page_size_, page.pa += page_size_) {
		pages_[ipa + done] = page;
	}
}

void ReferenceMap::unmap(u64 ipa, u64 size)
{
	pages_.erase(pages_.lower_bound(ipa), pages_.lower_bound(ipa + size));
}

template <typename Fn> void ReferenceMap::each_page(u64 ipa, u64 size, Fn fn)
{
	auto end = pages_.lower_bound(ipa + size);

	for (auto it = pages_.lower_bound(ipa); it != end; ++it) {
		fn(it->second);
	}
}

void ReferenceMap::protect(u64 ipa, u64 size, unsigned perm)
{
	each_page(ipa, size, [=](ReferencePage &page) { page.perm = perm; });
}

void ReferenceMap::set_largest(u64 ipa, u64 size, u64 largest)
{
	each_page(ipa, size, [=](ReferencePage &page) { page.largest = largest; });
}

void ReferenceMap::set_accessed(u64 ipa, u64 size, bool accessed)
{
	each_page(ipa, size, [=](ReferencePage &page) { page.accessed = accessed; });
}

const ReferencePage *ReferenceMap::find(u64 ipa) const
{
	auto it = pages_.find(ipa & ~(page_size_ - 1));

	return it == pages_.end() ? nullptr : &it->second;
}

bool ReferenceMap::is_empty(u64 ipa, u64 size) const
{
	return pages_.lower_bound(ipa) == pages_.lower_bound(ipa + size);
}

/* Of a page that is in the leaf; nullptr is none. */
const char *ReferenceMap::page_difference(u64 ipa, const Leaf &leaf) const
{
	const ReferencePage *page = find(ipa);

	if (page == nullptr) {
		return "should not be mapped, but hardware has ";
	}
	if (page->pa != leaf.pa_start + (ipa - leaf.start)) {
		return "wrong frame: ";
	}
	if (page->perm != leaf.perm) {
		return "wrong permissions: ";
	}
	if (!leaf.executes_alike) {
		return "privileged and other code may not execute alike: ";
	}
	if (page->memory != leaf.memory) {
		return "wrong memory type: ";
	}
	if (leaf.shareability && *leaf.shareability != page->shareability) {
		return "wrong shareability: ";
	}
	if (leaf.ignore_pat && page->ignore_pat && *leaf.ignore_pat != *page->ignore_pat) {
		return "the guest's PAT has a say, or none, wrongly: ";
	}
	if (page->largest != 0 && leaf.size > page->largest) {
		return "leaf is too large: ";
	}
	return nullptr;
}

template <typename AnyWalk>
std::string ReferenceMap::walk_difference(const AnyWalk &walk, bool accessed) const
{
	bool any_accessed = false;

	if (!walk.ok()) {
		return at(start_of(walk)) + walk.text();
	}
	Leaf leaf = leaf_of(walk);

	for (u64 ipa = leaf.start; ipa < leaf.start + leaf.size; ipa += page_size_) {
		const char *what = page_difference(ipa, leaf);

		if (what != nullptr) {
			return at(ipa) + what + walk.text();
		}
		any_accessed |= find(ipa)->accessed;
	}
	if (accessed && any_accessed != leaf.accessed) {
		return at(leaf.start) + "wrong access flag: " + walk.text();
	}
	return "";
}

template <typename AnyWalker, typename AnyRegisters>
std::string ReferenceMap::difference(AnyWalker &walker, const AnyRegisters &registers,
				     bool accessed) const
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
	if (!text.empty() || seen == pages_.size()) {
		return text;
	}
	for (const auto &[ipa, page] : pages_) {
		auto walk = walker.look(registers, ipa);

		if (!walk.ok()) {
			return at(ipa) + "should be mapped, but hardware has a " + walk.text();
		}
	}
	return "hardware has one page more than once"; /* cannot be: addresses are walked once */
}

template <typename AnyWalker, typename AnyRegisters>
std::string ReferenceMap::difference_at(AnyWalker &walker, const AnyRegisters &registers,
					u64 ipa) const
{
	const ReferencePage *page = find(ipa);

	for (unsigned i = 0; i < 4; i++) {
		const auto &a = attempts(walker)[i];
		auto walk = walker.translate(registers, ipa, a.access);
		End end = end_of(walk);
		End expected = page == nullptr		? End::NotMapped
			       : !(page->perm & a.perm) ? End::Forbidden
							: End::Done;

		if (end == End::NotAccessed && page != nullptr && !page->accessed) {
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
template std::string ReferenceMap::difference(Walker &, const Registers &, bool) const;
template std::string ReferenceMap::difference_at(Walker &, const Registers &, u64) const;
template std::string ReferenceMap::difference(ept::Walker &, const ept::Registers &, bool) const;
template std::string ReferenceMap::difference_at(ept::Walker &, const ept::Registers &, u64) const;
template std::string ReferenceMap::difference(npt::Walker &, const npt::Registers &, bool) const;
template std::string ReferenceMap::difference_at(npt::Walker &, const npt::Registers &, u64) const;

} // namespace model
