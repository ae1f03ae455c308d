/*
 * The console's second hand: nobody should wonder whether a guest hangs.
 *
 * About once a second it lets out what guests left unfinished, looks for keys that waited, and
 * reports each guest that runs but has written nothing for 5 s, once per silence. A guest whose
 * vCPUs all sleep is not silent but idle; one that has begun a line is taken to wait at its prompt.
 * The guests' output path pays nothing for this: silence is a byte counter that did not move since
 * the last look.
 */
#include "console_internal.h"
#include "hyp/log.h"
#include "hyp/summary.h"
#include "hyp/time.h"
#include "hyp/units.h"
#include "hyp/vcpu.h"

#include "arch/cpu.h"
#include "arch/vm.h"

#define NS_PER_S 1000000000ull
#define SILENT_NS (5 * NS_PER_S)

static struct {
	u64 bytes; /* as the counter was at the last look */
	bool reported;
} watches[VM_MAX + 1];

/* The first vCPU that wants to run, or NULL. */
static struct vcpu *busy_vcpu(const struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = vm->vcpus[i];
		enum vcpu_state state = load_relaxed(&vcpu->state);

		if (state == VCPU_RUNNING || state == VCPU_RUNNABLE) {
			return vcpu;
		}
	}
	return NULL;
}

static void report_silence(const struct vm *vm, const struct vcpu *vcpu, u64 silent_ns)
{
	struct summary_exits exits = summary_exits(vm);
	enum exit_reason top = exits.order[0];

	log_info("d%u: silent for %u s, pc=0x%lx, %s exits (%s %u %%)", vm->number,
		 (u32)(silent_ns / NS_PER_S), arch_vcpu_pc(vcpu), units_count(exits.total).text,
		 exit_reason_name(top), units_percent(exits.by_reason[top], exits.total));
	if (vm->counters.console_bytes == 0) {
		/* What Linux says before its console is up is lost without it. */
		log_info("d%u: bootargs with \"earlycon\", and without \"quiet\", would show more",
			 vm->number);
	}
}

static void watch_guest(struct vm *vm, u64 now_ns)
{
	u64 bytes = load_relaxed(&vm->counters.console_bytes);
	struct vcpu *vcpu = busy_vcpu(vm);
	u64 since_ns;

	if (bytes != watches[vm->number].bytes || load_relaxed(&vm->state) != VM_RUNNING) {
		watches[vm->number].bytes = bytes;
		watches[vm->number].reported = false;
		vm->last_output_ns = now_ns;
		return;
	}
	since_ns = max_u64(vm->start_ns, vm->last_output_ns);
	if (watches[vm->number].reported || !vcpu || console_has_half_line(vm) ||
	    now_ns < since_ns + SILENT_NS) {
		return;
	}
	watches[vm->number].reported = true;
	report_silence(vm, vcpu, now_ns - since_ns);
}

void console_tick_at(u64 now_ns)
{
	struct vm *vm = console_focus();

	if (vm && vm_has_ended(vm)) {
		console_guest_ended(vm);
	}
	console_flush_old();
	for (u32 i = 0; i < vm_count; i++) {
		watch_guest(vms[i], now_ns);
	}
	console_poll_input();
}

void console_tick(void)
{
	console_tick_at(ticks_to_ns(arch_now()));
}
