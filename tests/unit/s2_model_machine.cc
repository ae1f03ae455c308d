// See s2_model_machine.h.
#include "s2_model_machine.h"

#include <algorithm>
#include <sstream>

extern "C" {
#include "../../arch/x86_64/s2_ept.h"
#include "../../arch/x86_64/s2_npt.h"
}

namespace s2_model
{
namespace
{

using model::REF_EXEC_KERNEL;
using model::REF_EXEC_USER;
using model::REF_READ;
using model::REF_WRITE;
using model::Remembered;
using model::Sight;
using model::Verdict;

constexpr unsigned kPerms[] = {REF_READ, REF_WRITE, REF_EXEC_KERNEL, REF_EXEC_USER};

bool is_arm(const struct s2_format *f)
{
	return std::string(f->name).rfind("ARM", 0) == 0;
}

bool is_ept(const struct s2_format *f)
{
	return std::string(f->name).rfind("EPT", 0) == 0;
}

bool has_high_addresses(const struct s2_format *f)
{
	return f->address_high != 0;
}

unsigned order_for(u64 bytes)
{
	unsigned order = 0;

	while (order_bytes(order) < bytes) {
		order++;
	}
	return order;
}

// What of the block lies outside [start, end) goes back; the rest is cut where it has to be.
void trim(hpa_t block, u64 start, u64 end)
{
	unsigned order = frame_of(block)->order;
	u64 size = order_bytes(order);

	if (block.v >= start && block.v + size <= end) {
		return;
	}
	if (block.v + size <= start || block.v >= end) {
		frame_put(block);
		return;
	}
	frame_split(block, order - 1);
	trim(block, start, end);
	trim(hpa_add(block, size / 2), start, end);
}

// Cuts a block down to blocks of `order`, all of which stay.
void cut(hpa_t block, unsigned order)
{
	u64 end = block.v + order_bytes(frame_of(block)->order);

	for (u64 at = block.v; at < end;) {
		if (frame_of(hpa(at))->order > order) {
			frame_split(hpa(at), order);
		}
		at += order_bytes(frame_of(hpa(at))->order);
	}
}

// Takes all free frames but what `left` tables need for as long as it lives; with -1 none.
class Starve
{
      public:
	Starve(int left, unsigned order)
	{
		for (int next = left < 0 ? -1 : ORDER_MAX; next >= 0; next--) {
			hpa_t block;

			while (!hpa_is_none(block = frame_alloc(next, FRAME_HYP, OWNER_NONE))) {
				taken_.push_back(block);
			}
		}
		for (; left > 0 && !taken_.empty(); left--) {
			give_one(order);
		}
	}

	~Starve()
	{
		for (hpa_t block : taken_) {
			frame_put(block);
		}
	}

      private:
	// From the largest block that there is, by halves.
	void give_one(unsigned wanted)
	{
		auto largest = std::max_element(taken_.begin(), taken_.end(), [](hpa_t a, hpa_t b) {
			return frame_of(a)->order < frame_of(b)->order;
		});
		hpa_t block = *largest;

		if (frame_of(block)->order < wanted) {
			return;
		}
		taken_.erase(largest);
		while (frame_of(block)->order > wanted) {
			unsigned order = frame_of(block)->order - 1;

			frame_split(block, order);
			taken_.push_back(hpa_add(block, order_bytes(order)));
		}
		frame_put(block);
	}

	std::vector<hpa_t> taken_;
};

} // namespace

// ---- Shapes and sequences, in words ---------------------------------------------------------

std::string text(const Op &op)
{
	static const char *const names[KINDS] = {
#define X(name) #name,
		S2_MODEL_KINDS(X)
#undef X
	};
	std::ostringstream out;

	out << "{" << names[op.kind] << ", " << op.area << ", " << op.page << ", " << op.pages
	    << ", 0x" << std::hex << op.pick << std::dec << ", " << op.left << "}";
	return out.str();
}

std::string text(const Shape &shape)
{
	std::ostringstream out;

	out << shape.format->name << ", ipa_bits " << shape.ipa_bits << ", traits "
	    << unsigned(shape.traits) << ", by_range " << shape.by_range << ", ttl " << shape.ttl;
	return out.str();
}

Shape shape_of(const struct s2_format *f, u64 seed)
{
	static const unsigned all[] = {40, 32, 34, 36, 43, 44, 48, 39, 47, 51, 52, 38};
	unsigned least = f->shift[1] + 7, most = has_high_addresses(f) ? 52 : 48;
	Shape shape = {f, 0, 0, (seed & 1) != 0, (seed & 2) != 0};

	for (u64 i = seed >> 2; shape.ipa_bits == 0; i++) {
		unsigned bits = all[i % ARRAY_COUNT(all)];

		if (bits >= least && bits <= most && bits <= f->shift[f->levels]) {
			shape.ipa_bits = bits;
		}
	}
	if (!is_arm(f) || (seed / 3 & 1)) {
		shape.traits |= S2_HARDWARE_ACCESSED;
		shape.traits |= !is_arm(f) || (seed / 6 & 1) ? S2_HARDWARE_DIRTY : 0;
	}
	shape.traits |= seed % 5 < 2 ? S2_SIZE_CHANGE : 0;
	shape.traits |= seed % 7 < 3 ? S2_NONCOHERENT : 0;
	return shape;
}

// ---- The machine -----------------------------------------------------------------------------

Machine::Machine(const Shape &shape)
    : shape_(shape), f_(shape.format), is_arm_(is_arm(f_)),
      sets_accessed_(shape.traits & S2_HARDWARE_ACCESSED),
      needs_accessed_(is_arm_ && !sets_accessed_), page_(s2_span(f_, 0)),
      map_(page_, std::min<u64>(s2_table_entries(f_), 1024))
{
	fake_flush_hook = {};
	fake_broadcasts = is_arm_;
	fake_cpus(kCpus);
	memory_ = std::max<u64>(MIB(64), 4 * s2_span(f_, 1));
	fake_memory(memory_);
	free_before_ = frame_count(FRAME_FREE);
	if (s2_init(&s2, f_, shape.ipa_bits, kOwner) != OK) {
		throw Wrong("s2_init failed");
	}
	s2.ident = kVmid;
	s2.traits = shape.traits;
	ram_.allow(frame_table.ram_start, frame_table.ram_start + frame_table.ram_bytes);
	build_hardware();
	fake_flush_hook = {this,
			   on_range,
			   on_tail,
			   on_space,
			   on_local,
			   on_kick,
			   shape.traits & S2_NONCOHERENT ? on_written : nullptr};
}

Machine::~Machine()
{
	fake_flush_hook = {};
	fake_cpu_become(0);
}

void Machine::build_hardware()
{
	bool resizes = s2.traits & S2_SIZE_CHANGE, dirty = s2.traits & S2_HARDWARE_DIRTY;
	u64 ram = frame_table.ram_start;
	model::MeetingRules rules;

	if (is_arm_) {
		model::Registers registers;
		unsigned pa_range = has_high_addresses(f_) ? 6 : 5;

		arm_features_.pa_bits = has_high_addresses(f_) ? 52 : 48;
		arm_features_.lpa2 = has_high_addresses(f_) && f_->page_shift != 16;
		arm_features_.hafdbs = !sets_accessed_ ? 0 : dirty ? 2 : 1;
		arm_features_.xnx = f_->perms == 0xffff;
		arm_ = std::make_unique<model::Walker>(arm_features_, ram_);
		registers.vtcr = s2_armv8_vtcr(&s2, {pa_range, sets_accessed_, true, dirty});
		registers.vttbr = ptr_hpa(s2.top).v | kVmid << 48;
		registers.fwb = f_->memories >> S2_FORCED & 1;
		hardware_ = model::hardware(*arm_, registers);
		arm_config_ = arm_->decode(registers);
		rules = {true, !resizes, false};
	} else if (is_ept(f_)) {
		model::ept::Features features;
		model::ept::Registers registers;

		features.pa_bits = 48;
		features.accessed_dirty = sets_accessed_;
		features.l1_may_hold = [=](u64 start, u64 end) {
			return start < ram + memory_ && end > ram;
		};
		ept_ = std::make_unique<model::ept::Walker>(features, ram_);
		registers.eptp = s2_ept_pointer(&s2, sets_accessed_);
		registers.mode_based_execute = f_->perms >> S2_EXEC_KERNEL & 1;
		hardware_ = model::hardware(*ept_, registers);
		rules.sizes_of_code = !resizes;
	} else {
		model::npt::Registers registers;

		npt_ = std::make_unique<model::npt::Walker>(model::npt::Features(), ram_);
		registers.ncr3 = ptr_hpa(s2.top).v;
		registers.cr4 |= f_->top_level == 4 ? BIT(12) : 0;
		hardware_ = model::hardware(*npt_, registers);
		rules.sizes_of_code = false;
	}
	if (!hardware_->refusal().empty()) {
		throw Wrong(hardware_->refusal());
	}
	remembered_ = std::make_unique<Remembered>(*hardware_, ram_, kCpus, rules);
	for (unsigned cpu = 0; !is_arm_ && cpu < kCpus; cpu++) {
		remembered_->leave(cpu);
	}
}

void Machine::wrong(const std::string &what, u64 ipa) const
{
	std::ostringstream out;

	out << what << " at IPA 0x" << std::hex << ipa << ": " << hardware_->text(ipa);
	throw Wrong(out.str());
}

// ---- Places and memory -----------------------------------------------------------------------

// Where tables begin and end: the space's first and last pages, a boundary of level 2, and a place
// with nothing special about it.
u64 Machine::area_base(unsigned area) const
{
	u64 end = BIT(s2.ipa_bits), span = s2_span(f_, 1);
	const u64 bases[kAreas] = {0, std::min(s2_span(f_, 2), end / 2) - span, 32 * span,
				   end - area_pages(f_) * page_};

	return bases[area % kAreas];
}

Machine::Range Machine::range_of(const Op &op) const
{
	u64 page = op.page % area_pages(f_), at = area_base(op.area) + page * page_;
	u64 span = std::min<u64>(s2_span(f_, 2), BIT(s2.ipa_bits));

	if (op.pages == 0) {
		return {align_down(at, span), span};
	}
	return {at, std::min(op.pages, area_pages(f_) - page) * page_};
}

// Memory beyond the frame table, a device's: where the addresses of some formats use their high
// bits, and go over from the low ones to them.
u64 Machine::nobodys(const Op &op, u64 at) const
{
	u64 base = 1ull << 45;

	if (has_high_addresses(f_) && pick(op, PICK_SOURCE, 1)) {
		u64 carry = BIT(64 - __builtin_clzll(f_->address));

		/* Half of an area on each side. */
		return carry - s2_span(f_, 1) + (at - area_base(op.area)) % BIT(48);
	}
	return base + at % BIT(44);
}

// The format's permissions and types, and now and then what it has not.
struct s2_attr Machine::attr_of(const Op &op) const
{
	u64 perm = pick(op, PICK_PERM, 5), memory = pick(op, PICK_MEMORY, 5);
	struct s2_attr attr = s2_ram(&s2);

	if (perm & 1) {
		attr.perm = (u8)(perm >> 1);
		while (!(f_->perms >> attr.perm & 1) && pick(op, PICK_OTHER, 4)) {
			attr.perm = (u8)((attr.perm + 1) & S2_RWX);
		}
	}
	if (memory % 4 == 0) {
		attr.memory = (u8)(memory / 4 % S2_MEMORY_TYPES);
		while (!(f_->memories >> attr.memory & 1) && pick(op, PICK_OTHER, 4)) {
			attr.memory = (u8)((attr.memory + 1) % S2_MEMORY_TYPES);
		}
	}
	return attr;
}

model::MemoryType Machine::type_of(u8 memory) const
{
	bool fwb = is_arm_ && (f_->memories >> S2_FORCED & 1);

	switch (memory) {
	case S2_DEVICE:
		return model::MemoryType::Device;
	case S2_UNCACHED: /* NPT: UC-, which the guest's PAT alone tells from UC */
		return is_arm_ || is_ept(f_) ? model::MemoryType::NonCacheable
					     : model::MemoryType::Device;
	case S2_WRITE_THROUGH:
		return model::MemoryType::WriteThrough;
	case S2_NORMAL:
		return fwb ? model::MemoryType::FromStage1 : model::MemoryType::WriteBack;
	default:
		return model::MemoryType::WriteBack;
	}
}

model::ReferencePage Machine::page_of(u64 pa, struct s2_attr attr) const
{
	model::ReferencePage page;

	page.pa = pa;
	page.perm = attr.perm;
	page.memory = type_of(attr.memory);
	if (is_ept(f_)) {
		page.ignore_pat = attr.memory == S2_FORCED;
	}
	page.used = false;
	return page;
}

// Memory for the range: as large blocks as leaves can be where they fit, or single pages, shifted
// against the guest's addresses or not; or a device's.
hpa_t Machine::take_memory(const Op &op, const Range &range, bool singles)
{
	u64 shift = pick(op, PICK_SHIFT, 1) ? pick(op, PICK_SHIFT, 5) / 2 * page_ : 0;
	u64 source = pick(op, PICK_SOURCE, 3), span = s2_span(f_, 1);
	unsigned page_order = s2_level_order(f_, 0);
	u64 offset = shift;

	if (range.size > memory_ / 2) {
		return hpa(nobodys(op, range.start)); // not shifted: in few and large leaves
	}
	if (source >= 6) {
		return hpa(nobodys(op, range.start) + shift);
	}
	if (range.size >= span || source >= 4) {
		offset += range.start % span; // small ranges do not ask for a block each
	}
	hpa_t block = frame_alloc(std::min<unsigned>(order_for(offset + range.size), ORDER_MAX),
				  FRAME_GUEST, kOwner);

	if (hpa_is_none(block) || order_bytes(frame_of(block)->order) < offset + range.size) {
		if (!hpa_is_none(block)) {
			frame_put(block);
		}
		return hpa_none();
	}
	u64 end = block.v + order_bytes(frame_of(block)->order), first = block.v + offset;

	cut(block, std::max(page_order, s2_level_order(f_, 1)));
	for (u64 a = block.v; a < end;) {
		u64 next = a + order_bytes(frame_of(hpa(a))->order);

		trim(hpa(a), first, first + range.size);
		a = next;
	}
	for (u64 a = first; singles && a < first + range.size;) {
		u64 next = a + order_bytes(frame_of(hpa(a))->order);

		cut(hpa(a), source & 1 ? 0 : page_order);
		a = next;
	}
	return hpa(first);
}

void Machine::give_memory(hpa_t first, u64 size)
{
	for (u64 done = 0; done < size && frame_of(first);) {
		hpa_t a = hpa_add(first, done);

		done += order_bytes(frame_of(a)->order);
		frame_put(a);
	}
}

// ---- What an operation is about to change ----------------------------------------------------

bool Machine::any_open() const
{
	return std::any_of(std::begin(open_), std::end(open_),
			   [](const auto &open) { return open.has_value(); });
}

// An open batch, or what is going on, has to do with some of it.
bool Machine::is_touched(u64 start, u64 size) const
{
	Range here = {start, size};
	auto meets = [&](const Range &r) { return r.overlaps(here); };

	for (const auto &open : open_) {
		if (open && (std::any_of(open->touched.begin(), open->touched.end(), meets) ||
			     std::any_of(open->broken.begin(), open->broken.end(), meets))) {
			return true;
		}
	}
	return work_ && (work_->range.overlaps(here) ||
			 std::any_of(work_broken_.begin(), work_broken_.end(), meets));
}

bool Machine::is_broken(u64 ipa) const
{
	for (const auto &open : open_) {
		for (size_t i = 0; open && i < open->broken.size(); i++) {
			if (open->broken[i].overlaps({ipa, 1})) {
				return true;
			}
		}
	}
	return false;
}

// Some of the range is, by the core's own word, which judge_page() judges.
bool Machine::is_in_transit(const Range &range)
{
	u64 span;

	for (u64 at = range.start; any_open() && at < range.end();
	     at = align_down(at, span) + span) {
		struct s2_leaf leaf = s2_query(&s2, gpa(at));

		span = s2_span(f_, leaf.level);
		if (leaf.kind == S2_TRANSIT) {
			return true;
		}
	}
	return false;
}

Machine::Open &Machine::open_batch(const Op &op, bool budgeted)
{
	std::optional<Open> &open = open_[pick(op, PICK_BATCH, 2) % kBatches];
	u64 budget = pick(op, PICK_BUDGET, 3);

	if (!open) {
		open.emplace();
		s2_batch_open(&open->batch, &s2);
	}
	open->batch.budget = ~0ull;
	if (budgeted && budget < 2) {
		open->batch.budget = 1 + op.pages / 8 + budget * pick(op, PICK_OTHER, 8);
	}
	open->batch.enlarge = pick(op, PICK_ENLARGE, 1);
	return *open;
}

void Machine::done_with_batch(const Op &op)
{
	if (!pick(op, PICK_LATER, 1)) {
		close((unsigned)pick(op, PICK_BATCH, 2));
	}
}

// From here to end() the core is at work: CPUs that run in between may see both worlds there.
void Machine::begin(const Work &work, const std::vector<Range> &broken)
{
	leave(0);
	work_ = work;
	work_broken_ = broken;
	accesses_between_ = 4;
}

void Machine::end()
{
	look_again();
	work_.reset();
}

void Machine::look_again()
{
	if (work_) {
		remembered_->look_at(work_->range.start, work_->range.end());
		for (const Range &range : work_broken_) {
			remembered_->look_at(range.start, range.end());
		}
	}
}

// Leaves in which the range begins or ends: they have to be broken, and what of them lies in blocks
// that are broken already, and so out of hardware's sight.
std::vector<Machine::Range> Machine::sticking_out(const Range &range)
{
	std::vector<Range> found;

	for (u64 at : {range.start, range.end()}) {
		if (at >> s2.ipa_bits || (s2.traits & S2_SIZE_CHANGE)) {
			continue;
		}
		Sight s = hardware_->look(at);

		if (s.verdict == Verdict::Done && s.start != at) {
			found.push_back({s.start, s.size});
		}
		for (const auto &open : open_) {
			for (size_t i = 0; open && i < open->broken.size(); i++) {
				u64 part = open->broken[i].size / s2_table_entries(f_);

				if (open->broken[i].overlaps({at, 1}) && part > page_) {
					found.push_back({align_down(at, part), part});
				}
			}
		}
	}
	return found;
}

void Machine::add_broken(Open &open, const std::vector<Range> &broken)
{
	open.broken.insert(open.broken.end(), broken.begin(), broken.end());
}

// Folds that are not closed need not come about any more.
void Machine::disturb(const Range &range)
{
	for (auto &open : open_) {
		for (size_t i = 0; open && i < open->folds.size(); i++) {
			open->folds[i].disturbed |= open->folds[i].region.overlaps(range);
		}
	}
}

// Pages that an operation will take away, or give other permissions: at the close nobody remembers
// them as they were, whatever other batches are open.
void Machine::note_changed(Open &open, const Range &range, std::optional<u8> perm)
{
	map_.for_each(range.start, range.size,
		      [&](u64 at, u64 size, const model::ReferencePage &page) {
			      if (perm && page.perm == *perm) {
				      return true;
			      }
			      if (!open.changed.empty() && open.changed.back().end() == at) {
				      open.changed.back().size += size;
			      } else {
				      open.changed.push_back({at, size});
			      }
			      return true;
		      });
}

void Machine::expect_status(enum status got, std::initializer_list<enum status> allowed,
			    const Op &op) const
{
	if (std::find(allowed.begin(), allowed.end(), got) == allowed.end() &&
	    !(got == NOMEM && op.left >= 0)) {
		throw Wrong(std::string("status is: ") + status_name(got) +
			    ", expected: " + status_name(*allowed.begin()));
	}
}

// ---- Mapping ---------------------------------------------------------------------------------

static bool can_say(const struct s2_format *f, struct s2_attr attr)
{
	return (f->perms >> attr.perm & 1) && (f->memories >> attr.memory & 1);
}

// Is any place that the map would fill not closed yet? In blocks that are broken it cannot be seen.
Machine::Transit Machine::holes_in_transit(const Range &range)
{
	Transit transit = NOTHING;
	u64 span;

	for (u64 at = range.start; any_open() && at < range.end();
	     at = align_down(at, span) + span) {
		struct s2_leaf leaf = s2_query(&s2, gpa(at));
		bool broken = is_broken(at);

		span = broken ? page_ : s2_span(f_, leaf.level);
		if (leaf.kind != S2_TRANSIT || map_.find(at)) {
			continue;
		}
		if (!broken) {
			return SOME;
		}
		transit = PERHAPS;
	}
	return transit;
}

// Leaves that stick out of the range would have to be split.
bool Machine::upgrades_more(const Range &range, u8 perm)
{
	for (u64 at : {range.start, range.end() - page_}) {
		Sight s = hardware_->look(at);

		if (s.verdict == Verdict::Done && (perm & ~s.perm) &&
		    (s.start < range.start || s.start + s.size > range.end())) {
			return true;
		}
	}
	return false;
}

// What the header promises, transit aside.
enum status Machine::map_status(const Range &range, enum s2_if_mapped if_mapped, u64 first, u8 perm)
{
	bool same = true;

	if (if_mapped == S2_ERROR) {
		return map_.is_empty(range.start, range.size) ? OK : EXISTS;
	}
	if (if_mapped == S2_UPGRADE) {
		map_.for_each(range.start, range.size,
			      [&](u64 at, u64, const model::ReferencePage &page) {
				      return same = page.pa - at == first - range.start;
			      });
		same = same && !upgrades_more(range, perm);
	}
	return same ? OK : EXISTS;
}

// A list or contiguous memory. The caller has the memory, if it is not OK.
enum status Machine::do_map(const Op &op, const Range &range, hpa_t first, const hpa_t *list,
			    enum s2_if_mapped if_mapped)
{
	struct s2_attr attr = attr_of(op);
	Transit transit = holes_in_transit(range);
	enum status expected = map_status(range, if_mapped, first.v, attr.perm), status;

	begin({range, !list, first.v, false});
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = list ? s2_map_list(&s2, gpa(range.start), list, range.size / page_, attr,
					    if_mapped)
			      : s2_map(&s2, gpa(range.start), first, range.size, attr, if_mapped);
	}
	if (!can_say(f_, attr)) {
		expected = INVALID;
		transit = NOTHING;
	}
	bool hidden = if_mapped == S2_UPGRADE &&
		      (is_broken(range.start) || is_broken(range.end() - page_));

	if (hidden && expected == OK) { // leaves that stick out cannot be seen
		expect_status(status, {OK, EXISTS, AGAIN}, op);
	} else if (transit == PERHAPS || (transit == SOME && expected == EXISTS)) {
		expect_status(status, {expected, AGAIN}, op);
	} else {
		expect_status(status, {transit == SOME ? AGAIN : expected}, op);
	}
	return status;
}

// Holes are filled, and with S2_UPGRADE the rest has more rights. The memory for the rest is given
// back.
void Machine::after_map(const Range &range, u64 first, const hpa_t *list, struct s2_attr attr,
			enum s2_if_mapped if_mapped)
{
	std::vector<Range> holes;
	u64 at = range.start;

	map_.for_each(range.start, range.size,
		      [&](u64 found, u64 size, const model::ReferencePage &) {
			      if (found > at) {
				      holes.push_back({at, found - at});
			      }
			      at = found + size;
			      return true;
		      });
	if (at < range.end()) {
		holes.push_back({at, range.end() - at});
	}
	if (if_mapped == S2_UPGRADE) {
		map_.allow_more(range.start, range.size, attr.perm);
	}
	for (const Range &hole : holes) {
		u64 inside = hole.start - range.start;

		for (u64 i = inside; list && i < inside + hole.size; i += page_) {
			map_.map(range.start + i, page_, page_of(list[i / page_].v, attr));
		}
		if (!list) {
			map_.map(hole.start, hole.size, page_of(first + inside, attr));
		}
	}
}

void Machine::map(const Op &op, enum s2_if_mapped if_mapped)
{
	Range range = range_of(op);
	hpa_t first = take_memory(op, range, if_mapped != S2_ERROR);
	std::vector<Range> before;

	if (hpa_is_none(first)) {
		return;
	}
	map_.for_each(range.start, range.size, [&](u64 at, u64 size, const model::ReferencePage &) {
		before.push_back({at, size});
		return true;
	});
	enum status status = do_map(op, range, first, nullptr, if_mapped);

	if (status != OK) {
		give_memory(first, range.size);
	} else {
		for (const Range &there : before) {
			give_memory(hpa_add(first, there.start - range.start), there.size);
		}
		after_map(range, first.v, nullptr, attr_of(op), if_mapped);
	}
	end();
	judge(range);
}

// More rights for what is there, and more of the same device around it.
static bool is_device(u64 pa)
{
	return pa - frame_table.ram_start >= frame_table.ram_bytes;
}

void Machine::map_list(const Op &op)
{
	static const enum s2_if_mapped modes[] = {S2_ERROR, S2_SKIP};
	enum s2_if_mapped if_mapped = modes[pick(op, PICK_BUDGET, 1)];
	Range range = range_of(op);
	std::vector<hpa_t> frames;

	range.size = std::min(range.size, 64 * page_);
	hpa_t first = take_memory(op, range, true);

	if (hpa_is_none(first)) {
		return;
	}
	/* Some as they lie, some backwards. */
	for (u64 i = 0; i < range.size; i += page_) {
		frames.push_back(hpa_add(first, i));
	}
	if (pick(op, PICK_OTHER + 8 < 64 ? PICK_OTHER : PICK_OTHER, 1)) {
		std::reverse(frames.begin(), frames.end());
	}
	std::vector<u64> there;

	map_.for_each(range.start, range.size, [&](u64 at, u64 size, const model::ReferencePage &) {
		for (u64 i = 0; i < size; i += page_) {
			there.push_back((at - range.start + i) / page_);
		}
		return true;
	});
	enum status status = do_map(op, range, first, frames.data(), if_mapped);

	if (status != OK) {
		give_memory(first, range.size);
	} else {
		for (u64 i : there) {
			give_memory(frames[i], page_);
		}
		after_map(range, 0, frames.data(), attr_of(op), if_mapped);
	}
	end();
	judge(range);
}

// Pages that are mapped at another place of the area, by single frames, which get one more holder.
void Machine::map_shared(const Op &op)
{
	Range range = range_of(op);
	u64 from = area_base(op.area) + pick(op, PICK_OTHER, 24) % area_pages(f_) * page_;
	std::optional<model::ReferencePage> source = map_.find(from);
	u64 size = 0;

	while (source && size < std::min(range.size, 16 * page_) && !is_device(source->pa)) {
		auto next = map_.find(from + size);

		if (!next || next->pa != source->pa + size ||
		    frame_of(hpa(next->pa))->order != s2_level_order(f_, 0)) {
			break;
		}
		size += page_;
	}
	if (size == 0) {
		return;
	}
	range.size = size;
	for (u64 i = 0; i < size; i += page_) {
		frame_get(hpa(source->pa + i));
	}
	enum status status = do_map(op, range, hpa(source->pa), nullptr, S2_ERROR);

	if (status != OK) {
		give_memory(hpa(source->pa), size);
	} else {
		after_map(range, source->pa, nullptr, attr_of(op), S2_ERROR);
	}
	end();
	judge(range);
}

static void upgrade_range(const model::ReferenceMap &map, u64 page, u64 *size, u64 start,
			  u64 *first)
{
	std::optional<model::ReferencePage> source = map.find(start);

	if (!source) {
		*size = 0;
		return;
	}
	*first = source->pa;
	for (u64 done = page; done < *size; done += page) {
		auto next = map.find(start + done);

		/* Holes are filled with the rest of the device; frames must not come to twice. */
		if (next ? next->pa != source->pa + done : !is_device(source->pa)) {
			*size = done + (next && is_device(source->pa) ? page : 0);
			return;
		}
	}
}

// What an access' fault does.
void Machine::fault(const Op &op)
{
	unsigned level = (unsigned)pick(op, PICK_LEVEL, 3);
	struct s2_attr attr = attr_of(op);
	Op aligned = op;

	level = level < 5 ? 0 : level < 7 ? 1 : pick(op, PICK_OTHER, 2) ? 1 : 2;
	aligned.pick &= ~((BIT(5) - 1) << PICK_SHIFT); // not shifted, and aligned as the guest's is
	aligned.pick |= BIT(PICK_SOURCE + 2);
	u64 span = s2_span(f_, level);
	Range range = {align_down(range_of(op).start, span), span};

	if (level > s2.root_level || !s2_level_may_be_leaf(f_, level) ||
	    range.end() > BIT(s2.ipa_bits)) {
		return;
	}
	bool empty = map_.is_empty(range.start, span), transit = is_in_transit({range.start, 1});
	bool table = level > 0 && hardware_->table_at(range.start, level) != 0;
	hpa_t first = level < 2 ? take_memory(aligned, range, false)
				: hpa((1ull << 45) + align_down(range.start % BIT(44), span));
	enum status status;

	if (hpa_is_none(first) || !is_aligned(first.v, span)) {
		give_memory(hpa_is_none(first) ? hpa(0) : first, hpa_is_none(first) ? 0 : span);
		return;
	}
	begin({range, true, first.v, false});
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = s2_map_leaf(&s2, gpa(range.start), level, first, attr);
	}
	if (status != OK) {
		give_memory(first, span);
	} else {
		model::ReferencePage page = page_of(first.v, attr);

		page.used = true;
		map_.map(range.start, span, page);
	}
	if (!can_say(f_, attr)) {
		expect_status(status, {INVALID}, op);
	} else {
		expect_status(status, {table ? EXISTS : transit ? AGAIN : empty ? OK : EXISTS}, op);
	}
	end();
	judge(range);
}

// ---- Operations on ranges --------------------------------------------------------------------

// Calls `step` with what is left of the range until it is done, or out of memory.
template <typename Step, typename After>
static enum status in_steps(u64 start, u64 end, struct s2_batch *batch, Step step, After after)
{
	u64 budget = batch->budget;

	for (u64 at = start;;) {
		enum status status;

		batch->budget = budget;
		status = step(at, end - at);
		if (status != MORE) {
			after(at, end, status);
			return status;
		}
		if (batch->next <= at || batch->next >= end) {
			throw Wrong("a budget of " + std::to_string(budget) +
				    " is used up without a step ahead");
		}
		after(at, batch->next, MORE);
		at = batch->next;
	}
}

void Machine::unmap(const Op &op)
{
	Range range = range_of(op), whole = range;
	std::vector<Range> broken = sticking_out(range);
	Open &open = open_batch(op, true);
	enum status status;

	// What has no table for a split may go as a whole.
	for (u64 at : {range.start, range.end()}) {
		Sight s = at >> s2.ipa_bits ? Sight() : hardware_->look(at);

		if (open.batch.enlarge && op.left >= 0 && s.verdict == Verdict::Done &&
		    s.start != at) {
			u64 end = std::max(whole.end(), s.start + s.size);

			whole.start = std::min(whole.start, s.start);
			whole.size = end - whole.start;
		}
	}
	if (whole.size != range.size && any_open() && is_in_transit(whole)) {
		open.batch.enlarge = false; // what is broken cannot be seen
	}
	disturb(whole);
	begin({whole, false, 0, false}, broken);
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = in_steps(
			range.start, range.end(), &open.batch,
			[&](u64 at, u64 size) { return s2_unmap(&s2, gpa(at), size, &open.batch); },
			[&](u64 at, u64 end, enum status status) {
				if (status == OK || status == MORE) {
					note_changed(open, {at, end - at}, {});
					map_.unmap(at, end - at);
				}
			});
	}
	bool larger =
		whole.size != range.size && status == OK &&
		((whole.start != range.start &&
		  hardware_->look(whole.start).verdict == Verdict::NotMapped) ||
		 (whole.end() != range.end() &&
		  hardware_->look(whole.end() - page_).verdict == Verdict::NotMapped)) &&
		s2_query(&s2, gpa(whole.start != range.start ? whole.start : whole.end() - page_))
				.kind != S2_LEAF;

	if (larger &&
	    s2.stats.leaf_4k + s2_table_entries(f_) * (s2.stats.leaf_2m +
						       s2_table_entries(f_) * s2.stats.leaf_1g) !=
		    map_.pages()) {
		map_.unmap(whole.start, whole.size);
	}
	expect_status(status, {OK}, op);
	if (status == OK) {
		open.touched.push_back(whole);
		add_broken(open, broken);
	}
	end();
	judge(range);
	done_with_batch(op);
}

void Machine::protect(const Op &op)
{
	Range range = range_of(op);
	std::vector<Range> broken = sticking_out(range);
	Open &open = open_batch(op, true);
	u8 perm = attr_of(op).perm;
	enum status status;

	disturb(range);
	begin({range, false, 0, false}, broken);
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = in_steps(
			range.start, range.end(), &open.batch,
			[&](u64 at, u64 size) {
				return s2_protect(&s2, gpa(at), size, perm, &open.batch);
			},
			[&](u64 at, u64 end, enum status status) {
				if (status == OK || status == MORE) {
					note_changed(open, {at, end - at}, perm);
					map_.protect(at, end - at, perm);
				}
			});
	}
	expect_status(status, {f_->perms >> perm & 1 ? OK : INVALID}, op);
	if (status == OK) {
		open.touched.push_back(range);
		add_broken(open, broken);
	}
	end();
	judge(range);
	done_with_batch(op);
}

void Machine::split(const Op &op)
{
	u64 at = range_of(op).start + pick(op, PICK_OTHER, 12);
	unsigned level = (unsigned)pick(op, PICK_LEVEL, 2);
	Open &open = open_batch(op, false);
	bool mapped = map_.find(at).has_value(), transit = is_in_transit({at, 1});
	bool valid = level <= s2.root_level && s2_level_may_be_leaf(f_, level);
	Sight s = hardware_->look(at);
	Range leaf = {align_down(at, page_), page_};
	std::vector<Range> broken;
	enum status status;

	if (s.verdict == Verdict::Done && valid) {
		leaf = {s.start, s.size};
	}
	if (s.verdict == Verdict::Done && valid && s.level > level &&
	    !(s2.traits & S2_SIZE_CHANGE)) {
		broken.push_back(leaf);
	}
	if (transit && mapped && valid) { // in a block that is broken already
		Range part = {align_down(at, s2_span(f_, 1)), s2_span(f_, 1)};

		leaf = {align_down(at, page_), page_};
		broken.push_back(part);
	}
	begin({leaf, false, 0, false}, broken);
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = s2_split(&s2, gpa(at), level, &open.batch);
	}
	expect_status(status, {!valid ? INVALID : mapped ? OK : NOENT}, op);
	if (status == OK) {
		/* Of more levels than one, those on the way to `at`. */
		for (unsigned l = s.level; s.verdict == Verdict::Done && l > level; l--) {
			Range way = {align_down(at, s2_span(f_, l)), s2_span(f_, l)};

			map_.set_largest(way.start, way.size, s2_span(f_, l - 1));
		}
		open.touched.push_back(leaf);
		add_broken(open, broken);
	}
	end();
	judge(leaf);
	done_with_batch(op);
}

void Machine::split_range(const Op &op)
{
	Range range = range_of(op);
	unsigned level = op.pages == 0 ? 1 : (unsigned)pick(op, PICK_LEVEL, 1);
	std::vector<Range> broken = sticking_out(range);
	Open &open = open_batch(op, true);
	bool valid = level <= s2.root_level && s2_level_may_be_leaf(f_, level);
	enum status status;

	for (u64 at = range.start; valid && at < range.end() && !(s2.traits & S2_SIZE_CHANGE);) {
		Sight s = hardware_->look(at);

		if (s.verdict == Verdict::Done && s.level > level) {
			broken.push_back({s.start, s.size});
		}
		at = s.start + s.size;
	}
	begin({range, false, 0, false}, broken);
	{
		Starve starve(op.left, s2_level_order(f_, 0));

		status = in_steps(
			range.start, range.end(), &open.batch,
			[&](u64 at, u64 size) {
				return s2_split_range(&s2, gpa(at), size, level, &open.batch);
			},
			[&](u64 at, u64 end, enum status status) {
				if (status == OK || status == MORE) {
					map_.set_largest(at, end - at, s2_span(f_, level));
				}
			});
	}
	expect_status(status, {valid ? OK : INVALID}, op);
	if (status != INVALID) {
		open.touched.push_back(range);
		add_broken(open, broken);
	}
	end();
	judge(range);
	done_with_batch(op);
}

// ---- Collapse --------------------------------------------------------------------------------

// Is the region made of leaves of `level` - 1 that are one after another, and all alike? *why: what
// is the first that is not.
bool Machine::is_uniform(const Range &region, unsigned level, enum s2_why *why)
{
	u64 step = s2_span(f_, level - 1), first_pa = 0;
	model::ReferencePage first;

	for (u64 at = region.start; at < region.end(); at += step) {
		std::optional<model::ReferencePage> page = map_.find(at);

		if (level > 1 && hardware_->table_at(at, level - 1)) {
			*why = S2_MIXED;
			return false;
		}
		if (!page) {
			*why = s2_query(&s2, gpa(at)).kind == S2_TRANSIT ? S2_IS_OPEN
									 : S2_HAS_HOLES;
			return false;
		}
		if (at == region.start) {
			first = *page;
			first_pa = page->pa;
		}
		if (page->pa != first_pa + (at - region.start)) {
			*why = S2_SCATTERED;
			return false;
		}
		if (page->perm != first.perm || page->memory != first.memory ||
		    page->ignore_pat != first.ignore_pat) {
			*why = S2_MIXED;
			return false;
		}
	}
	*why = is_aligned(first_pa, region.size) ? S2_FOLDED : S2_MISALIGNED;
	return *why == S2_FOLDED;
}

// S2_WHY_COUNT: cannot be told from outside.
enum s2_why Machine::expected_why(const Range &region, unsigned level)
{
	Sight s = hardware_->look(region.start);
	enum s2_why why;

	if (s.verdict == Verdict::Done && s.level >= level) {
		return S2_LARGE_ALREADY;
	}
	if (s.verdict == Verdict::NotMapped && s.level >= level) {
		if (map_.find(region.start)) {
			return S2_WHY_COUNT; // broken
		}
		return s2_query(&s2, gpa(region.start)).kind == S2_TRANSIT ? S2_IS_OPEN
									   : S2_HAS_HOLES;
	}
	for (u64 at = region.start; level > 1 && at < region.end(); at += s2_span(f_, level - 1)) {
		if (is_broken(at)) {
			return S2_WHY_COUNT;
		}
	}
	is_uniform(region, level, &why);
	return why;
}

void Machine::collapse(const Op &op)
{
	Range range = range_of(op);
	unsigned level = op.pages == 0 ? 2 : 1;
	u64 span = s2_span(f_, level);
	Open &open = open_batch(op, false);
	bool exists = level <= s2.root_level && s2_level_may_be_leaf(f_, level);
	struct s2_collapsed report = {};
	std::vector<enum s2_why> expected;
	u64 folded = 0, start = align_up(range.start, span);

	for (u64 at = start; exists && at + span <= range.end(); at += span) {
		expected.push_back(expected_why({at, span}, level));
	}
	if (pick(op, PICK_BUDGET, 3) == 0) {
		open.batch.budget = s2_table_entries(f_);
	}
	begin({range, false, 0, false});
	enum status status = in_steps(
		range.start, range.end(), &open.batch,
		[&](u64 at, u64 size) {
			struct s2_collapsed part;
			enum status status =
				s2_collapse(&s2, gpa(at), size, level, &open.batch, &part);

			for (unsigned why = 0; why < S2_WHY_COUNT; why++) {
				report.count[why] += part.count[why];
			}
			return status;
		},
		[](u64, u64, enum status) {});

	expect_status(status, {OK}, op);
	for (unsigned why = 0; exists && why < S2_WHY_COUNT; why++) {
		u64 least = std::count(expected.begin(), expected.end(), why);
		u64 unknown = std::count(expected.begin(), expected.end(), S2_WHY_COUNT);

		if (report.count[why] < least || report.count[why] > least + unknown) {
			wrong(std::string("collapse says ") + std::to_string(report.count[why]) +
				      " times, not " + std::to_string(least) + ": " +
				      s2_why_text((enum s2_why)why),
			      start);
		}
	}
	if (!exists && report.count[S2_NO_SUCH_LEAF] == 0) {
		wrong("collapse to a leaf that there is not", start);
	}
	for (u64 i = 0; i < expected.size(); i++) {
		Range region = {start + i * span, span};

		if (expected[i] == S2_FOLDED) {
			map_.set_largest(region.start, span, 0);
			open.folds.push_back({region, false});
			open.broken.push_back(region);
			open.touched.push_back(region);
			folded++;
		} else if (expected[i] == S2_WHY_COUNT) {
			open.broken.push_back(region);
			open.touched.push_back(region);
		}
	}
	end();
	judge(range);
	done_with_batch(op);
}

// ---- The close -------------------------------------------------------------------------------

void Machine::close(unsigned slot)
{
	std::optional<Open> &open = open_[slot % kBatches];

	if (!open) {
		return;
	}
	leave(0);
	s2_batch_close(&open->batch);
	Open closed = std::move(*open);

	open.reset();
	for (const Fold &fold : closed.folds) {
		Sight s = hardware_->look(fold.region.start);

		if (s.size >= fold.region.size && s.accessed) {
			map_.set_accessed(fold.region.start, fold.region.size, true);
		}
		if (s.size >= fold.region.size && s.dirty) {
			map_.set_dirty(fold.region.start, fold.region.size);
		}
		if (!fold.disturbed && !is_broken(fold.region.start) && s.size < fold.region.size) {
			wrong("a fold that nobody disturbed is undone", fold.region.start);
		}
	}
	for (const std::vector<Range> &ranges : {closed.touched, closed.broken}) {
		for (const Range &range : ranges) {
			remembered_->look_at(range.start, range.end());
			judge_page(range.start);
			judge_page(range.end() - page_);
		}
	}
	for (const Range &range : closed.changed) {
		if (remembered_->holds(Remembered::ALL, range.start, range.size)) {
			wrong("after the close a CPU remembers what was changed", range.start);
		}
	}
	judge_counts();
	judge_memory_of_cpus(Remembered::ALL);
}

// ---- Harvest ---------------------------------------------------------------------------------

struct Machine::Asked {
	Range range;
	bool clear;
	u8 tables, finest;
	std::vector<std::pair<u64, unsigned>> young; // where, and of which level
};

void Machine::harvest(const Op &op)
{
	u64 how = pick(op, PICK_HARVEST, 6);
	Asked asked = {range_of(op), (how & 1) != 0, (u8)(how / 2 % 3), (u8)(how / 8 % 4 == 0), {}};
	bool frees = asked.tables == S2_TABLES_FREE && asked.clear;
	Open *open = nullptr;
	enum status status;

	asked.tables =
		asked.tables == S2_TABLES_FREE && !frees ? (u8)S2_TABLES_CLEAR : asked.tables;
	if (frees) {
		open = &open_batch(op, false);
		disturb(asked.range);
	}
	begin({asked.range, false, 0, true});
	for (u64 at = asked.range.start;;) {
		std::vector<u64> bits((asked.range.end() - at) / page_ / 64 + 1, 0);
		size_t before = asked.young.size();
		struct s2_harvest h = {};

		h.clear = asked.clear;
		h.tables = asked.tables;
		h.finest = asked.finest;
		h.bitmap = bits.data();
		h.context = &asked;
		h.young = [](void *context, gpa_t a, unsigned level) {
			static_cast<Asked *>(context)->young.push_back({a.v, level});
		};
		h.budget = pick(op, PICK_BUDGET, 3) == 0 ? 1 + op.pages / 4 : 0;
		h.batch = open ? &open->batch : nullptr;
		status = s2_harvest(&s2, gpa(at), asked.range.end() - at, &h);
		if (h.young_count != asked.young.size() - before) {
			wrong("harvest counts other than it tells", at);
		}
		for (size_t i = before; i < asked.young.size(); i++) {
			u64 page = (std::max(asked.young[i].first, at) - at) / page_;

			if (!(bits[page / 64] >> page % 64 & 1)) {
				wrong("harvest tells what is not in its bitmap", at);
			}
		}
		if (status != MORE) {
			break;
		}
		if (h.next <= at) {
			wrong("harvest makes no step ahead", at);
		}
		at = h.next;
	}
	expect_status(status, {OK}, op);
	judge_harvest(asked, open);
	end();
	judge(asked.range);
	if (open) {
		done_with_batch(op);
	}
}

// Tables of which nothing was used may be gone, as wholes.
void Machine::judge_harvest_table(const Asked &asked, const Range &table, Open *open)
{
	u64 first = ~0ull;
	bool used = false;

	map_.for_each(table.start, table.size, [&](u64 at, u64, const model::ReferencePage &page) {
		first = std::min(first, at);
		used |= page.used;
		return true;
	});
	if (first == ~0ull || is_broken(first) ||
	    hardware_->look(first).verdict != Verdict::NotMapped) {
		return;
	}
	if (used || table.start < asked.range.start || table.end() > asked.range.end()) {
		wrong("harvest freed a table that was used", first);
	}
	note_changed(*open, table, {});
	map_.unmap(table.start, table.size);
	open->touched.push_back(table);
}

/*
 * All that was used since it was last asked is told; what is told has its flag set, or lies in a
 * table that has. What was asked for is watched anew.
 */
void Machine::judge_harvest(const Asked &asked, Open *open)
{
	u64 span = s2_span(f_, 1), told = asked.range.start;
	size_t next = 0;

	for (u64 at = align_down(asked.range.start, span); open && at < asked.range.end();
	     at += span) {
		judge_harvest_table(asked, {at, span}, open);
	}
	map_.for_each(asked.range.start, asked.range.size,
		      [&](u64 at, u64 size, const model::ReferencePage &page) {
			      while (next < asked.young.size() &&
				     asked.young[next].first < at + size) {
				      told = asked.young[next].first +
					     s2_span(f_, asked.young[next].second);
				      next++;
			      }
			      if (page.used && told < at + size && told <= at && !is_broken(at)) {
				      wrong("harvest does not tell of a page that was used", at);
			      }
			      return true;
		      });
	for (auto [at, level] : asked.young) {
		Range region = {at, s2_span(f_, level)};
		Sight s = hardware_->look(at);
		bool leaf = s.verdict == Verdict::Done && s.level >= level, any = false;

		map_.for_each(region.start, region.size,
			      [&](u64, u64, const model::ReferencePage &page) {
				      any |= page.accessed;
				      return !any;
			      });
		if (leaf && !any) {
			wrong("harvest tells of a page whose flag is not set", at);
		}
		if (leaf && asked.clear) {
			map_.set_accessed(at, region.size, false);
			map_.set_used(at, region.size, false);
		}
		for (u64 i = at; !leaf && asked.clear && i < region.end(); i += page_) {
			auto page = map_.find(i);

			if (page && page->accessed && !hardware_->look(i).accessed &&
			    !is_broken(i)) {
				map_.set_accessed(i, page_, false);
			}
		}
	}
	if (asked.clear) {
		map_.set_used(asked.range.start, asked.range.size, false);
	}
}

// ---- Looking ---------------------------------------------------------------------------------

void Machine::mark(const Op &op)
{
	u64 at = range_of(op).start;
	Sight s = hardware_->look(at);
	bool there = s.verdict == Verdict::Done;

	expect_status(s2_mark_accessed(&s2, gpa(at)), {there ? OK : NOENT}, op);
	if (there) {
		map_.set_accessed(s.start, s.size, true);
		map_.set_used(s.start, s.size, true);
		remembered_->look_at(at, at + 1);
	}
	judge_page(at);
}

void Machine::validate(const Op &op)
{
	Range range = range_of(op);
	u8 perm = attr_of(op).perm;
	bool expected = map_.pages_in(range.start, range.size) == range.size / page_;

	if (is_in_transit(range)) {
		return; // it would wait for the close
	}
	map_.for_each(range.start, range.size, [&](u64, u64, const model::ReferencePage &page) {
		return expected = expected && (page.perm & perm) == perm;
	});
	if (s2_validate(&s2, gpa(range.start), range.size, perm) != expected) {
		wrong(expected ? "validate refuses a range" : "validate allows a range",
		      range.start);
	}
}

// Every region is one of the reference, and all of the reference is in some region.
void Machine::dump(const Op &op)
{
	struct Seen {
		const Machine *machine;
		u64 pages, end;
	} seen = {this, 0, 0};
	Range range = range_of(op);
	u64 expected = map_.pages_in(range.start, range.size);
	auto note = [](void *context, const struct s2_region *r) {
		Seen *s = static_cast<Seen *>(context);
		const Machine *m = s->machine;
		auto page = m->map_.find(r->gpa.v);

		if (r->kind != S2_LEAF) {
			return;
		}
		if (!page || page->pa != align_down(r->hpa.v, m->page_) ||
		    page->perm != r->attr.perm || page->memory != m->type_of(r->attr.memory) ||
		    r->gpa.v < s->end) {
			m->wrong("dump shows another page", r->gpa.v);
		}
		s->end = r->gpa.v + r->size;
		s->pages += r->size / m->page_;
	};

	s2_dump(&s2, gpa(range.start), range.size, note, &seen);
	if (seen.pages > expected || (seen.pages < expected && !any_open())) {
		wrong("dump shows " + std::to_string(seen.pages) + " pages of " +
			      std::to_string(expected),
		      range.start);
	}
}

// ---- Judges ----------------------------------------------------------------------------------

void Machine::judge_mapped(u64 ipa, const model::ReferencePage &page)
{
	struct s2_leaf leaf = s2_query(&s2, gpa(ipa));
	Sight s = hardware_->look(ipa);

	if (s.verdict == Verdict::NotMapped && is_broken(ipa) && leaf.kind == S2_TRANSIT) {
		return;
	}
	if (s.verdict != Verdict::Done || s.complaint || s.pa != page.pa + ipa % page_ ||
	    s.perm != page.perm || s.memory != page.memory) {
		wrong("hardware should translate", ipa);
	}
	if (page.ignore_pat && s.ignore_pat != *page.ignore_pat) {
		wrong("the guest's PAT has a say, or none, wrongly", ipa);
	}
	if (page.largest && s.size > page.largest) {
		wrong("the leaf is too large", ipa);
	}
	if (leaf.kind != S2_LEAF || leaf.hpa.v != s.pa || leaf.attr.perm != page.perm ||
	    type_of(leaf.attr.memory) != page.memory || leaf.level != s.level ||
	    leaf.accessed != s.accessed || (!is_arm_ && leaf.dirty != s.dirty)) {
		wrong("query differs from hardware", ipa);
	}
	if (s.accessed != page.accessed && (page.accessed || s.size == page_)) {
		wrong("the accessed flag is wrong", ipa);
	}
	if (!is_arm_ && s.dirty != page.dirty && (page.dirty || s.size == page_)) {
		wrong("the dirty flag is wrong", ipa);
	}
}

void Machine::judge_page(u64 ipa)
{
	std::optional<model::ReferencePage> page = map_.find(ipa);

	if (page) {
		judge_mapped(ipa, *page);
		return;
	}
	struct s2_leaf leaf = s2_query(&s2, gpa(ipa));
	Sight s = hardware_->look(ipa);
	u64 span = s2_span(f_, leaf.level);

	if (s.verdict != Verdict::NotMapped || s.complaint) {
		wrong("hardware should fault", ipa);
	}
	if (leaf.kind != S2_EMPTY &&
	    !(leaf.kind == S2_TRANSIT && is_touched(align_down(ipa, span), span))) {
		wrong("query should say nothing is there", ipa);
	}
}

// All pages of a small range, some of a large one, and the neighbours.
void Machine::judge(const Range &range)
{
	u64 pages = range.size / page_;

	for (u64 i = 0; i < std::min<u64>(pages, 6); i++) {
		u64 page = pages <= 6 ? i : i == 0 ? 0 : i == 1 ? pages - 1 : sample_() % pages;

		judge_page(range.start + page * page_);
	}
	if (range.start > 0) {
		judge_page(range.start - page_);
	}
	if (range.end() < BIT(s2.ipa_bits)) {
		judge_page(range.end());
	}
	judge_counts();
}

void Machine::judge_counts()
{
	u64 entries = s2_table_entries(f_);
	u64 mapped = s2.stats.leaf_4k + entries * (s2.stats.leaf_2m + entries * s2.stats.leaf_1g);

	if (mapped != map_.pages()) {
		wrong("the counts say " + std::to_string(mapped) + " pages, the reference " +
			      std::to_string(map_.pages()),
		      0);
	}
	if (!any_open() && remembered_->pages() != map_.pages()) {
		wrong("hardware reaches " + std::to_string(remembered_->pages()) +
			      " pages, the reference has " + std::to_string(map_.pages()),
		      0);
	}
	if (!remembered_->error().empty()) {
		throw Wrong(remembered_->error());
	}
}

// CPUs that are in the guest remember nothing that is not so any more.
void Machine::judge_memory_of_cpus(unsigned cpus)
{
	std::string stale = remembered_->stale(
		cpus, [this](u64 start, u64 size) { return is_touched(start, size); });

	if (!stale.empty()) {
		throw Wrong(stale);
	}
}

void Machine::judge_all()
{
	std::string difference =
		hardware_->difference(map_, [this](u64 ipa) { return is_broken(ipa); });

	if (!difference.empty()) {
		throw Wrong(difference);
	}
	remembered_->look_at_all();
	judge_counts();
}

// ---- CPUs ------------------------------------------------------------------------------------

void Machine::as_cpu(u32 cpu)
{
	fake_cpu_become(cpu);
}

void Machine::enter(unsigned cpu)
{
	u32 before = this_cpu_id();

	if (!is_arm_ && remembered_->is_inside(cpu)) {
		return;
	}
	as_cpu(cpu);
	s2_entering(&s2);
	as_cpu(before);
	remembered_->enter(cpu);
	judge_memory_of_cpus(1u << cpu);
}

void Machine::leave(unsigned cpu)
{
	u32 before = this_cpu_id();

	if (is_arm_ || !remembered_->is_inside(cpu)) {
		return;
	}
	as_cpu(cpu);
	s2_left(&s2);
	as_cpu(before);
	remembered_->leave(cpu);
}

// With the fault that a first use takes, where hardware keeps no accessed flags.
Sight Machine::try_access(unsigned cpu, u64 ipa, unsigned perm)
{
	Sight s = hardware_->access(ipa, perm);

	if (s.verdict == Verdict::NotAccessed && needs_accessed_) {
		u32 before = this_cpu_id();

		leave(cpu);
		as_cpu(cpu);
		if (s2_mark_accessed(&s2, gpa(ipa)) != OK) {
			wrong("an access flag fault is not served", ipa);
		}
		as_cpu(before);
		map_.set_accessed(s.start, s.size, true);
		map_.set_used(s.start, s.size, true);
		enter(cpu);
		s = hardware_->access(ipa, perm);
	}
	return s;
}

void Machine::judge_access(u64 ipa, unsigned perm, const Sight &s)
{
	std::optional<model::ReferencePage> page = map_.find(ipa);
	bool at_work = work_ && is_touched(ipa, 1) &&
		       (work_->range.overlaps({ipa, 1}) ||
			std::any_of(work_broken_.begin(), work_broken_.end(), [&](const Range &r) {
				return r.overlaps({ipa, 1});
			}));
	bool new_is = work_ && work_->has_to && s.pa == work_->to + (ipa - work_->range.start);
	bool old_is = page && s.pa == page->pa + ipa % page_;

	if (s.complaint || s.verdict == Verdict::Wrong) {
		wrong("an access finds a malformed entry", ipa);
	}
	if (s.verdict == Verdict::NotMapped ? !page || is_broken(ipa) || at_work
					    : old_is || (at_work && new_is)) {
		bool allowed = page && (page->perm & perm);

		if (s.verdict == Verdict::NotMapped || at_work ||
		    (s.verdict == Verdict::Done) == allowed) {
			return;
		}
	}
	if (at_work && s.verdict != Verdict::NotMapped && !work_->has_to && !page) {
		return; // of a list
	}
	wrong(std::string("an access gets verdict ") + std::to_string(unsigned(s.verdict)), ipa);
}

void Machine::access(unsigned cpu, u64 ipa, unsigned tried, bool stay)
{
	unsigned perm = kPerms[tried % 4];

	enter(cpu);
	Sight s = try_access(cpu, ipa, perm);

	judge_access(ipa, perm, s);
	if (s.verdict == Verdict::Done) {
		if (sets_accessed_ || needs_accessed_) {
			map_.set_accessed(s.start, s.size, true);
			map_.set_used(s.start, s.size, true);
		}
		if (perm == REF_WRITE && !is_arm_ && sets_accessed_) {
			map_.set_dirty(s.start, s.size);
		}
	}
	remembered_->look_at(ipa, ipa + 1);
	if (!stay) {
		leave(cpu);
	}
	if (!remembered_->error().empty()) {
		throw Wrong(remembered_->error());
	}
}

void Machine::access_by_op(const Op &op)
{
	u64 ipa = range_of(op).start + pick(op, PICK_OTHER, 24) % page_;

	access((unsigned)pick(op, PICK_CPU, 2) % kCpus, ipa, (unsigned)pick(op, PICK_TRY, 2),
	       pick(op, PICK_STAY, 1));
}

// ---- What the core says to CPUs --------------------------------------------------------------

// As arch/arm64/s2_tlb.c issues them.
void Machine::on_range(void *context, const struct s2 *, gpa_t start, u64 size, unsigned level)
{
	Machine *m = static_cast<Machine *>(context);
	struct s2_armv8_flush flush = {
		.format = m->f_,
		.ipa = start.v,
		.end = start.v + size,
		.level = level,
		.by_range = m->shape_.by_range,
		.ttl = m->shape_.ttl,
	};
	enum s2_armv8_tlbi next;
	u64 operand;

	m->look_again();
	while ((next = s2_armv8_flush_next(&flush, &operand)) != FLUSH_DONE) {
		model::TlbiRange range;

		if (next == FLUSH_VMALLS12E1IS) {
			m->remembered_->forget_all(Remembered::ALL);
			continue;
		}
		range = next == FLUSH_IPAS2E1IS ? model::decode_ipas2e1(operand, m->arm_features_)
						: model::decode_ripas2e1(operand, m->arm_config_);
		if (!range.error.empty()) {
			throw Wrong(range.error);
		}
		m->remembered_->forget_stage2(
			Remembered::ALL, range.start,
			range.end - range.start == 1 ? range.start + m->page_ : range.end,
			range.level == model::TlbiRange::ANY_LEVEL ? Remembered::ANY_LEVEL
								   : 3 - range.level);
	}
}

void Machine::on_tail(void *context, const struct s2 *)
{
	Machine *m = static_cast<Machine *>(context);

	m->remembered_->wait();
	m->remembered_->forget_combined(Remembered::ALL);
	m->remembered_->wait();
}

void Machine::on_space(void *context, const struct s2 *)
{
	Machine *m = static_cast<Machine *>(context);

	m->look_again();
	m->remembered_->forget_all(Remembered::ALL);
	m->remembered_->wait();
}

// INVEPT of this EPTP, or VMRUN with this ASID flushed, or TLBI VMALLS12E1 without IS.
void Machine::on_local(void *context, const struct s2 *)
{
	Machine *m = static_cast<Machine *>(context);

	m->look_again();
	m->remembered_->forget_all(1u << this_cpu_id());
	m->remembered_->wait();
}

void Machine::on_kick(void *context, u32 cpu)
{
	static_cast<Machine *>(context)->leave(cpu);
}

// Between two writes of an operation another CPU runs: here and there, mostly at the place itself.
void Machine::on_written(void *context)
{
	Machine *m = static_cast<Machine *>(context);

	if (m->in_between_ || m->accesses_between_ == 0 || m->sample_() % 4 != 0) {
		return;
	}
	m->accesses_between_--;
	u64 area = m->sample_() % kAreas;
	u64 ipa = m->area_base((unsigned)area) + m->sample_() % area_pages(m->f_) * m->page_;

	if (m->work_ && m->sample_() % 2 == 0) {
		ipa = m->work_->range.start +
		      m->sample_() % (m->work_->range.size / m->page_) * m->page_;
	}
	Sight s = m->hardware_->look(ipa);

	if (m->work_ && m->work_->takes_accessed && m->is_touched(s.start, s.size)) {
		return; // whether before or after, nobody can tell
	}
	m->in_between_ = true;
	m->remembered_->look_at(ipa, ipa + 1);
	m->access(1, ipa, m->work_ && m->is_touched(ipa, 1) ? 0 : m->sample_() % 4,
		  m->sample_() % 2);
	m->in_between_ = false;
}

// ---- A sequence ------------------------------------------------------------------------------

void Machine::run(const Op &op)
{
	switch (op.kind) {
	case MAP:
		map(op, S2_ERROR);
		break;
	case MAP_SKIP:
		map(op, S2_SKIP);
		break;
	case MAP_UPGRADE: {
		Range range = range_of(op);
		u64 first = 0;

		upgrade_range(map_, page_, &range.size, range.start, &first);
		if (range.size == 0) {
			map(op, S2_UPGRADE);
			break;
		}
		disturb(range);
		if (do_map(op, range, hpa(first), nullptr, S2_UPGRADE) == OK) {
			after_map(range, first, nullptr, attr_of(op), S2_UPGRADE);
		}
		end();
		judge(range);
		break;
	}
	case MAP_LIST:
		map_list(op);
		break;
	case MAP_SHARED:
		map_shared(op);
		break;
	case FAULT:
		fault(op);
		break;
	case UNMAP:
		unmap(op);
		break;
	case PROTECT:
		protect(op);
		break;
	case SPLIT:
		split(op);
		break;
	case SPLIT_RANGE:
		split_range(op);
		break;
	case COLLAPSE:
		collapse(op);
		break;
	case CLOSE:
		close((unsigned)pick(op, PICK_BATCH, 2));
		break;
	case HARVEST:
		harvest(op);
		break;
	case MARK:
		mark(op);
		break;
	case VALIDATE:
		validate(op);
		break;
	case DUMP:
		dump(op);
		break;
	case ACCESS:
	case KINDS:
		access_by_op(op);
		break;
	}
	/* The more there is to look at, the rarer. */
	if (++ops_ > next_look_) {
		judge_all();
		next_look_ = ops_ + 200 + (s2.stats.leaf_4k + s2.stats.leaf_2m) / 8;
	}
}

void Machine::finish()
{
	for (unsigned slot = 0; slot < kBatches; slot++) {
		close(slot);
	}
	judge_all();
	for (unsigned cpu = 0; cpu < kCpus; cpu++) {
		enter(cpu);
		leave(cpu);
	}
	fake_flush_hook = {};
	s2_destroy(&s2);
	if (frame_count(FRAME_FREE) != free_before_) {
		throw Wrong(std::to_string(s64(free_before_ - frame_count(FRAME_FREE))) +
			    " frames leaked");
	}
}

} // namespace s2_model
