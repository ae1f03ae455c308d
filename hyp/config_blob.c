/*
 * The configuration's blob as a whole: is it a device tree that libfdt can be let loose on?
 *
 * The header is held against the size that is really there. Then the structure is walked here,
 * before libfdt does: its 1.6 takes a property's length for signed, so that a length of -12 leads
 * it back to the same property for ever. After that, fdt_check_full() checks nesting, names and
 * strings, and what is read later lies inside what was walked.
 */
#include <libfdt.h>

#include "hyp/log.h"

#include "config_internal.h"

#define BLOB_ALIGN 8
/* The format since 2007, and what dtc writes. */
#define BLOB_VERSION 17
/* "/dts-v1/", read as a magic number. */
#define SOURCE_MAGIC 0x2f647473u

static bool refuse_blob(struct config_reporter *r, const char *reason, const char *hint)
{
	config_report(r, "", "", reason, hint);
	return false;
}

static bool check_magic(struct config_reporter *r, const void *blob)
{
	char reason[CONFIG_REASON_TEXT];
	u32 magic = fdt_magic(blob);

	if (magic == FDT_MAGIC) {
		return true;
	}
	text_format(reason, sizeof(reason), "not a device tree blob: magic is 0x%08x, want 0x%08x",
		    magic, FDT_MAGIC);
	return refuse_blob(r, reason,
			   magic == SOURCE_MAGIC ? "a source: dtc makes a blob of it" : "");
}

static bool check_header(struct config_reporter *r, const void *blob, u64 size)
{
	char reason[CONFIG_REASON_TEXT];

	if (size < sizeof(struct fdt_header)) {
		text_format(reason, sizeof(reason),
			    "truncated: %u bytes hold no device tree header", (u32)size);
		return refuse_blob(r, reason, "");
	}
	if (!check_magic(r, blob)) {
		return false;
	}
	if (fdt_totalsize(blob) > size) {
		text_format(reason, sizeof(reason),
			    "truncated: the header says %u bytes, there are %llu",
			    fdt_totalsize(blob), (unsigned long long)size);
		return refuse_blob(r, reason, "");
	}
	if (fdt_totalsize(blob) > CONFIG_BLOB_MAX) {
		return refuse_blob(r, "larger than 1 MiB: not a configuration", "");
	}
	if (fdt_version(blob) < BLOB_VERSION || fdt_last_comp_version(blob) > BLOB_VERSION) {
		text_format(reason, sizeof(reason), "device tree format %u; want %u",
			    fdt_version(blob), BLOB_VERSION);
		return refuse_blob(r, reason, "");
	}
	return true;
}

/* ---- The structure: tokens of 32 bits, each at a boundary (Devicetree Specification, 5.4) -----
 */

struct structure {
	const u8 *bytes;
	u64 size;
	u64 at; /* <= size; grows with every token */
};

static bool take_u32(struct structure *s, u32 *value)
{
	const u8 *b = s->bytes + s->at;

	if (s->size - s->at < 4) {
		return false;
	}
	*value = (u32)b[0] << 24 | (u32)b[1] << 16 | (u32)b[2] << 8 | b[3];
	s->at += 4;
	return true;
}

/* Takes `length` bytes and what fills them up to the next token. */
static bool skip(struct structure *s, u64 length)
{
	if (length > s->size - s->at) {
		return false;
	}
	s->at = min_u64(align_up(s->at + length, 4), s->size);
	return true;
}

static bool skip_name(struct structure *s)
{
	const u8 *end = memchr(s->bytes + s->at, 0, s->size - s->at);

	return end != NULL && skip(s, (u64)(end - (s->bytes + s->at)) + 1);
}

static bool skip_property(struct structure *s)
{
	u32 length, name_offset;

	return take_u32(s, &length) && take_u32(s, &name_offset) && skip(s, length);
}

/* Every token fits, and there is an end. */
static bool walk_structure(struct structure *s)
{
	u32 token;

	while (take_u32(s, &token)) {
		bool good = token == FDT_END_NODE || token == FDT_NOP;

		if (token == FDT_END) {
			return true;
		}
		if (token == FDT_BEGIN_NODE) {
			good = skip_name(s);
		} else if (token == FDT_PROP) {
			good = skip_property(s);
		}
		if (!good) {
			return false;
		}
	}
	return false;
}

static bool check_structure(struct config_reporter *r, const void *blob)
{
	struct structure s = {.bytes = (const u8 *)blob + fdt_off_dt_struct(blob),
			      .size = fdt_size_dt_struct(blob)};
	char reason[CONFIG_REASON_TEXT];

	if ((u64)fdt_off_dt_struct(blob) + s.size > fdt_totalsize(blob)) {
		return refuse_blob(r, "damaged device tree: its structure leaves it", "");
	}
	if (!is_aligned(fdt_off_dt_struct(blob), 4)) {
		return refuse_blob(r, "damaged device tree: its structure is misaligned", "");
	}
	if (!walk_structure(&s)) {
		text_format(reason, sizeof(reason),
			    "damaged device tree: makes no sense before byte 0x%llx of it",
			    (unsigned long long)(fdt_off_dt_struct(blob) + s.at));
		return refuse_blob(r, reason, "");
	}
	return true;
}

bool config_check_blob(struct config_reporter *r, const void *blob, u64 size)
{
	char reason[CONFIG_REASON_TEXT];
	int error;

	if (blob == NULL || !is_aligned((u64)(uintptr_t)blob, BLOB_ALIGN)) {
		return refuse_blob(r, "not in memory at an 8-byte boundary", "");
	}
	if (!check_header(r, blob, size) || !check_structure(r, blob)) {
		return false;
	}
	error = fdt_check_full(blob, fdt_totalsize(blob));
	if (error != 0) {
		text_format(reason, sizeof(reason), "damaged device tree: %s", fdt_strerror(error));
		return refuse_blob(r, reason, "");
	}
	return true;
}
