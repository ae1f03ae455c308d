#include "hyp/json.h"

#include <string.h>

#include "hyp/console.h"
#include "hyp/log.h"

#define PREFIX_MAX 8
#define STRING_MAX (JSON_LINE_MAX - PREFIX_MAX - 2) /* escaped, without its quotes and a comma */

void json_end(struct json *json)
{
	if (json->used > 0) {
		json->line[json->used] = 0;
		console_print("%s%s\n", json->prefix, json->line);
		json->used = 0;
	}
}

/* One token, whole on one line; a comma that is owed goes before it. */
static void json_token(struct json *json, const char *token, u32 length)
{
	u32 comma = json->comma ? 1 : 0;

	if (strlen(json->prefix) + json->used + comma + length > JSON_LINE_MAX) {
		json_end(json);
	}
	if (comma) {
		json->line[json->used++] = ',';
	}
	for (u32 i = 0; i < length; i++) {
		json->line[json->used++] = token[i];
	}
}

void json_open(struct json *json, char bracket)
{
	json_token(json, &bracket, 1);
	json->comma = false;
}

void json_close(struct json *json, char bracket)
{
	json->comma = false;
	json_token(json, &bracket, 1);
	json->comma = true;
}

void json_value(struct json *json, u64 value)
{
	char text[24];

	json_token(json, text, (u32)text_format(text, sizeof(text), "%lu", value));
	json->comma = true;
}

/* How a byte stands in a string: itself, escaped, or as the code point of the same number. */
static u32 json_escape(char *out, u8 byte)
{
	if (byte == '"' || byte == '\\') {
		out[0] = '\\';
		out[1] = (char)byte;
		return 2;
	}
	if (byte < 0x20 || byte >= 0x7f) {
		return (u32)text_format(out, 7, "\\u%04x", byte);
	}
	out[0] = (char)byte;
	return 1;
}

static void json_string(struct json *json, const char *text)
{
	char token[STRING_MAX + 2];
	u32 used = 0;

	token[used++] = '"';
	for (; *text; text++) {
		char escaped[8];
		u32 length = json_escape(escaped, (u8)*text);

		if (used + length + 1 > STRING_MAX) {
			break;
		}
		for (u32 i = 0; i < length; i++) {
			token[used++] = escaped[i];
		}
	}
	token[used++] = '"';
	json_token(json, token, used);
	json->comma = true;
}

void json_key(struct json *json, const char *name)
{
	char token[64];

	json_token(json, token, (u32)text_format(token, sizeof(token), "\"%s\":", name));
	json->comma = false;
}

void json_field(struct json *json, const char *name, u64 value)
{
	json_key(json, name);
	json_value(json, value);
}

void json_text_field(struct json *json, const char *name, const char *value)
{
	json_key(json, name);
	json_string(json, value);
}
