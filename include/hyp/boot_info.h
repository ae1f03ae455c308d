/*
 * What the firmware said, on its way into struct boot_info: each architecture reads its own tables
 * and calls these. Nothing is believed: what does not fit ends the boot with one line.
 */
#ifndef HYP_BOOT_INFO_H
#define HYP_BOOT_INFO_H

#include "arch/boot.h"

/* Whole pages of RAM; what is left of it inside of page borders, if anything. Any order. */
void boot_add_bank(struct boot_info *info, struct boot_range bank);
/* Part of RAM that is taken; its pages as a whole. */
void boot_reserve(struct boot_info *info, u64 start, u64 end);
/* The file lies in RAM, where it is reserved. Not empty. Any order. */
void boot_add_module(struct boot_info *info, struct config_module module);
/* The first one is the CPU that boots; once more is no second one. */
void boot_add_cpu(struct boot_info *info, u64 hw_id);

/* All is known: does it make sense? Lamina's image is reserved, too. `tables`: where the firmware's
 * own are, which no module may overlap. */
void boot_check(struct boot_info *info, struct boot_range tables);

#endif
