/* The guest's first steps: what multiboot told; its console (COM1) and its end. */
#include "lib.h"

#define LOADER_MAGIC 0x2badb002u
#define HAS_COMMAND_LINE 4u
#define HAS_MEMORY 1u
#define LEAF_TOPOLOGY 0xbu
#define UART_DATA 0
#define UART_LSR 5
#define UART_LSR_ROOM 0x20
#define MIB (1ul << 20)

struct information {
	u32 flags, mem_lower, mem_upper, boot_device, command_line;
};

void trap_init(void);
void lib_start(void);

void machine_putc(char c)
{
	while (!(in8(COM1 + UART_LSR) & UART_LSR_ROOM)) {
	}
	out8(COM1 + UART_DATA, (u8)c);
}

void machine_off(void)
{
	out8(DEBUG_EXIT_PORT, 0);
}

static void read_command_line(const char *text)
{
	size_t n = strlen(text);

	n = n < sizeof(machine.bootargs) ? n : sizeof(machine.bootargs) - 1;
	memcpy(machine.bootargs, text, n);
}

/* How many CPUs there are is the number of logical processors in the package. */
static void read_cpus(void)
{
	machine.cpu_count = cpuid(LEAF_TOPOLOGY, 1).b & 0xffff;
	machine.cpu_count = machine.cpu_count < CPUS_MAX ? machine.cpu_count : CPUS_MAX;
	for (u32 i = 0; i < machine.cpu_count; i++) {
		machine.cpu_ids[i] = i;
	}
}

/* What is below 1 MiB is left alone: there lie what was told, and the page where CPUs begin. */
static bool read_machine(void)
{
	const struct information *info = (const void *)(u64)entry_state.ebx;

	if (entry_state.eax != LOADER_MAGIC || !(info->flags & HAS_MEMORY)) {
		return false;
	}
	machine.ram_base = 0;
	machine.ram_size = MIB + (u64)info->mem_upper * 1024;
	machine.tables = 0;
	machine.tables_size = MIB;
	if (info->flags & HAS_COMMAND_LINE) {
		read_command_line((const char *)(u64)info->command_line);
	}
	read_cpus();
	return true;
}

void lib_start(void)
{
	trap_init();
	write_msr(MSR_FS_BASE, 0);
	if (!read_machine()) {
		check("multiboot", false, "eax = 0x%x, or no memory told", entry_state.eax);
		guest_end();
	}
	guest_main();
	guest_end();
}
