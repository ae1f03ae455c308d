/*
 * What overcommit has done, for scripts: in the summary, and as samples while guests run.
 *
 * A sample is one JSON object behind "[stats] ":
 *
 *     {"time_ns":n, "guest_memory_max":bytes, "guest_memory_current":bytes,
 *      "store":{"reject_compress_poor":n, ..., "mem_used_total":bytes, ...},
 *      "ksm":{every KSM_COUNTERS},
 *      "guests":[{"id":1, "name":"", ...}]}
 *
 * and a guest's part in it, which the summary has, too, as "swap":
 *
 *     {"memory_current":bytes, "memory_min":bytes, "memory_high":bytes, "memory_max":bytes,
 *      "active_permille":n, "some_us":n, "full_us":n, "wss_pages":n, "age_rounds":n, "age_ticks":n,
 * "age_pages":[n, ...], "pages_total":n, "pages_untouched":n, "pages_resident":n,
 *      "ksm_merging_pages":n (in shared frames), for each store "pages_NAME":n, and in Linux's
 * words how many pages it got and gave back, every SWAP_COUNTERS,
 *      "fault_latency":{"fresh":{"count":n, "ticks":n, "log2_ticks":[n, ...]}, every swap_source,
 *      "room":{...}}}
 *
 * Behind it come, if they were asked for, hyp/swap_heat.c and hyp/swap_trace.c.
 *
 * Pages are counted record by record while the guest's faults wait, so they add up:
 * untouched + resident + shared + those in stores == total; pgsteal == what stores got; and what
 * they got, less what they gave back and pgdiscard, is what they have. Of faults those from a
 * store, and swap_ra, are the pages that came back; those from flight are pgrescued, from shared
 * frames cow_ksm.
 */
#include "hyp/swap_stats.h"

#include "swap_internal.h"

#include "hyp/config.h"
#include "hyp/json.h"
#include "hyp/ksm.h"
#include "hyp/store_disk.h"
#include "hyp/store_pool.h"
#include "hyp/time.h"

#include <arch/cpu.h>

static const struct {
	const char *pages, *out, *in;
} names[STORE_KINDS] = {
	[STORE_zero] = {"pages_zero", "swpout_zero", "swpin_zero"},
	[STORE_same] = {"pages_same", "swpout_same", "swpin_same"},
	[STORE_zswap] = {"pages_zswap", "zswpout", "zswpin"},
	[STORE_disk] = {"pages_disk", "pswpout", "pswpin"},
};

static void put_limits(struct json *json, const struct swap *swap)
{
	json_field(json, "memory_current", load_relaxed(&swap->charged) * PAGE_SIZE);
	json_field(json, "memory_min", swap->min * PAGE_SIZE);
	json_field(json, "memory_high", load_relaxed(&swap->high) * PAGE_SIZE);
	json_field(json, "memory_max", load_relaxed(&swap->max) * PAGE_SIZE);
	json_field(json, "active_permille", load_relaxed(&swap->active_permille));
	json_field(json, "some_us", ticks_to_ns(load_relaxed(&swap->stall.some)) / 1000);
	json_field(json, "full_us", ticks_to_ns(load_relaxed(&swap->stall.full)) / 1000);
}

/* Pages by how many rounds ago they were used last; and what it costs to know, in ticks of the
 * system counter. */
static void put_ages(struct json *json, const struct swap_age *age)
{
	json_field(json, "wss_pages", swap_age_pages(age, 0));
	json_field(json, "age_rounds", age->rounds);
	json_field(json, "age_ticks", age->ticks);
	json_key(json, "age_pages");
	json_open(json, '[');
	for (u32 i = 0; i < SWAP_AGES; i++) {
		json_value(json, swap_age_pages(age, i));
	}
	json_close(json, ']');
}

/* As many numbers as it takes: the bins above are 0. */
static void put_bins(struct json *json, const u64 *bins)
{
	u32 count = SWAP_LATENCY_BINS;

	while (count > 0 && load_relaxed(&bins[count - 1]) == 0) {
		count--;
	}
	json_key(json, "log2_ticks");
	json_open(json, '[');
	for (u32 i = 0; i < count; i++) {
		json_value(json, load_relaxed(&bins[i]));
	}
	json_close(json, ']');
}

static void put_latency(struct json *json, const char *name, const struct swap_latency *latency)
{
	json_key(json, name);
	json_open(json, '{');
	json_field(json, "count", swap_latency_count(latency));
	json_field(json, "ticks", load_relaxed(&latency->ticks));
	put_bins(json, latency->bins);
	json_close(json, '}');
}

static void put_latencies(struct json *json, const struct swap *swap, const struct swap_totals *t)
{
	json_key(json, "fault_latency");
	json_open(json, '{');
	for (u32 source = 0; source < SWAP_SOURCES; source++) {
		put_latency(json, swap_source_name((enum swap_source)source), &t->latency[source]);
	}
	put_latency(json, "room", &swap->room);
	json_close(json, '}');
}

static void put_swap(struct json *json, struct swap *swap)
{
	struct swap_census c;
	struct swap_totals t;

	swap_count(swap, &c, &t);
	put_limits(json, swap);
	put_ages(json, &swap->age);
	json_field(json, "pages_total", c.total);
	json_field(json, "pages_untouched", c.untouched);
	json_field(json, "pages_resident", c.resident);
	json_field(json, "ksm_merging_pages", c.shared);
	for (u32 kind = 0; kind < STORE_KINDS; kind++) {
		json_field(json, names[kind].pages, c.stored[kind]);
		json_field(json, names[kind].out, t.out[kind]);
		json_field(json, names[kind].in, t.in[kind]);
	}
#define X(name) json_field(json, #name, t.counters.name);
	SWAP_COUNTERS(X)
#undef X
	put_latencies(json, swap, &t);
}

void swap_stats_put(struct json *json, const struct vm *vm)
{
	if (vm->swap) {
		json_key(json, "swap");
		json_open(json, '{');
		put_swap(json, vm->swap);
		json_close(json, '}');
	}
}

static void put_store(struct json *json)
{
	json_key(json, "store");
	json_open(json, '{');
#define X(name) json_field(json, #name, load_relaxed(&store_stats.name));
	STORE_STATS(X)
#undef X
#define X(name) json_field(json, #name, load_relaxed(&store_pool_stats.name));
	STORE_POOL_STATS(X)
#undef X
#define X(name) json_field(json, #name, load_relaxed(&store_disk_stats.name));
	STORE_DISK_STATS(X)
#undef X
	json_close(json, '}');
}

static void put_ksm(struct json *json)
{
	struct ksm_counters c = ksm_counters();

	json_key(json, "ksm");
	json_open(json, '{');
#define X(name) json_field(json, #name, c.name);
	KSM_COUNTERS(X)
#undef X
	json_close(json, '}');
}

void swap_stats_put_machine(struct json *json)
{
	if (swap_machine_max() > 0) {
		json_field(json, "guest_memory_max", swap_machine_max() * PAGE_SIZE);
		json_field(json, "guest_memory_current", swap_machine_charged() * PAGE_SIZE);
		put_store(json);
		put_ksm(json);
	}
}

static void put_guests(struct json *json)
{
	json_key(json, "guests");
	json_open(json, '[');
	for (u32 i = 0; i < load_acquire(&vm_count); i++) {
		if (!vm_has_ended(vms[i])) {
			swap_age_round(vms[i]->swap);
		}
		json_open(json, '{');
		json_field(json, "id", vms[i]->number);
		json_text_field(json, "name", vms[i]->name);
		put_swap(json, vms[i]->swap);
		json_close(json, '}');
	}
	json_close(json, ']');
}

static void print_sample(u64 time_ns)
{
	struct json json = {.prefix = "[stats] "};

	json_open(&json, '{');
	json_field(&json, "time_ns", time_ns);
	swap_stats_put_machine(&json);
	put_guests(&json);
	json_close(&json, '}');
	json_end(&json);
}

/* ---- What goes with it ----------------------------------------------------------------------- */

static bool with_heatmap, with_trace;

void swap_stats_init(const struct config *config)
{
	with_heatmap = config->heatmap;
	with_trace = config->trace;
}

static void print_used(struct vm *vm, u64 time_ns)
{
	if (with_heatmap) {
		swap_heat_print(vm->swap, time_ns);
	}
	if (with_trace) {
		swap_trace_print(vm->swap, time_ns);
	}
}

void swap_stats_sample(void)
{
	u64 time_ns = ticks_to_ns(arch_now());

	print_sample(time_ns);
	for (u32 i = 0; i < load_acquire(&vm_count); i++) {
		if (!vm_has_ended(vms[i])) {
			print_used(vms[i], time_ns);
		}
	}
}
