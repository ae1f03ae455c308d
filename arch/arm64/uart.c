/*
 * The machine's PL011 UART (DDI 0183): polled output, interrupt on input.
 *
 * Before uart_init() the UART is taken to be where QEMU's virt has it, so that a refusal to boot
 * can be read.
 */
#include "arch/cpu.h"

#include "layout.h"
#include "machine.h"

#define UART_DR 0x000
#define UART_FR 0x018
#define UART_LCR_H 0x02c
#define UART_CR 0x030
#define UART_IMSC 0x038
#define UART_ICR 0x044

#define DR_DATA BITS(7, 0)
#define FR_RXFE BIT(4)
#define FR_TXFF BIT(5)
#define LCR_H_FEN BIT(4)
#define LCR_H_WLEN_8 BITS(6, 5)
#define CR_UARTEN BIT(0)
#define CR_TXE BIT(8)
#define CR_RXE BIT(9)
#define INT_RX BIT(4)
#define INT_RX_TIMEOUT BIT(6)
#define INT_ALL BITS(10, 0)

static volatile u32 *uart_register(u64 offset)
{
	u64 base = machine.uart.start != 0 ? machine.uart.start : UART_DEFAULT_BASE;

	return (volatile u32 *)(base + offset);
}

void uart_init(void)
{
	*uart_register(UART_IMSC) = 0;
	*uart_register(UART_ICR) = INT_ALL;
	*uart_register(UART_LCR_H) = LCR_H_WLEN_8 | LCR_H_FEN;
	*uart_register(UART_CR) = CR_UARTEN | CR_TXE | CR_RXE;
	*uart_register(UART_IMSC) = INT_RX | INT_RX_TIMEOUT;
}

void arch_uart_putc(u8 byte)
{
	while (*uart_register(UART_FR) & FR_TXFF) {
		cpu_relax();
	}
	*uart_register(UART_DR) = byte;
}

int arch_uart_getc(void)
{
	if (*uart_register(UART_FR) & FR_RXFE) {
		return -1;
	}
	return (int)(*uart_register(UART_DR) & DR_DATA);
}
