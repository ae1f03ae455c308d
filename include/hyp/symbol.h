/*
 * Names of Lamina's own functions, for backtraces. The image is linked twice: the first time with
 * the empty tables of symbol_none.c, the second time with those that were made from the first one's
 * symbols.
 */
#ifndef HYP_SYMBOL_H
#define HYP_SYMBOL_H

#include "hyp/types.h"

struct symbol {
	u32 offset; /* of the function, from the image's start */
	u32 name;   /* index into symbol_names */
};

extern const struct symbol symbols[]; /* ascending by offset */
extern const u32 symbol_count;
extern const char symbol_names[];

/* The function that contains `offset`, and where it starts; NULL when there is none. */
const char *symbol_find(u32 offset, u32 *start);

#endif
