/*
 * Mappings with names: a space's slots, each of which may hold one mapping of contiguous memory.
 *
 * Whoever made a mapping has a handle to it, and unmaps or protects parts of it by offset and
 * count, never by address: nothing outside the mapping can be touched with it. A request that makes
 * no sense is refused with a reason that can be printed. What memory is still mapped is known by
 * the tables alone, so a mapping cannot be wrong about it.
 *
 * Any CPU may call any of this at any time. Memory that is mapped by a handle is meant to be
 * changed through it alone; if somebody unmaps it by address, the mapping has less left, and that
 * is all.
 */
#ifndef HYP_S2_MAPPING_H
#define HYP_S2_MAPPING_H

#include "hyp/s2.h"

#define S2_MAPPING_SLOTS 32

/* What its frames are (hyp/frame.h). */
enum s2_mapping_type {
	S2_MAPPING_RAM,	   /* FRAME_GUEST */
	S2_MAPPING_SHARED, /* FRAME_SHARED */
	S2_MAPPING_DEVICE, /* FRAME_DEVICE, or no frames of the frame table */
};

/* Names a mapping for good: a slot's next mapping has another serial. */
struct s2_mapping_handle {
	u16 slot;
	u8 type; /* enum s2_mapping_type */
	u32 serial;
};

/* Why a request was refused, with the status that goes with it; %u is a slot. */
#define S2_MAPPING_WHYS(X)                                                                         \
	X(S2_MAPPING_DONE, OK, "slot %u: done")                                                    \
	X(S2_MAPPING_NO_SLOT, INVALID, "there is no slot %u")                                      \
	X(S2_MAPPING_IN_USE, EXISTS, "slot %u is in use")                                          \
	X(S2_MAPPING_NOTHING, NOENT, "slot %u holds nothing")                                      \
	X(S2_MAPPING_STALE, NOENT, "slot %u holds another mapping by now")                         \
	X(S2_MAPPING_BUSY, AGAIN, "slot %u is being worked on")                                    \
	X(S2_MAPPING_WRONG_TYPE, INVALID, "the mapping in slot %u is of another type")             \
	X(S2_MAPPING_WRONG_FRAMES, DENIED, "the frames for slot %u are not what its type says")    \
	X(S2_MAPPING_SIZE_ZERO, INVALID, "slot %u: the size is zero")                              \
	X(S2_MAPPING_SIZE_ODD, INVALID, "slot %u: the size is not whole pages")                    \
	X(S2_MAPPING_OFFSET_ODD, INVALID, "slot %u: it does not begin at a page")                  \
	X(S2_MAPPING_BEYOND, INVALID, "slot %u: the part ends behind the mapping")                 \
	X(S2_MAPPING_OUTSIDE, INVALID, "slot %u: the mapping ends behind the space")               \
	X(S2_MAPPING_OVERLAPS, EXISTS, "the range is in the mapping of slot %u")                   \
	X(S2_MAPPING_SPACE, OK, "slot %u: the space refuses: ")

enum s2_mapping_why {
#define X(name, status, text) name,
	S2_MAPPING_WHYS(X)
#undef X
};

struct s2_mapping_refusal {
	enum s2_mapping_why why;
	u16 slot;
	enum status status; /* what the call returned */
};

/* The sentence, cut to `size`, which is not zero; a zero byte ends it. */
void s2_mapping_text(const struct s2_mapping_refusal *refusal, char *text, size_t size);

struct s2_mapping {
	u8 state;
	u8 type;
	u32 serial;
	u32 users; /* calls that work on parts of it now */
	gpa_t gpa;
	u64 size;
	u64 first, end;		  /* offsets; outside of them nothing is its own */
	u64 left_first, left_end; /* the same, when those users have gone */
};

struct s2_mappings {
	struct s2 *s2;
	struct lock lock; /* of the slots; never held while the space works */
	struct s2_mapping slots[S2_MAPPING_SLOTS];
};

/* All slots empty. */
void s2_mappings_init(struct s2_mappings *mappings, struct s2 *s2);

/*
 * Maps [hpa, hpa + size) at `gpa` as s2_map() does, references included, and puts the mapping into
 * the slot. All or nothing. Refused: NO_SLOT, IN_USE, SIZE_*, OFFSET_ODD (of gpa), OUTSIDE,
 * OVERLAPS what another slot has left, WRONG_FRAMES; SPACE with what s2_map() said.
 */
enum status s2_mapping_create(struct s2_mappings *mappings, unsigned slot,
			      enum s2_mapping_type type, gpa_t gpa, hpa_t hpa, u64 size,
			      struct s2_attr attr, struct s2_mapping_handle *handle,
			      struct s2_mapping_refusal *refusal);

/*
 * As s2_unmap() and s2_protect() for [offset, offset + size) of the mapping: MORE (with SPACE)
 * means that batch->next, an address, is where to go on. What is unmapped already is no error.
 * Refused: what is wrong with the handle (NO_SLOT, NOTHING, STALE, WRONG_TYPE, BUSY) or the part
 * (SIZE_*, OFFSET_ODD, BEYOND).
 */
enum status s2_mapping_unmap(struct s2_mappings *mappings, struct s2_mapping_handle handle,
			     u64 offset, u64 size, struct s2_batch *batch,
			     struct s2_mapping_refusal *refusal);
enum status s2_mapping_protect(struct s2_mappings *mappings, struct s2_mapping_handle handle,
			       u64 offset, u64 size, u8 perm, struct s2_batch *batch,
			       struct s2_mapping_refusal *refusal);

/* Unmaps what is left and empties the slot. After MORE it still holds the rest: call again. BUSY
 * while others work on parts. */
enum status s2_mapping_destroy(struct s2_mappings *mappings, struct s2_mapping_handle handle,
			       struct s2_batch *batch, struct s2_mapping_refusal *refusal);

/* Bytes of the mapping that are mapped now, and [first, end), outside of which nothing is left.
 * Looks at every leaf. */
struct s2_mapping_left {
	u64 bytes;
	u64 first, end; /* offsets */
};
enum status s2_mapping_left(struct s2_mappings *mappings, struct s2_mapping_handle handle,
			    struct s2_mapping_left *left, struct s2_mapping_refusal *refusal);

#endif
