/* What the console's files share among themselves. */
#ifndef HYP_CONSOLE_INTERNAL_H
#define HYP_CONSOLE_INTERNAL_H

#include "hyp/console.h"
#include "hyp/vm.h"

#define CONSOLE_ESCAPE_KEY 0x1d /* Ctrl-] */

/* Whoever holds a guest now has released it. */
void console_wait_released(void);

/* Pieces of unfocused guests' lines that were there at the last call already go out. */
void console_flush_old(void);

/* Has the guest begun a line that it has not ended? Then it may be a prompt, waiting for a person.
 */
bool console_has_half_line(const struct vm *vm);

#endif
