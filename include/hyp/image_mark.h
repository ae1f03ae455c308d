/*
 * Marks by which files are known for what they are, whoever is to boot them.
 *
 * An architecture recognises its own kinds first. What is left comes here, to be refused with a
 * sentence that says what it is and what a person can do about it; the architecture tells what it
 * would rather have. Pure: runs on the host too.
 */
#ifndef HYP_IMAGE_MARK_H
#define HYP_IMAGE_MARK_H

#include "hyp/config.h"

/* Words for the second half of a refusal. */
struct image_wish {
	const char *kernel; /* "an arm64 Image": what to give instead of another machine's kernel */
	const char *program; /* the same with all that is no kernel: "... or a flat binary" */
	const char *file;    /* "Image": what to call a file that is made from this one */
	const char *for_elf; /* what to do with an ELF file: a whole clause */
};

/* Is `length` bytes at `offset` inside the file, and are they these? */
bool image_has(const struct config_module *file, u64 offset, const char *bytes, u64 length);

/*
 * True when the file is empty, text, or bears a mark of a known kind: then `why` is "WHAT; REMEDY".
 * False: nothing is known of it, and `why` is not written.
 */
bool image_explain(const struct config_module *file, const struct image_wish *wish, char *why,
		   size_t size);

/* Numbers in files, least significant byte first, at any alignment. */
static inline u16 read_le16(const u8 *bytes)
{
	return (u16)(bytes[0] | bytes[1] << 8);
}

static inline u32 read_le32(const u8 *bytes)
{
	return read_le16(bytes) | (u32)read_le16(bytes + 2) << 16;
}

static inline u64 read_le64(const u8 *bytes)
{
	return read_le32(bytes) | (u64)read_le32(bytes + 4) << 32;
}

#endif
