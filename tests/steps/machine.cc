/* The small machine: memory, TLBs, and arch_s2_flush_*() in place of arch/fake/fake_tlb.c. */
#include "hooks.h"
#include "machine.h"

#include <cstdio>
#include <cstring>

extern "C" {
#include "../../hyp/frame_internal.h"
#include "hyp/log.h"
u64 __tsan_atomic64_load(const volatile u64 *at, int order);
u32 __tsan_atomic32_fetch_add(volatile u32 *at, u32 value, int order);
}

namespace steps
{

Machine machine;

namespace
{

alignas(PAGE_SIZE << 6) u8 arena[kFrames * PAGE_SIZE];
alignas(64) u8 table[PAGE_SIZE];
struct s2_format format;

u64 block_of_order(unsigned order)
{
	hpa_t a = frame_alloc(order, FRAME_GUEST, kOwner);

	check(!hpa_is_none(a));
	return a.v;
}

/* Fills every CPU's cache of single frames, so that taking one takes no lock: the allocator is not
 * what is explored here. */
void fill_caches()
{
	for (u32 cpu = 0; cpu < machine.cpus; cpu++) {
		fake_cpu_become(cpu);
		frame_put(frame_alloc(0, FRAME_GUEST, kOwner));
	}
	fake_cpu_become(0);
}

void fill_hands()
{
	for (u32 cpu = 0; cpu < machine.cpus; cpu++) {
		machine.cpu[cpu].hand = {{block_of_order(0), block_of_order(0)},
					 block_of_order(kBlockOrder)};
	}
}

/* As if they had been harvested, and flushed. */
void age_all()
{
	for (u64 at = 0; at < kPages * PAGE_SIZE; at += PAGE_SIZE) {
		struct s2_cursor c;

		s2_cursor_start(&c, &machine.space, gpa(at));
		s2_cursor_descend(&c, 0);
		for (unsigned level = c.level; level < kLevels; level++) {
			u64 *slot = c.table[level] + s2_index(&format, at, level, kLevels - 1);
			bool is_leaf = s2_entry_is_leaf(&format, *slot, level);

			if (s2_entry_present(&format, *slot)) {
				*slot &= ~(is_leaf ? format.accessed
						   : s2_table_flag(&machine.space));
			}
		}
	}
}

void map_at_start(u64 at, unsigned order)
{
	u64 size = PAGE_SIZE << order, frame = block_of_order(order);

	check(s2_map(&machine.space, gpa(at), hpa(frame), size, kRwx, S2_ERROR) == OK);
	machine_owes(at, size, frame);
}

void split_at_start()
{
	struct s2_batch batch;

	s2_batch_open(&batch, &machine.space);
	check(s2_split(&machine.space, gpa(kPlace), 0, &batch) == OK);
	s2_batch_close(&batch);
}

void map_start(Start start)
{
	bool is_block = start == Start::Block || start == Start::Parts;
	bool is_full = start == Start::Pages || is_block;
	u64 first = is_full ? 0 : kPlace;
	u64 end = kPlace + (start == Start::OnePage ? PAGE_SIZE
			    : start == Start::Pages ? kBlock
						    : 0);

	if (is_block) {
		map_at_start(kPlace, kBlockOrder);
	}
	if (start == Start::Parts) {
		split_at_start();
	}
	for (u64 at = first; at < end; at += PAGE_SIZE) {
		map_at_start(at, 0);
	}
	if (is_full) {
		age_all();
	}
}

void make_format(const Kind &kind)
{
	format = *arch_s2_format();
	format.name = "steps";
	format.index_bits = kIndexBits;
	for (unsigned level = 0; level <= S2_LEVELS_MAX; level++) {
		format.shift[level] = u8(PAGE_SHIFT + level * kIndexBits);
	}
	format.levels = kLevels;
	format.leaf_levels = 3;
	format.root_tables_max = 1;
	if (kind.hardware_flags) {
		format.accessed_table = format.accessed_table_mark;
		format.accessed_table_mark = 0;
	}
}

} // namespace

const char *start_name(Start start)
{
	static const char *const names[] = {"empty", "one_page", "pages", "block", "parts"};

	return names[unsigned(start)];
}

void machine_reset(const Kind &kind, u32 cpus, Start start)
{
	std::memset(&machine, 0, sizeof(machine));
	machine.kind = &kind;
	machine.cpus = cpus;
	make_format(kind);
	fake_broadcasts = kind.broadcasts;
	fake_traits = u8((kind.hardware_flags ? S2_HARDWARE_ACCESSED | S2_HARDWARE_DIRTY : 0) |
			 (kind.size_change ? S2_SIZE_CHANGE : 0));
	fake_cpus(cpus);
	frame_init(hpa(u64(arena)), sizeof(arena), table);
	frame_give(hpa(u64(arena)), hpa(u64(arena) + sizeof(arena)));
	check(s2_init(&machine.space, &format, PAGE_SHIFT + kIndexBits * kLevels, kOwner) == OK);
	map_start(start);
	fill_hands();
	fill_caches();
}

void machine_count_still(u32 cpu)
{
	if (machine.counts_still && !machine.cpu[cpu].is_still) {
		machine.cpu[cpu].is_still = true;
		__tsan_atomic32_fetch_add(&machine.still_count, 1, 0);
	}
}

void machine_owes(u64 gpa, u64 size, u64 hpa)
{
	for (u64 i = 0; i < size / PAGE_SIZE; i++) {
		machine.owed[gpa / PAGE_SIZE + i] = u8(frame_index(hpa) + i + 1);
	}
}

void machine_may_lose(u64 gpa, u64 size)
{
	for (u64 i = 0; i < size / PAGE_SIZE; i++) {
		machine.may_go[gpa / PAGE_SIZE + i] = true;
	}
}

void machine_told(u64 gpa, unsigned level)
{
	for (u64 i = 0; i < 1ull << (level * kIndexBits); i++) {
		for (u32 cpu = 0; cpu < machine.cpus; cpu++) {
			machine.cpu[cpu].used[gpa / PAGE_SIZE + i] = 0;
		}
	}
}

void machine_forget_frame(u64 hpa)
{
	u8 name = u8(frame_index(hpa) + 1);

	for (u32 cpu = 0; cpu < machine.cpus; cpu++) {
		for (u64 page = 0; page < kPages; page++) {
			MachineCpu &c = machine.cpu[cpu];

			c.used[page] = c.used[page] == name ? 0 : c.used[page];
			c.written[page] = c.written[page] == name ? 0 : c.written[page];
		}
	}
}

u64 machine_address(u64 entry)
{
	return (entry & format.address) |
	       ((entry & format.address_high) << format.address_high_shift);
}

u64 frame_index(u64 hpa)
{
	return hpa - u64(arena) < sizeof(arena) ? (hpa - u64(arena)) / PAGE_SIZE : kFrames;
}

const u64 *frame_words(u64 index)
{
	return reinterpret_cast<const u64 *>(arena + index * PAGE_SIZE);
}

/* ---- The state ------------------------------------------------------------------------------- */

/* Of the allocator: each CPU's cache. Free blocks are linked through the frame table. */
static u64 digest_caches(u64 hash)
{
	for (u32 i = 0; i < machine.cpus; i++) {
		const struct frame_cpu *c = frame_cpu_at[i];

		hash = mix_words(hash, c->used, sizeof(c->used));
		for (u32 n = 0; n < c->cached; n++) {
			hash = mix(hash, c->numbers[n]);
		}
	}
	return hash;
}

u64 machine_digest()
{
	const struct s2 &s2 = machine.space;
	u64 hash = mix_words(1, &s2, offsetof(struct s2, cpu) + machine.cpus * sizeof(s2.cpu[0]));

	hash = mix(mix(hash, s2.stats.leaf_4k), s2.stats.leaf_2m);
	hash = mix(mix(hash, s2.stats.leaf_1g), s2.stats.tables);
	hash = mix_words(hash, frame_table.entries, kFrames * sizeof(struct frame));
	for (u64 i = 0; i < kFrames; i++) {
		if (frame_table.entries[i].type == FRAME_TABLE) {
			hash = mix_words(hash, frame_words(i), kEntries * 8);
		}
	}
	hash = mix_words(digest_caches(hash), machine.cpu, machine.cpus * sizeof(machine.cpu[0]));
	hash = mix_words(mix_words(hash, machine.owed, sizeof(machine.owed)), machine.may_go,
			 sizeof(machine.may_go));
	for (u32 i = 0; i < machine.cpus; i++) {
		hash = mix(hash, cpus[i].arch.kicked);
	}
	return hash;
}

bool machine_is_counter(const void *address)
{
	const struct s2_stats &stats = machine.space.stats;
	u64 at = u64(address);

	return at - u64(&stats) < sizeof(stats) || address == &cpu_kicks_sent;
}

const void *machine_life_of(const void *address)
{
	u64 frame = frame_index(u64(address));

	return frame < kFrames ? &frame_table.entries[frame].state : nullptr;
}

bool machine_is_table(const void *address)
{
	return frame_index(u64(address)) < kFrames;
}

bool machine_is_judged(const void *address)
{
	return frame_index(u64(address)) < kFrames || u64(address) - u64(table) < sizeof(table);
}

/* ---- Names, for traces ----------------------------------------------------------------------- */

static std::string name_in_space(u64 offset)
{
	struct Field {
		const char *name;
		u64 at, size;
	};
	static const Field fields[] = {
#define FIELD(name) {#name, offsetof(struct s2, name), sizeof(machine.space.name)}
		FIELD(lock.next), FIELD(lock.serving), FIELD(generation),
		FIELD(open),	  FIELD(root),	       FIELD(flush_generation),
#undef FIELD
	};

	for (const Field &f : fields) {
		if (offset - f.at < f.size) {
			u64 i = (offset - f.at) / 8;

			return f.size > 8 ? std::string(f.name) + "[" + std::to_string(i) + "]"
					  : f.name;
		}
	}
	u64 in_cpus = offset - offsetof(struct s2, cpu);
	std::string cpu = "cpu[" + std::to_string(in_cpus / sizeof(struct s2_cpu)) + "]";

	switch (in_cpus % sizeof(struct s2_cpu)) {
	case offsetof(struct s2_cpu, walking):
		return cpu + ".walking";
	case offsetof(struct s2_cpu, in_guest):
		return cpu + ".in_guest";
	case offsetof(struct s2_cpu, flushed):
		return cpu + ".flushed";
	}
	return "space+" + std::to_string(offset);
}

std::string machine_name_of(const void *address)
{
	u64 at = u64(address), frame = frame_index(at);
	char text[40];

	if (frame < kFrames) {
		return "page[" + std::to_string(frame) + "]." + std::to_string(at % PAGE_SIZE / 8);
	}
	if (at - u64(table) < sizeof(table)) {
		return "frame[" + std::to_string((at - u64(table)) / sizeof(struct frame)) + "]+" +
		       std::to_string(at % sizeof(struct frame));
	}
	if (at - u64(&machine.space) < sizeof(machine.space)) {
		return name_in_space(at - u64(&machine.space));
	}
	if (at - u64(cpus) < sizeof(cpus)) {
		return "cpus[" + std::to_string((at - u64(cpus)) / sizeof(cpus[0])) + "].kicked";
	}
	std::snprintf(text, sizeof(text), "%p", address);
	return address == &machine.still_count ? "still_count" : text;
}

/* ---- A walk in hardware ---------------------------------------------------------------------- */

static u64 number_at(u64 gpa, unsigned level)
{
	return gpa >> (PAGE_SHIFT + level * kIndexBits);
}

static const TlbLeaf *tlb_find(const Tlb &tlb, u64 gpa)
{
	for (unsigned level = 0; level < kLevels; level++) {
		const TlbLeaf &leaf = tlb.leaf[level][number_at(gpa, level)];

		if (leaf.kinds) {
			return &leaf;
		}
	}
	return nullptr;
}

/* Hardware sets flags, unless the entry changed. Another step, if there is something to set. */
static bool set_flags(u32 cpu, u64 *slot, u64 entry, u64 flags)
{
	if ((entry & flags) == flags) {
		return true;
	}
	step("hardware sets flags");
	if (machine.cpu[cpu].is_walk_futile || *slot != entry) {
		return false;
	}
	*slot = entry | flags;
	hardware_wrote(slot, sizeof(*slot));
	return true;
}

enum class Walked { Ok, Translation, AccessFlag, Again };

static Walked finish(u32 cpu, u64 gpa, unsigned level, u64 *slot, u64 entry)
{
	MachineCpu &me = machine.cpu[cpu];
	u64 page = number_at(gpa, 0), inside = page & ((1u << (level * kIndexBits)) - 1);
	u64 frame = frame_index(machine_address(entry)), flags = format.accessed;

	if (!machine.kind->hardware_flags && !(entry & format.accessed)) {
		return Walked::AccessFlag;
	}
	if (machine.kind->hardware_flags && (entry & format.write)) {
		flags |= format.dirty;
	}
	if (!set_flags(cpu, slot, entry, flags)) {
		return Walked::Again;
	}
	me.tlb.leaf[level][number_at(gpa, level)] = {
		kStage2 | kCombined, format.decode(entry, level > 0).perm, u8(frame)};
	me.used[page] = u8(frame + 1 + inside);
	if (flags & format.dirty) {
		me.written[page] = me.used[page];
	}
	touched();
	return Walked::Ok;
}

/*
 * From the root, an entry a step. An invalidation that comes meanwhile would wait for this walk, or
 * make it begin anew: we do the second, so that nothing is remembered that it was to forget.
 */
static Walked walk(u32 cpu, u64 gpa)
{
	MachineCpu &me = machine.cpu[cpu];
	u64 *at = machine.space.root;

	for (unsigned level = kLevels - 1;; level--) {
		u64 *slot = at + (number_at(gpa, level) & (kEntries - 1));
		u64 entry = __tsan_atomic64_load(slot, 0);

		if (me.is_walk_futile) {
			return Walked::Again;
		}
		if (!(entry & format.present)) {
			return Walked::Translation;
		}
		if (level == 0 || (entry & format.large_mask) == format.large_value) {
			return finish(cpu, gpa, level, slot, entry);
		}
		if (!set_flags(cpu, slot, entry, format.accessed_table)) {
			return Walked::Again;
		}
		me.tlb.table[level][number_at(gpa, level)] =
			u8(frame_index(machine_address(entry)) + 1);
		touched();
		at = reinterpret_cast<u64 *>(machine_address(entry));
	}
}

Guest machine_access(u32 cpu, u64 gpa)
{
	MachineCpu &me = machine.cpu[cpu];
	Walked walked = Walked::Again;

	if (tlb_find(me.tlb, gpa)) {
		step("uses what it remembers");
		/* It may have been told to forget it meanwhile. */
		if (tlb_find(me.tlb, gpa)) {
			return Guest::Ok;
		}
	}
	me.is_walking = true;
	while (walked == Walked::Again) {
		me.is_walk_futile = false;
		walked = walk(cpu, gpa);
	}
	me.is_walking = me.is_walk_futile = false;
	return walked == Walked::Ok	       ? Guest::Ok
	       : walked == Walked::Translation ? Guest::Translation
					       : Guest::AccessFlag;
}

/* ---- Invalidations --------------------------------------------------------------------------- */

namespace
{

struct What {
	u64 start, end;
	unsigned level; /* S2_LEVELS_MAX: of leaves of all levels, and tables */
	u8 kinds;
	bool tables;
};

void forget_level(Tlb &tlb, unsigned level, const What &what)
{
	u64 span = PAGE_SIZE << (level * kIndexBits);

	for (u64 i = 0; i < kPages >> (level * kIndexBits); i++) {
		if (i * span >= what.end || (i + 1) * span <= what.start) {
			continue;
		}
		if (what.level == S2_LEVELS_MAX || what.level == level) {
			tlb.leaf[level][i].kinds &= u8(~what.kinds);
			if (!tlb.leaf[level][i].kinds) {
				tlb.leaf[level][i] = {};
			}
		}
		if (what.tables) {
			tlb.table[level][i] = kNoTable;
		}
	}
}

void forget_on(u32 cpu, const What &what)
{
	for (unsigned level = 0; level < kLevels; level++) {
		forget_level(machine.cpu[cpu].tlb, level, what);
	}
	machine.cpu[cpu].is_walk_futile = machine.cpu[cpu].is_walking;
	touched();
}

void forget_on_all(const char *name, const What &what)
{
	step(name);
	for (u32 i = 0; i < machine.cpus; i++) {
		if (machine.kind->broadcasts || i == this_cpu_id()) {
			forget_on(i, what);
		}
	}
}

constexpr u64 kEnd = kPages * PAGE_SIZE;
constexpr u8 kAllKinds = kStage2 | kCombined;

} // namespace

} // namespace steps

extern "C" {

void arch_s2_flush_range(const struct s2 *, gpa_t start, u64 size, unsigned level)
{
	steps::forget_on_all("invalidates a range", {start.v, start.v + size, level, steps::kStage2,
						     level == S2_LEVELS_MAX});
}

void arch_s2_flush_tail(const struct s2 *)
{
	steps::forget_on_all("invalidates what is combined",
			     {0, steps::kEnd, S2_LEVELS_MAX, steps::kCombined, false});
}

void arch_s2_flush_space(const struct s2 *)
{
	steps::forget_on_all("invalidates the space",
			     {0, steps::kEnd, S2_LEVELS_MAX, steps::kAllKinds, true});
}

void arch_s2_flush_local(const struct s2 *)
{
	steps::step("flushes itself");
	steps::forget_on(this_cpu_id(), {0, steps::kEnd, S2_LEVELS_MAX, steps::kAllKinds, true});
}

void arch_s2_flush_idents(void)
{
}

/* So little that ranges are always invalidated one by one, the case in which more can go wrong. */
u64 arch_s2_flush_cost(const struct s2 *, u64, unsigned)
{
	return 1;
}

} // extern "C"
