/*
 * The configuration's texts: problems as one line each, and values as a person wrote them. Whatever
 * bytes a blob has, a line stays a line: what is not printable becomes '?', and what is too long
 * ends in dots.
 */
#include "hyp/log.h"

#include "config_internal.h"

/* ---- Text that grows to the right and never past its box ------------------------------------- */

struct line {
	char *text;
	size_t size; /* of the box, the zero byte included */
	size_t length;
};

static void line_begin(struct line *line, char *text, size_t size)
{
	*line = (struct line){.text = text, .size = size};
	if (size > 0) {
		text[0] = '\0';
	}
}

/* Bytes from 0x80 on are left as they are: names of files may be UTF-8. */
static void line_put(struct line *line, char c)
{
	if (line->length + 1 < line->size) {
		line->text[line->length++] = ((u8)c < ' ' || c == 0x7f) ? '?' : c;
		line->text[line->length] = '\0';
	}
}

static void line_add(struct line *line, const char *string)
{
	for (; *string != '\0'; string++) {
		line_put(line, *string);
	}
}

/* What was cut says so. */
static void line_end(struct line *line)
{
	if (line->size > 4 && line->length + 1 == line->size) {
		memcpy(line->text + line->length - 3, "...", 3);
	}
}

/* ---- Values ---------------------------------------------------------------------------------- */

static u32 read_be32(const u8 *bytes)
{
	return (u32)bytes[0] << 24 | (u32)bytes[1] << 16 | (u32)bytes[2] << 8 | bytes[3];
}

static void line_add_bytes(struct line *line, const u8 *data, u32 size, u32 step)
{
	char number[16];

	for (u32 i = 0; i < size && line->length + 1 < line->size; i += step) {
		u32 cell = step == 4 ? read_be32(data + i) : data[i];

		/* Small numbers are counts, which people write in decimal. */
		text_format(number, sizeof(number),
			    step == 1	  ? "%02x"
			    : cell < 1024 ? "%u"
					  : "0x%x",
			    cell);
		if (i > 0) {
			line_put(line, ' ');
		}
		line_add(line, number);
	}
}

static void value_text(const struct config_property *p, char *text, size_t size)
{
	struct line line;

	line_begin(&line, text, size);
	if (p->size == 0) {
		return;
	}
	if (config_is_string(p)) {
		config_quote((const char *)p->data, text, size);
		return;
	}
	if (p->size % 4 == 0) {
		line_put(&line, '<');
		line_add_bytes(&line, p->data, p->size, 4);
		line_put(&line, '>');
	} else {
		line_put(&line, '[');
		line_add_bytes(&line, p->data, p->size, 1);
		line_put(&line, ']');
	}
	line_end(&line);
}

void config_quote(const char *string, char *text, size_t size)
{
	struct line line;

	line_begin(&line, text, size);
	line_put(&line, '"');
	line_add(&line, string);
	line_put(&line, '"');
	line_end(&line);
}

void config_size_text(u64 bytes, char *text, size_t size)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	u64 unit = KIB(1);
	u32 i = 0;

	if (bytes < KIB(1)) {
		text_format(text, size, "%u bytes", (u32)bytes);
		return;
	}
	while (i + 1 < ARRAY_COUNT(units) && bytes / KIB(1) >= unit) {
		unit *= KIB(1);
		i++;
	}
	/* One digit behind the point, rounded to nearest; the rest is below 2^50, so nothing wraps.
	 */
	u64 whole = bytes / unit;
	u64 tenths = (bytes % unit * 10 + unit / 2) / unit;

	if (tenths == 10) {
		whole++;
		tenths = 0;
	}
	if (tenths == 0) {
		text_format(text, size, "%llu %s", (unsigned long long)whole, units[i]);
	} else {
		text_format(text, size, "%llu.%u %s", (unsigned long long)whole, (u32)tenths,
			    units[i]);
	}
}

/* ---- Problems -------------------------------------------------------------------------------- */

void config_problem_text(const struct config_problem *problem, char *text, size_t size)
{
	struct line line;

	line_begin(&line, text, size);
	if (problem->node[0] != '\0') {
		line_add(&line, problem->node);
		line_add(&line, ": ");
	}
	if (problem->property[0] != '\0') {
		line_add(&line, problem->property);
		if (problem->value[0] != '\0') {
			line_add(&line, " = ");
			line_add(&line, problem->value);
		}
		line_add(&line, ": ");
	}
	line_add(&line, problem->reason);
	if (problem->hint[0] != '\0') {
		line_add(&line, " (");
		line_add(&line, problem->hint);
		line_add(&line, ")");
	}
	line_end(&line);
}

static const char *or_empty(const char *text)
{
	return text == NULL ? "" : text;
}

void config_report(struct config_reporter *r, const char *property, const char *value,
		   const char *reason, const char *hint)
{
	struct config_problem problem = {.node = or_empty(r->node),
					 .property = or_empty(property),
					 .value = or_empty(value),
					 .reason = reason,
					 .hint = or_empty(hint)};

	r->count++;
	if (r->count > CONFIG_PROBLEMS_MAX) {
		return;
	}
	if (r->count == CONFIG_PROBLEMS_MAX) {
		problem = (struct config_problem){"", "", "", "more problems, not shown", ""};
	}
	r->report(r->context, &problem);
}

bool config_refuse(struct config_reporter *r, const struct config_property *p, const char *reason,
		   const char *hint)
{
	char value[CONFIG_VALUE_TEXT];

	value_text(p, value, sizeof(value));
	config_report(r, p->name, value, reason, hint);
	return false;
}
