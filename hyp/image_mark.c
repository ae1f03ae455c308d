/*
 * Files that are something, only not what boots here. The first mark that fits decides, so a more
 * telling one comes before one that also fits: a bzImage that firmware can start is an EFI program
 * too.
 */
#include "hyp/image_mark.h"

#include <string.h>

#include "hyp/log.h"

/* So much of a file decides whether it is text. */
#define TEXT_SAMPLE 64

/* Where the second half of the sentence comes from. */
enum remedy_kind {
	REMEDY_SAID,	/* the mark has all of it */
	REMEDY_MAKE,	/* a command that makes what is wanted, less the files' names */
	REMEDY_KERNEL,	/* give the wish's kernel */
	REMEDY_PROGRAM, /* give the wish's program */
	REMEDY_ELF,	/* the wish's clause */
};

struct image_mark {
	u16 offset;
	u16 length;
	const char *bytes;
	const char *what;
	enum remedy_kind kind;
	const char *remedy;
};

static const struct image_mark marks[] = {
	{0x000, 2, "\x1f\x8b", "gzip-compressed", REMEDY_MAKE, "unpack it: gunzip -c"},
	{0x000, 5, "\xfd\x37zXZ", "xz-compressed", REMEDY_MAKE, "unpack it: xz -dc"},
	{0x000, 4, "\x28\xb5\x2f\xfd", "zstd-compressed", REMEDY_MAKE, "unpack it: zstd -dc"},
	{0x000, 4, "\x02\x21\x4c\x18", "lz4-compressed", REMEDY_MAKE, "unpack it: lz4 -dc"},
	{0x000, 4, "\x04\x22\x4d\x18", "lz4-compressed", REMEDY_MAKE, "unpack it: lz4 -dc"},
	{0x000, 3, "BZh", "bzip2-compressed", REMEDY_MAKE, "unpack it: bzip2 -dc"},
	{0x000, 4, "\x7f\x45LF", "an ELF file", REMEDY_ELF, ""},
	{0x000, 4, "\x27\x05\x19\x56", "a U-Boot uImage", REMEDY_MAKE,
	 "cut its header: tail -c +65"},
	{0x000, 4, "\xd0\x0d\xfe\xed", "a device tree or FIT blob", REMEDY_KERNEL, ""},
	{0x000, 6, "070701", "a cpio archive", REMEDY_SAID, "is it the ramdisk?"},
	{0x202, 4, "HdrS", "an x86 bzImage", REMEDY_KERNEL, ""},
	{0x038, 4, "ARM\x64", "an arm64 Image", REMEDY_KERNEL, ""},
	{0x024, 4, "\x18\x28\x6f\x01", "a 32-bit Arm zImage", REMEDY_KERNEL, ""},
	{0x038, 4, "RSC\x05", "a RISC-V Image", REMEDY_KERNEL, ""},
	{0x000, 2, "MZ", "an EFI program", REMEDY_PROGRAM, ""},
};

bool image_has(const struct config_module *file, u64 offset, const char *bytes, u64 length)
{
	return offset <= file->size && length <= file->size - offset &&
	       memcmp(file->bytes + offset, bytes, length) == 0;
}

/* Scripts, device tree sources, somebody's notes: all of the first bytes are printable. */
static bool is_text(const struct config_module *file)
{
	u64 count = min_u64(file->size, TEXT_SAMPLE);

	for (u64 i = 0; i < count; i++) {
		u8 c = file->bytes[i];

		if ((c < ' ' || c > '~') && c != '\n' && c != '\t' && c != '\r') {
			return false;
		}
	}
	return true;
}

static const struct image_mark *find_mark(const struct config_module *file)
{
	for (u32 i = 0; i < ARRAY_COUNT(marks); i++) {
		if (image_has(file, marks[i].offset, marks[i].bytes, marks[i].length)) {
			return &marks[i];
		}
	}
	return NULL;
}

static void explain_mark(const struct image_mark *mark, const struct image_wish *wish, char *why,
			 size_t size)
{
	switch (mark->kind) {
	case REMEDY_SAID:
		text_format(why, size, "%s; %s", mark->what, mark->remedy);
		return;
	case REMEDY_MAKE:
		text_format(why, size, "%s; %s FILE > %s", mark->what, mark->remedy, wish->file);
		return;
	case REMEDY_KERNEL:
		text_format(why, size, "%s; give %s", mark->what, wish->kernel);
		return;
	case REMEDY_PROGRAM:
		text_format(why, size, "%s; give %s", mark->what, wish->program);
		return;
	case REMEDY_ELF:
		text_format(why, size, "%s; %s", mark->what, wish->for_elf);
		return;
	}
}

bool image_explain(const struct config_module *file, const struct image_wish *wish, char *why,
		   size_t size)
{
	const struct image_mark *mark;

	if (file->size == 0) {
		text_format(why, size, "an empty file");
		return true;
	}
	mark = find_mark(file);
	if (mark != NULL) {
		explain_mark(mark, wish, why, size);
		return true;
	}
	if (is_text(file)) {
		text_format(why, size, "a text file; give %s", wish->program);
		return true;
	}
	return false;
}
