/* Commands that show numbers: list, stat, exits. They read counters while guests run: each is
 * exact, but no two are of the same instant. */
#include "hyp/console.h"
#include "hyp/cpu.h"
#include "hyp/dev_virtio_balloon.h"
#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/monitor.h"
#include "hyp/summary.h"
#include "hyp/units.h"
#include "hyp/vcpu.h"
#include "hyp/vm.h"

/* ---- list ----------------------------------------------------------------------------------- */

static bool wants_cpu(const struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		enum vcpu_state state = load_relaxed(&vm->vcpus[i]->state);

		if (state == VCPU_RUNNING || state == VCPU_RUNNABLE) {
			return true;
		}
	}
	return false;
}

/* One of xl's letters, in its place: running, blocked, paused, shut down, crashed, dying. */
static void state_letters(const struct vm *vm, char letters[7])
{
	static const char all[] = "rbpscd";
	u32 place;

	switch (vm->state) {
	case VM_PAUSED:
		place = 2;
		break;
	case VM_OFF:
		place = 3;
		break;
	case VM_CRASHED:
		place = 4;
		break;
	case VM_DESTROYED:
		place = 5;
		break;
	default:
		place = wants_cpu(vm) ? 0 : 1;
	}
	for (u32 i = 0; i < 6; i++) {
		letters[i] = i == place ? all[i] : '-';
	}
	letters[6] = 0;
}

void monitor_list(u32 count unused, char **words unused)
{
	console_print("%-30s %4s %7s %6s %8s %9s\n", "Name", "ID", "Mem", "VCPUs", "State",
		      "Time(s)");
	for (u32 i = 0; i < vm_count; i++) {
		const struct vm *vm = vms[i];
		char letters[7];

		state_letters(vm, letters);
		console_print("%-30s %4u %7lu %6u %8s %9s\n", vm->name, vm->number,
			      vm->ram.size / MIB(1), vm->vcpu_count, letters,
			      units_seconds(summary_counters(vm).run_ns).text);
	}
}

/* Runs `show` for the guest that is named, or for all. */
static void for_guests(u32 count, char **words, void (*show)(struct vm *vm))
{
	if (count > 1) {
		struct vm *vm = monitor_vm_or_say(words[1]);

		if (vm) {
			show(vm);
		}
		return;
	}
	for (u32 i = 0; i < vm_count; i++) {
		show(vms[i]);
	}
}

/* ---- stat ----------------------------------------------------------------------------------- */

#define STAT_COLUMNS 3

/* Names and values side by side; `column` counts them. */
static void print_value(u32 *column, const char *name, u64 value)
{
	console_print("  %-24s %14s%s", name, units_grouped(value).text,
		      ++*column % STAT_COLUMNS == 0 ? "\n" : "");
}

static void end_columns(u32 column)
{
	if (column % STAT_COLUMNS != 0) {
		console_print("\n");
	}
}

static bool get_balloon(struct vm *vm, u32 *target, u32 *actual, struct virtio_balloon_stats *stats)
{
	enum status status;

	if (!console_hold_guest(vm)) {
		return false;
	}
	status = virtio_balloon_get(vm, target, actual, stats);
	console_release_guest();
	return status == OK;
}

/* What the guest has said of itself; what it has not, is left out. */
static void stat_balloon(struct vm *vm)
{
	struct virtio_balloon_stats stats;
	u32 column = 0, target, actual;

	if (!get_balloon(vm, &target, &actual, &stats)) {
		return;
	}
	console_print("d%u %s: balloon, in pages of 4 KiB, and what the guest says\n", vm->number,
		      vm->name);
	print_value(&column, "target", target);
	print_value(&column, "actual", actual);
#define X(name)                                                                                    \
	if (stats.name != ~0ull) {                                                                 \
		print_value(&column, #name, stats.name);                                           \
	}
	VIRTIO_BALLOON_STATS(X)
#undef X
	end_columns(column);
}

static void stat_guest(struct vm *vm)
{
	struct vm_counters counters = summary_counters(vm);
	u32 column = 0;

	console_print("d%u %s: %s\n", vm->number, vm->name, vm_state_name(vm->state));
#define X(name) print_value(&column, #name, counters.name);
	VM_COUNTERS(X)
#undef X
	end_columns(column);

	column = 0;
	console_print("d%u %s: s2\n", vm->number, vm->name);
#define X(name) print_value(&column, #name, load_relaxed(&vm->s2.stats.name));
	S2_STATS(X)
#undef X
	end_columns(column);
	stat_balloon(vm);
}

static void stat_machine(void)
{
	u32 column = 0;

	console_print("machine: frames of 4 KiB by type, kicks\n");
	print_value(&column, "total", frame_total());
	print_value(&column, "free", frame_count(FRAME_FREE));
	print_value(&column, "hyp", frame_count(FRAME_HYP));
	print_value(&column, "table", frame_count(FRAME_TABLE));
	print_value(&column, "guest", frame_count(FRAME_GUEST));
	print_value(&column, "shared", frame_count(FRAME_SHARED));
	print_value(&column, "device", frame_count(FRAME_DEVICE));
	print_value(&column, "kicks", load_relaxed(&cpu_kicks_sent));
	end_columns(column);
}

void monitor_stat(u32 count, char **words)
{
	for_guests(count, words, stat_guest);
	if (count == 1) {
		stat_machine();
	}
}

/* ---- exits ---------------------------------------------------------------------------------- */

static void exits_guest(struct vm *vm)
{
	struct summary_exits exits = summary_exits(vm);

	console_print("d%u %s: %s exits\n", vm->number, vm->name, units_grouped(exits.total).text);
	if (exits.total == 0) {
		return;
	}
	console_print("  %-14s %16s %8s\n", "Reason", "Count", "%");
	for (u32 i = 0; i < EXIT_REASON_COUNT; i++) {
		u64 value = exits.by_reason[exits.order[i]];
		u32 share = units_percent_hundredths(value, exits.total);

		if (value > 0) {
			console_print("  %-14s %16s %5u.%02u\n", exit_reason_name(exits.order[i]),
				      units_grouped(value).text, share / 100, share % 100);
		}
	}
}

void monitor_exits(u32 count, char **words)
{
	for_guests(count, words, exits_guest);
}
