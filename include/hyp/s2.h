/*
 * s2: guest-physical to host-physical tables (second-level address translation).
 *
 * One manager for every format (hyp/s2_format.h: EPT, NPT, ARMv8 stage-2). Levels count from the
 * leaf: level 0 maps 4 KiB (on 4 KiB formats), level 1 maps 2 MiB, level 2 maps 1 GiB.
 *
 *     root (1..16 tables side by side)      level 4, 3 or 2
 *       |- entry -> table                   level 2      a leaf here maps 1 GiB
 *                     |- entry -> table     level 1      a leaf here maps 2 MiB
 *                                   |- leaf level 0      maps 4 KiB
 *
 * Who may do what at once: what is said to be for faults takes no lock and may run on all CPUs in
 * parallel with everything else. Range operations take the space's lock among themselves, for a
 * bounded step at a time. Every entry that hardware can see is written by compare-and-swap against
 * the value that was read (I2).
 *
 * How a translation dies: an operation clears entries and notes them in a batch; closing the batch
 * invalidates, waits until no CPU can use the old translations or walk the unlinked tables, and
 * only then gives frames and tables back (I1). The picture is at the head of hyp/s2_epoch.c.
 *
 * Errors mean: NOMEM no frame for a table, nothing was changed; EXISTS something is mapped in the
 * range; NOENT nothing is mapped there; INVALID misaligned, empty, outside the space, or not to be
 * said in this format; DENIED the frames are no guest's to have (I4), or the range is on loan from
 * another space (hyp/s2_view.h); AGAIN another CPU changed the place meanwhile, or a batch over it
 * is open: look again; MORE the budget is used up.
 *
 * A program of its own against this header stands in docs/LIBRARY.md.
 */
#ifndef HYP_S2_H
#define HYP_S2_H

#include "hyp/addr.h"
#include "hyp/cpu.h"
#include "hyp/frame.h"
#include "hyp/lock.h"
#include "hyp/s2_format.h"
#include "hyp/status.h"

#define S2_OPEN_MAX 8 /* batches of one space that are open at once; one more waits */

/*
 * Entries that are not present still say something (I11). Payload is 48 bits.
 *   EMPTY    nothing was ever here, or all of it is closed
 *   TRANSIT  cleared, not yet closed: payload is the generation that must close first (I9)
 *   BROKEN   break-before-make of a live entry, until its batch is closed: look again
 *   HELD     a table whose entries dirty logging has yet to look at (see s2_dirty_start)
 *   POISON   in a table that was unlinked: look again from the root (I10)
 *   STORED   the page's bytes are elsewhere: payload is the owner's
 *   MMIO     no memory belongs here: payload is the owner's
 */
enum s2_kind {
	S2_EMPTY,
	S2_LEAF,
	S2_TABLE,
	S2_TRANSIT,
	S2_BROKEN,
	S2_HELD,
	S2_POISON,
	S2_STORED,
	S2_MMIO,
};

/* What one guest-physical address translates to. */
struct s2_leaf {
	/* Never TABLE or HELD; TRANSIT also for what is BROKEN or POISON: look again later. */
	enum s2_kind kind;
	u8 level;	     /* of the entry */
	bool accessed;	     /* since it was last cleared, as the table says */
	bool dirty;	     /* likewise; where the format does not tell: while logging only */
	bool shared;	     /* a write copies the frame first (see s2_fork) */
	bool hinted;	     /* a TLB may hold it and its neighbours as one (see s2_hint) */
	struct s2_attr attr; /* LEAF: what the guest may do without a fault */
	hpa_t hpa;	     /* LEAF: of the byte that was asked for */
	u64 payload;	     /* TRANSIT, STORED, MMIO */
};

#define S2_STATS(X)                                                                                \
	X(leaf_4k)   /* entries mapped now, of level 0 */                                          \
	X(leaf_2m)   /* of level 1 */                                                              \
	X(leaf_1g)   /* of level 2 and above */                                                    \
	X(tables)    /* table pages in use, root included */                                       \
	X(map_races) /* a fault found that another CPU had been faster */                          \
	X(splits)                                                                                  \
	X(collapses)                                                                               \
	X(collapses_undone) /* something changed between the operation and its close */            \
	X(hints)	    /* groups that got the contiguous hint */                              \
	X(batches)	    /* closed, with something to invalidate in them */                     \
	X(flush_ranges)	    /* invalidations by range */                                           \
	X(flush_whole)	    /* invalidations of the whole space */                                 \
	X(flush_entries)    /* invalidations asked for: one for each entry that was changed */     \
	X(flush_saved)	    /* of those, not made, because another one did for both */             \
	X(flush_at_entry)   /* done by a CPU for itself before it entered */                       \
	X(kicks)	    /* CPUs made to leave the guest for a close */                         \
	X(kicks_avoided)    /* CPUs that were not in the guest, so cost nothing */                 \
	X(epoch_ticks)	    /* spent in closes, of the system counter: QEMU can make one tick of   \
			       it one instruction */

struct s2_stats {
#define X(name) u64 name;
	S2_STATS(X)
#undef X
};

/* One CPU's part in the epoch. Written by that CPU alone, read by closers. */
struct s2_cpu {
	u64 walking;  /* 0, or the generation when this CPU began to walk in software */
	u64 in_guest; /* 0, or the flush generation that this CPU entered the guest with */
	u64 flushed;  /* the flush generation that this CPU has complied with */
} __attribute__((aligned(64)));

/* What the machine can do for a space: set by s2_init from arch_s2_traits(), may be changed before
 * the first mapping. */
enum s2_trait {
	S2_SIZE_CHANGE = 1, /* a leaf may become a table of equal leaves, and the contiguous hint
			       change, without a break: BBM level 2 (DDI 0487, D8.14.2) */
	S2_NONCOHERENT = 2, /* table walkers do not snoop: written lines are cleaned to memory */
	S2_HARDWARE_ACCESSED = 4, /* hardware sets accessed flags; else the first use faults */
	S2_HARDWARE_DIRTY = 8,	  /* and dirty state; else writes are logged by write protection */
};

enum s2_logging { S2_LOG_OFF, S2_LOG_ON, S2_LOG_ENDING };
/* Several roots over one memory: see hyp/s2_view.h. */
#define S2_DEPENDENTS_MAX 8
#define S2_LOANS_MAX 4

struct s2_dependent {
	struct s2 *space; /* its TLB entries may come from our tables or leaves */
	u32 uses;
};

struct s2_loan {
	u64 start, end;	 /* end 0: none */
	struct s2 *from; /* translates this range, and alone changes it */
	u8 level;	 /* of our entries that lead to its tables; a view has none */
};

struct s2 {
	/* Constant after s2_init. */
	const struct s2_format *format;
	u8 ipa_bits; /* guest-physical addresses are [0, 2^ipa_bits) */
	u8 root_level;
	u8 root_shift;		   /* an entry of the root spans 2^root_shift */
	u8 traits;		   /* of enum s2_trait */
	u16 owner;		   /* of its frames */
	u64 inside[S2_LEVELS_MAX]; /* the bits of an address inside an entry of a level */
	struct s2_walk {
		u64 mask, table;	/* (entry & mask) == table: it leads to a table */
		u64 address;		/* of which these bits are the address, in plain formats */
		u64 plain_root_entries; /* 0: walks take the long way */
	} walk;				/* what every walk needs, of the format and of this space */
	u64 *root;			/* where software's walks begin: tables side by side */
	u64 *top; /* where hardware's begin: the root, or a table above that leads to it */

	u64 ident; /* VMID, VPID, ASID with its generation; see hyp/s2_ident.h */

	struct lock lock; /* range operations among themselves */
	bool hinted;	  /* some leaves may have the contiguous hint, or had it */
	bool undivided; /* leaves were split and a block of frames was not: several may be in one */
	u32 claims;	/* leaves that are claimed now (see s2_fork.c) */
	bool quieted;	/* a harvest has said of tables that nothing below them was used */
	u64 marks;	/* which of the format's log and cow leaves here may have */
	u8 logging;	/* enum s2_logging; atomic */
	/* A new leaf's bits, by what it is to be, marks included: tables of format->encode. */
#define S2_CANNOT (~0ull)
	u64 perm_bits[S2_RWX + 1];
	u64 memory_bits[2][S2_MEMORY_TYPES]; /* [is large] */
	u64 new_leaf;			     /* marks that new leaves get, in memory_bits already */
	u64 generation;			     /* clock of batches and walks, from 1; atomic */
	u64 open[S2_OPEN_MAX]; /* generations of batches not yet closed, 0 = free slot; atomic */
	u64 flush_generation;  /* CPUs whose `flushed` is older flush at entry, from 1; atomic */
	struct s2_cpu cpu[CPU_MAX];

	/* Several roots over one memory: written under the lock, read by anyone. */
	struct s2_dependent dependents[S2_DEPENDENTS_MAX];
	struct s2_loan loans[S2_LOANS_MAX];
	u32 dependent_count, loan_count;
	u8 linked_level;       /* from this one up, table flags do not tell of everybody's use */
	u64 *rules;	       /* a view's: see hyp/s2_view.c; NULL in any other space */
	struct s2_stats stats; /* atomic_add */
};

/* ---- Life ---------------------------------------------------------------------------------- */

/*
 * An empty space of 2^ipa_bits bytes. ipa_bits as the format allows (Arm 4 KiB: 25..48; EPT and NPT
 * with 4 levels: up to 48); the root is of the lowest level that covers them. INVALID, NOMEM.
 */
enum status s2_init(struct s2 *s2, const struct s2_format *format, unsigned ipa_bits, u16 owner);

/* What a guest's RAM is mapped with, unless there is a reason to map it otherwise. */
static inline struct s2_attr s2_ram(const struct s2 *s2);

/* Unmaps all, closes, frees the tables. No CPU has the space loaded any more, no batch is open. */
void s2_destroy(struct s2 *s2);

/*
 * From ranges to everything: a close invalidates its ranges while that takes no more invalidations
 * (arch_s2_flush_cost) than refilling the TLB is worth. A CPU's TLB has 1,000 to 2,000 entries, of
 * which one guest has perhaps half; a refill is a walk that mostly hits the caches, some 20 cycles;
 * a broadcast invalidation is answered by every CPU, some 50 to 100. So 512 of the one are about
 * 200 of the other for each CPU, and with several CPUs the larger number is right. Where nothing is
 * broadcast there are no ranges: a flush of the whole space at the next entry is the unit.
 */
#define S2_FLUSH_WHOLE_COST 512

/* ---- Batch: gather, flush, then free ------------------------------------------------------- */

#define S2_BATCH_RANGES 8
#define S2_BATCH_SHARED 16

/*
 * On the caller's stack. Holds ranges to invalidate (one more than fits means everything), leaf
 * frames and table pages to give back, and what is broken until the close. Never allocates. Must be
 * closed before it goes.
 *
 * While it is open, what it cleared faults and is not filled again, and so does a block that it
 * splits or folds: the guest tries again until the close. So open late, close soon.
 */
struct s2_batch {
	/* The caller's to set after s2_batch_open(). */
	u64 budget;   /* entries that operations may still look at; then they stop with MORE */
	bool enlarge; /* unmap: where a split has no memory for its table, the whole leaf goes */

	/* The caller's to read. */
	u64 next;    /* after MORE: the address to go on at */
	u64 entries; /* live entries that were changed since the last flush */

	/* Its own. */
	struct s2 *s2;
	u64 generation; /* entries cleared for it carry this until it is closed */
	u64 transit;	/* so this is what they are */
	u64 *open;	/* its slot in s2->open */
	u32 range_count;
	bool everything;
	struct s2_batch_range {
		u64 start, end;
		u8 level;		  /* of all entries in it, or S2_LEVELS_MAX when mixed */
	} ranges[S2_BATCH_RANGES], *last; /* NULL: none, or everything */
	u64 frames; /* list of leaf blocks held by nobody else, by struct frame.link; 0 = none */
	u32 shared_count;
	u64 shared[S2_BATCH_SHARED]; /* leaf blocks that have other holders, by address; in the low
					bits how many more references to each go */
	u64 tables;		     /* list of unlinked table pages */
	u64 *broken;		     /* list of slots with BROKEN entries */
};

void s2_batch_open(struct s2_batch *batch, struct s2 *s2);
/* Invalidate, wait, make what was broken, free. After it every change of the batch has reached
 * every CPU (I1). One round of invalidation, whatever is in it; none when nothing is. */
void s2_batch_close(struct s2_batch *batch);

/* ---- Operations on ranges; [gpa, gpa + size) is page-aligned and not empty ------------------ */

enum s2_if_mapped {
	S2_ERROR,   /* EXISTS */
	S2_SKIP,    /* leave out exactly what is mapped */
	S2_UPGRADE, /* the same frame gets the permissions it lacks; another frame: EXISTS, and so
		       is a leaf that lacks some and sticks out of the range: split it first */
};

/*
 * Maps contiguous memory with the largest leaves that alignment, format and the tables that are
 * there already allow. Takes over one reference of each frame block it maps (frames outside the
 * frame table are nobody's to count); a block larger than its leaves is split into blocks of their
 * size, and has one reference then. What was mapped and upgraded takes no reference. All or
 * nothing: NOMEM, EXISTS, AGAIN (a batch over the range is open), DENIED, INVALID leave every
 * translation and every frame as it was.
 */
enum status s2_map(struct s2 *s2, gpa_t gpa, hpa_t hpa, u64 size, struct s2_attr attr,
		   enum s2_if_mapped if_mapped);

/* The same for `count` single pages (of level 0) with frames anywhere: frames[i] at page i. */
enum status s2_map_list(struct s2 *s2, gpa_t gpa, const hpa_t *frames, u64 count,
			struct s2_attr attr, enum s2_if_mapped if_mapped);

/*
 * Unmaps whatever is mapped in the range, and forgets what typed entries say; empty parts are no
 * error. Blocks that stick out are split, with their other parts kept. NOMEM (a split had no table)
 * leaves the space as it was. MORE. Frames go to the batch; tables that became empty too.
 */
enum status s2_unmap(struct s2 *s2, gpa_t gpa, u64 size, struct s2_batch *batch);

/*
 * Gives what is mapped in the range the permissions `perm`, splitting blocks that stick out. Write
 * stays withheld from frames with other holders and from pages whose writes are logged, until the
 * guest writes. INVALID (the format has no such permissions), NOMEM, MORE.
 */
enum status s2_protect(struct s2 *s2, gpa_t gpa, u64 size, u8 perm, struct s2_batch *batch);

/* Replaces the leaf (or typed entry) that contains `gpa` by ones of `level`, every translation
 * kept. NOENT, NOMEM, INVALID. */
enum status s2_split(struct s2 *s2, gpa_t gpa, unsigned level, struct s2_batch *batch);

/* The same for every leaf above `level` in the range. NOMEM, MORE: batch->next says how far it
 * came; what was split stays split. */
enum status s2_split_range(struct s2 *s2, gpa_t gpa, u64 size, unsigned level,
			   struct s2_batch *batch);

/* Why memory cannot be mapped by a larger leaf. */
#define S2_WHYS(X)                                                                                 \
	X(S2_FOLDED, "it can")                                                                     \
	X(S2_LARGE_ALREADY, "it is")                                                               \
	X(S2_HAS_HOLES, "some of it is not mapped")                                                \
	X(S2_MISALIGNED, "its frames do not begin at a boundary of the larger size")               \
	X(S2_SCATTERED, "its frames are not contiguous")                                           \
	X(S2_MIXED, "permissions or memory types differ")                                          \
	X(S2_IS_SHARED, "some of its frames have other holders")                                   \
	X(S2_IS_LOGGED, "its writes are logged")                                                   \
	X(S2_IS_LINKED, "its table is in more than one space")                                     \
	X(S2_IS_OPEN, "a batch over it is open")                                                   \
	X(S2_NO_SUCH_LEAF, "the format has no leaf of this level, or the space ends before")

enum s2_why {
#define X(name, text) name,
	S2_WHYS(X)
#undef X
		S2_WHY_COUNT
};
const char *s2_why_text(enum s2_why why);

/* What came of each region of the larger size. */
struct s2_collapsed {
	u64 count[S2_WHY_COUNT];
	gpa_t last_refused; /* the last region that was not folded, and why */
	enum s2_why why;
};

/*
 * Maps each aligned region of `level`'s size that lies in the range by one leaf, in place, where
 * its tables of the level below allow. Accessed and dirty of the leaf are those of any of its
 * pages. The change is made at the close of `batch`; a guest that changes a page in between wins,
 * and the region stays as it is (stats.collapses_undone). Needs no memory. INVALID, MORE.
 */
enum status s2_collapse(struct s2 *s2, gpa_t gpa, u64 size, unsigned level, struct s2_batch *batch,
			struct s2_collapsed *report);

/*
 * The contiguous hint (ARMv8: DDI 0487, D8.7; EPT and NPT have none): leaves of `level` that lie
 * one after another in one table, in groups that the format names (2^contiguous_log2[level]: 64 KiB
 * of 4 KiB pages, 2 MiB of 16 KiB or of 64 KiB pages, 32 MiB of 2 MiB blocks, ...), may be held by
 * a TLB as one. What a guest may do is the same with it; flags are only as fine as the group:
 * harvest tells of all of it when any was used, and clears it when all of it lies in the range.
 *
 * Gives the hint to each aligned group that lies in [gpa, gpa + size), in bytes, where a leaf as
 * large as the group could stand, with reasons as s2_collapse(): S2_LARGE_ALREADY it has it, or a
 * larger leaf is there; S2_NO_SUCH_LEAF there are no groups of this level in the format, or in this
 * space's root; S2_IS_LOGGED while writes are logged, or any was withheld. Break-before-make is
 * over when it returns: one invalidation for each table in which something was changed, none with
 * S2_SIZE_CHANGE; faults that come in between come again. Needs no memory. INVALID: no range of the
 * space, or no level; DENIED: some of the range is on loan.
 *
 * Who changes a part of a group takes the hint away from all of it first: unmapping, s2_protect,
 * S2_UPGRADE, splits of blocks, s2_fork, s2_merge, s2_link, and logging of writes, table by table.
 * All of these do so for groups that lie in their range as a whole, too; asking again gives it
 * again. s2_collapse() makes leaves of groups as of any pages.
 */
enum status s2_hint(struct s2 *s2, gpa_t gpa, u64 size, unsigned level,
		    struct s2_collapsed *report);

/* Takes the hint away from all groups, of any level, that have something in [gpa, gpa + size): each
 * leaf has flags of its own again. Otherwise likewise. */
enum status s2_unhint(struct s2 *s2, gpa_t gpa, u64 size);

/* ---- Faults: no lock, any CPU, any time ---------------------------------------------------- */

/*
 * Maps one leaf of `level` at `gpa` (aligned to it). EXISTS: another CPU mapped something there, or
 * a table is where a large leaf should go. AGAIN: a batch over this place is still open. Takes over
 * one reference of `hpa` when OK.
 */
enum status s2_map_leaf(struct s2 *s2, gpa_t gpa, unsigned level, hpa_t hpa, struct s2_attr attr);

/*
 * Says of the empty place at `gpa` (aligned to `level`, which need not be one of leaves) that its
 * bytes are stored elsewhere, or that no memory belongs there: `kind` is STORED or MMIO, `payload`
 * (48 bits; of CPUs with L1TF as many as their address bits less 16) the owner's. With a batch that
 * is open it also takes the place of a leaf of `level` that this batch has cleared: then no fault
 * comes in between, but until the close nothing but the same frame may be filled in there (I9).
 * Unmapping forgets it; where a range ends inside of it, its other parts keep it, each with the
 * same payload. EXISTS, AGAIN, NOMEM, INVALID.
 */
enum status s2_set_typed(struct s2 *s2, gpa_t gpa, unsigned level, enum s2_kind kind, u64 payload,
			 const struct s2_batch *batch);

/*
 * The page at `gpa`, a leaf of level 0 that is its frame's only holder, makes place for a STORED
 * entry with `payload`, in one step, so that no fault comes in between. The frame's reference is
 * the caller's from then on. Until `batch`, which is the space's, is closed CPUs may still use the
 * frame, and nothing but this frame may be filled in there (I9): s2_fill_stored() takes it back at
 * any time. *leaf: what the page was, its accessed and dirty flags of that moment.
 *
 * For who takes pages away: no lock, beside everything else, pages in any order. NOENT: there is no
 * leaf of level 0. DENIED: its frame has other holders or is nobody's, its writes are logged, it
 * has the contiguous hint, or it is on loan. AGAIN, INVALID.
 */
enum status s2_store(struct s2 *s2, gpa_t gpa, u64 payload, struct s2_batch *batch,
		     struct s2_leaf *leaf);

/*
 * The leaf takes the place of the STORED entry of `level` that has this payload, as s2_map_leaf()
 * would put it there. EXISTS: another CPU was faster. NOENT: something else is there, or nothing (a
 * larger STORED entry is split first: s2_split). AGAIN, DENIED, INVALID. Takes over one reference
 * of `hpa` when OK.
 */
enum status s2_fill_stored(struct s2 *s2, gpa_t gpa, unsigned level, u64 payload, hpa_t hpa,
			   struct s2_attr attr);

/* Sets the accessed flag of the leaf at `gpa`, for CPUs that fault on it. NOENT, AGAIN. */
enum status s2_mark_accessed(struct s2 *s2, gpa_t gpa);

/* Outside the space there is nothing. What a caller does not use of the answer costs it nothing. */
static inline struct s2_leaf s2_query(struct s2 *s2, gpa_t gpa);

/*
 * Is [gpa, gpa + size) all mapped with at least these permissions? No, when it leaves the space.
 * Waits for what is in transit, so not to be called while a walk or a batch of the caller's is
 * open.
 */
bool s2_validate(struct s2 *s2, gpa_t gpa, u64 size, u8 perm);

/*
 * The first address from `from` on, a multiple of `align` (a power of two) and of the page size,
 * where `size` bytes are free and end at `end` or before. What is in transit, broken or typed is
 * not free. Nothing is locked, so it may be taken by others when the caller gets there: mapping
 * says so. NOENT: there is none. INVALID: no whole pages, or no power of two.
 */
enum status s2_find_gap(struct s2 *s2, gpa_t from, gpa_t end, u64 size, u64 align, gpa_t *gap);

/* What s2_dump() tells of: entries that are alike and neighbours, joined. */
struct s2_region {
	gpa_t gpa;
	u64 size;
	u8 level; /* of the entries it is made of */
	enum s2_kind kind;
	struct s2_attr attr;
	bool accessed;
	bool hinted; /* LEAF: see s2_hint */
	hpa_t hpa;   /* LEAF */
};
typedef void (*s2_region_fn)(void *context, const struct s2_region *region);

/* Calls `fn` for the range's leaves and typed entries, in order of address. Nothing is locked. */
void s2_dump(struct s2 *s2, gpa_t gpa, u64 size, s2_region_fn fn, void *context);

/* ---- Populate: leaves for what is not mapped, by many CPUs at once -------------------------- */

/*
 * A block of frames as large as a leaf of `level`, aligned to it, with one reference, for `gpa`; or
 * hpa_none(). And back: it was not needed after all. Called by all CPUs that work, at any time.
 */
typedef hpa_t (*s2_take_fn)(void *context, gpa_t gpa, unsigned level);
typedef void (*s2_give_fn)(void *context, hpa_t frame, unsigned level);

struct s2_populate {
	/* The caller's; all of it stays as it is while CPUs work. */
	struct s2 *s2;
	gpa_t gpa;
	u64 size; /* [gpa, gpa + size) is page-aligned and not empty */
	struct s2_attr attr;
	u8 level;     /* leaves are of this level at most: of less at a range's ends, and where a
			 table is already */
	bool smaller; /* where `take` has no block of a level it is asked for less; else NOMEM */
	s2_take_fn take;
	s2_give_fn give;
	void *context;

	/* Anybody's to set, at any time: CPUs stop at the next leaf. What is mapped stays. */
	bool cancel;

	/* The answer, in pages of level 0; final when every CPU's s2_populate_work() has returned.
	 */
	u64 mapped_pages;  /* by this job */
	u64 present_pages; /* that were there, mapped or typed, when they were looked at */

	u64 taken; /* its own: chunks handed out */
};

/*
 * Works on the job until nothing of it is left to begin; each CPU that is to help calls it, with no
 * batch of its own open over the range, as places in transit are waited for. The chunks that are
 * handed out are the regions that a table of the leaves covers (2 MiB of 4 KiB pages).
 *
 * OK; MORE: it was cancelled, and what is left is found by a new job over the same range. NOMEM
 * (frames or tables), DENIED or INVALID (of a frame that `take` gave): the CPU that met it says so,
 * and the job is cancelled for all others. INVALID before anything: range, level or attr.
 */
enum status s2_populate_work(struct s2_populate *populate);

/* ---- Harvest: which memory was used? No lock, beside everything else ----------------------- */

/* What becomes of the flag that says of a table whether anything below it was used. */
enum s2_harvest_tables {
	S2_TABLES_CLEAR,  /* cleared where leaves' are */
	S2_TABLES_RETAIN, /* left as it is, and not looked at: every leaf is */
	S2_TABLES_FREE, /* as CLEAR; and a table of which nothing was used goes, with what it maps,
			   into the batch: for memory that can be mapped again from elsewhere */
};

/* A leaf that was used since its flag was last cleared. */
typedef void (*s2_young_fn)(void *context, gpa_t gpa, unsigned level);

struct s2_harvest {
	/* The caller's. */
	bool clear;  /* test and clear, else test alone */
	u8 tables;   /* enum s2_harvest_tables */
	u8 finest;   /* the lowest level to tell apart, 0 or 1: 1 says of each 2 MiB whether any of
			it was used, and need not look at pages where hardware says so of tables */
	u64 *bitmap; /* a bit for each page of level 0 from the range's start on, set where young;
			or NULL. A leaf above level 0 (or `finest`) sets the bit of its first page.
		      */
	s2_young_fn young; /* or NULL */
	void *context;
	u64 budget;		/* entries to look at before it stops with MORE; 0: all */
	struct s2_batch *batch; /* of S2_TABLES_FREE, else NULL */

	/* The answer; counts add up over calls. */
	u64 next;	   /* after MORE: the address to go on at */
	u64 young_count;   /* leaves (of `finest` or above) that were used */
	u64 looked_count;  /* entries that were looked at */
	u64 skipped_count; /* tables of level 0 that nobody had to look into */
};

/*
 * Asks which leaves of [gpa, gpa + size) were used, and with `clear` begins to watch anew.
 *
 * Nothing is invalidated and nobody interrupted: a CPU whose TLB still has a translation sets no
 * flag for it again, until it flushes at its next natural entry, which this call asks of all CPUs.
 * Where hardware keeps flags in table entries too (EPT, NPT), or where the first use of a page
 * faults (s2_mark_accessed), subtrees of which nothing was used are not looked into.
 *
 * INVALID, also where flags are hardware's and off (SDM 29.3.5; no S2_HARDWARE_ACCESSED): nothing
 * says what was used. NOMEM never; MORE: go on at harvest->next, with a bitmap that begins there.
 */
enum status s2_harvest(struct s2 *s2, gpa_t gpa, u64 size, struct s2_harvest *harvest);

/* ---- Dirty: which memory was written? ------------------------------------------------------- */

/*
 * One interface to three ways of knowing: write protection (the first write faults), hardware's
 * dirty flags (EPT, NPT; PML where the CPU has it), hardware's dirty state (ARMv8). Bitmaps have a
 * bit for each page of level 0 from `gpa` on. A leaf above level 0 is written as a whole: all of
 * its bits. What is mapped while logging is on counts as written. What is unmapped is told of no
 * more: who takes written pages away asks s2_query() before.
 *
 * A round of a sender, who misses no write and may fail at any point:
 *
 *     get           which pages were written; nothing changes, so it may be asked again
 *     clear, close  what the bitmap says is watched anew: a write after the close will be told of
 *     read, send    now, and not before: a write that came before the close is in what is read
 *     set           what could not be sent, or was not received: the next round has it again
 *
 * Between clear and set the caller's bitmap is what knows of the round: it lives until the receiver
 * has the pages. Any number of rounds of other ranges may be on their way meanwhile.
 *
 * Functions return INVALID for a range that is, and when nothing is logged; else OK.
 */

/*
 * Begins: after the close of `batch` nothing counts as written, and whatever is written is logged.
 * Costs one entry of the root for each table that it leads to, whatever the guest's size: tables
 * are looked into by the first fault or range operation that comes to them. What a batch that was
 * open meanwhile has split or folded counts as written. EXISTS: it had begun already. DENIED: it is
 * a view, or has tables in common with other spaces (s2_link).
 */
enum status s2_dirty_start(struct s2 *s2, struct s2_batch *batch);

/* Ends: everything is as if nothing had been logged. Looks at all entries, in bounded steps. */
void s2_dirty_stop(struct s2 *s2);

/* Sets the bits of pages that were written, and leaves the others. No lock. */
enum status s2_dirty_get(struct s2 *s2, gpa_t gpa, u64 size, u64 *bitmap);

/*
 * Begins to watch the pages anew whose bits are set. A large leaf that was written is first split,
 * down to leaves of `finest` if memory for tables can be had, so that next time smaller pages are
 * told apart: it grows fine where it is written. To have it fine from the first write on, split it
 * before (s2_split_range). A leaf that stays large is cleared if it lies in the range and all of
 * its bits are set; else it stays written.
 */
enum status s2_dirty_clear(struct s2 *s2, gpa_t gpa, u64 size, const u64 *bitmap, unsigned finest,
			   struct s2_batch *batch);

/* The pages whose bits are set, and that are mapped, count as written: a send failed, or they were
 * written for the guest (after that, not before). */
enum status s2_dirty_set(struct s2 *s2, gpa_t gpa, u64 size, const u64 *bitmap);

/*
 * Sets the bits of pages that hardware logged (PML): `addresses` as hardware wrote them, and as
 * many as it wrote. Flags in the tables say the same and more, as what was mapped, or set by
 * s2_dirty_set(), is in no hardware's log: so this spares early rounds the walk of s2_dirty_get(),
 * and the last one calls it, over the same bitmap.
 */
enum status s2_dirty_log(struct s2 *s2, gpa_t gpa, u64 size, const u64 *addresses, u64 count,
			 u64 *bitmap);

/*
 * For faults, as those above: the guest could not go on at `gpa`. OK: it can now, as far as logging
 * is concerned; a write makes the leaf writable again, and written. NOENT: that is not about
 * logging, or no more: s2_query() says what the guest may do. AGAIN. Also for who writes for the
 * guest without a lock: before the write, and in one walk with it, so that a close in between
 * waits.
 */
enum status s2_dirty_fault(struct s2 *s2, gpa_t gpa, bool is_write);

/* ---- Between a CPU and a space ------------------------------------------------------------- */

/*
 * Just before this CPU enters the guest, interrupts masked: says so to closers, gets an identity if
 * the space has none, flushes this CPU if it is behind. s2_left() just after the exit. On machines
 * that broadcast invalidations both are a few instructions.
 */
void s2_entering_slow(struct s2 *s2);
static inline void s2_entering(struct s2 *s2);
static inline void s2_left(struct s2 *s2);

#include "hyp/s2_inline.h"

#endif
