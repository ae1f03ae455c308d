// See s2_model_machine.h.
#include "s2_model_machine.h"

#include <algorithm>
#include <sys/mman.h>

namespace s2_model
{
namespace
{

model::Features features_of(const Shape &shape)
{
	model::Features features;

	features.pa_bits = 48; // host pointers are host-physical addresses here
	features.hafdbs = shape.hardware_access ? 1 : 0;
	return features;
}

struct s2_attr attr_of(unsigned pick)
{
	static const u8 perms[] = {S2_RWX, S2_RW,    S2_READ, S2_READ | S2_EXEC,
				   S2_RWX, S2_WRITE, S2_EXEC};
	static const u8 types[] = {S2_NORMAL, S2_NORMAL, S2_UNCACHED, S2_DEVICE};

	return {perms[pick % 7], types[(pick / 7) % 4]};
}

model::MemoryType type_of(u8 memory)
{
	return memory == S2_DEVICE     ? model::MemoryType::Device
	       : memory == S2_UNCACHED ? model::MemoryType::NonCacheable
				       : model::MemoryType::WriteBack;
}

model::ReferencePage page_of(u64 pa, struct s2_attr attr)
{
	model::ReferencePage page;

	page.pa = pa;
	page.perm = attr.perm;
	page.memory = type_of(attr.memory);
	return page;
}

// Do the tables still lead where this walk cache entry says?
bool links(const model::Walk &walk, const model::TlbEntry &entry)
{
	return std::any_of(walk.steps.begin(), walk.steps.end(), [&](const model::Step &step) {
		return step.level == entry.level && step.next == entry.pa;
	});
}

// A block's unused part goes back page by page.
void trim(hpa_t block, u64 start, u64 end)
{
	u64 size = order_bytes(frame_of(block)->order);

	if (block.v >= start && block.v + size <= end) {
		return;
	}
	if (block.v + size <= start || block.v >= end) {
		frame_put(block);
		return;
	}
	frame_split(block, 0);
	for (u64 at = block.v; at < block.v + size; at += PAGE_SIZE) {
		if (at < start || at >= end) {
			frame_put(hpa(at));
		}
	}
}

unsigned order_for(u64 bytes)
{
	unsigned order = 0;

	while (order_bytes(order) < bytes) {
		order++;
	}
	return order;
}

} // namespace

Machine::Machine(const Shape &shape) : shape_(shape), walker_(features_of(shape), ram_)
{
	fake_broadcasts = true;
	fake_cpus(kCpus);
	fake_tlb_clear();
	fake_memory(kMemory);
	free_before_ = frame_count(FRAME_FREE);
	if (s2_init(&s2, shape.format, shape.ipa_bits, kOwner) != OK) {
		throw Wrong("s2_init failed");
	}
	s2.ident = kVmid;
	ram_.allow(frame_table.base_pfn << PAGE_SHIFT, (frame_table.base_pfn + frame_table.count)
							       << PAGE_SHIFT);
	registers_.vtcr = s2_armv8_vtcr(&s2, {5, shape.hardware_access, true});
	registers_.vttbr = ptr_hpa(s2.root).v | kVmid << 48;
	registers_.fwb = shape.format == &s2_armv8_4k_fwb;
	tlb_ = std::make_unique<model::ModelTlb>(walker_, kCpus);
	tlb_->attach(registers_);
	fake_flush_hook = {this, on_range, on_tail, on_space, nullptr};
}

Machine::~Machine()
{
	fake_flush_hook = {};
}

// As arch/arm64/s2_tlb.c issues them.
void Machine::on_range(void *context, const struct s2 *, gpa_t start, u64 size, unsigned level)
{
	Machine *m = static_cast<Machine *>(context);
	struct s2_armv8_flush flush = {start.v, start.v + size, level, m->shape_.by_range,
				       m->shape_.ttl};
	u64 operand;

	for (;;) {
		switch (s2_armv8_flush_next(&flush, &operand)) {
		case FLUSH_DONE:
			return;
		case FLUSH_IPAS2E1IS:
			m->tlb_->ipas2e1(kVmid, operand);
			break;
		case FLUSH_RIPAS2E1IS:
			m->tlb_->ripas2e1(kVmid, operand);
			break;
		case FLUSH_VMALLS12E1IS:
			m->tlb_->vmalls12e1(kVmid);
			break;
		}
	}
}

void Machine::on_tail(void *context, const struct s2 *)
{
	Machine *m = static_cast<Machine *>(context);

	m->tlb_->dsb();
	m->tlb_->vmalle1(kVmid);
	m->tlb_->dsb();
}

void Machine::on_space(void *context, const struct s2 *)
{
	Machine *m = static_cast<Machine *>(context);

	m->tlb_->vmalls12e1(kVmid);
	m->tlb_->dsb();
}

void Machine::wrong(const std::string &what, u64 ipa) const
{
	std::ostringstream out;

	out << what << " at IPA 0x" << std::hex << ipa;
	throw Wrong(out.str());
}

// Where tables begin and end: the space's first and last pages, a 1 GiB boundary, and a place with
// nothing special about it.
u64 Machine::area_base(unsigned area) const
{
	const u64 bases[kAreas] = {0, GIB(1) - MIB(2), MIB(64),
				   BIT(s2.ipa_bits) - kAreaPages * PAGE_SIZE};

	return bases[area % kAreas];
}

Machine::Range Machine::range_of(const Op &op) const
{
	u64 page = op.page % kAreaPages;
	u64 pages = std::min(std::max<u64>(op.pages, 1), kAreaPages - page);

	return {area_base(op.area) + page * PAGE_SIZE, pages * PAGE_SIZE};
}

bool Machine::any_open() const
{
	return std::any_of(std::begin(later_), std::end(later_),
			   [](const auto &l) { return l.has_value(); });
}

// Cleared by a batch that is still open: until then CPUs may have it.
bool Machine::is_in_open_batch(u64 ipa) const
{
	for (const auto &later : later_) {
		for (size_t i = 0; later && i < later->ranges.size(); i++) {
			const Range &range = later->ranges[i];

			if (ipa >= range.start && ipa < range.start + range.size) {
				return true;
			}
		}
	}
	return false;
}

// Guest memory for [at, at + size): whole 2 MiB blocks where they fit, or single frames, shifted
// against the guest's addresses or not; or a device's.
hpa_t Machine::take_memory(const Op &op, u64 at, u64 size, bool singles)
{
	u64 shift = op.pick & 0x1000 ? (op.pick >> 13) % 16 * PAGE_SIZE : 0;
	u64 offset = at % MIB(2) + shift;
	hpa_t block;

	if (size < MIB(2) && !(op.pick & 0x40000)) {
		offset = shift; // small ranges do not ask for a block each
	}
	if ((op.pick & 0x60000) == 0x60000) {
		return hpa(kNobodys + at % GIB(512) + shift);
	}
	block = frame_alloc(order_for(offset + size), FRAME_GUEST, kOwner);
	if (hpa_is_none(block)) {
		return block;
	}
	unsigned order = frame_of(block)->order;
	u64 end = block.v + order_bytes(order), first = block.v + offset;

	frame_split(block, singles ? 0 : std::min<unsigned>(order, ORDER_2M));
	for (u64 a = block.v; a < end;) {
		u64 next = a + order_bytes(frame_of(hpa(a))->order);

		trim(hpa(a), first, first + size);
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

void Machine::give_skipped(hpa_t first, const Range &range)
{
	for (u64 done = 0; done < range.size; done += PAGE_SIZE) {
		if (map_.find(range.start + done)) {
			give_memory(hpa_add(first, done), PAGE_SIZE);
		}
	}
}

void Machine::expect_status(enum status got, std::vector<enum status> allowed, const Op &op)
{
	if (op.left >= 0) {
		allowed.push_back(NOMEM);
	}
	if (any_open()) {
		allowed.push_back(AGAIN);
	}
	if (std::find(allowed.begin(), allowed.end(), got) == allowed.end()) {
		throw Wrong(std::string("status is: ") + status_name(got) +
			    ", expected: " + status_name(allowed[0]));
	}
}

void Machine::map(const Op &op, bool skip)
{
	Range range = range_of(op);
	struct s2_attr attr = attr_of(op.pick);
	hpa_t first = take_memory(op, range.start, range.size, skip);
	bool empty = map_.is_empty(range.start, range.size);
	enum status status;

	if (hpa_is_none(first)) {
		return;
	}
	{
		Starve starve(op.left);

		status = s2_map(&s2, gpa(range.start), first, range.size, attr,
				skip ? S2_SKIP : S2_ERROR);
	}
	if (status != OK) {
		give_memory(first, range.size);
	} else if (skip) {
		give_skipped(first, range);
	}
	expect_status(status, {empty || skip ? OK : EXISTS}, op);
	for (u64 done = 0; status == OK && done < range.size; done += PAGE_SIZE) {
		if (!map_.find(range.start + done)) {
			map_.map(range.start + done, PAGE_SIZE, page_of(first.v + done, attr));
		}
	}
	judge(range);
}

void Machine::fault(const Op &op)
{
	unsigned level = op.pick & 0x800 ? 1 : 0;
	u64 span = s2_span(s2.format, level);
	Range range = {align_down(range_of(op).start, span), span};
	bool empty = map_.is_empty(range.start, span);
	bool has_table = s2_query(&s2, gpa(range.start)).level < level;
	Op aligned = op;
	enum status status;

	aligned.pick &= ~0x1000u;
	aligned.pick |= 0x40000u;
	hpa_t first = take_memory(aligned, range.start, span, level == 0);

	if (hpa_is_none(first)) {
		return;
	}
	{
		Starve starve(op.left);

		status = s2_map_leaf(&s2, gpa(range.start), level, first, attr_of(op.pick));
	}
	if (status != OK) {
		give_memory(first, span);
	} else {
		map_.map(range.start, span, page_of(first.v, attr_of(op.pick)));
	}
	expect_status(status, {empty && !has_table ? OK : EXISTS}, op);
	judge(range);
}

void Machine::unmap(const Op &op, bool later)
{
	Range range = range_of(op);
	std::optional<Later> &slot = later_[op.pick % kBatches];
	enum status status;

	if (!slot) {
		slot.emplace();
		s2_batch_open(&slot->batch, &s2);
	}
	{
		Starve starve(op.left);

		status = s2_unmap(&s2, gpa(range.start), range.size, &slot->batch);
	}
	if (status == OK) {
		map_.unmap(range.start, range.size);
		slot->ranges.push_back(range);
	}
	expect_status(status, {OK}, op);
	judge(range);
	if (!later) {
		close(op.pick % kBatches);
	}
}

void Machine::close(unsigned slot)
{
	std::optional<Later> &later = later_[slot % kBatches];

	if (!later) {
		return;
	}
	std::vector<Range> ranges = later->ranges;

	s2_batch_close(&later->batch);
	later.reset();
	for (const Range &range : ranges) {
		judge_forgotten(range);
	}
	judge_tlb();
}

void Machine::split(const Op &op)
{
	u64 at = range_of(op).start + op.pick % PAGE_SIZE, size;
	unsigned level = op.pick & 0x800 ? 1 : 0;
	bool mapped = map_.find(at) != nullptr;
	u64 start = leaf_start(at, &size);
	struct s2_batch batch;
	enum status status;

	s2_batch_open(&batch, &s2);
	{
		Starve starve(op.left);

		status = s2_split(&s2, gpa(at), level, &batch);
	}
	s2_batch_close(&batch);
	expect_status(status, {mapped ? OK : NOENT}, op);
	if (status == OK) {
		map_.set_largest(start, size, s2_span(s2.format, level));
	}
	judge({start, size});
	judge_tlb();
}

// What a harvest will do: the accessed flag goes, nothing is invalidated.
void Machine::age(const Op &op)
{
	u64 at = range_of(op).start, size;
	u64 start = leaf_start(at, &size);
	struct s2_cursor c;

	s2_cursor_start(&c, &s2, gpa(at));
	s2_cursor_descend(&c, 0);
	if (s2_entry_is_leaf(c.format, c.entry, c.level)) {
		s2_entry_set(&c, c.entry & ~c.format->accessed, nullptr);
		map_.set_accessed(start, size, false);
	}
}

void Machine::mark(const Op &op)
{
	u64 at = range_of(op).start, size;
	u64 start = leaf_start(at, &size);
	bool mapped = map_.find(at) != nullptr;

	expect_status(s2_mark_accessed(&s2, gpa(at)), {mapped ? OK : NOENT}, op);
	map_.set_accessed(start, size, true);
	judge_page(at);
}

void Machine::validate(const Op &op)
{
	Range range = range_of(op);
	u8 perm = attr_of(op.pick).perm;
	bool expected = true;

	if (any_open()) {
		return; // it would wait for the close
	}
	for (u64 at = range.start; at < range.start + range.size; at += PAGE_SIZE) {
		const model::ReferencePage *page = map_.find(at);

		expected = expected && page && (page->perm & perm) == perm;
	}
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
	u64 expected = 0;
	auto note = [](void *context, const struct s2_region *r) {
		Seen *s = static_cast<Seen *>(context);
		const model::ReferencePage *page = s->machine->map_.find(r->gpa.v);

		if (r->kind != S2_LEAF) {
			return;
		}
		if (!page || page->pa != align_down(r->hpa.v, PAGE_SIZE) ||
		    page->perm != r->attr.perm || page->memory != type_of(r->attr.memory) ||
		    r->gpa.v < s->end) {
			s->machine->wrong("dump shows another page", r->gpa.v);
		}
		s->end = r->gpa.v + r->size;
		s->pages += r->size / PAGE_SIZE;
	};

	s2_dump(&s2, gpa(range.start), range.size, note, &seen);
	for (u64 at = range.start; at < range.start + range.size; at += PAGE_SIZE) {
		expected += map_.find(at) != nullptr;
	}
	if (seen.pages != expected) {
		wrong("dump shows " + std::to_string(seen.pages) + " pages of " +
			      std::to_string(expected),
		      range.start);
	}
}

// What the leaf spans that maps `ipa`; the page itself where there is none.
u64 Machine::leaf_start(u64 ipa, u64 *size)
{
	struct s2_leaf leaf = s2_query(&s2, gpa(ipa));

	*size = leaf.kind == S2_LEAF ? s2_span(s2.format, leaf.level) : PAGE_SIZE;
	return align_down(ipa, *size);
}

void Machine::judge_page(u64 ipa)
{
	const model::ReferencePage *page = map_.find(ipa);
	struct s2_leaf leaf = s2_query(&s2, gpa(ipa));
	model::Walk walk = walker_.look(registers_, ipa);

	if (!walk.complaints.empty()) {
		wrong(walk.complaints[0], ipa);
	}
	if (!page) {
		if (walk.fault != model::FaultKind::Translation) {
			wrong("hardware should fault, but: " + walk.text(), ipa);
		}
		if (leaf.kind != S2_EMPTY && !(leaf.kind == S2_TRANSIT && any_open())) {
			wrong("query should say nothing is there", ipa);
		}
		return;
	}
	if (!walk.ok() || walk.pa != page->pa + ipa % PAGE_SIZE || walk.memory != page->memory) {
		wrong("hardware should translate, but: " + walk.text(), ipa);
	}
	if (leaf.kind != S2_LEAF || leaf.hpa.v != walk.pa || leaf.attr.perm != page->perm ||
	    type_of(leaf.attr.memory) != page->memory || leaf.accessed != walk.accessed ||
	    leaf.accessed != page->accessed || s2_span(s2.format, leaf.level) != walk.size ||
	    (page->largest && walk.size > page->largest)) {
		wrong("query differs from the reference", ipa);
	}
}

// All pages of a small range, some of a large one, and the neighbours.
void Machine::judge(const Range &range)
{
	u64 pages = range.size / PAGE_SIZE, end = range.start + range.size;
	u64 mapped = s2.stats.leaf_4k + 512 * s2.stats.leaf_2m + 512 * 512 * s2.stats.leaf_1g;

	for (u64 i = 0; i < std::min<u64>(pages, 6); i++) {
		u64 page = pages <= 6 ? i : i == 0 ? 0 : i == 1 ? pages - 1 : sample_() % pages;

		judge_page(range.start + page * PAGE_SIZE);
	}
	if (range.start > 0) {
		judge_page(range.start - PAGE_SIZE);
	}
	if (end < BIT(s2.ipa_bits)) {
		judge_page(end);
	}
	if (mapped != map_.pages()) {
		wrong("the counts say " + std::to_string(mapped) + " pages, the reference " +
			      std::to_string(map_.pages()),
		      range.start);
	}
	if (!tlb_->errors().empty()) {
		throw Wrong(tlb_->errors()[0]);
	}
}

// After the close no CPU has a translation left of what was unmapped.
void Machine::judge_forgotten(const Range &range)
{
	u64 pages = range.size / PAGE_SIZE;

	for (u64 i = 0; i < std::min<u64>(pages, 4); i++) {
		u64 page = i == 0 ? 0 : i == 1 ? pages - 1 : sample_() % pages;
		u64 ipa = range.start + page * PAGE_SIZE;

		if (map_.find(ipa) || is_in_open_batch(ipa)) {
			continue;
		}
		model::Walk walk = walker_.look(registers_, ipa);

		for (unsigned cpu = 0; cpu < kCpus; cpu++) {
			for (const model::TlbEntry &e : tlb_->cached(cpu, kVmid, ipa)) {
				if (e.kind != model::TlbEntry::Table ||
				    !(any_open() || links(walk, e))) {
					wrong("after the close a CPU has " + e.text(), ipa);
				}
			}
		}
	}
}

void Machine::judge_tlb()
{
	tlb_->prefetch_all();
	if (!tlb_->errors().empty()) {
		throw Wrong(tlb_->errors()[0]);
	}
	if (!any_open() && ++closes_ % 64 == 0) {
		std::vector<std::string> stale = tlb_->stale();

		if (!stale.empty()) {
			throw Wrong(stale[0]);
		}
	}
}

void Machine::access(unsigned area, u64 page, unsigned pick)
{
	static const model::Access kinds[] = {model::Access::Read, model::Access::Write,
					      model::Access::ExecuteEl1, model::Access::ExecuteEl0};
	static const unsigned needs[] = {S2_READ, S2_WRITE, S2_EXEC, S2_EXEC};
	u64 ipa = area_base(area) + page % kAreaPages * PAGE_SIZE + pick % PAGE_SIZE, size;
	const model::ReferencePage *expected = map_.find(ipa);
	u64 start = leaf_start(ipa, &size);
	unsigned cpu = (pick >> 12) % kCpus, kind = (pick >> 16) % 4;
	model::Walk walk = tlb_->access(cpu, registers_, ipa, kinds[kind]);

	if (walk.fault == model::FaultKind::AccessFlag && expected && !expected->accessed &&
	    !shape_.hardware_access) {
		if (s2_mark_accessed(&s2, gpa(ipa)) != OK) {
			wrong("an access flag fault is not served", ipa);
		}
		map_.set_accessed(start, size, true);
		walk = tlb_->access(cpu, registers_, ipa, kinds[kind]);
	}
	model::FaultKind fault = !expected			? model::FaultKind::Translation
				 : expected->perm & needs[kind] ? model::FaultKind::None
								: model::FaultKind::Permission;

	if (walk.fault != fault || (walk.ok() && walk.pa != expected->pa + ipa % PAGE_SIZE)) {
		wrong("an access gets " + walk.text(), ipa);
	}
	if (walk.ok()) {
		map_.set_accessed(start, size, true);
	}
}

void Machine::run(const Op &op)
{
	switch (op.kind) {
	case MAP:
	case MAP_SKIP:
		map(op, op.kind == MAP_SKIP);
		break;
	case FAULT:
		fault(op);
		break;
	case UNMAP:
	case UNMAP_LATER:
		unmap(op, op.kind == UNMAP_LATER);
		break;
	case CLOSE:
		close(op.pick);
		break;
	case SPLIT:
		split(op);
		break;
	case AGE:
		age(op);
		break;
	case MARK:
		mark(op);
		break;
	case VALIDATE:
		validate(op);
		break;
	case DUMP:
	case KINDS:
		dump(op);
		break;
	}
}

void Machine::judge_all()
{
	std::string difference = map_.difference(walker_, registers_, true);

	if (!difference.empty()) {
		throw Wrong(difference);
	}
}

void Machine::finish()
{
	for (unsigned slot = 0; slot < kBatches; slot++) {
		close(slot);
	}
	judge_all();
	s2_destroy(&s2);
	if (!tlb_->stale().empty()) {
		throw Wrong(tlb_->stale()[0]);
	}
	if (frame_count(FRAME_FREE) != free_before_) {
		throw Wrong(std::to_string(free_before_ - frame_count(FRAME_FREE)) +
			    " frames leaked");
	}
}

} // namespace s2_model
