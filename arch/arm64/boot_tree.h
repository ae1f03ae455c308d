/* The machine's device tree -> `machine`. Refuses (boot_refuse) what is malformed or missing. */
#ifndef BOOT_TREE_H
#define BOOT_TREE_H

void boot_tree_read(const void *fdt);

#endif
