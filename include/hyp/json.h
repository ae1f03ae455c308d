/*
 * JSON (RFC 8259), written token by token to the console, for scripts.
 *
 * A writer puts the commas itself, never cuts a token, and begins a new line before one would grow
 * to 200 bytes. Every line begins with the writer's prefix: put together without prefixes and line
 * ends they are the text.
 */
#ifndef HYP_JSON_H
#define HYP_JSON_H

#include "hyp/types.h"

#define JSON_LINE_MAX 199

/* Begins with `prefix` set, and all else zero. */
struct json {
	const char *prefix; /* of at most 8 characters */
	char line[JSON_LINE_MAX + 1];
	u32 used;
	bool comma; /* the next value or key needs one before it */
};

/* `bracket` is one of [ { and of ] }. */
void json_open(struct json *json, char bracket);
void json_close(struct json *json, char bracket);

/* A key, of plain characters, at most 60; what comes next is its value. */
void json_key(struct json *json, const char *name);

/* A number in an array. */
void json_value(struct json *json, u64 value);

/* A key and its value. Text may be of any bytes; what does not fit on one line is left out. */
void json_field(struct json *json, const char *name, u64 value);
void json_text_field(struct json *json, const char *name, const char *value);

/* Prints what is not printed yet. */
void json_end(struct json *json);

#endif
