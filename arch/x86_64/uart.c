/* The machine's UART, a 16550 at COM1: polled output, interrupt on input. */
#include "arch/cpu.h"

#include "machine.h"

#define COM1 0x3f8
#define UART_DATA 0
#define UART_IER 1
#define UART_FCR 2
#define UART_LCR 3
#define UART_MCR 4
#define UART_LSR 5

#define IER_RECEIVED BIT(0)
#define FCR_ON_AND_EMPTY 0x07
#define LCR_8_BITS 0x03
#define LCR_DIVISOR 0x83
#define MCR_LINE_ON 0x0b /* DTR, RTS, and OUT2, which lets the interrupt out */
#define LSR_RECEIVED BIT(0)
#define LSR_ROOM BIT(5)
#define LSR_ALL_SENT BIT(6)

void uart_init(void)
{
	out8(COM1 + UART_LCR, LCR_DIVISOR);
	out8(COM1 + UART_DATA, 1); /* 115200 baud */
	out8(COM1 + UART_IER, 0);
	out8(COM1 + UART_LCR, LCR_8_BITS);
	out8(COM1 + UART_FCR, FCR_ON_AND_EMPTY);
	out8(COM1 + UART_MCR, MCR_LINE_ON);
	out8(COM1 + UART_IER, IER_RECEIVED);
}

void arch_uart_putc(u8 byte)
{
	while (!(in8(COM1 + UART_LSR) & LSR_ROOM)) {
		cpu_relax();
	}
	out8(COM1 + UART_DATA, byte);
}

int arch_uart_getc(void)
{
	return in8(COM1 + UART_LSR) & LSR_RECEIVED ? in8(COM1 + UART_DATA) : -1;
}

void uart_drain(void)
{
	while (!(in8(COM1 + UART_LSR) & LSR_ALL_SENT)) {
		cpu_relax();
	}
}
