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

unsigned perm_of(const Rights &rights)
{
	return (rights.read ? REF_READ : 0) | (rights.write ? REF_WRITE : 0) |
	       (rights.execute_el1 ? REF_EXEC : 0);
}

} // namespace

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

std::string ReferenceMap::page_difference(u64 ipa, const Walk &leaf) const
{
	const ReferencePage *page = find(ipa);

	if (page == nullptr) {
		return at(ipa) + "should not be mapped, but hardware has " + leaf.text();
	}
	if (page->pa != leaf.pa_start + (ipa - leaf.ipa_start)) {
		return at(ipa) + "wrong frame: " + leaf.text();
	}
	if (page->perm != perm_of(leaf.rights)) {
		return at(ipa) + "wrong permissions: " + leaf.text();
	}
	if (leaf.rights.execute_el0 != leaf.rights.execute_el1) {
		return at(ipa) + "EL0 and EL1 may not execute alike: " + leaf.text();
	}
	if (page->memory != leaf.memory) {
		return at(ipa) + "wrong memory type: " + leaf.text();
	}
	/* Hardware ignores the field for types that are shareable by themselves. */
	bool cacheable =
		leaf.memory == MemoryType::WriteBack || leaf.memory == MemoryType::WriteThrough;

	if (cacheable && leaf.shareability != page->shareability) {
		return at(ipa) + "wrong shareability: " + leaf.text();
	}
	if (page->largest != 0 && leaf.size > page->largest) {
		return at(ipa) + "leaf is too large: " + leaf.text();
	}
	return "";
}

std::string ReferenceMap::leaf_difference(const Walk &leaf, bool accessed) const
{
	bool any_accessed = false;

	if (!leaf.ok()) {
		return at(leaf.ipa_start) + leaf.text();
	}
	for (u64 ipa = leaf.ipa_start; ipa < leaf.ipa_start + leaf.size; ipa += page_size_) {
		std::string text = page_difference(ipa, leaf);

		if (!text.empty()) {
			return text;
		}
		any_accessed |= find(ipa)->accessed;
	}
	if (accessed && any_accessed != leaf.accessed) {
		return at(leaf.ipa_start) + "wrong access flag: " + leaf.text();
	}
	return "";
}

std::string ReferenceMap::difference(Walker &walker, const Registers &registers,
				     bool accessed) const
{
	Config config = walker.decode(registers);
	std::string text = config.error;
	u64 seen = 0;

	if (config.root_out_of_range) {
		text = "the root is beyond the output size";
	}
	if (text.empty() && !config.complaints.empty()) {
		text = config.complaints[0];
	}
	if (!text.empty()) {
		return text;
	}
	walker.for_each(registers, [&](const Walk &walk, bool table) {
		if (text.empty() && !walk.complaints.empty()) {
			text = at(walk.ipa_start) + walk.text();
		}
		if (!table && text.empty()) {
			text = leaf_difference(walk, accessed);
			seen += walk.size / page_size_;
		}
	});
	if (!text.empty() || seen == pages_.size()) {
		return text;
	}
	for (const auto &[ipa, page] : pages_) {
		Walk walk = walker.look(registers, ipa);

		if (!walk.ok()) {
			return at(ipa) + "should be mapped, but hardware has a " + walk.text();
		}
	}
	return "hardware has one page more than once"; /* cannot be: addresses are walked once */
}

std::string ReferenceMap::difference_at(Walker &walker, const Registers &registers, u64 ipa) const
{
	static const struct {
		Access access;
		unsigned perm;
		const char *name;
	} accesses[] = {{Access::Read, REF_READ, "a read "},
			{Access::Write, REF_WRITE, "a write "},
			{Access::ExecuteEl1, REF_EXEC, "a fetch "},
			{Access::ExecuteEl0, REF_EXEC, "a fetch from EL0 "}};
	const ReferencePage *page = find(ipa);

	for (const auto &a : accesses) {
		Walk walk = walker.translate(registers, ipa, a.access);
		FaultKind expected = page == nullptr	      ? FaultKind::Translation
				     : !(page->perm & a.perm) ? FaultKind::Permission
							      : FaultKind::None;

		if (walk.fault == FaultKind::AccessFlag && page != nullptr && !page->accessed) {
			continue;
		}
		if (walk.fault != expected || !walk.complaints.empty()) {
			return at(ipa) + a.name + "gets " + walk.text();
		}
		if (walk.ok() && walk.pa != page->pa + (ipa & (page_size_ - 1))) {
			return at(ipa) + a.name + "reaches the wrong frame: " + walk.text();
		}
	}
	return "";
}

} // namespace model
