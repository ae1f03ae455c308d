/*
 * The end of the machine. Bochs is told by port 0x8900, and has no exit status of its own: it is
 * said at port 0xE9, which goes to its standard output. QEMU has isa-debug-exit.
 */
#include "arch/cpu.h"
#include "hyp/log.h"

#include "machine.h"

#define PORT_E9 0xe9
#define PORT_BOCHS_SHUTDOWN 0x8900
#define PORT_DEBUG_EXIT 0xf4

static void say(u16 port, const char *text)
{
	while (*text) {
		out8(port, (u8)*text++);
	}
}

void arch_machine_end(int status)
{
	char line[40];

	uart_drain();
	text_format(line, sizeof(line), "\nlamina: exit status %d\n", status);
	if (in8(PORT_E9) == PORT_E9) {
		say(PORT_E9, line);
	}
	say(PORT_BOCHS_SHUTDOWN, "Shutdown");
	out8(PORT_DEBUG_EXIT, (u8)status);
	for (;;) {
		__asm__ volatile("cli\n\thlt" ::: "memory");
	}
}
