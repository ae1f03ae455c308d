/*
 * The judge: looks at raw tables, TLBs and the frame table, with nothing of the core's but its
 * masks, and says which invariant does not hold.
 *
 *   I1   no TLB in use translates to a free frame, or passed a table that is none any more;
 *        nobody touches an entry in a page that is no table any more
 *   I2   at the end, counts of leaves, tables and entries in use are those of a recount; what is
 *        in a TLB is marked as accessed, and the tables above it are; no flag that hardware set is
 *        lost, unless a harvest told of it
 *   I3   at the end, whose operation failed holds all its frames, as they were
 *   I4   no leaf leads to anything but a guest's frame; tables are tables, and linked once
 *   I6   no address is in a TLB by a leaf of one size while the table has another there; at the
 *        end nothing is broken, and what was mapped and not unmapped is mapped as it was
 *   I8   a fault takes no lock of the space's
 *   I9   what TLBs in use say of an address is what the table says, when it says something
 *   I10  at the end, no leaf was lost in a table that went; a table that goes has none
 *   I11  entries that are not present are typed
 *
 * A TLB is in use always where invalidations are broadcast; else while its CPU is in the guest,
 * since a CPU flushes before it enters when it has to.
 */
#include "machine.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace steps
{

namespace
{

char problem[300];

__attribute__((format(printf, 1, 2))) const char *wrong(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	std::vsnprintf(problem, sizeof(problem), format, args);
	va_end(args);
	return problem;
}

using ull = unsigned long long;

/* ---- Accesses ------------------------------------------------------------------------------ */

bool is_table(u64 frame)
{
	return frame < kFrames && frame_table.entries[frame].type == FRAME_TABLE;
}

/* ---- What the raw tables say ----------------------------------------------------------------- */

struct Mapped {
	bool is_mapped;
	u8 level, perm, frame;
	bool is_accessed, is_dirty;
	bool is_way_marked; /* so are the tables above */
};

struct Seen {
	Mapped page[kPages];
	u64 entry[kLevels][kPages]; /* of every level that a walk came to, else 0 */
	u64 leaves[kLevels], tables;
	u64 tables_seen; /* bits by frame */
	u32 holders[kFrames];
	u32 in_use[kFrames]; /* of a table: entries that are present */
} seen;

/* The first frame of the block that contains `frame`; kFrames: none. */
u64 head_of(u64 frame)
{
	for (unsigned order = 0; order < 6 && frame < kFrames; order++) {
		u64 head = frame & ~((1ull << order) - 1);
		const struct frame &f = frame_table.entries[head];

		if (f.type != FRAME_NONE && frame - head < (1ull << f.order)) {
			return head;
		}
	}
	return kFrames;
}

bool is_guests(u64 head)
{
	const struct frame &f = frame_table.entries[head];

	return (f.type == FRAME_GUEST || f.type == FRAME_SHARED) && f.refs > 0;
}

const char *look_leaf(u64 entry, unsigned level, u64 page, bool is_way_marked)
{
	const struct s2_format &f = *machine.space.format;
	u64 frames = 1ull << (level * kIndexBits);
	u64 first = frame_index(machine_address(entry)), last_head = kFrames;

	seen.leaves[level]++;
	for (u64 i = 0; i < frames; i++) {
		u64 head = first + i < kFrames ? head_of(first + i) : kFrames;

		if (head == kFrames || !is_guests(head)) {
			return wrong("I4: page %llu is mapped to frame %llu of type %d",
				     (ull)(page + i), (ull)(first + i),
				     head == kFrames ? -1 : frame_table.entries[head].type);
		}
		seen.holders[head] += head != last_head;
		last_head = head;
		seen.page[page + i] = {true,
				       u8(level),
				       f.decode(entry, level > 0).perm,
				       u8(first + i),
				       (entry & f.accessed) != 0,
				       (entry & f.dirty) != 0,
				       is_way_marked};
	}
	return nullptr;
}

const char *look_table(u64 a, unsigned level, u64 page, bool is_way_marked)
{
	const struct s2_format &f = *machine.space.format;
	u64 frame = frame_index(a), span = 1ull << (level * kIndexBits);

	if (!is_table(frame)) {
		return wrong("I4: a table of level %u is in frame %llu, which is none", level,
			     (ull)frame);
	}
	if (seen.tables_seen >> frame & 1) {
		return wrong("I4: frame %llu is linked as a table twice", (ull)frame);
	}
	seen.tables_seen |= 1ull << frame;
	seen.tables++;
	seen.in_use[frame] = 0;
	for (u64 i = 0; i < kEntries; i++, page += span) {
		u64 entry = frame_words(frame)[i];
		bool is_leaf = level == 0 || (entry & f.large_mask) == f.large_value;
		const char *bad = nullptr;

		seen.entry[level][page >> (level * kIndexBits)] = entry;
		if (entry & f.present) {
			bool is_marked = entry & (f.accessed_table | f.accessed_table_mark);

			seen.in_use[frame]++;
			bad = is_leaf ? look_leaf(entry, level, page, is_way_marked)
				      : look_table(machine_address(entry), level - 1, page,
						   is_way_marked && is_marked);
		} else if (entry != f.empty && (entry & f.absent) != f.absent) {
			bad = wrong("I11: entry %llx is not present, and not typed", (ull)entry);
		}
		if (bad) {
			return bad;
		}
	}
	return nullptr;
}

const char *look()
{
	std::memset(&seen, 0, sizeof(seen));
	return look_table(u64(machine.space.root), kLevels - 1, 0, true);
}

/* ---- TLBs against them ----------------------------------------------------------------------- */

bool is_in_use(u32 cpu)
{
	return machine.kind->broadcasts || machine.cpu[cpu].in_guest;
}

/* What TLBs in use say of a page: a frame + 1, or 0. */
u64 translations[kCpusMax][kPages];

/* A leaf that the TLB has, for each of its pages. */
const char *judge_leaf(u32 cpu, const TlbLeaf &leaf, unsigned level, u64 page)
{
	for (u64 i = 0; i < 1ull << (level * kIndexBits); i++) {
		const Mapped &now = seen.page[page + i];
		u64 frame = leaf.frame + i, head = head_of(frame);

		if (head == kFrames || !is_guests(head)) {
			return wrong("I1: CPU %u translates page %llu to frame %llu, which is no "
				     "guest's now",
				     cpu, (ull)(page + i), (ull)frame);
		}
		if (translations[cpu][page + i] && !machine.kind->size_change) {
			return wrong("I6: CPU %u has page %llu by leaves of two sizes", cpu,
				     (ull)(page + i));
		}
		translations[cpu][page + i] = frame + 1;
		if (!now.is_mapped) {
			continue;
		}
		if (now.frame != frame) {
			return wrong("I9: CPU %u translates page %llu to frame %llu, the table to "
				     "frame %u",
				     cpu, (ull)(page + i), (ull)frame, now.frame);
		}
		if (now.level != level && !machine.kind->size_change) {
			return wrong("I6: CPU %u has page %llu by a leaf of level %u, the table by "
				     "one of level %u",
				     cpu, (ull)(page + i), level, now.level);
		}
	}
	return nullptr;
}

/* A table that a walk of this CPU passed, and may begin at the next time. */
const char *judge_passed(u32 cpu, u64 frame, unsigned level, u64 number)
{
	const struct s2_format &f = *machine.space.format;
	u64 now = seen.entry[level][number];

	if (!is_table(frame)) {
		return wrong("I1: CPU %u may walk through frame %llu, which is no table now", cpu,
			     (ull)frame);
	}
	if ((now & f.present) && frame_index(machine_address(now)) != frame &&
	    !machine.kind->size_change) {
		return wrong("I6: CPU %u may walk through the table in frame %llu, whose place is "
			     "taken",
			     cpu, (ull)frame);
	}
	return nullptr;
}

const char *judge_tlb(u32 cpu)
{
	const Tlb &tlb = machine.cpu[cpu].tlb;

	for (unsigned level = 0; level < kLevels; level++) {
		for (u64 i = 0; i < kPages >> (level * kIndexBits); i++) {
			const TlbLeaf &leaf = tlb.leaf[level][i];
			const char *bad = nullptr;

			if (leaf.kinds) {
				bad = judge_leaf(cpu, leaf, level, i << (level * kIndexBits));
			}
			if (!bad && tlb.table[level][i] != kNoTable) {
				bad = judge_passed(cpu, tlb.table[level][i] - 1u, level, i);
			}
			if (bad) {
				return bad;
			}
		}
	}
	return nullptr;
}

/* I9 among TLBs, for addresses that the table says nothing of. */
const char *judge_between(u32 a, u32 b)
{
	for (u64 page = 0; page < kPages; page++) {
		u64 one = translations[a][page], other = translations[b][page];

		if (one && other && one != other) {
			return wrong("I9: CPUs %u and %u translate page %llu to two frames", a, b,
				     (ull)page);
		}
	}
	return nullptr;
}

/* ---- At the end ------------------------------------------------------------------------------ */

/* What the core counted of a table's entries. */
u32 live_count(u64 frame)
{
	return u32(frame_table.entries[frame].table & S2_TABLE_LIVE);
}

const char *recount()
{
	const struct s2_stats &stats = machine.space.stats;
	const u64 counted[] = {stats.leaf_4k, stats.leaf_2m, stats.leaf_1g};

	for (unsigned level = 0; level < kLevels; level++) {
		if (counted[level] != seen.leaves[level]) {
			return wrong("I2: %llu leaves of level %u are counted, %llu are there",
				     (ull)counted[level], level, (ull)seen.leaves[level]);
		}
	}
	if (stats.tables != seen.tables) {
		return wrong("I2: %llu tables are counted, %llu are there", (ull)stats.tables,
			     (ull)seen.tables);
	}
	for (u64 i = 0; i < kFrames; i++) {
		bool is_root = i == frame_index(u64(machine.space.root));

		if (seen.tables_seen >> i & 1 && !is_root && live_count(i) != seen.in_use[i]) {
			return wrong(
				"I2: %u entries in use are counted in frame %llu, %u are there",
				live_count(i), (ull)i, seen.in_use[i]);
		}
	}
	return nullptr;
}

const char *hold(u64 a, unsigned order)
{
	if (a == 0) {
		return nullptr;
	}
	seen.holders[frame_index(a)]++;
	return frame_table.entries[frame_index(a)].order == order
		       ? nullptr
		       : wrong("I3: frame %llu was split, and not mapped", (ull)frame_index(a));
}

const char *count_hands()
{
	for (u32 i = 0; i < machine.cpus; i++) {
		const Hand &hand = machine.cpu[i].hand;
		const char *bad = hold(hand.block, kBlockOrder);

		for (u64 page : hand.page) {
			bad = bad ? bad : hold(page, 0);
		}
		if (bad) {
			return bad;
		}
	}
	return nullptr;
}

const char *count_references()
{
	for (u64 i = 0; i < kFrames; i++) {
		const struct frame &f = frame_table.entries[i];
		bool is_guests_own = f.type == FRAME_GUEST || f.type == FRAME_SHARED;

		if (f.refs != seen.holders[i] && (is_guests_own || seen.holders[i])) {
			return wrong("I2: frame %llu has %u references, and %u holders", (ull)i,
				     f.refs, seen.holders[i]);
		}
	}
	return nullptr;
}

/* What one CPU's hardware set stays with the frame, until somebody was told of it. */
const char *judge_used(u32 cpu)
{
	for (u64 page = 0; page < kPages; page++) {
		const Mapped &now = seen.page[page];

		if (now.is_mapped && machine.cpu[cpu].used[page] == now.frame + 1 &&
		    !now.is_accessed) {
			return wrong(
				"I2: the accessed flag of page %llu, which CPU %u used, is lost",
				(ull)page, cpu);
		}
		if (now.is_mapped && machine.cpu[cpu].written[page] == now.frame + 1 &&
		    !now.is_dirty) {
			return wrong("I2: the dirty flag of page %llu, which CPU %u wrote, is lost",
				     (ull)page, cpu);
		}
	}
	return nullptr;
}

/* Software's marks in tables are set by whoever makes a leaf that is accessed, or finds it used. No
 * guest's access sets them later, so a harvest that trusts them misses what they miss. */
const char *judge_marks()
{
	for (u64 page = 0; page < kPages; page++) {
		const Mapped &now = seen.page[page];

		if (!machine.kind->hardware_flags && now.is_mapped && now.is_accessed &&
		    !now.is_way_marked) {
			return wrong("I2: page %llu is marked as used, and a table above is not",
				     (ull)page);
		}
	}
	return nullptr;
}

const char *judge_owed()
{
	for (u64 page = 0; page < kPages; page++) {
		const Mapped &now = seen.page[page];
		u64 owed = machine.owed[page];

		if (owed && !machine.may_go[page] && (!now.is_mapped || now.frame + 1u != owed)) {
			return wrong(
				"I6: page %llu was mapped to frame %llu, and nobody unmapped it",
				(ull)page, (ull)(owed - 1));
		}
	}
	return nullptr;
}

const char *judge_broken()
{
	for (unsigned level = 0; level < kLevels; level++) {
		for (u64 i = 0; i < kPages >> (level * kIndexBits); i++) {
			u64 entry = seen.entry[level][i];

			if (!(entry & machine.space.format->present) &&
			    field_get(entry, S2_ABSENT_KIND) == S2_BROKEN) {
				return wrong("I6: entry %llu of level %u is still broken", (ull)i,
					     level);
			}
		}
	}
	return nullptr;
}

/* No batch is open, so what a TLB in use says is what the table says. A CPU that will flush when it
 * enters has none. */
const char *judge_stale(u32 cpu)
{
	const struct s2 &s2 = machine.space;

	bool is_behind = s2.cpu[cpu].flushed < s2.flush_generation;

	if (!machine.kind->broadcasts && is_behind) {
		return nullptr;
	}
	for (u64 page = 0; page < kPages; page++) {
		const Mapped &now = seen.page[page];

		for (unsigned level = 0; level < kLevels; level++) {
			const TlbLeaf &leaf =
				machine.cpu[cpu].tlb.leaf[level][page >> (level * kIndexBits)];

			u64 inside = page & ((1ull << (level * kIndexBits)) - 1);

			if (leaf.kinds &&
			    (!now.is_mapped || (now.level != level && !machine.kind->size_change) ||
			     now.frame != leaf.frame + inside || (leaf.perm & ~now.perm))) {
				return wrong("I1: all is closed, and CPU %u still translates page "
					     "%llu as it was",
					     cpu, (ull)page);
			}
			if (leaf.kinds && !is_behind && !(now.is_accessed && now.is_way_marked)) {
				return wrong("I2: CPU %u uses page %llu, which is not marked as "
					     "accessed",
					     cpu, (ull)page);
			}
		}
	}
	return nullptr;
}

const char *destroy()
{
	for (u32 i = 0; i < machine.cpus; i++) {
		Hand &hand = machine.cpu[i].hand;

		for (u64 a : {hand.page[0], hand.page[1], hand.block}) {
			if (a) {
				frame_put(hpa(a));
			}
		}
	}
	s2_destroy(&machine.space);
	if (frame_count(FRAME_FREE) != kFrames) {
		return wrong("I10: %llu frames were lost",
			     (ull)(kFrames - frame_count(FRAME_FREE)));
	}
	return nullptr;
}

} // namespace

const char *machine_judge_access(u32 cpu, const void *address)
{
	const MachineCpu &me = machine.cpu[cpu];
	u64 frame = frame_index(u64(address));

	if (me.in_fault && u64(address) - u64(&machine.space.lock) < sizeof(machine.space.lock)) {
		return wrong("I8: a fault touches the space's lock");
	}
	/* Hardware that was told to begin anew does not use what it reads. */
	if (frame < kFrames && !is_table(frame) && !me.is_walk_futile) {
		return wrong("I1: CPU %u touches an entry in frame %llu, which is no table now",
			     cpu, (ull)frame);
	}
	return nullptr;
}

const char *machine_judge()
{
	const char *bad = look();

	std::memset(translations, 0, sizeof(translations));
	for (u32 i = 0; !bad && i < machine.cpus; i++) {
		bad = is_in_use(i) ? judge_tlb(i) : nullptr;
		for (u32 other = 0; !bad && other < i; other++) {
			bad = judge_between(other, i);
		}
	}
	return bad;
}

const char *machine_judge_end()
{
	const char *bad = look();

	bad = bad ? bad : judge_broken();
	bad = bad ? bad : judge_owed();
	bad = bad ? bad : judge_marks();
	bad = bad ? bad : recount();
	bad = bad ? bad : count_hands();
	bad = bad ? bad : count_references();
	for (u32 i = 0; !bad && i < machine.cpus; i++) {
		bad = judge_stale(i);
		bad = bad ? bad : judge_used(i);
	}
	return bad ? bad : destroy();
}

} // namespace steps
