/*
 * The first screen: what was found, what each guest got, who has the keyboard, how to leave.
 *
 * hyp_main prints it in its own order: banner_machine(), then one line for each guest as it is
 * built or refused, then banner_keys().
 */
#ifndef HYP_BANNER_H
#define HYP_BANNER_H

#include "hyp/types.h"

#define LAMINA_VERSION "0.1"

struct vm;
struct config_vm;

/* Version, CPUs and memory; frames and CPUs are up. */
void banner_machine(void);

/* `d1 linux0: 2 vcpus, 256 MiB, kernel vmlinuz 27.3 MiB, ramdisk 1.2 MiB, "console=ttyAMA0"` */
void banner_guest(const struct vm *vm, const struct config_vm *config);

/* `linux1: refused: no memory for ...` */
void banner_refused(const struct config_vm *config, const char *why);

/* How to leave, and the focus to the first guest. In batch only that nobody has the keyboard. */
void banner_keys(void);

#endif
