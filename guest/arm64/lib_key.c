/* What is typed: the UART's interrupt ends the WFI in which this CPU waits, and stays masked. */
#include "lib.h"

#define UART_DR (UART_BASE + 0x00)
#define UART_FR (UART_BASE + 0x18)
#define UART_LCR (UART_BASE + 0x2c)
#define UART_IMSC (UART_BASE + 0x38)
#define UART_FR_RXFE 0x10
#define UART_LCR_8_BITS 0x60
#define UART_IMSC_RECEIVED 0x50 /* a byte, and bytes that are too few for a full FIFO */

static void listen(void)
{
	static bool listens;

	if (listens) {
		return;
	}
	listens = true;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(INTID_UART);
	write32(UART_LCR, UART_LCR_8_BITS);
	write32(UART_IMSC, UART_IMSC_RECEIVED);
}

char machine_read_key(void)
{
	listen();
	while (read32(UART_FR) & UART_FR_RXFE) {
		__asm__ volatile("wfi" ::: "memory");
	}
	return (char)read32(UART_DR);
}
