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

#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "armv8_stage2.h"
#include "ept.h"
#include "npt.h"

namespace model
{

/* As enum s2_perm numbers them. */
constexpr unsigned REF_READ = 1, REF_WRITE = 2, REF_EXEC_KERNEL = 4, REF_EXEC_USER = 8;
constexpr unsigned REF_EXEC = REF_EXEC_KERNEL | REF_EXEC_USER;

struct ReferencePage {
	u64 pa = 0;
	std::uint8_t perm = 0; /* REF_... */
	MemoryType memory = MemoryType::WriteBack;
	std::uint8_t shareability = 3;	/* as in descriptors; of cacheable memory; stage-2 alone */
	std::optional<bool> ignore_pat; /* EPT alone: what bit 6 must be; else either */
	u64 largest = 0; /* bytes of the largest leaf that may map this page; 0: any */
	bool accessed = true;
	bool dirty = false;
	bool used = true; /* since it was last asked: accessed flags may have more, not less */
	bool present = true;
	std::uint8_t memory_name = 0; /* a test's own, of types that hardware does not tell apart */
};

class ReferenceMap
{
      public:
	/* A chunk is what is kept in a few words where all of it is alike: as large as a table. */
	explicit ReferenceMap(u64 page_size = 4096, u64 chunk_pages = 512)
	    : page_size_(page_size), chunk_size_(page_size * chunk_pages)
	{
	}

	/* [ipa, ipa + size) to [page.pa, page.pa + size), the rest alike for all pages. */
	void map(u64 ipa, u64 size, ReferencePage page);
	void unmap(u64 ipa, u64 size);
	/* For pages that are mapped; others are left out. */
	void protect(u64 ipa, u64 size, unsigned perm);
	void allow_more(u64 ipa, u64 size, unsigned perm);
	void set_largest(u64 ipa, u64 size, u64 largest);
	void set_accessed(u64 ipa, u64 size, bool accessed);
	void set_dirty(u64 ipa, u64 size);
	void set_used(u64 ipa, u64 size, bool used);

	/* The page that contains `ipa`, if it is mapped. */
	std::optional<ReferencePage> find(u64 ipa) const;
	bool is_empty(u64 ipa, u64 size) const;
	u64 pages_in(u64 ipa, u64 size) const;
	u64 pages() const
	{
		return pages_;
	}

	/* Of each page that is mapped in the range; the first of several that are alike stands for
	 * all of [at, at + size), until `fn` says false. */
	using PageFn = std::function<bool(u64 at, u64 size, const ReferencePage &page)>;
	void for_each(u64 ipa, u64 size, const PageFn &fn) const;

	/*
	 * "" when hardware sees exactly this map and walker has no complaints, else a sentence
	 * about the first difference. Accessed flags are compared when `accessed` is set: a leaf's
	 * flag is that of any of its pages. A page that is excused may be unreachable.
	 */
	using Excused = std::function<bool(u64 ipa)>;
	template <typename AnyWalker, typename AnyRegisters>
	std::string difference(AnyWalker &walker, const AnyRegisters &registers,
			       bool accessed = false, const Excused &excused = nullptr) const;

	/*
	 * One address, by real accesses (which may set access flags and dirty state): reads, writes
	 * and instruction fetches succeed, or fault, as the map says.
	 */
	template <typename AnyWalker, typename AnyRegisters>
	std::string difference_at(AnyWalker &walker, const AnyRegisters &registers, u64 ipa) const;

      private:
	struct Chunk {
		u64 count = 0;	     /* of pages that are mapped */
		ReferencePage first; /* all are mapped, and like this, where there are no pages */
		std::vector<ReferencePage> pages;
	};
	template <typename Fn> void each_page(u64 ipa, u64 size, Fn fn);
	void spread(Chunk &chunk);
	ReferencePage page_of(const Chunk &chunk, u64 index) const;
	struct Leaf; /* what there is to compare, whatever the format */
	static Leaf leaf_of(const Walk &walk);
	static Leaf leaf_of(const x86::Walk &walk);
	const char *page_difference(u64 ipa, const ReferencePage &page, const Leaf &leaf) const;
	template <typename AnyWalk>
	std::string walk_difference(const AnyWalk &walk, bool accessed) const;

	u64 page_size_, chunk_size_;
	u64 pages_ = 0;
	std::map<u64, Chunk> chunks_; /* by address; none is empty */
};

} // namespace model

#endif
