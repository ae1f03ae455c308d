/*
 * How a guest ends: the registers of hardware-reduced ACPI that vacpi.h names (ACPI 6.4, 4.8.3.7
 * sleep control, 4.8.3.6 reset), and QEMU's isa-debug-exit, by which small guests say a status.
 */
#ifndef VPOWER_H
#define VPOWER_H

struct vm;

/* Adds both to the guest's ports. */
void vpower_add(struct vm *vm);

#endif
