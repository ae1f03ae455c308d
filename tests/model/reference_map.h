/*
 * The flat reference: what a guest's memory should look like, page by page, with no tables at all.
 *
 * A test of random operations does each on the space that it judges and here, and then asks
 * difference(): does hardware, walking the raw tables, see exactly this map? Both directions are
 * checked: everything here is mapped so, and nothing is mapped that is not here.
 *
 * It asks any of the judges: model::Walker (stage-2), model::ept::Walker, model::npt::Walker.
 */
#ifndef TESTS_MODEL_REFERENCE_MAP_H
#define TESTS_MODEL_REFERENCE_MAP_H

#include <map>
#include <optional>

#include "armv8_stage2.h"
#include "ept.h"
#include "npt.h"

namespace model
{

/* As enum s2_perm numbers them. */
constexpr unsigned REF_READ = 1, REF_WRITE = 2, REF_EXEC = 4;

struct ReferencePage {
	u64 pa = 0;
	unsigned perm = 0; /* REF_... */
	MemoryType memory = MemoryType::WriteBack;
	unsigned shareability = 3;	/* as in descriptors; of cacheable memory; stage-2 alone */
	std::optional<bool> ignore_pat; /* EPT alone: what bit 6 must be; else either */
	u64 largest = 0; /* bytes of the largest leaf that may map this page; 0: any */
	bool accessed = true;
};

class ReferenceMap
{
      public:
	explicit ReferenceMap(u64 page_size = 4096) : page_size_(page_size)
	{
	}

	/* [ipa, ipa + size) to [page.pa, page.pa + size), the rest alike for all pages. */
	void map(u64 ipa, u64 size, ReferencePage page);
	void unmap(u64 ipa, u64 size);
	/* For pages that are mapped; others are left out. */
	void protect(u64 ipa, u64 size, unsigned perm);
	void set_largest(u64 ipa, u64 size, u64 largest);
	void set_accessed(u64 ipa, u64 size, bool accessed);

	/* The page that contains `ipa`, or nullptr. */
	const ReferencePage *find(u64 ipa) const;
	bool is_empty(u64 ipa, u64 size) const;
	size_t pages() const
	{
		return pages_.size();
	}

	/*
	 * "" when hardware sees exactly this map and walker has no complaints, else a sentence
	 * about the first difference. Accessed flags are compared when `accessed` is set: a leaf's
	 * flag is that of any of its pages.
	 */
	template <typename AnyWalker, typename AnyRegisters>
	std::string difference(AnyWalker &walker, const AnyRegisters &registers,
			       bool accessed = false) const;

	/*
	 * One address, by real accesses (which may set access flags and dirty state): reads, writes
	 * and instruction fetches succeed, or fault, as the map says.
	 */
	template <typename AnyWalker, typename AnyRegisters>
	std::string difference_at(AnyWalker &walker, const AnyRegisters &registers, u64 ipa) const;

      private:
	template <typename Fn> void each_page(u64 ipa, u64 size, Fn fn);
	struct Leaf; /* what there is to compare, whatever the format */
	static Leaf leaf_of(const Walk &walk);
	static Leaf leaf_of(const x86::Walk &walk);
	const char *page_difference(u64 ipa, const Leaf &leaf) const;
	template <typename AnyWalk>
	std::string walk_difference(const AnyWalk &walk, bool accessed) const;

	u64 page_size_;
	std::map<u64, ReferencePage> pages_; /* by address */
};

} // namespace model

#endif
