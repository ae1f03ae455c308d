/* The guess behind "did you mean": for words of the configuration, and for what the operator types.
 */
#ifndef HYP_CONFIG_GUESS_H
#define HYP_CONFIG_GUESS_H

#include "hyp/types.h"

/* The known word that is most like what was written. Begins as {.written = word}. */
struct config_guess {
	const char *written;
	const char *best; /* NULL: none is near */
	u32 distance;
};
void config_guess_consider(struct config_guess *guess, const char *word);

/* `did you mean "memory"?`, or "". */
void config_guess_text(const struct config_guess *guess, char *text, size_t size);

#endif
