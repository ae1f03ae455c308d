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

using model::REF_EXEC_KERNEL;
using model::REF_EXEC_USER;
using model::REF_READ;
using model::REF_WRITE;
using model::Remembered;
using model::Sight;
using model::Verdict;

namespace
{

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

} // namespace

// ---- Shapes and sequences, in words ---------------------------------------------------------

std::string text(const Op &op)
{
	static const char *const names[KINDS] = {
#define X(name, method) #name,
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
	if (f->accessed_table || (is_arm(f) && (seed / 3 & 1))) {
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
      sets_accessed_(shape.traits & S2_HARDWARE_ACCESSED), needs_accessed_(!sets_accessed_),
      page_(s2_span(f_, 0)), map_(page_, std::min<u64>(s2_table_entries(f_), 1024))
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
		registers.unused_type = needs_accessed_;
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
	page.memory_name = attr.memory;
	if (is_ept(f_)) {
		page.ignore_pat = attr.memory == S2_FORCED;
	}
	page.used = !f_->accessed_table; // new leaves count as used
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
	    leaf.attr.memory != page.memory_name || leaf.level != s.level ||
	    leaf.accessed != s.accessed || leaf.hinted != s.contiguous ||
	    (!is_arm_ && leaf.dirty != s.dirty)) {
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

u64 Machine::counted_pages() const
{
	u64 entries = s2_table_entries(f_);

	return s2.stats.leaf_4k + entries * (s2.stats.leaf_2m + entries * s2.stats.leaf_1g);
}

void Machine::judge_counts()
{
	if (counted_pages() != map_.pages()) {
		wrong("the counts say " + std::to_string(counted_pages()) +
			      " pages, the reference " + std::to_string(map_.pages()),
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
	u64 unwatched = remembered_->unwatched(
		1u << cpu, [this](u64 start, u64 size) { return is_touched(start, size); });

	if (unwatched != ~0ull) {
		wrong("a CPU enters with a leaf whose use it will not show", unwatched);
	}
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
	static void (Machine::*const does[KINDS])(const Op &) = {
#define X(name, method) &Machine::method,
		S2_MODEL_KINDS(X)
#undef X
	};

	(this->*does[op.kind])(op);
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
