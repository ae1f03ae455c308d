/* The first screen. It says what is, in the words of the configuration, one line each. */
#include "hyp/banner.h"

#include <string.h>

#include "hyp/config.h"
#include "hyp/console.h"
#include "hyp/cpu.h"
#include "hyp/frame.h"
#include "hyp/units.h"
#include "hyp/vm.h"

#include "arch/cpu.h"

#define BOOTARGS_SHOWN 100

void banner_machine(void)
{
	char machine[160];

	arch_describe(machine, sizeof(machine));
	console_print("Lamina %s  %s\n", LAMINA_VERSION, machine);
	console_print("%u cpu%s, %s memory, %s free for guests\n", cpu_count,
		      cpu_count == 1 ? "" : "s", units_size(frame_total() * PAGE_SIZE).text,
		      units_size(frame_count(FRAME_FREE) * PAGE_SIZE).text);
}

void banner_guest(const struct vm *vm, const struct config_vm *config)
{
	bool long_bootargs =
		config->bootargs[0] && __builtin_strlen(config->bootargs) > BOOTARGS_SHOWN;

	console_print("d%u %s: %u vcpu%s, %s, kernel %s %s", vm->number, vm->name, vm->vcpu_count,
		      vm->vcpu_count == 1 ? "" : "s", units_size(vm->ram_size).text, config->kernel,
		      units_size(config->kernel_module.size).text);
	if (config->ramdisk[0]) {
		console_print(", ramdisk %s %s", config->ramdisk,
			      units_size(config->ramdisk_module.size).text);
	}
	if (config->bootargs[0]) {
		console_print(", \"%.*s%s\"", BOOTARGS_SHOWN, config->bootargs,
			      long_bootargs ? "..." : "");
	}
	console_print("\n");
}

void banner_refused(const struct config_vm *config, const char *why)
{
	console_print("%s: refused: %s\n", config->name[0] ? config->name : config->node, why);
}

void banner_keys(void)
{
	if (console_is_batch()) {
		console_print("input: none (batch)\n");
		return;
	}
	console_print("Ctrl-] ? help   Ctrl-] m monitor   Ctrl-] x quit\n");
	console_focus_next(NULL);
}
