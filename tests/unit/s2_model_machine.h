// The real core beside its judges: one space on the fake machine, the flat map of what it should
// say, the hardware's walk of its raw tables, and CPUs that remember every translation there ever
// was, until they are told to forget it: by the very instructions that arch/arm64 would issue, or
// by themselves before they enter the guest.
//
// Each operation is done on the core and on the reference, with the errors that the header
// promises; then the judges look. What is wrong is thrown as a sentence (Wrong).
//
// A batch may stay open over many operations. While it is, what it cleared is in transit, and pages
// of blocks that it broke may be out of reach: those, and nothing else.
//
// To add an operation: its line in S2_MODEL_KINDS and its method (s2_model_ops.cc and its
// neighbours).
#ifndef S2_MODEL_MACHINE_H
#define S2_MODEL_MACHINE_H

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <vector>

#include "../model/armv8_tlb.h"
#include "../model/hardware.h"
#include "../model/remembered.h"
#include "s2_test_machine.h"

namespace s2_model
{

struct Wrong : std::runtime_error {
	using std::runtime_error::runtime_error;
};

// What the machine and the space are like.
struct Shape {
	const struct s2_format *format;
	unsigned ipa_bits;
	u8 traits;	    // enum s2_trait; S2_NONCOHERENT: CPUs also run in between two writes
	bool by_range, ttl; // FEAT_TLBIRANGE, FEAT_TTL
};

std::string text(const Shape &shape);
// One of those that the format can have.
Shape shape_of(const struct s2_format *format, u64 seed);

#define S2_MODEL_KINDS(X)                                                                          \
	X(MAP, map_new)                                                                            \
	X(MAP_SKIP, map_skip)                                                                      \
	X(MAP_UPGRADE, map_upgrade)                                                                \
	X(MAP_LIST, map_list)                                                                      \
	X(MAP_SHARED, map_shared) /* frames that are mapped elsewhere too */                       \
	X(FAULT, fault)                                                                            \
	X(UNMAP, unmap)                                                                            \
	X(PROTECT, protect)                                                                        \
	X(SPLIT, split)                                                                            \
	X(SPLIT_RANGE, split_range)                                                                \
	X(COLLAPSE, collapse)                                                                      \
	X(HINT, hint)                                                                              \
	X(UNHINT, unhint)                                                                          \
	X(CLOSE, close_by_op)                                                                      \
	X(HARVEST, harvest)                                                                        \
	X(MARK, mark)                                                                              \
	X(VALIDATE, validate)                                                                      \
	X(DUMP, dump)                                                                              \
	X(ACCESS, access_by_op)

enum Kind {
#define X(name, method) name,
	S2_MODEL_KINDS(X)
#undef X
		KINDS
};

// One step of a sequence: numbers alone, so that any part of a sequence can be left out.
struct Op {
	Kind kind;
	unsigned area;
	u64 page, pages; // in the area; no pages: all around it that a leaf of level 2 spans
	u64 pick;	 // what else there is to choose, see Pick
	int left;	 // tables that there is memory for while the core works; -1: plenty
};

// What the bits of Op::pick choose.
enum Pick {
	PICK_BATCH = 0,	   // 2 bits: which
	PICK_LATER = 2,	   // it stays open
	PICK_ENLARGE = 3,  // s2_batch.enlarge
	PICK_PERM = 4,	   // 5 bits
	PICK_MEMORY = 9,   // 5 bits
	PICK_LEVEL = 14,   // 3 bits
	PICK_SHIFT = 17,   // 5 bits: how frames are shifted against guest addresses
	PICK_SOURCE = 22,  // 3 bits: which frames
	PICK_BUDGET = 25,  // 3 bits
	PICK_HARVEST = 28, // 6 bits
	PICK_CPU = 34,	   // 2 bits
	PICK_TRY = 36,	   // 2 bits: what an access tries
	PICK_STAY = 38,	   // the CPU stays in the guest
	PICK_OTHER = 40,   // 24 bits: another page, or a byte in it
};

inline u64 pick(const Op &op, Pick from, unsigned bits)
{
	return op.pick >> from & (BIT(bits) - 1);
}

std::string text(const Op &op);

constexpr unsigned kAreas = 4, kBatches = 3, kCpus = 2;
constexpr u64 kVmid = 5;
constexpr u16 kOwner = 7;

class Machine
{
      public:
	explicit Machine(const Shape &shape);
	~Machine();

	// Does it and judges what came of it.
	void run(const Op &op);
	// Everything there is to compare.
	void judge_all();
	// Closes what is open, takes the space apart, and counts what is left.
	void finish();

	// Pages of an area: two tables full.
	static u64 area_pages(const struct s2_format *f)
	{
		return 2 * s2_table_entries(f);
	}

	struct s2 s2 = {};

      private:
	struct Range {
		u64 start, size;

		u64 end() const
		{
			return start + size;
		}
		bool overlaps(const Range &o) const
		{
			return start < o.end() && o.start < end();
		}
	};
	struct Fold {
		Range region;
		bool disturbed; // something in it was changed since
	};
	// Leaves with the contiguous hint.
	struct Group {
		Range range;
		unsigned level;
		bool accessed; // any of it, when the operation began
	};
	struct Open {
		struct s2_batch batch;
		std::vector<Range> touched; // cleared or changed, not closed
		std::vector<Range> broken;  // blocks that may be out of reach
		std::vector<Range> changed; // pages that were not so before: nobody has the old
		std::vector<Fold> folds;
	};
	// What an operation is about to do.
	struct Work {
		Range range;
		bool has_to;	     // maps: where this is so,
		u64 to;		     // there is to be range.start, if nothing was
		bool takes_accessed; // clears flags
	};

	Range what_went(const Range &range, const Range &whole);
	void map(const Op &op, enum s2_if_mapped if_mapped);
	void map_new(const Op &op);
	void map_skip(const Op &op);
	void map_upgrade(const Op &op);
	void map_list(const Op &op);
	void map_shared(const Op &op);
	void do_map_shared(const Op &op, const Range &range, u64 pa);
	void fault(const Op &op);
	void unmap(const Op &op);
	void protect(const Op &op);
	void split(const Op &op);
	void split_range(const Op &op);
	void collapse(const Op &op);
	void hint(const Op &op);
	void unhint(const Op &op);
	void close_by_op(const Op &op);
	void close(unsigned slot);
	void harvest(const Op &op);
	void mark(const Op &op);
	void validate(const Op &op);
	void dump(const Op &op);
	void access_by_op(const Op &op);

	// Places and memory.
	Range range_of(const Op &op) const;
	u64 area_base(unsigned area) const;
	u64 nobodys(const Op &op, u64 at) const;
	hpa_t take_memory(const Op &op, const Range &range, bool singles);
	void give_memory(hpa_t first, u64 size);
	struct s2_attr attr_of(const Op &op) const;
	model::ReferencePage page_of(u64 pa, struct s2_attr attr) const;
	model::MemoryType type_of(u8 memory) const;

	// Around an operation.
	Open &open_batch(const Op &op, bool budgeted);
	void done_with_batch(const Op &op);
	void begin(const Work &work, const std::vector<Range> &broken = {});
	void end();
	std::vector<Range> sticking_out(const Range &range);
	void add_broken(Open &open, const std::vector<Range> &broken);
	void disturb(const Range &range);
	void note_changed(Open &open, const Range &range, std::optional<u8> perm);
	enum Transit { NOTHING, SOME, PERHAPS };
	Transit holes_in_transit(const Range &range);
	enum status map_status(const Range &range, enum s2_if_mapped if_mapped, u64 first, u8 perm);
	bool upgrades_more(const Range &range, u8 perm);
	enum status do_map(const Op &op, const Range &range, hpa_t first, const hpa_t *list,
			   enum s2_if_mapped if_mapped);
	void after_map(const Range &range, u64 first, const hpa_t *list, struct s2_attr attr,
		       enum s2_if_mapped if_mapped);
	enum s2_why expected_why(const Range &region, unsigned level);
	void judge_whys(const std::vector<enum s2_why> &expected, const struct s2_collapsed &report,
			const Range &first);
	void note_folds(Open &open, const std::vector<enum s2_why> &expected, const Range &first);
	bool is_uniform(const Range &region, unsigned level, enum s2_why *why);

	// Groups.
	std::optional<Range> group_at(u64 ipa);
	enum s2_why expected_hint(const Range &group, unsigned level);
	void look_at_groups();
	void settle_groups();

	// Harvest.
	struct Asked;
	void judge_harvest(const Asked &asked, Open *open);
	bool is_leaf(u64 at, unsigned level);
	Range told_of(u64 at, unsigned level);
	void judge_harvest_table(const Asked &asked, const Range &table, Open *open);

	// Judges.
	bool any_open() const;
	bool is_touched(u64 start, u64 size) const;
	bool is_broken(u64 ipa) const;
	bool is_in_transit(const Range &range);
	void expect_status(enum status got, std::initializer_list<enum status> allowed,
			   const Op &op) const;
	void judge(const Range &range);
	void judge_page(u64 ipa);
	void judge_mapped(u64 ipa, const model::ReferencePage &page);
	u64 counted_pages() const;
	void judge_counts();
	void judge_memory_of_cpus(unsigned cpus);
	[[noreturn]] void wrong(const std::string &what, u64 ipa) const;

	// CPUs.
	void access(unsigned cpu, u64 ipa, unsigned tried, bool stay);
	model::Sight try_access(unsigned cpu, u64 ipa, unsigned perm);
	void judge_access(u64 ipa, unsigned perm, const model::Sight &sight);
	void enter(unsigned cpu);
	void leave(unsigned cpu);
	void as_cpu(u32 cpu);

	static void on_range(void *context, const struct s2 *, gpa_t start, u64 size,
			     unsigned level);
	static void on_tail(void *context, const struct s2 *);
	static void on_space(void *context, const struct s2 *);
	static void on_local(void *context, const struct s2 *);
	static void on_kick(void *context, u32 cpu);
	static void on_written(void *context);
	void build_hardware();
	void look_again();

	Shape shape_;
	const struct s2_format *f_;
	bool is_arm_, sets_accessed_, needs_accessed_; // hardware does; a use faults without
	u64 page_, memory_, free_before_ = 0;
	model::HostMemory ram_;
	std::unique_ptr<model::Walker> arm_;
	std::unique_ptr<model::ept::Walker> ept_;
	std::unique_ptr<model::npt::Walker> npt_;
	std::unique_ptr<model::Hardware> hardware_;
	std::unique_ptr<model::Remembered> remembered_;
	model::Features arm_features_;
	model::Config arm_config_;
	model::ReferenceMap map_;
	std::optional<Open> open_[kBatches];
	std::optional<Work> work_; // the core is at it
	std::vector<Range> work_broken_;
	std::map<u64, Group> groups_; // by first address
	bool in_between_ = false;
	unsigned accesses_between_ = 0; // that may still be, in one operation
	std::minstd_rand sample_{1};	// which pages are looked at, of many
	u64 ops_ = 0, next_look_ = 200; // at everything
};

} // namespace s2_model

#endif
