// The real core beside its judges: one space on the fake machine, the flat map of what it should
// say, the hardware's walk of its raw tables, and the TLB that forgets only what it is told to,
// told by the very instructions that arch/arm64 would issue.
//
// Each operation is done on the core and on the reference, with the errors that the header
// promises; then the judges look. What is wrong is thrown as a sentence (Wrong).
#ifndef S2_MODEL_MACHINE_H
#define S2_MODEL_MACHINE_H

#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>

#include "../model/armv8_tlb.h"
#include "../model/reference_map.h"
#include "s2_test_machine.h"

namespace s2_model
{

struct Wrong : std::runtime_error {
	using std::runtime_error::runtime_error;
};

// What the machine and the space are like.
struct Shape {
	const struct s2_format *format;
	bool hardware_access; // VTCR_EL2.HA
	bool by_range, ttl;   // FEAT_TLBIRANGE, FEAT_TTL
	unsigned ipa_bits;
};

constexpr u64 kMemory = MIB(64);
constexpr u64 kAreaPages = 1024;
constexpr unsigned kAreas = 4, kBatches = 3, kCpus = 2;
constexpr u64 kVmid = 5;
constexpr u16 kOwner = 7;
constexpr u64 kNobodys = 1ull << 45; // host-physical, beyond the frame table: a device

enum Kind {
	MAP,
	MAP_SKIP,
	FAULT,
	UNMAP,
	UNMAP_LATER,
	CLOSE,
	SPLIT,
	AGE,
	MARK,
	VALIDATE,
	DUMP,
	KINDS
};

// One step of a sequence: numbers alone, so that any part of a sequence can be left out.
struct Op {
	Kind kind;
	unsigned area;
	u64 page, pages; // in the area
	unsigned pick;	 // what else there is to choose
	int left;	 // frames that are free while the core works; -1: plenty
};

inline std::string text(const Op &op)
{
	static const char *const names[KINDS] = {"MAP",		"MAP_SKIP", "FAULT", "UNMAP",
						 "UNMAP_LATER", "CLOSE",    "SPLIT", "AGE",
						 "MARK",	"VALIDATE", "DUMP"};
	std::ostringstream out;

	out << "{" << names[op.kind] << ", " << op.area << ", " << op.page << ", " << op.pages
	    << ", 0x" << std::hex << op.pick << std::dec << ", " << op.left << "}";
	return out.str();
}

// Takes all free frames but `left` for as long as it lives; with -1 none.
class Starve
{
      public:
	explicit Starve(int left)
	{
		for (int order = left < 0 ? -1 : ORDER_MAX; order >= 0; order--) {
			hpa_t block;

			while (!hpa_is_none(block = frame_alloc(order, FRAME_HYP, OWNER_NONE))) {
				taken_.push_back(block);
			}
		}
		for (; left > 0 && !taken_.empty(); left--) {
			give_one();
		}
	}

	~Starve()
	{
		for (hpa_t block : taken_) {
			frame_put(block);
		}
	}

      private:
	void give_one()
	{
		hpa_t last = taken_.back();
		unsigned order = frame_of(last)->order;

		frame_split(last, 0);
		frame_put(last);
		taken_.pop_back();
		for (u64 i = 1; i < BIT(order); i++) {
			taken_.push_back(hpa_add(last, i * PAGE_SIZE));
		}
	}

	std::vector<hpa_t> taken_;
};

class Machine
{
      public:
	explicit Machine(const Shape &shape);
	~Machine();

	// Does it and judges what came of it.
	void run(const Op &op);
	// A guest's access on one of the CPUs.
	void access(unsigned area, u64 page, unsigned pick);
	// Everything there is to compare.
	void judge_all();
	// Closes what is open, takes the space apart, and counts what is left.
	void finish();

	struct s2 s2 = {};

      private:
	struct Range {
		u64 start, size;
	};
	struct Later {
		struct s2_batch batch;
		std::vector<Range> ranges; // unmapped, not closed
	};

	void map(const Op &op, bool skip);
	void fault(const Op &op);
	void unmap(const Op &op, bool later);
	void close(unsigned slot);
	void split(const Op &op);
	void age(const Op &op);
	void mark(const Op &op);
	void validate(const Op &op);
	void dump(const Op &op);

	Range range_of(const Op &op) const;
	u64 area_base(unsigned area) const;
	bool any_open() const;
	bool is_in_open_batch(u64 ipa) const;
	hpa_t take_memory(const Op &op, u64 at, u64 size, bool singles);
	void give_memory(hpa_t first, u64 size);
	void give_skipped(hpa_t first, const Range &range);
	void expect_status(enum status got, std::vector<enum status> allowed, const Op &op);
	void judge(const Range &range);
	void judge_page(u64 ipa);
	void judge_forgotten(const Range &range);
	void judge_tlb();
	u64 leaf_start(u64 ipa, u64 *size);
	[[noreturn]] void wrong(const std::string &what, u64 ipa) const;

	static void on_range(void *context, const struct s2 *, gpa_t start, u64 size,
			     unsigned level);
	static void on_tail(void *context, const struct s2 *);
	static void on_space(void *context, const struct s2 *);

	Shape shape_;
	u64 free_before_;
	model::HostMemory ram_;
	model::Walker walker_;
	model::Registers registers_;
	model::ReferenceMap map_;
	std::unique_ptr<model::ModelTlb> tlb_;
	std::optional<Later> later_[kBatches];
	std::mt19937 sample_{1}; // which pages are looked at, of many
	unsigned closes_ = 0;
};

} // namespace s2_model

#endif
