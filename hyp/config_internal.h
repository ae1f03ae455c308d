/*
 * Shared by config*.c alone: the reader's state, and how a property becomes a value or a complaint.
 *
 *     config.c         /chosen, its guests, what these must not share
 *     config_blob.c    is it a device tree at all?
 *     config_vm.c      one guest's node: a table of words
 *     config_machine.c the words of /chosen itself
 *     config_value.c   one property: cells, strings, sizes
 *     config_text.c    values and problems as text
 *     config_guess.c   "did you mean" (include/hyp/config_guess.h)
 *     config_attach.c  files to guests
 */
#ifndef CONFIG_INTERNAL_H
#define CONFIG_INTERNAL_H

#include <string.h>

#include "hyp/config.h"
#include "hyp/config_guess.h"
#include "hyp/types.h"

/* Room for a node's path, a value as text, and a reason with numbers in it. */
#define CONFIG_NODE_TEXT 80
#define CONFIG_VALUE_TEXT 96
#define CONFIG_REASON_TEXT 192

struct config_reporter {
	config_report_fn report;
	void *context;
	const char *node; /* path of what is being read */
	u32 count;	  /* problems so far */
};

/* A property as it lies in the blob. */
struct config_property {
	const char *name;
	const u8 *data;
	u32 size;
};

static inline bool config_is_same(const char *a, const char *b)
{
	return strlen(a) == strlen(b) && memcmp(a, b, strlen(a)) == 0;
}

/* ---- config_text.c -------------------------------------------------------------------------- */

/* Passes a problem on, at most CONFIG_PROBLEMS_MAX of them. NULL texts are empty ones. */
void config_report(struct config_reporter *r, const char *property, const char *value,
		   const char *reason, const char *hint);

/* The same with the property's value as text. Returns false, for `return config_refuse(...)`. */
bool config_refuse(struct config_reporter *r, const struct config_property *p, const char *reason,
		   const char *hint);

/* `"text"`, cut with dots where it is too long. */
void config_quote(const char *string, char *text, size_t size);

/* ---- config_value.c: true and *out, or false and the problem was reported -------------------- */

bool config_read_u32(struct config_reporter *r, const struct config_property *p, u32 min, u32 max,
		     u32 *out);
/* A number of one or two cells. */
bool config_read_u64(struct config_reporter *r, const struct config_property *p, u64 *out);
/* Strings, one after the other, each of printable ASCII: calls `take` for each until it says no. */
bool config_read_strings(struct config_reporter *r, const struct config_property *p,
			 bool (*take)(void *context, const char *string), void *context);
/* One string of less than `size` bytes, without control characters. */
bool config_read_string(struct config_reporter *r, const struct config_property *p, char *out,
			u64 size);
/* Cells of KiB as Xen has them, or a string with a unit; in bytes, checked. */
bool config_read_memory(struct config_reporter *r, const struct config_property *p, u64 *out);

/* A word alone: that it is there says it. */
bool config_read_word(struct config_reporter *r, const struct config_property *p, bool *is_there);

/* Does the property hold exactly one string of printable ASCII? */
bool config_is_string(const struct config_property *p);

/* A guest's name goes into prompts, file names and JSON, so it is plain. */
bool config_is_plain_name(const char *name);

/* Words that device trees carry without a meaning to us: phandle, #address-cells ... */
bool config_is_standard_word(const char *property);

/* ---- config_blob.c -------------------------------------------------------------------------- */

/* May libfdt follow this blob? If not, one problem was reported. */
bool config_check_blob(struct config_reporter *r, const void *blob, u64 size);

/* ---- config.c ------------------------------------------------------------------------------- */

/* Is it one of the node's words? If not, that was reported, with a guess. */
bool config_is_known(struct config_reporter *r, const char *name, const char *const *words,
		     u32 count, const char *what);

/* ---- config_machine.c ----------------------------------------------------------------------- */

/* A configuration without guests, of which /chosen says nothing. */
void config_default_machine(struct config *config);

/* Reads the properties of /chosen. */
void config_read_machine(struct config_reporter *r, const void *blob, int chosen,
			 struct config *config);

/* What only all guests together can be wrong in. */
void config_check_machine(struct config_reporter *r, struct config *config);
void config_check_disks(struct config_reporter *r, struct config *config);

/* ---- config_vm.c ---------------------------------------------------------------------------- */

/* Reads a guest's node into *vm, whose valid is set if nothing was reported. r->node is its path.
 */
void config_read_vm(struct config_reporter *r, const void *blob, int node, struct config_vm *vm);

#endif
