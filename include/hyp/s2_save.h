/*
 * A table as a stream of bytes, with its typed entries, and back: on this machine or another.
 *
 * The stream is made of records of 32 bytes, four words in little-endian order: one header, then
 * ranges in order of address, then an end. A range is neighbours of one level that are alike,
 * leaves with frames that follow one another.
 *
 *                  header               range                                  end
 *   word 0  63..12 S2_IMAGE_MAGIC       guest-physical address / 4 KiB         0
 *           11..8  version              memory type                            0
 *            7..4  0                    level                                  0
 *            3..0  1                    2 leaves, 3 STORED, 4 MMIO             5
 *   word 1         geometry             63..12 size / 4 KiB                    0
 *                                       7 shared | 6 dirty | 5 accessed | 4 notify | 3..0
 * permissions word 2         0                    first host address, or payload         ranges
 * before it word 3  63..32 CRC-32 of all bytes of the stream before these four, but for other CRCs
 *           31..0  number of the record, from 0
 *
 * Geometry: 23..16 bits of guest-physical addresses | 15..8 index bits | 7..0 page shift. What is
 * left out is zero. Permissions are what the guest may do, whatever is withheld from it for logging
 * or sharing. Formats of one geometry read each other's images, as far as they can say what is in
 * them.
 */
#ifndef HYP_S2_SAVE_H
#define HYP_S2_SAVE_H

#include "hyp/s2.h"

#define S2_IMAGE_MAGIC 0x4c616d696e613ull /* "Lamina" and 3 */
#define S2_IMAGE_VERSION 1
#define S2_IMAGE_RECORD 32 /* bytes */

/* A range of the image. */
struct s2_image_range {
	enum s2_kind kind; /* LEAF, STORED, MMIO */
	u8 level;
	gpa_t gpa;
	u64 size;
	struct s2_attr attr; /* LEAF */
	bool accessed, dirty;
	bool shared; /* a write copies the frame first */
	u64 value;   /* LEAF: host-physical address of the first byte; else the payload */
};

/* ---- Save ---------------------------------------------------------------------------------- */

/* Takes the next `size` bytes of the stream. False: it cannot. */
typedef bool (*s2_save_fn)(void *context, const void *bytes, u64 size);

struct s2_save {
	struct s2 *s2;
	s2_save_fn write;
	void *context;
	u64 at; /* up to where it has looked */

	/* Its own. */
	struct s2_image_range run; /* not written yet; size 0: there is none */
	u64 ranges;
	u32 crc, number;
	bool failed, ended;
};

void s2_save_begin(struct s2_save *save, struct s2 *s2, s2_save_fn write, void *context);

/*
 * Looks at up to `budget` entries and writes what came of them. OK: all is written, the end too.
 * MORE: call again. AGAIN: a batch over save->at is open; call again after its close. FULL: `write`
 * failed, and the stream is of no use.
 *
 * Nothing is locked. Of a space that is quiet meanwhile the image is what it is. Of one that is
 * not, each entry is as it was at some moment of the saving, and no entry is torn; but entries
 * changed behind one another's backs may both be seen old, both new, or one of each, and an entry
 * that was split or folded is seen whole or in parts. Who wants a moment of all memory stops the
 * guest, or logs its writes and saves what was written once more.
 */
enum status s2_save_step(struct s2_save *save, u64 budget);

/* ---- Restore ------------------------------------------------------------------------------- */

/* Why an image was refused. */
#define S2_RESTORE_WHYS(X)                                                                         \
	X(S2_RESTORE_FINE, "it was not")                                                           \
	X(S2_RESTORE_TRUNCATED, "it has no end")                                                   \
	X(S2_RESTORE_BEHIND_END, "there are bytes behind its end")                                 \
	X(S2_RESTORE_NO_IMAGE, "it does not begin like an image")                                  \
	X(S2_RESTORE_VERSION, "it is of another version")                                          \
	X(S2_RESTORE_CORRUPT, "a checksum is wrong")                                               \
	X(S2_RESTORE_GEOMETRY, "the space is of another shape")                                    \
	X(S2_RESTORE_RECORD, "a record is of no known kind, or says what it cannot")               \
	X(S2_RESTORE_ORDER, "ranges are out of order, or overlap")                                 \
	X(S2_RESTORE_ALIGNMENT, "a range is not made of whole entries")                            \
	X(S2_RESTORE_OUTSIDE, "a range ends behind the space")                                     \
	X(S2_RESTORE_LEVEL, "the format has no leaf of that level")                                \
	X(S2_RESTORE_ATTR, "the format has no such permissions or memory type")                    \
	X(S2_RESTORE_FRAME, "its frames are not to be had")                                        \
	X(S2_RESTORE_DENIED, "a frame was given that no guest may have")                           \
	X(S2_RESTORE_TABLES, "it takes more tables than it may")                                   \
	X(S2_RESTORE_MEMORY, "there is no memory for its tables")                                  \
	X(S2_RESTORE_TAKEN, "something else was put into the space meanwhile")

enum s2_restore_why {
#define X(name, text) name,
	S2_RESTORE_WHYS(X)
#undef X
};
const char *s2_restore_text(enum s2_restore_why why);

/*
 * Says what an entry of the image is on this machine: `range` is that one entry. For a leaf,
 * replaces value by a block of frames of this machine, as large as the entry and aligned to it,
 * with one reference; for STORED and MMIO, leaves or replaces the payload. May set `shared`: then a
 * leaf's write is withheld, as from a frame with other holders. False: refused.
 */
typedef bool (*s2_restore_take_fn)(void *context, struct s2_image_range *range);

struct s2_restore {
	/* The caller's, before s2_restore_begin(). */
	struct s2 *s2; /* nothing is in it, and no CPU has it loaded */
	s2_restore_take_fn take;
	s2_give_fn give; /* a frame that was taken did not come to be mapped */
	void *context;
	u64 tables_max; /* that an image may make the space have, root included */

	/* The answer. */
	enum s2_restore_why why;
	u32 number; /* of the record that was refused, or comes next */

	/* Its own. */
	u8 partial[S2_IMAGE_RECORD];
	u32 partial_size, crc;
	struct s2_image_range run; /* being put, size 0: none */
	u64 next;		   /* end of the last range */
	bool ended;
};

/* INVALID: the space is not empty. */
enum status s2_restore_begin(struct s2_restore *restore);

/*
 * Takes the next bytes of the stream, cut anywhere, and puts up to `budget` entries; *taken says
 * how many bytes it is done with. OK: it took all. MORE: the budget is used up; call with the rest,
 * even when that is nothing. INVALID: refused, see why: nothing that an image says is believed
 * before it is checked, and the space is empty again (its closing waits like that of any batch).
 * Then and after the end no call does anything but say so.
 */
enum status s2_restore_feed(struct s2_restore *restore, const void *bytes, u64 size, u64 budget,
			    u64 *taken);

/* The stream is over. OK: the space is what was saved. INVALID: refused. */
enum status s2_restore_end(struct s2_restore *restore);

#endif
