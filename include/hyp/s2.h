/*
 * s2: guest-physical to host-physical tables (second-level address translation).
 *
 * One manager for every format; a format is data (struct s2_format) and two functions for what data
 * cannot say. Levels count from the leaf: level 0 maps 4 KiB (on 4 KiB formats), level 1 maps 2
 * MiB, level 2 maps 1 GiB. Arm's manual counts the other way round.
 *
 *     root (1..16 tables side by side)      level 3 or 2
 *       |- entry -> table                   level 2      a leaf here maps 1 GiB
 *                     |- entry -> table     level 1      a leaf here maps 2 MiB
 *                                   |- leaf level 0      maps 4 KiB
 *
 * Who may do what at once: stage-2 faults (s2_map_leaf, s2_query) take no lock and may run on all
 * CPUs in parallel with everything else. Range operations take the space's lock among themselves.
 * Every entry that hardware can see is written by one function, by compare-and-swap (I2).
 *
 * How a translation dies: an operation clears entries and notes them in a batch; closing the batch
 * invalidates, waits until no CPU can use the old translations or walk the unlinked tables, and
 * only then gives frames and tables back (I1). The picture is at the head of hyp/s2_epoch.c.
 *
 * Errors mean: NOMEM no frame for a table, nothing was changed; EXISTS something is mapped in the
 * range; NOENT nothing is mapped there; INVALID misaligned, empty, or outside the space; DENIED the
 * frames are no guest's to have (I4); AGAIN another CPU changed the place meanwhile, look again.
 */
#ifndef HYP_S2_H
#define HYP_S2_H

#include "hyp/addr.h"
#include "hyp/cpu.h"
#include "hyp/frame.h"
#include "hyp/lock.h"
#include "hyp/status.h"

#define S2_LEVELS_MAX 5
#define S2_OPEN_MAX 8 /* batches of one space that are open at once; one more waits */

/* What a guest may do with a page. */
enum s2_perm { S2_READ = 1, S2_WRITE = 2, S2_EXEC = 4 };
#define S2_RW (S2_READ | S2_WRITE)
#define S2_RWX (S2_READ | S2_WRITE | S2_EXEC)

/* Memory types by name; each format says what they are in its bits. */
enum s2_memory { S2_NORMAL /* write-back cacheable */, S2_UNCACHED, S2_DEVICE };

struct s2_attr {
	u8 perm;   /* enum s2_perm */
	u8 memory; /* enum s2_memory */
};

/*
 * A format: the facts of one architecture's entries. Present means that hardware follows or
 * translates by the entry. A present entry above level 0 is a leaf if (entry & large_mask) ==
 * large_value, else it points to a table. At level 0 every present entry is a leaf.
 */
struct s2_format {
	const char *name;
	u8 page_shift;	    /* of level 0 */
	u8 index_bits;	    /* a table has 2^index_bits entries of 8 bytes */
	u8 levels;	    /* levels there are, root included */
	u8 leaf_levels;	    /* bit n: level n may be a leaf */
	u8 root_tables_max; /* tables that a root may have side by side, a power of two */
	u64 present;	    /* any of these bits set: present */
	u64 table;	    /* an entry that points to a table: these bits or'ed to its address */
	u64 page;	    /* a leaf of level 0: these bits besides attributes and address */
	u64 large;	    /* a leaf above level 0: likewise */
	u64 large_mask, large_value;
	u64 address;  /* the bits of an entry that hold a host-physical address */
	u64 accessed; /* leaf was used since cleared; set by hardware or by us; 0 = none */
	u64 write;    /* without this bit a leaf is not writable */
	u64 empty;    /* the entry of which nothing is known */
	u64 absent;   /* bits that typed not-present entries need (suppress #VE); no `present` */
	u64 absent_invert; /* payload bits stored inverted, so that they name no memory (L1TF) */
	u64 (*encode)(struct s2_attr attr, bool leaf_is_large);
	struct s2_attr (*decode)(u64 entry);
};

/*
 * Entries that are not present still say something (I11). Payload is 48 bits.
 *   EMPTY    nothing was ever here, or all of it is closed
 *   TRANSIT  cleared, not yet closed: payload is the generation that must close first (I9)
 *   BROKEN   break-before-make of a live entry: another CPU is about to make it; look again
 *   POISON   in a table that was unlinked: look again from the root (I10)
 *   STORED   the page's bytes are elsewhere: payload is the owner's
 *   MMIO     no memory belongs here: payload is the owner's
 */
enum s2_kind { S2_EMPTY, S2_LEAF, S2_TABLE, S2_TRANSIT, S2_BROKEN, S2_POISON, S2_STORED, S2_MMIO };

/* What one guest-physical address translates to. */
struct s2_leaf {
	enum s2_kind
		kind; /* never TABLE; TRANSIT also for what is BROKEN or POISON: look again later */
	u8 level;     /* of the entry */
	bool accessed;
	struct s2_attr attr; /* LEAF */
	hpa_t hpa;	     /* LEAF: of the byte that was asked for */
	u64 payload;	     /* TRANSIT, STORED, MMIO */
};

#define S2_STATS(X)                                                                                \
	X(leaf_4k) /* entries mapped now */                                                        \
	X(leaf_2m)                                                                                 \
	X(leaf_1g)                                                                                 \
	X(tables)    /* table pages in use, root included */                                       \
	X(map_races) /* a fault found that another CPU had been faster */                          \
	X(splits)                                                                                  \
	X(batches)	  /* closed, with something in them */                                     \
	X(flush_ranges)	  /* invalidations by range */                                             \
	X(flush_whole)	  /* invalidations of the whole space */                                   \
	X(flush_entries)  /* entries that those were for */                                        \
	X(flush_at_entry) /* done by a CPU for itself before it entered */                         \
	X(kicks)	  /* CPUs made to leave the guest for a close */                           \
	X(kicks_avoided)  /* CPUs that were not in the guest, so cost nothing */

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

struct s2 {
	/* Constant after s2_init. */
	const struct s2_format *format;
	u8 ipa_bits; /* guest-physical addresses are [0, 2^ipa_bits) */
	u8 root_level;
	u16 owner; /* of its frames */
	u64 *root;

	u64 ident; /* VMID, VPID, ASID with its generation; see hyp/s2_ident.h */

	struct lock lock;      /* range operations among themselves */
	u64 generation;	       /* clock of batches and walks, from 1; atomic */
	u64 open[S2_OPEN_MAX]; /* generations of batches not yet closed, 0 = free slot; atomic */
	u64 flush_generation;  /* CPUs whose `flushed` is older flush at entry, from 1; atomic */
	struct s2_cpu cpu[CPU_MAX];
	struct s2_stats stats; /* atomic_add */
};

/* Called for every leaf and typed entry of a range, in order of address. */
struct s2_region {
	gpa_t gpa;
	u64 size;
	u8 level; /* of the entries it is made of */
	enum s2_kind kind;
	struct s2_attr attr;
	bool accessed;
	hpa_t hpa; /* LEAF */
};
typedef void (*s2_region_fn)(void *context, const struct s2_region *region);

/* ---- Life ---------------------------------------------------------------------------------- */

/*
 * An empty space of 2^ipa_bits bytes. ipa_bits as the format allows (Arm 4 KiB: 25..48); the root
 * gets as few levels as root_tables_max permits. INVALID, NOMEM.
 */
enum status s2_init(struct s2 *s2, const struct s2_format *format, unsigned ipa_bits, u16 owner);

/* Unmaps all, closes, frees the root. No CPU has the space loaded any more. */
void s2_destroy(struct s2 *s2);

/* ---- Batch: gather, flush, then free ------------------------------------------------------- */

#define S2_BATCH_RANGES 8
#define S2_BATCH_SHARED 16

/*
 * On the caller's stack. Holds ranges to invalidate (one more than fits means everything), leaf
 * frames and table pages to give back. Never allocates. Must be closed before it goes.
 */
struct s2_batch {
	struct s2 *s2;
	u64 generation; /* its own; entries cleared for it carry this until it is closed */
	u64 *open;	/* its slot in s2->open */
	u32 range_count;
	bool everything;
	struct {
		u64 start, end;
		u8 level; /* of all entries in it, or S2_LEVELS_MAX when mixed */
	} ranges[S2_BATCH_RANGES];
	u64 frames; /* list of leaf blocks held by nobody else, by struct frame.link; 0 = none */
	u32 shared_count;
	u64 shared[S2_BATCH_SHARED]; /* leaf blocks that have other holders */
	u64 tables;		     /* list of unlinked table pages */
	u64 entries;		     /* live entries that were changed */
};

void s2_batch_open(struct s2_batch *batch, struct s2 *s2);
/* Invalidate, wait, free. After it every change of the batch has reached every CPU (I1). */
void s2_batch_close(struct s2_batch *batch);

/* ---- Operations on ranges; [gpa, gpa + size) is page-aligned and not empty ------------------ */

enum s2_if_mapped { S2_ERROR, S2_SKIP };

/*
 * Maps contiguous memory with the largest leaves that alignment, format and the tables that are
 * there already allow. Takes over one reference of each frame block it maps (frames outside the
 * frame table are nobody's to count); a block larger than its leaves is split into blocks of their
 * size, and has one reference then. S2_SKIP leaves out exactly what is mapped. All or nothing:
 * NOMEM, EXISTS (with S2_ERROR), AGAIN (an epoch over the range is open), DENIED, INVALID leave
 * every translation and every frame as it was.
 */
enum status s2_map(struct s2 *s2, gpa_t gpa, hpa_t hpa, u64 size, struct s2_attr attr,
		   enum s2_if_mapped if_mapped);

/*
 * Unmaps whatever is mapped in the range; empty parts are no error. Blocks that stick out are
 * split, with their other parts kept. NOMEM (a split had no table) leaves the space as it was.
 * Frames go to the batch; tables that became empty too.
 */
enum status s2_unmap(struct s2 *s2, gpa_t gpa, u64 size, struct s2_batch *batch);

/* Replaces the leaf that contains `gpa` by leaves of `level`, every translation kept. NOENT, NOMEM.
 */
enum status s2_split(struct s2 *s2, gpa_t gpa, unsigned level, struct s2_batch *batch);

/* ---- Faults: no lock, any CPU, any time ---------------------------------------------------- */

/*
 * Maps one leaf of `level` at `gpa` (aligned to it). EXISTS: another CPU mapped something there, or
 * a table is where a large leaf should go. AGAIN: an epoch over this place is still open. Takes
 * over one reference of `hpa` when OK.
 */
enum status s2_map_leaf(struct s2 *s2, gpa_t gpa, unsigned level, hpa_t hpa, struct s2_attr attr);

/* Sets the accessed flag of the leaf at `gpa`, for CPUs that fault on it. NOENT, AGAIN. */
enum status s2_mark_accessed(struct s2 *s2, gpa_t gpa);

/* Outside the space there is nothing. */
struct s2_leaf s2_query(struct s2 *s2, gpa_t gpa);

/*
 * Is [gpa, gpa + size) all mapped with at least these permissions? No, when it leaves the space.
 * Waits for what is in transit, so not to be called while a walk or a batch of the caller's is
 * open.
 */
bool s2_validate(struct s2 *s2, gpa_t gpa, u64 size, u8 perm);

/* Calls `fn` for the range's contents, like neighbours joined to one region. Nothing is locked. */
void s2_dump(struct s2 *s2, gpa_t gpa, u64 size, s2_region_fn fn, void *context);

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
