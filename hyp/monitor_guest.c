/* Commands that do something: to a guest, to the keyboard, to the log, to the run. */
#include <string.h>

#include "hyp/console.h"
#include "hyp/dev_virtio_balloon.h"
#include "hyp/log.h"
#include "hyp/monitor.h"
#include "hyp/run.h"
#include "hyp/vm.h"

/* A guest that is still there to do something to; says why not otherwise. */
static struct vm *living_vm(const char *word)
{
	struct vm *vm = monitor_vm_or_say(word);

	if (vm && vm_has_ended(vm)) {
		console_print("d%u %s has ended (%s)\n", vm->number, vm->name,
			      vm_state_name(vm->state));
		return NULL;
	}
	return vm;
}

void monitor_pause(u32 count unused, char **words)
{
	struct vm *vm = living_vm(words[1]);

	if (vm && vm->state == VM_PAUSED) {
		console_print("d%u %s is paused already\n", vm->number, vm->name);
	} else if (vm) {
		vm_pause(vm);
		console_print("d%u %s paused\n", vm->number, vm->name);
	}
}

void monitor_unpause(u32 count unused, char **words)
{
	struct vm *vm = living_vm(words[1]);

	if (vm && vm->state != VM_PAUSED) {
		console_print("d%u %s is not paused\n", vm->number, vm->name);
	} else if (vm) {
		vm_unpause(vm);
		console_print("d%u %s goes on\n", vm->number, vm->name);
	}
}

void monitor_destroy(u32 count unused, char **words)
{
	struct vm *vm = living_vm(words[1]);

	if (vm) {
		vm_destroy(vm);
	}
}

/* False: it has no balloon, or has just ended. */
static bool set_balloon(struct vm *vm, u64 mib)
{
	enum status status;

	if (!console_hold_guest(vm)) {
		return false;
	}
	status = virtio_balloon_set_target(vm, (u32)(mib * (MIB(1) / PAGE_SIZE)));
	console_release_guest();
	return status == OK;
}

void monitor_balloon(u32 count unused, char **words)
{
	struct vm *vm = living_vm(words[1]);
	u64 mib;

	if (!vm) {
		return;
	}
	if (!monitor_number(words[2], &mib) || mib > vm->ram.size / MIB(1)) {
		console_print("want MiB that its balloon is to have, up to %llu\n",
			      (unsigned long long)(vm->ram.size / MIB(1)));
	} else if (!set_balloon(vm, mib)) {
		console_print("d%u %s has no balloon (lamina,balloon)\n", vm->number, vm->name);
	} else {
		console_print("d%u %s is asked for %llu MiB\n", vm->number, vm->name,
			      (unsigned long long)mib);
	}
}

void monitor_console(u32 count unused, char **words)
{
	struct vm *vm = living_vm(words[1]);

	if (vm) {
		console_set_focus(vm);
	}
}

void monitor_log(u32 count, char **words)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	if (count == 1) {
		console_print("log level is %s\n", names[log_level]);
		return;
	}
	for (u32 i = 0; i < ARRAY_COUNT(names); i++) {
		if (strcmp(words[1], names[i]) == 0) {
			log_level = (enum log_level)i;
			console_print("log level is %s\n", names[i]);
			return;
		}
	}
	console_print("no log level %s; there are error, warn, info, debug\n", words[1]);
}

void monitor_quit(u32 count unused, char **words unused)
{
	run_quit();
}
