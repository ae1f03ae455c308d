/* The first screen. It says what is, in the words of the configuration, one line each (folded for
 * people). */
#include "hyp/banner.h"

#include <string.h>

#include "hyp/config.h"
#include "hyp/console.h"
#include "hyp/cpu.h"
#include "hyp/frame.h"
#include "hyp/log.h"
#include "hyp/units.h"
#include "hyp/vm.h"

#include "arch/cpu.h"

#define BOOTARGS_SHOWN 100
#define LINE_TEXT_MAX 1024 /* two paths and what is said of them */
#define COLUMNS 79
#define INDENT 4

/* Up to and with the next comma that a space follows, or the end. */
static u32 piece_length(const char *text)
{
	u32 length = 0;

	while (text[length]) {
		length++;
		if (text[length - 1] == ',' && text[length] == ' ') {
			break;
		}
	}
	return length;
}

/* People get it folded after commas to a terminal's 80 columns, tools as one line. */
static void print_line(const char *text)
{
	u32 column = 0;

	while (*text) {
		u32 length = piece_length(text);

		if (column > 0 && column + length > COLUMNS && !console_is_batch()) {
			console_print("\n%*s", INDENT, "");
			column = INDENT;
			text++; /* the space after the comma */
			length--;
		}
		console_print("%.*s", (int)length, text);
		column += length;
		text += length;
	}
	console_print("\n");
}

void banner_machine(void)
{
	char machine[160], line[LINE_TEXT_MAX];

	arch_describe(machine, sizeof(machine));
	text_format(line, sizeof(line), "Lamina %s  %s", LAMINA_VERSION, machine);
	print_line(line);
	console_print("%u cpu%s, %s memory, %s free for guests\n", cpu_count,
		      cpu_count == 1 ? "" : "s", units_size(frame_total() * PAGE_SIZE).text,
		      units_size(frame_count(FRAME_FREE) * PAGE_SIZE).text);
}

static void ramdisk_text(const struct config_vm *config, char *text, size_t size)
{
	text[0] = 0;
	if (config->ramdisk[0]) {
		text_format(text, size, ", ramdisk %s %s", config->ramdisk,
			    units_size(config->ramdisk_module.size).text);
	}
}

static void bootargs_text(const struct config_vm *config, char *text, size_t size)
{
	text[0] = 0;
	if (config->bootargs[0]) {
		text_format(text, size, ", \"%.*s%s\"", BOOTARGS_SHOWN, config->bootargs,
			    strlen(config->bootargs) > BOOTARGS_SHOWN ? "..." : "");
	}
}

void banner_guest(const struct vm *vm, const struct config_vm *config)
{
	char ramdisk[CONFIG_PATH_MAX + 64], bootargs[BOOTARGS_SHOWN + 16], line[LINE_TEXT_MAX];

	ramdisk_text(config, ramdisk, sizeof(ramdisk));
	bootargs_text(config, bootargs, sizeof(bootargs));
	text_format(line, sizeof(line), "d%u %s: %u vcpu%s, %s, kernel %s %s%s%s", vm->number,
		    vm->name, vm->vcpu_count, vm->vcpu_count == 1 ? "" : "s",
		    units_size(vm->ram.size).text, config->kernel,
		    units_size(config->kernel_module.size).text, ramdisk, bootargs);
	print_line(line);
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
