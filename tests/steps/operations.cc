/*
 * The operations that are stepped against each other, all on the same block.
 *
 * None owns anything that a destructor has to free, since an order may be given up half way. What
 * an operation returns is judged here as far as it does not depend on the order.
 */
#include "operations.h"

#include <cstdlib>

extern "C" {
u32 __tsan_atomic32_load(const volatile u32 *at, int order);
u32 __tsan_atomic32_fetch_add(volatile u32 *at, u32 value, int order);
u8 __tsan_atomic8_load(const volatile u8 *at, int order);
}

namespace steps
{

namespace
{

constexpr u64 kPage0 = kPlace, kPage1 = kPlace + PAGE_SIZE;

void expect(bool holds, const char *text)
{
	if (!holds) {
		fail(text);
	}
}

/* ---- Range operations ------------------------------------------------------------------------ */

void map_if_free(u64 *frame, u64 at, u64 size)
{
	enum status status = s2_map(&machine.space, gpa(at), hpa(*frame), size, kRwx, S2_ERROR);

	expect(status == OK || status == EXISTS || status == AGAIN, "map: not a status of a race");
	if (status == OK) {
		machine_owes(at, size, *frame);
		*frame = 0;
	}
}

void map_block(u32 cpu)
{
	map_if_free(&machine.cpu[cpu].hand.block, kPlace, kBlock);
}

void map_page(u32 cpu)
{
	map_if_free(&machine.cpu[cpu].hand.page[0], kPage0, PAGE_SIZE);
}

/* A block of frames where no block can be, in two tables. */
void map_across(u32 cpu)
{
	map_if_free(&machine.cpu[cpu].hand.block, kPlace - PAGE_SIZE, kBlock);
}

/* Others come between an operation and its close without being preemptions. */
void close(struct s2_batch *batch)
{
	pause("has a batch open");
	s2_batch_close(batch);
}

void unmap_into(struct s2_batch *batch, u64 at, u64 size)
{
	machine_may_lose(at, size);
	expect(s2_unmap(&machine.space, gpa(at), size, batch) == OK, "unmap: not OK");
}

void unmap(u64 at, u64 size)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &machine.space);
	unmap_into(&batch, at, size);
	close(&batch);
}

void unmap_page(u32)
{
	unmap(kPage0, PAGE_SIZE);
}

void unmap_block(u32)
{
	unmap(kPlace, kBlock);
}

/* A page and the block behind it: leaves of two sizes in one range. */
void unmap_span(u32)
{
	unmap(kPlace - PAGE_SIZE, PAGE_SIZE + kBlock);
}

/* The second call goes on in the table that the first one's split made, and nobody else reaches. */
void unmap_twice(u32)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &machine.space);
	unmap_into(&batch, kPage0, PAGE_SIZE);
	pause("between two calls");
	unmap_into(&batch, kPage1, PAGE_SIZE);
	close(&batch);
}

void protect(u32)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &machine.space);
	expect(s2_protect(&machine.space, gpa(kPage0), PAGE_SIZE, S2_READ, &batch) == OK,
	       "protect: not OK");
	close(&batch);
}

void split(u32)
{
	struct s2_batch batch;
	enum status status;

	s2_batch_open(&batch, &machine.space);
	status = s2_split(&machine.space, gpa(kPage0), 0, &batch);
	expect(status == OK || status == NOENT, "split: not a status of a race");
	close(&batch);
}

void split_range(u32)
{
	struct s2_batch batch;

	s2_batch_open(&batch, &machine.space);
	expect(s2_split_range(&machine.space, gpa(0), kPlace + kBlock, 0, &batch) == OK,
	       "split_range: not OK");
	close(&batch);
}

void collapse(u32)
{
	struct s2_batch batch;
	struct s2_collapsed report;

	s2_batch_open(&batch, &machine.space);
	expect(s2_collapse(&machine.space, gpa(kPlace), kBlock, 1, &batch, &report) == OK,
	       "collapse: not OK");
	close(&batch);
}

/* ---- Faults ---------------------------------------------------------------------------------- */

enum status map_leaf(u32 cpu, u64 at, unsigned level, u64 *frame)
{
	enum status status;

	machine.cpu[cpu].in_fault = true;
	status = s2_map_leaf(&machine.space, gpa(at), level, hpa(*frame), kRwx);
	machine.cpu[cpu].in_fault = false;
	expect(status == OK || status == EXISTS || status == AGAIN,
	       "fault: not a status of a race");
	if (status == OK) {
		machine_owes(at, PAGE_SIZE << (level * kIndexBits), *frame);
		*frame = 0;
	}
	return status;
}

void fault_page(u32 cpu)
{
	map_leaf(cpu, kPage1, 0, &machine.cpu[cpu].hand.page[0]);
}

void fault_block(u32 cpu)
{
	map_leaf(cpu, kPlace, 1, &machine.cpu[cpu].hand.block);
}

/* ---- A guest --------------------------------------------------------------------------------- */

void enter(u32 cpu)
{
	if (!machine.cpu[cpu].in_guest) {
		steps_entering(&machine.space);
		machine.cpu[cpu].in_guest = true;
	}
}

void exit_guest(u32 cpu)
{
	if (machine.cpu[cpu].in_guest) {
		machine.cpu[cpu].in_guest = false;
		steps_left(&machine.space);
	}
}

void mark_accessed(u32 cpu, u64 at)
{
	enum status status;

	machine.cpu[cpu].in_fault = true;
	status = s2_mark_accessed(&machine.space, gpa(at));
	machine.cpu[cpu].in_fault = false;
	expect(status == OK || status == NOENT || status == AGAIN, "mark: not a status of a race");
}

/* What Lamina does when a guest has no translation: gives it a page. AGAIN: the guest tries once
 * more, which will come to the same until something changes. */
void populate(u32 cpu, u64 at)
{
	u64 frame = frame_alloc(0, FRAME_GUEST, kOwner).v;
	enum status status;

	machine_forget_frame(frame);
	status = map_leaf(cpu, at, 0, &frame);
	if (frame) {
		frame_put(hpa(frame));
	}
	if (status == AGAIN) {
		relax();
	}
}

void read_page(u32 cpu, u64 at)
{
	for (;;) {
		enter(cpu);
		switch (machine_access(cpu, at)) {
		case Guest::Ok:
			return;
		case Guest::Translation:
			exit_guest(cpu);
			populate(cpu, at);
			break;
		case Guest::AccessFlag:
			exit_guest(cpu);
			mark_accessed(cpu, at);
			break;
		}
	}
}

/* Uses a translation, and uses it again. */
void guest_page(u32 cpu)
{
	read_page(cpu, kPage0);
	read_page(cpu, kPage0);
	exit_guest(cpu);
}

/* The second page first, so that for a while it is the only one that was used. */
void guest(u32 cpu)
{
	read_page(cpu, kPage1);
	read_page(cpu, kPage0);
	read_page(cpu, kPage1);
	exit_guest(cpu);
}

/* In the guest until somebody wants this CPU to leave it: a kick that is forgotten is a deadlock.
 */
void guest_stays(u32 cpu)
{
	const bool *kicked = &cpus[cpu].arch.kicked;

	read_page(cpu, kPage0);
	machine_count_still(cpu);
	while (!__tsan_atomic8_load(reinterpret_cast<const u8 *>(kicked), 0) &&
	       __tsan_atomic32_load(&machine.still_count, 0) < machine.cpus) {
		relax();
	}
	exit_guest(cpu);
}

/* ---- Lookers --------------------------------------------------------------------------------- */

void mark(u32 cpu)
{
	mark_accessed(cpu, kPage0);
}

void tell(void *, gpa_t at, unsigned level)
{
	machine_told(at.v, level);
}

constexpr u64 kHarvested = kPlace + kBlock;

/* Takes no lock, so what holds for faults holds for it. */
void harvest(u32 cpu)
{
	struct s2_harvest h = {};

	h.clear = true;
	h.young = tell;
	machine.cpu[cpu].in_fault = true;
	expect(s2_harvest(&machine.space, gpa(0), kHarvested, &h) == OK, "harvest: not OK");
	machine.cpu[cpu].in_fault = false;
}

void harvest_and_free(u32)
{
	struct s2_batch batch;
	struct s2_harvest h = {};

	machine_may_lose(0, kHarvested);
	s2_batch_open(&batch, &machine.space);
	h.clear = true;
	h.young = tell;
	h.tables = S2_TABLES_FREE;
	h.batch = &batch;
	expect(s2_harvest(&machine.space, gpa(0), kHarvested, &h) == OK, "harvest: not OK");
	close(&batch);
}

void validate(u32)
{
	s2_validate(&machine.space, gpa(kPlace), kBlock, S2_READ);
}

} // namespace

const std::vector<Operation> &operations()
{
	constexpr u32 kEmpty = 1, kOne = 2, kPagesThere = 4, kBlockThere = 8, kParts = 16;
	constexpr u32 kFull = kPagesThere | kBlockThere | kParts, kAll = kEmpty | kOne | kFull;
	static const std::vector<Operation> all = {
		{"map_block", map_block, -1, kAll & ~kParts},
		{"map_page", map_page, -1, kAll},
		{"map_across", map_across, -1, kEmpty},
		{"unmap_page", unmap_page, 1, kAll},
		{"unmap_block", unmap_block, 1, kAll},
		{"unmap_span", unmap_span, -1, kBlockThere},
		{"unmap_twice", unmap_twice, -1, kBlockThere},
		{"protect", protect, -1, kFull},
		{"split", split, 1, kBlockThere | kParts},
		{"split_range", split_range, -1, kBlockThere},
		{"collapse", collapse, 1, kBlockThere | kParts},
		{"fault_page", fault_page, 1, kAll},
		{"fault_block", fault_block, -1, kEmpty | kOne | kBlockThere},
		{"guest", guest, -1, kAll & ~kEmpty},
		{"guest_page", guest_page, 1, kAll},
		{"guest_stays", guest_stays, 1, kAll & ~kEmpty},
		{"mark", mark, -1, kAll & ~kEmpty},
		{"validate", validate, -1, kFull},
		{"harvest", harvest, 1, kFull | kOne},
		{"harvest_and_free", harvest_and_free, -1, kFull},
	};

	return all;
}

/* ---- Wrong ones, that have to be found ------------------------------------------------------- */

namespace
{

/* I9: something else is there before the batch is closed. */
void reuse_before_close(u32 cpu)
{
	u64 &block = machine.cpu[cpu].hand.block;
	struct s2_batch batch;
	struct s2_cursor c;

	machine_may_lose(kPlace, kBlock);
	s2_batch_open(&batch, &machine.space);
	s2_unmap(&machine.space, gpa(kPlace), kBlock, &batch);
	s2_cursor_start(&c, &machine.space, gpa(kPlace));
	s2_cursor_descend(&c, 1);
	if (s2_entry_set(&c, s2_leaf_entry(c.format, hpa(block), kRwx, 1), nullptr)) {
		s2_mark_way(&c);
		block = 0;
	}
	s2_batch_close(&batch);
}

/* I1: the frame is free while it can be translated to. */
void free_while_mapped(u32)
{
	struct s2_leaf leaf = s2_query(&machine.space, gpa(kPlace));

	if (leaf.kind == S2_LEAF) {
		frame_put(leaf.hpa);
	}
}

void keep_lock(u32)
{
	__tsan_atomic32_fetch_add(&machine.space.lock.next, 1, 0);
}

void lose_frame(u32 cpu)
{
	machine.cpu[cpu].hand.page[0] = 0;
}

} // namespace

const std::vector<WrongOperation> &wrong_operations()
{
	static const std::vector<WrongOperation> all = {
		{{"reuse_before_close", reuse_before_close, -1, 0}, "guest_page", "I9"},
		{{"free_while_mapped", free_while_mapped, -1, 0}, "mark", "I4"},
		{{"keep_lock", keep_lock, -1, 0}, "unmap_block", "deadlock"},
		{{"lose_frame", lose_frame, -1, 0}, "unmap_block", "I2"},
	};

	return all;
}

const Operation &operation(const std::string &name)
{
	for (const Operation &o : operations()) {
		if (o.name == name) {
			return o;
		}
	}
	std::abort();
}

/* ---- A scenario ------------------------------------------------------------------------------ */

std::string Scenario::name() const
{
	std::string text = std::string(kind_.name) + "/" + start_name(start_);

	for (const Operation &o : program_) {
		text += std::string("/") + o.name;
	}
	return text;
}

bool Scenario::is_sensible() const
{
	for (const Operation &o : program_) {
		if (!(o.starts >> unsigned(start_) & 1)) {
			return false;
		}
	}
	return true;
}

void Scenario::reset()
{
	machine_reset(kind_, cpus(), start_);
	for (const Operation &o : program_) {
		machine.counts_still |= o.run == guest_stays;
	}
}

void Scenario::run(u32 cpu)
{
	program_[cpu].run(cpu);
	machine_count_still(cpu);
}

void Scenario::become(u32 cpu)
{
	fake_cpu_become(cpu);
}

const char *Scenario::judge()
{
	return machine_judge();
}

const char *Scenario::judge_end()
{
	fake_cpu_become(0);
	return machine_judge_end();
}

u64 Scenario::digest()
{
	return machine_digest();
}

bool Scenario::is_counter(const void *address) const
{
	return machine_is_counter(address);
}

bool Scenario::is_judged(const void *address) const
{
	return machine_is_judged(address);
}

const char *Scenario::forbids(u32 cpu, const void *address) const
{
	return machine_judge_access(cpu, address);
}

const void *Scenario::life_of(const void *address) const
{
	return machine_life_of(address);
}

bool Scenario::is_table(const void *address) const
{
	return machine_is_table(address);
}

std::string Scenario::name_of(const void *address) const
{
	return machine_name_of(address);
}

} // namespace steps
