/*
 * The machine whose CPUs are stepped: 40 frames, one space of eight pages, TLBs.
 *
 * Its format is the fake one with tables of two entries, so that loops over a table are two steps
 * and not 512, and nothing else is less than in a large space: a block of two pages, three levels
 * of tables, neighbours on all sides.
 *
 *     level 2, root   [0..3]  [4..7]
 *     level 1         [0..1] [2..3]     pages 2 and 3 are the place that all fight for
 *     level 0         [2] [3]           (kPlace): one block, or two pages
 *
 * The TLBs are ours, not the fake machine's. They remember leaves with their size, in the two kinds
 * that hardware has (stage 2 alone; combined with stage 1), and tables that a walk passed. A walk
 * reads one entry a step. They forget exactly what they are told to forget, so a level too few in
 * an invalidation is seen.
 */
#ifndef TESTS_STEPS_MACHINE_H
#define TESTS_STEPS_MACHINE_H

#include "explorer.h"

extern "C" {
#include "../../arch/fake/fake.h"
#include "hyp/s2.h"
#include "hyp/s2_cursor.h"
#include <arch/s2.h>
}

namespace steps
{

constexpr u64 kFrames = 40;
constexpr unsigned kIndexBits = 1;
constexpr unsigned kLevels = 3;
constexpr u64 kEntries = 1 << kIndexBits;
constexpr u64 kPages = 1 << (kIndexBits * kLevels);
constexpr unsigned kBlockOrder = kIndexBits;
constexpr u64 kBlock = PAGE_SIZE << kBlockOrder;
constexpr u64 kPlace = kBlock;
constexpr u16 kOwner = 7;
inline const struct s2_attr kRwx = {S2_RWX, S2_NORMAL};

/* Two kinds of machine: invalidations are broadcast, and the accessed flag and that of tables are
 * software's; or every CPU flushes itself and the flags are hardware's, the dirty flag too. And the
 * first one with a trait more. */
struct Kind {
	const char *name;
	bool broadcasts;
	bool hardware_flags;
	bool size_change; /* no break between leaves of two sizes that translate alike */
};
inline constexpr Kind kKinds[] = {{"broadcast", true, false, false},
				  {"generations", false, true, false},
				  {"size_change", true, false, true}};

/* How kPlace looks when the CPUs start: Parts are pages that can be one block. Beside pages, parts
 * and a block the two pages below are mapped too, so that the table above stays, and nothing was
 * accessed yet. */
enum class Start { Empty, OnePage, Pages, Block, Parts };
inline constexpr Start kStarts[] = {Start::Empty, Start::OnePage, Start::Pages, Start::Block,
				    Start::Parts};
const char *start_name(Start start);

/* Small, since all of it is part of every state. */
struct TlbLeaf {
	u8 kinds; /* which are remembered */
	u8 perm;
	u8 frame; /* the leaf's first */
};
constexpr u8 kStage2 = 1, kCombined = 2;
constexpr u8 kNoTable = 0;

struct Tlb {
	/* By level and the number of the leaf, or of what the table covers. */
	TlbLeaf leaf[kLevels][kPages];
	u8 table[kLevels][kPages]; /* its frame + 1, or kNoTable */
};

struct Hand {
	u64 page[2], block; /* frames that this CPU may map, or 0 */
};

struct MachineCpu {
	Hand hand;
	Tlb tlb;
	/* The frame + 1 that a page was marked as accessed for, and as dirty, by this CPU's
	 * hardware since somebody was told of it. */
	u8 used[kPages], written[kPages];
	bool in_guest;	     /* the TLB is in use now */
	bool is_walking;     /* in hardware */
	bool is_walk_futile; /* an invalidation came meanwhile */
	bool in_fault;	     /* I8: takes no lock of the space's */
	bool is_still;	     /* and counted */
};

struct Machine {
	const Kind *kind;
	u32 cpus;
	struct s2 space;
	MachineCpu cpu[kCpusMax];
	/* By page: the frame + 1 that somebody mapped, 0: none; may it be gone at the end? */
	u8 owed[kPages];
	bool may_go[kPages];
	/* CPUs that do nothing any more by themselves; atomic. Counted only where one stays in its
	 * guest until then, since it is one more word to step around. */
	u32 still_count;
	bool counts_still;
};
extern Machine machine;

/* Do tables or frames change with this word? */
bool machine_is_judged(const void *address);
const void *machine_life_of(const void *address);
bool machine_is_table(const void *address);

/* A fresh machine whose CPUs hold what they may map. */
void machine_reset(const Kind &kind, u32 cpus, Start start);
void machine_count_still(u32 cpu);
/* [gpa, gpa + size) was mapped to this frame and those behind it; or somebody unmaps it. */
void machine_owes(u64 gpa, u64 size, u64 hpa);
void machine_may_lose(u64 gpa, u64 size);
/* Harvest has told that this leaf was used. */
void machine_told(u64 gpa, unsigned level);
/* The frame begins a new life. */
void machine_forget_frame(u64 hpa);
u64 machine_digest();
std::string machine_name_of(const void *address);
bool machine_is_counter(const void *address);

/* What is wrong with this CPU's next access, or NULL. */
const char *machine_judge_access(u32 cpu, const void *address);

/* What is wrong now, or NULL; and when nothing runs and no batch is open (ends the machine). */
const char *machine_judge();
const char *machine_judge_end();

/* Where an entry of the table leads. */
u64 machine_address(u64 entry);
/* Between 0 and kFrames, or kFrames for an address elsewhere. */
u64 frame_index(u64 hpa);
const u64 *frame_words(u64 index);

/* ---- What hardware does for a guest ---------------------------------------------------------- */

enum class Guest { Ok, Translation, AccessFlag };

/* One read by this CPU in the guest, and a write if it may. */
Guest machine_access(u32 cpu, u64 gpa);

} // namespace steps

/* entry.c: the inline functions of hyp/s2_inline.h, compiled as the core is. */
extern "C" void steps_entering(struct s2 *s2);
extern "C" void steps_left(struct s2 *s2);

#endif
