/*
 * The guest's memory map and interrupt numbers. They follow QEMU's `virt` machine, so that payloads
 * made for it run unchanged.
 */
#ifndef GUEST_MAP_H
#define GUEST_MAP_H

#define GUEST_GICD_BASE 0x08000000ull
#define GUEST_GICR_BASE 0x080a0000ull
#define GUEST_UART_BASE 0x09000000ull
#define GUEST_PV_TIME_BASE 0x090a0000ull /* a page of stolen-time records: memory, but not RAM */
#define GUEST_VIRTIO_BASE 0x0a000000ull
#define GUEST_VIRTIO_SLOTS 32
#define GUEST_RAM_BASE 0x40000000ull

/* Interrupt numbers, as the GIC counts (PPIs 16..31, SPIs from 32). */
#define GUEST_UART_INTID 33
#define GUEST_VIRTIO_INTID_FIRST 48 /* one a slot; level, active high */
#define GUEST_VTIMER_INTID 27
#define GUEST_PTIMER_INTID 30

#endif
