/*
 * A format of second-level tables: the facts of one architecture's entries, as data.
 *
 * Levels count from the leaf: level 0 maps the smallest page, level 1 maps 2^index_bits of them,
 * and so on. (Arm's manual counts the other way round, Intel's counts from 1.) An entry has 8
 * bytes.
 *
 * What data cannot say are two functions, permissions and memory type to bits and back. Nothing
 * outside a format's own file knows a bit of it.
 */
#ifndef HYP_S2_FORMAT_H
#define HYP_S2_FORMAT_H

#include "hyp/types.h"

#define S2_LEVELS_MAX 5

/*
 * What a guest may do with a page. Formats without separate rights for the guest's kernel and user
 * space know only both execute rights or neither (see s2_format.perms).
 */
enum s2_perm {
	S2_READ = 1,
	S2_WRITE = 2,
	S2_EXEC_KERNEL = 4, /* supervisor, EL1 */
	S2_EXEC_USER = 8,   /* user, EL0 */
	S2_EXEC = S2_EXEC_KERNEL | S2_EXEC_USER,
	S2_RW = S2_READ | S2_WRITE,
	S2_RX = S2_READ | S2_EXEC,
	S2_RWX = S2_READ | S2_WRITE | S2_EXEC,
};

/* Memory types by name; each format says what they are in its bits, and which it has. */
enum s2_memory {
	S2_NORMAL,	  /* write-back; the guest may make it less cacheable */
	S2_UNCACHED,	  /* not cached, writes may be combined */
	S2_DEVICE,	  /* not cached, in order */
	S2_WRITE_THROUGH, /* cached, written through */
	S2_FORCED,	  /* write-back, whatever the guest says */
	S2_MEMORY_TYPES,
};

struct s2_attr {
	u8 perm;     /* of enum s2_perm */
	u8 memory;   /* enum s2_memory */
	bool notify; /* EPT: what is forbidden here becomes #VE in the guest, not an exit */
};

#define S2_GEOMETRY(page, index)                                                                   \
	.page_shift = (page), .index_bits = (index),                                               \
	.shift = {                                                                                 \
		(page),                                                                            \
		(page) + (index),                                                                  \
		(page) + 2 * (index),                                                              \
		(page) + 3 * (index),                                                              \
		(page) + 4 * (index),                                                              \
		(page) + 5 * (index),                                                              \
	}

/*
 * Present means that hardware follows or translates by the entry: any bit of `present` is set. A
 * present entry above level 0 is a leaf if (entry & large_mask) == large_value, else it points to a
 * table. At level 0 every present entry is a leaf. No present entry equals `empty`.
 *
 * Address: bits `address` hold the same bits of the host-physical address, and bits `address_high`
 * hold its bits from (lowest of address_high) + address_high_shift on (0: none; Arm's 52-bit
 * formats).
 *
 * Marks are bits of leaves: hardware's (accessed, dirty), or for software to use, which hardware
 * ignores (cow, log, dirty where hardware has none). A mark that a format has no need of is 0.
 */
struct s2_format {
	const char *name;

	/* Shape. */
	u8 page_shift; /* of level 0: 12, 14, 16; this and the next two by S2_GEOMETRY */
	u8 index_bits; /* a table has 2^index_bits entries and fills one page */
	u8 shift[S2_LEVELS_MAX + 1]; /* an entry of level n spans 2^shift[n] bytes */
	u8 levels;    /* levels there are, root included: a root is of level levels - 1 at most */
	u8 top_level; /* hardware starts at this level; 0: wherever the root is */
	u8 root_level_min;  /* a root is of this level at least */
	u8 root_tables_max; /* tables that a root may have side by side, a power of two */
	u8 leaf_levels;	    /* bit n: level n may be a leaf */
	bool plain;	    /* pages of 4 KiB, 512 entries, no high address bits: walked faster */

	/* What can be said. */
	u8 ram;	   /* enum s2_memory: what a guest's RAM is to be */
	u16 perms; /* bit p: a leaf may have the permissions p (of enum s2_perm); and of any two of
		      them what they are together */
	u8 memories; /* bit m: it may have the memory type m */

	/* Which entry is what. */
	u64 present;
	u64 table; /* an entry that points to a table: these bits besides its address */
	u64 page;  /* a leaf of level 0: these bits besides attributes and address */
	u64 large; /* a leaf above level 0: likewise */
	u64 large_mask, large_value;

	u64 address, address_high;
	u8 address_high_shift;

	/* Leaves. */
	u64 perm_mask; /* all bits that permissions are in */
	u64 write;     /* of those: without this bit a leaf is not writable */
	u64 accessed;  /* was used since it was cleared; set by hardware, or by us at a fault */
	u64 dirty;     /* was written since it was cleared; hardware's where it has one */
	u64 log;       /* write is withheld, or was given back, for dirty logging */
	u64 cow;       /* write is withheld: the frame has other holders */
	bool log_is_hardware; /* a leaf with `log` and without `write` gets `write` by hardware */

	/* Table entries: was anything below used? Hardware's, or 0: then software may use
	 * `accessed_table_mark` (see s2_harvest). */
	u64 accessed_table;
	u64 accessed_table_mark;

	/* Contiguous hint: 2^contiguous_log2[level] neighbours, aligned, may be cached as one. */
	u64 contiguous;
	u8 contiguous_log2[S2_LEVELS_MAX]; /* 0: no hint at that level */

	/* Entries that are not present. */
	u64 empty;	   /* the entry of which nothing is known */
	u64 absent;	   /* bits that typed ones need (suppress #VE); none of `present` */
	u64 absent_invert; /* payload bits stored inverted, so that they name no memory (L1TF) */

	/* `attr` is one that perms and memories allow; accessed is set, other marks are not. */
	u64 (*encode)(struct s2_attr attr, bool leaf_is_large);
	/* Of any leaf; permissions as they are now, with what cow or log withhold left out. */
	struct s2_attr (*decode)(u64 entry, bool leaf_is_large);
};

/* Bytes that one entry of `level` covers. */
static inline u64 s2_span(const struct s2_format *f, unsigned level)
{
	return BIT(f->shift[level]);
}

static inline bool s2_level_may_be_leaf(const struct s2_format *f, unsigned level)
{
	return (f->leaf_levels >> level) & 1;
}

/* The largest leaf, of `level` at most, that may begin at an address, has `left` bytes of room
 * there, and is aligned like all that `addresses` is made of. */
static inline unsigned s2_leaf_level(const struct s2_format *f, unsigned level, u64 addresses,
				     u64 left)
{
	while (!s2_level_may_be_leaf(f, level) || !is_aligned(addresses, s2_span(f, level)) ||
	       left < s2_span(f, level)) {
		level--;
	}
	return level;
}

/* Can a leaf have these permissions and this type? */
static inline bool s2_format_says(const struct s2_format *f, struct s2_attr attr)
{
	return attr.perm <= S2_RWX && attr.memory < S2_MEMORY_TYPES &&
	       (f->perms >> attr.perm & 1) && (f->memories >> attr.memory & 1);
}

/* For decode: the type that has this code in a format's table of them, codes[memory]. A type that
 * the format has not is 0 there, which is no type's code or that of an earlier one. */
static inline u8 s2_memory_of_code(const u8 codes[S2_MEMORY_TYPES], u64 code)
{
	u8 memory = 0;

	while (memory < S2_MEMORY_TYPES - 1 && codes[memory] != code) {
		memory++;
	}
	return memory;
}

#endif
