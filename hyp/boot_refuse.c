#include "arch/cpu.h"
#include "hyp/log.h"
#include "hyp/own.h"
#include "hyp/summary.h"

void boot_refuse(const char *format, ...)
{
	char text[240];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof(text), format, args);
	va_end(args);
	log_raw("lamina: cannot boot on this machine: %s\n", text);
	arch_machine_end(RUN_PANICKED);
}
