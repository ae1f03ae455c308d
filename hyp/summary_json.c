/*
 * The end of a run, for scripts: one JSON object of every counter there is, behind "[json] ".
 *
 * Counters come from the lists that define them, so a new counter is here without a word said. The
 * object has
 *
 *     {"status":0, "run_ns":n, "cpus":n, "kicks":n, "refused":n,
 *      "guests":[{"name":"","id":1,"state":"off","vcpus":2,"memory_bytes":n,"weight":n,"last_words":"",
 *                 "wall_ns":n, every VM_COUNTERS, "exits_total":n, "exits":{reason:n},
 *                 "s2":{every S2_STATS}, "swap":{see hyp/swap_stats.c},
 * "leaked":{"guest":n,"shared":n,"table":n}}],
 *      "frames":{"total":n,"free":n,"hyp":n,"table":n,"guest":n,"shared":n,"device":n},
 *      "leaked_frames":n, "ticks_hz":n, "before_guest_ticks":n, "inside_ticks":n,
 *      "inside_by_reason":{reason:n}}
 */
#include "hyp/account.h"
#include "hyp/console.h"
#include "hyp/cpu.h"
#include "hyp/frame.h"
#include "hyp/json.h"
#include "hyp/summary.h"
#include "hyp/swap_stats.h"
#include "hyp/time.h"
#include "hyp/vm.h"

#include "arch/cpu.h"

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
	swap_stats_put(json, vm);
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
	struct json json = {.prefix = "[json] "};
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
	swap_stats_put_machine(&json);
	put_account(&json);
	json_close(&json, '}');
	json_end(&json);
}
