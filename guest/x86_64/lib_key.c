/* What is typed: the UART's interrupt, by the I/O APIC, ends the halt in which this CPU waits. */
#include "lib.h"

#define KEY_VECTOR 0x40
#define UART_PIN 4
#define UART_DATA 0
#define UART_IER 1
#define UART_FCR 2
#define UART_MCR 4
#define UART_LSR 5
#define IER_RECEIVED 1
#define FCR_FIFOS 1
#define MCR_OUT2 8
#define LSR_DATA 1

__attribute__((interrupt)) static void take(void *frame)
{
	(void)frame;
	write_msr(MSR_X2APIC_EOI, 0);
}

static void ioapic_write(u32 index, u32 value)
{
	write32(IOAPIC_BASE, index);
	write32(IOAPIC_BASE + 0x10, value);
}

static void listen(void)
{
	static bool listens;

	if (listens) {
		return;
	}
	listens = true;
	apic_on();
	gate_set(KEY_VECTOR, take);
	ioapic_write(0x11 + 2 * UART_PIN, 0);
	ioapic_write(0x10 + 2 * UART_PIN, KEY_VECTOR);
	out8(COM1 + UART_FCR, FCR_FIFOS);
	out8(COM1 + UART_MCR, MCR_OUT2);
	out8(COM1 + UART_IER, IER_RECEIVED);
}

/* An interrupt that comes between the look and the halt waits for STI, and ends the halt. */
char machine_read_key(void)
{
	listen();
	while (!(in8(COM1 + UART_LSR) & LSR_DATA)) {
		__asm__ volatile("sti\n\thlt\n\tcli" ::: "memory");
	}
	return (char)in8(COM1 + UART_DATA);
}
