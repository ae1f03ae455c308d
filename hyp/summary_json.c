/*
 * The end of a run, for scripts: one JSON object (RFC 8259) of every counter there is.
 *
 * A writer of tokens: it puts the commas itself, never cuts a token, and begins a new "[json] "
 * line before one would grow to 200 bytes. Counters come from the lists that define them, so a new
 * counter is here without a word said. The object has
 *
 *     {"status":0, "run_ns":n, "cpus":n, "kicks":n, "refused":n,
 *      "guests":[{"name":"","id":1,"state":"off","vcpus":2,"memory_bytes":n,"weight":n,"last_words":"",
 *                 "wall_ns":n, every VM_COUNTERS, "exits_total":n, "exits":{reason:n},
 *                 "s2":{every S2_STATS}, "leaked":{"guest":n,"shared":n,"table":n}}],
 *      "frames":{"total":n,"free":n,"hyp":n,"table":n,"guest":n,"shared":n,"device":n},
 *      "leaked_frames":n, "ticks_hz":n, "before_guest_ticks":n, "inside_ticks":n,
 *      "inside_by_reason":{reason:n}}
 */
#include "hyp/account.h"
#include "hyp/console.h"
#include "hyp/cpu.h"
#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/summary.h"
#include "hyp/time.h"
#include "hyp/vm.h"

#include "arch/cpu.h"

#define PREFIX "[json] "
#define LINE_MAX (199 - (sizeof(PREFIX) - 1))
#define STRING_MAX (LINE_MAX - 2) /* escaped, without its quotes and a comma */

struct json {
	char line[LINE_MAX + 1];
	u32 used;
	bool comma; /* the next value or key needs one before it */
};

static void json_end_line(struct json *json)
{
	if (json->used > 0) {
		json->line[json->used] = 0;
		console_print(PREFIX "%s\n", json->line);
		json->used = 0;
	}
}

/* One token, whole on one line; a comma that is owed goes before it. */
static void json_token(struct json *json, const char *token, u32 length)
{
	u32 comma = json->comma ? 1 : 0;

	if (json->used + comma + length > LINE_MAX) {
		json_end_line(json);
	}
	if (comma) {
		json->line[json->used++] = ',';
	}
	for (u32 i = 0; i < length; i++) {
		json->line[json->used++] = token[i];
	}
}

static void json_open(struct json *json, char bracket)
{
	json_token(json, &bracket, 1);
	json->comma = false;
}

static void json_close(struct json *json, char bracket)
{
	json->comma = false;
	json_token(json, &bracket, 1);
	json->comma = true;
}

static void json_number(struct json *json, u64 value)
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

/* Text of any bytes; what does not fit on one line is left out. */
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

/* Names come from our own lists: nothing in them needs an escape. */
static void json_key(struct json *json, const char *name)
{
	char token[64];

	json_token(json, token, (u32)text_format(token, sizeof(token), "\"%s\":", name));
	json->comma = false;
}

static void json_field(struct json *json, const char *name, u64 value)
{
	json_key(json, name);
	json_number(json, value);
}

static void json_text_field(struct json *json, const char *name, const char *value)
{
	json_key(json, name);
	json_string(json, value);
}

/* ---- The object ----------------------------------------------------------------------------- */

static void put_exits(struct json *json, const struct vm *vm)
{
	struct summary_exits exits = summary_exits(vm);

	json_field(json, "exits_total", exits.total);
	json_key(json, "exits");
	json_open(json, '{');
	for (u32 i = 0; i < EXIT_REASON_COUNT; i++) {
		json_field(json, exit_reason_name((enum exit_reason)i), exits.by_reason[i]);
	}
	json_close(json, '}');
}

static void put_s2(struct json *json, const struct s2_stats *stats)
{
	json_key(json, "s2");
	json_open(json, '{');
#define X(name) json_field(json, #name, load_relaxed(&stats->name));
	S2_STATS(X)
#undef X
	json_close(json, '}');
}

/* Returns the frames that it leaked. */
static u64 put_leak(struct json *json, const struct vm *vm)
{
	struct summary_leak leak = summary_leak(vm);

	json_key(json, "leaked");
	json_open(json, '{');
	json_field(json, "guest", leak.guest);
	json_field(json, "shared", leak.shared);
	json_field(json, "table", leak.table);
	json_close(json, '}');
	return leak.guest + leak.shared + leak.table;
}

static u64 put_guest(struct json *json, const struct vm *vm)
{
	struct vm_counters counters = summary_counters(vm);
	u64 leaked;

	json_open(json, '{');
	json_text_field(json, "name", vm->name);
	json_field(json, "id", vm->number);
	json_text_field(json, "state", vm_state_name(vm->state));
	json_field(json, "vcpus", vm->vcpu_count);
	json_field(json, "memory_bytes", vm->ram.size);
	json_field(json, "weight", vm->weight);
	json_text_field(json, "last_words", vm->last_words);
	json_field(json, "wall_ns", vm->end_ns > vm->start_ns ? vm->end_ns - vm->start_ns : 0);
#define X(name) json_field(json, #name, counters.name);
	VM_COUNTERS(X)
#undef X
	put_exits(json, vm);
	put_s2(json, &vm->s2.stats);
	leaked = put_leak(json, vm);
	json_close(json, '}');
	return leaked;
}

static u64 put_guests(struct json *json)
{
	u64 leaked = 0;

	json_key(json, "guests");
	json_open(json, '[');
	for (u32 i = 0; i < vm_count; i++) {
		leaked += put_guest(json, vms[i]);
	}
	json_close(json, ']');
	return leaked;
}

static void put_frames(struct json *json)
{
	static const struct {
		enum frame_type type;
		const char *name;
	} types[] = {
		{FRAME_FREE, "free"},	{FRAME_HYP, "hyp"},	  {FRAME_TABLE, "table"},
		{FRAME_GUEST, "guest"}, {FRAME_SHARED, "shared"}, {FRAME_DEVICE, "device"},
	};

	json_key(json, "frames");
	json_open(json, '{');
	json_field(json, "total", frame_total());
	for (u32 i = 0; i < ARRAY_COUNT(types); i++) {
		json_field(json, types[i].name, frame_count(types[i].type));
	}
	json_close(json, '}');
}

static void put_account(struct json *json)
{
	u64 ticks = 0;

	json_field(json, "ticks_hz", time_hz());
	json_field(json, "before_guest_ticks", account_before_guest_ticks);
	for (u32 i = 0; i < EXIT_REASON_COUNT; i++) {
		ticks += account_inside_ticks((enum exit_reason)i);
	}
	json_field(json, "inside_ticks", ticks);
	json_key(json, "inside_by_reason");
	json_open(json, '{');
	for (u32 i = 0; i < EXIT_REASON_COUNT; i++) {
		json_field(json, exit_reason_name((enum exit_reason)i),
			   account_inside_ticks((enum exit_reason)i));
	}
	json_close(json, '}');
}

void summary_print_json(enum run_status status)
{
	struct json json = {.used = 0, .comma = false};
	u64 leaked;

	json_open(&json, '{');
	json_field(&json, "status", status);
	json_field(&json, "run_ns", ticks_to_ns(arch_now()));
	json_field(&json, "cpus", cpu_count);
	json_field(&json, "kicks", cpu_kicks_sent);
	json_field(&json, "refused", summary_refused());
	leaked = put_guests(&json);
	put_frames(&json);
	json_field(&json, "leaked_frames", leaked);
	put_account(&json);
	json_close(&json, '}');
	json_end_line(&json);
}
