/* The machine's disks, by name: what the machine calls them (virtio 1.2, 5.2.6.1). */
#ifndef HYP_DISKS_H
#define HYP_DISKS_H

#include "hyp/block.h"

struct boot_info;

#define DISKS_MAX 8

/* Opens all that the machine has, with a line in the log for each; once, before the next. */
void disks_open(const struct boot_info *info);

/* Who has requests on this disk does not poll: its device interrupts from now on. */
void disks_listen(const struct block *disk);

/* A device interrupts: what has ended is told. False: no disk has this interrupt. */
bool disks_interrupt(u32 irq);

/* NULL: the machine has no disk of this name. */
struct block *disks_find(const char *name);

/* Gives them back. For tests. */
void disks_close(void);

#endif
