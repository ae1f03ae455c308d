/*
 * One property of the configuration: cells, strings and sizes, each checked for its form and its
 * range, each refused with what would have been right.
 */
#include "hyp/log.h"

#include "hyp/units.h"

#include "config_internal.h"

static u32 read_cell(const struct config_property *p, u32 index)
{
	const u8 *bytes = p->data + index * 4;

	return (u32)bytes[0] << 24 | (u32)bytes[1] << 16 | (u32)bytes[2] << 8 | bytes[3];
}

bool config_is_string(const struct config_property *p)
{
	if (p->size < 2 || p->data[p->size - 1] != '\0') {
		return false;
	}
	for (u32 i = 0; i + 1 < p->size; i++) {
		if (p->data[i] < ' ' || p->data[i] > '~') {
			return false;
		}
	}
	return true;
}

bool config_is_plain_name(const char *name)
{
	u32 length = 0;

	for (; name[length] != '\0'; length++) {
		char c = name[length];
		bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		bool is_digit = c >= '0' && c <= '9';

		if (!is_letter && !is_digit && memchr("+,-.@_", c, 6) == NULL) {
			return false;
		}
	}
	return length > 0 && length < CONFIG_NAME_MAX;
}

bool config_is_standard_word(const char *property)
{
	static const char *const words[] = {"phandle", "linux,phandle", "#address-cells",
					    "#size-cells"};

	for (u32 i = 0; i < ARRAY_COUNT(words); i++) {
		if (config_is_same(property, words[i])) {
			return true;
		}
	}
	return false;
}

bool config_read_u32(struct config_reporter *r, const struct config_property *p, u32 min, u32 max,
		     u32 *out)
{
	char reason[CONFIG_REASON_TEXT];

	if (p->size != 4) {
		text_format(reason, sizeof(reason),
			    "want one number in brackets, from <%u> to <%u>", min, max);
		return config_refuse(r, p, reason, "");
	}
	if (read_cell(p, 0) < min || read_cell(p, 0) > max) {
		text_format(reason, sizeof(reason), "out of range; want <%u> to <%u>", min, max);
		return config_refuse(r, p, reason, "");
	}
	*out = read_cell(p, 0);
	return true;
}

/* One cell or two, the high one first. */
static bool read_cells(const struct config_property *p, u64 *out)
{
	if (p->size == 4) {
		*out = read_cell(p, 0);
	} else if (p->size == 8) {
		*out = (u64)read_cell(p, 0) << 32 | read_cell(p, 1);
	} else {
		return false;
	}
	return true;
}

static bool refuse_cell_count(struct config_reporter *r, const struct config_property *p,
			      const char *want, const char *hint)
{
	char reason[CONFIG_REASON_TEXT];

	if (p->size == 0) {
		text_format(reason, sizeof(reason), "has no value; want %s", want);
	} else if (p->size % 4 != 0) {
		text_format(reason, sizeof(reason), "%u bytes are no cells; want %s", p->size,
			    want);
	} else {
		text_format(reason, sizeof(reason), "has %u cells; want %s", p->size / 4, want);
	}
	return config_refuse(r, p, reason, hint);
}

bool config_read_u64(struct config_reporter *r, const struct config_property *p, u64 *out)
{
	return read_cells(p, out) ||
	       refuse_cell_count(r, p, "one or two", "write <0x0 0x48000000>");
}

bool config_read_string(struct config_reporter *r, const struct config_property *p, char *out,
			u64 size)
{
	char reason[CONFIG_REASON_TEXT];

	if (p->size == 0 || p->data[p->size - 1] != '\0') {
		return config_refuse(r, p, "want a string in quotes", "");
	}
	if (p->size > size) {
		text_format(reason, sizeof(reason), "%u bytes long; at most %u", p->size - 1,
			    (u32)size - 1);
		return config_refuse(r, p, reason, "");
	}
	for (u32 i = 0; i + 1 < p->size; i++) {
		if (p->data[i] == '\0') {
			return config_refuse(r, p, "want one string, not a list", "");
		}
		if (p->data[i] < ' ' || p->data[i] == 0x7f) {
			return config_refuse(r, p, "want a string without control characters", "");
		}
	}
	memcpy(out, p->data, p->size);
	return true;
}

bool config_read_strings(struct config_reporter *r, const struct config_property *p,
			 bool (*take)(void *context, const char *string), void *context)
{
	const char *text = (const char *)p->data;

	if (p->size == 0 || text[p->size - 1] != '\0') {
		return config_refuse(r, p, "want strings in quotes", "");
	}
	for (u32 at = 0; at < p->size; at += (u32)strlen(text + at) + 1) {
		if (!take(context, text + at)) {
			return false;
		}
	}
	return true;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

#define MEMORY_FORMS "<high low> in KiB, or a string such as \"256M\""

static bool check_memory(struct config_reporter *r, const struct config_property *p, u64 bytes)
{
	char reason[CONFIG_REASON_TEXT], hint[48];

	if (bytes < CONFIG_MEMORY_UNIT) {
		return config_refuse(r, p, "too little: the least is 2 MiB", "");
	}
	if (bytes > CONFIG_MEMORY_MAX) {
		return config_refuse(r, p, "too much: the most is 255 GiB", "");
	}
	if (!is_aligned(bytes, CONFIG_MEMORY_UNIT)) {
		text_format(reason, sizeof(reason), "%llu KiB is not a multiple of 2 MiB",
			    (unsigned long long)(bytes / KIB(1)));
		text_format(hint, sizeof(hint), "write \"%lluM\"",
			    (unsigned long long)(align_up(bytes, CONFIG_MEMORY_UNIT) / MIB(1)));
		return config_refuse(r, p, reason, hint);
	}
	return true;
}

/* The digits a string begins with; nothing that long is a size of memory, so it stops growing. */
static u64 leading_number(const char **at)
{
	u64 number = 0;

	for (; **at >= '0' && **at <= '9'; (*at)++) {
		number = min_u64(number * 10 + (u64)(**at - '0'), BIT(52));
	}
	return number;
}

static bool refuse_unit(struct config_reporter *r, const struct config_property *p, u64 number,
			char letter)
{
	char hint[48];
	u64 unit = unit_of_letter(letter);

	text_format(hint, sizeof(hint), "did you mean \"%llu%c\"?", (unsigned long long)number,
		    unit == KIB(1)   ? 'K'
		    : unit == GIB(1) ? 'G'
				     : 'M');
	return config_refuse(r, p,
			     letter == '\0' ? "has no unit; want K, M or G"
					    : "unknown unit; want K, M or G",
			     hint);
}

static bool read_memory_string(struct config_reporter *r, const struct config_property *p, u64 *out)
{
	const char *text = (const char *)p->data;
	const char *at = text;
	u64 number = leading_number(&at);
	u64 unit = unit_of_letter(*at);

	if (at == text) {
		return config_refuse(r, p, "want a number and a unit, such as \"256M\"", "");
	}
	if (unit == 0 || *at > 'Z' || at[1] != '\0') {
		return refuse_unit(r, p, number, *at);
	}
	*out = number > CONFIG_MEMORY_MAX / unit ? ~0ull : number * unit;
	return check_memory(r, p, *out);
}

/*
 * "64M" is four bytes and could be one cell, "262144K" could be two; as cells they would be 512 GiB
 * and more, beyond CONFIG_MEMORY_MAX, so what reads as a string is one.
 */
bool config_read_memory(struct config_reporter *r, const struct config_property *p, u64 *out)
{
	u64 kib;

	if (config_is_string(p)) {
		return read_memory_string(r, p, out);
	}
	if (!read_cells(p, &kib)) {
		return refuse_cell_count(r, p, MEMORY_FORMS, "");
	}
	*out = kib > CONFIG_MEMORY_MAX / KIB(1) ? ~0ull : kib * KIB(1);
	return check_memory(r, p, *out);
}

bool config_read_word(struct config_reporter *r, const struct config_property *p, bool *is_there)
{
	*is_there = true;
	return p->size == 0 || config_refuse(r, p, "want no value", "the word alone");
}
