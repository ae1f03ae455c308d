/*
 * The end of a run, for people: how each guest ended, where its exits went, and whether everything
 * that guests held was given back. It reads what the run counted and counts nothing itself, save
 * for the leak check: that walks the frame table, so it does not believe the counters it is there
 * to check.
 */
#include "hyp/summary.h"

#include "hyp/console.h"
#include "hyp/exercise.h"
#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/time.h"
#include "hyp/units.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"

#include "arch/cpu.h"

#define TOP_REASONS 3 /* as many as a line of a terminal holds */

static u32 refused;

void summary_count_refused(void)
{
	atomic_add(&refused, 1);
}

u32 summary_refused(void)
{
	return load_relaxed(&refused);
}

enum run_status summary_status(void)
{
	if (summary_refused() > 0 || vm_count == 0) {
		return RUN_GUEST_CRASHED;
	}
	for (u32 i = 0; i < vm_count; i++) {
		if (vms[i]->state == VM_CRASHED) {
			return RUN_GUEST_CRASHED;
		}
	}
	return RUN_OK;
}

/* ---- Counts --------------------------------------------------------------------------------- */

/* Insertion: equal counts stay in the order of the enum. */
static void order_reasons(struct summary_exits *exits)
{
	for (u32 i = 0; i < EXIT_REASON_COUNT; i++) {
		u32 place = i;

		while (place > 0 &&
		       exits->by_reason[exits->order[place - 1]] < exits->by_reason[i]) {
			exits->order[place] = exits->order[place - 1];
			place--;
		}
		exits->order[place] = (enum exit_reason)i;
	}
}

struct summary_exits summary_exits(const struct vm *vm)
{
	struct summary_exits exits = {0};

	for (u32 i = 0; i < vm->vcpu_count; i++) {
		for (u32 reason = 0; reason < EXIT_REASON_COUNT; reason++) {
			u64 count = load_relaxed(&vm->vcpus[i]->exits[reason]);

			exits.by_reason[reason] += count;
			exits.total += count;
		}
	}
	order_reasons(&exits);
	return exits;
}

struct vm_counters summary_counters(const struct vm *vm)
{
	struct vm_counters counters = vm->counters;
	u64 now = arch_now();

	counters.run_ns = 0;
	counters.stolen_ns = 0;
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		const struct vcpu *vcpu = vm->vcpus[i];
		u64 since = load_relaxed(&vcpu->changed_at);

		counters.run_ns += load_relaxed(&vcpu->run_ns);
		counters.stolen_ns += load_relaxed(&vcpu->stolen_ns);
		if (load_relaxed(&vcpu->state) == VCPU_RUNNING && since < now) {
			counters.run_ns += ticks_to_ns(now - since);
		}
	}
	return counters;
}

struct summary_leak summary_leak(const struct vm *vm)
{
	struct summary_leak leak = {
		.guest = frame_count_owned(FRAME_GUEST, vm->number),
		.shared = frame_count_owned(FRAME_SHARED, vm->number),
		.table = frame_count_owned(FRAME_TABLE, vm->number),
	};

	return leak;
}

/* ---- The table ------------------------------------------------------------------------------ */

static void print_guest(const struct vm *vm)
{
	struct vm_counters c = summary_counters(vm);
	u64 wall_ns = vm->end_ns > vm->start_ns ? vm->end_ns - vm->start_ns : 0;

	console_print("d%-3u %-14.14s %-9s %8s %8s %9s %9s %11s\n", vm->number, vm->name,
		      vm_state_name(vm->state), units_seconds(wall_ns).text,
		      units_seconds(c.run_ns).text, units_grouped(summary_exits(vm).total).text,
		      units_grouped(c.pgfault).text, units_size(c.memory_peak).text);
}

static void print_use(const struct vm *vm)
{
	struct vm_counters c = summary_counters(vm);

	console_print("d%u got %s pages of 2 MiB, %s of 4 KiB, %s interrupts; wrote %s bytes\n",
		      vm->number, units_grouped(c.pages_2m).text, units_grouped(c.pages_4k).text,
		      units_count(c.irqs_injected).text, units_count(c.console_bytes).text);
}

/* Of what guests and Lamina do for each other without an exit, or for one that is spared. */
static void print_paravirtual(const struct vm *vm)
{
	struct vm_counters c = summary_counters(vm);

	if (c.eois_skipped | c.pv_flushes | c.pv_kicks | c.pv_yields) {
		console_print("d%u paravirtual: interrupts ended %s, flushes %s, kicks %s, "
			      "turns %s\n",
			      vm->number, units_count(c.eois_skipped).text,
			      units_count(c.pv_flushes).text, units_count(c.pv_kicks).text,
			      units_count(c.pv_yields).text);
	}
}

/* Memory that the guest gave back by itself, and by its balloon. */
static void print_balloon(const struct vm *vm)
{
	struct vm_counters c = summary_counters(vm);

	if (c.free_page_reports | c.balloon_inflate | c.balloon_deflate) {
		console_print("d%u balloon: %s KiB reported free, in %s notifications; "
			      "inflated by %s pages, deflated by %s\n",
			      vm->number, units_grouped(c.free_page_reported_bytes / KIB(1)).text,
			      units_grouped(c.free_page_reports).text,
			      units_grouped(c.balloon_inflate).text,
			      units_grouped(c.balloon_deflate).text);
	}
}

static void print_exits(const struct vm *vm)
{
	struct summary_exits exits = summary_exits(vm);

	if (exits.total > 0) {
		console_print("d%u exits:", vm->number);
		for (u32 i = 0; i < TOP_REASONS && exits.by_reason[exits.order[i]] > 0; i++) {
			u64 count = exits.by_reason[exits.order[i]];

			console_print("%s %s %s (%u %%)", i > 0 ? "," : "",
				      exit_reason_name(exits.order[i]), units_count(count).text,
				      units_percent(count, exits.total));
		}
		console_print("\n");
	}
	if (vm->state == VM_CRASHED) {
		console_print("d%u crashed: %s\n", vm->number, vm->last_words);
	}
}

static void print_leaks(void)
{
	u64 leaked = 0;

	for (u32 i = 0; i < vm_count; i++) {
		struct summary_leak leak = summary_leak(vms[i]);
		u64 frames = leak.guest + leak.shared + leak.table;

		leaked += frames;
		if (frames > 0) {
			console_print(
				"leaked: d%u still holds %lu guest frames, %lu shared, %lu table "
				"pages\n",
				vms[i]->number, leak.guest, leak.shared, leak.table);
		}
	}
	if (leaked == 0) {
		console_print("frames: every guest frame and table page was given back, nothing "
			      "leaked\n");
	}
}

void summary_print(enum run_status status)
{
	console_print("\n%-4s %-14s %-9s %8s %8s %9s %9s %11s\n", "ID", "Name", "State", "Time(s)",
		      "vCPU(s)", "Exits", "Faults", "Peak");
	for (u32 i = 0; i < vm_count; i++) {
		print_guest(vms[i]);
	}
	for (u32 i = 0; i < vm_count; i++) {
		print_use(vms[i]);
		print_paravirtual(vms[i]);
		print_balloon(vms[i]);
		print_exits(vms[i]);
		exercise_print(vms[i]);
	}
	if (summary_refused() > 0) {
		console_print("refused: %u configured guest%s did not run\n", summary_refused(),
			      summary_refused() == 1 ? "" : "s");
	}
	print_leaks();
	summary_print_json(status);
}
