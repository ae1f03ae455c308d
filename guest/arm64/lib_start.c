/* The guest's first steps, its console (a PL011) and its end. */
#include "lib.h"

#define UART_DR (UART_BASE + 0x00)
#define UART_FR (UART_BASE + 0x18)
#define UART_FR_TXFF 0x20

/* Not in .bss for the compiler's eyes: start.S wrote it before anything else ran. */
struct entry_state entry_state;

void machine_putc(char c)
{
	while (read32(UART_FR) & UART_FR_TXFF) {
	}
	write32(UART_DR, (u8)c);
}

void machine_off(void)
{
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
}

void lib_start(void);
void lib_start(void)
{
	bool known = dtb_read(entry_state.x0, &machine);

	mmu_on();
	if (!known) {
		check("device_tree", false, "x0 = 0x%lx holds none that names RAM and CPUs",
		      entry_state.x0);
		guest_end();
	}
	guest_main();
	guest_end();
}
